#include "agent/sync/synchronizer.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/csr.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/spiffe/entry_digest.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr crypto::KeyType kKeyType = crypto::KeyType::kEcP256;
constexpr absl::Duration kReopenSpread = absl::Seconds(5);  // so that agents do not all shake hands at once
// The sealed cache is written at once after a change, then rests nine times as long as the writing took: what a kill -9
// may lose is milliseconds old, and a large cache never takes more than a tenth of this thread.
constexpr int kSealRest = 9;
constexpr absl::Duration kSealRetry = absl::Seconds(1);

// Without the payload, which is for programs.
std::string Text(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
}

bool SameVersion(const spiffe::Entry& entry, const EntryRevision& revision) {
  return entry.revision == revision.revision && entry.created_at == revision.created_at;
}

// Authorities of `before` that `now` no longer has.
bool LostAuthority(const spiffe::Bundle& before, const spiffe::Bundle& now) {
  return std::any_of(
      before.x509_authorities.begin(), before.x509_authorities.end(), [&](const spiffe::X509Authority& old) {
        return std::none_of(now.x509_authorities.begin(), now.x509_authorities.end(),
                            [&](const spiffe::X509Authority& kept) { return kept.certificate == old.certificate; });
      });
}

absl::Duration Spread(absl::Duration up_to) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return up_to * std::uniform_real_distribution<double>(0, 1)(random);
}

// A refusal that trying again does not mend.
bool IsFinal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

}  // namespace

Synchronizer::Synchronizer(Options options, Deps deps) : options_(std::move(options)), deps_(std::move(deps)) {
  deps_.cache.SetJwtMinter([this](const EntryPtr& entry, const std::vector<std::string>& audience,
                                  std::function<void(absl::StatusOr<MintedJwt>)> done) {
    deps_.client.NewJwt(entry->id, audience, [this, done = std::move(done)](absl::StatusOr<MintedJwt> minted) {
      if (const Refusal refusal = RefusalOf(minted.status()); refusal != Refusal::kNone) {
        told_refusal_ = refusal;  // the mint worker acts on it: this is a thread of gRPC's
        mint_->Wake();
      }
      done(std::move(minted));
    });
  });
  deps_.health.SetUnready("server", "not yet in touch with the server");
  deps_.health.SetUnready("identity", "the agent has not attested yet");
}

Synchronizer::~Synchronizer() { Stop(); }

void Synchronizer::Restore() {
  if (deps_.sealed == nullptr) return;
  absl::StatusOr<SealedState> state = deps_.sealed->Load();
  if (!state.ok()) {
    if (!absl::IsNotFound(state.status())) {
      SIGNET_LOG(error, "the sealed cache cannot be used", {{"error", state.status().message()}});
    }
    return;
  }
  MemorySvidCache::Change change;
  for (const EntryPtr& entry : state->snapshot.entries) change.upserts.push_back(*entry);
  for (const BundlePtr& bundle : state->snapshot.bundles) change.bundles.push_back(*bundle);
  deps_.cache.Apply(std::move(change));
  const size_t svids = state->snapshot.svids.size();
  deps_.cache.SetSvids(std::move(state->snapshot.svids));
  {
    MutexLock lock(mutex_);
    epoch_ = state->epoch;
    bundle_revisions_ = std::move(state->bundle_revisions);
  }
  if (deps_.cache.OwnBundle() == nullptr) return;
  restored_ = true;
  sealed_version_ = deps_.cache.version();
  deps_.cache.SetOffline(true);
  deps_.cache.SetReady(absl::InfinitePast());
  deps_.health.SetDegraded("server", "serving what was held before the restart; the server has not answered yet");
  SIGNET_LOG(info, "serving from the sealed cache",
             {{"entries", state->snapshot.entries.size()}, {"x509_svids", svids}});
}

void Synchronizer::Start() {
  deps_.cache.SetOnWanted([this] {
    if (started_) mint_->Wake();
  });
  ever_attested_ = deps_.identity.svid() != nullptr;
  if (ever_attested_) deps_.health.SetReady("identity");
  seal_ = std::make_unique<Worker>("seal", deps_.clock, [this] { return SealJob(); });
  mint_ = std::make_unique<Worker>("mint", deps_.clock, [this] { return MintJob(); });
  sync_ = std::make_unique<Worker>("sync", deps_.clock, [this] { return SyncJob(); });
  started_ = true;  // they wake each other: none works before all are there
  for (std::unique_ptr<Worker>* worker : {&seal_, &mint_, &sync_}) (*worker)->Wake();
}

