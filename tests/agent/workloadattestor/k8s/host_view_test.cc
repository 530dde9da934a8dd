#include "agent/workloadattestor/k8s/host_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kPod = absl::StrCat("/kubepods/besteffort/pod45b3cc72-7b96-46d6-b878-a879194290f7/");
const std::string kId(64, 'a'), kPause(64, 'b');

HostView View(bool in_pod, std::vector<std::string> init, std::vector<std::string> own) {
  return {.own_pid = 77, .in_pod = in_pod, .init_paths = std::move(init), .own_paths = std::move(own)};
}

TEST(HostViewTest, TakesAnAgentThatSeesTheNode) {
  // On the machine itself; a DaemonSet with hostPID; the same in a cgroup namespace; in a node that is a container.
  EXPECT_THAT(CheckHostView(View(false, {"/init.scope"}, {"/system.slice/signet-agent.service"})),
              IsOkAndHolds(ElementsAre("")));
  EXPECT_THAT(CheckHostView(View(true, {"/"}, {kPod + kId})), IsOkAndHolds(ElementsAre("")));
  EXPECT_THAT(CheckHostView(View(true, {"/../../../../init.scope"}, {"/"})), IsOkAndHolds(ElementsAre("/../../../..")));
  EXPECT_THAT(CheckHostView(View(true, {"/docker/n/init.scope"}, {"/docker/n/kubelet" + kPod + kId})),
              IsOkAndHolds(ElementsAre("/docker/n")));
  // A whole cluster within a pod of another one (kind in a pod): its init is in that pod, but not in the agent's.
  const std::string node = absl::StrCat(kPod, kPause, "/docker/n");
  EXPECT_THAT(CheckHostView(View(true, {node + "/init.scope"}, {node + "/kubelet" + kPod + kId})),
              IsOkAndHolds(ElementsAre(node)));
}

TEST(HostViewTest, RefusesAnAgentThatSeesItsOwnPodAlone) {
  const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("set hostPID: true"));
  HostView alone = View(true, {"/"}, {"/"});
  alone.own_pid = 1;
  EXPECT_THAT(CheckHostView(alone), refused);
  // Started by a shell or an init of the image's.
  HostView with_shell = View(true, {"/"}, {"/"});
  with_shell.init_shares_mounts = true;
  EXPECT_THAT(CheckHostView(with_shell), refused);
  // shareProcessNamespace: PID 1 is the pod's pause container; with and without a cgroup namespace.
  EXPECT_THAT(CheckHostView(View(true, {"/../" + kPause}, {"/"})), refused);
  EXPECT_THAT(CheckHostView(View(true, {absl::StrCat("/../cri-containerd-", kPause, ".scope")}, {"/"})), refused);
  EXPECT_THAT(CheckHostView(View(true, {kPod + kPause}, {kPod + kId})), refused);
}

TEST(HostViewTest, LooksAtThisMachine) {
  auto view = ReadHostView();
  SIGNET_ASSERT_OK(view);
  EXPECT_FALSE(view->init_paths.empty());
  SIGNET_EXPECT_OK(CheckHostView(*view));
}

TEST(CgroupTreeTest, WantsAMountOfCgroup2) {
  testing::TempDir dir;
  EXPECT_THAT(CgroupTree::Open(dir.path()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/sys/fs/cgroup")));
}

}  // namespace
}  // namespace signet::agent
