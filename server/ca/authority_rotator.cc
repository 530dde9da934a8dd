#include "server/ca/authority_rotator.h"

#include <algorithm>
#include <future>
#include <map>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/crypto/digest.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/ca/journal.h"
#include "server/ca/rotation.h"

namespace signet::server {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(10);    // SPIRE's rotator
constexpr absl::Duration kPruneInterval = absl::Hours(1);  // how often the bundle is looked through, and how long
                                                           // the clock must go on steadily before anything is forgotten
constexpr absl::Duration kKeepExpired = absl::Hours(24);   // expired authorities stay in the bundle this long
constexpr absl::Duration kClockTolerance = absl::Minutes(1);  // a larger step of the clock counts as set
constexpr absl::string_view kHealthPart = "ca";
constexpr absl::Duration kReceiptKeyLife = absl::Hours(30 * 24);  // long: each that ends stays published
constexpr size_t kMaxRetired = 1200;                              // a century of them, and 130 KB

std::string SlotName(size_t slot) { return slot == 0 ? "A" : "B"; }

// The kinds of authority, so that one sequence of steps serves all.
struct X509Kind {
  static constexpr absl::string_view kName = "x509", kKeyPrefix = "x509-CA-";
  static auto& SlotsOf(Journal& journal) { return journal.x509; }
  static std::string IdOf(const X509AuthoritySlot& slot) {
    return absl::BytesToHexString(slot.certificate.subject_key_id());
  }
  static const crypto::PublicKey& KeyOf(const X509AuthoritySlot& slot) { return slot.certificate.public_key(); }
  static void Publish(const X509AuthoritySlot& slot, BundleChange& change) {
    change.add_x509.push_back({slot.certificate, false});
  }
  static bool IsPublished(const X509AuthoritySlot& slot, const spiffe::Bundle& bundle) {
    return std::any_of(bundle.x509_authorities.begin(), bundle.x509_authorities.end(),
                       [&](const auto& authority) { return authority.certificate == slot.certificate; });
  }
};
struct JwtKind {
  static constexpr absl::string_view kName = "jwt", kKeyPrefix = "JWT-Signer-";
  static auto& SlotsOf(Journal& journal) { return journal.jwt; }
  static std::string IdOf(const JwtAuthoritySlot& slot) { return slot.key_id; }
  static const crypto::PublicKey& KeyOf(const JwtAuthoritySlot& slot) { return slot.key; }
  static void Publish(const JwtAuthoritySlot& slot, BundleChange& change) {
    change.add_jwt.push_back({slot.key_id, slot.key, slot.slot.not_after, false});
  }
  static bool IsPublished(const JwtAuthoritySlot& slot, const spiffe::Bundle& bundle) {
    return bundle.FindJwtAuthority(slot.key_id) != nullptr;
  }
};

// Of the token service. Verifiers of tokens and receipts have key sets of their own; no bundle says these names (T5).
struct TokenKind : JwtKind {
  static constexpr absl::string_view kName = "token", kKeyPrefix = "Token-Signer-";
  static auto& SlotsOf(Journal& journal) { return journal.token; }
  static void Publish(const JwtAuthoritySlot&, BundleChange&) {}
};
struct ReceiptKind : JwtKind {
  static constexpr absl::string_view kName = "receipt", kKeyPrefix = "Receipt-Signer-";
  static auto& SlotsOf(Journal& journal) { return journal.receipt; }
  static void Publish(const JwtAuthoritySlot&, BundleChange&) {}
};

// What is in `slot` goes: the key of a receipt stays known.
template <typename Kind>
void Vacate(Journal& journal, size_t slot) {
  auto& authority = Kind::SlotsOf(journal)[slot];
  if constexpr (std::is_same_v<Kind, ReceiptKind>) {
    if (authority.slot.state == SlotState::kActive || authority.slot.state == SlotState::kOld) {
      auto& retired = journal.retired_receipts;
      retired.push_back({authority.key_id, authority.key, authority.slot.not_after});
      if (retired.size() > kMaxRetired) retired.erase(retired.begin());
    }
  }
  authority = {};
}

template <typename AuthoritySlots>
Slots LivesOf(const AuthoritySlots& slots) {
  return {slots[0].slot, slots[1].slot};
}

class SlotRotator final : public AuthorityRotator {
 public:
  SlotRotator(Options options, KeyManager& keys, JournalStore& journal_store, BundleStore& bundles,
              telemetry::Health& health, Clock& clock)
      : options_(std::move(options)),
        keys_(keys),
        journal_store_(journal_store),
        bundles_(bundles),
        health_(health),
        clock_(clock),
        journal_{options_.policy.trust_domain, {}, {}, {}, {}, {}},
        steady_zero_(clock.Now() - clock.Steady()),
        settling_since_(clock.Steady()),
        last_prune_(clock.Steady()) {}

