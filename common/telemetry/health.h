// Readiness with reasons: each part of a daemon says by name what keeps it from working, and takes it back when it works.
// Thread-safe.
#pragma once

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "common/concurrency/mutex.h"

namespace signet::telemetry {

class Health {
 public:
  // A part is not ready until it says so. `reason` tells the operator what is wrong and what to do.
  void SetUnready(absl::string_view part, absl::string_view reason);
  void SetReady(absl::string_view part);
  // Works, but something is amiss: stays ready, shown in the answer and in `signet status`.
  void SetDegraded(absl::string_view part, absl::string_view reason);

  bool ready() const;
  // {"ready":false,"parts":{"sync":{"state":"unready","reason":"..."}}}
  std::string Json() const;

 private:
  struct Part {
    int state = 0;  // 0 ready, 1 degraded, 2 unready
    std::string reason;
  };
  mutable Mutex mutex_;
  std::map<std::string, Part> parts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::telemetry
