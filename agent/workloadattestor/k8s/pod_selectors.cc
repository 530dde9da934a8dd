#include "agent/workloadattestor/k8s/pod_selectors.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

using kubernetes::Container;

void Add(spiffe::Selectors& selectors, absl::string_view name, absl::string_view value) {
  if (!value.empty()) selectors.push_back({"k8s", absl::StrCat(name, ":", value)});
}

// "repo@sha256:...", "sha256:...", "docker-pullable://repo@sha256:...", or the image id alone as some runtimes write
// it.
bool HasDigest(absl::string_view image) {
  if (absl::StrContains(image, "sha256:") || absl::StrContains(image, "sha512:")) return true;
  return image.size() == 64 && std::all_of(image.begin(), image.end(),
                                           [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); });
}

// "registry/path:tag" in full, as the container runtimes complete it (github.com/distribution/reference: Docker's
// registry, its folder library/, the tag latest). Empty: a digest without a tag.
std::string CompleteTag(absl::string_view image) {
  const size_t at = image.find('@');
  const bool digest = at != absl::string_view::npos;
  if (digest) image = image.substr(0, at);
  absl::string_view registry, path = image;
  const size_t slash = image.find('/');
  if (slash != absl::string_view::npos) {
    const absl::string_view first = image.substr(0, slash);
    if (absl::StrContains(first, '.') || absl::StrContains(first, ':') || first == "localhost") {
      registry = first;
      path = image.substr(slash + 1);
    }
  }
  absl::string_view tag;
  const size_t colon = path.rfind(':');
  if (colon != absl::string_view::npos) {
    tag = path.substr(colon + 1);
    path = path.substr(0, colon);
  } else if (!digest) {
    tag = "latest";
  }
  if (path.empty() || tag.empty()) return "";
  if (registry.empty() || registry == "index.docker.io") registry = "docker.io";
  const bool official = registry == "docker.io" && !absl::StrContains(path, '/');
  return absl::StrCat(registry, "/", official ? "library/" : "", path, ":", tag);
}

void AddImages(spiffe::Selectors& selectors, absl::string_view name, const Container& container) {
  for (absl::string_view image : {absl::string_view(container.status_image), absl::string_view(container.image_id)}) {
    if (HasDigest(image) || SameImageTag(container.spec_image, image)) Add(selectors, name, image);
  }
}

bool HasStatus(const Container& container) {
  return !container.status_image.empty() || !container.image_id.empty() || !container.id.empty();
}

}  // namespace

bool SameImageTag(absl::string_view a, absl::string_view b) {
  const std::string complete = CompleteTag(a);
  return !complete.empty() && complete == CompleteTag(b);
}

spiffe::Selectors SelectPod(const kubernetes::Pod& pod) {
  spiffe::Selectors selectors;
  Add(selectors, "ns", pod.namespace_name);
  Add(selectors, "sa", pod.service_account);
  Add(selectors, "node-name", pod.node_name);
  // Of a static pod the uid it runs under, as the kubelet says it, not its mirror's.
  Add(selectors, "pod-uid", pod.static_uid.empty() ? pod.uid : pod.static_uid);
  Add(selectors, "pod-name", pod.name);
  for (const auto& [key, value] : pod.labels) Add(selectors, "pod-label", absl::StrCat(key, ":", value));
  for (const kubernetes::OwnerReference& owner : pod.owners) {
    Add(selectors, "pod-owner", absl::StrCat(owner.kind, ":", owner.name));
    Add(selectors, "pod-owner-uid", absl::StrCat(owner.kind, ":", owner.uid));
  }
  size_t images = 0, init_images = 0;
  for (const Container& container : pod.containers) {
    if (!HasStatus(container)) continue;
    if (container.kind == Container::Kind::kMain) {
      ++images;
      AddImages(selectors, "pod-image", container);
    } else if (container.kind == Container::Kind::kInit) {
      ++init_images;
      AddImages(selectors, "pod-init-image", container);
    }
  }
  Add(selectors, "pod-image-count", absl::StrCat(images));
  Add(selectors, "pod-init-image-count", absl::StrCat(init_images));
  return selectors;
}

spiffe::Selectors SelectContainer(const Container& container) {
  spiffe::Selectors selectors;
  Add(selectors, "container-name", container.name);
  AddImages(selectors, "container-image", container);
  return selectors;
}

}  // namespace signet::agent
