// One file a key: <folder>/<id>.pem, PKCS#8, 0600, replaced atomically. All keys are read at the start and signed with
// from memory. A damaged file is named in the log and answers kDataLoss; a new key for its id sets it aside first,
// under <id>.pem.corrupt-<seconds>, so that nothing is lost silently. Whoever can read the folder owns the trust
// domain.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/concurrency/mutex.h"
#include "common/keymanager/key_manager.h"
#include "common/time/clock.h"

namespace signet {

class DiskKeyManager final : public KeyManager {
 public:
  // Makes the folder (0700) when there is none. kFailedPrecondition for a folder or a key file that others can read or
  // write; the message has the chmod that helps. `clock` must outlive the object.
  static absl::StatusOr<std::unique_ptr<DiskKeyManager>> Open(std::string folder, Clock& clock);

  absl::StatusOr<crypto::PublicKey> GenerateKey(absl::string_view id, crypto::KeyType type) override;
  absl::StatusOr<crypto::PublicKey> GetPublicKey(absl::string_view id) override;
  std::vector<std::string> ListKeys() override;  // the usable ones
  absl::Status RemoveKey(absl::string_view id) override;
  absl::StatusOr<std::string> Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                   absl::string_view message) override;

 private:
  DiskKeyManager(std::string folder, Clock& clock) : folder_(std::move(folder)), clock_(clock) {}
  absl::Status Load();
  absl::StatusOr<crypto::PrivateKey> Find(absl::string_view id);
  std::string PathOf(absl::string_view id) const;

  const std::string folder_;
  Clock& clock_;
  Mutex write_mutex_;  // one writer of the folder at a time; held while the disk is waited for
  Mutex mutex_ ABSL_ACQUIRED_AFTER(write_mutex_);
  // A key, or why its file cannot be used.
  std::map<std::string, absl::StatusOr<crypto::PrivateKey>, std::less<>> keys_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet
