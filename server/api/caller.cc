#include "server/api/caller.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/chain_verifier.h"
#include "common/crypto/digest.h"
#include "common/rpc/tls_peer.h"
#include "common/spiffe/x509_svid.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr absl::Duration kProofLasts = absl::Minutes(1);  // bounds what the end of a root can go unnoticed
constexpr absl::Duration kRefusalLasts = absl::Seconds(1);
constexpr size_t kMaxProofs = 8192, kMaxRefusals = 4096;  // a proof holds its chain, about 3 KiB
constexpr size_t kMaxPemBytes = 32 * 1024;                // six certificates of 4 KiB, with armour
constexpr size_t kMaxChain = 6;

using BundlePtr = std::shared_ptr<const spiffe::Bundle>;

CallerPtr Anonymous(absl::Status problem) {
  auto caller = std::make_shared<Caller>();
  caller->problem = std::move(problem);
  return caller;
}

// Leaf and chain as they stand in the connection, looked up without a copy.
struct Pem {
  std::string leaf, chain;
};
struct PemView {
  absl::string_view leaf, chain;
};
struct PemHash {
  using is_transparent = void;
  size_t operator()(const PemView& p) const { return absl::HashOf(p.leaf, p.chain); }
  size_t operator()(const Pem& p) const { return absl::HashOf(absl::string_view(p.leaf), absl::string_view(p.chain)); }
};
struct PemEq {
  using is_transparent = void;
  template <typename A, typename B>
  bool operator()(const A& a, const B& b) const {
    return absl::string_view(a.leaf) == b.leaf && absl::string_view(a.chain) == b.chain;
  }
};

struct Proof {
  CallerPtr caller;
  BundlePtr bundle;  // proven against this one
  absl::Time from, until;
};
using Proofs = absl::flat_hash_map<Pem, Proof, PemHash, PemEq>;

struct Refusal {
  CallerPtr caller;
  absl::Time from, until;
};

absl::StatusOr<std::vector<crypto::Certificate>> ParseChain(const PemView& pem) {
  if (pem.leaf.size() + pem.chain.size() > kMaxPemBytes) {
    return absl::UnauthenticatedError("client certificate chain is larger than 32 KiB");
  }
  SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> chain, crypto::Certificate::ParsePemChain(pem.leaf, 1));
  if (pem.chain.empty()) return chain;
  SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> rest,
                          crypto::Certificate::ParsePemChain(pem.chain, kMaxChain - 1));
  std::move(rest.begin(), rest.end(), std::back_inserter(chain));
  return chain;
}

}  // namespace

std::string Caller::ToString() const {
  switch (kind) {
    case Kind::kLocal:
      return absl::StrCat("local uid ", uid, " pid ", pid);
    case Kind::kTls:
      return id->string();
    case Kind::kAnonymous:
      break;
  }
  return "anonymous";
}

struct TlsCallers::State {
  State(FindBundle find, Clock& c) : find_bundle(std::move(find)), clock(c) {}
  const FindBundle find_bundle;
  Clock& clock;

  mutable Mutex mutex;
  // Two generations: when the young one is full it becomes the old one, and what the old one held is forgotten.
  Proofs young ABSL_GUARDED_BY(mutex), old ABSL_GUARDED_BY(mutex);
  absl::flat_hash_map<std::string, Refusal> refusals
      ABSL_GUARDED_BY(mutex);  // by SHA-256: a stranger's bytes are not kept
  struct Anchors {
    BundlePtr bundle;
    std::shared_ptr<const crypto::TrustAnchors> anchors;
  };
  absl::flat_hash_map<std::string, Anchors> anchors ABSL_GUARDED_BY(mutex);  // by trust domain
  size_t verifications ABSL_GUARDED_BY(mutex) = 0;

  std::optional<Proof> FindProof(const PemView& pem) {
    MutexLock lock(mutex);
    if (auto it = young.find(pem); it != young.end()) return it->second;
    auto it = old.find(pem);
    if (it == old.end()) return std::nullopt;
    Proof proof = it->second;
    young.insert(old.extract(it));
    return proof;
  }

  void Remember(const PemView& pem, Proof proof) {
    MutexLock lock(mutex);
    if (young.size() >= kMaxProofs) {
      old = std::move(young);
      young.clear();
    }
    young.insert_or_assign(Pem{std::string(pem.leaf), std::string(pem.chain)}, std::move(proof));
  }

