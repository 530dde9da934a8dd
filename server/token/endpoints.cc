#include "server/token/endpoints.h"

#include <memory>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/concurrency/mutex.h"
#include "common/log/log.h"
#include "common/oauth/access_token.h"

namespace signet::server {
namespace {

constexpr char kMetadata[] = "/.well-known/oauth-authorization-server";
// The next key is published for hours before it signs, so that an answer this old is still whole.
constexpr char kShortLived[] = "public, max-age=300";

boost::json::array Strings(std::initializer_list<const char*> texts) {
  boost::json::array array;
  for (const char* text : texts) array.emplace_back(text);
  return array;
}

net::WebResponse Document(std::string json) {
  net::WebResponse response;
  response.body = std::move(json);
  response.headers = {{"Cache-Control", kShortLived}};
  return response;
}

net::WebResponse Plain(int status, absl::string_view error, absl::string_view description) {
  net::WebResponse response;
  response.status = status;
  boost::json::object body;
  body["error"] = boost::json::string_view(error.data(), error.size());
  body["error_description"] = boost::json::string_view(description.data(), description.size());
  response.body = boost::json::serialize(body);
  response.headers = {{"Cache-Control", "no-store"}};
  return response;
}

net::WebResponse MethodNotAllowed(const char* allowed) {
  net::WebResponse response = Plain(405, "invalid_request", absl::StrCat("the method must be one of ", allowed));
  response.headers.emplace_back("Allow", allowed);
  return response;
}

// RFC 8414 2, with RFC 8705, 9449, 9396, 8707 and the SPIFFE methods of draft-ietf-oauth-spiffe-client-auth. What is
// not there (an authorization endpoint, dynamic registration) is not named.
std::string MetadataJson(const TokenUrls& urls) {
  boost::json::object json;
  json["issuer"] = urls.issuer;
  json["token_endpoint"] = urls.token;
  json["jwks_uri"] = urls.jwks;
  json["introspection_endpoint"] = urls.introspection;
  json["revocation_endpoint"] = urls.revocation;
  json["mtls_endpoint_aliases"] = boost::json::object{{"token_endpoint", urls.token},
                                                      {"introspection_endpoint", urls.introspection},
                                                      {"revocation_endpoint", urls.revocation}};
  json["grant_types_supported"] =
      Strings({"client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "refresh_token"});
  json["response_types_supported"] = boost::json::array();
  for (const char* endpoint : {"token", "introspection", "revocation"}) {
    json[absl::StrCat(endpoint, "_endpoint_auth_methods_supported")] =
        Strings({"spiffe_x509", "spiffe_jwt", "tls_client_auth", "private_key_jwt"});
    json[absl::StrCat(endpoint, "_endpoint_auth_signing_alg_values_supported")] =
        Strings({"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"});
  }
  json["tls_client_certificate_bound_access_tokens"] = true;
  json["dpop_signing_alg_values_supported"] = Strings({"ES256", "ES384", "RS256", "PS256"});
  json["authorization_details_types_supported"] = Strings({"mcp_tool_call"});
  json["entity_profiles_supported"] = Strings({"user", "ai_agent"});
  return boost::json::serialize(json);
}

// OpenID Connect Discovery 3, as far as verifiers of JWT-SVIDs read it (cloud federation); nobody can log in there.
std::string SpiffeDiscoveryJson(const std::string& jwt_issuer, const TokenUrls& urls) {
  boost::json::object json;
  json["issuer"] = jwt_issuer;
  json["jwks_uri"] = urls.spiffe_jwks;
  json["authorization_endpoint"] = "";
  json["response_types_supported"] = Strings({"id_token"});
  json["subject_types_supported"] = Strings({"public"});
  json["id_token_signing_alg_values_supported"] = Strings({"RS256", "ES256", "ES384"});
  return boost::json::serialize(json);
}

// A JWK set as text, made anew when the keys are others.
class KeysDocument {
 public:
  std::string Of(std::shared_ptr<const oauth::Keys> keys) {
    MutexLock lock(mutex_);
    if (keys != keys_) {
      text_ = oauth::KeysJson(*keys);
      keys_ = std::move(keys);
    }
    return text_;
  }

 private:
  Mutex mutex_;
  std::shared_ptr<const oauth::Keys> keys_ ABSL_GUARDED_BY(mutex_);
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

class Endpoints {
 public:
  explicit Endpoints(TokenEndpointsDeps deps) : d_(std::move(deps)), urls_(d_.issuer), metadata_(MetadataJson(urls_)) {
    const std::string discovery = SpiffeDiscoveryJson(d_.jwt_issuer, urls_);
    AddDocument("/jwks", [this] { return token_keys_.Of(d_.signer.token_keys()); });
    AddDocument("/receipt-jwks", [this] { return receipt_keys_.Of(d_.signer.receipt_keys()); });
    AddDocument("/spiffe/.well-known/openid-configuration", [discovery] { return discovery; });
    AddDocument("/spiffe/jwks", d_.jwt_svid_keys);
    documents_[kMetadata] = [this] { return metadata_; };
    documents_[absl::StrCat(kMetadata, urls_.path)] = [this] { return metadata_; };
    documents_[absl::StrCat(urls_.path, kMetadata)] = [this] { return metadata_; };
    posts_[absl::StrCat(urls_.path, "/oauth2/token")] = &TokenService::Token;
    posts_[absl::StrCat(urls_.path, "/oauth2/introspect")] = &TokenService::Introspect;
    posts_[absl::StrCat(urls_.path, "/oauth2/revoke")] = &TokenService::Revoke;
  }

  void Handle(net::WebRequest request, net::Respond respond) {
    if (const auto it = posts_.find(request.path); it != posts_.end()) {
      if (request.method != "POST") return respond(MethodNotAllowed("POST"));
      return Post(it->second, std::move(request), std::move(respond));
    }
    if (const auto it = documents_.find(request.path); it != documents_.end()) {
      if (request.method != "GET" && request.method != "HEAD") return respond(MethodNotAllowed("GET, HEAD"));
      return respond(Document(it->second()));
    }
    absl::string_view below = request.path;
    if (absl::ConsumePrefix(&below, urls_.path) && absl::StartsWith(below, "/v1/") && d_.administration != nullptr) {
      request.path = std::string(below);
      return d_.administration(std::move(request), std::move(respond));
    }
    respond(Plain(404, "not_found", "nothing is served here; see the metadata of the issuer"));
  }

 private:
  using Make = std::function<std::string()>;
  using Operation = void (TokenService::*)(TokenRequest, AnswerDone);

  void AddDocument(absl::string_view path, Make make) { documents_[absl::StrCat(urls_.path, path)] = std::move(make); }

  void Post(Operation operation, net::WebRequest request, net::Respond respond) {
    const std::string peer = request.peer;
    TokenRequest parsed;
    if (const std::optional<OAuthError> error = TokenRequest::Parse(std::move(request), parsed)) {
      const std::string error_id = d_.audit.CountRefusal("malformed", peer);
      SIGNET_LOG(debug, "token request refused",
                 {{"error_id", error_id}, {"peer", peer}, {"error", error->error}, {"reason", error->description}});
      net::WebResponse response;
      response.status = error->status;
      response.body = boost::json::serialize(boost::json::object{
          {"error", error->error}, {"error_description", error->description}, {"error_id", error_id}});
      response.headers = {{"Cache-Control", "no-store"}, {"Pragma", "no-cache"}};
      return respond(std::move(response));
    }
    (d_.service.*operation)(std::move(parsed), [respond = std::move(respond)](TokenAnswer answer) mutable {
      net::WebResponse response;
      response.status = answer.status;
      response.body = std::move(answer.body);
      response.headers = std::move(answer.headers);
      respond(std::move(response));
    });
  }

  const TokenEndpointsDeps d_;
  const TokenUrls urls_;
  const std::string metadata_;
  KeysDocument token_keys_, receipt_keys_;
  absl::flat_hash_map<std::string, Make> documents_;
  absl::flat_hash_map<std::string, Operation> posts_;
};

}  // namespace

TokenUrls::TokenUrls(const std::string& i) : issuer(i) {
  const size_t authority = issuer.find("://");
  const size_t slash = authority == std::string::npos ? authority : issuer.find('/', authority + 3);
  if (slash != std::string::npos) path = issuer.substr(slash);
  token = absl::StrCat(issuer, "/oauth2/token");
  introspection = absl::StrCat(issuer, "/oauth2/introspect");
  revocation = absl::StrCat(issuer, "/oauth2/revoke");
  jwks = absl::StrCat(issuer, "/jwks");
  spiffe_jwks = absl::StrCat(issuer, "/spiffe/jwks");
}

net::WebHandler MakeTokenEndpoints(TokenEndpointsDeps deps) {
  auto endpoints = std::make_shared<Endpoints>(std::move(deps));
  return [endpoints](net::WebRequest request, net::Respond respond) {
    endpoints->Handle(std::move(request), std::move(respond));
  };
}

}  // namespace signet::server
