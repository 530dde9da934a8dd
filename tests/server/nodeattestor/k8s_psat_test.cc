#include "server/nodeattestor/k8s_psat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/nodeattestor/k8s_psat.h"
#include "tests/fakes/fake_api_client.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using fakes::FakeApiClient;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

constexpr char kReviews[] = "/apis/authentication.k8s.io/v1/tokenreviews";
constexpr char kPodPath[] = "/api/v1/namespaces/signet/pods/agent-x";
constexpr char kNodePath[] = "/api/v1/nodes/node1";

// As an API server 1.34 answers.
constexpr char kReview[] = R"({"kind":"TokenReview","spec":{"token":"t0ken"},"status":{"authenticated":true,
  "audiences":["spire-server"],"user":{"username":"system:serviceaccount:signet:signet-agent","uid":"a","extra":{
  "authentication.kubernetes.io/node-name":["node1"],"authentication.kubernetes.io/node-uid":["node-uid"],
  "authentication.kubernetes.io/pod-name":["agent-x"],"authentication.kubernetes.io/pod-uid":["pod-uid"]}}}})";
constexpr char kPod[] = R"({"kind":"Pod","metadata":{"namespace":"signet","name":"agent-x","uid":"pod-uid",
  "labels":{"app":"agent","tier":"infra"}},"spec":{"nodeName":"node1","serviceAccountName":"signet-agent"},
  "status":{"phase":"Running","hostIP":"10.0.0.7"}})";
constexpr char kNode[] = R"({"kind":"Node","metadata":{"name":"node1","uid":"node-uid",
  "labels":{"zone":"a","secret":"no"}}})";

class K8sPsatTest : public ::testing::Test {
 protected:
  K8sPsatTest() {
    Add("prod");
    Make();
  }
  FakeApiClient& Add(const std::string& name) {
    auto api = std::make_unique<FakeApiClient>();
    apis_[name] = api.get();
    api->Answer(kReviews, kReview);
    api->Answer(kPodPath, kPod);
    api->Answer(kNodePath, kNode);
    K8sPsat::Cluster cluster;
    cluster.name = name;
    cluster.api = std::move(api);
    cluster.service_account_allow_list = {"signet:signet-agent"};
    cluster.allowed_node_label_keys = {"zone"};
    cluster.allowed_pod_label_keys = {"app"};
    options_.clusters.push_back(std::move(cluster));
    return *apis_[name];
  }
  void Make() {
    auto made = K8sPsat::Create(std::exchange(options_, {.trust_domain = *spiffe::TrustDomain::Parse("td")}), remote_,
                                health_, clock_);
    ASSERT_THAT(made, testing::IsOk());
    attestor_ = *std::move(made);
  }
  FakeApiClient& api() { return *apis_["prod"]; }

  static std::string Payload(const std::string& cluster = "prod") { return k8spsat::Encode({cluster, "t0ken"}); }
  absl::StatusOr<NodeAttestation::Step> Attest(const std::string& payload = Payload()) {
    std::promise<absl::StatusOr<NodeAttestation::Step>> result;
    const auto attestation = attestor_->Begin();
    attestation->Start(payload, [&](absl::StatusOr<NodeAttestation::Step> step) { result.set_value(std::move(step)); });
    return result.get_future().get();
  }
  // What is refused when the answer of `path` has `from` replaced by `to`.
  absl::Status With(const std::string& path, const std::string& answer, const std::string& from,
                    const std::string& to) {
    const std::string changed = absl::StrReplaceAll(answer, {{from, to}});
    EXPECT_NE(changed, answer);
    api().Answer(path, changed);
    const absl::Status status = Attest().status();
    api().Answer(path, answer);
    EXPECT_THAT(status.message(), Not(HasSubstr("t0ken")));  // N13
    return status;
  }

  fakes::FakeClock clock_;
  telemetry::Health health_;
  Executor remote_{{.name = "remote", .threads = 6}};
  std::map<std::string, FakeApiClient*> apis_;
  K8sPsat::Options options_{.trust_domain = *spiffe::TrustDomain::Parse("td")};
  std::unique_ptr<K8sPsat> attestor_;
};

