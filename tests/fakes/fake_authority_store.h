// JournalStore and BundleStore in memory, with faults: what the CA needs of a datastore. Thread-safe.
// Completions run inline.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/concurrency/mutex.h"
#include "server/datastore/data_store.h"

namespace signet::fakes {

class FakeAuthorityStore final : public server::JournalStore, public server::BundleStore {
 public:
  absl::StatusOr<std::string> LoadJournal(const std::string& server_id) override;
  void SaveJournal(const std::string& server_id, std::string journal, const spiffe::TrustDomain& trust_domain,
                   server::BundleChange publish, server::Completion<spiffe::Bundle> done) override;
  absl::StatusOr<spiffe::Bundle> GetBundle(const spiffe::TrustDomain& trust_domain) override;
  absl::StatusOr<std::vector<spiffe::Bundle>> ListBundles() override;
  void ChangeBundle(const spiffe::TrustDomain& trust_domain, server::BundleChange change,
                    server::Completion<spiffe::Bundle> done) override;

  // From now on writes fail with `status` (OK ends it); with `after_commit` they are done nevertheless.
  void FailWrites(absl::Status status, bool after_commit = false);
  void FailReads(absl::Status status);
  void SetJournal(const std::string& server_id, std::string journal);
  std::map<std::string, std::string> journals();
  int writes();

 private:
  Mutex mutex_;
  std::map<std::string, std::string> journals_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, spiffe::Bundle> bundles_ ABSL_GUARDED_BY(mutex_);
  absl::Status write_status_ ABSL_GUARDED_BY(mutex_), read_status_ ABSL_GUARDED_BY(mutex_);
  bool fail_after_commit_ ABSL_GUARDED_BY(mutex_) = false;
  int writes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace signet::fakes
