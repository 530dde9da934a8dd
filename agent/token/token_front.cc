#include "agent/token/token_front.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/token/answers.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/oauth/dpop.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kTokenPath = "/oauth2/token", kIntrospectPath = "/oauth2/introspect",
                            kDpopPath = "/oauth2/dpop", kLivePath = "/livez";
constexpr size_t kMaxUri = 2048;

absl::Status NoService() {
  return absl::UnavailableError(
      "the server has not told where its token service is: is token_service configured there?");
}

// scheme://authority in canonical form, and the rest.
struct SplitUri {
  std::string origin, path;
};
absl::StatusOr<SplitUri> Split(const std::string& uri) {
  SIGNET_ASSIGN_OR_RETURN(const std::string canonical, oauth::CanonicalResource(uri));
  const size_t authority = canonical.find("://") + 3;
  const size_t path = std::min(canonical.find('/', authority), canonical.size());
  return SplitUri{canonical.substr(0, path), canonical.substr(path)};
}

// Whether a proof for `uri` could be taken for one at the token service itself: by whatever reading of its path.
bool IsOfTokenService(const SplitUri& uri, const SplitUri& endpoint) {
  if (uri.origin != endpoint.origin) return false;
  const absl::string_view folder =
      absl::string_view(endpoint.path)
          .substr(0, endpoint.path.size() - (kTokenPath.size() - absl::string_view("/oauth2/").size()));
  return absl::StartsWithIgnoreCase(uri.path, folder) || absl::StrContains(uri.path, '%') ||
         absl::StrContains(uri.path, "//") || absl::StrContains(uri.path, "/.");
}

bool IsMethod(absl::string_view text) {
  return !text.empty() && text.size() <= 16 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return absl::ascii_isupper(c) || c == '-'; });
}

// `cnf.jkt` of a token, read and not verified: whether the token is good, its resource decides.
absl::StatusOr<std::string> BoundKeyOf(const std::string& token) {
  SIGNET_ASSIGN_OR_RETURN(const jose::CompactJws jws, jose::CompactJws::Parse(token, oauth::kMaxJwtBytes));
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value claims, json::Parse(jws.payload, oauth::kMaxJwtBytes));
  const boost::json::object* object = claims.if_object();
  const boost::json::value* cnf = object == nullptr ? nullptr : object->if_contains("cnf");
  const boost::json::value* jkt = cnf == nullptr || !cnf->is_object() ? nullptr : cnf->get_object().if_contains("jkt");
  if (jkt == nullptr || !jkt->is_string()) return absl::InvalidArgumentError("is bound to no key");
  return std::string(jkt->get_string());
}

}  // namespace

TokenFront::Endpoints TokenFront::Where() const {
  const PushedTokens::View view = deps_.pushed.Get();
  const absl::string_view server = absl::StripSuffix(deps_.server_url, "/");
  Endpoints where;
  where.issuer = view.issuer.empty() ? std::string(server) : view.issuer;
  if (where.issuer.empty()) return where;
  const absl::string_view base = absl::StripSuffix(where.issuer, "/");
  where.token = absl::StrCat(base, kTokenPath);
  where.introspect = absl::StrCat(base, kIntrospectPath);
  where.token_url = server.empty() ? where.token : absl::StrCat(server, kTokenPath);
  where.introspect_url = !server.empty()                        ? absl::StrCat(server, kIntrospectPath)
                         : !view.introspection_endpoint.empty() ? view.introspection_endpoint
                                                                : where.introspect;
  return where;
}

void TokenFront::Handle(const net::WebRequest& request, net::Respond respond) {
  if (request.path == kLivePath) {
    net::WebResponse alive = JsonAnswer(R"({"status":"ok"})");
    return respond(request.method == "GET" || request.method == "HEAD"
                       ? std::move(alive)
                       : OAuthRefusal(405, "invalid_request", "only GET"));
  }
  const auto serve = request.path == kTokenPath        ? &TokenFront::Token
                     : request.path == kDpopPath       ? &TokenFront::Dpop
                     : request.path == kIntrospectPath ? &TokenFront::Introspect
                                                       : nullptr;
  if (serve == nullptr) {
    return respond(
        OAuthRefusal(404, "invalid_request", "there are /oauth2/token, /oauth2/dpop, /oauth2/introspect and /livez"));
  }
  if (request.method != "POST") return respond(OAuthRefusal(405, "invalid_request", "only POST"));
  net::Form form;
  if (std::optional<net::WebResponse> refused = ReadForm(request, form)) return respond(*std::move(refused));
  (this->*serve)(request, std::move(form), std::move(respond));
}

