// The selectors of a pod and of one of its containers, with the names and values of SPIRE's attestor "k8s" (spire.io,
// plugin_agent_workloadattestor_k8s). Pure.
// Images: what holds a digest is always among them. A tag is, only where the pod's spec and what the runtime tells mean
// the same one: two tags of one image make the kubelet report either (W7; spire #4276).
#pragma once

#include "absl/strings/string_view.h"
#include "common/kubernetes/pod.h"
#include "common/spiffe/selector.h"

namespace signet::agent {

// Not normalised. Empty facts give no selector.
spiffe::Selectors SelectPod(const kubernetes::Pod& pod);
spiffe::Selectors SelectContainer(const kubernetes::Container& container);

// Whether two references mean one tag of one image: "nginx" and "docker.io/library/nginx:latest" do. What stands after
// an "@" does not count; where there is no tag before one, there is nothing to agree on.
bool SameImageTag(absl::string_view a, absl::string_view b);

}  // namespace signet::agent
