#include "common/config/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/fs/atomic_file.h"
#include "config/agent.pb.h"
#include "config/entries.pb.h"
#include "config/server.pb.h"
#include "config/token_records.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::config {
namespace {

using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> ErrorsOf(absl::string_view yaml) {
  Server server;
  const absl::Status status = LoadYaml(yaml, "server.yaml", server);
  if (status.ok()) return {};
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return absl::StrSplit(status.message(), '\n');
}

TEST(LoadTest, FillsAMessage) {
  Server server;
  SIGNET_ASSERT_OK(LoadYaml(R"(
trust_domain: example.org     # a comment
listen: "0.0.0.0:8081"
ca: {ttl: 24h, key_type: ec-p256}
datastore:
  sqlite:
    path: server.db
key_manager: {memory: {}}
node_attestors:
  join_token:
admin_ids:
  - spiffe://example.org/admin
  - spiffe://example.org/other
)",
                            "server.yaml", server));
  EXPECT_EQ(server.trust_domain(), "example.org");
  EXPECT_EQ(server.ca().ttl(), "24h");
  EXPECT_EQ(server.datastore().sqlite().path(), "server.db");
  EXPECT_TRUE(server.key_manager().has_memory());
  EXPECT_TRUE(server.node_attestors().has_join_token());
  EXPECT_FALSE(server.node_attestors().has_x509_pop());
  EXPECT_THAT(server.admin_ids(), ElementsAre("spiffe://example.org/admin", "spiffe://example.org/other"));
}

TEST(LoadTest, TakesJson) {
  Agent agent;
  SIGNET_ASSERT_OK(LoadYaml(R"({"trust_domain": "example.org", "server_address": ["a:1", "b:2"],
    "bootstrap": {"insecure": true}, "limits": {"connections_per_uid": 7}})",
                            "agent.json", agent));
  EXPECT_THAT(agent.server_address(), ElementsAre("a:1", "b:2"));
  EXPECT_TRUE(agent.bootstrap().insecure());
  EXPECT_EQ(agent.limits().connections_per_uid(), 7u);
}

TEST(LoadTest, OneValueMayStandForAListOfOne) {
  Agent agent;
  SIGNET_ASSERT_OK(LoadYaml("server_address: signet-server:8081", "agent.yaml", agent));
  EXPECT_THAT(agent.server_address(), ElementsAre("signet-server:8081"));
}

TEST(LoadTest, AnEmptyFileIsAllDefaults) {
  for (const char* text : {"", "# nothing\n", "---\n", "{}"}) EXPECT_THAT(ErrorsOf(text), ElementsAre()) << text;
}

TEST(LoadTest, TellsEveryErrorAtOnce) {
  EXPECT_THAT(
      ErrorsOf(R"(
trust_domian: example.org
ca:
  ttl: [1, 2]
  size: 3
x509_ttl: 1h
datastore: {sqlite: {path: a}, postgres: {}}
key_manager:
  disk: {}
  memory: {}
log:
  level: info
  level: warn
svid: 5m
node_attestors:
  join_token: {ttl: 1h}
listen:
)"),
      ElementsAre("server.yaml:2: trust_domian: unknown key; did you mean trust_domain?",
                  "server.yaml:4: ca.ttl: expects one value, not a list or mapping",
                  "server.yaml:5: ca.size: unknown key; known here: ttl, key_type, jwt_key_type, subject",
                  "server.yaml:6: x509_ttl: unknown key; did you mean svid.x509_ttl?",
                  HasSubstr("server.yaml:7: datastore.postgres: "),
                  "server.yaml:10: key_manager.memory: only one of these may be given, and disk already is",
                  "server.yaml:13: log.level: given twice, first in line 12; keep one",
                  "server.yaml:14: svid: expects keys and values (a mapping)",
                  "server.yaml:16: node_attestors.join_token.ttl: unknown key; nothing can be set here: write {}",
                  "server.yaml:17: listen: has no value; leave the key out for its default"));
}

