#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/crypto/pem.h"
#include "common/crypto/random.h"
#include "common/crypto/seal.h"
#include "tests/testing/status_matchers.h"

namespace signet::crypto {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(PemTest, RoundTripOfEverySize) {
  for (size_t size = 1; size < 200; ++size) {
    const std::string der = RandomBytes(size);
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto blocks, ParsePem(ToPem("CERTIFICATE", der)));
    ASSERT_EQ(blocks.size(), 1);
    EXPECT_EQ(blocks[0].label, "CERTIFICATE");
    EXPECT_EQ(blocks[0].der, der);
  }
}

TEST(PemTest, TextAroundBlocksIsIgnored) {
  const std::string text = absl::StrCat("# comment\r\nsubject=x\n", ToPem("A", "1"), "between -----BEGIN X-----\n",
                                        ToPem("B C", "22"), "\nend");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto blocks, ParsePem(text));
  ASSERT_EQ(blocks.size(), 2);
  EXPECT_EQ(blocks[1].label, "B C");
  EXPECT_EQ(blocks[1].der, "22");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto crlf, ParsePem("-----BEGIN A-----\r\nMQ==\r\n-----END A-----\r\n"));
  EXPECT_EQ(crlf[0].der, "1");
}

TEST(PemTest, DamagedBlocksAreRefused) {
  for (const char* bad :
       {"", "hello", "-----BEGIN A-----", "-----BEGIN A-----\nMQ==\n", "-----BEGIN A-----\nMQ==\n-----END B-----\n",
        "-----BEGIN -----\nMQ==\n-----END -----\n", "-----BEGIN A-----\nM!==\n-----END A-----\n",
        "-----BEGIN A-----\n\n-----END A-----\n", "-----BEGIN A-----\nMQ== -----END A-----\n",
        "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nMQ==\n-----END A-----\n"}) {
    EXPECT_THAT(ParsePem(bad), StatusIs(kInvalid)) << bad;
  }
  // One good block does not excuse a damaged one.
  EXPECT_THAT(ParsePem(ToPem("A", "1") + "-----BEGIN A-----\nMQ=="), StatusIs(kInvalid, HasSubstr("block 2")));
}

TEST(PemTest, Caps) {
  EXPECT_THAT(ParsePem(std::string((1 << 20) + 1, 'x')), StatusIs(kInvalid, HasSubstr("1 MiB")));
  std::string many;
  for (int i = 0; i < 256; ++i) many += ToPem("A", "1");
  EXPECT_EQ(ParsePem(many)->size(), 256);
  EXPECT_THAT(ParsePem(many + ToPem("A", "1")), StatusIs(kInvalid, HasSubstr("256")));
}

TEST(SealTest, OpensWithTheSameKeyAndContextOnly) {
  const std::string key = RandomBytes(32);
  for (const std::string& plain : {std::string(), std::string("secret"), RandomBytes(100'000)}) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string sealed, Seal(key, plain, "context"));
    EXPECT_EQ(sealed.size(), 12 + plain.size() + 16);
    EXPECT_EQ(*Unseal(key, sealed, "context"), plain);
    EXPECT_THAT(Unseal(key, sealed, "contexu"), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Unseal(key, sealed, ""), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(Unseal(RandomBytes(32), sealed, "context"), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_NE(*Seal(key, plain, "context"), sealed);  // a fresh nonce each time
  }
  SIGNET_EXPECT_OK(Unseal(key, *Seal(key, "x", ""), ""));
  EXPECT_THAT(Seal("short", "x", ""), StatusIs(kInvalid));
  EXPECT_THAT(Unseal("short", *Seal(key, "x", ""), ""), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SealTest, EachFlippedBitAndEachTruncationIsDataLoss) {  // Z13
  const std::string key = RandomBytes(32);
  const std::string sealed = *Seal(key, "a private key", "node");
  for (size_t i = 0; i < sealed.size() * 8; ++i) {
    std::string bad = sealed;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << (i % 8)));
    EXPECT_THAT(Unseal(key, bad, "node"), StatusIs(absl::StatusCode::kDataLoss));
  }
  for (size_t length = 0; length < sealed.size(); ++length) {
    EXPECT_THAT(Unseal(key, sealed.substr(0, length), "node"), StatusIs(absl::StatusCode::kDataLoss));
  }
  EXPECT_THAT(Unseal(key, sealed + "x", "node"), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace signet::crypto
