#include "agent/workloadattestor/k8s/pod_selectors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

using kubernetes::Container;
using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

const std::string kDigest = absl::StrCat("sha256:", std::string(64, 'd'));

std::vector<std::string> Values(const spiffe::Selectors& selectors) {
  std::vector<std::string> values;
  for (const spiffe::Selector& selector : selectors) {
    EXPECT_EQ(selector.type, "k8s");
    values.push_back(selector.value);
  }
  return values;
}

kubernetes::Pod SomePod() {
  kubernetes::Pod pod;
  pod.namespace_name = "shop";
  pod.name = "web-7d4-x2x";
  pod.uid = "45b3cc72-7b96-46d6-b878-a879194290f7";
  pod.node_name = "node1";
  pod.service_account = "web";
  pod.labels = {{"app", "web"}, {"example.org/tier", "a:b"}};
  pod.owners = {{"ReplicaSet", "web-7d4", "11111111-2222-3333-4444-555555555555"}};
  Container init;
  init.kind = Container::Kind::kInit;
  init.name = "setup";
  init.spec_image = init.status_image = "example.org/setup:3";
  Container main;
  main.name = "web";
  main.spec_image = "nginx:1.27";
  main.status_image = "docker.io/library/nginx:1.27";
  main.image_id = absl::StrCat("docker.io/library/nginx@", kDigest);
  main.id = std::string(64, 'a');
  Container starting;  // no status yet
  starting.name = "late";
  starting.spec_image = "example.org/late:1";
  pod.containers = {init, main, starting};
  return pod;
}

TEST(PodSelectorsTest, AreThoseOfSpire) {
  const kubernetes::Pod pod = SomePod();
  EXPECT_THAT(Values(SelectPod(pod)),
              UnorderedElementsAre(
                  "ns:shop", "sa:web", "node-name:node1", "pod-uid:45b3cc72-7b96-46d6-b878-a879194290f7",
                  "pod-name:web-7d4-x2x", "pod-label:app:web", "pod-label:example.org/tier:a:b",
                  "pod-owner:ReplicaSet:web-7d4", "pod-owner-uid:ReplicaSet:11111111-2222-3333-4444-555555555555",
                  "pod-image-count:1", "pod-init-image-count:1", "pod-image:docker.io/library/nginx:1.27",
                  absl::StrCat("pod-image:docker.io/library/nginx@", kDigest), "pod-init-image:example.org/setup:3"));
  EXPECT_THAT(Values(SelectContainer(pod.containers[1])),
              UnorderedElementsAre("container-name:web", "container-image:docker.io/library/nginx:1.27",
                                   absl::StrCat("container-image:docker.io/library/nginx@", kDigest)));
}

TEST(PodSelectorsTest, NameAStaticPodByTheUidItRunsUnder) {
  kubernetes::Pod pod = SomePod();
  pod.static_uid = "44cc0b3bd0d0d5d1bd4e55f5ed27a4ac";
  EXPECT_THAT(Values(SelectPod(pod)), Contains("pod-uid:44cc0b3bd0d0d5d1bd4e55f5ed27a4ac"));
}

// W7, spire #4276: the node has example.org/a:1 and example.org/b:2 with one digest, and the kubelet reports the other.
TEST(PodSelectorsTest, LeaveOutATagOnWhichSpecAndStatusDiffer) {
  Container container;
  container.name = "c";
  container.spec_image = "example.org/a:1";
  container.status_image = "example.org/b:2";
  container.image_id = absl::StrCat("example.org/b@", kDigest);
  EXPECT_THAT(Values(SelectContainer(container)),
              UnorderedElementsAre("container-name:c", absl::StrCat("container-image:example.org/b@", kDigest)));
  kubernetes::Pod pod;
  pod.containers = {container};
  EXPECT_THAT(Values(SelectPod(pod)), Not(Contains("pod-image:example.org/b:2")));
  EXPECT_THAT(Values(SelectPod(pod)), Not(Contains("pod-image:example.org/a:1")));

  // A spec by digest alone says nothing about a tag.
  container.spec_image = absl::StrCat("example.org/b@", kDigest);
  EXPECT_THAT(Values(SelectContainer(container)), Not(Contains("container-image:example.org/b:2")));
  // Some runtimes report the digest in place of the name.
  container.status_image = kDigest;
  EXPECT_THAT(Values(SelectContainer(container)), Contains(absl::StrCat("container-image:", kDigest)));
}

TEST(PodSelectorsTest, CompleteImageNamesAsTheRuntimesDo) {
  EXPECT_TRUE(SameImageTag("nginx", "docker.io/library/nginx:latest"));
  EXPECT_TRUE(SameImageTag("bitnami/redis:7", "docker.io/bitnami/redis:7"));
  EXPECT_TRUE(SameImageTag("index.docker.io/library/nginx:1", "nginx:1"));
  EXPECT_TRUE(SameImageTag("localhost/bb:1", "localhost/bb:1"));
  EXPECT_TRUE(SameImageTag("reg:5000/a/b", "reg:5000/a/b:latest"));
  EXPECT_TRUE(SameImageTag(absl::StrCat("nginx:1@", kDigest), "docker.io/library/nginx:1"));
  EXPECT_FALSE(SameImageTag("nginx:1", "nginx:2"));
  EXPECT_FALSE(SameImageTag("nginx", "example.org/library/nginx"));
  EXPECT_FALSE(SameImageTag(absl::StrCat("nginx@", kDigest), absl::StrCat("nginx@", kDigest)));
  EXPECT_FALSE(SameImageTag("", ""));
  EXPECT_FALSE(SameImageTag("nginx:", "nginx:"));
}

TEST(PodSelectorsTest, GiveNothingForWhatIsNotKnown) {
  Container container;
  EXPECT_THAT(Values(SelectContainer(container)), IsEmpty());
  EXPECT_THAT(Values(SelectPod({})), UnorderedElementsAre("pod-image-count:0", "pod-init-image-count:0"));
}

}  // namespace
}  // namespace signet::agent
