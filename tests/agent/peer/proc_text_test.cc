#include "agent/peer/proc_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kStatus[] =
    "Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t4242\nUid:\t1000\t1001\t1002\t1003\n"
    "Gid:\t100\t101\t102\t103\nFDSize:\t64\nGroups:\t4 24 27 1000 \nNStgid:\t4242\n";

TEST(ProcStatusTest, ReadsIdsAndGroups) {
  auto status = ParseProcStatus(kStatus);
  SIGNET_ASSERT_OK(status);
  EXPECT_THAT(status->uids, ElementsAre(1000, 1001, 1002, 1003));
  EXPECT_THAT(status->gids, ElementsAre(100, 101, 102, 103));
  EXPECT_THAT(status->groups, ElementsAre(4, 24, 27, 1000));
}

TEST(ProcStatusTest, ReadsNoGroups) {
  auto status = ParseProcStatus(absl::StrReplaceAll(kStatus, {{"4 24 27 1000 ", " "}}));
  SIGNET_ASSERT_OK(status);
  EXPECT_THAT(status->groups, IsEmpty());
}

TEST(ProcStatusTest, TakesTheLargestIds) {
  auto status = ParseProcStatus("Uid:\t4294967295\t0\t0\t0\nGid:\t0\t0\t0\t4294967294\nGroups:\t\n");
  SIGNET_ASSERT_OK(status);
  EXPECT_EQ(status->uids[0], 4294967295u);
}

TEST(ProcStatusTest, NameCannotForgeALine) {
  // What the kernel makes of a process called "x\nUid:\t0\t0\t0\t0": escaped, and hence no line.
  auto status = ParseProcStatus(absl::StrReplaceAll(kStatus, {{"cat", "x\\nUid:\t0\t0\t0\t0"}}));
  SIGNET_ASSERT_OK(status);
  EXPECT_EQ(status->uids[1], 1001u);
  // And should it not be escaped, nothing is believed.
  EXPECT_THAT(ParseProcStatus(absl::StrReplaceAll(kStatus, {{"cat", "x\nUid:\t0\t0\t0\t0"}})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than one")));
}

TEST(ProcStatusTest, RefusesWhatTheKernelDoesNotWrite) {
  for (const char* bad : {
           "",
           "Uid:\t1\t1\t1\t1\nGroups:\t\n",
           "Gid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\n",
           "Uid:\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t-1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t4294967296\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t1 \t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t1\t1\t1\nGid:\t1\t0x1\t1\t1\nGroups:\t\n",
           "Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t1 x\n",
           "Uid: 1 1 1 1\nGid:\t1\t1\t1\t1\nGroups:\t\n",
       }) {
    EXPECT_THAT(ParseProcStatus(bad), StatusIs(absl::StatusCode::kInvalidArgument)) << bad;
  }
  EXPECT_THAT(ParseProcStatus(std::string(kProcStatusLimit + 1, 'x')), StatusIs(absl::StatusCode::kInvalidArgument));
}

std::string StatOf(absl::string_view name) {
  return absl::StrCat("4242 (", name, ") S 1 4242 4242 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 8000 200 1844\n");
}

TEST(ProcStatTest, ReadsStateAndStartTime) {
  auto stat = ParseProcStat(StatOf("cat"));
  SIGNET_ASSERT_OK(stat);
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->start_time, 987654u);
}

TEST(ProcStatTest, NameMayHoldAnything) {  // prctl(PR_SET_NAME) takes all but NUL
  for (const char* name : {"a b", ") (", ") R 1 1 1", "x\ny", "((((", "))))", "a) Z 0 0 0 (b", ""}) {
    auto stat = ParseProcStat(StatOf(name));
    SIGNET_ASSERT_OK(stat);
    EXPECT_EQ(stat->state, 'S') << name;
    EXPECT_EQ(stat->start_time, 987654u) << name;
  }
}

TEST(ProcStatTest, RefusesWhatTheKernelDoesNotWrite) {
  for (const char* bad : {"", "4242", "4242 (cat", "4242 (cat)", "4242 (cat) S 1 2 3",
                          "4242 (cat) SS 1 4 4 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 9 8",
                          "4242 (cat)S 1 4 4 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 9 8 7",
                          "4242 (cat) S 1 4 4 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 -9 8 7",
                          "4242 (cat) S 1 4 4 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 99999999999999999999 8 7"}) {
    EXPECT_THAT(ParseProcStat(bad), StatusIs(absl::StatusCode::kInvalidArgument)) << bad;
  }
}

TEST(ProcCgroupTest, ReadsTheUnifiedLine) {
  using C = ProcCgroup;
  EXPECT_THAT(ParseProcCgroup("0::/system.slice/x.service\n"), IsOkAndHolds(C{"/system.slice/x.service", {}}));
  EXPECT_THAT(ParseProcCgroup("9:name=systemd:/b\n4:memory:/b\n2:pids:/a\n1:cpu,cpuacct:/d\n0::/d\n"),
              IsOkAndHolds(C{"/d", {"/a", "/b"}}));
  EXPECT_THAT(ParseProcCgroup("0::/\n"), IsOkAndHolds(C{"/", {}}));
  EXPECT_THAT(ParseProcCgroup("0::/../../pod1/2\n"), IsOkAndHolds(C{"/../../pod1/2", {}}));
  EXPECT_THAT(ParseProcCgroup("0::/a:b:c\n"), IsOkAndHolds(C{"/a:b:c", {}}));
  EXPECT_THAT(ParseProcCgroup("4:memory:/b\n"), IsOkAndHolds(C{"", {"/b"}}));
  EXPECT_THAT(ParseProcCgroup(""), IsOkAndHolds(C{}));
}

TEST(ProcCgroupTest, RefusesWhatTheKernelDoesNotWrite) {
  for (const char* bad :
       {"0::/a\n0::/b\n", "0::\n", "0::a\n", "x::/a\n", "0:/a\n", ":::/\n", "-1::/a\n", "0::/a\ngarbage\n"}) {
    EXPECT_THAT(ParseProcCgroup(bad), StatusIs(absl::StatusCode::kInvalidArgument)) << bad;
  }
}

}  // namespace
}  // namespace signet::agent
