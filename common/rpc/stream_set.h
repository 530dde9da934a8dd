// The live streams of a server, so that all of them can be ended: at shutdown grpc::Server waits for every reactor.
// Thread-safe; no lock is held while a stream is told to end.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/concurrency/mutex.h"

namespace signet::rpc {

class StreamSet {
 public:
  class Stream {
   public:
    virtual ~Stream() = default;
    // Finishes the call with `status`. May come at any time, more than once, and after the stream ended by itself.
    virtual void End(const absl::Status& status) = 0;
  };

  // Takes the stream out of the set when destroyed. Must not outlive the set.
  class Registration {
   public:
    Registration() = default;
    Registration(Registration&& other) noexcept : set_(std::exchange(other.set_, nullptr)), id_(other.id_) {}
    Registration& operator=(Registration&& other) noexcept {
      Reset();
      set_ = std::exchange(other.set_, nullptr);
      id_ = other.id_;
      return *this;
    }
    ~Registration() { Reset(); }
    void Reset() {
      if (set_ != nullptr) std::exchange(set_, nullptr)->Remove(id_);
    }

   private:
    friend class StreamSet;
    Registration(StreamSet* set, uint64_t id) : set_(set), id_(id) {}
    StreamSet* set_ = nullptr;
    uint64_t id_ = 0;
  };

  // After FinishAll() a stream is ended as soon as it is added.
  [[nodiscard]] Registration Add(const std::shared_ptr<Stream>& stream) {
    absl::Status ended;
    uint64_t id;
    {
      MutexLock lock(mutex_);
      ended = ended_;
      id = ++last_id_;
      streams_[id] = stream;
    }
    if (!ended.ok()) stream->End(ended);
    return Registration(this, id);
  }

  void FinishAll(const absl::Status& status) {
    {
      MutexLock lock(mutex_);
      ended_ = status;
    }
    for (const std::shared_ptr<Stream>& stream : streams()) stream->End(status);
  }

  std::vector<std::shared_ptr<Stream>> streams() const {
    std::vector<std::shared_ptr<Stream>> live;
    MutexLock lock(mutex_);
    live.reserve(streams_.size());
    for (const auto& [id, stream] : streams_) {
      if (auto held = stream.lock()) live.push_back(std::move(held));
    }
    return live;
  }
  size_t size() const {
    MutexLock lock(mutex_);
    return streams_.size();
  }

 private:
  void Remove(uint64_t id) {
    MutexLock lock(mutex_);
    streams_.erase(id);
  }

  mutable Mutex mutex_;
  absl::Status ended_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::weak_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::rpc
