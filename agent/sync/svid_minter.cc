#include "agent/sync/svid_minter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/csr.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr crypto::KeyType kKeyType = crypto::KeyType::kEcP256;
constexpr size_t kBatch = 200;  // CSRs a call; SPIRE's servers take 500
// After the server has refused to sign for an entry, or signed what is no better than what is held.
constexpr absl::Duration kTellAgain = absl::Minutes(1);
constexpr absl::Duration kPutOff = absl::Seconds(30);

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

absl::Duration SvidMinter::Run() {
  if (deps_.standing.TakeBack()) {
    mint_backoff_.Reset();
    identity_backoff_.Reset();
    mint_not_before_ = identity_not_before_ = absl::ZeroDuration();
  }
  const Instant now = Now();
  const absl::Duration next = KeepIdentity(now);
  if (deps_.standing.dead()) return absl::InfiniteDuration();

  const RefreshPlan plan = MakeRefreshPlan(deps_.cache.PlanItems(), now);
  if (!plan.drop.empty()) deps_.cache.DropSvids(plan.drop);
  return std::min({next, plan.next, deps_.identity.Expired() ? absl::InfiniteDuration() : CarryOut(plan, now)});
}

absl::Duration SvidMinter::CarryOut(const RefreshPlan& plan, Instant now) {
  absl::Duration next = absl::InfiniteDuration();
  std::vector<std::string> batch;
  for (const std::string& id : plan.fetch) {
    if (const auto it = put_off_.find(id); it != put_off_.end()) {
      if (now.steady < it->second) {
        next = std::min(next, it->second - now.steady);
        continue;
      }
      put_off_.erase(it);
    }
    batch.push_back(id);
    if (batch.size() == kBatch) break;
  }
  if (batch.empty()) return next;
  if (now.steady < mint_not_before_) return mint_not_before_ - now.steady;
  if (const absl::Status status = MintBatch(batch); !status.ok()) {
    deps_.standing.Lost(status, "mint");
    deps_.standing.Refused(status);
    const absl::Duration wait = mint_backoff_.Next();
    mint_not_before_ = deps_.clock.Steady() + wait;
    return std::min(next, wait);
  }
  mint_backoff_.Reset();
  deps_.standing.Answered();
  return absl::ZeroDuration();  // what remains, and what has come meanwhile
}

// --- the agent's own SVID
// ----------------------------------------------------------------------------------------------

bool SvidMinter::OwnAuthorityIsTainted() const {
  const BundlePtr bundle = deps_.cache.OwnBundle();
  const auto svid = deps_.identity.svid();
  return bundle != nullptr && svid != nullptr && ChainsToTainted(*bundle, svid->chain);
}

absl::Duration SvidMinter::KeepIdentity(Instant now) {
  const bool needed = deps_.cache.OwnBundle() == nullptr || deps_.identity.Expired() || deps_.standing.must_attest();
  if (!needed) {
    if (!deps_.identity.Due() && !OwnAuthorityIsTainted()) return deps_.identity.UntilDue();
    if (now.steady < no_better_before_) return no_better_before_ - now.steady;
  }
  if (now.steady < identity_not_before_) return identity_not_before_ - now.steady;
  const absl::Status status = RefreshIdentity();
  if (status.ok()) {
    identity_backoff_.Reset();
    if (!OwnAuthorityIsTainted() && !deps_.identity.Due()) return deps_.identity.UntilDue();
    no_better_before_ = deps_.clock.Steady() + kPutOff;
    return kPutOff;
  }
  if (deps_.standing.dead()) return absl::InfiniteDuration();
  deps_.standing.Lost(status, "identity");
  deps_.standing.Refused(status);
  if (deps_.identity.Expired()) {
    deps_.standing.NotAttested(status);
    deps_.client.MoveOn();
  }
  const absl::Duration wait = identity_backoff_.Next();
  identity_not_before_ = deps_.clock.Steady() + wait;
  return wait;
}

absl::Status SvidMinter::RefreshIdentity() {
  if (deps_.cache.OwnBundle() == nullptr) {
    absl::StatusOr<spiffe::Bundle> trust = deps_.first_trust();
    if (!trust.ok()) TellThatTrustIsMissing(trust.status());
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle bundle, std::move(trust), "first trust");
    SIGNET_RETURN_IF_ERROR(deps_.identity.SetBundle(bundle));
    MemorySvidCache::Change change;
    change.bundles.push_back(std::move(bundle));
    deps_.cache.Apply(std::move(change));
  }
  const bool must = deps_.identity.Expired() || deps_.standing.must_attest();
  const bool first = deps_.identity.svid() == nullptr;
  const auto attestor = deps_.attestor.Get();  // a reload may replace it meanwhile
  if (!must && !(*attestor != nullptr && deps_.identity.reattestable())) {
    SIGNET_RETURN_IF_ERROR(Renew());
  } else if (const absl::Status status = Attest(attestor->get()); !status.ok()) {
    // The server has refused the evidence. With something left to serve, go on until it ends; else this is the end.
    const bool nothing_left = deps_.standing.must_attest() || deps_.cache.counts().x509_svids == 0;
    if (IsFinal(status) && must && nothing_left) deps_.standing.GiveUp(status);
    return status;
  }
  SIGNET_LOG(info, first ? "the agent has attested" : "the agent's SVID is renewed",
             {{"id", deps_.identity.svid()->id.string()}});
  deps_.standing.Attested();
  deps_.client.Reconnect();
  deps_.on_identity();
  return absl::OkStatus();
}

