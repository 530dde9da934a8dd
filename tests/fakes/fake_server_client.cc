#include "tests/fakes/fake_server_client.h"

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/csr.h"

namespace signet::fakes {

using agent::Chain;
using agent::Refusal;
using agent::SyncMessage;

class FakeSyncStream final : public agent::SyncStream {
 public:
  FakeSyncStream(FakeServerClient& server, std::shared_ptr<FakeServerClient::Feed> feed)
      : server_(server), feed_(std::move(feed)) {}
  ~FakeSyncStream() override {
    std::lock_guard lock(server_.mutex_);
    server_.feeds_.erase(feed_);
  }
  bool Want(std::vector<std::string> ids) override {
    std::lock_guard lock(server_.mutex_);
    if (feed_->end.has_value()) return false;
    SyncMessage delta;
    delta.seq = server_.seq_;
    for (const std::string& id : ids) {
      if (const auto it = server_.entries_.find(id); it != server_.entries_.end()) delta.upserts.push_back(it->second);
    }
    server_.calls_.wants.push_back(std::move(ids));
    feed_->messages.push_back(std::move(delta));
    Complete();
    return true;
  }
  bool Ack(uint64_t seq, std::map<std::string, uint32_t>) override {
    std::lock_guard lock(server_.mutex_);
    server_.calls_.last_ack = std::max(server_.calls_.last_ack, seq);
    server_.changed_.notify_all();
    return !feed_->end.has_value();
  }
  bool TokenInterest(bool wanted) override {
    std::lock_guard lock(server_.mutex_);
    server_.calls_.interests.push_back(wanted);
    server_.changed_.notify_all();
    return !feed_->end.has_value();
  }
  std::optional<SyncMessage> Next() override {
    std::lock_guard lock(server_.mutex_);
    if (feed_->messages.empty()) return std::nullopt;
    SyncMessage message = std::move(feed_->messages.front());
    feed_->messages.pop_front();
    return message;
  }
  std::optional<absl::Status> end() const override {
    std::lock_guard lock(server_.mutex_);
    return feed_->messages.empty() ? feed_->end : std::nullopt;
  }
  void Complete() {
    SyncMessage complete;
    complete.kind = SyncMessage::Kind::kComplete;
    complete.seq = server_.seq_;
    complete.epoch = absl::StrCat("epoch-", server_.epoch_);
    feed_->messages.push_back(std::move(complete));
    feed_->synced = true;
    feed_->on_event();
  }

