#include "server/server_svid.h"

#include <gmock/gmock.h>

#include "common/keymanager/memory_key_manager.h"
#include "server/ca/authority_rotator.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

class ServerSvidTest : public ::testing::Test {
 protected:
  ServerSvidTest() {
    kit_.applier.reset();  // the bundle must be there before the index is loaded
    AuthorityRotator::Options options{.server_id = "s",
                                      .policy = {.trust_domain = Own(), .jwt_issuer = {}, .ca_subject = {}}};
    options.policy.ca_subject.organization = "test";
    rotator_ = AuthorityRotator::Create(options, keys_, *kit_.store, *kit_.store, health_, kit_.clock).value();
    ca_ = std::make_unique<CertificateAuthority>(options.policy, keys_, rotator_->authorities(), kit_.clock);
    kit_.applier = FeedApplier::Create(*kit_.store, *kit_.index, kit_.clock).value();
    svid_ = ServerSvid::Create(*ca_, *kit_.index, health_, kit_.clock).value();
  }

  ApiKit kit_;
  MemoryKeyManager keys_;
  telemetry::Health health_;
  std::unique_ptr<AuthorityRotator> rotator_;
  std::unique_ptr<CertificateAuthority> ca_;
  std::unique_ptr<ServerSvid> svid_;
};

TEST_F(ServerSvidTest, IsTheServersIdAndVerifies) {
  const auto svid = svid_->svid().Get();
  EXPECT_EQ(svid->id.string(), "spiffe://example.org/spire/server");
  const auto tls = svid_->tls().Get();
  EXPECT_EQ(tls->chain_pem, svid->ChainPem());
  EXPECT_FALSE(tls->roots_pem.empty());  // Debian's gRPC aborts without
}

TEST_F(ServerSvidTest, RenewsWithAFreshKeyAtHalfLife) {
  const auto first = svid_->svid().Get();
  kit_.clock.Advance(absl::Minutes(29));
  SIGNET_ASSERT_OK(svid_->Step());
  EXPECT_EQ(svid_->svid().Get()->leaf(), first->leaf());
  kit_.clock.Advance(absl::Minutes(2));
  SIGNET_ASSERT_OK(svid_->Step());
  const auto second = svid_->svid().Get();
  EXPECT_NE(second->leaf().serial(), first->leaf().serial());
  EXPECT_FALSE(second->leaf().public_key() == first->leaf().public_key());
  EXPECT_EQ(svid_->tls().Get()->chain_pem, second->ChainPem());
}

TEST_F(ServerSvidTest, TakesUpANewBundle) {
  const auto before = svid_->tls().Get();
  SIGNET_ASSERT_OK(svid_->Step());
  EXPECT_EQ(svid_->tls().Get(), before);  // nothing to do: listeners are not told
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const crypto::Certificate root =
      crypto::SelfSign(AuthorityTemplate(ca_->policy(), kit_.clock.Now()), key.public_key(),
                       [&](crypto::HashAlgorithm hash, absl::string_view m) { return key.Sign(hash, m); })
          .value();
  BundleChange change;
  change.add_x509.push_back({.certificate = root});
  const auto changed = testing::Await<spiffe::Bundle>(
      [&](auto done) { kit_.store->ChangeBundle(Own(), std::move(change), std::move(done)); });
  SIGNET_ASSERT_OK(changed);
  kit_.CatchUp();
  SIGNET_ASSERT_OK(svid_->Step());
  EXPECT_THAT(svid_->tls().Get()->roots_pem, ::testing::HasSubstr(root.Pem()));
  EXPECT_EQ(svid_->tls().Get()->chain_pem, before->chain_pem);
}

}  // namespace
}  // namespace signet::server