void Synchronizer::Stop() {
  deps_.client.Shutdown();
  for (std::unique_ptr<Worker>* worker : {&sync_, &mint_, &seal_}) {
    if (*worker != nullptr) (*worker)->Stop();
  }
  stream_.reset();
  if (seal_ != nullptr && !dead_) {
    seal_not_before_ = absl::ZeroDuration();
    SealJob();
  }
}

void Synchronizer::Fatal(absl::Status why) {
  if (dead_.exchange(true)) return;
  SIGNET_LOG(error, "the agent cannot go on", {{"error", why.message()}});
  deps_.health.SetUnready("identity", why.message());
  deps_.on_fatal(std::move(why));
}

void Synchronizer::OnRefusal(const absl::Status& why) {
  switch (RefusalOf(why)) {
    case Refusal::kNone:
      return;
    case Refusal::kBanned: {
      // Order: what a restart would use first.
      if (deps_.sealed != nullptr) {
        if (const absl::Status status = deps_.sealed->Destroy(); !status.ok()) {
          SIGNET_LOG(error, "the sealed cache of a banned agent is still there", {{"error", status.message()}});
        }
      }
      if (const absl::Status status = deps_.identity.ForgetSvid(); !status.ok()) {
        SIGNET_LOG(error, "the SVID of a banned agent is still on disk", {{"error", status.message()}});
      }
      return Fatal(
          absl::PermissionDeniedError("the server has banned this agent; an operator can lift it (signet agent evict), "
                                      "then it attests anew"));
    }
    default:
      if (!must_attest_.exchange(true)) {
        SIGNET_LOG(warn, "the server wants this agent to attest again", {{"reason", why.message()}});
      }
      server_is_back_ = true;
      mint_->Wake();
  }
}

void Synchronizer::LoseServer(const absl::Status& why, absl::string_view part) {
  if (dead_ || absl::IsCancelled(why)) return;
  deps_.metrics.sync_failures.Add();
  deps_.cache.SetOffline(true);
  const std::string reason =
      absl::StrCat("the server does not serve this agent (", Text(why), "); what is held is served on");
  if (deps_.cache.ready()) {
    deps_.health.SetDegraded("server", reason);
  } else {
    deps_.health.SetUnready("server", reason);
  }
  if (!server_away_.exchange(true)) {
    SIGNET_LOG(warn, "server lost; serving what is held", {{"part", part}, {"error", Text(why)}});
  } else {
    SIGNET_LOG(debug, "server still away", {{"part", part}, {"error", Text(why)}});
  }
}

// --- sync worker
// -------------------------------------------------------------------------------------------------------

SyncHello Synchronizer::MakeHello() {
  SyncHello hello;
  std::vector<spiffe::EntryVersion> versions;
  const std::vector<EntryPtr> entries = deps_.cache.AllEntries();
  for (const EntryPtr& entry : entries) versions.push_back({entry->id, entry->revision, entry->created_at});
  MutexLock lock(mutex_);
  hello.epoch = epoch_;
  if (!epoch_.empty()) hello.digest = spiffe::EntryDigest(std::move(versions));
  hello.bundle_revisions = bundle_revisions_;
  return hello;
}

absl::Duration Synchronizer::SyncJob() {
  if (!started_ || dead_) return absl::InfiniteDuration();
  if (deps_.identity.Expired() || must_attest_) {
    stream_.reset();
    return absl::InfiniteDuration();  // the mint worker wakes us
  }
  if (polling_) return PollJob();
  if (identity_changed_.exchange(false) || deps_.clock.Steady() >= reopen_at_) {
    reopen_at_ = absl::InfiniteDuration();
    deps_.client.Reconnect();
    stream_.reset();
  }
  if (stream_ == nullptr) {
    listed_.reset();
    stream_ = deps_.client.OpenSync(MakeHello(), [this] { sync_->Wake(); });
  }
  return OnMessages();
}

