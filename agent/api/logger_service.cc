#include "agent/api/admin_services.h"
#include "common/log/log.h"
#include "spire/api/agent/logger/v1/logger.grpc.pb.h"

namespace signet::agent {
namespace {

namespace logger = ::spire::api::agent::logger::v1;
using ::spire::api::types::LogLevel;

LogLevel ToWire(log::Level level) {
  switch (level) {
    case log::Level::kTrace:
      return LogLevel::TRACE;
    case log::Level::kDebug:
      return LogLevel::DEBUG;
    case log::Level::kInfo:
      return LogLevel::INFO;
    case log::Level::kWarn:
      return LogLevel::WARN;
    case log::Level::kError:
      return LogLevel::ERROR;
    case log::Level::kOff:
      return LogLevel::PANIC;  // the quietest there is
  }
  return LogLevel::UNSPECIFIED;
}

// FATAL and PANIC are levels that Signet does not log at.
bool FromWire(LogLevel wire, log::Level* level) {
  switch (wire) {
    case LogLevel::TRACE:
      *level = log::Level::kTrace;
      return true;
    case LogLevel::DEBUG:
      *level = log::Level::kDebug;
      return true;
    case LogLevel::INFO:
      *level = log::Level::kInfo;
      return true;
    case LogLevel::WARN:
      *level = log::Level::kWarn;
      return true;
    case LogLevel::ERROR:
      *level = log::Level::kError;
      return true;
    case LogLevel::FATAL:
    case LogLevel::PANIC:
      *level = log::Level::kOff;
      return true;
    default:
      return false;
  }
}

class LoggerService final : public logger::Logger::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetLogger(grpc::CallbackServerContext* context, const logger::GetLoggerRequest*,
                                      ::spire::api::types::Logger* response) override {
    return Answer(context, response);
  }

  grpc::ServerUnaryReactor* SetLogLevel(grpc::CallbackServerContext* context, const logger::SetLogLevelRequest* request,
                                        ::spire::api::types::Logger* response) override {
    log::Level level;
    if (!FromWire(request->new_level(), &level)) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish({grpc::StatusCode::INVALID_ARGUMENT, "new_level must be one of the named levels"});
      return reactor;
    }
    SetAndLog(level);
    return Answer(context, response);
  }

  grpc::ServerUnaryReactor* ResetLogLevel(grpc::CallbackServerContext* context, const logger::ResetLogLevelRequest*,
                                          ::spire::api::types::Logger* response) override {
    SetAndLog(log::LaunchLevel());
    return Answer(context, response);
  }

 private:
  static void SetAndLog(log::Level level) {
    log::SetLevel(level);
    SIGNET_LOG(info, "log level changed", {{"level", log::LevelName(level)}});
  }
  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, ::spire::api::types::Logger* response) {
    response->set_current_level(ToWire(log::GetLevel()));
    response->set_launch_level(ToWire(log::LaunchLevel()));
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLoggerService() { return std::make_unique<LoggerService>(); }

}  // namespace signet::agent