  // The anchors of the bundle that is current now, and that bundle.
  absl::StatusOr<Anchors> CurrentAnchors(const spiffe::TrustDomain& trust_domain) {
    Anchors now{find_bundle(trust_domain), nullptr};
    if (now.bundle == nullptr) {
      return absl::UnauthenticatedError(absl::StrCat("trust domain \"", trust_domain.name(), "\" is not trusted here"));
    }
    {
      MutexLock lock(mutex);
      auto it = anchors.find(trust_domain.name());
      if (it != anchors.end() && it->second.bundle == now.bundle) return it->second;
    }
    SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors made, now.bundle->Anchors());
    now.anchors = std::make_shared<const crypto::TrustAnchors>(std::move(made));
    MutexLock lock(mutex);
    anchors[trust_domain.name()] = now;
    return now;
  }

  absl::Status Verify(const std::vector<crypto::Certificate>& chain, const Anchors& with, absl::Time at) {
    {
      MutexLock lock(mutex);
      ++verifications;
    }
    return spiffe::VerifyX509Svid(
               chain, [&](const spiffe::TrustDomain&) { return with.anchors; }, at)
        .status();
  }

  absl::StatusOr<Proof> Prove(const PemView& pem, absl::Time now) {
    SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> chain, ParseChain(pem), "client certificate");
    SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, spiffe::IdFromLeaf(chain.front()), "client certificate");
    SIGNET_ASSIGN_OR_RETURN(Anchors with, CurrentAnchors(id.trust_domain()));
    auto caller = std::make_shared<Caller>();
    caller->kind = Caller::Kind::kTls;
    caller->not_after = chain.front().not_after();
    if (absl::Status status = Verify(chain, with, now); !status.ok()) {
      // An SVID that was good until it ended still says who its holder is: an agent learns that way what to do next.
      if (caller->not_after > now || !Verify(chain, with, caller->not_after - absl::Seconds(1)).ok()) return status;
      caller->expired = true;
    }
    Proof proof{nullptr, with.bundle, now, now + kProofLasts};
    for (const crypto::Certificate& certificate : chain) {
      if (!caller->expired) proof.until = std::min(proof.until, certificate.not_after());
    }
    caller->id = std::move(id);
    caller->serial = chain.front().SerialDecimal();
    caller->chain = std::move(chain);
    proof.caller = std::move(caller);
    return proof;
  }
};

TlsCallers::TlsCallers(FindBundle find_bundle, Clock& clock)
    : state_(std::make_unique<State>(std::move(find_bundle), clock)) {}
TlsCallers::~TlsCallers() = default;

CallerPtr TlsCallers::Identify(absl::string_view leaf_pem, absl::string_view chain_pem) {
  if (leaf_pem.empty()) return Anonymous(absl::OkStatus());
  const PemView pem{leaf_pem, chain_pem};
  const absl::Time now = state_->clock.Now();
  if (std::optional<Proof> proof = state_->FindProof(pem); proof && now >= proof->from && now < proof->until) {
    if (state_->find_bundle(proof->caller->id->trust_domain()) == proof->bundle) return std::move(proof->caller);
  }
  const std::string digest = crypto::Sha256(absl::StrCat(leaf_pem, "\n", chain_pem));
  {
    MutexLock lock(state_->mutex);
    auto it = state_->refusals.find(digest);
    if (it != state_->refusals.end() && now >= it->second.from && now < it->second.until) return it->second.caller;
  }
  absl::StatusOr<Proof> proof = state_->Prove(pem, now);
  if (proof.ok()) {
    CallerPtr caller = proof->caller;
    state_->Remember(pem, *std::move(proof));
    return caller;
  }
  CallerPtr refused = Anonymous(absl::UnauthenticatedError(proof.status().message()));
  MutexLock lock(state_->mutex);
  if (state_->refusals.size() >= kMaxRefusals) state_->refusals.clear();
  state_->refusals.insert_or_assign(digest, Refusal{refused, now, now + kRefusalLasts});
  return refused;
}

bool TlsCallers::StillVerifies(const Caller& caller) {
  if (caller.kind != Caller::Kind::kTls) return true;
  const absl::StatusOr<State::Anchors> with = state_->CurrentAnchors(caller.id->trust_domain());
  return with.ok() && state_->Verify(caller.chain, *with, state_->clock.Now()).ok();
}

size_t TlsCallers::verifications() const {
  MutexLock lock(state_->mutex);
  return state_->verifications;
}

namespace {

class TlsAndUnixCallers final : public CallerSource {
 public:
  TlsAndUnixCallers(FindBundle find_bundle, const rpc::UnixFront* front, Clock& clock)
      : front_(front), tls_(std::move(find_bundle), clock) {}

  CallerPtr Identify(const grpc::ServerContextBase& context) override {
    const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
    if (auth != nullptr) {
      const rpc::RawPeer peer = rpc::RawPeerOf(*auth);
      // A resumed session shows the leaf of long ago without its intermediates.
      if (peer.resumed) return Anonymous(absl::UnauthenticatedError("resumed TLS sessions are refused"));
      if (!peer.leaf_pem.empty()) {
        return tls_.Identify(peer.leaf_pem, peer.chain_pem);
      }
    }
    if (front_ != nullptr) {
      if (std::shared_ptr<const rpc::UnixConnection> connection = front_->Find(context.peer())) {
        auto caller = std::make_shared<Caller>();
        caller->kind = Caller::Kind::kLocal;
        caller->pid = connection->pid;
        caller->uid = connection->uid;
        return caller;
      }
    }
    return Anonymous(absl::OkStatus());
  }

  bool StillVerifies(const Caller& caller) override { return tls_.StillVerifies(caller); }

 private:
  const rpc::UnixFront* const front_;
  TlsCallers tls_;
};

}  // namespace

std::unique_ptr<CallerSource> MakeCallerSource(FindBundle find_bundle, const rpc::UnixFront* front, Clock& clock) {
  return std::make_unique<TlsAndUnixCallers>(std::move(find_bundle), front, clock);
}

}  // namespace signet::server
