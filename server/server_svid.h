// The server's own SVID, /spire/server: a fresh key and certificate at half life, in memory only. Feeds the TLS
// listener, whose next connection sees the new one, and says so in health when it cannot renew.
// Thread-safe; owns one worker thread.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/worker.h"
#include "common/rpc/server_credentials.h"
#include "common/spiffe/x509_svid.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"
#include "server/ca/certificate_authority.h"
#include "server/entries/entry_index.h"

namespace signet::server {

class ServerSvid {
 public:
  // Signs the first one at once; `dns_name` is for ordinary TLS clients, empty: none. All references must outlive it.
  static absl::StatusOr<std::unique_ptr<ServerSvid>> Create(const CertificateAuthority& ca, const EntryIndex& index,
                                                            telemetry::Health& health, Clock& clock,
                                                            std::string dns_name = "");
  ~ServerSvid();

  LatestValue<rpc::ServerIdentity>& tls() { return tls_; }
  const LatestValue<spiffe::X509Svid>& svid() const { return svid_; }
  // What the worker does when it is time, for tests: renews when half of the life is over, takes a new bundle's roots.
  absl::Status Step();

 private:
  ServerSvid(const CertificateAuthority& ca, const EntryIndex& index, telemetry::Health& health, Clock& clock,
             std::string dns_name)
      : ca_(ca), index_(index), health_(health), clock_(clock), dns_name_(std::move(dns_name)) {}
  absl::Duration Work();

  const CertificateAuthority& ca_;
  const EntryIndex& index_;
  telemetry::Health& health_;
  Clock& clock_;
  const std::string dns_name_;
  LatestValue<rpc::ServerIdentity> tls_;
  LatestValue<spiffe::X509Svid> svid_;
  Mutex mutex_;  // one step at a time
  absl::Time renew_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  BundlePtr bundle_ ABSL_GUARDED_BY(mutex_);
  Backoff backoff_{absl::Seconds(1), absl::Minutes(1)};
  std::unique_ptr<Worker> worker_;
};

}  // namespace signet::server
