#include "common/telemetry/health.h"

#include <algorithm>

#include <boost/json.hpp>

namespace signet::telemetry {
namespace {
enum State { kReady = 0, kDegraded = 1, kUnready = 2 };
constexpr absl::string_view kStateNames[] = {"ready", "degraded", "unready"};
}  // namespace

void Health::Set(absl::string_view part, Part value) {
  MutexLock publish(publish_mutex_);  // readiness is published in the order of the changes
  bool now = true;
  {
    MutexLock lock(mutex_);
    parts_[std::string(part)] = std::move(value);
    now = std::none_of(parts_.begin(), parts_.end(), [](const auto& p) { return p.second.state == kUnready; });
  }
  if (*ready_.Get() != now) ready_.Set(now);
}

void Health::SetUnready(absl::string_view part, absl::string_view reason) {
  Set(part, {kUnready, std::string(reason)});
}
void Health::SetReady(absl::string_view part) { Set(part, {}); }
void Health::SetDegraded(absl::string_view part, absl::string_view reason) {
  Set(part, {kDegraded, std::string(reason)});
}

std::string Health::Json() const {
  boost::json::object parts;
  bool all_ready = true;
  {
    MutexLock lock(mutex_);
    for (const auto& [name, part] : parts_) {
      all_ready = all_ready && part.state != kUnready;
      const absl::string_view state = kStateNames[part.state];
      boost::json::object& object = parts[name].emplace_object();
      object["state"] = boost::json::string_view(state.data(), state.size());
      if (!part.reason.empty()) object["reason"] = part.reason;
    }
  }
  boost::json::object answer;
  answer["ready"] = all_ready;
  answer["parts"] = std::move(parts);
  return boost::json::serialize(answer);
}

}  // namespace signet::telemetry
