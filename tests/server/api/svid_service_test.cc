#include "server/api/svid_service.h"

#include <string>

#include <gmock/gmock.h>

#include "absl/strings/escaping.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

// Made by `openssl req -new -subj S -addext ... -outform DER`, P-256.
// S=/CN=ignored/O=x, subjectAltName=URI:spiffe://example.org/db,DNS:db.example.org
constexpr char kGood[] =
    "MIIBHTCBxQIBADAeMRAwDgYDVQQDDAdpZ25vcmVkMQowCAYDVQQKDAF4MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHbI2IOyX9tM2QYZN9VSt"
    "CrLAyyGhgJsbpt0frNsDdqLYPcoXP0LqhIKTVk9YLoybeqssdX6yD3yi3fiJicTKv6BFMEMGCSqGSIb3DQEJDjE2MDQwMgYDVR0RBCswKYYXc3Bp"
    "ZmZlOi8vZXhhbXBsZS5vcmcvZGKCDmRiLmV4YW1wbGUub3JnMAoGCCqGSM49BAMCA0cAMEQCIB0KCS6Be4BzOQ+C277D8xu1SmM1j2ibXU+SeP8R"
    "LUZzAiB5ImnPYVnqmEVXg7RXCzLQBZDn1CcG6muaw3R+qISQuQ==";
// S=/, subjectAltName=URI:spiffe://example.org/db,IP:10.0.0.1
constexpr char kIpSan[] =
    "MIH1MIGdAgEAMAAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQdsjYg7Jf20zZBhk31VK0KssDLIaGAmxum3R+s2wN2otg9yhc/QuqEgpNWT1gu"
    "jJt6qyx1frIPfKLd+ImJxMq/oDswOQYJKoZIhvcNAQkOMSwwKjAoBgNVHREEITAfhhdzcGlmZmU6Ly9leGFtcGxlLm9yZy9kYocECgAAATAKBggq"
    "hkjOPQQDAgNHADBEAiA13LaPf5PRnkknuL9+VbieHSw5FkiGc/P7kRdvRLwmcgIgKKtsGQDac6qOo7VWvS6wwij/hqIumAdyGa0S4W/rFYI=";
// S=/, subjectAltName=URI:spiffe://example.org/db, basicConstraints=CA:TRUE
constexpr char kCa[] =
    "MIH/MIGlAgEAMAAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQdsjYg7Jf20zZBhk31VK0KssDLIaGAmxum3R+s2wN2otg9yhc/QuqEgpNWT1gu"
    "jJt6qyx1frIPfKLd+ImJxMq/oEMwQQYJKoZIhvcNAQkOMTQwMjAiBgNVHREEGzAZhhdzcGlmZmU6Ly9leGFtcGxlLm9yZy9kYjAMBgNVHRMEBTAD"
    "AQH/MAoGCCqGSM49BAMCA0kAMEYCIQCmS2Ljucl4IkedLqSJIf0d90ggaY/eHD/Lv7KjASCs8QIhAIVy6IsFV1zwf2utz1+2tIYt9KhjLcfZHDPo"
    "qQxddrLr";

absl::StatusOr<MintRequest> Read(absl::string_view base64) {
  std::string der;
  if (!absl::Base64Unescape(base64, &der)) abort();
  return ReadMintRequest(crypto::CertificateRequest::ParseAndVerify(der).value(), Own());
}

TEST(ReadMintRequestTest, TakesIdAndDnsNamesAndNoSubject) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const MintRequest request, Read(kGood));
  EXPECT_EQ(request.id.string(), "spiffe://example.org/db");
  EXPECT_THAT(request.dns_names, ::testing::ElementsAre("db.example.org"));
}

// Anything the CSR asks for beyond that refuses, it is not dropped in silence.
TEST(ReadMintRequestTest, RefusesOtherSans) {
  EXPECT_THAT(Read(kIpSan), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("SAN")));
}
TEST(ReadMintRequestTest, RefusesOtherExtensions) {
  EXPECT_THAT(Read(kCa), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("extension")));
}

class FeedBarrierTest : public ::testing::Test {
 protected:
  ApiKit kit_;
};

TEST_F(FeedBarrierTest, AsksOncePerCallerAndSecond) {
  FeedBarrier barrier(*kit_.store, *kit_.applier, kit_.clock);
  const CallerPtr a = TlsCaller(IdOf("/spire/agent/join_token/a")), b = TlsCaller(IdOf("/spire/agent/join_token/b"));
  EXPECT_TRUE(barrier.Due(*a));
  EXPECT_FALSE(barrier.Due(*a));
  EXPECT_TRUE(barrier.Due(*b));
  kit_.clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(barrier.Due(*a));
}

TEST_F(FeedBarrierTest, MemoryHasWhatTheDatabaseHadWhenAsked) {
  FeedBarrier barrier(*kit_.store, *kit_.applier, kit_.clock);
  auto results = testing::CreateEntries(*kit_.store, {EntryOf("/app")}, kit_.clock.Now()).value();
  SIGNET_ASSERT_OK(barrier.CatchUp());
  EXPECT_NE(kit_.index->FindEntry(results[0].record->id), nullptr);
}

TEST_F(FeedBarrierTest, NoAnswerRatherThanAnOldOne) {
  class Stuck final : public FeedApplier {
   public:
    bool WaitFor(uint64_t, absl::Duration) override { return false; }
    absl::Status Check() const override { return absl::OkStatus(); }
  };
  Stuck stuck;
  FeedBarrier barrier(*kit_.store, stuck, kit_.clock);
  EXPECT_THAT(barrier.CatchUp(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace signet::server
