#include "tests/fakes/fake_token_use_store.h"

#include <utility>

#include "common/crypto/digest.h"

namespace signet::fakes {

using server::AuditRecord;

namespace {

absl::Status NoCallsLeft(absl::string_view whose) {
  absl::Status status = absl::ResourceExhaustedError("no calls left");
  status.SetPayload(server::kNoCallsLeftUrl, absl::Cord(whose));
  return status;
}

}  // namespace

absl::Status FakeTokenUseStore::Reserve(const server::Consume::Budget& budget) {
  const auto found = tasks_.find(budget.task);
  if (found == tasks_.end()) return absl::NotFoundError("no such task");
  Task& task = found->second;
  if ((!task.instance.empty() && task.instance != budget.instance) ||
      (!task.root_subject.empty() && task.root_subject != budget.root_subject)) {
    return absl::PermissionDeniedError("the task is bound to another");
  }
  if (task.budget > 0 && task.reserved + budget.calls > task.budget) return NoCallsLeft(server::kOfTask);
  task.instance = budget.instance;
  task.root_subject = budget.root_subject;
  task.reserved += budget.calls;
  return absl::OkStatus();
}

absl::Status FakeTokenUseStore::Apply(const server::Consume& consume, absl::Time now) {
  if (!fail_next_.ok()) return std::exchange(fail_next_, absl::OkStatus());
  for (const auto& [value, until] : consume.once) {
    const auto found = once_.find(value);
    if (found == once_.end() || found->second <= now) continue;
    absl::Status used = absl::AlreadyExistsError("used before");
    used.SetPayload(server::kUsedBeforeUrl, absl::Cord(value));
    return used;
  }
  if (consume.spend_refresh.has_value()) {
    const auto found = refresh_.find(*consume.spend_refresh);
    if (found == refresh_.end() || found->second.expires_at <= now) return absl::NotFoundError("no such refresh token");
    if (found->second.used) return absl::AbortedError("refresh token used before");
  }
  const auto given = consume.parent_calls.has_value() ? given_.find(consume.parent_calls->token) : given_.end();
  if (consume.parent_calls.has_value()) {
    const int64_t before = given != given_.end() ? given->second.calls : 0;
    if (consume.parent_calls->calls > consume.parent_calls->quota - before) return NoCallsLeft(server::kOfParent);
  }
  if (consume.budget.has_value()) {
    if (absl::Status status = Reserve(*consume.budget); !status.ok()) return status;
  }
  if (consume.parent_calls.has_value()) {
    Given& to = given_[consume.parent_calls->token];
    to.calls += consume.parent_calls->calls;
    to.expires_at = consume.parent_calls->expires_at;
  }
  for (const auto& [value, until] : consume.once) once_[value] = until;
  if (consume.spend_refresh.has_value()) {
    server::RefreshRecord& spent = refresh_[*consume.spend_refresh];
    spent.used = true;
    spent.used_at = now;
    spent.successor = consume.successor;
    spent.successor_for = consume.successor_for;
  }
  if (consume.new_refresh.has_value()) refresh_[consume.new_refresh->hash] = *consume.new_refresh;
  if (consume.audit.has_value()) {
    AuditRecord record{.server_id = consume.audit->server_id,
                       .epoch = consume.audit->epoch,
                       .seq = 1,
                       .body = {},
                       .hash = {},
                       .txn = consume.audit->txn};
    std::string previous;
    for (const AuditRecord& other : audit_) {
      if (other.server_id != record.server_id || other.epoch != record.epoch) continue;
      record.seq = other.seq + 1;
      previous = other.hash;
    }
    record.body = consume.audit->body(record.seq, previous);
    record.hash = crypto::Sha256(record.body);
    audit_.push_back(std::move(record));
  }
  return absl::OkStatus();
}

void FakeTokenUseStore::Commit(server::Consume consume, absl::Time now, server::StatusCompletion done) {
  absl::Status status;
  {
    std::lock_guard lock(mutex_);
    status = Apply(consume, now);
  }
  done(status);
}

absl::StatusOr<server::RefreshRecord> FakeTokenUseStore::GetRefresh(const std::string& hash) {
  std::lock_guard lock(mutex_);
  const auto found = refresh_.find(hash);
  if (found == refresh_.end()) return absl::NotFoundError("no such refresh token");
  return found->second;
}

void FakeTokenUseStore::PruneUses(absl::Time now, server::Completion<size_t> done) {
  size_t pruned = 0;
  {
    std::lock_guard lock(mutex_);
    pruned += std::erase_if(once_, [&](const auto& entry) { return entry.second <= now; });
    pruned += std::erase_if(refresh_, [&](const auto& entry) { return entry.second.expires_at <= now; });
    pruned += std::erase_if(given_, [&](const auto& entry) { return entry.second.expires_at <= now; });
  }
  done(pruned);
}

absl::StatusOr<std::vector<AuditRecord>> FakeTokenUseStore::ReadAudit(const std::string& server_id, uint64_t epoch,
                                                                      uint64_t after_seq, size_t limit) {
  std::lock_guard lock(mutex_);
  std::vector<AuditRecord> found;
  for (const AuditRecord& record : audit_) {
    if (record.server_id == server_id && record.epoch == epoch && record.seq > after_seq && found.size() < limit) {
      found.push_back(record);
    }
  }
  return found;
}

absl::StatusOr<std::vector<AuditRecord>> FakeTokenUseStore::ReadAuditOfChain(const std::string& txn, size_t limit) {
  std::lock_guard lock(mutex_);
  std::vector<AuditRecord> found;
  for (const AuditRecord& record : audit_) {
    if (record.txn == txn && found.size() < limit) found.push_back(record);
  }
  return found;
}

absl::StatusOr<AuditRecord> FakeTokenUseStore::LastAudit(const std::string& server_id) {
  std::lock_guard lock(mutex_);
  for (auto record = audit_.rbegin(); record != audit_.rend(); ++record) {
    if (record->server_id == server_id) return *record;
  }
  return absl::NotFoundError("no audit record");
}

absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> FakeTokenUseStore::AuditChains() {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, uint64_t>> chains;
  for (const AuditRecord& record : audit_) {
    std::pair<std::string, uint64_t> chain(record.server_id, record.epoch);
    if (chains.empty() || chains.back() != chain) chains.push_back(std::move(chain));
  }
  return chains;
}

void FakeTokenUseStore::FailNext(absl::Status status) {
  std::lock_guard lock(mutex_);
  fail_next_ = std::move(status);
}

std::vector<AuditRecord> FakeTokenUseStore::audit() const {
  std::lock_guard lock(mutex_);
  return audit_;
}

void FakeTokenUseStore::SetAudit(std::vector<AuditRecord> records) {
  std::lock_guard lock(mutex_);
  audit_ = std::move(records);
}

void FakeTokenUseStore::AddTask(const std::string& id, int64_t budget) {
  std::lock_guard lock(mutex_);
  tasks_[id].budget = budget;
}

int64_t FakeTokenUseStore::reserved(const std::string& task) const {
  std::lock_guard lock(mutex_);
  const auto found = tasks_.find(task);
  return found == tasks_.end() ? 0 : found->second.reserved;
}

}  // namespace signet::fakes
