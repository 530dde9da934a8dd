// The verbs that talk to the server, against a real one in this process.
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/crypto/certificate.h"
#include "common/fs/atomic_file.h"
#include "common/rpc/tls_setup.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/jwt_svid.h"
#include "server/server.h"
#include "spire/api/server/agent/v1/agent.pb.h"
#include "spire/api/server/entry/v1/entry.pb.h"
#include "spire/api/types/bundle.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/cli/cli_kit.h"
#include "tools/cli/identity_dir.h"

namespace signet::cli {
namespace {

using ::spire::api::server::entry::v1::BatchCreateEntryResponse;
using ::spire::api::server::entry::v1::ListEntriesResponse;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kParent[] = "spiffe://example.org/spire/agent/join_token/t";

class ServerVerbsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { rpc::PrepareProcess(); }

  void SetUp() override {
    config::Server config;
    config.set_trust_domain("example.org");
    config.set_data_dir(dir_.file("data"));
    config.set_listen("127.0.0.1:0");
    config.set_admin_socket(dir_.file("admin/admin.sock"));
    config.mutable_http()->set_listen("off");
    config.add_admin_ids("spiffe://example.org/admin");
    SIGNET_ASSERT_OK_AND_ASSIGN(server::ServerOptions options, server::OptionsFromConfig(config));
    SIGNET_ASSERT_OK_AND_ASSIGN(server_, server::Server::Create(std::move(options)));
  }

  Result Cli(const std::string& words, const std::string& input = "", bool terminal = false) {
    std::vector<std::string> arguments = absl::StrSplit(words, ' ');
    arguments.insert(arguments.end(), {"--socket", server_->addresses().admin});
    return RunCli(std::move(arguments), input, terminal);
  }
  template <typename Message>
  Message Json(const std::string& words, const std::string& input = "") {
    const Result result = Cli(words + " --output json", input);
    EXPECT_EQ(result.code, 0) << result.err;
    Message message;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(result.out, &message).ok()) << result.out;
    return message;
  }
  std::string Create(const std::string& path, const std::string& more = "") {
    return Json<BatchCreateEntryResponse>(absl::StrCat("entry create --parent-id ", kParent,
                                                       " --spiffe-id spiffe://example.org", path,
                                                       " --selector unix:uid:1", more))
        .results(0)
        .entry()
        .id();
  }

  testing::TempDir dir_;
  std::unique_ptr<server::Server> server_;
};

TEST_F(ServerVerbsTest, CreatesShowsChangesAndDeletesAnEntry) {
  const Result created =
      Cli(absl::StrCat("entry create --parent-id ", kParent,
                       " --spiffe-id spiffe://example.org/web --selector unix:uid:1 "
                       "--selector unix:gid:2 --x509-ttl 30m --dns web.example.org --hint main --admin --id web"));
  EXPECT_EQ(created.code, 0) << created.err;
  EXPECT_THAT(created.out,
              AllOf(HasSubstr("spiffe id  spiffe://example.org/web\n"), HasSubstr("selector   unix:uid:1\n"),
                    HasSubstr("x509 ttl   30m\n"), HasSubstr("flags      admin\n")));
  // As JSON: the text tells how many seconds ago it was made.
  EXPECT_EQ(Cli("entry show web --output json").out, Cli("entry show --id web --output json").out);

  const Result updated = Cli("entry update web --x509-ttl 0 --no-admin");
  EXPECT_EQ(updated.code, 0) << updated.err;
  EXPECT_THAT(updated.out, AllOf(HasSubstr("x509 ttl   default\n"), Not(HasSubstr("admin")),
                                 HasSubstr("hint       main\n"), HasSubstr("revision   1\n")));

  EXPECT_EQ(Cli("entry delete web").out, "deleted web\n");
  const Result gone = Cli("entry show web");
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.err, HasSubstr("web"));
  EXPECT_THAT(gone.err, HasSubstr("next: signet entry list"));
}

TEST_F(ServerVerbsTest, TellsWhichOfManyFailed) {
  const std::string id = Create("/a");
  const Result result = Cli(absl::StrCat("entry delete ", id, " nope"));
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, absl::StrCat("deleted ", id, "\n"));
  EXPECT_THAT(result.err, HasSubstr("entry nope"));
}

