// The HTTPS certificate of the token service from files: read at the start, again when they change (looked at every 10
// s) and on Reload(). What cannot be used is named in the log and the health, and the one before goes on serving.
// Thread-safe; owns one worker thread. Errors of Create: kInvalidArgument the files do not fit; kNotFound.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/worker.h"
#include "common/crypto/tls_server.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"

namespace signet::server {

// Reads and checks both files.
absl::StatusOr<crypto::TlsIdentity> ReadTlsIdentity(const std::string& certificate_path,
                                                    const std::string& private_key_path);

class CertificateFiles {
 public:
  static absl::StatusOr<std::unique_ptr<CertificateFiles>> Create(std::string certificate_path,
                                                                  std::string private_key_path,
                                                                  telemetry::Health& health, Clock& clock);
  ~CertificateFiles();

  std::shared_ptr<const crypto::TlsIdentity> Get() const { return current_.Get(); }
  // Whether the first certificate is for this host name: exactly, or by a leading "*." (RFC 6125 6.4.3).
  bool Covers(absl::string_view host) const;
  absl::Status Reload();  // now; on error nothing has changed

 private:
  CertificateFiles(std::string certificate_path, std::string private_key_path, telemetry::Health& health)
      : certificate_path_(std::move(certificate_path)),
        private_key_path_(std::move(private_key_path)),
        health_(health) {}
  void LookAgain();
  std::string Stamp() const;  // changes when a file does

  const std::string certificate_path_, private_key_path_;
  telemetry::Health& health_;
  LatestValue<crypto::TlsIdentity> current_;
  Mutex mutex_;  // one reader at a time
  std::string stamp_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Worker> worker_;  // last: stops first
};

}  // namespace signet::server