namespace {

WorkloadPtr WorkloadOf(const net::WebRequest& request) {
  return std::dynamic_pointer_cast<const Workload>(request.unix_peer);
}

absl::Status UnknownCaller() {
  return absl::PermissionDeniedError("the caller is unknown: connect to the socket anew");
}

}  // namespace

// --- POST /oauth2/token
// ------------------------------------------------------------------------------------------------

class TokenFront::TokenCall : public std::enable_shared_from_this<TokenCall> {
 public:
  TokenCall(const TokenFrontDeps& deps, Endpoints where, net::Form form, std::string own_proof, net::Respond respond)
      : deps_(deps),
        where_(std::move(where)),
        form_(std::move(form)),
        own_proof_(std::move(own_proof)),
        respond_(std::move(respond)) {}

  const std::string& client_id() const { return FieldOf(form_, "client_id"); }

  void OnCaller(absl::StatusOr<TokenCaller> caller) {
    if (!caller.ok()) return Refuse(caller.status());
    caller_ = *std::move(caller);
    SetField(form_, "client_id", caller_.entry->spiffe_id.string());
    deps_.callers.Svid(caller_, [self = shared_from_this()](absl::StatusOr<SvidPtr> svid) {
      if (!svid.ok()) return self->Refuse(svid.status());
      self->svid_ = *std::move(svid);
      self->Post("");
    });
  }

 private:
  void Post(absl::string_view nonce) {
    absl::StatusOr<std::string> proof = Proof(nonce);
    if (!proof.ok()) return Refuse(proof.status());
    deps_.upstream.Post(
        {where_.token_url, net::FormatForm(form_), *std::move(proof), caller_.entry->id, svid_},
        [self = shared_from_this()](absl::StatusOr<Upstream::Answer> answer) { self->OnAnswer(std::move(answer)); });
  }

  // The workload's own, or one by its instance key; none when the token shall be bound to the certificate.
  absl::StatusOr<std::string> Proof(absl::string_view nonce) const {
    if (!own_proof_.empty()) return own_proof_;
    if (FieldOf(form_, "token_binding") == "x5t") return std::string();
    SIGNET_ASSIGN_OR_RETURN(const InstanceKeyPtr key, deps_.keys.Get(*caller_.entry));
    return oauth::MakeDpop(key->key, "POST", where_.token, "", nonce, deps_.clock.Now());
  }

  void OnAnswer(absl::StatusOr<Upstream::Answer> answer) {
    if (answer.ok() && !absl::StartsWith(answer->content_type, "application/json")) {
      answer = absl::UnavailableError(absl::StrCat("status ", answer->status, " without JSON: something in between?"));
    }
    if (!answer.ok()) {
      SIGNET_LOG(warn, "the token service could not be asked",
                 {{"spiffe_id", caller_.entry->spiffe_id.string()}, {"error", answer.status().message()}});
      return Refuse(absl::UnavailableError("the token service cannot be reached: try again later"));
    }
    // RFC 9449 8: the server wants its nonce in the proof; ours to make anew, once.
    if (const std::string& nonce = answer->Header("dpop-nonce"); own_proof_.empty() && !retried_ && !nonce.empty() &&
                                                                 answer->status >= 400 && answer->status < 500 &&
                                                                 absl::StrContains(answer->body, "use_dpop_nonce")) {
      retried_ = true;
      return Post(nonce);
    }
    if (const absl::Status same = caller_.Confirm(); !same.ok()) return Refuse(same);
    net::WebResponse passed = JsonAnswer(std::move(answer->body));
    passed.status = answer->status;
    for (auto& header : answer->headers) passed.headers.push_back(std::move(header));
    (passed.status < 400 ? deps_.metrics.token_requests : deps_.metrics.token_requests_refused).Add();
    respond_(std::move(passed));
  }

