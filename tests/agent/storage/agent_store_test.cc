#include "agent/storage/agent_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "common/fs/atomic_file.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using testing::StatusIs;

class AgentStoreTest : public ::testing::Test {
 protected:
  AgentStore Store(bool keep_key = true, absl::string_view td = "example.org") {
    return AgentStore({dir_.path(), Td(td), keep_key}, clock_);
  }
  StoredAgent Some() {
    auto entry = std::make_shared<const spiffe::Entry>(EntryOf("spire/agent/test/node", {}));
    StoredAgent agent;
    agent.svid = *authority_.Mint(entry, {clock_.Now(), clock_.Steady()}).svid;
    agent.reattestable = true;
    agent.bundle = authority_.bundle();
    return agent;
  }

  testing::TempDir dir_;
  fakes::FakeClock clock_;
  TestAuthority authority_{clock_.Now()};
};

TEST_F(AgentStoreTest, GivesBackWhatWasSaved) {
  const StoredAgent before = Some();
  SIGNET_ASSERT_OK(Store().Save(before));
  SIGNET_ASSERT_OK_AND_ASSIGN(const StoredAgent after, Store().Load());
  ASSERT_TRUE(after.svid.has_value());
  EXPECT_EQ(after.svid->chain, before.svid->chain);
  EXPECT_EQ(after.svid->key.Pkcs8Der(), before.svid->key.Pkcs8Der());
  EXPECT_TRUE(after.reattestable);
  EXPECT_EQ(after.bundle, before.bundle);
  struct stat info;
  ASSERT_EQ(stat(Store().path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(AgentStoreTest, NothingStoredIsEmpty) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const StoredAgent agent, Store().Load());
  EXPECT_FALSE(agent.svid.has_value());
  EXPECT_FALSE(agent.bundle.has_value());
}

TEST_F(AgentStoreTest, MemoryKeysNeverReachTheDisk) {
  const StoredAgent agent = Some();
  SIGNET_ASSERT_OK(Store(false).Save(agent));
  SIGNET_ASSERT_OK_AND_ASSIGN(const StoredAgent after, Store(false).Load());
  EXPECT_FALSE(after.svid.has_value());
  EXPECT_EQ(after.bundle, agent.bundle);
  const std::string content = fs::ReadFile(Store().path(), 1 << 20).value();
  EXPECT_EQ(content.find(agent.svid->key.Pkcs8Der()), std::string::npos);
}

TEST_F(AgentStoreTest, AnyDamageIsNamedAndSetAside) {  // F9
  SIGNET_ASSERT_OK(Store().Save(Some()));
  const std::string good = fs::ReadFile(Store().path(), 1 << 20).value();
  const auto check = [&](const std::string& bad, size_t at) {
    std::ofstream(Store().path(), std::ios::binary | std::ios::trunc) << bad;
    chmod(Store().path().c_str(), 0600);
    absl::StatusOr<StoredAgent> agent = Store().Load();
    ASSERT_TRUE(agent.ok()) << at;
    ASSERT_FALSE(agent->svid.has_value()) << at;
    ASSERT_FALSE(std::filesystem::exists(Store().path())) << at;
    for (const auto& file : std::filesystem::directory_iterator(dir_.path())) std::filesystem::remove(file.path());
  };
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    check(bad, at);
    if (at % 16 == 0) check(good.substr(0, at), at);
  }
}

TEST_F(AgentStoreTest, StateOfAnotherTrustDomainIsSetAside) {
  SIGNET_ASSERT_OK(Store().Save(Some()));
  SIGNET_ASSERT_OK_AND_ASSIGN(const StoredAgent agent, Store(true, "other.org").Load());
  EXPECT_FALSE(agent.bundle.has_value());
}

TEST_F(AgentStoreTest, FileThatOthersCanReadIsRefused) {
  SIGNET_ASSERT_OK(Store().Save(Some()));
  ASSERT_EQ(chmod(Store().path().c_str(), 0644), 0);
  EXPECT_THAT(Store().Load(), StatusIs(absl::StatusCode::kFailedPrecondition, ::testing::HasSubstr("agent.state")));
  EXPECT_TRUE(std::filesystem::exists(Store().path()));
}

}  // namespace
}  // namespace signet::agent
