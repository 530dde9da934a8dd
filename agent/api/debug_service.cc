#include <algorithm>
#include <limits>
#include <utility>

#include "absl/time/time.h"
#include "agent/api/admin_services.h"
#include "common/spiffe/id.h"
#include "spire/api/agent/debug/v1/debug.grpc.pb.h"

namespace signet::agent {
namespace {

namespace debug = ::spire::agent::debug::v1;

int32_t Saturated(uint64_t n) {
  return static_cast<int32_t>(std::min<uint64_t>(n, std::numeric_limits<int32_t>::max()));
}

class DebugService final : public debug::Debug::CallbackService {
 public:
  explicit DebugService(DebugServiceDeps deps) : deps_(std::move(deps)), started_(deps_.clock.Steady()) {}

  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context, const debug::GetInfoRequest*,
                                    debug::GetInfoResponse* response) override {
    for (const crypto::Certificate& certificate : deps_.agent_svid()) {
      debug::GetInfoResponse::Cert& out = *response->add_svid_chain();
      out.set_expires_at(absl::ToUnixSeconds(certificate.not_after()));
      out.set_subject(certificate.subject());
      if (certificate.uri_sans().size() != 1) continue;
      // What is no SPIFFE ID (an upstream's intermediate) has none.
      if (absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(certificate.uri_sans()[0]); id.ok()) {
        out.mutable_id()->set_trust_domain(std::string(id->trust_domain_name()));
        out.mutable_id()->set_path(std::string(id->path()));
      }
    }
    const SvidCache::Counts counts = deps_.cache.counts();
    response->set_uptime(Saturated(static_cast<uint64_t>(absl::ToInt64Seconds(deps_.clock.Steady() - started_))));
    response->set_svids_count(Saturated(counts.x509_svids));
    response->set_cached_x509_svids_count(Saturated(counts.x509_svids));
    response->set_cached_jwt_svids_count(Saturated(counts.jwt_svids));
    if (counts.last_sync > absl::InfinitePast()) response->set_last_sync_success(absl::ToUnixSeconds(counts.last_sync));
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const DebugServiceDeps deps_;
  const absl::Duration started_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeDebugService(DebugServiceDeps deps) {
  return std::make_unique<DebugService>(std::move(deps));
}

}  // namespace signet::agent
