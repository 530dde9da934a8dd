#include "common/oauth/receipt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/jose/jws.h"
#include "tests/common/oauth/chain_lies.h"
#include "tests/common/oauth/sample_chain.h"
#include "tests/testing/status_matchers.h"

namespace signet::oauth {
namespace {

using sample::Chain;
using sample::kIssuer;
using sample::MakeChain;
using ::signet::testing::IsOk;
using ::signet::testing::SignerOf;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

ChainFinding Find(const Chain& chain, const std::vector<std::string>& receipts, const std::string& token) {
  return VerifyChain(receipts, token, chain.receipt_keys(), chain.token_keys(), kIssuer);
}
// After a change of what is said, signed anew by the rightful keys: what remains wrong is the story.
std::string Problem(const std::function<void(Chain&)>& change) {
  Chain chain = MakeChain();
  change(chain);
  const std::vector<std::string> receipts = chain.SignReceipts();
  const ChainFinding finding = Find(chain, receipts, chain.SignToken());
  EXPECT_EQ(finding.proven, finding.problem.empty());
  return finding.problem;
}

TEST(ReceiptTest, SignedAndReadItIsTheSame) {
  Chain chain = MakeChain();
  const std::vector<std::string> receipts = chain.SignReceipts();
  for (size_t i = 0; i < receipts.size(); ++i) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const Receipt read, VerifyReceipt(receipts[i], chain.receipt_keys()));
    EXPECT_EQ(read, chain.hops[i]);
  }
}

TEST(ReceiptTest, T5CanBeTakenForNoOtherKindOfJwt) {
  Chain chain = MakeChain();
  const std::string receipt = chain.SignReceipts().front();
  const boost::json::object claims = boost::json::parse(jose::CompactJws::Parse(receipt)->payload).as_object();
  for (const char* claim : {"iss", "aud", "sub", "scope", "exp"}) EXPECT_FALSE(claims.contains(claim)) << claim;
  EXPECT_THAT(Verify(receipt, chain.receipt_keys(), kIssuer, sample::kNow), Not(IsOk()));
  EXPECT_THAT(VerifyReceipt(receipt, chain.token_keys()), Not(IsOk()));
  EXPECT_THAT(VerifyReceipt(chain.SignToken(), chain.token_keys()), Not(IsOk()));
  // The right type and key, with such a claim.
  for (const char* claim : {"iss", "aud", "sub", "scope", "exp", "x"}) {
    boost::json::object more = claims;
    more[claim] = "https://x";
    const std::string jws =
        *jose::SignCompact(R"({"alg":"ES256","kid":"r1","typ":"signet-receipt+jwt"})", boost::json::serialize(more),
                           chain.receipt_key.type(), SignerOf(chain.receipt_key));
    EXPECT_THAT(VerifyReceipt(jws, chain.receipt_keys()), StatusIs(absl::StatusCode::kInvalidArgument)) << claim;
  }
}

TEST(ChainTest, T10AWholeChainIsProven) {
  EXPECT_EQ(Problem([](Chain&) {}), "");
  Chain chain = MakeChain();
  const std::vector<std::string> receipts = chain.SignReceipts();
  chain.token.receipts = receipts;  // inside the token
  const ChainFinding finding = Find(chain, receipts, chain.SignToken());
  ASSERT_TRUE(finding.proven) << finding.problem;
  EXPECT_EQ(finding.hops.size(), 4u);
  EXPECT_EQ(finding.token->jwt_id, chain.token.jwt_id);
}

TEST(ChainTest, T10APartIsIncomplete) {
  Chain chain = MakeChain();
  const std::vector<std::string> all = chain.SignReceipts();
  const std::string token = chain.SignToken();
  ASSERT_TRUE(Find(chain, all, token).proven);
  for (size_t drop = 0; drop < all.size(); ++drop) {
    std::vector<std::string> some = all;
    some.erase(some.begin() + static_cast<std::ptrdiff_t>(drop));
    EXPECT_THAT(Find(chain, some, token).problem, HasSubstr("incomplete")) << drop;
  }
  EXPECT_THAT(Find(chain, {}, token).problem, StartsWith("incomplete"));
  EXPECT_THAT(Find(chain, all, "").problem, StartsWith("incomplete"));
  std::vector<std::string> repeated = all;
  repeated.push_back(all.back());
  EXPECT_FALSE(Find(chain, repeated, token).proven);
  for (size_t i = 1; i < all.size(); ++i) {
    std::vector<std::string> swapped = all;
    std::swap(swapped[i - 1], swapped[i]);
    EXPECT_FALSE(Find(chain, swapped, token).proven) << i;
  }
  // Truncated, and the token says so itself: its other statements give it away.
  Chain cut = MakeChain();
  cut.hops.pop_back();
  const std::vector<std::string> fewer = cut.SignReceipts();
  EXPECT_FALSE(Find(cut, fewer, cut.SignToken()).proven);
}

