// The configuration of signet-server as it is run: every default filled in, every value checked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto/key.h"
#include "common/log/log.h"
#include "common/spiffe/id.h"
#include "config/server.pb.h"
#include "server/ca/svid_template.h"

namespace signet::server {

// OAuth for AI agents over HTTPS (server/token).
struct TokenServiceOptions {
  std::string listen;                              // literal ADDRESS:PORT
  std::string issuer;                              // canonical https URL without a trailing slash
  std::string certificate_path, private_key_path;  // both or none: then the server's own SVID, with this name in it
  std::string dns_name;                            // empty: the issuer's host is an address
  crypto::KeyType key_type = crypto::KeyType::kEcP256;
  std::string export_path, export_url;  // of the audit; empty: none
  absl::Duration head_every = absl::Seconds(10);
  absl::Duration offline_grace = absl::ZeroDuration();
  struct Client {
    std::string client_id, jwks_path;
  };
  std::vector<Client> clients;
};

struct ServerOptions {
  std::string data_dir;
  std::string listen;  // literal ADDRESS:PORT
  std::string admin_socket;
  std::string http_listen;  // empty: off
  log::Level log_level = log::Level::kInfo;
  log::Format log_format = log::Format::kText;
  IssuePolicy policy;
  crypto::KeyType x509_key_type = crypto::KeyType::kEcP256;
  crypto::KeyType jwt_key_type = crypto::KeyType::kEcP256;
  std::vector<spiffe::Id> admin_ids;
  std::optional<absl::Duration> prune_agents_expired_for;
  std::optional<TokenServiceOptions> token_service;  // nullopt: off

  // What the registries of the seams read, defaults and absolute paths filled in.
  config::Datastore datastore;
  config::KeyManager key_manager;
  config::ServerNodeAttestors node_attestors;
  config::BundlePublishers bundle_publishers;

  config::Server config;              // as it was given: what a reload compares
  std::vector<std::string> warnings;  // legal, but probably not meant
};

// Every error at once, a line each: kInvalidArgument.
absl::StatusOr<ServerOptions> OptionsFromConfig(const config::Server& config);

}  // namespace signet::server
