// Seam: one place outside where the trust bundle is written, for those who cannot ask the server yet. Called from one
// thread at a time, which may be kept waiting; Cancel() from any.
// Errors: kUnavailable, kResourceExhausted, kAborted try again; everything else wants somebody to set something right,
// and is tried again all the same. Messages name the place and the next step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/spiffe/bundle.h"

namespace signet::server {

class BundlePublisher {
 public:
  virtual ~BundlePublisher() = default;
  virtual std::string name() const = 0;  // "k8s_configmap prod": in log and health
  // Makes what stands there this bundle, whatever stood there. Within a deadline of its own; twice the same is no harm.
  virtual absl::Status Publish(const spiffe::Bundle& bundle) = 0;
  // For good: a Publish() under way, and any that comes, ends soon with kCancelled.
  virtual void Cancel() = 0;
};

using BundlePublishers = std::vector<std::unique_ptr<BundlePublisher>>;

}  // namespace signet::server
