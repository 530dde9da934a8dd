// Readiness with reasons: each part of a daemon says by name what keeps it from working, and takes it back when it
// works. Thread-safe.
#pragma once

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/mutex.h"

namespace signet::telemetry {

class Health {
 public:
  // A part is not ready until it says so. `reason` tells the operator what is wrong and what to do.
  void SetUnready(absl::string_view part, absl::string_view reason);
  void SetReady(absl::string_view part);
  // Works, but something is amiss: stays ready, shown in the answer and in `signet status`.
  void SetDegraded(absl::string_view part, absl::string_view reason);

  bool ready() const { return *ready_.Get(); }
  // Follows ready(): who serves it on is told of each change, and must not
  // change this Health from within.
  LatestValue<bool>& ready_value() { return ready_; }
  // {"ready":false,"parts":{"sync":{"state":"unready","reason":"..."}}}
  std::string Json() const;

 private:
  struct Part {
    int state = 0;  // 0 ready, 1 degraded, 2 unready
    std::string reason;
  };
  void Set(absl::string_view part, Part value);

  LatestValue<bool> ready_{true};
  Mutex publish_mutex_;  // taken before mutex_
  mutable Mutex mutex_;
  std::map<std::string, Part> parts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::telemetry
