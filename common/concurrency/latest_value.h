// A watch channel: one immutable snapshot, replaced whole, and whoever wants to know of the next one.
// Thread-safe. Get() is a shared_ptr copy under a short lock; nothing is called with the lock held.
// A subscriber is called once for each Set() after it subscribed, on the thread that called Set(), in the order of the
// subscriptions; it must be quick and must not call Set(). Dropping the Subscription ends the calls and waits for one
// that is running, unless it is dropped from within the call itself.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace signet {

template <typename T>
class LatestValue {
 public:
  using Snapshot = std::shared_ptr<const T>;

  // Ends its subscription when destroyed. Must not outlive the LatestValue.
  class Subscription {
   public:
    Subscription() = default;
    Subscription(Subscription&& other) noexcept { *this = std::move(other); }
    Subscription& operator=(Subscription&& other) noexcept {
      Reset();
      owner_ = std::exchange(other.owner_, nullptr);
      id_ = other.id_;
      return *this;
    }
    ~Subscription() { Reset(); }
    void Reset() {
      if (owner_ != nullptr) std::exchange(owner_, nullptr)->Unsubscribe(id_);
    }

   private:
    friend class LatestValue;
    Subscription(LatestValue* owner, uint64_t id) : owner_(owner), id_(id) {}
    LatestValue* owner_ = nullptr;
    uint64_t id_ = 0;
  };

  LatestValue() = default;
  explicit LatestValue(T initial) : value_(std::make_shared<const T>(std::move(initial))) {}
  LatestValue(const LatestValue&) = delete;
  LatestValue& operator=(const LatestValue&) = delete;

  // Null until the first Set() when there was no initial value.
  Snapshot Get() const {
    std::lock_guard lock(mutex_);
    return value_;
  }

  void Set(T value) { Set(std::make_shared<const T>(std::move(value))); }
  void Set(Snapshot value) {
    std::lock_guard serial(set_mutex_);  // snapshots reach subscribers in the order in which they were set
    std::vector<uint64_t> ids;
    {
      std::lock_guard lock(mutex_);
      value_ = value;
      for (const auto& [id, _] : subscribers_) ids.push_back(id);
    }
    for (uint64_t id : ids) {
      std::function<void(Snapshot)> call;
      {
        std::lock_guard lock(mutex_);
        auto it = subscribers_.find(id);
        if (it == subscribers_.end()) continue;
        call = it->second;
        running_ = id;
        running_thread_ = std::this_thread::get_id();
      }
      call(value);
      {
        std::lock_guard lock(mutex_);
        running_ = 0;
      }
      idle_.notify_all();
    }
  }

  [[nodiscard]] Subscription Subscribe(std::function<void(Snapshot)> on_change) {
    std::lock_guard lock(mutex_);
    subscribers_[++last_id_] = std::move(on_change);
    return Subscription(this, last_id_);
  }

 private:
  void Unsubscribe(uint64_t id) {
    std::unique_lock lock(mutex_);
    subscribers_.erase(id);
    if (running_thread_ == std::this_thread::get_id()) return;
    idle_.wait(lock, [&] { return running_ != id; });
  }

  std::mutex set_mutex_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  Snapshot value_;
  std::map<uint64_t, std::function<void(Snapshot)>> subscribers_;
  uint64_t last_id_ = 0;
  uint64_t running_ = 0;
  std::thread::id running_thread_;
};

}  // namespace signet