TEST_F(ServerVerbsTest, FiltersAndCounts) {
  Create("/a");
  Create("/b", " --selector unix:gid:5 --hint x");
  EXPECT_EQ(Cli("entry count").out, "2\n");
  EXPECT_EQ(Cli("entry count --spiffe-id spiffe://example.org/a").out, "1\n");
  EXPECT_EQ(Cli("entry count --selector unix:gid:5").out, "1\n");
  EXPECT_EQ(Cli("entry count --selector unix:uid:1 --match exact").out, "1\n");
  EXPECT_EQ(Cli("entry count --hint x").out, "1\n");
  EXPECT_THAT(Cli("entry list --hint x").out, AllOf(HasSubstr("/b"), Not(HasSubstr("example.org/a"))));
  EXPECT_EQ(Cli("entry list --hint nobody").out, "no entries\n");
}

TEST_F(ServerVerbsTest, ManyEntriesComeInBatchesAndPages) {
  std::string file;
  for (int i = 0; i < 1200; ++i) {
    absl::StrAppend(&file, "- {spiffe_id: spiffe://example.org/w/", i, ", parent_id: ", kParent,
                    ", selectors: unix:uid:", i, "}\n");
  }
  const Result created = Cli("entry create --file -", file, /*terminal=*/true);
  EXPECT_EQ(created.code, 0) << created.err;
  EXPECT_EQ(created.out, "created 1200 entries\n");
  EXPECT_THAT(created.err, HasSubstr("created 1000 of 1200"));
  const ListEntriesResponse all = Json<ListEntriesResponse>("entry list");
  EXPECT_EQ(all.entries_size(), 1200);
  EXPECT_EQ(all.next_page_token(), "");
  EXPECT_EQ(Cli("entry apply --file -", file).err, "");  // no progress in a pipe
}

TEST_F(ServerVerbsTest, AppliesAFileAndShowsTheDifference) {
  Create("/stays", " --hint before");
  Create("/goes");
  const std::string file = absl::StrCat(
      "entries:\n"
      "- {spiffe_id: spiffe://example.org/stays, parent_id: ",
      kParent,
      ", selectors: [unix:uid:1], hint: after}\n"
      "- {spiffe_id: spiffe://example.org/comes, parent_id: ",
      kParent, ", selectors: [unix:uid:2], x509_ttl: 5m}\n");

  const Result dry = Cli("entry apply --file - --prune --dry-run", file);
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, AllOf(HasSubstr("~ spiffe://example.org/stays"), HasSubstr("    hint: before -> after\n"),
                             HasSubstr("+ spiffe://example.org/comes\n"), HasSubstr("- spiffe://example.org/goes"),
                             HasSubstr("would create 1, update 1, delete 1\n")));
  EXPECT_EQ(Cli("entry count").out, "2\n");

  EXPECT_THAT(Cli("entry apply --file -", file).out, HasSubstr("created 1, updated 1, deleted 0\n"));
  EXPECT_EQ(Cli("entry apply --file -", file).out, "created 0, updated 0, deleted 0: nothing to change\n");
  EXPECT_THAT(Cli("entry apply --file - --prune", file).out, HasSubstr("deleted 1\n"));
  EXPECT_THAT(Cli("entry list").out, Not(HasSubstr("/goes")));

  const std::string twice =
      absl::StrCat("- {spiffe_id: spiffe://example.org/stays, parent_id: ", kParent, ", selectors: [unix:uid:1]}\n");
  EXPECT_EQ(Cli("entry apply --file -", twice + twice).code, 2);
}

TEST_F(ServerVerbsTest, MakesAJoinToken) {
  const Result text = Cli("token generate --ttl 10m --spiffe-id spiffe://example.org/node");
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, ::testing::MatchesRegex("[0-9a-f-]{36}\n"));  // nothing but the token: TOKEN=$(...)
  EXPECT_THAT(text.err, HasSubstr("for one agent, until"));
  EXPECT_EQ(Json<::spire::api::types::JoinToken>("token generate --token mine").value(), "mine");
}

