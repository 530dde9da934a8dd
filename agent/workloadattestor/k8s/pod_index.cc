#include "agent/workloadattestor/k8s/pod_index.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

using kubernetes::Container;
using kubernetes::Pod;

// The uid of API objects is a UUID that the API server makes; that of static pods the kubelet's hash. Who creates a pod
// may write into its annotations that it is the mirror of a static one: it never takes another pod's place so.
bool IsStaticUid(const std::string& uid) { return uid.size() == 32; }
const std::string& KeyOf(const Pod& pod) { return IsStaticUid(pod.static_uid) ? pod.static_uid : pod.uid; }

const Container* FindContainer(const Pod& pod, const std::string& id) {
  for (const Container& container : pod.containers) {
    if (container.id == id) return &container;
  }
  return nullptr;
}

bool Same(const Container& a, const Container& b) {
  return a.kind == b.kind && a.name == b.name && a.spec_image == b.spec_image && a.status_image == b.status_image &&
         a.image_id == b.image_id && a.id == b.id;
}
bool Same(const kubernetes::OwnerReference& a, const kubernetes::OwnerReference& b) {
  return a.kind == b.kind && a.name == b.name && a.uid == b.uid;
}
template <typename T>
bool AllSame(const std::vector<T>& a, const std::vector<T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const T& x, const T& y) { return Same(x, y); });
}

// In what selectors are made of. A kubelet reports on a pod often without any of that changing.
bool SameFacts(const Pod& a, const Pod& b) {
  return a.uid == b.uid && a.static_uid == b.static_uid && a.name == b.name && a.namespace_name == b.namespace_name &&
         a.node_name == b.node_name && a.service_account == b.service_account && a.labels == b.labels &&
         AllSame(a.owners, b.owners) && AllSame(a.containers, b.containers);
}

}  // namespace

PodIndex::PodIndex(Options options, Clock& clock, std::function<void()> signal)
    : options_(options),
      clock_(clock),
      signal_(std::move(signal)),
      expirer_("pod-wait", clock, [this] { return Expire(); }) {}

PodIndex::~PodIndex() {
  expirer_.Stop();
  absl::flat_hash_map<std::string, std::vector<Waiter>> left;
  {
    MutexLock lock(mutex_);
    left.swap(waiting_);
  }
  for (auto& [_, waiters] : left) {
    for (Waiter& waiter : waiters) waiter.done(absl::UnavailableError("the attestor is stopping"));
  }
}

std::optional<absl::StatusOr<PodIndex::Hit>> PodIndex::Look(const PodContainer& wanted, bool need_container) const {
  KnownPodPtr pod;
  if (wanted.pod_uid.empty()) {
    for (const auto& [_, known] : pods_) {
      if (FindContainer(known->pod, wanted.container_id) == nullptr) continue;
      if (pod != nullptr) return absl::PermissionDeniedError("two pods claim its container");
      pod = known;
    }
    if (pod == nullptr) return std::nullopt;
  } else {
    const auto it = pods_.find(wanted.pod_uid);
    if (it == pods_.end()) {
      if (deleted_.contains(wanted.pod_uid)) return Hit{};
      return std::nullopt;
    }
    pod = it->second;
    if (!need_container && !IsStaticUid(wanted.pod_uid)) return Hit{pod, nullptr};
  }
  const Container* container = FindContainer(pod->pod, wanted.container_id);
  if (container == nullptr) return std::nullopt;
  return Hit{std::move(pod), container};
}

bool PodIndex::Find(const PodContainer& wanted, bool need_container, absl::Duration until, Done done) {
  std::optional<absl::StatusOr<Hit>> answer;
  {
    MutexLock lock(mutex_);
    answer = Look(wanted, need_container);
    if (!answer.has_value()) {
      std::vector<Waiter>& waiters = waiting_[wanted.pod_uid];
      if (waiters.size() >= options_.max_waiting_per_pod) {
        answer =
            absl::UnavailableError(absl::StrCat("pod ", wanted.pod_uid, ": ", options_.max_waiting_per_pod,
                                                " calls of its processes wait for it to be known: try again later"));
      } else if (waiting_count_ >= options_.max_waiting) {
        answer = absl::UnavailableError("too many calls wait for their pods to be known: try again later");
      } else {
        waiters.push_back({wanted, need_container, until, std::move(done)});
        ++waiting_count_;
      }
      if (waiters.empty()) waiting_.erase(wanted.pod_uid);
    }
  }
  if (answer.has_value()) {
    done(*std::move(answer));
    return true;
  }
  expirer_.Wake();
  return false;
}