// What the agent waits for may take long to come: its log says so again and again, not once.
void SvidMinter::TellThatTrustIsMissing(const absl::Status& why) {
  const absl::Duration now = deps_.clock.Steady();
  if (now < trust_missing_told_ + kTellAgain) return;
  trust_missing_told_ = now;
  SIGNET_LOG(warn, "no trust bundle yet; nothing is served until there is one", {{"error", why.message()}});
}

absl::Status SvidMinter::Attest(NodeAttestor* attestor) {
  if (attestor == nullptr) {
    return absl::FailedPreconditionError(
        "the agent must attest, and the configuration names no node_attestor; add one");
  }
  if (!attesting_.has_value()) {
    SIGNET_ASSIGN_OR_RETURN(attesting_, crypto::PrivateKey::Generate(kKeyType));
  }
  SIGNET_ASSIGN_OR_RETURN(const std::string csr, crypto::CertificateRequest::Create(*attesting_, {}));
  SIGNET_ASSIGN_OR_RETURN(Attested attested, deps_.client.Attest(*attestor, csr));
  SIGNET_FAILPOINT_STATUS("sync.after_attest");
  crypto::PrivateKey key = *std::exchange(attesting_, std::nullopt);
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(attested.chain), std::move(key)));
  if (!svid.id.IsMemberOf(deps_.trust_domain) || !spiffe::IsAgentId(svid.id)) {
    return absl::InternalError(absl::StrCat("the server attested us as ", svid.id.string(), ", which is no agent of ",
                                            deps_.trust_domain.name()));
  }
  Adopt(std::move(svid), attested.reattestable);
  return absl::OkStatus();
}

absl::Status SvidMinter::Renew() {
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(kKeyType));
  SIGNET_ASSIGN_OR_RETURN(const std::string csr, crypto::CertificateRequest::Create(key, {}));
  SIGNET_ASSIGN_OR_RETURN(Chain chain, deps_.client.Renew(csr));
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), std::move(key)));
  const auto before = deps_.identity.svid();
  if (before == nullptr || svid.id != before->id) {
    return absl::InternalError(absl::StrCat("the server renewed us as ", svid.id.string()));
  }
  Adopt(std::move(svid), deps_.identity.reattestable());
  return absl::OkStatus();
}

void SvidMinter::Adopt(spiffe::X509Svid svid, bool reattestable) {
  if (const absl::Status status = deps_.identity.SetSvid(std::move(svid), reattestable); !status.ok()) {
    SIGNET_LOG(error, "the agent's SVID cannot be stored; a restart will have to attest",
               {{"error", status.message()}});
  }
}

// --- SVIDs of workloads
// ------------------------------------------------------------------------------------------------

absl::Status SvidMinter::MintBatch(const std::vector<std::string>& ids) {
  std::vector<EntryPtr> entries;
  std::vector<crypto::PrivateKey> keys;  // fresh for each
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
  const Instant now = Now();
  absl::erase_if(put_off_, [&](const auto& item) { return item.second <= now.steady; });
  for (size_t i = 0; i < chains.size(); ++i) {
    absl::StatusOr<HeldSvid> held = Accept(entries[i], keys[i], std::move(chains[i]), now);
    if (held.ok()) {
      minted.push_back(*std::move(held));
      continue;
    }
    refused.push_back(entries[i]->id);
    put_off_[entries[i]->id] = now.steady + kPutOff;
    SIGNET_LOG(warn, "the server signed no SVID for an entry",
               {{"entry", entries[i]->id}, {"error", Text(held.status())}});
  }
  deps_.metrics.x509_rotations.Add(static_cast<double>(minted.size()));
  if (!minted.empty()) Publish(std::move(minted));
  if (!refused.empty()) deps_.cache.SetRefused(refused);
  deps_.on_minted();
  return absl::OkStatus();
}

void SvidMinter::Publish(std::vector<HeldSvid> minted) {
  if (deps_.sealed == nullptr) return deps_.cache.SetSvids(std::move(minted));
  if (const absl::Status status = deps_.sealed->Publish(std::move(minted), deps_.cache); !status.ok()) {
    SIGNET_LOG(warn, "new SVIDs are served, but not yet on disk", {{"error", status.message()}});
  }
}

absl::StatusOr<HeldSvid> SvidMinter::Accept(const EntryPtr& entry, const crypto::PrivateKey& key,
                                            absl::StatusOr<Chain> chain, Instant now) {
  SIGNET_RETURN_IF_ERROR(chain.status());
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(*std::move(chain), key));
  if (svid.id != entry->spiffe_id) return absl::InternalError(absl::StrCat("signed for ", svid.id.string()));
  const crypto::Certificate& leaf = svid.leaf();
  const SvidLife life =
      SvidLife::Received(leaf.not_before(), leaf.not_after(), RenewalJitter(entry->id, leaf.serial()), now);
  if (!life.wall_agrees) {
    SIGNET_LOG(warn, "the clocks of agent and server disagree; this SVID is aged by the time since its arrival",
               {{"entry", entry->id},
                {"not_before", absl::FormatTime(leaf.not_before())},
                {"now", absl::FormatTime(now.wall)}});
  }
  // A server that still signs with a tainted key, or gives next to no life, is not asked in a circle.
  const BundlePtr own = deps_.cache.OwnBundle();
  if (life.Due(now) || (own != nullptr && ChainsToTainted(*own, svid.chain))) {
    put_off_[entry->id] = now.steady + kPutOff;
  }
  return HeldSvid{entry, std::make_shared<const spiffe::X509Svid>(std::move(svid)), life};
}

}  // namespace signet::agent
