// The FederationStore part of the contract.
#pragma once

#include "tests/server/datastore/contract.h"
#include "tests/testing/test_ca.h"

namespace signet::server {

class FederationContract : public StoreContract {
 protected:
  using Results = std::vector<FederationResult>;

  Results Create(std::vector<FederationRelationship> wanted) {
    return testing::Await<Results>([&](auto done) { store().CreateFederations(std::move(wanted), std::move(done)); })
        .value();
  }
  Results Update(std::vector<FederationRelationship> wanted, FederationFields fields = {}) {
    return testing::Await<Results>(
               [&](auto done) { store().UpdateFederations(std::move(wanted), fields, std::move(done)); })
        .value();
  }
  std::vector<absl::Status> Delete(std::vector<spiffe::TrustDomain> names) {
    return testing::Await<std::vector<absl::Status>>(
               [&](auto done) { store().DeleteFederations(std::move(names), std::move(done)); })
        .value();
  }
  absl::StatusOr<bool> SetFetched(spiffe::Bundle bundle) {
    return testing::Await<bool>([&](auto done) { store().SetFetchedBundle(std::move(bundle), std::move(done)); });
  }
  static FederationRelationship Web(absl::string_view name) {
    return {.trust_domain = TestTrustDomain(name), .bundle_endpoint_url = absl::StrCat("https://", name, "/bundle")};
  }
  spiffe::Bundle Bundle(absl::string_view name, uint64_t sequence = 7) {
    return {.trust_domain = TestTrustDomain(name),
            .x509_authorities = {{testing::SelfSigned(testing::CaTemplate("root", now_)).certificate}},
            .jwt_authorities = {},
            .refresh_hint = absl::Minutes(2),
            .sequence_number = sequence};
  }
};

TEST_P(FederationContract, KeepsARelationshipAndTheBundleGivenWithIt) {
  FederationRelationship wanted = Web("partner.org");
  wanted.endpoint_spiffe_id = spiffe::Id::Parse("spiffe://partner.org/endpoint").value();
  wanted.bundle = Bundle("partner.org");
  const uint64_t before = store().LastSeq().value();
  const Results results = Create({wanted, Web("other.org"), wanted});
  SIGNET_EXPECT_OK(results[0].status);
  EXPECT_EQ(results[0].record, wanted);
  SIGNET_EXPECT_OK(results[1].status);
  EXPECT_THAT(results[2].status, testing::StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(store().GetBundle(wanted.trust_domain).value(), *wanted.bundle);  // its own sequence number
  EXPECT_EQ(store().ReadChanges(before, 0).value().size(), 1u);               // memory hears of the bundle
  Reopen();
  EXPECT_EQ(store().GetFederation(wanted.trust_domain).value(), wanted);
  EXPECT_EQ(store().GetFederation(TestTrustDomain("other.org")).value(), Web("other.org"));
  EXPECT_THAT(store().GetFederation(TestTrustDomain("none.org")), testing::StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(FederationContract, ABundleGivenTakesThePlaceOfTheStoredOne) {
  FederationRelationship wanted = Web("partner.org");
  wanted.bundle = Bundle("partner.org");
  Create({wanted});
  wanted.bundle = Bundle("partner.org", 3);
  EXPECT_EQ(Update({wanted})[0].record, wanted);
  EXPECT_EQ(store().GetBundle(wanted.trust_domain).value(), *wanted.bundle);
  wanted.bundle.reset();  // none given: what is stored stays
  EXPECT_EQ(Update({wanted})[0].record->bundle->sequence_number, 3u);
}

TEST_P(FederationContract, AnUpdateChangesWhatItNames) {
  FederationRelationship stored = Web("partner.org");
  stored.endpoint_spiffe_id = spiffe::Id::Parse("spiffe://partner.org/endpoint").value();
  Create({stored});
  FederationRelationship wanted = Web("partner.org");
  wanted.bundle_endpoint_url = "https://new.partner.org/";
  wanted.bundle = Bundle("partner.org");
  FederationResult result = Update({wanted}, {.bundle_endpoint_profile = false, .bundle = false})[0];
  EXPECT_EQ(result.record->bundle_endpoint_url, wanted.bundle_endpoint_url);
  EXPECT_EQ(result.record->endpoint_spiffe_id, stored.endpoint_spiffe_id);
  EXPECT_EQ(result.record->bundle, std::nullopt);
  result = Update({wanted}, {.bundle_endpoint_url = false, .bundle = false})[0];
  EXPECT_EQ(result.record->endpoint_spiffe_id, std::nullopt);
  EXPECT_THAT(Update({Web("none.org")})[0].status, testing::StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(FederationContract, TheBundleOutlivesTheRelationship) {
  FederationRelationship wanted = Web("partner.org");
  wanted.bundle = Bundle("partner.org");
  Create({wanted});
  const std::vector<absl::Status> deleted = Delete({wanted.trust_domain, wanted.trust_domain});
  SIGNET_EXPECT_OK(deleted[0]);
  EXPECT_THAT(deleted[1], testing::StatusIs(absl::StatusCode::kNotFound));
  SIGNET_EXPECT_OK(store().GetBundle(wanted.trust_domain));
}

TEST_P(FederationContract, ListsByPages) {
  Create({Web("c.org"), Web("a.org"), Web("b.org")});
  Page<FederationRelationship> page = store().ListFederations({.after = "", .limit = 2}).value();
  ASSERT_EQ(page.items.size(), 2u);
  EXPECT_EQ(page.items[0], Web("c.org"));
  page = store().ListFederations({.after = page.next, .limit = 2}).value();
  ASSERT_EQ(page.items.size(), 1u);
  EXPECT_EQ(page.items[0], Web("b.org"));
  EXPECT_EQ(page.next, "");
}

TEST_P(FederationContract, AFetchedBundleIsWrittenWhenItDiffersAndStillWanted) {
  const spiffe::Bundle bundle = Bundle("partner.org");
  EXPECT_THAT(SetFetched(bundle), testing::StatusIs(absl::StatusCode::kNotFound));
  Create({Web("partner.org")});
  EXPECT_THAT(SetFetched(bundle), testing::IsOkAndHolds(true));
  const uint64_t seq = store().LastSeq().value();
  EXPECT_THAT(SetFetched(bundle), testing::IsOkAndHolds(false));
  EXPECT_EQ(store().LastSeq().value(), seq);
  EXPECT_THAT(SetFetched(Bundle("partner.org", 8)), testing::IsOkAndHolds(true));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FederationContract);

}  // namespace signet::server
