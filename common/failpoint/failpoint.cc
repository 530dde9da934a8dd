#include "common/failpoint/failpoint.h"

#ifdef SIGNET_FAILPOINTS
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace signet::failpoint {
namespace {

struct Armed {
  std::string action;
  int at = 0;  // 0: every passage
  int passed = 0;
};

class Registry {
 public:
  Registry() {
    const char* text = std::getenv("SIGNET_FAILPOINT");
    if (text != nullptr) Arm(text);
  }

  void Arm(absl::string_view text) {
    std::lock_guard lock(mutex_);
    armed_.clear();
    for (absl::string_view item : absl::StrSplit(text, ',', absl::SkipEmpty())) {
      const std::pair<absl::string_view, absl::string_view> rule = absl::StrSplit(item, absl::MaxSplits('=', 1));
      const std::pair<absl::string_view, absl::string_view> action =
          absl::StrSplit(rule.second, absl::MaxSplits('@', 1));
      Armed armed{std::string(action.first)};
      if (!action.second.empty() && !absl::SimpleAtoi(action.second, &armed.at)) armed.at = 0;
      armed_[std::string(rule.first)] = armed;
    }
    any_ = !armed_.empty();
  }

  absl::Status Pass(absl::string_view name) {
    if (!any_.load(std::memory_order_relaxed)) return absl::OkStatus();
    std::lock_guard lock(mutex_);
    auto it = armed_.find(std::string(name));
    if (it == armed_.end()) return absl::OkStatus();
    Armed& armed = it->second;
    if (++armed.passed != armed.at && armed.at != 0) return absl::OkStatus();
    if (armed.action == "kill") kill(getpid(), SIGKILL);
    return absl::InternalError(absl::StrCat("failpoint ", name));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Armed> armed_;
  std::atomic<bool> any_{false};
};

Registry& TheRegistry() {
  static Registry registry;
  return registry;
}

}  // namespace

absl::Status Pass(absl::string_view name) { return TheRegistry().Pass(name); }
void Arm(absl::string_view rules) { TheRegistry().Arm(rules); }

}  // namespace signet::failpoint
#endif
