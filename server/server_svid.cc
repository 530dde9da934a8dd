#include "server/server_svid.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr absl::Duration kLongestWait = absl::Seconds(30);  // within which a changed bundle is taken up

}  // namespace

absl::StatusOr<std::unique_ptr<ServerSvid>> ServerSvid::Create(const CertificateAuthority& ca, const EntryIndex& index,
                                                               telemetry::Health& health, Clock& clock,
                                                               std::string dns_name) {
  auto made = std::unique_ptr<ServerSvid>(new ServerSvid(ca, index, health, clock, std::move(dns_name)));
  SIGNET_RETURN_IF_ERROR(made->Step(), "server's own SVID");
  made->worker_ = std::make_unique<Worker>("server-svid", clock, [raw = made.get()] { return raw->Work(); });
  return made;
}

ServerSvid::~ServerSvid() {
  if (worker_ != nullptr) worker_->Stop();
}

absl::Duration ServerSvid::Work() {
  if (const absl::Status status = Step(); !status.ok()) {
    SIGNET_LOG(error, "server's own SVID not renewed, will retry", {{"error", status.message()}});
    health_.SetDegraded("server_svid", absl::StrCat("not renewed: ", status.message()));
    return backoff_.Next();
  }
  backoff_.Reset();
  health_.SetReady("server_svid");
  MutexLock lock(mutex_);
  return std::clamp(renew_at_ - clock_.Now(), absl::Seconds(1), kLongestWait);
}

absl::Status ServerSvid::Step() {
  MutexLock lock(mutex_);
  const BundlePtr bundle = index_.FindBundle(ca_.policy().trust_domain);
  if (bundle == nullptr) return absl::UnavailableError("the trust bundle is not in memory yet");
  const std::shared_ptr<const spiffe::X509Svid> held = svid_.Get();
  const absl::Time now = clock_.Now();
  if (held == nullptr || now >= renew_at_ || now < held->leaf().not_before()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(crypto::KeyType::kEcP256));
    SIGNET_ASSIGN_OR_RETURN(IssuedX509 issued, ca_.SignServer(key.public_key(), dns_name_));
    SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(issued.chain), std::move(key)));
    renew_at_ = now + (issued.expires_at - now) / 2;
    svid_.Set(std::move(svid));
  } else if (bundle == bundle_) {
    return absl::OkStatus();
  }
  bundle_ = bundle;
  const std::shared_ptr<const spiffe::X509Svid> svid = svid_.Get();
  tls_.Set(rpc::ServerIdentity{svid->key.Pkcs8Pem(), svid->ChainPem(), bundle->ToPem()});
  return absl::OkStatus();
}

}  // namespace signet::server
