#include "agent/workloadattestor/unix.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/workloadattestor/registry.h"
#include "common/crypto/digest.h"
#include "config/agent.pb.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_peer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::signet::testing::TempDir;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

// A process whose executable is the file at `path`.
class FileProcess final : public PeerProcess {
 public:
  explicit FileProcess(std::string path) : path_(std::move(path)) {}
  pid_t pid() const override { return 1; }
  uid_t uid() const override { return 0; }
  gid_t gid() const override { return 0; }
  uint64_t cgroup_key() const override { return 0; }
  absl::StatusOr<Facts> ReadFacts() const override {
    struct stat st;
    if (stat(path_.c_str(), &st) != 0) return absl::PermissionDeniedError("no file");
    Facts facts;
    facts.executable = path_;
    facts.executable_device = st.st_dev;
    facts.executable_inode = st.st_ino;
    return facts;
  }
  absl::Status StillTheSame(const Facts&) const override { return absl::OkStatus(); }
  bool alive() const override { return true; }
  absl::StatusOr<int> OpenExecutable() const override {
    int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return absl::PermissionDeniedError("cannot open");
    return fd;
  }

 private:
  const std::string path_;
};

class UnixAttestorTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<std::string>> Attest(UnixAttestor::Options options, const PeerProcess::Facts& facts) {
    return Attest(options, std::make_shared<FileProcess>("/proc/self/exe"), facts);
  }
  absl::StatusOr<std::vector<std::string>> Attest(UnixAttestor::Options options,
                                                  std::shared_ptr<const PeerProcess> process,
                                                  const PeerProcess::Facts& facts) {
    UnixAttestor attestor(options, clock_);
    absl::StatusOr<spiffe::Selectors> result = absl::InternalError("not called");
    attestor.Attest(process, facts, clock_.Steady() + absl::Seconds(1), [&](absl::StatusOr<Finding> r) {
      if (!r.ok()) {
        result = r.status();
      } else {
        EXPECT_EQ(r->outdated, nullptr);
        result = std::move(r->selectors);
      }
    });
    if (!result.ok()) return result.status();
    std::vector<std::string> text;
    for (const spiffe::Selector& selector : *result) text.push_back(selector.ToString());
    return text;
  }
  fakes::FakeClock clock_;
};

TEST_F(UnixAttestorTest, SaysWhatSpiresSays) {
  PeerProcess::Facts facts;
  facts.uid = 0;
  facts.gid = 0;
  facts.supplementary_gids = {0, 4294967000};
  EXPECT_THAT(Attest({}, facts),
              IsOkAndHolds(UnorderedElementsAre("unix:uid:0", "unix:user:root", "unix:gid:0", "unix:group:root",
                                                "unix:supplementary_gid:0", "unix:supplementary_group:root",
                                                "unix:supplementary_gid:4294967000")));
}

TEST_F(UnixAttestorTest, NamesNobodyItDoesNotKnow) {
  PeerProcess::Facts facts;
  facts.uid = 4294967001;
  facts.gid = 4294967002;
  EXPECT_THAT(Attest({}, facts), IsOkAndHolds(UnorderedElementsAre("unix:uid:4294967001", "unix:gid:4294967002")));
}

TEST_F(UnixAttestorTest, AddsPathAndHashWhenAsked) {
  TempDir dir;
  const std::string path = dir.file("app");
  std::ofstream(path) << "the program";
  auto process = std::make_shared<FileProcess>(path);
  const std::string hash = "unix:sha256:" + absl::BytesToHexString(crypto::Sha256("the program"));
  auto facts = *process->ReadFacts();
  EXPECT_THAT(Attest({}, process, facts), IsOkAndHolds(Not(Contains(HasSubstr("path")))));
  EXPECT_THAT(Attest({.discover_path = true}, process, facts), IsOkAndHolds(Contains("unix:path:" + path)));
  EXPECT_THAT(Attest({.discover_path = true}, process, facts), IsOkAndHolds(Contains(hash)));
  EXPECT_THAT(Attest({.discover_path = true, .hash = false}, process, facts), IsOkAndHolds(Not(Contains(hash))));
  // At the limit, and one byte beyond it: then the path alone.
  EXPECT_THAT(Attest({.discover_path = true, .hash_size_limit = 11}, process, facts), IsOkAndHolds(Contains(hash)));
  EXPECT_THAT(Attest({.discover_path = true, .hash_size_limit = 10}, process, facts),
              IsOkAndHolds(AllOf(Contains("unix:path:" + path), Not(Contains(HasSubstr("sha256"))))));
  EXPECT_THAT(Attest({.discover_path = true, .hash_size_limit = 0}, process, facts), IsOkAndHolds(Contains(hash)));
}

TEST_F(UnixAttestorTest, NeverHashesAnotherFileThanTheFactsName) {  // W4: exec between the two
  TempDir dir;
  std::ofstream(dir.file("good")) << "good";
  std::ofstream(dir.file("evil")) << "evil";
  auto facts = *FileProcess(dir.file("evil")).ReadFacts();
  EXPECT_THAT(Attest({.discover_path = true}, std::make_shared<FileProcess>(dir.file("good")), facts),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("another executable")));
}

