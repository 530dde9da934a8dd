#include "agent/workloadattestor/k8s/pod_index.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

using kubernetes::Container;
using kubernetes::Pod;

// The uid of API objects is a UUID that the API server makes; that of static pods the kubelet's hash, by which their
// mirrors call them in an annotation. Anybody who may create pods can write that one.
bool IsStaticUid(const std::string& uid) { return uid.size() == 32; }
// The static pod that `pod` says it mirrors; null: none.
const std::string* ClaimOf(const Pod& pod) {
  return IsStaticUid(pod.static_uid) && pod.static_uid != pod.uid ? &pod.static_uid : nullptr;
}

// What those wait for that `pod` may answer; "": they know a container id alone.
std::vector<std::string> WaitedForBy(const Pod& pod) {
  std::vector<std::string> uids = {pod.uid, ""};
  if (const std::string* claim = ClaimOf(pod)) uids.push_back(*claim);
  return uids;
}

// None of its processes is left (Kubernetes: Pod Lifecycle, phase).
bool HasEnded(const Pod& pod) { return pod.phase == "Succeeded" || pod.phase == "Failed"; }

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
  return a.uid == b.uid && a.static_uid == b.static_uid && a.too_large == b.too_large && a.name == b.name &&
         a.namespace_name == b.namespace_name && a.node_name == b.node_name && a.service_account == b.service_account &&
         a.labels == b.labels && AllSame(a.owners, b.owners) && AllSame(a.containers, b.containers);
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
  if (!wanted.pod_uid.empty() && !IsStaticUid(wanted.pod_uid)) {
    const auto it = pods_.find(wanted.pod_uid);
    if (it == pods_.end()) {
      if (deleted_.contains(wanted.pod_uid)) return Hit{};
      return std::nullopt;
    }
    if (options_.namespaces && it->second->its_namespace == nullptr) return std::nullopt;
    if (it->second->pod.too_large) {  // its containers will not be known: to wait would keep others from it
      return absl::PermissionDeniedError(absl::StrCat("pod ", wanted.pod_uid,
                                                      ": its labels, owners and containers are ", "larger than ",
                                                      kubernetes::kMaxPodFactsBytes, " bytes"));
    }
    if (!need_container) return Hit{it->second, nullptr};
    const Container* container = FindContainer(it->second->pod, wanted.container_id);
    if (container == nullptr) return std::nullopt;
    return Hit{it->second, container};
  }
  // Whose it is, the container tells: its id is in the status, which who creates a pod does not write.
  Hit hit;
  bool two = false;
  const auto consider = [&](const KnownPodPtr& pod) {
    const Container* container = FindContainer(pod->pod, wanted.container_id);
    if (container == nullptr) return;
    two |= hit.pod != nullptr;
    hit = {pod, container};
  };
  if (wanted.pod_uid.empty()) {
    for (const auto& [_, known] : pods_) consider(known);
  } else {
    const auto own = pods_.find(wanted.pod_uid);  // as the kubelet tells of them
    const auto mirrors = mirrors_.find(wanted.pod_uid);
    if (own == pods_.end() && mirrors == mirrors_.end() && deleted_.contains(wanted.pod_uid)) return Hit{};
    if (own != pods_.end()) consider(own->second);
    if (mirrors != mirrors_.end()) {
      for (const std::string& uid : mirrors->second) consider(pods_.at(uid));
    }
  }
  if (two) return absl::PermissionDeniedError("two pods claim its container");
  if (hit.pod == nullptr || (options_.namespaces && hit.pod->its_namespace == nullptr)) return std::nullopt;
  return hit;
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
  if (HasEnded(pod)) return DeleteLocked(pod);
  KnownPodPtr& known = pods_[pod.uid];
  if (known != nullptr && SameFacts(known->pod, pod)) return false;
  const KnownPodPtr before = known;
  auto fresh = std::make_shared<KnownPod>();
  fresh->pod = std::move(pod);
  if (const auto it = namespaces_.find(fresh->pod.namespace_name); it != namespaces_.end()) {
    fresh->its_namespace = it->second;
  }
  known = fresh;
  deleted_.erase(fresh->pod.uid);
  if (before != nullptr) Unclaim(before->pod);
  if (const std::string* claim = ClaimOf(fresh->pod)) {
    mirrors_[*claim].insert(fresh->pod.uid);
    deleted_.erase(*claim);  // a static pod may come back
  }
  if (before == nullptr) return false;
  before->outdated = true;
  return true;
}

bool PodIndex::DeleteLocked(const Pod& pod) {
  RememberDeletion(pod.uid);
  const auto it = pods_.find(pod.uid);
  const KnownPodPtr known = it == pods_.end() ? nullptr : it->second;
  if (known != nullptr) pods_.erase(it);
  const Pod& gone = known != nullptr ? known->pod : pod;
  Unclaim(gone);
  // A mirror that was made anew carries the same hash: the end of the old one is not its end.
  if (const std::string* claim = ClaimOf(gone); claim != nullptr && !mirrors_.contains(*claim)) {
    RememberDeletion(*claim);
  }
  if (known == nullptr) return false;
  known->outdated = true;
  return true;
}

