#include "server/api/debug_service.h"

#include <utility>

#include "common/spiffe/wire.h"
#include "spire/api/server/debug/v1/debug.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::debug::v1;

class DebugService final : public v1::Debug::CallbackService {
 public:
  explicit DebugService(DebugServiceDeps deps) : d_(deps), started_(d_.clock.Steady()) {}

  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context, const v1::GetInfoRequest*,
                                    v1::GetInfoResponse* response) override {
    return d_.calls.Inline(context, Method::kGetInfo, [=, this](const CallerPtr&) {
      if (const auto identity = d_.identity.Get(); identity != nullptr) {
        for (const crypto::Certificate& certificate : identity->chain) {
          v1::GetInfoResponse::Cert& out = *response->add_svid_chain();
          out.set_expires_at(absl::ToUnixSeconds(certificate.not_after()));
          out.set_subject(certificate.subject());
          if (certificate.uri_sans().size() != 1) continue;
          if (const auto id = spiffe::Id::Parse(certificate.uri_sans().front()); id.ok()) {
            spiffe::ToWire(*id, out.mutable_id());
          }
        }
      }
      response->set_uptime(static_cast<int32_t>(absl::ToInt64Seconds(d_.clock.Steady() - started_)));
      response->set_agents_count(static_cast<int32_t>(d_.index.agent_count()));
      response->set_entries_count(static_cast<int32_t>(d_.index.entry_count()));
      return absl::OkStatus();
    });
  }

 private:
  const DebugServiceDeps d_;
  const absl::Duration started_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeDebugService(DebugServiceDeps deps) { return std::make_unique<DebugService>(deps); }

}  // namespace signet::server
