#include "server/config.h"

#include <arpa/inet.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/config/load.h"
#include "common/oauth/access_token.h"
#include "common/spiffe/wire.h"

namespace signet::server {
namespace {

constexpr absl::Duration kShortestCa = absl::Minutes(1);
constexpr absl::Duration kShortestSvid = absl::Seconds(5);
constexpr size_t kMaxSocketPath = 107;  // unix(7): sun_path has 108 bytes, one for the NUL

crypto::KeyType KeyTypeOf(absl::string_view key, const std::string& text, crypto::KeyType fallback,
                          config::Errors& errors) {
  if (text.empty()) return fallback;
  const absl::StatusOr<crypto::KeyType> type = crypto::ParseKeyType(text);
  if (type.ok()) return *type;
  errors.Add(key, type.status().message());
  return fallback;
}

// A literal address: a name may stand for several, and each listening address has its own credentials.
void CheckAddress(absl::string_view key, const std::string& text, config::Errors& errors) {
  const size_t colon = text.rfind(':');
  const std::string host = colon == std::string::npos ? "" : text.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  int number = 0;
  const bool good_port = absl::SimpleAtoi(port, &number) && number >= 0 && number <= 65535;
  const bool six = host.size() > 2 && host.front() == '[' && host.back() == ']';
  unsigned char bytes[16];
  const bool good_host = six ? inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), bytes) == 1
                             : inet_pton(AF_INET, host.c_str(), bytes) == 1;
  if (!good_port || !good_host) {
    errors.Add(key,
               absl::StrCat("\"", text, "\" is no literal ADDRESS:PORT; write for instance 0.0.0.0:8081 or [::]:8081"));
  }
}

void CheckTtls(const IssuePolicy& policy, config::Errors& errors, std::vector<std::string>& warnings) {
  if (policy.ca_ttl < kShortestCa) errors.Add("ca.ttl", "must be at least 1m");
  const std::pair<absl::string_view, absl::Duration> ttls[] = {
      {"svid.x509_ttl", policy.x509_ttl}, {"svid.jwt_ttl", policy.jwt_ttl}, {"svid.agent_ttl", policy.agent_ttl}};
  // The next authority signs from 1/6 (at most 7 days) before the end of this one: longer lives are cut at times.
  const absl::Duration guaranteed = std::min(policy.ca_ttl / 6, absl::Hours(7 * 24));
  for (const auto& [key, ttl] : ttls) {
    if (ttl < kShortestSvid) errors.Add(key, "must be at least 5s");
    if (ttl > guaranteed) {
      warnings.push_back(absl::StrCat(
          key, ": ", absl::FormatDuration(ttl), " is more than the ", absl::FormatDuration(guaranteed), " that ca.ttl ",
          absl::FormatDuration(policy.ca_ttl), " can always give; some SVIDs will end earlier"));
    }
  }
}

// The host of an https URL, without its port; empty for a literal address, which no DNS name can stand for.
std::string DnsNameOf(const std::string& url) {
  std::string host = url.substr(url.find("://") + 3);
  host = host.substr(0, host.find('/'));
  unsigned char bytes[4];
  if (host.front() == '[') return "";
  host = host.substr(0, host.find(':'));
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 ? "" : host;
}

void CheckIssuer(const std::string& issuer, config::Errors& errors) {
  if (issuer.empty()) {
    errors.Add("token_service.issuer", "is required: the https URL by which clients know the token service");
    return;
  }
  const absl::StatusOr<std::string> canonical = oauth::CanonicalResource(issuer);
  if (!canonical.ok() || !absl::StartsWith(issuer, "https://")) {
    errors.Add("token_service.issuer",
               absl::StrCat("\"", issuer, "\" is no https URL; write for instance https://id.example.org"));
  } else if (*canonical != issuer || absl::EndsWith(issuer, "/") || absl::StrContains(issuer, "?")) {
    // RFC 8414 2 and 3.3: compared byte by byte, so there is one way to write it.
    errors.Add("token_service.issuer", absl::StrCat("write it without query and trailing slash, in lower case: ",
                                                    absl::StripSuffix(*canonical, "/")));
  }
}

