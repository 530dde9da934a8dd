#include "agent/config.h"

#include <arpa/inet.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/config/load.h"

namespace signet::agent {
namespace {

constexpr size_t kMaxSocketPath = 107;  // unix(7): sun_path has 108 bytes, one for the NUL

void CheckServer(const std::string& address, config::Errors& errors) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 1 ||
      port > 65535) {
    errors.Add("server_address",
               absl::StrCat("\"", address, "\" is no HOST:PORT; write for instance signet-server.example.org:8081"));
  }
}

void CheckHttp(const std::string& listen, config::Errors& errors) {
  const size_t colon = listen.rfind(':');
  const std::string host = listen.substr(0, colon == std::string::npos ? 0 : colon);
  int port = 0;
  unsigned char bytes[16];
  const bool six = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const bool good_host = six ? inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), bytes) == 1
                             : inet_pton(AF_INET, host.c_str(), bytes) == 1;
  if (!good_host || !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port < 0 || port > 65535) {
    errors.Add("http.listen",
               absl::StrCat("\"", listen, "\" is no literal ADDRESS:PORT; write 127.0.0.1:8082, or off"));
  }
}

void CheckSocket(absl::string_view key, const std::string& path, config::Errors& errors) {
  if (path.size() > kMaxSocketPath) {
    errors.Add(key, absl::StrCat("has ", path.size(), " bytes; a socket's path takes at most ", kMaxSocketPath,
                                 ", choose a shorter one"));
  }
}

TrustSource TrustSourceOf(const config::Bootstrap& bootstrap, absl::string_view data_dir, config::Errors& errors) {
  const int given =
      !bootstrap.trust_bundle_path().empty() + !bootstrap.trust_bundle_url().empty() + bootstrap.insecure();
  if (given > 1) errors.Add("bootstrap", "give one of trust_bundle_path, trust_bundle_url and insecure, not several");
  TrustSource source;
  if (!bootstrap.trust_bundle_path().empty())
    source.path = config::ResolvePath(data_dir, bootstrap.trust_bundle_path());
  source.url = bootstrap.trust_bundle_url();
  source.insecure = bootstrap.insecure();
  if (!source.url.empty() && !absl::StartsWith(source.url, "https://")) {
    errors.Add("bootstrap.trust_bundle_url", "must begin with https://; use trust_bundle_path for a file");
  }
  return source;
}

void CheckAttestor(config::AgentNodeAttestor& attestor, absl::string_view data_dir, config::Errors& errors) {
  const auto resolve = [&](std::string* path) {
    if (!path->empty()) *path = config::ResolvePath(data_dir, *path);
  };
  if (attestor.has_join_token()) {
    config::AgentJoinToken& token = *attestor.mutable_join_token();
    if (token.token().empty() == token.token_file().empty()) {
      errors.Add("node_attestor.join_token", "give one of token_file and token; `signet token generate` makes a token");
    }
    resolve(token.mutable_token_file());
  }
  if (attestor.has_k8s_psat()) {
    config::AgentK8sPsat& psat = *attestor.mutable_k8s_psat();
    if (psat.cluster().empty()) {
      errors.Add("node_attestor.k8s_psat.cluster", "is required: the cluster's name in the server's configuration");
    }
    if (psat.token_path().empty()) psat.set_token_path("/var/run/secrets/tokens/signet-agent");
    resolve(psat.mutable_token_path());
  }
  if (attestor.has_x509_pop()) {
    config::AgentX509Pop& pop = *attestor.mutable_x509_pop();
    if (pop.certificate_path().empty()) errors.Add("node_attestor.x509_pop.certificate_path", "is required");
    if (pop.private_key_path().empty()) errors.Add("node_attestor.x509_pop.private_key_path", "is required");
    resolve(pop.mutable_certificate_path());
    resolve(pop.mutable_private_key_path());
    resolve(pop.mutable_intermediates_path());
  }
}

TokenFrontOptions TokenFrontOf(const config::TokenFront& front, const spiffe::TrustDomain& trust_domain,
                               absl::string_view data_dir, config::Errors& errors) {
  const spiffe::Id server = *spiffe::Id::FromPath(trust_domain, "/spire/server");
  TokenFrontOptions o{.socket = config::ResolvePath(
                          data_dir, front.socket().empty() ? "/run/signet/workload/token.sock" : front.socket()),
                      .server_url = front.server_url(),
                      .server_id = server,
                      .offline_grace = config::ParseDuration("token_service.offline_grace", front.offline_grace(),
                                                             absl::Seconds(30), errors)};
  CheckSocket("token_service.socket", o.socket, errors);
  if (!o.server_url.empty() && !absl::StartsWith(o.server_url, "https://")) {
    errors.Add("token_service.server_url", "must begin with https://");
  }
  if (!front.server_spiffe_id().empty()) {
    absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(front.server_spiffe_id());
    if (!id.ok()) {
      errors.Add("token_service.server_spiffe_id", id.status().message());
    } else if (!id->IsMemberOf(trust_domain)) {
      errors.Add("token_service.server_spiffe_id", "must be of the agent's own trust domain");
    } else {
      o.server_id = *std::move(id);
    }
  }
  if (o.offline_grace > absl::Seconds(30)) errors.Add("token_service.offline_grace", "may be at most 30s");
  return o;
}

}  // namespace

