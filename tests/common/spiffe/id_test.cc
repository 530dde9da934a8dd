#include "common/spiffe/id.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace signet::spiffe {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Property;

struct Row {
  std::string text;
  bool accepted;
};

// SPIFFE-ID 2, every rule from both sides: ID-1 to ID-14.
std::vector<Row> Rows() {
  return {
      {"spiffe://example.org", true},
      {"spiffe://example.org/a", true},
      {"spiffe://a/b", true},
      {"spiffe://10.0.0.1/a", true},  // ID-10
      {"spiffe://999.9.9.9/a", true},
      {"spiffe://my_td-1.example/a", true},
      {"spiffe://-/a", true},
      {"spiffe://a..b/c", true},
      {"spiffe://td/A-Z_a.z-09", true},
      {"spiffe://td/.hidden", true},
      {"spiffe://td/...", true},
      {"spiffe://td/9eebccd2-12bf-40a6-b262-65fe0487d453", true},
      {absl::StrCat("spiffe://", std::string(255, 'a'), "/x"), true},  // ID-13
      {absl::StrCat("spiffe://td/", std::string(2036, 'a')), true},    // ID-11: exactly 2048 bytes
      {"", false},
      {"example.org/a", false},
      {"http://example.org/a", false},  // ID-1
      {"spiffe:example.org/a", false},
      {"spiffe:/example.org/a", false},
      {"SPIFFE://example.org/a", false},  // ID-14: the two readings of case cannot differ
      {"spiffe://", false},               // ID-2
      {"spiffe:///a", false},
      {"spiffe://Example.org/a", false},       // ID-5
      {"spiffe://user@example.org/a", false},  // ID-4
      {"spiffe://user:pw@example.org/a", false},
      {"spiffe://example.org:443/a", false},
      {"spiffe://example.org:/a", false},
      {"spiffe://[::1]/a", false},
      {"spiffe://ex%61mple.org/a", false},  // ID-6
      {"spiffe://example$org/a", false},
      {"spiffe://example~org/a", false},
      {"spiffe://ex\xc3\xa4mple.org/a", false},
      {"spiffe://xn--exmple-cua.org/a", true},
      {"spiffe://example.org?q=1", false},  // ID-3
      {"spiffe://example.org/a?q=1", false},
      {"spiffe://example.org/a#f", false},
      {"spiffe://example.org/a#", false},
      {"spiffe://example.org/a?", false},
      {"spiffe://example.org/", false},  // ID-8
      {"spiffe://example.org/a/", false},
      {"spiffe://example.org//a", false},  // ID-7
      {"spiffe://example.org/a//b", false},
      {"spiffe://example.org/.", false},
      {"spiffe://example.org/a/..", false},
      {"spiffe://example.org/a/../b", false},
      {"spiffe://example.org/%61", false},
      {"spiffe://example.org/a%2Fb", false},
      {"spiffe://example.org/a:b", false},  // ID-9
      {"spiffe://example.org/a\\b", false},
      {"spiffe://example.org/a*", false},
      {std::string("spiffe://example.org/a\0b", 24), false},
      {" spiffe://example.org/a", false},
      {"spiffe://example.org/a\n", false},
      {absl::StrCat("spiffe://", std::string(256, 'a'), "/x"), false},
      {absl::StrCat("spiffe://td/", std::string(2037, 'a')), false},  // ID-12
  };
}

TEST(IdTest, AcceptsAndRefusesAsTheStandardSays) {
  for (const Row& row : Rows()) {
    const auto id = Id::Parse(row.text);
    EXPECT_EQ(id.ok(), row.accepted) << row.text << ": " << id.status();
    if (id.ok()) {
      EXPECT_EQ(id->string(), row.text);
    } else {
      EXPECT_THAT(id, StatusIs(absl::StatusCode::kInvalidArgument));
    }
  }
}

TEST(IdTest, TakesOnlyTheCharactersOfATrustDomain) {  // ID-5, ID-6
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
    const std::string name = absl::StrCat("a", std::string(1, c), "b");
    EXPECT_EQ(TrustDomain::Parse(name).ok(), allowed) << byte;
    // A slash ends the name: that is an ID with a path, of a shorter trust domain.
    if (c == '/') continue;
    EXPECT_EQ(Id::Parse(absl::StrCat("spiffe://", name, "/x")).ok(), allowed) << byte;
  }
}

TEST(IdTest, TakesOnlyTheCharactersOfAPath) {  // ID-9
  const TrustDomain td = *TrustDomain::Parse("td");
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                         c == '-' || c == '_' || c == '/';
    const std::string path = absl::StrCat("/a", std::string(1, c), "b");
    EXPECT_EQ(Id::Parse(absl::StrCat("spiffe://td", path)).ok(), allowed) << byte;
    EXPECT_EQ(Id::FromPath(td, path).ok(), allowed) << byte;
  }
}