absl::Duration Synchronizer::OnMessages() {
  uint64_t seq = 0;
  bool any = false;
  while (std::optional<SyncMessage> message = stream_->Next()) {
    any = true;
    seq = std::max(seq, message->seq);
    switch (message->kind) {
      case SyncMessage::Kind::kRevisions:
        OnRevisions(*message);
        break;
      case SyncMessage::Kind::kDelta:
        OnDelta(*message);
        break;
      case SyncMessage::Kind::kComplete:
        OnComplete(*message);
        break;
      case SyncMessage::Kind::kNotice:
        return OnNotice(*message);
    }
  }
  if (any) {
    deps_.metrics.last_sync_seconds.Set(static_cast<double>(absl::ToUnixSeconds(deps_.clock.Now())));
    SIGNET_FAILPOINT("sync.before_ack");
    if (seq > 0) stream_->Ack(seq, deps_.cache.SvidsByAuthority());
  }
  if (const std::optional<absl::Status> end = stream_->end()) return OnStreamEnd(*end);
  return reopen_at_ - deps_.clock.Steady();
}

void Synchronizer::OnRevisions(SyncMessage& message) {
  if (!listed_.has_value()) listed_.emplace();
  for (EntryRevision& revision : message.revisions) {
    const std::string id = revision.id;
    (*listed_)[id] = std::move(revision);
  }
  if (!message.last_revisions) return;
  std::vector<std::string> want;
  for (const auto& [id, revision] : *listed_) {
    const EntryPtr held = deps_.cache.FindEntry(id);
    if (held == nullptr || !SameVersion(*held, revision)) want.push_back(id);
  }
  stream_->Want(std::move(want));
}

void Synchronizer::OnDelta(SyncMessage& message) {
  if (listed_.has_value()) {
    for (const spiffe::Entry& entry : message.upserts)
      (*listed_)[entry.id] = {entry.id, entry.revision, entry.created_at};
    for (const std::string& id : message.removed_ids) listed_->erase(id);
  }
  MemorySvidCache::Change change{
      std::move(message.upserts), std::move(message.removed_ids), {}, std::move(message.removed_bundles)};
  std::map<std::string, std::string> revisions;
  for (auto& [bundle, revision] : message.bundles) {
    revisions[bundle.trust_domain.name()] = revision;
    change.bundles.push_back(std::move(bundle));
  }
  ApplyChange(std::move(change), std::move(revisions));
}

void Synchronizer::OnComplete(const SyncMessage& message) {
  if (listed_.has_value()) {  // the list is whole: only now may what is not on it go
    MemorySvidCache::Change change;
    for (const EntryPtr& entry : deps_.cache.AllEntries()) {
      if (!listed_->contains(entry->id)) change.removed_ids.push_back(entry->id);
    }
    listed_.reset();
    if (!change.removed_ids.empty()) ApplyChange(std::move(change), {});
  }
  {
    MutexLock lock(mutex_);
    epoch_ = message.epoch;
  }
  Synced();
}

void Synchronizer::Synced() {
  sync_backoff_.Reset();
  if (deps_.cache.OwnBundle() == nullptr) return;  // nothing can be verified yet
  synced_ = true;
  deps_.cache.SetOffline(false);
  deps_.cache.SetReady(deps_.clock.Now());
  deps_.health.SetReady("server");
  if (server_away_.exchange(false)) SIGNET_LOG(info, "server is back");
  server_is_back_ = true;
  mint_->Wake();
  seal_->Wake();
  if (std::exchange(told_status_, true)) return;
  if (const absl::Status status = deps_.client.PostStatus(deps_.cache.OwnBundle()->sequence_number); !status.ok()) {
    SIGNET_LOG(debug, "the agent's status could not be told", {{"error", status.message()}});
  }
}

