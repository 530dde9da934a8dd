// Structured logging over spdlog: one line an event, stable field names, text or JSON.
// Thread-safe after Init. Types that hold secrets have no formatter, so they cannot be passed.
//   SIGNET_LOG(info, "agent attested", {{"agent_id", id.string()}, {"attestor", "join_token"}});
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace signet::log {

enum class Level { kTrace, kDebug, kInfo, kWarn, kError, kOff };
absl::Status ParseLevel(absl::string_view name, Level& level);  // kInvalidArgument lists the names
absl::string_view LevelName(Level level);

enum class Format { kText, kJson };
// Once, at start, to stderr. Before it, lines go to stderr as text at info.
void Init(absl::string_view program, Level level, Format format);
// When the configuration is read anew: from then on as if Init had got these.
void Configure(Level level, Format format);
void SetLevel(Level level);
Level GetLevel();
Level LaunchLevel();  // the level of the configuration: what ResetLogLevel returns to

struct Field {
  template <typename T>
  Field(absl::string_view k, const T& v) : key(k), value(absl::StrCat(v)) {}
  absl::string_view key;
  std::string value;
};
bool Enabled(Level level);
void Write(Level level, absl::string_view event, std::initializer_list<Field> fields = {});

}  // namespace signet::log

#define SIGNET_LOG_LEVEL_trace ::signet::log::Level::kTrace
#define SIGNET_LOG_LEVEL_debug ::signet::log::Level::kDebug
#define SIGNET_LOG_LEVEL_info ::signet::log::Level::kInfo
#define SIGNET_LOG_LEVEL_warn ::signet::log::Level::kWarn
#define SIGNET_LOG_LEVEL_error ::signet::log::Level::kError
// The fields are evaluated only when the level is on.
#define SIGNET_LOG(level, ...)                                                                                         \
  do {                                                                                                                 \
    if (::signet::log::Enabled(SIGNET_LOG_LEVEL_##level)) ::signet::log::Write(SIGNET_LOG_LEVEL_##level, __VA_ARGS__); \
  } while (false)