class FileHashCacheTest : public ::testing::Test {
 protected:
  std::string Hash() {
    int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    auto hash = cache_.HexSha256(fd, 0);
    close(fd);
    return hash.ok() ? hash->value_or("none") : hash.status().ToString();
  }
  static std::string Of(absl::string_view content) { return absl::BytesToHexString(crypto::Sha256(content)); }
  void Write(const std::string& content) {
    std::ofstream file(path_, std::ios::in | std::ios::out);  // the same inode
    file << content;
  }
  TempDir dir_;
  std::string path_ = dir_.file("app");
  FileHashCache cache_;
};

TEST_F(FileHashCacheTest, ReadsAFileOnce) {
  std::ofstream(path_) << std::string(1 << 20, 'x');
  EXPECT_EQ(Hash(), Of(std::string(1 << 20, 'x')));
  EXPECT_EQ(Hash(), Of(std::string(1 << 20, 'x')));
  EXPECT_EQ(cache_.files_read(), 1u);
}

TEST_F(FileHashCacheTest, SeesAChangeWhoseModificationTimeWasSetBack) {
  std::ofstream(path_) << "good";
  EXPECT_EQ(Hash(), Of("good"));
  struct stat before;
  ASSERT_EQ(stat(path_.c_str(), &before), 0);
  for (struct stat after = before;
       after.st_ctim.tv_sec == before.st_ctim.tv_sec && after.st_ctim.tv_nsec == before.st_ctim.tv_nsec;) {
    Write("evil");  // until the file system's clock, which is coarse, has moved on
    ASSERT_EQ(stat(path_.c_str(), &after), 0);
  }
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, path_.c_str(), times, 0), 0);
  EXPECT_EQ(Hash(), Of("evil"));
}

TEST_F(FileHashCacheTest, RefusesWhatIsNoFile) {
  int pipes[2];
  ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
  EXPECT_THAT(cache_.HexSha256(pipes[0], 0), StatusIs(absl::StatusCode::kUnavailable));
  close(pipes[0]);
  close(pipes[1]);
}

TEST(WorkloadAttestorRegistryTest, MakesWhatIsConfigured) {
  fakes::FakeClock clock;
  telemetry::Metrics registry;
  Metrics metrics(registry);
  telemetry::Health health;
  config::WorkloadAttestors config;
  auto attestors = MakeWorkloadAttestors(config, {clock, metrics, health});
  SIGNET_ASSERT_OK(attestors);
  ASSERT_EQ(attestors->size(), 1u);
  EXPECT_EQ((*attestors)[0]->name(), "unix");

  config.mutable_unix()->set_sha256_size_limit("1MiB");
  SIGNET_EXPECT_OK(MakeWorkloadAttestors(config, {clock, metrics, health}));
  config.mutable_unix()->set_sha256_size_limit("0");
  SIGNET_EXPECT_OK(MakeWorkloadAttestors(config, {clock, metrics, health}));
  config.mutable_unix()->set_sha256_size_limit("big");
  EXPECT_THAT(MakeWorkloadAttestors(config, {clock, metrics, health}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("workload_attestors.unix.sha256_size_limit")));
}

TEST(WorkloadAttestorRegistryTest, MakesTheAttestorOfPodsAndSaysWhatItLacks) {
  fakes::FakeClock clock;
  telemetry::Metrics registry;
  Metrics metrics(registry);
  telemetry::Health health;
  const WorkloadAttestorDeps deps{clock, metrics, health};
  const auto wrong = [&](const config::WorkloadAttestors& config, const std::string& what) {
    EXPECT_THAT(MakeWorkloadAttestors(config, deps), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  config::WorkloadAttestors config;
  config::K8sAttestor& k8s = *config.mutable_k8s();
  k8s.set_node_name_env("SIGNET_TEST_NO_SUCH_VARIABLE");
  wrong(config, "SIGNET_TEST_NO_SUCH_VARIABLE in the agent's pod from the field spec.nodeName");
  k8s.set_node_name("Not a name");
  wrong(config, "no name of a node");
  k8s.set_node_name("node1");
  k8s.set_pod_wait("11s");
  wrong(config, "workload_attestors.k8s.pod_wait");
  k8s.clear_pod_wait();
  k8s.set_cgroup_root("/proc");
  wrong(config, "mount the host's /sys/fs/cgroup there");
  k8s.clear_cgroup_root();
  k8s.mutable_kubelet()->set_address("127.0.0.1:1");
  auto attestors = MakeWorkloadAttestors(config, deps);
  SIGNET_ASSERT_OK(attestors);
  ASSERT_EQ(attestors->size(), 2u);
  EXPECT_EQ((*attestors)[1]->name(), "k8s");
  EXPECT_TRUE(health.ready());  // nothing runs before it is taken into use
  k8s.set_kube_config_file("/none");
  wrong(config, "workload_attestors.k8s.kube_config_file");
  k8s.clear_kubelet();
  EXPECT_THAT(MakeWorkloadAttestors(config, deps), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("/none")));
}

}  // namespace
}  // namespace signet::agent
