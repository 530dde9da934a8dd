#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/convert.h"
#include "spire/api/types/federationrelationship.pb.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::HasSubstr;

wire::FederationRelationship Web() {
  wire::FederationRelationship relationship;
  relationship.set_trust_domain("partner.org");
  relationship.set_bundle_endpoint_url("https://partner.org:8443/bundle");
  relationship.mutable_https_web();
  return relationship;
}

TEST(BundleEndpointUrlTest, IsHttpsWithAHostAndNoUser) {  // FED-4
  for (const char* good :
       {"https://a", "https://a/", "https://a:1/b?c#d", "https://[::1]:8443", "HTTPS://a", "https://[::1]"}) {
    SIGNET_EXPECT_OK(CheckBundleEndpointUrl(good)) << good;
  }
  for (const char* bad :
       {"", "a", "http://a", "https://", "https:///b", "https://:1", "https://u@a", "https://u:p@a/", "https://a:0",
        "https://a:65536", "https://a:x", "https://a b", "https://a\n", "https://a\\b", "https://a:", "file:///etc"}) {
    EXPECT_THAT(CheckBundleEndpointUrl(bad), StatusIs(absl::StatusCode::kInvalidArgument)) << bad;
  }
  EXPECT_FALSE(CheckBundleEndpointUrl("https://" + std::string(2048, 'a')).ok());
}

TEST(FederationFromClientTest, TakesBothProfiles) {
  wire::FederationRelationship in = Web();
  SIGNET_ASSERT_OK_AND_ASSIGN(WantedFederation wanted, FederationFromClient(in, nullptr, Own()));
  EXPECT_EQ(wanted.relationship.endpoint_spiffe_id, std::nullopt);
  in.mutable_https_spiffe()->set_endpoint_spiffe_id("spiffe://host.org/x");
  SIGNET_ASSERT_OK_AND_ASSIGN(wanted, FederationFromClient(in, nullptr, Own()));
  EXPECT_EQ(wanted.relationship.endpoint_spiffe_id->string(), "spiffe://host.org/x");
}

TEST(FederationFromClientTest, RefusesWithTheNameOfTheField) {
  const auto expect = [](const wire::FederationRelationship& in, const char* field) {
    EXPECT_THAT(FederationFromClient(in, nullptr, Own()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  };
  wire::FederationRelationship in = Web();
  in.set_trust_domain("example.org");  // the server's own: its bundle is not to be replaced by a stranger's
  expect(in, "own");
  in.set_trust_domain("Bad");
  expect(in, "trust_domain");
  in = Web();
  in.clear_https_web();
  expect(in, "bundle_endpoint_profile");
  in.mutable_https_spiffe()->set_endpoint_spiffe_id("partner.org");
  expect(in, "endpoint_spiffe_id");
  in = Web();
  in.mutable_trust_domain_bundle()->set_trust_domain("example.org");
  expect(in, "trust_domain_bundle");
  in.mutable_trust_domain_bundle()->set_trust_domain("partner.org");
  in.mutable_trust_domain_bundle()->add_x509_authorities()->set_asn1("no certificate");
  expect(in, "trust_domain_bundle");
}

TEST(FederationFromClientTest, ReadsOnlyWhatTheMaskNames) {
  wire::FederationRelationship in;
  in.set_trust_domain("partner.org");
  in.set_bundle_endpoint_url("nonsense");
  wire::FederationRelationshipMask mask;
  SIGNET_ASSERT_OK_AND_ASSIGN(const WantedFederation wanted, FederationFromClient(in, &mask, Own()));
  EXPECT_FALSE(wanted.fields.bundle_endpoint_url || wanted.fields.bundle_endpoint_profile || wanted.fields.bundle);
  mask.set_bundle_endpoint_url(true);
  EXPECT_THAT(FederationFromClient(in, &mask, Own()), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(FederationToWireTest, GivesWhatTheMaskNames) {
  FederationRelationship relationship = FederationFromClient(Web(), nullptr, Own()).value().relationship;
  relationship.bundle = spiffe::Bundle{.trust_domain = relationship.trust_domain};
  wire::FederationRelationship out;
  FederationToWire(relationship, nullptr, out);
  EXPECT_TRUE(out.has_https_web() && out.has_trust_domain_bundle());
  EXPECT_EQ(out.bundle_endpoint_url(), Web().bundle_endpoint_url());
  out.Clear();
  FederationToWire(relationship, &wire::FederationRelationshipMask::default_instance(), out);
  EXPECT_EQ(out.ByteSizeLong(), out.trust_domain().size() + 2);
}

}  // namespace
}  // namespace signet::server