TEST_F(K8sPsatTest, NamesTheNodeThatTheApiServerNames) {
  EXPECT_EQ(attestor_->type(), "k8s_psat");
  SIGNET_ASSERT_OK_AND_ASSIGN(const NodeAttestation::Step step, Attest());
  ASSERT_TRUE(step.node.has_value());
  EXPECT_EQ(step.node->agent_id.string(), "spiffe://td/spire/agent/k8s_psat/prod/node-uid");
  EXPECT_TRUE(step.node->can_reattest);
  std::vector<std::string> selectors;
  for (const spiffe::Selector& selector : step.node->selectors) selectors.push_back(selector.ToString());
  EXPECT_THAT(selectors, ElementsAre("k8s_psat:agent_node_ip:10.0.0.7", "k8s_psat:agent_node_label:zone:a",
                                     "k8s_psat:agent_node_name:node1", "k8s_psat:agent_node_uid:node-uid",
                                     "k8s_psat:agent_ns:signet", "k8s_psat:agent_pod_label:app:agent",
                                     "k8s_psat:agent_pod_name:agent-x", "k8s_psat:agent_pod_uid:pod-uid",
                                     "k8s_psat:agent_sa:signet-agent", "k8s_psat:cluster:prod"));
  ASSERT_EQ(api().calls().size(), 3u);
  EXPECT_THAT(api().calls()[0].body, AllOf(HasSubstr(R"("audiences":["spire-server"])"), HasSubstr("t0ken")));
}

TEST_F(K8sPsatTest, TheIdMayBeThePods) {
  FakeApiClient& api = Add("pods");
  options_.clusters.back().use_pod_uid_for_agent_id = true;
  Make();
  SIGNET_ASSERT_OK_AND_ASSIGN(const NodeAttestation::Step step, Attest(Payload("pods")));
  EXPECT_EQ(step.node->agent_id.string(), "spiffe://td/spire/agent/k8s_psat/pods/pod/pod-uid");
  EXPECT_EQ(api.calls().size(), 3u);
}

TEST_F(K8sPsatTest, AClusterVouchesForItselfAlone) {
  FakeApiClient& other = Add("other");
  Make();
  other.Answer(kReviews, R"({"kind":"TokenReview","status":{"error":"invalid bearer token"}})");
  EXPECT_THAT(Attest(Payload("other")),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("invalid bearer token")));
  EXPECT_THAT(Attest(Payload("third")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"third\" is not in node_attestors.k8s_psat")));
}

TEST_F(K8sPsatTest, RefusesATokenThatDoesNotHold) {
  const std::tuple<std::string, std::string, std::string> cases[] = {
      {R"("authenticated":true)", R"("authenticated":false,"error":"token has expired")", "token has expired"},
      {R"("spire-server")", R"("kubernetes")", "not for an audience of ours"},
      {"signet:signet-agent", "signet:default", "\"signet:default\" is not in service_account_allow_list"},
      {"signet:signet-agent", "evil:signet-agent", "\"evil:signet-agent\" is not in service_account_allow_list"},
      {"kubernetes.io/pod-uid", "kubernetes.io/credential-id", "not bound to a pod"},
  };
  for (const auto& [from, to, told] : cases) {
    EXPECT_THAT(With(kReviews, kReview, from, to), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(told)));
  }
}

TEST_F(K8sPsatTest, RefusesAPodThatIsNotTheTokens) {
  const std::tuple<std::string, std::string, std::string> cases[] = {
      {"\"pod-uid\"", "\"another\"", "another pod than the token is bound to"},
      {"\"namespace\":\"signet\"", "\"namespace\":\"evil\"", "another pod than"},
      {"\"signet-agent\"", "\"default\"", "does not run as"},
      {"Running", "Succeeded", "has ended"},
      {"Running", "Failed", "has ended"},
      {"\"nodeName\":\"node1\",", "", "runs on no node"},
      {"node1", "node2", "bound to node node1"},
  };
  for (const auto& [from, to, told] : cases) {
    EXPECT_THAT(With(kPodPath, kPod, from, to), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(told)));
  }
  api().Answer(kPodPath, absl::NotFoundError("404"));
  EXPECT_THAT(Attest(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("pod signet/agent-x is gone")));
}