TEST(LoadTest, WantsTheRightTypes) {
  Agent agent;
  const absl::Status status = LoadYaml(R"(bootstrap: {insecure: yes}
disable_sealed_cache: "true"
limits: {connections_per_uid: -1, pending_attestations_per_uid: 1.5}
)",
                                       "agent.yaml", agent);
  EXPECT_EQ(status.message(),
            "agent.yaml:1: bootstrap.insecure: expects true or false, not \"yes\"\n"
            "agent.yaml:2: disable_sealed_cache: expects true or false, not text \"true\"\n"
            "agent.yaml:3: limits.connections_per_uid: expects a whole number, not negative, not \"-1\"\n"
            "agent.yaml:3: limits.pending_attestations_per_uid: expects a whole number, not negative, not \"1.5\"");
}

TEST(LoadTest, RefusesWhatMayCostMoreThanItsSize) {
  EXPECT_THAT(ErrorsOf("a: &x [1]\nb: *x\n"), ElementsAre(HasSubstr("server.yaml:1: anchors")));
  EXPECT_THAT(ErrorsOf("ca: {ttl: *x}\n"), ElementsAre(AllOf(HasSubstr("server.yaml:1: "))));
  EXPECT_THAT(ErrorsOf("listen: !!binary aGk=\n"), ElementsAre(HasSubstr("tag")));
  EXPECT_THAT(ErrorsOf("listen: a\n---\nlisten: b\n"), ElementsAre(HasSubstr("second document")));
  EXPECT_THAT(ErrorsOf(std::string(100'000, '[')), ElementsAre(HasSubstr("nested more than 32 deep")));
  EXPECT_THAT(ErrorsOf(absl::StrCat("listen: ", std::string(1 << 20, 'x'))), ElementsAre(HasSubstr("larger than")));
  EXPECT_THAT(ErrorsOf("? [a]\n: b\n"), ElementsAre(HasSubstr("a key must be plain text")));
}

TEST(LoadTest, NamesTheLineOfBrokenYaml) {
  EXPECT_THAT(ErrorsOf("listen: a\nca: {ttl: 1h\nsvid: {}\n"), ElementsAre(HasSubstr(": no valid YAML: ")));
  EXPECT_THAT(ErrorsOf("a: b: c\n"), ElementsAre(HasSubstr("server.yaml:1: no valid YAML: ")));
  EXPECT_THAT(ErrorsOf("- a\n"), ElementsAre("server.yaml:1: the file: expects keys and values (a mapping)"));
  EXPECT_THAT(ErrorsOf("\t\x01\xff"), ::testing::SizeIs(1));
}

TEST(LoadTest, AListMayStandBare) {
  for (const char* text : {"entries: [{hint: a}]", "[{hint: a}]", "hint: a", "entries:\n- hint: a\n"}) {
    Entries file;
    SIGNET_ASSERT_OK(LoadYamlList(text, "entries.yaml", 1000, file));
    ASSERT_EQ(file.entries_size(), 1) << text;
    EXPECT_EQ(file.entries(0).hint(), "a");
  }
  Entries file;
  EXPECT_THAT(
      LoadYamlList("- hint: a\n- hnt: b\n", "entries.yaml", 1000, file),
      StatusIs(absl::StatusCode::kInvalidArgument, "entries.yaml:2: entries[1].hnt: unknown key; did you mean hint?"));
}

TEST(LoadTest, NamesAMissingFile) {
  testing::TempDir dir;
  Server server;
  EXPECT_THAT(LoadFile(dir.file("server.yaml"), server),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("server.yaml")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir.file("server.yaml"), "x: 1\n"));
  EXPECT_THAT(LoadFile(dir.file("server.yaml"), server),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("server.yaml:1: x: unknown key")));
}

TEST(LoadTest, RefusesTextThatIsNotUtf8) {
  Server server;
  EXPECT_THAT(LoadYaml("admin_ids: [\"sp\x9f\"]\n", "s.yaml", server),
              StatusIs(absl::StatusCode::kInvalidArgument, "s.yaml:1: admin_ids[0]: is not valid UTF-8 text"));
}

TEST(LoadTest, ShowsWhereAWrongValueStandsTogetherWithTheErrorsOfReading) {
  testing::TempDir dir;
  const std::string file = dir.file("s.yaml");
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(file, "listn: x\nca:\n  ttl: 5x\nadmin_ids:\n- foo\n"));
  Server server;
  Places places;
  const absl::Status reading = LoadFile(file, server, &places);
  Errors errors;
  for (const char* key : {"ca.ttl", "ca.key_type", "admin_ids[0]", "trust_domain"}) errors.Add(key, "is wrong");
  EXPECT_EQ(AllErrors(reading, errors.ToStatus(), places).message(),
            absl::StrCat(file, ":1: listn: unknown key; did you mean listen?\n", file, ":3: ca.ttl: is wrong\n", file,
                         ":2: ca.key_type: is wrong\n", file, ":5: admin_ids[0]: is wrong\n", file,
                         ": trust_domain: is wrong"));
}

// The part of a tool without schema of ours: its own JSON schema.
TEST(LoadTest, ReadsPartsWithoutSchema) {
  Tools tools;
  SIGNET_ASSERT_OK(
      LoadYamlList("name: query\ninput_schema: {type: object, required: [id], limit: 3, strict: true, note: \"7\"}",
                   "t", 1 << 16, tools));
  ASSERT_EQ(tools.tools_size(), 1);
  const auto& fields = tools.tools(0).input_schema().fields();
  EXPECT_EQ(fields.at("type").string_value(), "object");
  EXPECT_EQ(fields.at("required").list_value().values(0).string_value(), "id");
  EXPECT_EQ(fields.at("limit").number_value(), 3);
  EXPECT_TRUE(fields.at("strict").bool_value());
  EXPECT_EQ(fields.at("note").string_value(), "7");
  EXPECT_THAT(LoadYamlList("name: query\ninput_schema: {a: 1, a: 2}", "t", 1 << 16, tools),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("given twice")));
}

