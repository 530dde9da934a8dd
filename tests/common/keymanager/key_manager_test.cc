#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "common/keymanager/disk_key_manager.h"
#include "common/keymanager/memory_key_manager.h"
#include "common/log/log.h"
#include "tests/common/keymanager/contract.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/temp_dir.h"

namespace signet {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

// A disk manager together with the folder it lives in.
class DiskInTempDir final : public KeyManager {
 public:
  absl::StatusOr<crypto::PublicKey> GenerateKey(absl::string_view id, crypto::KeyType type) override {
    return keys_->GenerateKey(id, type);
  }
  absl::StatusOr<crypto::PublicKey> GetPublicKey(absl::string_view id) override { return keys_->GetPublicKey(id); }
  std::vector<std::string> ListKeys() override { return keys_->ListKeys(); }
  absl::Status RemoveKey(absl::string_view id) override { return keys_->RemoveKey(id); }
  absl::StatusOr<std::string> Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                   absl::string_view message) override {
    return keys_->Sign(id, hash, message);
  }

 private:
  testing::TempDir dir_;
  fakes::FakeClock clock_;
  std::unique_ptr<DiskKeyManager> keys_ = DiskKeyManager::Open(dir_.file("keys"), clock_).value();
};

INSTANTIATE_TEST_SUITE_P(All, KeyManagerContract,
                         ::testing::Values(KeyManagerFactory{"Memory",
                                                             [] { return std::make_unique<MemoryKeyManager>(); }},
                                           KeyManagerFactory{"Disk", [] { return std::make_unique<DiskInTempDir>(); }}),
                         [](const auto& tested) { return std::string(tested.param.name); });

class DiskKeyManagerTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<DiskKeyManager>> Open() { return DiskKeyManager::Open(folder_, clock_); }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name) << content;
    chmod((folder_ + "/" + name).c_str(), 0600);
  }
  std::string Read(const std::string& name) {
    std::ifstream in(folder_ + "/" + name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  testing::TempDir dir_;
  std::string folder_ = dir_.file("keys");
  fakes::FakeClock clock_;
};

TEST_F(DiskKeyManagerTest, KeysOutliveTheProcess) {
  crypto::PublicKey made;
  {
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
    SIGNET_ASSERT_OK_AND_ASSIGN(made, keys->GenerateKey("JWT-Signer-B", crypto::KeyType::kEcP256));
  }
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
  EXPECT_EQ(*keys->GetPublicKey("JWT-Signer-B"), made);
}

TEST_F(DiskKeyManagerTest, FilesAndFolderAreForTheOwnerAlone) {  // N16
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
  SIGNET_ASSERT_OK(keys->GenerateKey("a", crypto::KeyType::kEcP256));
  struct stat info;
  ASSERT_EQ(stat((folder_ + "/a.pem").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777u, 0600u);
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777u, 0700u);
}

TEST_F(DiskKeyManagerTest, WidePermissionsAreRefusedWithTheRemedy) {
  {
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
    SIGNET_ASSERT_OK(keys->GenerateKey("a", crypto::KeyType::kEcP256));
  }
  ASSERT_EQ(chmod((folder_ + "/a.pem").c_str(), 0640), 0);
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("chmod")));
  ASSERT_EQ(chmod((folder_ + "/a.pem").c_str(), 0600), 0);
  ASSERT_EQ(chmod(folder_.c_str(), 0750), 0);
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("chmod 700")));
  ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
  SIGNET_EXPECT_OK(Open().status());
}

TEST_F(DiskKeyManagerTest, ADamagedFileIsNamedAndSetAsideBeforeItIsReplaced) {
  {
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
    SIGNET_ASSERT_OK(keys->GenerateKey("a", crypto::KeyType::kEcP256));
    SIGNET_ASSERT_OK(keys->GenerateKey("b", crypto::KeyType::kEcP256));
  }
  const std::string damaged = Read("a.pem").substr(0, 100);
  Write("a.pem", damaged);
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
  EXPECT_THAT(keys->ListKeys(), ::testing::ElementsAre("b"));
  EXPECT_THAT(keys->GetPublicKey("a"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(folder_ + "/a.pem")));
  EXPECT_THAT(keys->Sign("a", crypto::HashAlgorithm::kSha256, "m"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(keys->RemoveKey("a"), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(Read("a.pem"), damaged);
  SIGNET_EXPECT_OK(keys->GenerateKey("a", crypto::KeyType::kEcP256));
  bool kept = false;
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    const std::string name = file.path().filename().string();
    if (name.find("a.pem.corrupt-") == 0) kept = Read(name) == damaged;
  }
  EXPECT_TRUE(kept);
}

TEST_F(DiskKeyManagerTest, EveryTruncationOfAKeyFileIsDataLoss) {  // Z13
  std::string pem;
  {
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
    SIGNET_ASSERT_OK(keys->GenerateKey("a", crypto::KeyType::kEcP256));
    pem = Read("a.pem");
  }
  log::SetLevel(log::Level::kOff);                              // hundreds of lines that are expected
  for (size_t length = 0; length + 1 < pem.size(); ++length) {  // the last byte is the line end
    Write("a.pem", pem.substr(0, length));
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
    ASSERT_THAT(keys->GetPublicKey("a"), StatusIs(absl::StatusCode::kDataLoss)) << length;
  }
  log::SetLevel(log::Level::kInfo);
}

TEST_F(DiskKeyManagerTest, StrayFilesAreIgnored) {
  SIGNET_ASSERT_OK(Open().status());
  Write("a.pem.tmp-x", "half");
  Write("README", "hello");
  Write(".pem", "x");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto keys, Open());
  EXPECT_TRUE(keys->ListKeys().empty());
}

}  // namespace
}  // namespace signet
