// What every KeyManager does. A suite instantiates it with a factory; `Reopen` shows whether keys outlive the object.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/keymanager/key_manager.h"
#include "tests/testing/status_matchers.h"

namespace signet {

struct KeyManagerFactory {
  const char* name;
  std::function<std::unique_ptr<KeyManager>()> make;
};

class KeyManagerContract : public ::testing::TestWithParam<KeyManagerFactory> {
 protected:
  std::unique_ptr<KeyManager> keys_ = GetParam().make();
};

TEST_P(KeyManagerContract, SignsWithTheKeyItMade) {
  for (crypto::KeyType type : {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kRsa2048}) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey made, keys_->GenerateKey("x509-CA-A", type));
    EXPECT_EQ(made.type(), type);
    SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey found, keys_->GetPublicKey("x509-CA-A"));
    EXPECT_EQ(found, made);
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string signature,
                                keys_->Sign("x509-CA-A", crypto::HashAlgorithm::kSha256, "message"));
    SIGNET_EXPECT_OK(made.Verify(crypto::HashAlgorithm::kSha256, "message", signature));
  }
}

TEST_P(KeyManagerContract, ANewKeyReplacesTheOldOne) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey first, keys_->GenerateKey("a", crypto::KeyType::kEcP256));
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey second, keys_->GenerateKey("a", crypto::KeyType::kEcP256));
  EXPECT_FALSE(first == second);
  EXPECT_EQ(*keys_->GetPublicKey("a"), second);
  EXPECT_THAT(keys_->ListKeys(), ::testing::ElementsAre("a"));
}

TEST_P(KeyManagerContract, AFailureLeavesTheOldKeyUsable) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey key, keys_->GenerateKey("a", crypto::KeyType::kEcP256));
  EXPECT_FALSE(keys_->GenerateKey("a", crypto::KeyType::kRsaOther).ok());
  EXPECT_EQ(*keys_->GetPublicKey("a"), key);
}

TEST_P(KeyManagerContract, UnknownIdsAreNotFound) {
  using testing::StatusIs;
  EXPECT_THAT(keys_->GetPublicKey("a"), StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("\"a\"")));
  EXPECT_THAT(keys_->Sign("a", crypto::HashAlgorithm::kSha256, "m"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(keys_->RemoveKey("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_TRUE(keys_->ListKeys().empty());
}

TEST_P(KeyManagerContract, IdsThatCouldLeaveTheFolderAreRefused) {
  for (const std::string& id : {std::string(), std::string("."), std::string(".."), std::string("../a"),
                                std::string("a/b"), std::string("a b"), std::string("a\0b", 3), std::string(65, 'a')}) {
    EXPECT_THAT(keys_->GenerateKey(id, crypto::KeyType::kEcP256),
                testing::StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST_P(KeyManagerContract, RemovesAKey) {
  SIGNET_ASSERT_OK(keys_->GenerateKey("a", crypto::KeyType::kEcP256));
  SIGNET_ASSERT_OK(keys_->GenerateKey("b", crypto::KeyType::kEcP256));
  SIGNET_EXPECT_OK(keys_->RemoveKey("a"));
  EXPECT_THAT(keys_->ListKeys(), ::testing::ElementsAre("b"));
  EXPECT_THAT(keys_->GetPublicKey("a"), testing::StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(KeyManagerContract, SignsFromManyThreadsWhileKeysAreReplaced) {
  SIGNET_ASSERT_OK(keys_->GenerateKey("a", crypto::KeyType::kEcP256));
  std::vector<std::thread> signers;
  for (int t = 0; t < 4; ++t) {
    signers.emplace_back([this] {
      for (int i = 0; i < 50; ++i) EXPECT_TRUE(keys_->Sign("a", crypto::HashAlgorithm::kSha256, "m").ok());
    });
  }
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(keys_->GenerateKey("a", crypto::KeyType::kEcP256).ok());
  for (std::thread& signer : signers) signer.join();
}

}  // namespace signet
