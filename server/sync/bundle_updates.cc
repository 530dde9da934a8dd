#include "server/sync/bundle_updates.h"

#include "common/spiffe/wire.h"

namespace signet::server {

std::shared_ptr<const v1::BundleUpdate> BundleUpdates::Get(const std::string& trust_domain) {
  const absl::StatusOr<spiffe::TrustDomain> name = spiffe::TrustDomain::Parse(trust_domain);
  const BundlePtr bundle = name.ok() ? index_.FindBundle(*name) : nullptr;
  MutexLock lock(mutex_);
  if (bundle == nullptr) {
    made_.erase(trust_domain);
    return nullptr;
  }
  Made& made = made_[trust_domain];
  if (made.from != bundle) {
    auto update = std::make_shared<v1::BundleUpdate>();
    spiffe::ToWire(*bundle, update->mutable_bundle());
    update->set_revision(bundle->Revision());
    made = {bundle, std::move(update)};
  }
  return made.update;
}

}  // namespace signet::server