  void Refuse(const absl::Status& status) {
    deps_.metrics.token_requests_refused.Add();
    respond_(CallerRefusal(status));
  }

  const TokenFrontDeps& deps_;
  const Endpoints where_;
  net::Form form_;
  const std::string own_proof_;
  net::Respond respond_;
  TokenCaller caller_;
  SvidPtr svid_;
  bool retried_ = false;
};

void TokenFront::Token(const net::WebRequest& request, net::Form form, net::Respond respond) {
  Endpoints where = Where();
  const std::string& binding = FieldOf(form, "token_binding");
  if (!binding.empty() && binding != "x5t" && binding != "dpop") {
    return respond(OAuthRefusal(400, "invalid_request", "token_binding is dpop or x5t"));
  }
  bool repeated = false;
  const std::string* own = request.Header("dpop", &repeated);
  if (repeated) return respond(OAuthRefusal(400, "invalid_dpop_proof", "more than one DPoP header"));
  WorkloadPtr workload = WorkloadOf(request);
  if (workload == nullptr) return respond(CallerRefusal(UnknownCaller()));
  if (own != nullptr && !where.issuer.empty()) {
    const auto judged = oauth::VerifyDpop(*own, "POST", where.token, "", deps_.clock.Now());
    if (!judged.ok() || binding == "x5t") {
      return respond(
          OAuthRefusal(400, "invalid_dpop_proof", absl::StrCat("the proof must be for POST of ", where.token)));
    }
  }
  const bool known = !where.issuer.empty();
  auto call = std::make_shared<TokenCall>(deps_, std::move(where), std::move(form), own == nullptr ? "" : *own,
                                          std::move(respond));
  const std::string client_id = call->client_id();
  deps_.callers.Identify(std::move(workload), client_id, [call, known](absl::StatusOr<TokenCaller> caller) {
    if (caller.ok() && !known) return call->OnCaller(NoService());
    call->OnCaller(std::move(caller));
  });
}

// --- POST /oauth2/dpop
// -------------------------------------------------------------------------------------------------

absl::StatusOr<std::string> TokenFront::MakeProof(const net::Form& form, const TokenCaller& caller) const {
  const std::string &method = FieldOf(form, "htm"), &uri = FieldOf(form, "htu"), &token = FieldOf(form, "access_token");
  if (!IsMethod(method)) return absl::InvalidArgumentError("htm is required: the method of the call, in capitals");
  if (uri.empty() || uri.size() > kMaxUri || uri.find_first_of("?#") != std::string::npos) {
    return absl::InvalidArgumentError("htu is required: the URI of the call, without query and fragment");
  }
  if (token.empty()) return absl::InvalidArgumentError("access_token is required: the token that will be presented");
  SIGNET_ASSIGN_OR_RETURN(const SplitUri split, Split(uri), "htu");
  const Endpoints where = Where();
  if (where.issuer.empty()) return NoService();
  for (const std::string& endpoint : {where.token, where.token_url}) {
    SIGNET_ASSIGN_OR_RETURN(const SplitUri service, Split(endpoint), "the token endpoint");
    if (IsOfTokenService(split, service)) {
      return absl::InvalidArgumentError(
          "no proof is made for the token service: ask for a token at /oauth2/token here");
    }
  }
  SIGNET_ASSIGN_OR_RETURN(const InstanceKeyPtr key, deps_.keys.Get(*caller.entry));
  SIGNET_ASSIGN_OR_RETURN(const std::string bound, BoundKeyOf(token), "access_token");
  if (bound != key->jkt)
    return absl::InvalidArgumentError("access_token is bound to another key: is it this process's own?");
  return oauth::MakeDpop(key->key, method, uri, token, "", deps_.clock.Now());
}