 private:
  FakeServerClient& server_;
  const std::shared_ptr<FakeServerClient::Feed> feed_;
};

absl::Status FakeServerClient::Gate() const {
  if (down_) return absl::CancelledError("stopping");
  if (away_) return absl::UnavailableError("server is away");
  return refusal_ == Refusal::kNone ? absl::OkStatus() : agent::RefusalStatus(refusal_, "refused");
}

void FakeServerClient::EndAll(const absl::Status& why) {
  for (const auto& feed : feeds_) {
    if (feed->end.has_value()) continue;
    feed->end = why;
    feed->on_event();
  }
}

void FakeServerClient::Tell(SyncMessage message) {
  message.seq = ++seq_;
  for (const auto& feed : feeds_) {
    if (!feed->synced || feed->end.has_value()) continue;
    feed->messages.push_back(message);
    feed->on_event();
  }
}

void FakeServerClient::Put(spiffe::Entry entry) {
  std::lock_guard lock(mutex_);
  entries_.insert_or_assign(entry.id, entry);
  SyncMessage delta;
  delta.upserts.push_back(std::move(entry));
  Tell(std::move(delta));
}

void FakeServerClient::Remove(const std::string& id) {
  std::lock_guard lock(mutex_);
  entries_.erase(id);
  SyncMessage delta;
  delta.removed_ids.push_back(id);
  Tell(std::move(delta));
}

spiffe::Bundle FakeServerClient::bundle() {
  std::lock_guard lock(mutex_);
  return bundle_.value_or(authority_->bundle());
}

void FakeServerClient::SetBundle(spiffe::Bundle bundle) {
  std::lock_guard lock(mutex_);
  bundle_ = bundle;
  SyncMessage delta;
  delta.bundles.emplace_back(std::move(bundle), absl::StrCat(++bundle_revision_));
  Tell(std::move(delta));
}

void FakeServerClient::SetAway(bool away) {
  std::lock_guard lock(mutex_);
  away_ = away;
  if (away) EndAll(absl::UnavailableError("server is away"));
}

void FakeServerClient::Refuse(Refusal refusal) {
  std::lock_guard lock(mutex_);
  refusal_ = refusal;
  if (refusal != Refusal::kNone) EndAll(agent::RefusalStatus(refusal, "refused"));
}

void FakeServerClient::RefuseEvidence(absl::Status why) {
  std::lock_guard lock(mutex_);
  evidence_refused_ = std::move(why);
}

void FakeServerClient::Push(agent::SyncMessage message) {
  std::lock_guard lock(mutex_);
  for (const auto& feed : feeds_) {
    feed->messages.push_back(message);
    feed->on_event();
  }
}

void FakeServerClient::Notify(SyncMessage::Notice notice) {
  std::lock_guard lock(mutex_);
  SyncMessage message;
  message.kind = SyncMessage::Kind::kNotice;
  message.notice = notice;
  Tell(std::move(message));
}

void FakeServerClient::NewEpoch() {
  std::lock_guard lock(mutex_);
  ++epoch_;
  EndAll(absl::UnavailableError("restored"));
}

void FakeServerClient::OnlyPolling() {
  std::lock_guard lock(mutex_);
  only_polling_ = true;
}

void FakeServerClient::SetTtl(absl::Duration ttl) {
  std::lock_guard lock(mutex_);
  ttl_ = ttl;
}

void FakeServerClient::RefuseEntry(const std::string& id) {
  std::lock_guard lock(mutex_);
  refused_entries_.insert(id);
}

FakeServerClient::Calls FakeServerClient::calls() {
  std::lock_guard lock(mutex_);
  return calls_;
}

void FakeServerClient::Await(const std::function<bool(const Calls&)>& what) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return what(calls_); });
}

void FakeServerClient::Shutdown() {
  std::lock_guard lock(mutex_);
  down_ = true;
  EndAll(absl::CancelledError("stopping"));
}

bool FakeServerClient::MoveOn() {
  std::lock_guard lock(mutex_);
  ++calls_.moves;
  changed_.notify_all();
  return true;
}

absl::StatusOr<spiffe::Bundle> FakeServerClient::GetBundle() {
  std::lock_guard lock(mutex_);
  if (absl::Status status = Gate(); !status.ok()) return status;
  return bundle_.value_or(authority_->bundle());
}

absl::StatusOr<spiffe::Bundle> FakeServerClient::GetFederatedBundle(const std::string& trust_domain) {
  return absl::NotFoundError(trust_domain);
}

Chain FakeServerClient::Sign(const std::string& csr, const spiffe::Id& id) const {
  return authority_->Sign(crypto::CertificateRequest::ParseAndVerify(csr)->public_key(), id, clock_.Now(), ttl_);
}

absl::StatusOr<agent::Attested> FakeServerClient::Attest(agent::NodeAttestor& attestor, const std::string& csr) {
  const absl::StatusOr<std::string> payload = attestor.Payload();
  std::lock_guard lock(mutex_);
  ++calls_.attests;
  changed_.notify_all();
  if (away_) return absl::UnavailableError("server is away");
  if (!payload.ok()) return payload.status();
  if (refusal_ == Refusal::kBanned) return agent::RefusalStatus(refusal_, "banned");
  if (!evidence_refused_.ok()) return evidence_refused_;
  refusal_ = Refusal::kNone;
  return agent::Attested{Sign(csr, agent::IdOf("/spire/agent/test/node")), false};
}

absl::StatusOr<Chain> FakeServerClient::Renew(const std::string& csr) {
  std::lock_guard lock(mutex_);
  ++calls_.renews;
  changed_.notify_all();
  if (absl::Status status = Gate(); !status.ok()) return status;
  return Sign(csr, agent::IdOf("/spire/agent/test/node"));
}

