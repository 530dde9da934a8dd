// Keeps the authorities in order: two slots for X.509 and two for JWT, prepared / active / old, driven by the clock
// (rotation.h decides, this does). An authority is journalled and published in the bundle before its first use. While
// the token service is on there are two slots for its tokens and two for its receipts: journalled alike, never in the
// bundle (T5); a receipt's key that ends is kept to verify with, its private half removed. A restart takes the
// authorities up again where the journal and the KeyManager agree; where they do not, it says so loudly and makes new
// ones without touching what is still trusted. Owns one worker thread. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/concurrency/latest_value.h"
#include "common/crypto/key.h"
#include "common/keymanager/key_manager.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"
#include "server/ca/certificate_authority.h"
#include "server/ca/rotation.h"
#include "server/datastore/data_store.h"

namespace signet::server {

// The keys that sign access tokens, and their rotation by hand: what the clock does, earlier. After the active key was
// revoked (oauth::EntityKind::kSigningKey) nothing is issued until another one is active.
// Errors: kUnavailable the key or the journal could not be written; kUnimplemented the token service is off.
class TokenKeys {
 public:
  struct Key {
    std::string kid;
    Slot slot;
  };
  virtual ~TokenKeys() = default;
  virtual absl::StatusOr<std::vector<Key>> ListTokenKeys() = 0;
  // A fresh key in the slot that is not active, journalled and in /jwks, signing nothing yet. What stood in that slot
  // goes: the tokens of a key that was active before end with it.
  virtual absl::StatusOr<Key> PrepareTokenKey() = 0;
  // kNotFound: no such key; kFailedPrecondition: it is not the prepared one.
  virtual absl::StatusOr<Key> ActivateTokenKey(const std::string& kid) = 0;
};

class AuthorityRotator : public TokenKeys {
 public:
  struct Options {
    std::string server_id;  // this server's own set of authorities; random, kept in data_dir
    IssuePolicy policy;
    crypto::KeyType x509_key_type = crypto::KeyType::kEcP256;
    crypto::KeyType jwt_key_type = crypto::KeyType::kEcP256;
    std::optional<crypto::KeyType> token_key_type;  // of token and receipt keys; nullopt: the token service is off
  };

  // Loads the journal and makes sure that an authority of each kind is active, durably; then starts the worker.
  // All references must outlive it.
  static absl::StatusOr<std::unique_ptr<AuthorityRotator>> Create(Options options, KeyManager& keys,
                                                                  JournalStore& journal, BundleStore& bundles,
                                                                  telemetry::Health& health, Clock& clock);
  virtual ~AuthorityRotator() = default;

  virtual const LatestValue<ActiveAuthorities>& authorities() const = 0;
  // Runs one step now, for tests with a fake clock: what the worker does every 10 s.
  virtual absl::Status Step() = 0;
};

}  // namespace signet::server