  absl::Status Start();

  const LatestValue<ActiveAuthorities>& authorities() const override { return authorities_; }
  absl::Status Step() override {
    MutexLock lock(mutex_);
    return StepLocked();
  }
  absl::StatusOr<std::vector<Key>> ListTokenKeys() override;
  absl::StatusOr<Key> PrepareTokenKey() override;
  absl::StatusOr<Key> ActivateTokenKey(const std::string& kid) override;

 private:
  struct Loss {
    std::string text;
    absl::Time until;
  };

  absl::Status Load() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SetJournalAside(const std::string& damaged, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Kind>
  absl::StatusOr<bool> HasKey(size_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Kind>
  absl::Status DropSlotsWithoutKey() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PublishWhatIsMissing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Status StepLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Kind>
  absl::Status Advance(absl::Time now, bool clock_settled) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Kind, typename AuthoritySlot>
  absl::Status Prepare(size_t slot, AuthoritySlot& pending, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  template <typename Kind>
  absl::Status Activate(size_t slot, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<X509AuthoritySlot> Make(X509Kind, const std::string& key_manager_id, absl::Time now);
  absl::StatusOr<JwtAuthoritySlot> Make(JwtKind, const std::string& key_manager_id, absl::Time now) {
    return MakeJwt(key_manager_id, options_.jwt_key_type, options_.policy.ca_ttl, now);
  }
  absl::StatusOr<JwtAuthoritySlot> Make(TokenKind, const std::string& key_manager_id, absl::Time now) {
    return MakeJwt(key_manager_id, *options_.token_key_type, options_.policy.ca_ttl, now);
  }
  absl::StatusOr<JwtAuthoritySlot> Make(ReceiptKind, const std::string& key_manager_id, absl::Time now) {
    return MakeJwt(key_manager_id, *options_.token_key_type, std::max(options_.policy.ca_ttl, kReceiptKeyLife), now);
  }
  absl::StatusOr<JwtAuthoritySlot> MakeJwt(const std::string& key_manager_id, crypto::KeyType type, absl::Duration life,
                                           absl::Time now);
  X509AuthoritySlot& Pending(X509Kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pending_x509_; }
  JwtAuthoritySlot& Pending(JwtKind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pending_jwt_; }
  JwtAuthoritySlot& Pending(TokenKind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pending_token_; }
  JwtAuthoritySlot& Pending(ReceiptKind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return pending_receipt_; }

  absl::Status Save(const std::string& server_id, std::string bytes, BundleChange change);
  absl::Status SaveJournal(const Journal& journal, BundleChange change) {
    return Save(options_.server_id, EncodeJournal(journal), std::move(change));
  }
  bool ClockIsSettled(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PruneBundle(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ShowActive() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AllActive(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportHealth(const absl::Status& status, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  KeyManager& keys_;
  JournalStore& journal_store_;
  BundleStore& bundles_;
  telemetry::Health& health_;
  Clock& clock_;

  Mutex mutex_;  // held through a whole step, or a change by hand
  Journal journal_ ABSL_GUARDED_BY(mutex_);
  bool unsaved_ ABSL_GUARDED_BY(mutex_) = false;  // the store lacks an activation or a prune
  // Made, but not known to be journalled: the next try publishes the same one again instead of another.
  X509AuthoritySlot pending_x509_ ABSL_GUARDED_BY(mutex_);
  JwtAuthoritySlot pending_jwt_ ABSL_GUARDED_BY(mutex_), pending_token_ ABSL_GUARDED_BY(mutex_),
      pending_receipt_ ABSL_GUARDED_BY(mutex_);
  std::vector<Loss> losses_ ABSL_GUARDED_BY(mutex_);
  absl::Time steady_zero_ ABSL_GUARDED_BY(mutex_);         // wall time minus steady time, at the last step
  absl::Duration settling_since_ ABSL_GUARDED_BY(mutex_);  // steady time of the last jump of the wall clock
  absl::Duration last_prune_ ABSL_GUARDED_BY(mutex_);
  std::string last_failure_ ABSL_GUARDED_BY(mutex_);
  LatestValue<ActiveAuthorities> authorities_;
  std::unique_ptr<Worker> worker_;  // last: stops first
};

absl::Status SlotRotator::Start() {
  {
    MutexLock lock(mutex_);
    SIGNET_RETURN_IF_ERROR(Load(), "CA");
    const absl::Status stepped = StepLocked();
    // An authority that cannot be renewed yet is no reason to stay away while the active one serves.
    if (!AllActive(clock_.Now())) {
      return WithContext(stepped.ok() ? absl::InternalError("no authority became active") : stepped, "CA");
    }
  }
  worker_ = std::make_unique<Worker>("ca-rotator", clock_, [this] {
    (void)Step();  // logged and in the health
    return kInterval;
  });
  return absl::OkStatus();
}

absl::Status SlotRotator::Load() {
  const auto stored = journal_store_.LoadJournal(options_.server_id);
  if (stored.ok()) {
    auto journal = DecodeJournal(*stored, options_.policy.trust_domain);
    if (journal.ok()) {
      journal_ = *std::move(journal);
    } else if (journal.status().code() == absl::StatusCode::kDataLoss) {
      SIGNET_RETURN_IF_ERROR(SetJournalAside(*stored, journal.status()));
    } else {
      return journal.status();
    }
  } else if (stored.status().code() != absl::StatusCode::kNotFound) {
    return stored.status();
  }
  SIGNET_RETURN_IF_ERROR(DropSlotsWithoutKey<X509Kind>());
  SIGNET_RETURN_IF_ERROR(DropSlotsWithoutKey<JwtKind>());
  if (options_.token_key_type.has_value()) {
    SIGNET_RETURN_IF_ERROR(DropSlotsWithoutKey<TokenKind>());
    SIGNET_RETURN_IF_ERROR(DropSlotsWithoutKey<ReceiptKind>());
  }
  SIGNET_RETURN_IF_ERROR(PublishWhatIsMissing());
  ShowActive();
  return absl::OkStatus();
}

// The damaged record stays, under a name of its own; what it published stays trusted.
absl::Status SlotRotator::SetJournalAside(const std::string& damaged, const absl::Status& why) {
  const std::string kept_as = absl::StrCat(options_.server_id, ".corrupt-", absl::ToUnixSeconds(clock_.Now()));
  SIGNET_RETURN_IF_ERROR(Save(kept_as, damaged, {}), "setting the damaged CA journal aside");
  SIGNET_LOG(error, "CA journal is damaged: new authorities are made, what is in the bundle stays trusted",
             {{"server_id", options_.server_id}, {"kept_as", kept_as}, {"error", why.message()}});
  losses_.push_back({absl::StrCat("the CA journal was damaged and is kept as ", kept_as), clock_.Now() + kKeepExpired});
  return absl::OkStatus();
}

// Whether the KeyManager still has the key of the authority in `slot`. If not: says so loudly and empties the slot. An
// error when the KeyManager cannot tell now.
template <typename Kind>
absl::StatusOr<bool> SlotRotator::HasKey(size_t slot) {
  auto& authority = Kind::SlotsOf(journal_)[slot];
  const auto key = keys_.GetPublicKey(authority.key_manager_id);
  if (key.ok() && *key == Kind::KeyOf(authority)) return true;
  const absl::StatusCode code = key.status().code();
  if (!key.ok() && code != absl::StatusCode::kNotFound && code != absl::StatusCode::kDataLoss) return key.status();
  const std::string why = key.ok() ? absl::StrCat("key \"", authority.key_manager_id, "\" is another one")
                                   : std::string(key.status().message());
  const absl::string_view state = SlotStateName(authority.slot.state);
  SIGNET_LOG(error, "the key of an authority is lost: a new authority is made, this one stays trusted until it ends",
             {{"kind", Kind::kName},
              {"slot", SlotName(slot)},
              {"state", state},
              {"authority", Kind::IdOf(authority)},
              {"key_id", authority.key_manager_id},
              {"error", why}});
  losses_.push_back({absl::StrCat("the key of the ", state, " ", Kind::kName, " authority ", Kind::IdOf(authority),
                                  " is lost: ", why),
                     authority.slot.not_after});
  Vacate<Kind>(journal_, slot);
  unsaved_ = true;
  return false;
}

template <typename Kind>
absl::Status SlotRotator::DropSlotsWithoutKey() {
  for (size_t i = 0; i < Kind::SlotsOf(journal_).size(); ++i) {
    const SlotState state = Kind::SlotsOf(journal_)[i].slot.state;
    // An old authority signs nothing any more; its key may have gone.
    if (state == SlotState::kActive || state == SlotState::kPrepared) SIGNET_RETURN_IF_ERROR(HasKey<Kind>(i).status());
  }
  return absl::OkStatus();
}

// After a restore from a backup, say: what we sign with must be in the bundle.
absl::Status SlotRotator::PublishWhatIsMissing() {
  const auto bundle = bundles_.GetBundle(options_.policy.trust_domain);
  if (!bundle.ok() && bundle.status().code() != absl::StatusCode::kNotFound) return bundle.status();
  BundleChange change;
  const auto add = [&](auto kind, const auto& slot) {
    if (slot.slot.state != SlotState::kActive && slot.slot.state != SlotState::kPrepared) return;
    if (!bundle.ok() || !kind.IsPublished(slot, *bundle)) kind.Publish(slot, change);
  };
  for (const auto& slot : journal_.x509) add(X509Kind(), slot);
  for (const auto& slot : journal_.jwt) add(JwtKind(), slot);
  if (change.add_x509.empty() && change.add_jwt.empty()) return absl::OkStatus();
  SIGNET_LOG(warn, "authorities of the journal were missing in the bundle and are published again",
             {{"x509", change.add_x509.size()}, {"jwt", change.add_jwt.size()}});
  SIGNET_RETURN_IF_ERROR(SaveJournal(journal_, std::move(change)), "publishing the authorities again");
  unsaved_ = false;
  return absl::OkStatus();
}

absl::Status SlotRotator::StepLocked() {
  const absl::Time now = clock_.Now();
  const bool settled = ClockIsSettled(now);
  absl::Status status = Advance<X509Kind>(now, settled);
  status.Update(Advance<JwtKind>(now, settled));
  if (options_.token_key_type.has_value()) {
    status.Update(Advance<TokenKind>(now, settled));
    status.Update(Advance<ReceiptKind>(now, settled));
  }
  if (unsaved_) {
    const absl::Status saved = SaveJournal(journal_, {});
    if (saved.ok()) unsaved_ = false;
    status.Update(WithContext(saved, "writing the CA journal"));
  }
  if (settled) status.Update(PruneBundle(now));
  ReportHealth(status, now);
  return status;
}

// --- by hand
// ---------------------------------------------------------------------------------------------------------------

absl::StatusOr<std::vector<TokenKeys::Key>> SlotRotator::ListTokenKeys() {
  if (!options_.token_key_type.has_value()) return absl::UnimplementedError("the token service is off");
  MutexLock lock(mutex_);
  std::vector<Key> keys;
  for (const JwtAuthoritySlot& slot : journal_.token) {
    if (slot.slot.state != SlotState::kEmpty) keys.push_back({slot.key_id, slot.slot});
  }
  return keys;
}

absl::StatusOr<TokenKeys::Key> SlotRotator::PrepareTokenKey() {
  if (!options_.token_key_type.has_value()) return absl::UnimplementedError("the token service is off");
  MutexLock lock(mutex_);
  const size_t other = journal_.token[0].slot.state == SlotState::kActive ? 1 : 0;
  const absl::Status prepared = Prepare<TokenKind>(other, pending_token_, clock_.Now());
  if (!prepared.ok()) return absl::UnavailableError(absl::StrCat("preparing a token key: ", prepared.message()));
  return Key{journal_.token[other].key_id, journal_.token[other].slot};
}

absl::StatusOr<TokenKeys::Key> SlotRotator::ActivateTokenKey(const std::string& kid) {
  if (!options_.token_key_type.has_value()) return absl::UnimplementedError("the token service is off");
  MutexLock lock(mutex_);
  const auto& slots = journal_.token;
  const auto found = std::find_if(slots.begin(), slots.end(), [&](const JwtAuthoritySlot& slot) {
    return slot.slot.state != SlotState::kEmpty && slot.key_id == kid;
  });
  if (found == slots.end()) return absl::NotFoundError(absl::StrCat("there is no token key \"", kid, "\""));
  if (found->slot.state != SlotState::kPrepared) {
    return absl::FailedPreconditionError(
        absl::StrCat("token key ", kid, " is ", SlotStateName(found->slot.state), ", not prepared: prepare one first"));
  }
  const auto slot = static_cast<size_t>(found - slots.begin());
  SIGNET_RETURN_IF_ERROR(Activate<TokenKind>(slot, clock_.Now()));
  if (slots[slot].slot.state != SlotState::kActive)
    return absl::UnavailableError("its private key is lost: prepare again");
  // It signs by now. Should the journal not take it, the next step writes it.
  const absl::Status saved = SaveJournal(journal_, {});
  if (!saved.ok()) return absl::UnavailableError(absl::StrCat("active, but not on disk yet: ", saved.message()));
  unsaved_ = false;
  return Key{kid, slots[slot].slot};
}

template <typename Kind>
absl::Status SlotRotator::Advance(absl::Time now, bool clock_settled) {
  for (int i = 0; i < 8; ++i) {  // lost, prepare, activate, prune, rest: the machine needs no more
    auto& slots = Kind::SlotsOf(journal_);
    const RotationStep step = NextStep(LivesOf(slots), now, clock_settled);
    switch (step.action) {
      case RotationAction::kWait:
        return absl::OkStatus();
      case RotationAction::kPrepare:
        SIGNET_RETURN_IF_ERROR(Prepare<Kind>(step.slot, Pending(Kind()), now),
                               absl::StrCat("preparing the next ", Kind::kName, " authority"));
        break;
      case RotationAction::kActivate:
        SIGNET_RETURN_IF_ERROR(Activate<Kind>(step.slot, now),
                               absl::StrCat("activating the prepared ", Kind::kName, " authority"));
        break;
      case RotationAction::kPrune:
        SIGNET_LOG(info, "authority pruned",
                   {{"kind", Kind::kName}, {"slot", SlotName(step.slot)}, {"authority", Kind::IdOf(slots[step.slot])}});
        (void)keys_.RemoveKey(slots[step.slot].key_manager_id);  // what cannot be used need not be kept; best effort
        Vacate<Kind>(journal_, step.slot);
        unsaved_ = true;
        ShowActive();
        break;
    }
  }
  return absl::OkStatus();
}

template <typename Kind, typename AuthoritySlot>
absl::Status SlotRotator::Prepare(size_t slot, AuthoritySlot& pending, absl::Time now) {
  const std::string key_manager_id = absl::StrCat(Kind::kKeyPrefix, SlotName(slot));
  const bool again = pending.key_manager_id == key_manager_id && IsUsable(pending.slot, now) &&
                     pending.slot.not_after - now > PrepareBefore(pending.slot);
  if (!again) {
    // Its key is replaced now: whatever stood here can no longer sign, should the rest fail.
    Vacate<Kind>(journal_, slot);
    unsaved_ = true;
    SIGNET_ASSIGN_OR_RETURN(pending, Make(Kind(), key_manager_id, now));
  }
  Journal next = journal_;
  Kind::SlotsOf(next)[slot] = pending;
  BundleChange change;
  Kind::Publish(pending, change);
  SIGNET_FAILPOINT_STATUS("ca.before_journal");
  SIGNET_RETURN_IF_ERROR(SaveJournal(next, std::move(change)), "writing the CA journal");
  SIGNET_FAILPOINT_STATUS("ca.after_journal");
  journal_ = std::move(next);
  unsaved_ = false;
  SIGNET_LOG(info, "authority prepared",
             {{"kind", Kind::kName},
              {"slot", SlotName(slot)},
              {"authority", Kind::IdOf(pending)},
              {"not_after", absl::FormatTime(pending.slot.not_after, absl::UTCTimeZone())}});
  pending = {};
  ShowActive();
  return absl::OkStatus();
}

// A prepared authority is journalled and published: it may be used even when the change of state cannot be written now.
// A restart would then activate it again.
template <typename Kind>
absl::Status SlotRotator::Activate(size_t slot, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(const bool has_key, HasKey<Kind>(slot));
  if (!has_key) return absl::OkStatus();  // the next step finds the slot empty
  auto& slots = Kind::SlotsOf(journal_);
  const Slots lives = Activated(LivesOf(slots), slot, now);
  for (size_t i = 0; i < slots.size(); ++i) slots[i].slot.state = lives[i].state;
  unsaved_ = true;
  SIGNET_FAILPOINT_STATUS("ca.before_activate");
  ShowActive();
  SIGNET_LOG(info, "authority activated",
             {{"kind", Kind::kName},
              {"slot", SlotName(slot)},
              {"authority", Kind::IdOf(slots[slot])},
              {"not_after", absl::FormatTime(slots[slot].slot.not_after, absl::UTCTimeZone())}});
  return absl::OkStatus();
}

absl::StatusOr<X509AuthoritySlot> SlotRotator::Make(X509Kind, const std::string& key_manager_id, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(const crypto::PublicKey key, keys_.GenerateKey(key_manager_id, options_.x509_key_type));
  SIGNET_FAILPOINT_STATUS("ca.after_generate_key");
  X509AuthoritySlot made;
  made.key_manager_id = key_manager_id;
  SIGNET_ASSIGN_OR_RETURN(made.certificate,
                          crypto::SelfSign(AuthorityTemplate(options_.policy, now), key,
                                           [&](crypto::HashAlgorithm hash, absl::string_view message) {
                                             return keys_.Sign(key_manager_id, hash, message);
                                           }));
  made.slot = {SlotState::kPrepared, made.certificate.not_before(), made.certificate.not_after()};
  return made;
}

absl::StatusOr<JwtAuthoritySlot> SlotRotator::MakeJwt(const std::string& key_manager_id, crypto::KeyType type,
                                                      absl::Duration life, absl::Time now) {
  JwtAuthoritySlot made;
  made.key_manager_id = key_manager_id;
  SIGNET_ASSIGN_OR_RETURN(made.key, keys_.GenerateKey(key_manager_id, type));
  SIGNET_FAILPOINT_STATUS("ca.after_generate_key");
  // The kid follows from the key, so that one kid never names two keys.
  made.key_id = absl::BytesToHexString(crypto::Sha256(made.key.spki_der()).substr(0, 16));
  const absl::Time start = absl::FromUnixSeconds(absl::ToUnixSeconds(now));
  made.slot = {SlotState::kPrepared, start - kBackdate, start + life};
  return made;
}

// Waits until the change is durable: only then may an authority be used.
absl::Status SlotRotator::Save(const std::string& server_id, std::string bytes, BundleChange change) {
  auto done = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> result = done->get_future();
  journal_store_.SaveJournal(
      server_id, std::move(bytes), options_.policy.trust_domain, std::move(change),
      [done](const absl::StatusOr<spiffe::Bundle>& bundle) { done->set_value(bundle.status()); });
  return result.get();
}

// The wall clock and the steady clock have gone side by side for an hour. One that is ahead for a while must not cost
// anybody their trust.
bool SlotRotator::ClockIsSettled(absl::Time now) {
  const absl::Duration steady = clock_.Steady();
  const absl::Time zero = now - steady;  // the wall time at which the steady clock was 0: constant unless one is set
  if (absl::AbsDuration(zero - steady_zero_) > kClockTolerance) {
    SIGNET_LOG(warn, "the clock was set: nothing expired is forgotten for an hour",
               {{"by", absl::FormatDuration(zero - steady_zero_)}});
    settling_since_ = steady;
  }
  steady_zero_ = zero;
  return steady - settling_since_ >= kPruneInterval;
}

// Authorities that ended long ago leave the bundle, those of servers that are gone too.
absl::Status SlotRotator::PruneBundle(absl::Time now) {
  const absl::Duration steady = clock_.Steady();
  if (steady - last_prune_ < kPruneInterval) return absl::OkStatus();
  last_prune_ = steady;
  SIGNET_ASSIGN_OR_RETURN(const spiffe::Bundle bundle, bundles_.GetBundle(options_.policy.trust_domain),
                          "reading the bundle");
  const absl::Time limit = now - kKeepExpired;
  const bool ended = std::any_of(bundle.x509_authorities.begin(), bundle.x509_authorities.end(),
                                 [&](const auto& a) { return a.certificate.not_after() < limit; }) ||
                     std::any_of(bundle.jwt_authorities.begin(), bundle.jwt_authorities.end(), [&](const auto& a) {
                       return a.expires_at != absl::UnixEpoch() && a.expires_at < limit;
                     });
  if (!ended) return absl::OkStatus();
  BundleChange change;
  change.remove_expired_before = limit;
  SIGNET_RETURN_IF_ERROR(SaveJournal(journal_, std::move(change)), "pruning the bundle");
  unsaved_ = false;
  SIGNET_LOG(info, "expired authorities left the bundle",
             {{"ended_before", absl::FormatTime(limit, absl::UTCTimeZone())}});
  return absl::OkStatus();
}

void SlotRotator::ShowActive() {
  ActiveAuthorities active;
  for (const X509AuthoritySlot& slot : journal_.x509) {
    if (slot.slot.state != SlotState::kActive) continue;
    active.x509 = ActiveX509{slot.key_manager_id, slot.certificate, slot.upstream_chain};
  }
  const auto find = [](const std::array<JwtAuthoritySlot, 2>& slots) -> std::optional<ActiveJwt> {
    for (const JwtAuthoritySlot& slot : slots) {
      if (slot.slot.state != SlotState::kActive) continue;
      return ActiveJwt{slot.key_manager_id, slot.key_id, slot.key.type(), slot.slot.not_after};
    }
    return std::nullopt;
  };
  active.jwt = find(journal_.jwt);
  if (options_.token_key_type.has_value()) {
    active.token = find(journal_.token);
    active.receipt = find(journal_.receipt);
    std::map<std::string, crypto::PublicKey> token_keys, receipt_keys;
    const auto add = [](const auto& slots, auto& keys) {
      for (const JwtAuthoritySlot& slot : slots) {
        if (slot.slot.state != SlotState::kEmpty) keys.emplace(slot.key_id, slot.key);
      }
    };
    add(journal_.token, token_keys);
    add(journal_.receipt, receipt_keys);
    for (const RetiredKey& retired : journal_.retired_receipts) receipt_keys.emplace(retired.key_id, retired.key);
    active.token_keys = std::make_shared<const std::map<std::string, crypto::PublicKey>>(std::move(token_keys));
    active.receipt_keys = std::make_shared<const std::map<std::string, crypto::PublicKey>>(std::move(receipt_keys));
  }
  authorities_.Set(std::move(active));
}

bool SlotRotator::AllActive(absl::Time now) {
  const auto active = [now](const auto& slots) {
    return std::any_of(slots.begin(), slots.end(), [now](const auto& slot) {
      return slot.slot.state == SlotState::kActive && IsUsable(slot.slot, now);
    });
  };
  return active(journal_.x509) && active(journal_.jwt) &&
         (!options_.token_key_type.has_value() || (active(journal_.token) && active(journal_.receipt)));
}

void SlotRotator::ReportHealth(const absl::Status& status, absl::Time now) {
  std::erase_if(losses_, [now](const Loss& loss) { return loss.until <= now; });
  std::vector<std::string> reasons;
  if (!status.ok()) reasons.push_back(status.ToString());
  for (const Loss& loss : losses_) reasons.push_back(loss.text);
  const std::string text = absl::StrJoin(reasons, "; ");
  if (!AllActive(now)) {
    health_.SetUnready(kHealthPart, absl::StrCat("no active authority, nothing can be signed: ", text));
  } else if (!reasons.empty()) {
    health_.SetDegraded(kHealthPart, text);
  } else {
    health_.SetReady(kHealthPart);
  }
  const std::string failure = status.ok() ? "" : status.ToString();
  if (failure != last_failure_ && !failure.empty()) {
    SIGNET_LOG(error, "rotation of authorities failed, it is tried again every 10 s", {{"error", failure}});
  }
  last_failure_ = failure;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuthorityRotator>> AuthorityRotator::Create(Options options, KeyManager& keys,
                                                                           JournalStore& journal, BundleStore& bundles,
                                                                           telemetry::Health& health, Clock& clock) {
  auto rotator = std::make_unique<SlotRotator>(std::move(options), keys, journal, bundles, health, clock);
  SIGNET_RETURN_IF_ERROR(rotator->Start());
  return std::unique_ptr<AuthorityRotator>(std::move(rotator));
}

}  // namespace signet::server
