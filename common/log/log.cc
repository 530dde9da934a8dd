#include "common/log/log.h"

#include <unistd.h>

#include <atomic>
#include <memory>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace signet::log {
namespace {

constexpr absl::string_view kLevelNames[] = {"trace", "debug", "info", "warn", "error", "off"};

struct State {
  std::atomic<Level> level{Level::kInfo};
  std::atomic<Level> launch{Level::kInfo};
  std::atomic<Format> format{Format::kText};
  std::string program = "signet";
  std::shared_ptr<spdlog::logger> logger;
};

State& TheState() {
  static State& state = *[] {
    auto* s = new State;  // never destroyed: threads of gRPC may log until the process ends
    s->logger = std::make_shared<spdlog::logger>("signet", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    s->logger->set_pattern("%v");
    s->logger->set_level(spdlog::level::trace);
    s->logger->flush_on(spdlog::level::trace);
    return s;
  }();
  return state;
}

bool IsPlain(absl::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f) return false;
  }
  return true;
}

// JSON string body (RFC 8259 7); bytes that are no UTF-8 become U+FFFD, so that a hostile value never breaks a line.
void AppendJsonString(std::string& out, absl::string_view text) {
  out.push_back('"');
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) {
      if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(static_cast<char>(c));
      } else if (c < 0x20 || c == 0x7f) {
        absl::StrAppend(&out, "\\u00", absl::Hex(c, absl::kZeroPad2));
      } else {
        out.push_back(static_cast<char>(c));
      }
      ++i;
      continue;
    }
    const size_t length = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    bool good = length != 0 && i + length <= text.size();
    for (size_t k = 1; good && k < length; ++k) good = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    if (good) {
      absl::StrAppend(&out, text.substr(i, length));
      i += length;
    } else {
      out.append("\\ufffd");
      ++i;
    }
  }
  out.push_back('"');
}

std::string TextLine(Level level, absl::string_view event, std::initializer_list<Field> fields,
                     absl::string_view time) {
  std::string line =
      absl::StrCat(time, " ", absl::AsciiStrToUpper(LevelName(level)), " ", absl::Utf8SafeCHexEscape(event));
  for (const Field& field : fields) {
    absl::StrAppend(&line, " ", field.key, "=");
    if (IsPlain(field.value)) {
      line.append(field.value);
    } else {
      absl::StrAppend(&line, "\"", absl::Utf8SafeCHexEscape(field.value), "\"");
    }
  }
  return line;
}

std::string JsonLine(Level level, absl::string_view event, std::initializer_list<Field> fields, absl::string_view time,
                     absl::string_view program) {
  std::string line = absl::StrCat("{\"time\":\"", time, "\",\"level\":\"", LevelName(level), "\",\"program\":");
  AppendJsonString(line, program);
  line.append(",\"event\":");
  AppendJsonString(line, event);
  for (const Field& field : fields) {
    line.push_back(',');
    AppendJsonString(line, field.key);
    line.push_back(':');
    AppendJsonString(line, field.value);
  }
  line.push_back('}');
  return line;
}

}  // namespace

absl::Status ParseLevel(absl::string_view name, Level& level) {
  for (size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (name == kLevelNames[i]) {
      level = static_cast<Level>(i);
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("log level \"", absl::CHexEscape(name), "\" is unknown; use one of ",
                                                 absl::StrJoin(kLevelNames, ", ")));
}

absl::string_view LevelName(Level level) { return kLevelNames[static_cast<size_t>(level)]; }

void Init(absl::string_view program, Level level, Format format) {
  TheState().program = std::string(program);
  Configure(level, format);
}

void Configure(Level level, Format format) {
  State& state = TheState();
  state.format = format;
  state.launch = level;
  state.level = level;
}

void SetLevel(Level level) { TheState().level = level; }
Level GetLevel() { return TheState().level; }
Level LaunchLevel() { return TheState().launch; }

bool Enabled(Level level) { return level >= TheState().level.load(std::memory_order_relaxed); }

void Write(Level level, absl::string_view event, std::initializer_list<Field> fields) {
  State& state = TheState();
  const std::string time = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  const std::string line = state.format == Format::kJson ? JsonLine(level, event, fields, time, state.program)
                                                         : TextLine(level, event, fields, time);
  // The logger adds nothing but the end of the line; the level was decided by Enabled().
  state.logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace signet::log
