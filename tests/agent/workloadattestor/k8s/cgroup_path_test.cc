#include "agent/workloadattestor/k8s/cgroup_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Answer = std::optional<PodContainer>;
constexpr auto kDenied = absl::StatusCode::kPermissionDenied;

const std::string kUid = "45b3cc72-7b96-46d6-b878-a879194290f7";
const std::string kUidUnder = "45b3cc72_7b96_46d6_b878_a879194290f7";
const std::string kId(64, 'a');
const std::string kOtherUid = "00000000-1111-2222-3333-444444444444";
const std::string kOtherId(64, 'b');
const std::string kNode(64, 'c');  // a container that is a node
const NodeRoots kMachine = {""};
// An agent whose cgroup is /kubepods/besteffort/pod<uid>/<id>, with a cgroup namespace of its own.
const NodeRoots kFourUp = {"/../../../.."};

absl::StatusOr<Answer> Find(const std::string& path, const NodeRoots& roots = kMachine) {
  const std::string full =
      absl::StrReplaceAll(path, {{"UID_", kUidUnder}, {"UID", kUid}, {"ID", kId}, {"NODE", kNode}});
  return FindPodContainer({full}, roots);
}
const Answer kFound = PodContainer{kUid, kId};

TEST(CgroupPathTest, ReadsWhatTheKubeletsDriversAndTheRuntimesWrite) {
  for (const char* path : {
           "/kubepods/besteffort/podUID/ID",  // cgroupfs
           "/kubepods/burstable/podUID/ID",
           "/kubepods/podUID/ID",
           "/kubepods/besteffort/podUID/crio-ID",
           "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/cri-containerd-ID.scope",
           "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/docker-ID.scope",
           "/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope",
           "/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope/container",  // crun
           "/kubelet/kubepods/besteffort/podUID/ID",                          // kind
           "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
           "kubelet-kubepods-besteffort-podUID_.slice/cri-containerd-ID.scope",
           "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
           // Two drivers mixed.
           "/kubepods-burstable-podUID_.slice:cri-containerd:ID",
           "/system.slice/containerd.service/kubepods-podUID_.slice:cri-containerd:ID",
       }) {
    EXPECT_THAT(Find(path), IsOkAndHolds(kFound)) << path;
  }
}

TEST(CgroupPathTest, ReadsTheHashOfAStaticPod) {
  const std::string hash = "44cc0b3bd0d0d5d1bd4e55f5ed27a4ac";
  const Answer found = PodContainer{hash, kId};
  EXPECT_THAT(Find(absl::StrCat("/kubepods/burstable/pod", hash, "/ID")), IsOkAndHolds(found));
  EXPECT_THAT(Find(absl::StrCat("/kubepods.slice/kubepods-pod", hash, ".slice/cri-containerd-ID.scope")),
              IsOkAndHolds(found));
}

TEST(CgroupPathTest, ReadsAContainerOfCrioUnderKubeEdgeWithoutItsPod) {  // spire #3183
  const Answer found = PodContainer{"", kId};
  EXPECT_THAT(Find("/system.slice/crio-ID.scope"), IsOkAndHolds(found));
  EXPECT_THAT(Find("/crio-ID.scope"), IsOkAndHolds(found));
  EXPECT_THAT(Find("/../crio-ID.scope", {"/.."}), IsOkAndHolds(found));
}

TEST(CgroupPathTest, SeesNoPodInProcessesOfTheHost) {
  for (const char* path :
       {"/", "/init.scope", "/system.slice/kubelet.service", "/system.slice/containerd.service",
        "/user.slice/user-1000.slice/session-1.scope", "/system.slice/docker-ID.scope", "/docker/ID", "/kubelet",
        "/machine.slice/libpod-ID.scope",
        // CRI-O's monitor, spire #4088.
        "/kubepods.slice/kubepods-podUID_.slice/crio-conmon-ID.scope", "/kubepods/podUID/crio-conmon-ID"}) {
    EXPECT_THAT(Find(path), IsOkAndHolds(Answer())) << path;
  }
  EXPECT_THAT(FindPodContainer({}, kMachine), IsOkAndHolds(Answer()));
}

