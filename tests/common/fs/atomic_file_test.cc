#include "common/fs/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/failpoint/failpoint.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::fs {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using testing::TempDir;

void Put(const std::string& path, const std::string& content, mode_t mode = 0600) {
  std::ofstream(path) << content;
  chmod(path.c_str(), mode);
}

unsigned ModeOf(const std::string& path) {
  struct stat info {};
  lstat(path.c_str(), &info);
  return info.st_mode & 07777;
}

size_t FilesIn(const std::string& folder) {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++n;
  return n;
}

TEST(AtomicFileTest, WritesOwnerOnlyAndReplaces) {
  TempDir dir;
  const std::string path = dir.file("key");
  SIGNET_ASSERT_OK(WriteFileAtomically(path, "one"));
  EXPECT_EQ(ModeOf(path), 0600u);
  SIGNET_ASSERT_OK(WriteFileAtomically(path, "two"));
  EXPECT_THAT(ReadSecretFile(path, 100), IsOkAndHolds("two"));
  EXPECT_EQ(FilesIn(dir.path()), 1u);
  SIGNET_ASSERT_OK(WriteFileAtomically(path, "three", 0644));
  EXPECT_EQ(ModeOf(path), 0644u);
}

TEST(AtomicFileTest, NamesAMissingFolder) {
  TempDir dir;
  EXPECT_THAT(WriteFileAtomically(dir.file("no/such"), "x"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such")));
  EXPECT_THAT(ReadFile(dir.file("absent"), 10), StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent")));
}

TEST(AtomicFileTest, RefusesMoreThanTheCap) {
  TempDir dir;
  Put(dir.file("big"), std::string(101, 'x'));
  EXPECT_THAT(ReadFile(dir.file("big"), 100), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("100 bytes")));
  EXPECT_THAT(ReadFile(dir.file("big"), 101), IsOk());
}

TEST(AtomicFileTest, ReadsNoSecretThatOthersCanReadOrWrite) {
  TempDir dir;
  for (const mode_t mode : {0640, 0604, 0620, 0602}) {
    Put(dir.file("secret"), "s", mode);
    EXPECT_THAT(ReadSecretFile(dir.file("secret"), 10),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("chmod 600")));
  }
  chmod(dir.file("secret").c_str(), 0400);
  EXPECT_THAT(ReadSecretFile(dir.file("secret"), 10), IsOkAndHolds("s"));
}

TEST(AtomicFileTest, ReadsNoSecretThroughALinkOrFromAFifo) {
  TempDir dir;
  Put(dir.file("secret"), "s");
  std::filesystem::create_symlink(dir.file("secret"), dir.file("link"));
  EXPECT_THAT(ReadSecretFile(dir.file("link"), 10),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("symbolic link")));
  ASSERT_EQ(mkfifo(dir.file("fifo").c_str(), 0600), 0);
  EXPECT_THAT(ReadSecretFile(dir.file("fifo"), 10),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("regular file")));
}

TEST(AtomicFileTest, ReadsNoSecretOfAnotherUser) {
  if (geteuid() != 0) GTEST_SKIP() << "NOT RUN: only root can give a file away, and this is not root";
  TempDir dir;
  Put(dir.file("secret"), "s");
  ASSERT_EQ(chown(dir.file("secret").c_str(), 65534, 65534), 0);
  EXPECT_THAT(ReadSecretFile(dir.file("secret"), 10),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("65534")));
}

TEST(AtomicFileTest, MakesFoldersAndRefusesAnOpenOne) {
  TempDir dir;
  SIGNET_ASSERT_OK(MakeDirectory(dir.file("a/b/c"), 0700));
  EXPECT_EQ(ModeOf(dir.file("a/b/c")), 0700u);
  SIGNET_ASSERT_OK(MakeDirectory(dir.file("a/b/c/"), 0700));
  SIGNET_ASSERT_OK(MakeDirectory(dir.file("shared"), 0777));
  SIGNET_ASSERT_OK(MakeDirectory(dir.file("shared"), 0777));
  EXPECT_THAT(MakeDirectory(dir.file("shared"), 0700),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("chmod 0700")));
  Put(dir.file("file"), "");
  EXPECT_THAT(MakeDirectory(dir.file("file"), 0700),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not a folder")));
  EXPECT_FALSE(MakeDirectory("", 0700).ok());
}

TEST(AtomicFileTest, SetsADamagedFileAsideUnderANameOfItsOwn) {
  TempDir dir;
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  for (const char* name : {"db.corrupt-1800000000", "db.corrupt-1800000000-1"}) {
    Put(dir.file("db"), name);
    EXPECT_THAT(SetAside(dir.file("db"), now), IsOkAndHolds(dir.file(name)));
    EXPECT_THAT(ReadFile(dir.file(name), 100), IsOkAndHolds(name));
  }
  EXPECT_THAT(ReadFile(dir.file("db"), 100), StatusIs(absl::StatusCode::kNotFound));
}

TEST(AtomicFileTest, LocksAFolderForOneDaemon) {
  TempDir dir;
  {
    SIGNET_ASSERT_OK_AND_ASSIGN(const DirectoryLock lock, DirectoryLock::Acquire(dir.path()));
    EXPECT_THAT(DirectoryLock::Acquire(dir.path()).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(absl::StrCat(getpid()))));
  }
  EXPECT_THAT(DirectoryLock::Acquire(dir.path()).status(), IsOk());
}

#ifdef SIGNET_FAILPOINTS
// In a child of its own, so that it may die.
int WriteArmed(const std::string& rule, const std::string& path) {
  const pid_t child = fork();
  if (child == 0) {
    failpoint::Arm(rule);
    _exit(WriteFileAtomically(path, std::string(100'000, 'n')).ok() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// A death at any step leaves the old content or the new, never half of either.
TEST(AtomicFileTest, SurvivesDeathAtEachStep) {
  const std::string kNew(100'000, 'n');
  const struct {
    std::string name, expected;
  } kSteps[] = {{"before_write", "old"}, {"after_fsync", "old"}, {"before_rename", "old"}, {"after_rename", kNew}};
  for (const auto& step : kSteps) {
    TempDir dir;
    Put(dir.file("f"), "old");
    EXPECT_EQ(WriteArmed(absl::StrCat("atomic_file.", step.name, "=kill"), dir.file("f")), 128 + SIGKILL) << step.name;
    EXPECT_THAT(ReadSecretFile(dir.file("f"), 1'000'000), IsOkAndHolds(step.expected)) << step.name;
    EXPECT_EQ(WriteArmed("none=kill", dir.file("f")), 0) << step.name;  // and the next writer is not in its way
    EXPECT_THAT(ReadSecretFile(dir.file("f"), 1'000'000), IsOkAndHolds(kNew)) << step.name;
  }
}

TEST(AtomicFileTest, LeavesNothingBehindWhenAStepFails) {
  for (const char* step : {"before_write", "after_fsync", "before_rename"}) {
    TempDir dir;
    Put(dir.file("f"), "old");
    EXPECT_EQ(WriteArmed(absl::StrCat("atomic_file.", step, "=fail"), dir.file("f")), 1) << step;
    EXPECT_THAT(ReadFile(dir.file("f"), 10), IsOkAndHolds("old")) << step;
    EXPECT_EQ(FilesIn(dir.path()), 1u) << step;
  }
}
#endif

}  // namespace
}  // namespace signet::fs
