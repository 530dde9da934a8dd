// The attestor for pods of Kubernetes: process -> cgroup -> pod and container -> what the API server (or the kubelet)
// says of them, as SPIRE's attestor of that name writes it (k8s/pod_selectors.h).
// A process of the host gets no selector. One whose pod or container is not known yet waits, without a thread. When a
// pod changes or is deleted, what was said of it is outdated at once; of a deleted one there is nothing to say.
// Errors: kPermissionDenied its cgroups disagree or are not what the kernel says; kUnavailable not known in time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/workloadattestor/k8s/cgroup_path.h"
#include "agent/workloadattestor/k8s/host_view.h"
#include "agent/workloadattestor/k8s/pod_index.h"
#include "agent/workloadattestor/k8s/pod_source.h"
#include "agent/workloadattestor/workload_attestor.h"
#include "common/time/clock.h"

namespace signet::agent {

class K8sAttestor final : public WorkloadAttestor {
 public:
  struct Options {
    NodeRoots roots;
    std::unique_ptr<CgroupTree> tree;  // null: the host's cgroups are not mounted here
    bool container_selectors = true;
    absl::Duration pod_wait = absl::Seconds(10);
    PodIndex::Options index;
  };
  // Makes what fills the index; called by Start().
  using MakeSources = absl::AnyInvocable<std::vector<std::unique_ptr<PodSource>>(PodIndex&)>;
  K8sAttestor(Options options, MakeSources make_sources, Clock& clock);

  absl::string_view name() const override { return "k8s"; }
  void Start(std::function<void()> outdated) override;
  void Attest(std::shared_ptr<const PeerProcess> process, const PeerProcess::Facts& facts, absl::Duration deadline,
              Done done) override;

 private:
  absl::StatusOr<std::optional<PodContainer>> Locate(const PeerProcess::Facts& facts) const;

  const Options options_;
  Clock& clock_;
  MakeSources make_sources_;
  std::unique_ptr<PodIndex> index_;                  // from Start() on
  std::vector<std::unique_ptr<PodSource>> sources_;  // of index_
};

}  // namespace signet::agent
