#include "common/crypto/csr.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace signet::crypto {
namespace {

TEST(CsrTest, RoundTrip) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey key, PrivateKey::Generate(KeyType::kEcP256));
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string der, CertificateRequest::Create(key, {"spiffe://a/b"}, {"x.org"}));
  SIGNET_ASSERT_OK_AND_ASSIGN(const CertificateRequest csr, CertificateRequest::ParseAndVerify(der));
  EXPECT_EQ(csr.public_key(), key.public_key());
  EXPECT_THAT(csr.uri_sans(), ::testing::ElementsAre("spiffe://a/b"));
  EXPECT_THAT(csr.dns_sans(), ::testing::ElementsAre("x.org"));
}

}  // namespace
}  // namespace signet::crypto