TEST(CgroupPathTest, FindsTheNodesRoot) {
  EXPECT_THAT(FindNodeRoots({"/"}), IsOkAndHolds(ElementsAre("")));
  EXPECT_THAT(FindNodeRoots({"/init.scope"}), IsOkAndHolds(ElementsAre("")));
  EXPECT_THAT(FindNodeRoots({"/init"}), IsOkAndHolds(ElementsAre("")));
  EXPECT_THAT(FindNodeRoots({"/docker/n/init.scope", "/docker/n"}), IsOkAndHolds(ElementsAre("/docker/n")));
  EXPECT_THAT(FindNodeRoots({"/../../../../../init.scope"}), IsOkAndHolds(ElementsAre("/../../../../..")));
  EXPECT_THAT(FindNodeRoots({}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(FindNodeRoots({"/a/../b"}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CgroupPathTest, StartsAtTheNodeWhereTheNodeIsAContainer) {  // kind, minikube: spire #1081
  const NodeRoots node = {absl::StrCat("/docker/", kNode)};
  EXPECT_THAT(Find("/docker/NODE/kubelet/kubepods/besteffort/podUID/ID", node), IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/docker/NODE/kubepods/besteffort/podUID/ID", node), IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/docker/NODE/system.slice/kubelet.service", node), IsOkAndHolds(Answer()));
  // A cluster within a pod of another one: the inner agent sees the inner pod, the outer agent the outer.
  const std::string outer = absl::StrCat("/kubepods/burstable/pod", kOtherUid, "/", kOtherId);
  const std::string inner = "/docker/NODE/kubelet/kubepods/besteffort/podUID/ID";
  EXPECT_THAT(Find(outer + inner, {absl::StrCat(outer, "/docker/", kNode)}), IsOkAndHolds(kFound));
  EXPECT_THAT(Find(outer + inner), IsOkAndHolds(Answer(PodContainer{kOtherUid, kOtherId})));
  // Another container of the machine that looks like a node is not this node.
  EXPECT_THAT(Find("/docker/NODE/kubelet/kubepods/besteffort/podUID/ID"), IsOkAndHolds(Answer()));
  EXPECT_THAT(Find("/docker/ID/kubelet/kubepods/besteffort/podUID/ID", node), IsOkAndHolds(Answer()));
}

TEST(CgroupPathTest, ReadsPathsRelativeToTheAgentsNamespace) {  // peers.md J; spire #2578
  EXPECT_THAT(Find("/../../podUID/ID", kFourUp), IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/../../../podUID/ID", kFourUp), IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/../../../burstable/podUID/ID", kFourUp), IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/../../kubepods-besteffort-podUID_.slice/cri-containerd-ID.scope", kFourUp), IsOkAndHolds(kFound));
  EXPECT_THAT(
      Find("/../../../kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope", kFourUp),
      IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/../../../kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope", kFourUp), IsOkAndHolds(kFound));
  EXPECT_THAT(Find("/../../kubepods-podUID_.slice:cri-containerd:ID", kFourUp), IsOkAndHolds(kFound));
  // The agent's own pod: the name of the pod is not to be seen.
  EXPECT_THAT(Find("/../ID", kFourUp), IsOkAndHolds(Answer(PodContainer{"", kId})));
  EXPECT_THAT(Find("/../cri-containerd-ID.scope", kFourUp), IsOkAndHolds(Answer(PodContainer{"", kId})));
  // The host, and the agent itself.
  for (const char* path :
       {"/", "/nested", "/../../../..", "/../../../../init.scope", "/../../../../system.slice/x.service",
        "/../../../../user.slice/user-1000.slice/user@1000.service/podUID/ID", "/../../../../podUID/ID",
        "/../../../../../podUID/ID", "/podUID/ID"}) {
    EXPECT_THAT(Find(path, kFourUp), IsOkAndHolds(Answer())) << path;
  }
  // An agent that is a plain container beside the kubelet's.
  EXPECT_THAT(Find("/../../kubepods/besteffort/podUID/ID", {"/../.."}), IsOkAndHolds(kFound));
}

TEST(CgroupPathTest, BelievesNothingThatOthersThanTheKubeletMade) {  // W6
  for (const char* path : {
           "/user.slice/user-1000.slice/user@1000.service/kubepods/besteffort/podUID/ID",
           "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope",
           "/system.slice/evil.service/kubepods/podUID/ID",
           "/system.slice/evil.service/crio-ID.scope",
           "/system.slice/docker-NODE.scope/kubelet/kubepods/podUID/ID",
           "/podUID/ID",
           "/besteffort/podUID/ID",
           "/kubepods-podUID_.slice/cri-containerd-ID.scope",
           "/x/kubepods/podUID/ID",
       }) {
    EXPECT_THAT(Find(path), IsOkAndHolds(Answer())) << path;
  }
}

TEST(CgroupPathTest, RefusesWhatLiesAmongTheKubeletsAndIsNoContainer) {
  for (const char* path : {
           "/kubepods",
           "/kubepods/besteffort",
           "/kubepods/besteffort/podUID",
           "/kubepods/besteffort/x/podUID/ID",
           "/kubepods/podUID_/ID",  // separators of the other driver
           "/kubepods/podUID/IDa",
           "/kubepods/podUID/ID.scope",
           "/kubepods/podUID/shim",
           "/kubepods/podUID/ID (deleted)",  // what the kernel writes when it is gone
           "/kubepods/podUID/-ID",
           "/kubepods/podUID/X-ID",
           "/kubepods/guaranteed/podUID/ID",
           "/kubepods.slice/kubepods-besteffort.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
           "/kubepods.slice/kubepods-besteffort-podUID_.slice/cri-containerd-ID.scope",
           "/kubelet.slice/kubelet-kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope",
       }) {
    EXPECT_THAT(Find(path), StatusIs(kDenied)) << path;
  }
  for (const char* path : {"kubepods/podUID/ID", "//kubepods/podUID/ID", "/kubepods/../podUID/ID", "/kubepods/./x",
                           "/kubepods/podUID/ID/"}) {
    EXPECT_THAT(Find(path), StatusIs(kDenied, HasSubstr("malformed"))) << path;
  }
}

TEST(CgroupPathTest, RefusesLinesThatDisagree) {
  const std::string one = absl::StrCat("/kubepods/pod", kUid, "/", kId);
  EXPECT_THAT(FindPodContainer({one, one, "/", "/system.slice/containerd.service"}, kMachine), IsOkAndHolds(kFound));
  EXPECT_THAT(FindPodContainer({one, absl::StrCat("/kubepods/pod", kUid, "/", kOtherId)}, kMachine),
              StatusIs(kDenied, HasSubstr("more than one")));
  EXPECT_THAT(FindPodContainer({one, absl::StrCat("/kubepods/pod", kOtherUid, "/", kId)}, kMachine),
              StatusIs(kDenied, HasSubstr("more than one")));
  EXPECT_THAT(FindPodContainer({one, absl::StrCat("/crio-", kId, ".scope")}, kMachine),
              StatusIs(kDenied, HasSubstr("more than one")));
  EXPECT_THAT(FindPodContainer({one, "/kubepods/besteffort"}, kMachine), StatusIs(kDenied));
}

// W6: whatever a workload makes below its container's cgroup, the answer stays.
TEST(CgroupPathTest, NoSuffixChangesTheAnswer) {
  const std::vector<std::pair<std::string, NodeRoots>> valid = {
      {absl::StrCat("/kubepods/besteffort/pod", kUid, "/", kId), kMachine},
      {absl::StrCat("/kubepods.slice/kubepods-pod", kUidUnder, ".slice/crio-", kId, ".scope"), kMachine},
      {absl::StrCat("/kubelet/kubepods/pod", kUid, "/", kId), kMachine},
      {absl::StrCat("/docker/", kNode, "/kubepods/pod", kUid, "/", kId), {absl::StrCat("/docker/", kNode)}},
      {absl::StrCat("/kubepods-pod", kUidUnder, ".slice:cri-containerd:", kId), kMachine},
      {absl::StrCat("/../../pod", kUid, "/", kId), kFourUp},
      {absl::StrCat("/../../../burstable/pod", kUid, "/", kId), kFourUp},
  };
  const std::vector<std::string> pieces = {"kubepods",
                                           "kubepods.slice",
                                           "besteffort",
                                           "kubelet",
                                           "kubelet.slice",
                                           absl::StrCat("pod", kOtherUid),
                                           kOtherId,
                                           absl::StrCat("docker/", kNode),
                                           absl::StrCat("crio-", kOtherId, ".scope"),
                                           "init.scope",
                                           "system.slice",
                                           absl::StrCat("kubepods-pod00000000_1111_2222_3333_444444444444.slice"),
                                           "x",
                                           ":",
                                           "\\x2f",
                                           " (deleted)",
                                           "..x",
                                           "\xff"};
  std::mt19937 random(7);
  for (const auto& [path, roots] : valid) {
    for (int i = 0; i < 2000; ++i) {
      std::string suffix;
      for (size_t n = random() % 8 + 1; n > 0; --n) absl::StrAppend(&suffix, "/", pieces[random() % pieces.size()]);
      ASSERT_THAT(FindPodContainer({path + suffix}, roots), IsOkAndHolds(kFound)) << path << suffix;
      // Glued to the last name it makes another name, which may be refused but is never another container.
      const auto glued = FindPodContainer({path + suffix.substr(1)}, roots);
      ASSERT_TRUE(!glued.ok() || !glued->has_value() || *glued == kFound) << path << suffix;
    }
  }
}

}  // namespace
}  // namespace signet::agent
