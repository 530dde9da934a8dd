#include "server/bundlepublisher/k8s_configmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "tests/fakes/fake_api_client.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kOne[] = "/api/v1/namespaces/signet/configmaps/signet-bundle?fieldManager=signet-server";
constexpr char kAll[] = "/api/v1/namespaces/signet/configmaps?fieldManager=signet-server";

class K8sConfigMapTest : public ::testing::Test {
 protected:
  K8sConfigMapTest() {
    bundle_.x509_authorities.push_back(
        {testing::SelfSigned(testing::CaTemplate("root", absl::FromUnixSeconds(1'800'000'000))).certificate});
    Make({.cluster = "prod"});
  }
  void Make(K8sConfigMap::Options options) {
    auto api = std::make_unique<fakes::FakeApiClient>();
    api_ = api.get();
    auto made = K8sConfigMap::Create(std::move(options), std::move(api));
    ASSERT_THAT(made, testing::IsOk());
    publisher_ = *std::move(made);
  }
  static std::string Value(const std::string& body, const std::string& key) {
    const boost::json::value value = boost::json::parse(body);
    return std::string(value.at("data").at(key).as_string().c_str());
  }

  spiffe::Bundle bundle_{.trust_domain = *spiffe::TrustDomain::Parse("td")};
  fakes::FakeApiClient* api_ = nullptr;
  std::unique_ptr<K8sConfigMap> publisher_;
};

TEST_F(K8sConfigMapTest, PatchesItsKeyAlone) {
  api_->Answer(kOne, "{}");
  SIGNET_EXPECT_OK(publisher_->Publish(bundle_));
  ASSERT_EQ(api_->calls().size(), 1u);
  EXPECT_EQ(api_->calls()[0].method, "PATCH application/merge-patch+json");
  EXPECT_EQ(Value(api_->calls()[0].body, "bundle.crt"), bundle_.ToPem());
  EXPECT_EQ(publisher_->name(), "k8s_configmap prod");
}

TEST_F(K8sConfigMapTest, NamesAndFormatAreTheConfigurations) {
  Make({.cluster = "prod",
        .namespace_name = "spire",
        .config_map = "spire-bundle",
        .key = "bundle.json",
        .format = K8sConfigMap::Format::kSpiffeJson});
  api_->Answer("/api/v1/namespaces/spire/configmaps/spire-bundle?fieldManager=signet-server", "{}");
  SIGNET_EXPECT_OK(publisher_->Publish(bundle_));
  EXPECT_EQ(Value(api_->calls()[0].body, "bundle.json"), bundle_.ToSpiffeJson());
}

TEST_F(K8sConfigMapTest, MakesTheConfigMapThatIsNotThere) {
  api_->Answer(kAll, "{}");
  SIGNET_EXPECT_OK(publisher_->Publish(bundle_));
  ASSERT_EQ(api_->calls().size(), 2u);
  EXPECT_EQ(api_->calls()[1].method, "POST");
  EXPECT_EQ(Value(api_->calls()[1].body, "bundle.crt"), bundle_.ToPem());
  // Another server was quicker: its ConfigMap is patched at the next try.
  api_->Answer(kAll, absl::AlreadyExistsError("409"));
  EXPECT_THAT(publisher_->Publish(bundle_), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(K8sConfigMapTest, SaysWhatToDoWhenItMayNotMakeIt) {
  api_->Answer(kAll, absl::PermissionDeniedError("cannot create resource \"configmaps\""));
  EXPECT_THAT(publisher_->Publish(bundle_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("ConfigMap signet/signet-bundle is not there"), HasSubstr("grant `create`"),
                             HasSubstr("cannot create resource"))));
}

TEST_F(K8sConfigMapTest, PassesOnWhatTheApiServerSays) {
  for (const absl::StatusCode code : {absl::StatusCode::kUnavailable, absl::StatusCode::kPermissionDenied,
                                      absl::StatusCode::kResourceExhausted, absl::StatusCode::kUnauthenticated}) {
    api_->Answer(kOne, absl::Status(code, "told"));
    EXPECT_THAT(publisher_->Publish(bundle_), StatusIs(code, "told"));
  }
}

TEST_F(K8sConfigMapTest, IsCutShort) {
  api_->Hold();
  std::thread publishing([&] { EXPECT_THAT(publisher_->Publish(bundle_), StatusIs(absl::StatusCode::kCancelled)); });
  api_->AwaitWaiting(1);
  publisher_->Cancel();
  publishing.join();
}

TEST_F(K8sConfigMapTest, RefusesNamesThatWouldChangeThePath) {
  const auto refused = [](K8sConfigMap::Options options, const std::string& key) {
    EXPECT_THAT(K8sConfigMap::Create(std::move(options), nullptr),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("bundle_publishers.k8s_configmap.clusters.prod." + key)));
  };
  refused({.cluster = "prod", .namespace_name = "../secrets"}, "namespace");
  refused({.cluster = "prod", .config_map = "a?b"}, "config_map");
  refused({.cluster = "prod", .key = "a/b"}, "config_map_key");
}

}  // namespace
}  // namespace signet::server
