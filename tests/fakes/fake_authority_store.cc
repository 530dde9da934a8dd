#include "tests/fakes/fake_authority_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/datastore/bundle_change.h"

namespace signet::fakes {

absl::StatusOr<std::string> FakeAuthorityStore::LoadJournal(const std::string& server_id) {
  MutexLock lock(mutex_);
  if (!read_status_.ok()) return read_status_;
  const auto it = journals_.find(server_id);
  if (it == journals_.end()) return absl::NotFoundError(absl::StrCat("journal of \"", server_id, "\""));
  return it->second;
}

void FakeAuthorityStore::SaveJournal(const std::string& server_id, std::string journal,
                                     const spiffe::TrustDomain& trust_domain, server::BundleChange publish,
                                     server::Completion<spiffe::Bundle> done) {
  {
    MutexLock lock(mutex_);
    if (write_status_.ok() || fail_after_commit_) journals_[server_id] = std::move(journal);
  }
  ChangeBundle(trust_domain, std::move(publish), std::move(done));
}

absl::StatusOr<spiffe::Bundle> FakeAuthorityStore::GetBundle(const spiffe::TrustDomain& trust_domain) {
  MutexLock lock(mutex_);
  if (!read_status_.ok()) return read_status_;
  const auto it = bundles_.find(trust_domain.name());
  if (it == bundles_.end()) return absl::NotFoundError(absl::StrCat("bundle of \"", trust_domain.name(), "\""));
  return it->second;
}

absl::StatusOr<std::vector<spiffe::Bundle>> FakeAuthorityStore::ListBundles() {
  MutexLock lock(mutex_);
  std::vector<spiffe::Bundle> bundles;
  for (const auto& [name, bundle] : bundles_) bundles.push_back(bundle);
  return bundles;
}

void FakeAuthorityStore::ChangeBundle(const spiffe::TrustDomain& trust_domain, server::BundleChange change,
                                      server::Completion<spiffe::Bundle> done) {
  absl::StatusOr<spiffe::Bundle> result = absl::UnknownError("");
  {
    MutexLock lock(mutex_);
    ++writes_;
    if (write_status_.ok() || fail_after_commit_) {
      auto [it, created] = bundles_.try_emplace(trust_domain.name(), spiffe::Bundle{trust_domain, {}, {}});
      server::Apply(change, it->second);
      result = it->second;
    }
    if (!write_status_.ok()) result = write_status_;
  }
  done(std::move(result));
}

void FakeAuthorityStore::FailWrites(absl::Status status, bool after_commit) {
  MutexLock lock(mutex_);
  write_status_ = std::move(status);
  fail_after_commit_ = after_commit;
}

void FakeAuthorityStore::FailReads(absl::Status status) {
  MutexLock lock(mutex_);
  read_status_ = std::move(status);
}

void FakeAuthorityStore::SetJournal(const std::string& server_id, std::string journal) {
  MutexLock lock(mutex_);
  journals_[server_id] = std::move(journal);
}

std::map<std::string, std::string> FakeAuthorityStore::journals() {
  MutexLock lock(mutex_);
  return journals_;
}

int FakeAuthorityStore::writes() {
  MutexLock lock(mutex_);
  return writes_;
}

}  // namespace signet::fakes
