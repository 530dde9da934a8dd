// Seam ApiClient without a network: the test says what each path answers, and may keep calls waiting. Waiting calls end
// by their cancellation, as real ones do. Thread-safe.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/kubernetes/api_client.h"

namespace signet::fakes {

class FakeApiClient final : public kubernetes::ApiClient {
 public:
  struct Call {
    std::string method, path, body;
    absl::Duration timeout;
  };

  // Replaces what `path` answers to every method.
  void Answer(const std::string& path, absl::StatusOr<std::string> answer) {
    std::lock_guard lock(mutex_);
    answers_.insert_or_assign(path, std::move(answer));
  }
  // Calls wait from now on, until Release() or their cancellation.
  void Hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
  }
  void Release() {
    std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  void AwaitWaiting(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ == count; });
  }
  std::vector<Call> calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  // Returns once there have been `count` calls.
  void AwaitCalls(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_.size() >= count; });
  }

  absl::StatusOr<std::string> Get(const std::string& path, const kubernetes::CallOptions& options) override {
    return Serve("GET", path, "", options);
  }
  absl::StatusOr<std::string> Post(const std::string& path, absl::string_view json,
                                   const kubernetes::CallOptions& options) override {
    return Serve("POST", path, json, options);
  }
  absl::StatusOr<std::string> Patch(const std::string& path, const std::string& content_type, absl::string_view json,
                                    const kubernetes::CallOptions& options) override {
    return Serve(absl::StrCat("PATCH ", content_type), path, json, options);
  }
  absl::Status Watch(const std::string&, const OnLine&, const kubernetes::WatchOptions&) override {
    return absl::UnimplementedError("watch");
  }

 private:
  absl::StatusOr<std::string> Serve(const std::string& method, const std::string& path, absl::string_view body,
                                    const kubernetes::CallOptions& options) {
    // The cancellation's own lock is never asked for with mutex_ held: Cancel() takes them the other way round.
    bool cancelled = false;
    const kubernetes::Cancellation::Waker waker(options.cancel, [&] {
      std::lock_guard lock(mutex_);
      cancelled = true;
      changed_.notify_all();
    });
    std::unique_lock lock(mutex_);
    calls_.push_back({method, path, std::string(body), options.timeout});
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !held_ || cancelled; });
    --waiting_;
    changed_.notify_all();
    if (cancelled) return absl::CancelledError(path);
    const auto answer = answers_.find(absl::StrCat(method.substr(0, method.find(' ')), " ", path));
    if (answer != answers_.end()) return answer->second;
    const auto any = answers_.find(path);
    return any != answers_.end() ? any->second : absl::NotFoundError(absl::StrCat(path, ": status 404"));
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, absl::StatusOr<std::string>> answers_;
  std::vector<Call> calls_;
  bool held_ = false;
  size_t waiting_ = 0;
};

}  // namespace signet::fakes
