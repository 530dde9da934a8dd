#include "common/crypto/chain_verifier.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::crypto {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(ChainVerifierTest, AcceptsALeafOfTheRoot) {
  const auto root = testing::SelfSigned(testing::CaTemplate("root", kNow));
  const auto leaf = testing::IssuedBy(root, testing::LeafTemplate("spiffe://example.org/a", kNow));
  SIGNET_ASSERT_OK_AND_ASSIGN(const TrustAnchors anchors, TrustAnchors::Create({root.certificate}));
  SIGNET_EXPECT_OK(anchors.Verify({leaf.certificate}, kNow));
}

}  // namespace
}  // namespace signet::crypto
