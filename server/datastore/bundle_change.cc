#include "server/datastore/bundle_change.h"

#include <algorithm>

namespace signet::server {

bool Apply(const BundleChange& change, spiffe::Bundle& bundle) {
  bool changed = false;
  for (const spiffe::X509Authority& added : change.add_x509) {
    const bool known =
        std::any_of(bundle.x509_authorities.begin(), bundle.x509_authorities.end(),
                    [&](const spiffe::X509Authority& authority) { return authority.certificate == added.certificate; });
    if (known) continue;
    bundle.x509_authorities.push_back(added);
    changed = true;
  }
  for (const spiffe::JwtAuthority& added : change.add_jwt) {
    const bool known =
        std::any_of(bundle.jwt_authorities.begin(), bundle.jwt_authorities.end(),
                    [&](const spiffe::JwtAuthority& authority) { return authority.key_id == added.key_id; });
    if (known) continue;
    bundle.jwt_authorities.push_back(added);
    changed = true;
  }
  const absl::Time limit = change.remove_expired_before;
  changed |= std::erase_if(bundle.x509_authorities, [&](const spiffe::X509Authority& authority) {
               return authority.certificate.not_after() < limit;
             }) > 0;
  changed |= std::erase_if(bundle.jwt_authorities, [&](const spiffe::JwtAuthority& authority) {
               return authority.expires_at != absl::UnixEpoch() && authority.expires_at < limit;
             }) > 0;
  if (changed) ++bundle.sequence_number;
  return changed;
}

}  // namespace signet::server
