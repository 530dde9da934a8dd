#include "tools/cli/identity_stream.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "common/status/macros.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "tools/cli/connect.h"

namespace signet::cli {
namespace {

constexpr size_t kMaxAuthorities = 64;

absl::Status AddTrust(const spiffe::TrustDomain& trust_domain, absl::string_view der, HeldIdentity& held) {
  SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> roots,
                          crypto::Certificate::ParseChain(der, kMaxAuthorities), trust_domain.name());
  auto bundle = std::make_shared<spiffe::Bundle>(spiffe::Bundle{.trust_domain = trust_domain});
  for (const crypto::Certificate& root : roots) bundle->x509_authorities.push_back({root});
  SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors anchors, bundle->Anchors(), trust_domain.name());
  held.trust[std::string(trust_domain.name())] = {std::move(bundle),
                                                  std::make_shared<const crypto::TrustAnchors>(std::move(anchors))};
  return absl::OkStatus();
}

absl::StatusOr<HeldIdentity> Parse(const X509SVIDResponse& response) {
  if (response.svids().empty()) return absl::PermissionDeniedError("the agent gave no SVID");
  const X509SVID& first = response.svids(0);
  SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> chain, crypto::Certificate::ParseChain(first.x509_svid()));
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::ParsePkcs8(first.x509_svid_key()));
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), std::move(key)));
  HeldIdentity held{.svid = std::move(svid), .trust = {}};
  SIGNET_RETURN_IF_ERROR(AddTrust(held.svid.id.trust_domain(), first.bundle(), held));
  for (const auto& [name, der] : response.federated_bundles()) {
    SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain trust_domain, spiffe::TrustDomain::Parse(name));
    SIGNET_RETURN_IF_ERROR(AddTrust(trust_domain, der, held));
  }
  return held;
}

}  // namespace

std::shared_ptr<const spiffe::Bundle> HeldIdentity::BundleOf(const spiffe::TrustDomain& trust_domain) const {
  const auto found = trust.find(std::string(trust_domain.name()));
  return found == trust.end() ? nullptr : found->second.bundle;
}

absl::StatusOr<spiffe::Id> HeldIdentity::Verify(absl::Span<const crypto::Certificate> chain, absl::Time now) const {
  const auto anchors = [this](const spiffe::TrustDomain& trust_domain) -> std::shared_ptr<const crypto::TrustAnchors> {
    const auto found = trust.find(std::string(trust_domain.name()));
    return found == trust.end() ? nullptr : found->second.anchors;
  };
  return spiffe::VerifyX509Svid(chain, anchors, now);
}

IdentityStream::IdentityStream(std::string socket, Clock& clock,
                               std::function<void(const absl::Status&, absl::Duration)> on_trouble)
    : socket_(std::move(socket)),
      on_trouble_(std::move(on_trouble)),
      worker_("identity", clock, [this] { return Follow(); }) {}

IdentityStream::~IdentityStream() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    if (call_ != nullptr) call_->TryCancel();
  }
  worker_.Stop();
}

absl::Duration IdentityStream::Follow() {
  const absl::Status ended = Read();
  {
    MutexLock lock(mutex_);
    if (stopping_) return absl::InfiniteDuration();
  }
  const absl::Duration pause = backoff_.Next();
  on_trouble_(ended, pause);
  return pause;
}

// Returns why the stream ended.
absl::Status IdentityStream::Read() {
  SIGNET_ASSIGN_OR_RETURN(const auto channel, SocketChannel(socket_, "signet-agent"));
  const auto stub = SpiffeWorkloadAPI::NewStub(channel);
  grpc::ClientContext call;  // no deadline: it lasts
  call.AddMetadata("workload.spiffe.io", "true");
  {
    MutexLock lock(mutex_);
    if (stopping_) return absl::CancelledError();
    call_ = &call;
  }
  const absl::Cleanup forget = [this] {
    MutexLock lock(mutex_);
    call_ = nullptr;
  };
  const auto stream = stub->FetchX509SVID(&call, X509SVIDRequest());
  X509SVIDResponse response;
  absl::Status bad;
  while (stream->Read(&response)) {
    absl::StatusOr<HeldIdentity> held = Parse(response);
    if (!held.ok()) {
      bad = held.status();
      call.TryCancel();
      break;
    }
    backoff_.Reset();
    current_.Set(*std::move(held));
  }
  const absl::Status ended = rpc::FromTlsCall(stream->Finish());
  return bad.ok() ? ended : bad;
}

}  // namespace signet::cli