TokenServiceOptions TokenOptions(const config::TokenService& c, const std::string& data_dir, config::Errors& errors,
                                 std::vector<std::string>& warnings) {
  TokenServiceOptions o;
  o.listen = c.listen().empty() ? "0.0.0.0:8444" : c.listen();
  CheckAddress("token_service.listen", o.listen, errors);
  o.issuer = c.issuer();
  CheckIssuer(o.issuer, errors);
  const config::TokenService::Certificate& certificate = c.certificate();
  if (certificate.certificate_path().empty() != certificate.private_key_path().empty()) {
    errors.Add("token_service.certificate", "certificate_path and private_key_path belong together");
  } else if (!certificate.certificate_path().empty()) {
    o.certificate_path = config::ResolvePath(data_dir, certificate.certificate_path());
    o.private_key_path = config::ResolvePath(data_dir, certificate.private_key_path());
    if (!certificate.dns_name().empty()) {
      errors.Add("token_service.certificate.dns_name", "is for the server's own SVID; the files have their own names");
    }
  } else if (absl::StartsWith(o.issuer, "https://")) {
    o.dns_name = certificate.dns_name().empty() ? DnsNameOf(o.issuer) : certificate.dns_name();
    if (o.dns_name.empty()) {
      warnings.push_back(
          "token_service.issuer: its host is an address, so ordinary TLS clients cannot check the name of the "
          "certificate; use a DNS name, or certificate_path");
    } else if (const absl::Status s = spiffe::CheckDnsName(o.dns_name); !s.ok()) {
      errors.Add("token_service.certificate.dns_name", s.message());
    }
  }
  o.key_type = KeyTypeOf("token_service.key_type", c.key_type(), crypto::KeyType::kEcP256, errors);
  if (o.key_type != crypto::KeyType::kEcP256 && o.key_type != crypto::KeyType::kRsa2048) {
    errors.Add("token_service.key_type", "must be ec-p256 or rsa-2048: what resource servers verify everywhere");
  }
  if (!c.audit().export_path().empty()) o.export_path = config::ResolvePath(data_dir, c.audit().export_path());
  o.export_url = c.audit().export_url();
  o.head_every =
      config::ParseDuration("token_service.audit.head_every", c.audit().head_every(), absl::Seconds(10), errors);
  if (o.head_every < absl::Seconds(1) || o.head_every > absl::Seconds(10)) {
    errors.Add("token_service.audit.head_every",
               "must be between 1s and 10s: a tail is proven by a head under 20 s old");
  }
  if (!c.offline_grace().empty() && c.offline_grace() != "0s") {
    o.offline_grace =
        config::ParseDuration("token_service.offline_grace", c.offline_grace(), absl::ZeroDuration(), errors);
    if (o.offline_grace > absl::Seconds(30)) errors.Add("token_service.offline_grace", "must be at most 30s");
  }
  std::set<std::string> seen;
  for (int i = 0; i < c.clients_size(); ++i) {
    const std::string key = absl::StrCat("token_service.clients[", i, "]");
    if (c.clients(i).client_id().empty() || c.clients(i).jwks_path().empty()) {
      errors.Add(key, "needs client_id and jwks_path");
    } else if (!seen.insert(c.clients(i).client_id()).second) {
      errors.Add(key, absl::StrCat("client_id \"", c.clients(i).client_id(), "\" stands twice"));
    } else {
      o.clients.push_back({c.clients(i).client_id(), config::ResolvePath(data_dir, c.clients(i).jwks_path())});
    }
  }
  return o;
}

}  // namespace