void TokenFront::Dpop(const net::WebRequest& request, net::Form form, net::Respond respond) {
  WorkloadPtr workload = WorkloadOf(request);
  if (workload == nullptr) return respond(CallerRefusal(UnknownCaller()));
  const std::string client_id = FieldOf(form, "client_id");
  deps_.callers.Identify(
      std::move(workload), client_id,
      [this, form = std::move(form), respond = std::move(respond)](absl::StatusOr<TokenCaller> caller) mutable {
        if (!caller.ok()) return respond(CallerRefusal(caller.status()));
        const absl::StatusOr<std::string> proof = MakeProof(form, *caller);
        if (!proof.ok()) return respond(CallerRefusal(proof.status()));
        if (const absl::Status same = caller->Confirm(); !same.ok()) return respond(CallerRefusal(same));
        respond(JsonAnswer(absl::StrCat(R"({"dpop":")", *proof, R"("})")));
      });
}

// --- POST /oauth2/introspect
// -------------------------------------------------------------------------------------------

class TokenFront::IntrospectCall : public std::enable_shared_from_this<IntrospectCall> {
 public:
  IntrospectCall(const TokenFrontDeps& deps, Endpoints where, net::Form form, net::Respond respond)
      : deps_(deps), where_(std::move(where)), form_(std::move(form)), respond_(std::move(respond)) {}

  void OnCaller(absl::StatusOr<TokenCaller> caller) {
    if (!caller.ok()) return respond_(CallerRefusal(caller.status()));
    caller_ = *std::move(caller);
    deps_.pushed.Want();  // asked for by a workload of this node: from now on the server pushes
    presentation_ = {.caller = caller_.entry->spiffe_id.string(),
                     .token = FieldOf(form_, "token"),
                     .peer_x5t_s256 = FieldOf(form_, "peer_x5t#S256"),
                     .dpop_proof = FieldOf(form_, "dpop"),
                     .dpop_method = FieldOf(form_, "htm"),
                     .dpop_uri = FieldOf(form_, "htu"),
                     .tool = FieldOf(form_, "tool"),
                     .task = FieldOf(form_, "task"),
                     .session = FieldOf(form_, "session")};
    if (presentation_.token.empty()) return respond_(OAuthRefusal(400, "invalid_request", "token is required"));
    if (std::optional<std::string> answer = deps_.introspection.Local(presentation_)) return Answer(*std::move(answer));
    if (where_.issuer.empty()) return Answer(deps_.introspection.Offline(presentation_));
    SetField(form_, "client_id", presentation_.caller);
    deps_.callers.Svid(caller_, [self = shared_from_this()](absl::StatusOr<SvidPtr> svid) {
      if (!svid.ok()) return self->Answer(self->deps_.introspection.Offline(self->presentation_));
      self->Ask(*std::move(svid));
    });
  }

 private:
  void Ask(SvidPtr svid) {
    deps_.upstream.Post(
        {where_.introspect_url, net::FormatForm(form_), "", caller_.entry->id, std::move(svid)},
        [self = shared_from_this()](absl::StatusOr<Upstream::Answer> answer) {
          if (!answer.ok() || answer->status != 200) {
            return self->Answer(self->deps_.introspection.Offline(self->presentation_));
          }
          self->Answer(self->deps_.introspection.FromServer(self->presentation_, std::move(answer->body)));
        });
  }

  void Answer(std::string json) {
    if (const absl::Status same = caller_.Confirm(); !same.ok()) return respond_(CallerRefusal(same));
    respond_(JsonAnswer(std::move(json)));
  }

  const TokenFrontDeps& deps_;
  const Endpoints where_;
  net::Form form_;
  net::Respond respond_;
  TokenCaller caller_;
  oauth::Presentation presentation_;
};

void TokenFront::Introspect(const net::WebRequest& request, net::Form form, net::Respond respond) {
  WorkloadPtr workload = WorkloadOf(request);
  if (workload == nullptr) return respond(CallerRefusal(UnknownCaller()));
  const std::string client_id = FieldOf(form, "client_id");
  auto call = std::make_shared<IntrospectCall>(deps_, Where(), std::move(form), std::move(respond));
  deps_.callers.Identify(std::move(workload), client_id,
                         [call](absl::StatusOr<TokenCaller> caller) { call->OnCaller(std::move(caller)); });
}

}  // namespace signet::agent