bool PodIndex::PutLocked(Pod pod) {
  const std::string key = KeyOf(pod);
  KnownPodPtr& known = pods_[key];
  if (known != nullptr && SameFacts(known->pod, pod)) return false;
  const KnownPodPtr before = known;
  auto fresh = std::make_shared<KnownPod>();
  fresh->pod = std::move(pod);
  known = std::move(fresh);
  deleted_.erase(key);  // a static pod may come back
  if (before == nullptr) return false;
  before->outdated = true;
  return true;
}

bool PodIndex::DeleteLocked(const std::string& key) {
  const auto it = pods_.find(key);
  if (deleted_.insert(key).second) deleted_order_.push_back(key);
  while (deleted_order_.size() > options_.deletions_remembered) {
    deleted_.erase(deleted_order_.front());
    deleted_order_.pop_front();
  }
  if (it == pods_.end()) return false;
  it->second->outdated = true;
  pods_.erase(it);
  return true;
}

void PodIndex::CollectReady(const std::string& key, Ready& ready) {
  for (const std::string& at : {key, std::string()}) {
    const auto it = waiting_.find(at);
    if (it == waiting_.end()) continue;
    std::erase_if(it->second, [&](Waiter& waiter) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      std::optional<absl::StatusOr<Hit>> answer = Look(waiter.wanted, waiter.need_container);
      if (!answer.has_value()) return false;
      ready.emplace_back(std::move(waiter.done), *std::move(answer));
      --waiting_count_;
      return true;
    });
    if (it->second.empty()) waiting_.erase(it);
  }
}

void PodIndex::Tell(Ready ready, bool outdated) {
  if (outdated && signal_) signal_();
  for (auto& [done, answer] : ready) done(std::move(answer));
}

void PodIndex::Put(Pod pod) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    const std::string key = KeyOf(pod);
    outdated = PutLocked(std::move(pod));
    CollectReady(key, ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::Delete(const Pod& pod) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    const auto it = pods_.find(KeyOf(pod));
    // A mirror that was made anew carries the same hash: the end of the old one is not its end.
    if (it != pods_.end() && it->second->pod.uid != pod.uid) return;
    outdated = DeleteLocked(KeyOf(pod));
    CollectReady(KeyOf(pod), ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::Replace(std::vector<Pod> pods) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    absl::flat_hash_set<std::string> there;
    for (Pod& pod : pods) {
      there.insert(KeyOf(pod));
      outdated |= PutLocked(std::move(pod));
    }
    std::vector<std::string> gone;
    for (const auto& [key, _] : pods_) {
      if (!there.contains(key)) gone.push_back(key);
    }
    for (const std::string& key : gone) outdated |= DeleteLocked(key);
    std::vector<std::string> waited_for;
    for (const auto& [key, _] : waiting_) waited_for.push_back(key);
    for (const std::string& key : waited_for) CollectReady(key, ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::SetTrouble(std::string trouble) {
  MutexLock lock(mutex_);
  trouble_ = std::move(trouble);
}

size_t PodIndex::pods() const {
  MutexLock lock(mutex_);
  return pods_.size();
}

size_t PodIndex::waiting() const {
  MutexLock lock(mutex_);
  return waiting_count_;
}

absl::Duration PodIndex::Expire() {
  Ready over;
  absl::Duration next = absl::InfiniteDuration();
  const absl::Duration now = clock_.Steady();
  {
    MutexLock lock(mutex_);
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const auto at = it++;
      const bool pod_known = pods_.contains(at->first);
      std::erase_if(at->second, [&](Waiter& waiter) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        if (waiter.until > now) {
          next = std::min(next, waiter.until - now);
          return false;
        }
        const std::string what =
            pod_known || waiter.wanted.pod_uid.empty()
                ? absl::StrCat("container ", waiter.wanted.container_id, " is in no known pod's status")
                : absl::StrCat("pod ", waiter.wanted.pod_uid, " is not known");
        over.emplace_back(std::move(waiter.done),
                          absl::UnavailableError(absl::StrCat(what, trouble_.empty() ? "" : ": ", trouble_)));
        --waiting_count_;
        return true;
      });
      if (at->second.empty()) waiting_.erase(at);
    }
  }
  Tell(std::move(over), false);
  return next;
}

}  // namespace signet::agent
