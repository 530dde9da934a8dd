#include "agent/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/config/load.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::StatusIs;

absl::StatusOr<AgentOptions> Parse(absl::string_view yaml) {
  config::Agent config;
  if (absl::Status status = config::LoadYaml(yaml, "agent.yaml", config); !status.ok()) return status;
  return OptionsFromConfig(config);
}

TEST(AgentConfigTest, TrustDomainAndServerAreEnough) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const AgentOptions options,
                              Parse("trust_domain: example.org\nserver_address: s.example.org:8081"));
  EXPECT_EQ(options.data_dir, "/var/lib/signet/agent");
  EXPECT_EQ(options.workload_socket, "/run/signet/workload/api.sock");
  EXPECT_EQ(options.admin_socket, "/run/signet/agent/admin.sock");
  EXPECT_EQ(options.http_listen, "127.0.0.1:8082");
  EXPECT_THAT(options.server_addresses, ElementsAre("s.example.org:8081"));
  EXPECT_TRUE(options.keep_key);
  EXPECT_TRUE(options.sealed_cache);
  EXPECT_EQ(options.connections_per_uid, 4096u);
  EXPECT_EQ(options.pending_attestations_per_uid, 64u);
  EXPECT_THAT(options.warnings, IsEmpty());
}

TEST(AgentConfigTest, APodsTokenIsWhereTheChartMountsIt) {
  const std::string base = "trust_domain: example.org\nserver_address: s.example.org:8081\n";
  SIGNET_ASSERT_OK_AND_ASSIGN(const AgentOptions options, Parse(base + "node_attestor: {k8s_psat: {cluster: prod}}"));
  EXPECT_EQ(options.node_attestor.k8s_psat().token_path(), "/var/run/secrets/tokens/signet-agent");
  EXPECT_THAT(Parse(base + "node_attestor: {k8s_psat: {}}"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("node_attestor.k8s_psat.cluster")));
}

TEST(AgentConfigTest, SaysEverythingThatIsWrongAtOnce) {
  const absl::Status status = Parse(R"(
data_dir: relative
server_address: [nowhere, "host:0"]
http: {listen: "localhost:8082"}
log: {level: loud, format: xml}
bootstrap: {trust_bundle_path: a, trust_bundle_url: "http://x"}
node_attestor: {join_token: {}}
)")
                                  .status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("trust_domain"), HasSubstr("data_dir"), HasSubstr("\"nowhere\""),
                                     HasSubstr("host:0"), HasSubstr("http.listen"), HasSubstr("log.level"),
                                     HasSubstr("log.format"))));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("not several"), HasSubstr("https://"), HasSubstr("token_file"))));
}

TEST(AgentConfigTest, NoServerIsAnError) {
  EXPECT_THAT(Parse("trust_domain: example.org"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("server_address")));
}

TEST(AgentConfigTest, RelativePathsAreUnderDataDir) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const AgentOptions options, Parse(R"(
trust_domain: example.org
data_dir: /var/lib/a
server_address: s:1
workload_socket: w.sock
bootstrap: {trust_bundle_path: bundle.pem}
node_attestor: {join_token: {token_file: token}}
)"));
  EXPECT_EQ(options.workload_socket, "/var/lib/a/w.sock");
  EXPECT_EQ(options.trust_source.path, "/var/lib/a/bundle.pem");
  EXPECT_EQ(options.node_attestor.join_token().token_file(), "/var/lib/a/token");
}

TEST(AgentConfigTest, SocketPathThatIsTooLongIsRefused) {
  EXPECT_THAT(Parse("trust_domain: example.org\nserver_address: s:1\nworkload_socket: /" + std::string(120, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("107")));
}

TEST(AgentConfigTest, WarnsOfWhatIsProbablyNotMeant) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const AgentOptions options, Parse(R"(
trust_domain: example.org
server_address: s:1
bootstrap: {insecure: true}
node_attestor: {join_token: {token: t}}
key_manager: {memory: {}}
)"));
  EXPECT_THAT(options.warnings, SizeIs(3));
}

constexpr char kBase[] = "trust_domain: example.org\nserver_address: s.example.org:8081\n";

TEST(AgentConfigTest, TheTokenFrontIsOffUntilItIsNamed) {
  EXPECT_FALSE(Parse(kBase)->token_front.has_value());
  SIGNET_ASSERT_OK_AND_ASSIGN(const AgentOptions options, Parse(absl::StrCat(kBase, "token_service: {}")));
  ASSERT_TRUE(options.token_front.has_value());
  EXPECT_EQ(options.token_front->socket, "/run/signet/workload/token.sock");
  EXPECT_EQ(options.token_front->server_id.string(), "spiffe://example.org/spire/server");
  EXPECT_EQ(options.token_front->server_url, "");
  EXPECT_EQ(options.token_front->offline_grace, absl::Seconds(30));  // at most: the server says how long (T4)
}

TEST(AgentConfigTest, T4T6TheTokenFrontIsBounded) {
  for (const char* front :
       {"{offline_grace: 31s}", "{server_url: 'http://id.example.org'}", "{server_spiffe_id: 'spiffe://other.org/x'}",
        "{server_spiffe_id: nonsense}", "{socket: /run/signet/workload/api.sock}"}) {
    EXPECT_THAT(Parse(absl::StrCat(kBase, "token_service: ", front)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_service")))
        << front;
  }
}

}  // namespace
}  // namespace signet::agent
