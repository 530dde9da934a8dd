#include "server/api/logger_service.h"

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "spire/api/server/logger/v1/logger.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::logger::v1;
namespace wire = ::spire::api::types;

wire::LogLevel ToWire(log::Level level) {
  switch (level) {
    case log::Level::kTrace:
      return wire::TRACE;
    case log::Level::kDebug:
      return wire::DEBUG;
    case log::Level::kInfo:
      return wire::INFO;
    case log::Level::kWarn:
      return wire::WARN;
    case log::Level::kError:
      return wire::ERROR;
    case log::Level::kOff:
      return wire::PANIC;
  }
  return wire::UNSPECIFIED;
}

absl::StatusOr<log::Level> FromWire(wire::LogLevel level) {
  switch (level) {
    case wire::TRACE:
      return log::Level::kTrace;
    case wire::DEBUG:
      return log::Level::kDebug;
    case wire::INFO:
      return log::Level::kInfo;
    case wire::WARN:
      return log::Level::kWarn;
    case wire::ERROR:
    case wire::FATAL:
      return log::Level::kError;
    case wire::PANIC:
      return log::Level::kOff;
    default:
      return absl::InvalidArgumentError("new_level: must be a level, TRACE to PANIC");
  }
}

class LoggerService final : public v1::Logger::CallbackService {
 public:
  explicit LoggerService(Calls& calls) : calls_(calls) {}

  grpc::ServerUnaryReactor* GetLogger(grpc::CallbackServerContext* context, const v1::GetLoggerRequest*,
                                      wire::Logger* response) override {
    return calls_.Inline(context, Method::kGetLogger, [=](const CallerPtr&) { return Tell(*response); });
  }

  grpc::ServerUnaryReactor* SetLogLevel(grpc::CallbackServerContext* context, const v1::SetLogLevelRequest* request,
                                        wire::Logger* response) override {
    return calls_.Inline(context, Method::kSetLogLevel, [=](const CallerPtr& caller) {
      const absl::StatusOr<log::Level> level = FromWire(request->new_level());
      if (!level.ok()) return level.status();
      log::SetLevel(*level);
      SIGNET_LOG(info, "log level set", {{"level", log::LevelName(*level)}, {"by", caller->ToString()}});
      return Tell(*response);
    });
  }

  grpc::ServerUnaryReactor* ResetLogLevel(grpc::CallbackServerContext* context, const v1::ResetLogLevelRequest*,
                                          wire::Logger* response) override {
    return calls_.Inline(context, Method::kResetLogLevel, [=](const CallerPtr&) {
      log::SetLevel(log::LaunchLevel());
      return Tell(*response);
    });
  }

 private:
  static absl::Status Tell(wire::Logger& out) {
    out.set_current_level(ToWire(log::GetLevel()));
    out.set_launch_level(ToWire(log::LaunchLevel()));
    return absl::OkStatus();
  }

  Calls& calls_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLoggerService(Calls& calls) { return std::make_unique<LoggerService>(calls); }

}  // namespace signet::server