TEST_F(K8sPsatTest, RefusesANodeThatIsNotTheTokens) {
  EXPECT_THAT(With(kNodePath, kNode, "node-uid", "made-anew"),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("another node than")));
  EXPECT_THAT(With(kNodePath, kNode, "\"node1\"", "\"node2\""),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("another node than")));
  api().Answer(kNodePath, absl::NotFoundError("404"));
  EXPECT_THAT(Attest(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("node node1 is gone")));
}

TEST_F(K8sPsatTest, AnApiServerThatDoesNotNameTheNodeIsAskedForThePods) {  // before Kubernetes 1.30
  const std::string old =
      absl::StrReplaceAll(kReview, {{R"("authentication.kubernetes.io/node-name":["node1"],)", ""},
                                    {R"("authentication.kubernetes.io/node-uid":["node-uid"],)", ""}});
  api().Answer(kReviews, old);
  SIGNET_ASSERT_OK_AND_ASSIGN(const NodeAttestation::Step step, Attest());
  EXPECT_EQ(step.node->agent_id.string(), "spiffe://td/spire/agent/k8s_psat/prod/node-uid");
}

TEST_F(K8sPsatTest, AnApiServerThatFailsIsNoVerdict) {  // F15
  const std::string names[] = {kReviews, kPodPath, kNodePath};
  for (const std::string& path : names) {
    for (const absl::Status& failure :
         {absl::UnavailableError("down"), absl::PermissionDeniedError("status 403, cannot do that"),
          absl::UnauthenticatedError("status 401"), absl::FailedPreconditionError("answer larger than"),
          absl::ResourceExhaustedError("status 429")}) {
      FakeApiClient& fresh = Add("prod");
      Make();
      fresh.Answer(path, failure);
      const absl::Status told = Attest().status();
      EXPECT_THAT(told, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cannot be asked now")));
      // A peer that has proven nothing yet does not learn what we may do; the operator does.
      EXPECT_THAT(told.message(), Not(HasSubstr(std::string(failure.message()))));
      EXPECT_THAT(health_.Json(), HasSubstr(std::string(failure.message())));
      fresh.Answer(path, path == kReviews ? kReview : path == kPodPath ? kPod : kNode);
      SIGNET_EXPECT_OK(Attest());
      EXPECT_THAT(health_.Json(), Not(HasSubstr(std::string(failure.message())))) << "it works again";
    }
  }
  api().Answer(kReviews, "<html>");
  EXPECT_THAT(Attest(), StatusIs(absl::StatusCode::kUnavailable));
  // What is between here and the API server may answer with the request (N13).
  api().Answer(kReviews, absl::UnavailableError("status 502, cannot pass on {\"token\":\"t0ken\"}"));
  EXPECT_THAT(Attest(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(health_.Json(), AllOf(HasSubstr("repeats the token"), Not(HasSubstr("t0ken"))));
}

TEST_F(K8sPsatTest, RefusesMalformedEvidenceWithoutAskingAnybody) {
  const std::string huge(k8spsat::kMaxTokenBytes + 1, 'x');
  for (const std::string& payload :
       {std::string("{}"), std::string("[]"), std::string("t0ken"), std::string(R"({"cluster":"prod"})"),
        std::string(R"({"cluster":"prod","token":""})"), std::string(R"({"cluster":"","token":"t0ken"})"),
        std::string(R"({"cluster":"prod","token":"t0ken\r\nX: 1"})"), std::string(R"({"cluster":1,"token":"t0ken"})"),
        k8spsat::Encode({"prod", huge}), std::string(40'000, ' ')}) {
    EXPECT_THAT(Attest(payload),
                StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("k8s_psat"), Not(HasSubstr("t0ken")))));
  }
  EXPECT_TRUE(api().calls().empty());
}

// A slow API server must not starve the others: each cluster has its few turns and its own queue.
TEST_F(K8sPsatTest, ASlowClusterKeepsNoOtherWaiting) {
  FakeApiClient& slow = Add("slow");
  Add("prod");
  options_.running_per_cluster = 2;
  options_.waiting_per_cluster = 3;
  Make();
  slow.Hold();
  std::vector<std::unique_ptr<NodeAttestation>> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(attestor_->Begin());
    waiting.back()->Start(Payload("slow"), [](const absl::StatusOr<NodeAttestation::Step>&) {});
    if (i < 2) slow.AwaitWaiting(static_cast<size_t>(i) + 1);
  }
  EXPECT_THAT(Attest(Payload("slow")), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(slow.calls().size(), 2u);
  SIGNET_EXPECT_OK(Attest(Payload("prod")));
  waiting.clear();  // ends the calls
  slow.Release();
  SIGNET_EXPECT_OK(Attest(Payload("slow")));
}

TEST_F(K8sPsatTest, DestroyingTheAttestationEndsItsCallAndDropsTheVerdict) {
  api().Hold();
  bool called = false;
  auto attestation = attestor_->Begin();
  attestation->Start(Payload(), [&](const absl::StatusOr<NodeAttestation::Step>&) { called = true; });
  api().AwaitWaiting(1);
  attestation.reset();
  api().AwaitWaiting(0);  // though nothing was released
  api().Release();
  SIGNET_EXPECT_OK(Attest());
  EXPECT_FALSE(called);
}

TEST_F(K8sPsatTest, AVerdictMayDestroyItsAttestationAndTheAttestor) {  // as a reload and an ending stream do
  std::promise<void> gone;
  auto attestation = attestor_->Begin();
  NodeAttestation* const raw = attestation.get();
  api().Hold();
  raw->Start(Payload(), [&, owned = std::move(attestation)](const absl::StatusOr<NodeAttestation::Step>&) mutable {
    owned.reset();
    attestor_.reset();
    gone.set_value();
  });
  api().Release();
  gone.get_future().wait();
}

TEST_F(K8sPsatTest, ADeadlineHoldsForAllOfIt) {
  api().Hold();
  std::promise<absl::Status> result;
  auto attestation = attestor_->Begin();
  attestation->Start(Payload(),
                     [&](const absl::StatusOr<NodeAttestation::Step>& step) { result.set_value(step.status()); });
  api().AwaitWaiting(1);
  EXPECT_EQ(api().calls()[0].timeout, absl::Seconds(15));
  clock_.Advance(absl::Seconds(16));
  api().Release();
  EXPECT_THAT(result.get_future().get(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(api().calls().size(), 1u) << "no time was left for the pod";
}

TEST_F(K8sPsatTest, HasNoChallenge) {
  absl::Status status;
  attestor_->Begin()->Respond("x", [&](absl::StatusOr<NodeAttestation::Step> step) { status = step.status(); });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(K8sPsatTest, ErrorsOfTheConfigurationNameTheKey) {
  const auto refused = [&](const std::string& told) {
    const auto made = K8sPsat::Create(std::move(options_), remote_, health_, clock_);
    EXPECT_THAT(made, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(told)));
    options_ = {.trust_domain = *spiffe::TrustDomain::Parse("td")};
  };
  options_ = {.trust_domain = *spiffe::TrustDomain::Parse("td")};
  refused("node_attestors.k8s_psat.clusters");
  Add("a/b");
  refused("cannot stand in a SPIFFE ID");
  Add("a");
  options_.clusters[0].service_account_allow_list.clear();
  refused("clusters.a.service_account_allow_list");
  for (const char* account : {"agent", "ns:", ":a", "a:b:c", "*:*", "ns:A"}) {
    Add("a");
    options_.clusters[0].service_account_allow_list = {account};
    refused("is not NAMESPACE:NAME");
  }
  Add("a");
  options_.clusters[0].audiences = {""};
  refused("clusters.a.audience");
}

}  // namespace
}  // namespace signet::server