void PodIndex::Unclaim(const Pod& pod) {
  const std::string* claim = ClaimOf(pod);
  const auto it = claim == nullptr ? mirrors_.end() : mirrors_.find(*claim);
  if (it == mirrors_.end()) return;
  it->second.erase(pod.uid);
  if (it->second.empty()) mirrors_.erase(it);
}

void PodIndex::RememberDeletion(const std::string& uid) {
  if (deleted_.insert(uid).second) deleted_order_.push_back(uid);
  while (deleted_order_.size() > options_.deletions_remembered) {
    deleted_.erase(deleted_order_.front());
    deleted_order_.pop_front();
  }
}

void PodIndex::CollectReady(const std::vector<std::string>& uids, Ready& ready) {
  for (const std::string& uid : uids) {
    const auto it = waiting_.find(uid);
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
    const std::vector<std::string> uids = WaitedForBy(pod);
    outdated = PutLocked(std::move(pod));
    CollectReady(uids, ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::Delete(const Pod& pod) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    outdated = DeleteLocked(pod);
    CollectReady(WaitedForBy(pod), ready);
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
      if (HasEnded(pod)) continue;
      there.insert(pod.uid);
      outdated |= PutLocked(std::move(pod));
    }
    std::vector<KnownPodPtr> gone;
    for (const auto& [uid, known] : pods_) {
      if (!there.contains(uid)) gone.push_back(known);
    }
    for (const KnownPodPtr& known : gone) outdated |= DeleteLocked(known->pod);
    std::vector<std::string> waited_for;
    for (const auto& [uid, _] : waiting_) waited_for.push_back(uid);
    CollectReady(waited_for, ready);
  }
  Tell(std::move(ready), outdated);
}

bool PodIndex::SetNamespaceLocked(const std::string& name, std::shared_ptr<const kubernetes::Namespace> put,
                                  Ready& ready) {
  auto& known = namespaces_[name];
  if (known != nullptr && put != nullptr && known->labels == put->labels) return false;
  known = put;
  if (put == nullptr) namespaces_.erase(name);
  std::vector<std::string> waited_for;
  for (auto& [_, pod] : pods_) {
    if (pod->pod.namespace_name != name) continue;
    pod->outdated = true;
    auto fresh = std::make_shared<KnownPod>();
    fresh->pod = pod->pod;
    fresh->its_namespace = put;
    pod = std::move(fresh);
    for (std::string& uid : WaitedForBy(pod->pod)) waited_for.push_back(std::move(uid));
  }
  CollectReady(waited_for, ready);
  return !waited_for.empty();
}

void PodIndex::PutNamespace(kubernetes::Namespace put) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    const std::string name = put.name;
    outdated = SetNamespaceLocked(name, std::make_shared<const kubernetes::Namespace>(std::move(put)), ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::DeleteNamespace(const std::string& name) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    outdated = SetNamespaceLocked(name, nullptr, ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::ReplaceNamespaces(std::vector<kubernetes::Namespace> all) {
  Ready ready;
  bool outdated = false;
  {
    MutexLock lock(mutex_);
    absl::flat_hash_set<std::string> there;
    for (kubernetes::Namespace& put : all) {
      const std::string name = put.name;
      there.insert(name);
      outdated |= SetNamespaceLocked(name, std::make_shared<const kubernetes::Namespace>(std::move(put)), ready);
    }
    std::vector<std::string> gone;
    for (const auto& [name, _] : namespaces_) {
      if (!there.contains(name)) gone.push_back(name);
    }
    for (const std::string& name : gone) outdated |= SetNamespaceLocked(name, nullptr, ready);
  }
  Tell(std::move(ready), outdated);
}

void PodIndex::SetTrouble(absl::string_view part, std::string trouble) {
  MutexLock lock(mutex_);
  trouble_[std::string(part)] = std::move(trouble);
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
      const bool pod_known = pods_.contains(at->first) || mirrors_.contains(at->first);
      std::erase_if(at->second, [&](Waiter& waiter) ABSL_NO_THREAD_SAFETY_ANALYSIS {
        if (waiter.until > now) {
          next = std::min(next, waiter.until - now);
          return false;
        }
        std::string what = pod_known || waiter.wanted.pod_uid.empty()
                               ? absl::StrCat("container ", waiter.wanted.container_id, " is in no known pod's status")
                               : absl::StrCat("pod ", waiter.wanted.pod_uid, " is not known");
        for (const auto& [_, trouble] : trouble_) absl::StrAppend(&what, trouble.empty() ? "" : ": ", trouble);
        over.emplace_back(std::move(waiter.done), absl::UnavailableError(what));
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
