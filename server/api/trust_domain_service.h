// spire.api.server.trustdomain.v1.TrustDomain: with whom we federate, and where their bundles are fetched. What is
// written here takes effect at once: the refresher is told.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "server/api/call.h"
#include "server/datastore/data_store.h"
#include "server/federation/bundle_refresher.h"

namespace signet::server {

struct TrustDomainServiceDeps {
  spiffe::TrustDomain trust_domain;
  Calls& calls;
  FederationStore& federations;
  BundleRefresher& refresher;
};
std::unique_ptr<grpc::Service> MakeTrustDomainService(TrustDomainServiceDeps deps);

}  // namespace signet::server
