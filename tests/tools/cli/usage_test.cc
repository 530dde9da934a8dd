#include <stdlib.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/cli/cli_kit.h"

namespace signet::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// All verbs of the operator's guide, as one would type them.
const char* const kVerbs[] = {"entry create",
                              "entry update",
                              "entry show",
                              "entry list",
                              "entry count",
                              "entry delete",
                              "entry apply",
                              "agent list",
                              "agent show",
                              "agent count",
                              "agent ban",
                              "agent evict",
                              "agent purge",
                              "chain show",
                              "chain verify",
                              "token generate",
                              "bundle show",
                              "bundle list",
                              "bundle count",
                              "svid mint-x509",
                              "svid mint-jwt",
                              "svid fetch",
                              "svid fetch-jwt",
                              "svid validate",
                              "svid watch",
                              "status",
                              "doctor",
                              "log-level",
                              "validate",
                              "dev",
                              "completion",
                              "version",
                              "federation create",
                              "federation update",
                              "federation list",
                              "federation show",
                              "federation delete",
                              "federation refresh"};

TEST(UsageTest, EveryVerbHasHelpWithAnExample) {
  for (const char* verb : kVerbs) {
    std::vector<std::string> arguments = absl::StrSplit(verb, ' ');
    arguments.push_back("--help");
    const Result result = RunCli(arguments);
    EXPECT_EQ(result.code, 0) << verb;
    EXPECT_THAT(result.out, HasSubstr("Example:\n  ")) << verb;
    EXPECT_THAT(result.out, HasSubstr("--output")) << verb;
    EXPECT_THAT(result.err, IsEmpty()) << verb;
  }
}

TEST(UsageTest, WrongUsageIsTwo) {
  const std::vector<std::vector<std::string>> kWrong = {
      {},
      {"entry"},
      {"nonsense"},
      {"entry", "create"},
      {"entry", "list", "--output", "xml"},
      {"entry", "show"},
      {"entry", "create", "--spiffe-id", "spiffe://a/b", "--parent-id", "spiffe://a/c", "--selector", "no-colon"},
      {"entry", "create", "--spiffe-id", "http://a/b", "--parent-id", "spiffe://a/c", "--selector", "a:b"},
      {"entry", "create", "--spiffe-id", "spiffe://a/b", "--parent-id", "spiffe://a/c", "--selector", "a:b",
       "--x509-ttl", "soon"},
      {"entry", "create", "--spiffe-id", "spiffe://a/b", "--parent-id", "spiffe://a/c", "--selector", "a:b",
       "--expires-at", "x"},
      {"entry", "create", "--file", "f", "--spiffe-id", "spiffe://a/b"},
      {"entry", "update", "id"},
      {"entry", "list", "--server", "a:1"},
      {"entry", "list", "--identity-dir", "d"},
      {"agent", "ban", "not-an-id"},
      {"token", "generate", "--ttl", "0s"},
      {"bundle", "show", "--format", "der"},
      {"svid", "mint-x509", "--spiffe-id", "x"},
      {"svid", "fetch-jwt"},
      {"log-level", "loud"},
      {"completion", "fish"}};
  for (const auto& arguments : kWrong) {
    const Result result = RunCli(arguments);
    EXPECT_EQ(result.code, 2) << absl::StrJoin(arguments, " ");
    EXPECT_THAT(result.err, StartsWith("signet: ")) << absl::StrJoin(arguments, " ");
    EXPECT_THAT(result.out, IsEmpty()) << absl::StrJoin(arguments, " ");
  }
}

TEST(UsageTest, NamesTheSocketAndTheNextStep) {
  const Result result = RunCli({"entry", "list", "--socket", "/no/such.sock"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err,
              HasSubstr("cannot reach signet-server at /no/such.sock: No such file or directory\n  next: start "));
  EXPECT_EQ(RunCli({"entry", "list", "--socket", std::string(108, 'x')}).code, 2);
}

TEST(UsageTest, FindsTheWorkloadApiByTheStandardsVariable) {
  setenv("SPIFFE_ENDPOINT_SOCKET", "unix:///no/workload.sock", 1);
  EXPECT_THAT(RunCli({"svid", "fetch"}).err, HasSubstr("/no/workload.sock"));
  EXPECT_THAT(RunCli({"svid", "fetch", "--socket", "/no/other.sock"}).err, HasSubstr("/no/other.sock"));
  setenv("SPIFFE_ENDPOINT_SOCKET", "tcp://127.0.0.1:1", 1);
  EXPECT_EQ(RunCli({"svid", "fetch"}).code, 2);
  unsetenv("SPIFFE_ENDPOINT_SOCKET");
}

TEST(UsageTest, EachTargetHasAVariableOfItsOwnAndAFlagBeatsIt) {
  setenv("SIGNET_SERVER_SOCKET", "/no/admin.sock", 1);
  setenv("SIGNET_SERVER", "127.0.0.1:1", 1);
  setenv("SPIFFE_ENDPOINT_SOCKET", "unix:///no/workload.sock", 1);
  EXPECT_THAT(RunCli({"entry", "list"}).err, HasSubstr("--identity-dir"));
  EXPECT_THAT(RunCli({"entry", "list", "--socket", "/no/flag.sock"}).err, HasSubstr("/no/flag.sock"));
  unsetenv("SIGNET_SERVER");
  EXPECT_THAT(RunCli({"entry", "list"}).err, HasSubstr("/no/admin.sock"));
  EXPECT_THAT(RunCli({"svid", "fetch"}).err, HasSubstr("/no/workload.sock"));
  unsetenv("SIGNET_SERVER_SOCKET");
  unsetenv("SPIFFE_ENDPOINT_SOCKET");
}

TEST(UsageTest, TellsEveryMistakeOfAnEntryFile) {
  const Result result = RunCli({"entry", "create", "--file", "-"}, R"(entries:
- {spiffe_id: spiffe://a/b, parent_id: spiffe://a/c, selectors: [unix:uid:1]}
- {spiffe_id: spiffe://a/b, parent_id: spiffe://a/c}
- {spiffe_id: spiffe://a/B%20, parent_id: spiffe://a/c, selectors: [unix:uid:1]}
)");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.err, HasSubstr("standard input: entries[1]: selectors is required"));
  EXPECT_THAT(result.err, HasSubstr("standard input: entries[2]: spiffe_id: "));
  EXPECT_THAT(RunCli({"entry", "create", "--file", "-"}, "- {spiffe: x}\n").err,
              HasSubstr("standard input:1: entries[0].spiffe: unknown key; did you mean spiffe_id?"));
  EXPECT_EQ(RunCli({"entry", "apply", "--file", "-"}, "").code, 2);
}

TEST(UsageTest, CompletesEveryVerb) {
  for (const char* shell : {"bash", "zsh"}) {
    const Result result = RunCli({"completion", shell});
    EXPECT_EQ(result.code, 0);
    for (const char* verb : kVerbs)
      EXPECT_THAT(result.out, HasSubstr(absl::StrCat("\"", verb, "\") words=\""))) << shell;
  }
}

TEST(UsageTest, SaysItsVersion) {
  EXPECT_THAT(RunCli({"version"}).out, StartsWith("signet 0."));
  EXPECT_THAT(RunCli({"version", "--output", "json"}).out, StartsWith("{\"version\":\"0."));
}

}  // namespace
}  // namespace signet::cli
