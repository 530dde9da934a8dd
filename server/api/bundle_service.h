// spire.api.server.bundle.v1.Bundle: our own bundle for everybody, federated ones for those who need them. Changing
// them comes with federation; those calls are authorised and then UNIMPLEMENTED.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "server/api/call.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"

namespace signet::server {

struct BundleServiceDeps {
  spiffe::TrustDomain trust_domain;
  Calls& calls;
  BundleStore& bundles;
  const EntryIndex& index;
};
std::unique_ptr<grpc::Service> MakeBundleService(BundleServiceDeps deps);

}  // namespace signet::server