TEST_F(ServerVerbsTest, ShowsTheBundleInEachForm) {
  const auto bundle = Json<::spire::api::types::Bundle>("bundle show");
  EXPECT_EQ(bundle.trust_domain(), "example.org");
  EXPECT_EQ(bundle.x509_authorities_size(), 1);
  const auto domain = spiffe::TrustDomain::Parse("example.org").value();
  EXPECT_THAT(spiffe::Bundle::ParsePem(domain, Cli("bundle show").out), testing::IsOk());
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Bundle json,
                              spiffe::Bundle::ParseJson(domain, Cli("bundle show --format spiffe").out));
  EXPECT_EQ(json.jwt_authorities.size(), 1u);
  EXPECT_THAT(Cli("bundle show --format jwks").out, AllOf(HasSubstr("\"kid\""), Not(HasSubstr("x5c"))));
  EXPECT_EQ(Cli("bundle count").out, "1\n");
}

TEST_F(ServerVerbsTest, FederatesAndEndsIt) {
  EXPECT_EQ(Cli("federation list").out, "no federation relationships\n");
  const std::string bundle = dir_.file("partner.json");
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(bundle, Cli("bundle show --format spiffe").out));  // any keys will do
  Result result = Cli(absl::StrCat(
      "federation create partner.org --bundle-endpoint-url https://127.0.0.1:1/b --bundle-endpoint-profile "
      "https_spiffe --endpoint-spiffe-id spiffe://partner.org/spire/server --bundle ",
      bundle));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("partner.org\n"), HasSubstr("https_spiffe\n"), HasSubstr("1 X.509 authority")));
  EXPECT_EQ(Cli("federation show --trust-domain partner.org").out, result.out);
  EXPECT_THAT(Cli("federation list").out, HasSubstr("partner.org"));
  // Changes what is given alone.
  result = Cli("federation update partner.org --bundle-endpoint-url https://127.0.0.1:2/c");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("https://127.0.0.1:2/c"), HasSubstr("spiffe://partner.org/spire/server")));
  result = Cli("federation refresh partner.org");  // nobody answers there
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("https://127.0.0.1:2/c"));
  EXPECT_EQ(Cli("federation delete partner.org").code, 0);
  result = Cli("federation show partner.org");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("signet federation list"));
}

TEST_F(ServerVerbsTest, WrongFederationFlagsAreUsage) {
  for (const char* words :
       {"federation create partner.org", "federation update partner.org",
        "federation create partner.org --bundle-endpoint-url https://a --bundle-endpoint-profile https_spiffe",
        "federation create partner.org --bundle-endpoint-url https://a --bundle-endpoint-profile https_web "
        "--endpoint-spiffe-id spiffe://partner.org/x",
        "federation create Partner --bundle-endpoint-url https://a --bundle-endpoint-profile https_web"}) {
    EXPECT_EQ(Cli(words).code, 2) << words;
  }
}

