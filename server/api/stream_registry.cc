#include "server/api/stream_registry.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace signet::server {
namespace {

constexpr absl::Duration kLongestLook = absl::Minutes(1);  // the wall clock may step

}  // namespace

struct StreamRegistry::Stream {
  Method method;
  CallerPtr caller;
  absl::Time deadline;
  End end;
  std::unique_ptr<EntryIndex::Subscription> subscription;
  // Under the registry's mutex.
  bool dirty = true;
  absl::Time look_again = absl::InfiniteFuture();
  // The worker's alone.
  BundlePtr verified_under;
  absl::Time superseded_at = absl::InfiniteFuture();
};

StreamRegistry::Handle::~Handle() { registry_.Drop(id_); }

StreamRegistry::StreamRegistry(Authorizer& authorizer, CallerSource& callers, EntryIndex& index, Clock& clock)
    : authorizer_(authorizer), callers_(callers), index_(index), clock_(clock), worker_("streams", clock, [this] {
        return Sweep();
      }) {}

StreamRegistry::~StreamRegistry() { worker_.Stop(); }

std::unique_ptr<StreamRegistry::Handle> StreamRegistry::Register(Method method, CallerPtr caller, End end,
                                                                 absl::Time deadline) {
  auto stream = std::make_shared<Stream>();
  stream->method = method;
  stream->caller = std::move(caller);
  stream->end = std::move(end);
  stream->deadline = deadline;
  if (stream->caller->id) {
    stream->verified_under = index_.FindBundle(stream->caller->id->trust_domain());
    // The subscription comes before the first look, so that nothing is missed between the two.
    std::weak_ptr<Stream> weak = stream;
    stream->subscription = index_.Subscribe(*stream->caller->id, [this, weak](const AgentChange& change) {
      if (!change.agent_changed && change.bundles.empty()) return;
      if (std::shared_ptr<Stream> changed = weak.lock()) {
        {
          MutexLock lock(mutex_);
          changed->dirty = true;
        }
        worker_.Wake();
      }
    });
  }
  uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    id = ++last_id_;
    streams_[id] = std::move(stream);
  }
  worker_.Wake();
  return std::unique_ptr<Handle>(new Handle(*this, id));
}

void StreamRegistry::FinishAll(const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    finished_ = status;
    for (auto& [id, stream] : streams_) stream->dirty = true;
  }
  worker_.Wake();
}

size_t StreamRegistry::size() const {
  MutexLock lock(mutex_);
  return streams_.size();
}

absl::Duration StreamRegistry::Sweep() {
  std::vector<std::pair<uint64_t, std::shared_ptr<Stream>>> due;
  absl::Status finished;
  const absl::Time now = clock_.Now();
  {
    MutexLock lock(mutex_);
    finished = finished_;
    for (auto& [id, stream] : streams_) {
      if (!stream->dirty && stream->look_again > now) continue;
      stream->dirty = false;
      due.emplace_back(id, stream);
    }
  }
  for (auto& [id, stream] : due) {
    absl::Time look_again = absl::InfiniteFuture();
    const absl::Status status = finished.ok() ? Examine(*stream, now, look_again) : finished;
    if (!status.ok()) {
      RunEnd(id, *stream, status);
      continue;
    }
    MutexLock lock(mutex_);
    stream->look_again = look_again;
  }
  due.clear();
  absl::Time next = now + kLongestLook;
  MutexLock lock(mutex_);
  for (const auto& [id, stream] : streams_) next = std::min(next, stream->look_again);
  return streams_.empty() ? absl::InfiniteDuration() : std::max(next - clock_.Now(), absl::ZeroDuration());
}

// OK: goes on at least until `look_again`.
absl::Status StreamRegistry::Examine(Stream& stream, absl::Time now, absl::Time& look_again) {
  look_again = stream.deadline;
  if (now >= stream.deadline) return absl::DeadlineExceededError(absl::StrCat(RowOf(stream.method).path, ": too slow"));
  if (!stream.caller->id) return absl::OkStatus();
  Authorizer::Decision decision = authorizer_.Decide(stream.method, stream.caller);
  if (decision.confirm) decision = authorizer_.Confirm(stream.method, stream.caller);
  if (decision.superseded) {
    stream.superseded_at = std::min(stream.superseded_at, now);
    const absl::Time end = stream.superseded_at + kOverlap;
    if (end <= now) return decision.status;
    look_again = std::min(look_again, end);
  } else {
    stream.superseded_at = absl::InfiniteFuture();
    if (absl::IsPermissionDenied(decision.status) || absl::IsUnauthenticated(decision.status)) return decision.status;
    if (!decision.status.ok()) {  // no verdict, the database did not answer: ask again soon
      look_again = std::min(look_again, now + absl::Seconds(1));
      return absl::OkStatus();
    }
  }
  look_again = std::min(look_again, stream.caller->not_after);
  const BundlePtr bundle = index_.FindBundle(stream.caller->id->trust_domain());
  if (bundle != stream.verified_under) {
    if (!callers_.StillVerifies(*stream.caller)) {
      return absl::UnauthenticatedError(
          absl::StrCat("\"", stream.caller->id->string(), "\": its SVID no longer verifies under the trust bundle"));
    }
    stream.verified_under = bundle;
  }
  return absl::OkStatus();
}

void StreamRegistry::RunEnd(uint64_t id, Stream& stream, const absl::Status& status) {
  End end;
  {
    MutexLock lock(mutex_);
    if (!streams_.contains(id)) return;
    stream.look_again = absl::InfiniteFuture();
    end = std::exchange(stream.end, nullptr);
    ending_ = id;
    ending_thread_ = std::this_thread::get_id();
  }
  if (end) end(status);
  {
    MutexLock lock(mutex_);
    ending_ = 0;
  }
  idle_.notify_all();
}

// The analysis does not see through std::unique_lock, which the condition variable needs.
void StreamRegistry::Drop(uint64_t id) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  std::shared_ptr<Stream> stream;  // its subscription is dropped without the lock
  {
    std::unique_lock lock(mutex_.native());
    auto it = streams_.find(id);
    if (it == streams_.end()) return;
    stream = std::move(it->second);
    streams_.erase(it);
    if (ending_thread_ != std::this_thread::get_id()) {
      idle_.wait(lock, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ending_ != id; });
    }
  }
  stream->subscription.reset();
}

}  // namespace signet::server