// Memory first, so that workloads are told without waiting for the disk; then the log, and only then may the server be
// told that the change has arrived.
void Synchronizer::ApplyChange(MemorySvidCache::Change change, std::map<std::string, std::string> bundle_revisions) {
  Withdrawal withdrawal;
  if (deps_.sealed != nullptr) {
    for (const std::string& id : change.removed_ids) {
      if (deps_.cache.FindEntry(id) != nullptr) withdrawal.removed_ids.push_back(id);
    }
    for (const spiffe::Entry& entry : change.upserts) {
      const EntryPtr held = deps_.cache.FindEntry(entry.id);
      if (held != nullptr && *held != entry) withdrawal.changed.push_back(entry);
    }
    for (const spiffe::Bundle& bundle : change.bundles) {
      const BundlePtr held = deps_.cache.FindBundle(bundle.trust_domain.name());
      if (held != nullptr && *held != bundle)
        withdrawal.bundles.emplace_back(bundle, bundle_revisions[bundle.trust_domain.name()]);
    }
    withdrawal.removed_bundles = change.removed_bundles;
  }
  const BundlePtr before = deps_.cache.OwnBundle();
  const std::vector<std::string> removed_bundles = change.removed_bundles;
  deps_.cache.Apply(std::move(change));
  {
    // After the bundles themselves: a snapshot in between is told again, not left behind.
    MutexLock lock(mutex_);
    for (const std::string& name : removed_bundles) bundle_revisions_.erase(name);
    for (const auto& [name, revision] : bundle_revisions) bundle_revisions_[name] = revision;
  }
  if (!withdrawal.empty()) {
    if (const absl::Status status = deps_.sealed->Withdraw(withdrawal); !status.ok()) {
      deps_.health.SetDegraded("storage", status.message());
      SIGNET_LOG(error, "a withdrawal is not durable", {{"error", status.message()}});
    } else {
      deps_.health.SetReady("storage");
    }
  }
  if (const BundlePtr now = deps_.cache.OwnBundle(); now != before) OnOwnBundle(before, now);
  seal_->Wake();
}

void Synchronizer::OnOwnBundle(const BundlePtr& before, const BundlePtr& now) {
  if (const absl::Status status = deps_.identity.SetBundle(*now); !status.ok()) {
    deps_.health.SetDegraded("storage", status.message());
    SIGNET_LOG(error, "the trust bundle cannot be stored", {{"error", status.message()}});
  }
  // A connection made under an authority that has gone must not live on (N8).
  if (before != nullptr && LostAuthority(*before, *now)) reopen_at_ = deps_.clock.Steady() + Spread(kReopenSpread);
}

absl::Duration Synchronizer::OnNotice(const SyncMessage& message) {
  stream_.reset();
  switch (message.notice) {
    case SyncMessage::Notice::kBanned:
      OnRefusal(RefusalStatus(Refusal::kBanned, "banned"));
      return absl::InfiniteDuration();
    case SyncMessage::Notice::kEvicted:
      OnRefusal(RefusalStatus(Refusal::kNotAttested, "evicted"));
      return absl::InfiniteDuration();  // the mint worker wakes us
    default:
      deps_.client.MoveOn();
      return message.delay;  // jittered by the server
  }
}

absl::Duration Synchronizer::OnStreamEnd(const absl::Status& why) {
  stream_.reset();
  synced_ = false;
  if (dead_ || absl::IsCancelled(why)) return identity_changed_ ? absl::ZeroDuration() : sync_backoff_.Next();
  if (absl::IsUnimplemented(why)) {
    SIGNET_LOG(info, "the server does not push; asking it instead",
               {{"every", absl::FormatDuration(options_.poll_every)}});
    polling_ = true;
    return absl::ZeroDuration();
  }
  if (identity_changed_) return absl::ZeroDuration();  // ended because its SVID was replaced
  LoseServer(why, "sync");
  OnRefusal(why);
  if (!deps_.client.MoveOn()) return absl::Milliseconds(50);  // another address at once
  return sync_backoff_.Next();
}

absl::Duration Synchronizer::PollJob() {
  if (identity_changed_.exchange(false)) deps_.client.Reconnect();
  const auto poll = [&]() -> absl::Status {
    const std::vector<EntryPtr> held = deps_.cache.AllEntries();
    SIGNET_ASSIGN_OR_RETURN(std::vector<spiffe::Entry> entries, deps_.client.AuthorizedEntries(held));
    MemorySvidCache::Change change;
    std::set<std::string> ids, federated;
    for (spiffe::Entry& entry : entries) {
      ids.insert(entry.id);
      federated.insert(entry.federates_with.begin(), entry.federates_with.end());
      const EntryPtr known = deps_.cache.FindEntry(entry.id);
      if (known == nullptr || *known != entry) change.upserts.push_back(std::move(entry));
    }
    for (const EntryPtr& entry : held) {
      if (!ids.contains(entry->id)) change.removed_ids.push_back(entry->id);
    }
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle own, deps_.client.GetBundle());
    change.bundles.push_back(std::move(own));
    federated.erase(options_.trust_domain.name());
    for (const std::string& name : federated) {
      absl::StatusOr<spiffe::Bundle> bundle = deps_.client.GetFederatedBundle(name);
      if (bundle.ok()) {
        change.bundles.push_back(*std::move(bundle));
      } else if (absl::IsNotFound(bundle.status())) {
        change.removed_bundles.push_back(name);
      } else {
        return bundle.status();
      }
    }
    for (const BundlePtr& bundle : deps_.cache.AllBundles()) {
      const std::string& name = bundle->trust_domain.name();
      if (name != options_.trust_domain.name() && !federated.contains(name)) change.removed_bundles.push_back(name);
    }
    ApplyChange(std::move(change), {});
    return absl::OkStatus();
  };
  if (const absl::Status status = poll(); !status.ok()) {
    synced_ = polling_ = false;  // what answers next may be able to push
    LoseServer(status, "poll");
    OnRefusal(status);
    deps_.client.MoveOn();
    return sync_backoff_.Next();
  }
  Synced();
  return options_.poll_every;
}

