// The pods of this node: found by uid or container id in a microsecond, kept current by whoever watches them, and
// waited for by those that come too early.
// A pod that nobody told of yet, or whose container the kubelet has not reported yet, is waited for without a thread,
// until it comes or the time is over; who waits is bounded, overall and for each pod. A pod that was deleted is
// remembered as such: its processes are told at once.
// Thread-safe. No lock is held while a Done or the signal is called; either may come on the caller's thread.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/workloadattestor/k8s/cgroup_path.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/kubernetes/namespace.h"
#include "common/kubernetes/pod.h"
#include "common/time/clock.h"

namespace signet::agent {

// A pod as it was at one moment. Immutable but for `outdated`, which is set once: something about the pod has changed,
// or it is gone.
struct KnownPod {
  kubernetes::Pod pod;
  std::shared_ptr<const kubernetes::Namespace> its_namespace;  // null: not known, or not asked for
  mutable std::atomic<bool> outdated = false;
};
using KnownPodPtr = std::shared_ptr<const KnownPod>;

class PodIndex {
 public:
  struct Options {
    size_t max_waiting = 2048;
    size_t max_waiting_per_pod = 64;
    size_t deletions_remembered = 8192;
    bool namespaces = false;  // a pod is known only when its namespace is
  };
  // `signal` is called after pods became outdated, once for each change of the index. May be null.
  PodIndex(Options options, Clock& clock, std::function<void()> signal);
  ~PodIndex();  // who waits is answered with kUnavailable

  struct Hit {
    KnownPodPtr pod;                                   // null: it was deleted
    const kubernetes::Container* container = nullptr;  // of `pod`; null when it was not asked for
  };
  using Done = absl::AnyInvocable<void(absl::StatusOr<Hit>)>;
  // `until`: steady time. Without `need_container` the pod is enough, save where its uid alone proves little: a static
  // pod, or a path without a uid. Errors: kUnavailable not known in time, or too many wait; kPermissionDenied two pods
  // claim the container. True: answered already.
  bool Find(const PodContainer& wanted, bool need_container, absl::Duration until, Done done);

  // One that has ended (phase Succeeded or Failed) is as good as deleted.
  void Put(kubernetes::Pod pod);
  void Delete(const kubernetes::Pod& pod);
  // All pods there are: those that are missing were deleted.
  void Replace(std::vector<kubernetes::Pod> pods);
  // The same of namespaces.
  void PutNamespace(kubernetes::Namespace put);
  void DeleteNamespace(const std::string& name);
  void ReplaceNamespaces(std::vector<kubernetes::Namespace> all);
  // What is wrong with `part` of those who tell of pods, for processes that waited in vain; "" nothing.
  void SetTrouble(absl::string_view part, std::string trouble);

  size_t pods() const;
  size_t waiting() const;

 private:
  struct Waiter {
    PodContainer wanted;
    bool need_container;
    absl::Duration until;
    Done done;
  };
  using Ready = std::vector<std::pair<Done, absl::StatusOr<Hit>>>;

  // Nothing: wait.
  std::optional<absl::StatusOr<Hit>> Look(const PodContainer& wanted, bool need_container) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // True: something became outdated.
  bool PutLocked(kubernetes::Pod pod) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool DeleteLocked(const kubernetes::Pod& pod) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `put` null: it is gone.
  bool SetNamespaceLocked(const std::string& name, std::shared_ptr<const kubernetes::Namespace> put, Ready& ready)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Unclaim(const kubernetes::Pod& pod) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RememberDeletion(const std::string& uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CollectReady(const std::vector<std::string>& uids, Ready& ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(Ready ready, bool outdated);
  absl::Duration Expire();

  const Options options_;
  Clock& clock_;
  const std::function<void()> signal_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, KnownPodPtr> pods_ ABSL_GUARDED_BY(mutex_);  // by uid
  absl::flat_hash_map<std::string, std::shared_ptr<const kubernetes::Namespace>> namespaces_ ABSL_GUARDED_BY(mutex_);
  // The uids of those that say they mirror a static pod, by the uid of that one. Several may: who lies takes no place.
  absl::flat_hash_map<std::string, absl::flat_hash_set<std::string>> mirrors_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::string> deleted_ ABSL_GUARDED_BY(mutex_);  // uids, of static pods too
  std::deque<std::string> deleted_order_ ABSL_GUARDED_BY(mutex_);
  // By the uid that is waited for; "" those that know a container id alone.
  absl::flat_hash_map<std::string, std::vector<Waiter>> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::string, std::less<>> trouble_ ABSL_GUARDED_BY(mutex_);  // by part
  Worker expirer_;
};

}  // namespace signet::agent