absl::StatusOr<std::vector<absl::StatusOr<Chain>>> FakeServerClient::NewX509Svids(
    const std::vector<std::pair<std::string, std::string>>& csrs) {
  std::lock_guard lock(mutex_);
  ++calls_.mints;
  changed_.notify_all();
  if (absl::Status status = Gate(); !status.ok()) return status;
  std::vector<absl::StatusOr<Chain>> chains;
  std::vector<std::string> ids;
  for (const auto& [id, csr] : csrs) {
    ids.push_back(id);
    const auto entry = entries_.find(id);
    if (entry == entries_.end() || refused_entries_.contains(id)) {
      chains.emplace_back(absl::NotFoundError("no such entry"));
      continue;
    }
    ++calls_.minted;
    chains.emplace_back(Sign(csr, entry->second.spiffe_id));
  }
  calls_.batches.push_back(std::move(ids));
  return chains;
}

void FakeServerClient::NewJwt(const std::string& entry_id, const std::vector<std::string>&,
                              std::function<void(absl::StatusOr<agent::MintedJwt>)> done) {
  absl::StatusOr<agent::MintedJwt> minted = absl::NotFoundError("no such entry");
  {
    std::lock_guard lock(mutex_);
    ++calls_.jwts;
    changed_.notify_all();
    if (const absl::Status status = Gate(); !status.ok()) {
      minted = status;
    } else if (const auto entry = entries_.find(entry_id); entry != entries_.end()) {
      minted = agent::MintedJwt{absl::StrCat("token-", calls_.jwts), "k", entry->second.spiffe_id, clock_.Now(),
                                clock_.Now() + absl::Minutes(5)};
    }
  }
  done(std::move(minted));
}

std::unique_ptr<agent::SyncStream> FakeServerClient::OpenSync(const agent::SyncHello& hello,
                                                              std::function<void()> on_event) {
  std::lock_guard lock(mutex_);
  ++calls_.streams;
  changed_.notify_all();
  auto feed = std::make_shared<Feed>();
  feed->on_event = std::move(on_event);
  auto stream = std::make_unique<FakeSyncStream>(*this, feed);
  absl::Status gate = Gate();
  if (gate.ok() && only_polling_) gate = absl::UnimplementedError("unknown service");
  feeds_.insert(feed);
  if (!gate.ok()) {
    feed->end = gate;
    feed->on_event();
    return stream;
  }
  const auto revision = hello.bundle_revisions.find("example.org");
  if (revision == hello.bundle_revisions.end() || revision->second != absl::StrCat(bundle_revision_)) {
    SyncMessage bundles;
    bundles.bundles.emplace_back(bundle_.value_or(authority_->bundle()), absl::StrCat(bundle_revision_));
    feed->messages.push_back(std::move(bundles));
  }
  std::vector<spiffe::EntryVersion> versions;
  for (const auto& [id, entry] : entries_) versions.push_back({id, entry.revision, entry.created_at});
  if (hello.epoch == absl::StrCat("epoch-", epoch_) && hello.digest == spiffe::EntryDigest(std::move(versions))) {
    stream->Complete();
    return stream;
  }
  SyncMessage revisions;
  revisions.kind = SyncMessage::Kind::kRevisions;
  revisions.last_revisions = true;
  for (const auto& [id, entry] : entries_) revisions.revisions.push_back({id, entry.revision, entry.created_at});
  feed->messages.push_back(std::move(revisions));
  feed->on_event();
  return stream;
}

absl::StatusOr<std::vector<spiffe::Entry>> FakeServerClient::AuthorizedEntries(
    const std::vector<std::shared_ptr<const spiffe::Entry>>&) {
  std::lock_guard lock(mutex_);
  ++calls_.polls;
  changed_.notify_all();
  if (absl::Status status = Gate(); !status.ok()) return status;
  std::vector<spiffe::Entry> entries;
  for (const auto& [_, entry] : entries_) entries.push_back(entry);
  return entries;
}

}  // namespace signet::fakes
