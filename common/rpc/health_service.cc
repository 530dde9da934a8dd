#include "common/rpc/health_service.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace signet::rpc {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using grpc::health::v1::HealthListRequest;
using grpc::health::v1::HealthListResponse;

HealthCheckResponse::ServingStatus StatusOf(bool ready) {
  return ready ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

// Sends the status at once and after each change; what changes back before it was sent is not sent.
class WatchReactor final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  explicit WatchReactor(LatestValue<bool>* ready) {
    if (ready == nullptr) {
      wanted_ = HealthCheckResponse::SERVICE_UNKNOWN;  // never changes: services are fixed at start
    } else {
      subscription_ = ready->Subscribe([this](const LatestValue<bool>::Snapshot& now) {
        {
          std::lock_guard lock(mutex_);
          wanted_ = StatusOf(*now);
        }
        Step();
      });
      std::lock_guard lock(mutex_);
      wanted_ = StatusOf(*ready->Get());  // read after subscribing: no change falls in between
    }
    Step();
  }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
      ended_ = ended_ || !ok;
    }
    Step();
  }
  void OnCancel() override {
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    Step();
  }
  void OnDone() override { delete this; }

 private:
  // One write in flight, and Finish only when there is none. Nothing of this object may be touched after the call into
  // gRPC: OnDone may have run.
  void Step() {
    enum { kNothing, kWrite, kFinish } next = kNothing;
    {
      std::lock_guard lock(mutex_);
      if (writing_ || finished_) return;
      if (ended_) {
        finished_ = true;
        next = kFinish;
      } else if (wanted_ != message_.status() || !sent_any_) {
        message_.set_status(wanted_);
        writing_ = sent_any_ = true;
        next = kWrite;
      }
    }
    if (next == kWrite) StartWrite(&message_);
    if (next == kFinish) Finish(grpc::Status::CANCELLED);
  }

  std::mutex mutex_;
  HealthCheckResponse::ServingStatus wanted_ = HealthCheckResponse::NOT_SERVING;
  HealthCheckResponse message_;
  bool sent_any_ = false, writing_ = false, ended_ = false, finished_ = false;
  LatestValue<bool>::Subscription subscription_;  // last: ends, waiting for a running call, before the rest goes
};

// Ends a stream that was refused before it began.
class RefusedWatch final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  explicit RefusedWatch(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  HealthService(telemetry::Health& health, std::vector<std::string> services, Authorise authorise)
      : health_(health), services_(std::move(services)), authorise_(std::move(authorise)) {
    services_.emplace_back();  // the daemon as a whole
  }

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context, const HealthCheckRequest* request,
                                  HealthCheckResponse* response) override {
    auto* reactor = context->DefaultReactor();
    absl::Status status = authorise_(*context);
    if (status.ok() && !Knows(request->service())) {
      status = absl::NotFoundError(absl::StrCat("no service \"", absl::CHexEscape(request->service()), "\" here"));
    }
    response->set_status(StatusOf(health_.ready()));
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const HealthListRequest*,
                                 HealthListResponse* response) override {
    auto* reactor = context->DefaultReactor();
    const absl::Status status = authorise_(*context);
    if (status.ok()) {
      for (const std::string& service : services_) {
        (*response->mutable_statuses())[service].set_status(StatusOf(health_.ready()));
      }
    }
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  grpc::ServerWriteReactor<HealthCheckResponse>* Watch(grpc::CallbackServerContext* context,
                                                       const HealthCheckRequest* request) override {
    if (const absl::Status status = authorise_(*context); !status.ok()) return new RefusedWatch(ToGrpc(status));
    return new WatchReactor(Knows(request->service()) ? &health_.ready_value() : nullptr);
  }

 private:
  bool Knows(const std::string& service) const {
    return std::find(services_.begin(), services_.end(), service) != services_.end();
  }

  telemetry::Health& health_;
  std::vector<std::string> services_;
  const Authorise authorise_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeHealthService(telemetry::Health& health, std::vector<std::string> services,
                                                 Authorise authorise) {
  return std::make_unique<HealthService>(health, std::move(services), std::move(authorise));
}

}  // namespace signet::rpc