absl::StatusOr<ServerOptions> OptionsFromConfig(const config::Server& c) {
  config::Errors errors;
  const auto or_else = [](const std::string& text, absl::string_view fallback) {
    return text.empty() ? std::string(fallback) : text;
  };

  absl::StatusOr<spiffe::TrustDomain> trust_domain = spiffe::TrustDomain::ParseNameOrId(c.trust_domain());
  if (c.trust_domain().empty()) {
    errors.Add("trust_domain", "is required; write the name this server signs for, such as example.org");
  } else if (!trust_domain.ok()) {
    errors.Add("trust_domain", trust_domain.status().message());
  }
  // A stand-in, so that the rest is checked too; it never leaves this function then.
  if (!trust_domain.ok()) trust_domain = spiffe::TrustDomain::Parse("invalid");

  const absl::Duration x509_ttl = config::ParseDuration("svid.x509_ttl", c.svid().x509_ttl(), absl::Hours(1), errors);
  ServerOptions o{
      .data_dir = or_else(c.data_dir(), "/var/lib/signet/server"),
      .listen = or_else(c.listen(), "0.0.0.0:8081"),
      .admin_socket = {},
      .http_listen = or_else(c.http().listen(), "127.0.0.1:8080"),
      .policy = {.trust_domain = *trust_domain,
                 .x509_ttl = x509_ttl,
                 .jwt_ttl = config::ParseDuration("svid.jwt_ttl", c.svid().jwt_ttl(), absl::Minutes(5), errors),
                 .agent_ttl = config::ParseDuration("svid.agent_ttl", c.svid().agent_ttl(), x509_ttl, errors),
                 .ca_ttl = config::ParseDuration("ca.ttl", c.ca().ttl(), absl::Hours(24), errors),
                 .jwt_issuer = c.jwt_issuer(),
                 .token_issuer = {},
                 .ca_subject = {.country = "US",
                                .organization = "SPIFFE",
                                .organizational_unit = {},
                                .common_name = {},
                                .serial_number = {}}},
      .admin_ids = {},
      .prune_agents_expired_for = std::nullopt,
      .token_service = std::nullopt,
      .datastore = c.datastore(),
      .key_manager = c.key_manager(),
      .node_attestors = c.node_attestors(),
      .bundle_publishers = c.bundle_publishers(),
      .config = c,
      .warnings = {}};
  if (o.data_dir.front() != '/') errors.Add("data_dir", "must be an absolute path");
  CheckAddress("listen", o.listen, errors);
  if (o.http_listen == "off") o.http_listen.clear();
  if (!o.http_listen.empty()) CheckAddress("http.listen", o.http_listen, errors);
  o.admin_socket = config::ResolvePath(o.data_dir, or_else(c.admin_socket(), "/run/signet/server/admin.sock"));
  if (o.admin_socket.size() > kMaxSocketPath) {
    errors.Add("admin_socket",
               absl::StrCat("is ", o.admin_socket.size(), " bytes long, a socket path has at most 107"));
  }

  if (!c.log().level().empty()) {
    if (const absl::Status s = log::ParseLevel(c.log().level(), o.log_level); !s.ok())
      errors.Add("log.level", s.message());
  }
  if (c.log().format() == "json") {
    o.log_format = log::Format::kJson;
  } else if (!c.log().format().empty() && c.log().format() != "text") {
    errors.Add("log.format", absl::StrCat("\"", c.log().format(), "\" is not known; write text or json"));
  }

  CheckTtls(o.policy, errors, o.warnings);
  o.x509_key_type = KeyTypeOf("ca.key_type", c.ca().key_type(), crypto::KeyType::kEcP256, errors);
  o.jwt_key_type = KeyTypeOf("ca.jwt_key_type", c.ca().jwt_key_type(), o.x509_key_type, errors);
  if (c.ca().has_subject()) {
    o.policy.ca_subject = {.country = c.ca().subject().country(),
                           .organization = c.ca().subject().organization(),
                           .organizational_unit = {},
                           .common_name = c.ca().subject().common_name(),
                           .serial_number = {}};
    if (o.policy.ca_subject.country.size() != 2 && !o.policy.ca_subject.country.empty()) {
      errors.Add("ca.subject.country", "must be two letters (X.520)");
    }
    if (o.policy.ca_subject.empty())
      errors.Add("ca.subject", "must name at least one part: an authority has a subject");
  }

  if (c.has_token_service()) {
    o.token_service = TokenOptions(c.token_service(), o.data_dir, errors, o.warnings);
    o.policy.token_issuer = o.token_service->issuer;
    // T5: kinds of JWT never share an issuer.
    if (o.policy.jwt_issuer.empty()) o.policy.jwt_issuer = absl::StrCat(o.policy.token_issuer, "/spiffe");
    if (o.policy.jwt_issuer == o.policy.token_issuer) {
      errors.Add("token_service.issuer", "must differ from jwt_issuer: no JWT-SVID may be taken for an access token");
    }
  }

  for (int i = 0; i < c.admin_ids_size(); ++i) {
    const absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(c.admin_ids(i));
    const std::string key = absl::StrCat("admin_ids[", i, "]");
    if (!id.ok()) {
      errors.Add(key, id.status().message());
    } else if (id->is_root()) {
      errors.Add(key, "must have a path: an administrator is one workload, not a trust domain");
    } else {
      o.admin_ids.push_back(*id);
    }
  }
  if (!c.prune_attested_nodes_expired_for().empty()) {
    o.prune_agents_expired_for = config::ParseDuration("prune_attested_nodes_expired_for",
                                                       c.prune_attested_nodes_expired_for(), absl::Hours(720), errors);
  }

  config::Sqlite& sqlite = *o.datastore.mutable_sqlite();
  sqlite.set_path(config::ResolvePath(o.data_dir, or_else(sqlite.path(), "server.db")));
  if (!o.key_manager.has_memory()) {
    config::DiskKeyManager& disk = *o.key_manager.mutable_disk();
    disk.set_path(config::ResolvePath(o.data_dir, or_else(disk.path(), "keys")));
  }
  if (!c.has_node_attestors()) o.node_attestors.mutable_join_token();
  if (o.node_attestors.has_x509_pop()) {
    auto& paths = *o.node_attestors.mutable_x509_pop()->mutable_ca_bundle_paths();
    if (paths.empty())
      errors.Add("node_attestors.x509_pop.ca_bundle_paths", "is required: the roots of agents' certificates");
    for (std::string& path : paths) path = config::ResolvePath(o.data_dir, path);
  }
  if (o.node_attestors.has_k8s_psat()) {
    auto& clusters = *o.node_attestors.mutable_k8s_psat()->mutable_clusters();
    if (clusters.empty()) {
      errors.Add("node_attestors.k8s_psat.clusters", "is required: name the clusters that agents run in");
    }
    for (auto& [name, cluster] : clusters) {
      const std::string key = absl::StrCat("node_attestors.k8s_psat.clusters.", name);
      if (cluster.service_account_allow_list().empty()) {
        errors.Add(absl::StrCat(key, ".service_account_allow_list"),
                   "is required: NAMESPACE:NAME of the agents' service accounts, such as signet:signet-agent");
      }
      if (!cluster.kube_config_file().empty()) {
        cluster.set_kube_config_file(config::ResolvePath(o.data_dir, cluster.kube_config_file()));
      }
    }
  }
  if (!o.node_attestors.has_join_token() && !o.node_attestors.has_x509_pop() && !o.node_attestors.has_k8s_psat()) {
    errors.Add("node_attestors", "is there but empty: no agent could attest; name one, or leave the key out");
  }

  if (c.bundle_publishers().has_k8s_configmap()) {
    auto& clusters = *o.bundle_publishers.mutable_k8s_configmap()->mutable_clusters();
    if (clusters.empty()) {
      errors.Add("bundle_publishers.k8s_configmap.clusters",
                 "is required: name a cluster; `NAME: {}` is this pod's own");
    }
    for (auto& [_, cluster] : clusters) {
      cluster.set_kube_config_file(config::ResolvePath(o.data_dir, cluster.kube_config_file()));
    }
  }

  if (!errors.empty()) return errors.ToStatus();
  return o;
}

}  // namespace signet::server
