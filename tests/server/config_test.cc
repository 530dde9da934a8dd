#include "server/config.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "common/config/load.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<ServerOptions> Parse(absl::string_view yaml) {
  config::Server config;
  if (absl::Status status = config::LoadYaml(yaml, "server.yaml", config); !status.ok()) return status;
  return OptionsFromConfig(config);
}

TEST(ServerConfigTest, TrustDomainAloneIsEnough) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions options, Parse("trust_domain: example.org"));
  EXPECT_EQ(options.data_dir, "/var/lib/signet/server");
  EXPECT_EQ(options.listen, "0.0.0.0:8081");
  EXPECT_EQ(options.admin_socket, "/run/signet/server/admin.sock");
  EXPECT_EQ(options.http_listen, "127.0.0.1:8080");
  EXPECT_EQ(options.policy.x509_ttl, absl::Hours(1));
  EXPECT_EQ(options.policy.jwt_ttl, absl::Minutes(5));
  EXPECT_EQ(options.policy.agent_ttl, absl::Hours(1));
  EXPECT_EQ(options.policy.ca_ttl, absl::Hours(24));
  EXPECT_EQ(options.datastore.sqlite().path(), "/var/lib/signet/server/server.db");
  EXPECT_EQ(options.key_manager.disk().path(), "/var/lib/signet/server/keys");
  EXPECT_TRUE(options.node_attestors.has_join_token());
  EXPECT_TRUE(options.warnings.empty());
}

TEST(ServerConfigTest, SaysEverythingThatIsWrongAtOnce) {
  const absl::Status status = Parse(R"(
data_dir: relative
listen: localhost:8081
http: {listen: "127.0.0.1:99999"}
log: {level: loud, format: xml}
ca: {ttl: 5s, key_type: dsa}
svid: {x509_ttl: never}
admin_ids: [example.org/admin, "spiffe://example.org"]
node_attestors: {x509_pop: {}}
)")
                                  .status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("trust_domain"), HasSubstr("data_dir"), HasSubstr("listen"),
                                     HasSubstr("http.listen"), HasSubstr("log.level"), HasSubstr("log.format"),
                                     HasSubstr("ca.ttl"), HasSubstr("ca.key_type"), HasSubstr("svid.x509_ttl"))));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("admin_ids[0]"), HasSubstr("admin_ids[1]"), HasSubstr("ca_bundle_paths")));
}

TEST(ServerConfigTest, TheTokenServiceIsOffUnlessItIsNamed) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions off, Parse("trust_domain: example.org"));
  EXPECT_FALSE(off.token_service.has_value());
  EXPECT_EQ(off.policy.token_issuer, "");
  EXPECT_EQ(off.policy.jwt_issuer, "");
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions on,
                              Parse("{trust_domain: example.org, token_service: {issuer: 'https://id.example.org'}}"));
  ASSERT_TRUE(on.token_service.has_value());
  EXPECT_EQ(on.token_service->listen, "0.0.0.0:8444");
  EXPECT_EQ(on.token_service->dns_name, "id.example.org");
  EXPECT_EQ(on.token_service->key_type, crypto::KeyType::kEcP256);
  EXPECT_EQ(on.token_service->head_every, absl::Seconds(10));
  EXPECT_EQ(on.token_service->offline_grace, absl::ZeroDuration());
  EXPECT_EQ(on.policy.token_issuer, "https://id.example.org");
  EXPECT_EQ(on.policy.jwt_issuer, "https://id.example.org/spiffe");
  EXPECT_TRUE(on.warnings.empty());
}

TEST(ServerConfigTest, TheTokenServiceIsCheckedInWhole) {
  const auto error = [](absl::string_view service, absl::string_view more = "") {
    return std::string(Parse(absl::StrCat("{trust_domain: example.org, ", more, " token_service: {", service, "}}"))
                           .status()
                           .message());
  };
  EXPECT_THAT(error(""), HasSubstr("token_service.issuer: is required"));
  for (const char* issuer : {"http://id.example.org", "id.example.org", "https://", "https://id.example.org/",
                             "https://ID.example.org", "https://id.example.org:443", "https://id.example.org/?x",
                             "https://id.example.org/#x", "https://u@id.example.org"}) {
    EXPECT_THAT(error(absl::StrCat("issuer: '", issuer, "'")), HasSubstr("token_service.issuer")) << issuer;
  }
  const std::string good = "issuer: 'https://id.example.org', ";
  EXPECT_EQ(error(good), "");
  EXPECT_EQ(error("issuer: 'https://id.example.org:8444/agents'"), "");
  // T5: kinds of JWT never share an issuer.
  EXPECT_THAT(error(good, "jwt_issuer: 'https://id.example.org',"), HasSubstr("must differ from jwt_issuer"));
  EXPECT_THAT(error(good + "listen: 'host:1'"), HasSubstr("token_service.listen"));
  EXPECT_THAT(error(good + "key_type: ec-p384"), HasSubstr("token_service.key_type"));
  EXPECT_THAT(error(good + "certificate: {certificate_path: a}"), HasSubstr("belong together"));
  EXPECT_THAT(error(good + "certificate: {certificate_path: a, private_key_path: b, dns_name: c}"),
              HasSubstr("dns_name"));
  EXPECT_THAT(error(good + "certificate: {dns_name: 'no name'}"), HasSubstr("dns_name"));
  EXPECT_THAT(error(good + "offline_grace: 31s"), HasSubstr("offline_grace"));
  EXPECT_THAT(error(good + "audit: {head_every: 11s}"), HasSubstr("head_every"));
  EXPECT_THAT(error(good + "clients: [{client_id: a}]"), HasSubstr("clients[0]"));
  EXPECT_THAT(error(good + "clients: [{client_id: a, jwks_path: b}, {client_id: a, jwks_path: c}]"),
              HasSubstr("clients[1]"));
}