TEST_F(ServerVerbsTest, MintsAndWritesWithAKeyNobodyElseReads) {
  const std::string out = dir_.file("legacy");
  const Result result = Cli(
      absl::StrCat("svid mint-x509 --spiffe-id spiffe://example.org/legacy --dns legacy.example.org --write ", out));
  EXPECT_EQ(result.code, 0) << result.err;
  struct stat info {};
  ASSERT_EQ(stat((out + "/svid.0.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  SIGNET_ASSERT_OK_AND_ASSIGN(const IdentityDir identity, ReadIdentityDir(out));
  EXPECT_EQ(identity.svid.id.string(), "spiffe://example.org/legacy");
  EXPECT_THAT(identity.svid.leaf().dns_sans(), ::testing::ElementsAre("legacy.example.org"));
  EXPECT_THAT(result.out, Not(HasSubstr("PRIVATE KEY")));

  EXPECT_THAT(Cli("svid mint-x509 --spiffe-id spiffe://example.org/legacy").out,
              AllOf(StartsWith("-----BEGIN CERTIFICATE-----"), HasSubstr("BEGIN PRIVATE KEY")));
  EXPECT_EQ(Cli("svid mint-x509 --spiffe-id spiffe://example.org/legacy --output json").code, 2);
  const Result foreign = Cli("svid mint-x509 --spiffe-id spiffe://other.org/legacy");
  EXPECT_EQ(foreign.code, 1);
  EXPECT_THAT(foreign.err, HasSubstr("other.org"));
}

TEST_F(ServerVerbsTest, MintsAJwt) {
  const Result result = Cli("svid mint-jwt --spiffe-id spiffe://example.org/legacy --audience db --audience cache");
  EXPECT_EQ(result.code, 0) << result.err;
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::ValidatedJwtSvid svid,
                              spiffe::ParseUnverifiedJwtSvid(result.out.substr(0, result.out.size() - 1)));
  EXPECT_EQ(svid.id.string(), "spiffe://example.org/legacy");
  EXPECT_THAT(svid.audience, ::testing::ElementsAre("db", "cache"));
}

TEST_F(ServerVerbsTest, AdministratesOverTlsByAnSvid) {
  const std::string admin = dir_.file("admin-id"), nobody = dir_.file("nobody-id");
  ASSERT_EQ(Cli("svid mint-x509 --spiffe-id spiffe://example.org/admin --write " + admin).code, 0);
  ASSERT_EQ(Cli("svid mint-x509 --spiffe-id spiffe://example.org/nobody --write " + nobody).code, 0);
  const std::string& address = server_->addresses().grpc;
  const Result allowed = RunCli({"entry", "count", "--server", address, "--identity-dir", admin});
  EXPECT_EQ(allowed.code, 0) << allowed.err;
  EXPECT_EQ(allowed.out, "0\n");
  const Result refused = RunCli({"entry", "count", "--server", address, "--identity-dir", nobody});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("next: the caller's SVID needs an entry with --admin"));
  // A key that others can read is not used.
  chmod((admin + "/svid.0.key").c_str(), 0644);
  const Result open_key = RunCli({"entry", "count", "--server", address, "--identity-dir", admin});
  EXPECT_EQ(open_key.code, 1);
  EXPECT_THAT(open_key.err, HasSubstr("chmod 600"));
}

TEST_F(ServerVerbsTest, ListsAgentsAndNamesAMissingOne) {
  EXPECT_EQ(Cli("agent list").out, "no agents\n");
  EXPECT_EQ(Cli("agent count --banned").out, "0\n");
  EXPECT_EQ(Cli("agent purge --expired-for 1h").out, "no agent expired more than 1h ago\n");
  for (const char* verb : {"show", "ban", "evict"}) {
    const Result result = Cli(absl::StrCat("agent ", verb, " ", kParent));
    EXPECT_EQ(result.code, 1) << verb;
    EXPECT_THAT(result.err, AllOf(HasSubstr(kParent), HasSubstr("next: signet agent list"))) << verb;
  }
}

TEST_F(ServerVerbsTest, ShowsStateAtAGlanceAndInDepth) {
  const Result status = Cli("status --agent-socket /no/agent.sock");
  EXPECT_EQ(status.code, 0) << status.err;
  EXPECT_THAT(status.out, AllOf(HasSubstr("signet-server        ready\n"),
                                HasSubstr("spiffe://example.org/spire/server"), HasSubstr("/no/agent.sock")));
  EXPECT_THAT(Cli("status --agent-socket /no/agent.sock --output json").out, HasSubstr("\"entries_count\""));
  const Result doctor = Cli("doctor --agent-socket /no/agent.sock --workload-socket /no/api.sock");
  EXPECT_EQ(doctor.code, 0) << doctor.out;
  EXPECT_THAT(doctor.out, AllOf(HasSubstr("ok    signet-server answers"), HasSubstr("signet token generate makes"),
                                HasSubstr("signet entry create")));
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_EQ(Cli("status --agent-socket /no/agent.sock").code, 1);
}

TEST_F(ServerVerbsTest, ChangesTheLogLevel) {
  EXPECT_THAT(Cli("log-level").out, HasSubstr("(started with "));
  EXPECT_THAT(Cli("log-level debug").out, StartsWith("debug "));
  EXPECT_THAT(Cli("log-level reset").out, Not(StartsWith("debug ")));
}

}  // namespace
}  // namespace signet::cli