TEST(ValuesTest, ParsesDurations) {
  Errors errors;
  EXPECT_EQ(ParseDuration("k", "", absl::Seconds(3), errors), absl::Seconds(3));
  EXPECT_EQ(ParseDuration("k", "90s", absl::Seconds(3), errors), absl::Seconds(90));
  EXPECT_EQ(ParseDuration("k", "1h30m", absl::Seconds(3), errors), absl::Minutes(90));
  EXPECT_TRUE(errors.empty());
  for (const char* bad : {"0s", "-1m", "inf", "5", "five", "1 h"})
    ParseDuration("ca.ttl", bad, absl::Seconds(3), errors);
  const std::vector<std::string> lines = absl::StrSplit(errors.ToStatus().message(), '\n');
  ASSERT_EQ(lines.size(), 6u) << errors.ToStatus();
  EXPECT_EQ(lines[4], "ca.ttl: \"five\" is no duration; write one such as 90s, 5m or 1h30m");
}

TEST(ValuesTest, ParsesSizes) {
  Errors errors;
  EXPECT_EQ(ParseSize("k", "", 3, errors), 3u);
  EXPECT_EQ(ParseSize("k", "0", 3, errors), 0u);
  EXPECT_EQ(ParseSize("k", "4096", 3, errors), 4096u);
  EXPECT_EQ(ParseSize("k", "64KiB", 3, errors), 65536u);
  EXPECT_EQ(ParseSize("k", "2GiB", 3, errors), uint64_t{2} << 30);
  EXPECT_TRUE(errors.empty());
  for (const char* bad : {"-1", "64KB", "KiB", "1.5MiB", "99999999999999999GiB", "1 MiB"})
    ParseSize("k", bad, 3, errors);
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(errors.ToStatus().message(), '\n')).size(), 6u)
      << errors.ToStatus();
}

TEST(ValuesTest, PutsRelativePathsUnderTheBase) {
  EXPECT_EQ(ResolvePath("/var/lib/x", "keys"), "/var/lib/x/keys");
  EXPECT_EQ(ResolvePath("/var/lib/x/", "keys"), "/var/lib/x/keys");
  EXPECT_EQ(ResolvePath("/var/lib/x", "/etc/keys"), "/etc/keys");
  EXPECT_EQ(ResolvePath("/var/lib/x", ""), "");
}

}  // namespace
}  // namespace signet::config
