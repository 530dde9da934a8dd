// The keys of users' issuers: from the record, or fetched from its jwks_uri and kept. Fetched again after ten minutes,
// and at once for a `kid` that is not there, at most once in 30 s for each issuer (a stranger can invent kids). Keys
// that cannot be fetched anew serve for an hour more. https only, no redirect to another host, at most 256 KiB and 10
// s, no proxy; the address must be public unless the record allows private ones, and is checked when connected to, so
// that DNS cannot change its mind in between. Thread-safe. Errors: kNotFound no such key; kUnavailable not fetched;
// kInvalidArgument the set is malformed.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "common/concurrency/executor.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/key.h"
#include "common/time/clock.h"
#include "server/datastore/completion.h"
#include "server/datastore/token_records.h"

namespace signet::server {

// Fetches a JWK set as the rules above say; blocking. Tests replace it.
using FetchJwks = std::function<absl::StatusOr<std::string>(const IssuerRecord& issuer)>;
absl::StatusOr<std::string> FetchJwksOverHttps(const IssuerRecord& issuer);

class IssuerKeys {
 public:
  IssuerKeys(Executor& executor, Clock& clock, FetchJwks fetch = FetchJwksOverHttps);
  ~IssuerKeys();

  // The key `kid`; empty: the only key of the set. At once when it is known, else after a fetch on the executor.
  void Find(std::shared_ptr<const IssuerRecord> issuer, const std::string& kid, Completion<crypto::PublicKey> done);

 private:
  struct Set;
  struct State;
  Executor& executor_;
  Clock& clock_;
  const std::shared_ptr<State> state_;
};

}  // namespace signet::server