TEST(ServerConfigTest, AnIssuerAtAnAddressGetsAWarning) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions options,
                              Parse("{trust_domain: example.org, token_service: {issuer: 'https://127.0.0.1:8444'}}"));
  EXPECT_EQ(options.token_service->dns_name, "");
  EXPECT_THAT(options.warnings, ::testing::ElementsAre(HasSubstr("token_service.issuer")));
}

TEST(ServerConfigTest, RelativePathsAreUnderDataDir) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions options, Parse(R"(
trust_domain: example.org
data_dir: /srv/signet
admin_socket: admin.sock
datastore: {sqlite: {path: db/x.db}}
key_manager: {disk: {path: /secret/keys}}
node_attestors: {x509_pop: {ca_bundle_paths: [roots.pem]}}
)"));
  EXPECT_EQ(options.admin_socket, "/srv/signet/admin.sock");
  EXPECT_EQ(options.datastore.sqlite().path(), "/srv/signet/db/x.db");
  EXPECT_EQ(options.key_manager.disk().path(), "/secret/keys");
  EXPECT_EQ(options.node_attestors.x509_pop().ca_bundle_paths(0), "/srv/signet/roots.pem");
  EXPECT_FALSE(options.node_attestors.has_join_token());
}

TEST(ServerConfigTest, ClustersNameTheirAgentsAndHowTheyAreReached) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions options, Parse(R"(
trust_domain: example.org
data_dir: /srv/signet
node_attestors: {k8s_psat: {clusters: {prod: {service_account_allow_list: ["signet:agent"], kube_config_file: prod.conf}}}}
bundle_publishers: {k8s_configmap: {clusters: {prod: {kube_config_file: prod.conf}, own: {}}}}
)"));
  EXPECT_EQ(options.node_attestors.k8s_psat().clusters().at("prod").kube_config_file(), "/srv/signet/prod.conf");
  EXPECT_FALSE(options.node_attestors.has_join_token());
  const auto& publishers = options.bundle_publishers.k8s_configmap().clusters();
  EXPECT_EQ(publishers.at("prod").kube_config_file(), "/srv/signet/prod.conf");
  EXPECT_EQ(publishers.at("own").kube_config_file(), "") << "in-cluster";

  const absl::Status status = Parse(R"(
trust_domain: example.org
node_attestors: {k8s_psat: {clusters: {prod: {}}}}
bundle_publishers: {k8s_configmap: {}}
)")
                                  .status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("node_attestors.k8s_psat.clusters.prod.service_account_allow_list"),
                                     HasSubstr("bundle_publishers.k8s_configmap.clusters"))));
}

TEST(ServerConfigTest, WarnsOfLivesThatTheAuthorityCannotGive) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ServerOptions options,
                              Parse("trust_domain: example.org\nca: {ttl: 24h}\nsvid: {x509_ttl: 8h}"));
  ASSERT_FALSE(options.warnings.empty());
  EXPECT_THAT(options.warnings[0], AllOf(HasSubstr("svid.x509_ttl"), HasSubstr("4h")));
}

TEST(ServerConfigTest, TooLongSocketPathIsRefused) {
  const std::string path = absl::StrCat("/", std::string(107, 'a'));
  EXPECT_THAT(Parse(absl::StrCat("trust_domain: example.org\nadmin_socket: ", path)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("admin_socket")));
}

TEST(ServerConfigTest, EmptyListOfAttestorsIsRefused) {
  EXPECT_THAT(Parse("trust_domain: example.org\nnode_attestors: {}"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("node_attestors")));
}

}  // namespace
}  // namespace signet::server