absl::StatusOr<AgentOptions> OptionsFromConfig(const config::Agent& c) {
  config::Errors errors;
  const auto or_else = [](const std::string& text, absl::string_view fallback) {
    return text.empty() ? std::string(fallback) : text;
  };

  absl::StatusOr<spiffe::TrustDomain> trust_domain = spiffe::TrustDomain::ParseNameOrId(c.trust_domain());
  if (c.trust_domain().empty()) {
    errors.Add("trust_domain", "is required; write the name that the server signs for, such as example.org");
  } else if (!trust_domain.ok()) {
    errors.Add("trust_domain", trust_domain.status().message());
  }
  if (!trust_domain.ok())
    trust_domain = spiffe::TrustDomain::Parse("invalid");  // a stand-in; it never leaves this function

  const std::string data_dir = or_else(c.data_dir(), "/var/lib/signet/agent");
  AgentOptions o{
      .trust_domain = *trust_domain,
      .data_dir = data_dir,
      .server_addresses = {c.server_address().begin(), c.server_address().end()},
      .workload_socket = config::ResolvePath(data_dir, or_else(c.workload_socket(), "/run/signet/workload/api.sock")),
      .admin_socket = config::ResolvePath(data_dir, or_else(c.admin_socket(), "/run/signet/agent/admin.sock")),
      .http_listen = or_else(c.http().listen(), "127.0.0.1:8082"),
      .trust_source = TrustSourceOf(c.bootstrap(), data_dir, errors),
      .keep_key = !c.key_manager().has_memory(),
      .sealed_cache = !c.disable_sealed_cache(),
      .allowed_foreign_jwt_claims = {c.allowed_foreign_jwt_claims().begin(), c.allowed_foreign_jwt_claims().end()},
      .node_attestor = c.node_attestor(),
      .workload_attestors = c.workload_attestors(),
      .config = c,
  };
  if (o.data_dir.front() != '/') errors.Add("data_dir", "must be an absolute path");
  if (o.http_listen == "off") o.http_listen.clear();
  if (!o.http_listen.empty()) CheckHttp(o.http_listen, errors);
  if (o.server_addresses.empty()) errors.Add("server_address", "is required; write HOST:PORT of the server, or a list");
  for (const std::string& address : o.server_addresses) CheckServer(address, errors);
  CheckSocket("workload_socket", o.workload_socket, errors);
  CheckSocket("admin_socket", o.admin_socket, errors);
  if (o.workload_socket == o.admin_socket) errors.Add("admin_socket", "must not be the workload_socket");
  if (c.has_token_service()) {
    o.token_front = TokenFrontOf(c.token_service(), *trust_domain, data_dir, errors);
    if (o.token_front->socket == o.workload_socket || o.token_front->socket == o.admin_socket) {
      errors.Add("token_service.socket", "must be a socket of its own");
    }
  }
  if (const absl::Status status = log::ParseLevel(or_else(c.log().level(), "info"), o.log_level); !status.ok()) {
    errors.Add("log.level", status.message());
  }
  if (const std::string format = or_else(c.log().format(), "text"); format == "json") {
    o.log_format = log::Format::kJson;
  } else if (format != "text") {
    errors.Add("log.format", absl::StrCat("\"", format, "\" is unknown; choose text or json"));
  }
  CheckAttestor(o.node_attestor, data_dir, errors);
  if (c.limits().connections_per_uid() > 0) o.connections_per_uid = c.limits().connections_per_uid();
  if (c.limits().pending_attestations_per_uid() > 0)
    o.pending_attestations_per_uid = c.limits().pending_attestations_per_uid();

  if (o.trust_source.insecure)
    o.warnings.push_back("bootstrap.insecure: whatever answers first is trusted; use it for a try-out only");
  if (o.node_attestor.has_join_token() && !o.node_attestor.join_token().token().empty()) {
    o.warnings.push_back("node_attestor.join_token.token: readable for whoever can read this file; prefer token_file");
  }
  if (!o.keep_key && o.node_attestor.has_join_token()) {
    o.warnings.push_back(
        "key_manager.memory: a restart must attest anew, which a join token allows only once; use disk");
  }
  if (const absl::Status status = errors.ToStatus(); !status.ok()) return status;
  return o;
}

}  // namespace signet::agent
