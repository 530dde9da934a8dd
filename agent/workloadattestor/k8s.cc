#include "agent/workloadattestor/k8s.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/workloadattestor/k8s/pod_selectors.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

// Before the attestation's own deadline: what is said here tells why.
constexpr absl::Duration kBeforeDeadline = absl::Milliseconds(500);

Finding FindingOf(const PodIndex::Hit& hit) {
  if (hit.pod == nullptr) return spiffe::Selectors{};  // deleted: entitled to nothing any more
  spiffe::Selectors selectors = SelectPod(hit.pod->pod);
  if (hit.pod->its_namespace != nullptr) {
    for (const auto& [key, value] : hit.pod->its_namespace->labels) {
      selectors.push_back({"k8s", absl::StrCat("ns-label:", key, ":", value)});
    }
  }
  if (hit.container != nullptr) {
    spiffe::Selectors more = SelectContainer(*hit.container);
    std::move(more.begin(), more.end(), std::back_inserter(selectors));
  }
  return {std::move(selectors), std::shared_ptr<const std::atomic<bool>>(hit.pod, &hit.pod->outdated)};
}

}  // namespace

K8sAttestor::K8sAttestor(Options options, MakeSources make_sources, Clock& clock)
    : options_(std::move(options)), clock_(clock), make_sources_(std::move(make_sources)) {}

void K8sAttestor::Start(std::function<void()> outdated) {
  index_ = std::make_unique<PodIndex>(options_.index, clock_, std::move(outdated));
  sources_ = make_sources_(*index_);
}

absl::StatusOr<std::optional<PodContainer>> K8sAttestor::Locate(const PeerProcess::Facts& facts) const {
  std::vector<std::string> paths = facts.other_cgroups;
  if (!facts.cgroup.empty()) paths.push_back(facts.cgroup);
  SIGNET_ASSIGN_OR_RETURN(std::optional<PodContainer> found, FindPodContainer(paths, options_.roots));
  if (found.has_value() && options_.tree != nullptr && facts.cgroup_id != 0 && !facts.cgroup.empty()) {
    SIGNET_RETURN_IF_ERROR(options_.tree->Check(facts.cgroup, facts.cgroup_id, options_.roots));
  }
  return found;
}

void K8sAttestor::Attest(std::shared_ptr<const PeerProcess> process, const PeerProcess::Facts& facts,
                         absl::Duration deadline, Done done) {
  absl::StatusOr<std::optional<PodContainer>> found = Locate(facts);
  if (!found.ok()) {
    return done(
        absl::Status(found.status().code(), absl::StrCat("process ", process->pid(), ": ", found.status().message())));
  }
  if (!found->has_value()) return done(spiffe::Selectors{});
  const absl::Duration until = std::min(clock_.Steady() + options_.pod_wait, deadline - kBeforeDeadline);
  const bool container = options_.container_selectors;
  const bool known = index_->Find(**found, container, until, [container, done = std::move(done)](auto hit) mutable {
    if (!hit.ok()) return done(hit.status());
    if (!container) hit->container = nullptr;
    done(FindingOf(*hit));
  });
  if (known) return;
  for (const std::unique_ptr<PodSource>& source : sources_) source->Want();
}

}  // namespace signet::agent