// --- mint worker
// -------------------------------------------------------------------------------------------------------

absl::Duration Synchronizer::MintJob() {
  if (!started_ || dead_) return absl::InfiniteDuration();
  if (const Refusal refusal = told_refusal_.exchange(Refusal::kNone); refusal != Refusal::kNone) {
    OnRefusal(RefusalStatus(refusal, "told when a token was asked for"));
  }
  if (server_is_back_.exchange(false)) {
    mint_backoff_.Reset();
    identity_backoff_.Reset();
    mint_not_before_ = identity_not_before_ = absl::ZeroDuration();
  }
  const Instant now{deps_.clock.Now(), deps_.clock.Steady()};
  absl::Duration next = KeepIdentity(now);
  if (dead_) return absl::InfiniteDuration();
  if (deps_.identity.Expired()) return std::min(next, DropEnded(now));

  const RefreshPlan plan = MakeRefreshPlan(deps_.cache.PlanItems(), now);
  if (!plan.drop.empty()) deps_.cache.DropSvids(plan.drop);
  next = std::min(next, plan.next);
  if (now.steady < mint_not_before_ && !plan.fetch.empty()) return std::min(next, mint_not_before_ - now.steady);
  std::vector<std::string> batch;
  for (const std::string& id : plan.fetch) {
    if (const auto it = refused_until_.find(id); it != refused_until_.end()) {
      if (now.steady < it->second) {
        next = std::min(next, it->second - now.steady);
        continue;
      }
      refused_until_.erase(it);
    }
    batch.push_back(id);
    if (batch.size() == options_.batch) break;
  }
  if (batch.empty()) return next;
  if (const absl::Status status = MintBatch(batch); !status.ok()) {
    LoseServer(status, "mint");
    OnRefusal(status);
    const absl::Duration wait = mint_backoff_.Next();
    mint_not_before_ = deps_.clock.Steady() + wait;
    return std::min(next, wait);
  }
  mint_backoff_.Reset();
  deps_.cache.SetOffline(false);
  if (synced_ && server_away_.exchange(false)) {
    SIGNET_LOG(info, "server is back");
    deps_.health.SetReady("server");
  }
  return absl::ZeroDuration();  // what remains, and what has come meanwhile
}

absl::Duration Synchronizer::DropEnded(Instant now) {
  const RefreshPlan plan = MakeRefreshPlan(deps_.cache.PlanItems(), now);
  if (!plan.drop.empty()) deps_.cache.DropSvids(plan.drop);
  return plan.next;
}

bool Synchronizer::OwnAuthorityIsTainted() const {
  const BundlePtr bundle = deps_.cache.OwnBundle();
  const auto svid = deps_.identity.svid();
  return bundle != nullptr && svid != nullptr && ChainsToTainted(*bundle, svid->chain);
}

absl::Duration Synchronizer::KeepIdentity(Instant now) {
  const bool needed = deps_.cache.OwnBundle() == nullptr || deps_.identity.Expired() || must_attest_;
  if (!needed) {
    const bool better = deps_.identity.Due() || OwnAuthorityIsTainted();
    if (!better) return deps_.identity.UntilDue();
    if (now.steady < no_better_before_) return no_better_before_ - now.steady;
  }
  if (now.steady < identity_not_before_) return identity_not_before_ - now.steady;
  const absl::Status status = RefreshIdentity();
  if (status.ok()) {
    identity_backoff_.Reset();
    if (!OwnAuthorityIsTainted() && !deps_.identity.Due()) return deps_.identity.UntilDue();
    no_better_before_ = deps_.clock.Steady() + options_.retry_refused;  // the server gives nothing better now
    return options_.retry_refused;
  }
  if (dead_) return absl::InfiniteDuration();
  LoseServer(status, "identity");
  OnRefusal(status);
  if (deps_.identity.Expired()) {
    const std::string reason = absl::StrCat("the agent has no SVID of its own: ", status.message());
    if (deps_.cache.ready()) {
      deps_.health.SetDegraded("identity", reason);  // what is held is served all the same
    } else {
      deps_.health.SetUnready("identity", reason);
    }
    SIGNET_LOG(warn, "the agent has not attested; trying again", {{"error", Text(status)}});
    deps_.client.MoveOn();
  }
  const absl::Duration wait = identity_backoff_.Next();
  identity_not_before_ = deps_.clock.Steady() + wait;
  return wait;
}