TEST(IdTest, SplitsIntoTrustDomainAndPath) {
  const Id id = *Id::Parse("spiffe://example.org/ns/a");
  EXPECT_EQ(id.trust_domain_name(), "example.org");
  EXPECT_EQ(id.trust_domain().name(), "example.org");
  EXPECT_EQ(id.path(), "/ns/a");
  EXPECT_FALSE(id.is_root());
  EXPECT_TRUE(id.IsMemberOf(*TrustDomain::Parse("example.org")));
  EXPECT_FALSE(id.IsMemberOf(*TrustDomain::Parse("example.or")));
  EXPECT_TRUE(Id::Parse("spiffe://example.org")->is_root());
}

TEST(IdTest, ComparesPathsWithCase) {  // ID-14
  EXPECT_NE(*Id::Parse("spiffe://td/A"), *Id::Parse("spiffe://td/a"));
}

TEST(IdTest, JoinsATrustDomainAndAPath) {
  const TrustDomain td = *TrustDomain::Parse("td");
  EXPECT_THAT(Id::FromPath(td, "/a/b"), IsOkAndHolds(*Id::Parse("spiffe://td/a/b")));
  EXPECT_THAT(Id::FromPath(td, ""), IsOkAndHolds(Id::OfTrustDomain(td)));
  EXPECT_THAT(Id::FromPath(td, "a"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("begin with a slash")));
  EXPECT_THAT(Id::FromPath(td, "/"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Id::FromPath(td, "/a/../b"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dot segment")));
  EXPECT_THAT(Id::FromPath(td, absl::StrCat("/", std::string(2036, 'a'))), IsOk());
  EXPECT_THAT(Id::FromPath(td, absl::StrCat("/", std::string(2037, 'a'))),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(IdTest, ErrorsEscapeWhatTheyQuote) {
  EXPECT_THAT(Id::Parse("spiffe://td/a\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, ::testing::Not(HasSubstr("\n"))));
}

TEST(IdTest, KnowsReservedNames) {
  const TrustDomain td = *TrustDomain::Parse("td");
  EXPECT_EQ(ServerId(td).string(), "spiffe://td/spire/server");
  EXPECT_TRUE(IsServerId(ServerId(td)));
  EXPECT_FALSE(IsServerId(*Id::Parse("spiffe://td/spire/server/x")));
  EXPECT_TRUE(IsAgentId(*Id::Parse("spiffe://td/spire/agent/join_token/t")));
  EXPECT_TRUE(IsAgentId(*Id::Parse("spiffe://td/spire/agent/x")));
  EXPECT_FALSE(IsAgentId(*Id::Parse("spiffe://td/spire/agent")));
  EXPECT_FALSE(IsAgentId(*Id::Parse("spiffe://td/spire/agents/x")));
  EXPECT_TRUE(IsReservedId(*Id::Parse("spiffe://td/spire")));
  EXPECT_TRUE(IsReservedId(*Id::Parse("spiffe://td/spire/anything")));
  EXPECT_FALSE(IsReservedId(*Id::Parse("spiffe://td/spirex")));
  EXPECT_FALSE(IsReservedId(*Id::Parse("spiffe://td/a/spire")));
  EXPECT_FALSE(IsReservedId(*Id::Parse("spiffe://td")));
}

TEST(TrustDomainTest, IsOneTo255Bytes) {  // ID-13
  EXPECT_THAT(TrustDomain::Parse(""), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(TrustDomain::Parse(std::string(255, 'a')), IsOk());
  EXPECT_THAT(TrustDomain::Parse(std::string(256, 'a')), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TrustDomainTest, IsReadFromANameOrAnyId) {
  const auto named = [](absl::string_view name) { return IsOkAndHolds(Property(&TrustDomain::name, name)); };
  EXPECT_THAT(TrustDomain::ParseNameOrId("td"), named("td"));
  EXPECT_THAT(TrustDomain::ParseNameOrId("spiffe://td"), named("td"));
  EXPECT_THAT(TrustDomain::ParseNameOrId("spiffe://td/a"), named("td"));
  EXPECT_THAT(TrustDomain::ParseNameOrId("spiffe://td/"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(TrustDomain::ParseNameOrId("https://td"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(TrustDomain::Parse("spiffe://td"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TrustDomainTest, KnowsNamesThatGoRefuses) {
  for (absl::string_view name : {"a..b", ".a", "a.", "."})
    EXPECT_TRUE(TrustDomain::Parse(name)->has_empty_label()) << name;
  for (absl::string_view name : {"a", "a.b", "10.0.0.1"})
    EXPECT_FALSE(TrustDomain::Parse(name)->has_empty_label()) << name;
}

}  // namespace
}  // namespace signet::spiffe
