// Fetching a bundle from a real TLS server: who is believed, by which profile.
#include "server/federation/bundle_client.h"

#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/fs/atomic_file.h"
#include "common/net/web_server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::signet::testing::TestCert;
using ::testing::HasSubstr;

spiffe::TrustDomain Name(absl::string_view name) { return spiffe::TrustDomain::Parse(name).value(); }

class BundleClientTest : public ::testing::Test {
 protected:
  // Serves `body` with a leaf of `root` that names `id` and the host.
  void Serve(const TestCert& root, absl::string_view id) {
    auto leaf = testing::LeafTemplate(id, absl::Now());
    leaf.dns_sans = {"localhost"};
    const TestCert issued = testing::IssuedBy(root, leaf);
    auto identity = std::make_shared<const crypto::TlsIdentity>(crypto::TlsIdentity{{issued.certificate}, issued.key});
    server_ = net::WebServer::ListenTls(
                  "127.0.0.1:0", {}, [identity](absl::string_view) { return identity; },
                  [this](net::WebRequest, net::Respond respond) { respond({.body = body_}); })
                  .value();
  }
  std::string Url() const {
    return absl::StrCat(absl::StrReplaceAll(absl::StrCat("https://", server_->address()), {{"127.0.0.1", "localhost"}}),
                        "/bundle");
  }
  static std::shared_ptr<const spiffe::Bundle> BundleOf(absl::string_view name, const TestCert& root) {
    return std::make_shared<const spiffe::Bundle>(spiffe::Bundle{.trust_domain = Name(name),
                                                                 .x509_authorities = {{root.certificate}},
                                                                 .jwt_authorities = {},
                                                                 .refresh_hint = absl::Minutes(2),
                                                                 .sequence_number = 5});
  }
  absl::StatusOr<spiffe::Bundle> Fetch(const FederationRelationship& relationship) {
    const BundleClient client(
        {.web_roots_file = web_roots_, .timeout = absl::Seconds(20)},
        [this](const spiffe::TrustDomain& name) -> BundlePtr {
          return name.name() == "host.org" ? host_bundle_ : nullptr;
        },
        clock_);
    return client.Fetch(relationship);
  }
  FederationRelationship Spiffe(absl::string_view id) {
    return {.trust_domain = Name("partner.org"),
            .bundle_endpoint_url = Url(),
            .endpoint_spiffe_id = spiffe::Id::Parse(id).value()};
  }

  SystemClock clock_;
  testing::TempDir dir_;
  std::string web_roots_ = dir_.file("roots.pem");
  TestCert root_ = testing::SelfSigned(testing::CaTemplate("root", absl::Now()));
  TestCert other_root_ = testing::SelfSigned(testing::CaTemplate("other", absl::Now()));
  BundlePtr host_bundle_;
  std::string body_ = BundleOf("partner.org", root_)->ToSpiffeJson();
  std::unique_ptr<net::WebServer> server_;
};

TEST_F(BundleClientTest, SelfServingIsJudgedByTheBundleGiven) {  // FED-9, FED-11
  Serve(root_, "spiffe://partner.org/spire/server");
  FederationRelationship relationship = Spiffe("spiffe://partner.org/spire/server");
  EXPECT_THAT(Fetch(relationship), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("give one")));
  relationship.bundle = *BundleOf("partner.org", root_);
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Bundle fetched, Fetch(relationship));
  EXPECT_EQ(fetched, *relationship.bundle);
}

TEST_F(BundleClientTest, OfAnotherTrustDomainByThatOnesBundle) {
  Serve(other_root_, "spiffe://host.org/endpoint");
  FederationRelationship relationship = Spiffe("spiffe://host.org/endpoint");
  relationship.bundle = *BundleOf("partner.org", other_root_);  // counts for nothing here
  EXPECT_THAT(Fetch(relationship), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("host.org")));
  host_bundle_ = BundleOf("host.org", root_);
  EXPECT_THAT(Fetch(relationship), StatusIs(absl::StatusCode::kUnavailable));
  host_bundle_ = BundleOf("host.org", other_root_);
  SIGNET_EXPECT_OK(Fetch(relationship));
}

TEST_F(BundleClientTest, RefusesAnotherIdOfTheSameTrustDomain) {  // FED-9
  Serve(root_, "spiffe://partner.org/workload");
  FederationRelationship relationship = Spiffe("spiffe://partner.org/spire/server");
  relationship.bundle = *BundleOf("partner.org", root_);
  EXPECT_THAT(Fetch(relationship),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("spiffe://partner.org/workload")));
}

TEST_F(BundleClientTest, RefusesARightIdOfAnotherRoot) {
  Serve(other_root_, "spiffe://partner.org/spire/server");
  FederationRelationship relationship = Spiffe("spiffe://partner.org/spire/server");
  relationship.bundle = *BundleOf("partner.org", root_);
  EXPECT_THAT(Fetch(relationship), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(BundleClientTest, WebIsJudgedByRootsAndHost) {  // FED-8
  Serve(root_, "spiffe://whoever.org/x");
  const FederationRelationship relationship{.trust_domain = Name("partner.org"), .bundle_endpoint_url = Url()};
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(web_roots_, other_root_.certificate.Pem()));
  EXPECT_THAT(Fetch(relationship), StatusIs(absl::StatusCode::kUnavailable));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(web_roots_, root_.certificate.Pem()));
  SIGNET_EXPECT_OK(Fetch(relationship));
  FederationRelationship by_address = relationship;
  by_address.bundle_endpoint_url = absl::StrReplaceAll(Url(), {{"localhost", "127.0.0.1"}});
  EXPECT_THAT(Fetch(by_address), StatusIs(absl::StatusCode::kUnavailable));  // not its name
}

TEST_F(BundleClientTest, RefusesWhatIsNoBundle) {
  Serve(root_, "spiffe://partner.org/spire/server");
  FederationRelationship relationship = Spiffe("spiffe://partner.org/spire/server");
  relationship.bundle = *BundleOf("partner.org", root_);
  for (const char* body : {"", "{}", "<html>", "{\"keys\":[{}"}) {
    body_ = body;
    EXPECT_FALSE(Fetch(relationship).ok()) << body;
  }
}

}  // namespace
}  // namespace signet::server