absl::Status Synchronizer::RefreshIdentity() {
  if (deps_.cache.OwnBundle() == nullptr) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle bundle, deps_.first_trust(), "first trust");
    SIGNET_RETURN_IF_ERROR(deps_.identity.SetBundle(bundle));
    MemorySvidCache::Change change;
    change.bundles.push_back(std::move(bundle));
    deps_.cache.Apply(std::move(change));
  }
  const bool must = deps_.identity.Expired() || must_attest_;
  if (!must && !(deps_.attestor != nullptr && deps_.identity.reattestable())) {
    SIGNET_RETURN_IF_ERROR(Renew());
  } else if (const absl::Status status = Attest(); !status.ok()) {
    // The server has refused the evidence. With something left to serve, go on until it ends; else this is the end.
    if (IsFinal(status) && must && (must_attest_ || deps_.cache.counts().x509_svids == 0)) GiveUp(status);
    return status;
  }
  SIGNET_LOG(info, ever_attested_ ? "the agent's SVID is renewed" : "the agent has attested",
             {{"id", deps_.identity.svid()->id.string()}});
  ever_attested_ = true;
  must_attest_ = false;
  identity_changed_ = true;
  deps_.health.SetReady("identity");
  deps_.client.Reconnect();
  sync_->Wake();
  return absl::OkStatus();
}

void Synchronizer::GiveUp(const absl::Status& why) {
  if (must_attest_) {  // evicted: a restart serves nothing either
    if (deps_.sealed != nullptr) (void)deps_.sealed->Destroy();
    (void)deps_.identity.ForgetSvid();
  }
  Fatal(WithContext(
      why, "attestation is refused; give the agent fresh evidence (such as a new join token) and start it again"));
}

absl::Status Synchronizer::Attest() {
  if (deps_.attestor == nullptr) {
    return absl::FailedPreconditionError(
        "the agent must attest, and the configuration names no node_attestor; add one");
  }
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(kKeyType));
  SIGNET_ASSIGN_OR_RETURN(const std::string csr, crypto::CertificateRequest::Create(key, {}));
  SIGNET_ASSIGN_OR_RETURN(Attested attested, deps_.client.Attest(*deps_.attestor, csr));
  SIGNET_FAILPOINT_STATUS("sync.after_attest");
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(attested.chain), std::move(key)));
  if (!svid.id.IsMemberOf(options_.trust_domain) || !spiffe::IsAgentId(svid.id)) {
    return absl::InternalError(absl::StrCat("the server attested us as ", svid.id.string(), ", which is no agent of ",
                                            options_.trust_domain.name()));
  }
  if (const absl::Status status = deps_.identity.SetSvid(std::move(svid), attested.reattestable); !status.ok()) {
    SIGNET_LOG(error, "the agent's SVID cannot be stored; a restart will have to attest",
               {{"error", status.message()}});
  }
  return absl::OkStatus();
}

absl::Status Synchronizer::Renew() {
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(kKeyType));
  SIGNET_ASSIGN_OR_RETURN(const std::string csr, crypto::CertificateRequest::Create(key, {}));
  SIGNET_ASSIGN_OR_RETURN(Chain chain, deps_.client.Renew(csr));
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), std::move(key)));
  const auto before = deps_.identity.svid();
  if (before == nullptr || svid.id != before->id) {
    return absl::InternalError(absl::StrCat("the server renewed us as ", svid.id.string()));
  }
  if (const absl::Status status = deps_.identity.SetSvid(std::move(svid), deps_.identity.reattestable());
      !status.ok()) {
    SIGNET_LOG(error, "the agent's SVID cannot be stored; a restart will have to attest",
               {{"error", status.message()}});
  }
  return absl::OkStatus();
}

