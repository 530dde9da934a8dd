// TokenUseStore in memory: the semantics of the real one, in the caller's thread, and hooks to damage what it holds.
// Thread-safe.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/datastore/token_store.h"

namespace signet::fakes {

class FakeTokenUseStore : public server::TokenUseStore {
 public:
  void Commit(server::Consume consume, absl::Time now, server::StatusCompletion done) override;
  absl::StatusOr<server::RefreshRecord> GetRefresh(const std::string& hash) override;
  void PruneUses(absl::Time now, server::Completion<size_t> done) override;
  absl::StatusOr<std::vector<server::AuditRecord>> ReadAudit(const std::string& server_id, uint64_t epoch,
                                                             uint64_t after_seq, size_t limit) override;
  absl::StatusOr<std::vector<server::AuditRecord>> ReadAuditOfChain(const std::string& txn, size_t limit) override;
  absl::StatusOr<server::AuditRecord> LastAudit(const std::string& server_id) override;
  absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> AuditChains() override;

  // --- for tests
  // -------------------------------------------------------------------------------------------------------
  void FailNext(absl::Status status);                       // the next commit
  std::vector<server::AuditRecord> audit() const;           // as it lies there
  void SetAudit(std::vector<server::AuditRecord> records);  // tampers
  void AddTask(const std::string& id, int64_t budget);
  int64_t reserved(const std::string& task) const;

 private:
  absl::Status Apply(const server::Consume& consume, absl::Time now);
  absl::Status Reserve(const server::Consume::Budget& budget);

  struct Task {
    int64_t budget = 0, reserved = 0;
    std::string instance, root_subject;
  };
  struct Given {
    int64_t calls = 0;
    absl::Time expires_at;
  };
  mutable std::mutex mutex_;
  absl::Status fail_next_;
  std::map<std::string, absl::Time> once_;
  std::map<std::string, server::RefreshRecord> refresh_;
  std::map<std::string, Task> tasks_;
  std::map<std::string, Given> given_;  // token -> to those exchanged for it
  std::vector<server::AuditRecord> audit_;
};

}  // namespace signet::fakes