TEST(ChainTest, EveryLinkIsChecked) {
  for (const auto& [name, change] : sample::LinkLies()) EXPECT_THAT(Problem(change), Not("")) << name;
}

TEST(ChainTest, T10TheTokenItselfIsPartOfTheChain) {
  for (const auto& [name, change] : sample::TokenLies()) EXPECT_THAT(Problem(change), StartsWith("token: ")) << name;
}

TEST(ChainTest, T5EachKindHasItsOwnKeys) {
  Chain chain = MakeChain();
  const std::vector<std::string> receipts = chain.SignReceipts();
  const std::string token = chain.SignToken();
  EXPECT_FALSE(VerifyChain(receipts, token, chain.token_keys(), chain.token_keys(), kIssuer).proven);
  EXPECT_FALSE(VerifyChain(receipts, token, chain.receipt_keys(), chain.receipt_keys(), kIssuer).proven);
  EXPECT_FALSE(VerifyChain(receipts, token, chain.receipt_keys(), chain.token_keys(), "https://other").proven);
  EXPECT_FALSE(VerifyChain(receipts, receipts.back(), chain.receipt_keys(), chain.token_keys(), kIssuer).proven);
}

TEST(ChainTest, ATokenOfAnotherChainDoesNotFit) {
  Chain chain = MakeChain();
  const std::vector<std::string> receipts = chain.SignReceipts();
  Chain other = MakeChain(chain.receipt_key, chain.token_key);
  other.hops[0].txn = other.hops[1].txn = other.hops[2].txn = other.hops[3].txn = other.token.txn = "txn-2";
  const std::vector<std::string> others = other.SignReceipts();
  ASSERT_TRUE(Find(other, others, other.SignToken()).proven);
  EXPECT_FALSE(Find(chain, receipts, other.SignToken()).proven);
}

TEST(ChainTest, OwnAuthorityIsAChainOfOne) {
  Chain chain = MakeChain();
  chain.hops.resize(1);
  Receipt& r = chain.hops[0];
  r.user = r.grant = r.task = r.subject_token = "";
  AccessToken& t = chain.token;
  t.subject = t.client_id = sample::kPlannerId;
  t.subject_profile = "ai_agent";
  t.actors.clear();
  t.audience = r.audience;
  t.jwt_id = "jti-1";
  t.atoms = r.bounds;
  t.binding = r.binding;
  t.context = {.depth = 1, .max_depth = 1, .root = "jti-1", .calls = 10};
  const std::vector<std::string> receipts = chain.SignReceipts();
  const ChainFinding finding = Find(chain, receipts, chain.SignToken());
  EXPECT_TRUE(finding.proven) << finding.problem;
}

TEST(ChainTest, TokensOfFiveHopsStayUnderSixKiB) {
  AccessToken token = sample::Token();
  token.actors.clear();
  token.context.ancestors.clear();
  for (int i = 0; i < kMaxDepth; ++i) {
    token.actors.push_back({.subject = absl::StrCat("spiffe://example.org/agent/some-longer-name/instance-", i),
                            .issuer = "spiffe://example.org"});
    if (i == 0) continue;
    token.context.ancestors.push_back({.jwt_id = "01J0000000000000000000000" + std::to_string(i),
                                       .instance = Hash("i"),
                                       .node = Hash("n"),
                                       .key_id = std::string(32, 'k')});
  }
  token.client_id = token.actors.front().subject;
  token.context.depth = token.context.max_depth = kMaxDepth;
  token.context.instance = token.context.node = Hash("x");
  token.context.receipts = kMaxDepth;
  token.context.receipt_hash = std::string(64, 'a');
  token.receipts_uri = "https://id.example.org/v1/chains/01J00000000000000000000000";
  const crypto::PrivateKey key = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  EXPECT_LT(Sign(token, std::string(32, 'k'), key.type(), SignerOf(key))->size(), kMaxTokenBytes);
}

}  // namespace
}  // namespace signet::oauth