absl::Status Synchronizer::MintBatch(const std::vector<std::string>& ids) {
  std::vector<EntryPtr> entries;
  std::vector<crypto::PrivateKey> keys;
  std::vector<std::pair<std::string, std::string>> csrs;
  for (const std::string& id : ids) {
    const EntryPtr entry = deps_.cache.FindEntry(id);
    if (entry == nullptr) continue;
    SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(kKeyType));
    SIGNET_ASSIGN_OR_RETURN(std::string csr, crypto::CertificateRequest::Create(key, {entry->spiffe_id.string()}));
    csrs.emplace_back(id, std::move(csr));
    keys.push_back(std::move(key));
    entries.push_back(entry);
  }
  if (csrs.empty()) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(std::vector<absl::StatusOr<Chain>> chains, deps_.client.NewX509Svids(csrs));
  SIGNET_FAILPOINT_STATUS("sync.after_mint");

  std::vector<HeldSvid> minted;
  std::vector<std::string> refused;
  const BundlePtr own = deps_.cache.OwnBundle();
  const Instant now{deps_.clock.Now(), deps_.clock.Steady()};
  for (size_t i = 0; i < chains.size(); ++i) {
    const auto accept = [&]() -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(Chain chain, std::move(chains[i]));
      SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), keys[i]));
      if (svid.id != entries[i]->spiffe_id) return absl::InternalError(absl::StrCat("signed for ", svid.id.string()));
      const crypto::Certificate& leaf = svid.leaf();
      SvidLife life =
          SvidLife::Received(leaf.not_before(), leaf.not_after(), RenewalJitter(entries[i]->id, leaf.serial()), now);
      if (!life.wall_agrees) {
        SIGNET_LOG(warn, "the clocks of agent and server disagree; this SVID is aged by the time since its arrival",
                   {{"entry", entries[i]->id},
                    {"not_before", absl::FormatTime(leaf.not_before())},
                    {"now", absl::FormatTime(now.wall)}});
      }
      // A server that still signs with a tainted key, or gives next to no life, is not asked in a circle.
      if (life.Due(now) || (own != nullptr && ChainsToTainted(*own, svid.chain))) {
        refused_until_[entries[i]->id] = now.steady + options_.retry_refused;
      }
      minted.push_back({entries[i], std::make_shared<const spiffe::X509Svid>(std::move(svid)), life});
      return absl::OkStatus();
    };
    if (const absl::Status status = accept(); !status.ok()) {
      refused.push_back(entries[i]->id);
      refused_until_[entries[i]->id] = now.steady + options_.retry_refused;
      SIGNET_LOG(warn, "the server signed no SVID for an entry", {{"entry", entries[i]->id}, {"error", Text(status)}});
    }
  }
  deps_.metrics.x509_rotations.Add(static_cast<double>(minted.size()));
  if (!minted.empty()) deps_.cache.SetSvids(std::move(minted));
  if (!refused.empty()) deps_.cache.SetRefused(refused);
  seal_->Wake();
  return absl::OkStatus();
}

// --- seal worker
// -------------------------------------------------------------------------------------------------------

SealedState Synchronizer::TakeState() const {
  SealedState state;
  {
    MutexLock lock(mutex_);
    state.epoch = epoch_;
    state.bundle_revisions = bundle_revisions_;
  }
  state.snapshot = deps_.cache.Snapshot();
  return state;
}

absl::Duration Synchronizer::SealJob() {
  if (!started_ || deps_.sealed == nullptr || dead_ || !deps_.cache.ready()) return absl::InfiniteDuration();
  const uint64_t version = deps_.cache.version();
  if (version == sealed_version_) return absl::InfiniteDuration();
  const absl::Duration now = deps_.clock.Steady();
  if (now < seal_not_before_) return seal_not_before_ - now;
  const absl::Status status = deps_.sealed->Write([&] { return TakeState(); });
  if (status.ok()) {
    sealed_version_ = version;
    deps_.health.SetReady("sealed_cache");
  } else {
    deps_.health.SetDegraded("sealed_cache",
                             absl::StrCat(status.message(), "; a restart without the server serves an older state"));
    SIGNET_LOG(warn, "the sealed cache cannot be written", {{"error", status.message()}});
  }
  const absl::Duration after = deps_.clock.Steady();
  seal_not_before_ = after + (status.ok() ? kSealRest * (after - now) : kSealRetry);
  return seal_not_before_ - after;
}

}  // namespace signet::agent
