#include "server/token/certificate_files.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr absl::Duration kLook = absl::Seconds(10);
constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr absl::string_view kHealthPart = "token_certificate";

}  // namespace

absl::StatusOr<crypto::TlsIdentity> ReadTlsIdentity(const std::string& certificate_path,
                                                    const std::string& private_key_path) {
  crypto::TlsIdentity identity;
  SIGNET_ASSIGN_OR_RETURN(const std::string chain, fs::ReadFile(certificate_path, kMaxBytes));
  SIGNET_ASSIGN_OR_RETURN(identity.chain, crypto::Certificate::ParsePemChain(chain), certificate_path);
  SIGNET_ASSIGN_OR_RETURN(std::string key, fs::ReadFile(private_key_path, kMaxBytes));
  absl::StatusOr<crypto::PrivateKey> parsed = crypto::PrivateKey::ParsePem(key);
  crypto::Cleanse(key);
  if (!parsed.ok()) return WithContext(parsed.status(), private_key_path);
  identity.key = *std::move(parsed);
  if (identity.chain.empty() || !(identity.chain[0].public_key() == identity.key.public_key())) {
    return absl::InvalidArgumentError(
        absl::StrCat(private_key_path, ": is not the key of the first certificate of ", certificate_path));
  }
  return identity;
}

absl::StatusOr<std::unique_ptr<CertificateFiles>> CertificateFiles::Create(std::string certificate_path,
                                                                           std::string private_key_path,
                                                                           telemetry::Health& health, Clock& clock) {
  auto files = std::unique_ptr<CertificateFiles>(
      new CertificateFiles(std::move(certificate_path), std::move(private_key_path), health));
  SIGNET_RETURN_IF_ERROR(files->Reload());
  files->worker_ = std::make_unique<Worker>("token-cert", clock, [raw = files.get()] {
    raw->LookAgain();
    return kLook;
  });
  return files;
}

CertificateFiles::~CertificateFiles() {
  if (worker_ != nullptr) worker_->Stop();
}

bool CertificateFiles::Covers(absl::string_view host) const {
  const auto identity = current_.Get();
  for (const std::string& name : identity->chain[0].dns_sans()) {
    if (absl::EqualsIgnoreCase(name, host)) return true;
    const size_t dot = host.find('.');
    if (absl::StartsWith(name, "*.") && dot != absl::string_view::npos &&
        absl::EqualsIgnoreCase(name.substr(1), host.substr(dot))) {
      return true;
    }
  }
  return false;
}

absl::Status CertificateFiles::Reload() {
  MutexLock lock(mutex_);
  std::string stamp = Stamp();  // before the files are read: a change in between is seen the next time
  SIGNET_ASSIGN_OR_RETURN(crypto::TlsIdentity identity, ReadTlsIdentity(certificate_path_, private_key_path_));
  const auto before = current_.Get();
  const bool changed = before == nullptr || !(before->chain == identity.chain);
  if (changed) {
    SIGNET_LOG(info, "the certificate of the token service was read",
               {{"path", certificate_path_},
                {"serial", identity.chain[0].SerialDecimal()},
                {"not_after", absl::FormatTime(identity.chain[0].not_after(), absl::UTCTimeZone())}});
    current_.Set(std::move(identity));
  }
  stamp_ = std::move(stamp);
  health_.SetReady(kHealthPart);
  return absl::OkStatus();
}

void CertificateFiles::LookAgain() {
  {
    MutexLock lock(mutex_);
    if (Stamp() == stamp_) return;
  }
  if (const absl::Status status = Reload(); !status.ok()) {
    SIGNET_LOG(error, "the changed certificate of the token service cannot be used, the one before goes on",
               {{"error", status.message()}});
    health_.SetDegraded(kHealthPart, absl::StrCat("the changed files cannot be used: ", status.message()));
    MutexLock lock(mutex_);
    stamp_ = Stamp();  // said once for each change
  }
}

std::string CertificateFiles::Stamp() const {
  std::string stamp;
  for (const std::string& path : {certificate_path_, private_key_path_}) {
    struct stat st = {};
    if (stat(path.c_str(), &st) != 0) st = {};
    absl::StrAppend(&stamp, st.st_dev, " ", st.st_ino, " ", st.st_size, " ", st.st_mtim.tv_sec, ".", st.st_mtim.tv_nsec,
                    ";");
  }
  return stamp;
}

}  // namespace signet::server
