// Fetches the bundle of a foreign trust domain from its endpoint (SPIFFE Federation 5.2): https_web by the web PKI of
// this machine and the host's name, https_spiffe by an X.509-SVID of the endpoint's ID and nothing else. Thread-safe.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/time/clock.h"
#include "server/datastore/records.h"
#include "server/entries/entry_index.h"

namespace signet::server {

class BundleClient {
 public:
  struct Options {
    std::string web_roots_file;                  // https_web; empty: the system's
    absl::Duration timeout = absl::Seconds(10);  // of all of one fetch
  };
  // The bundle of a trust domain that holds the endpoint, when it is not the one that is fetched. Null: none.
  using FindBundle = std::function<BundlePtr(const spiffe::TrustDomain&)>;

  BundleClient(Options options, FindBundle find_bundle, Clock& clock)
      : options_(std::move(options)), find_bundle_(std::move(find_bundle)), clock_(clock) {}

  // Blocks. An endpoint in the trust domain itself is judged by `relationship.bundle`, the last one known (FED-11).
  // kFailedPrecondition: there is no bundle to judge it by, give one; kUnavailable: not reached, or not who it should
  // be; kInvalidArgument: what it answered is no bundle.
  absl::StatusOr<spiffe::Bundle> Fetch(const FederationRelationship& relationship) const;

 private:
  absl::StatusOr<std::string> FetchBySvid(const FederationRelationship& relationship) const;

  const Options options_;
  const FindBundle find_bundle_;
  Clock& clock_;
};

}  // namespace signet::server
