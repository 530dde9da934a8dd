#include "common/oauth/atom.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/json/json.h"
#include "tests/common/oauth/sample_chain.h"
#include "tests/testing/status_matchers.h"

namespace signet::oauth {
namespace {

using sample::Action;
using sample::AtMost;
using sample::In;
using sample::Tool;
using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kR[] = "https://r.example";

std::string CanonicalOf(absl::string_view text) { return Canonical(*json::Parse(text, 1 << 20)); }

TEST(CanonicalTest, SortsKeysAsUtf16) {  // RFC 8785 3.2.3, its own example
  EXPECT_EQ(
      CanonicalOf("{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,\"\\u0080\":6,\"\\u00f6\":7}"),
      "{\"\\r\":2,\"1\":4,\"\xc2\x80\":6,\"\xc3\xb6\":7,\"\xe2\x82\xac\":1,\"\xf0\x9f\x98\x80\":5,\"\xef\xac\xb3\":3}");
}

TEST(CanonicalTest, WritesNumbersAsEcmaScript) {  // RFC 8785 appendix B
  const std::pair<const char*, const char*> kCases[] = {{"0.0", "0"},
                                                        {"-0.0", "0"},
                                                        {"1.0", "1"},
                                                        {"-1.50", "-1.5"},
                                                        {"1e21", "1e+21"},
                                                        {"1e20", "100000000000000000000"},
                                                        {"4.50", "4.5"},
                                                        {"2e-3", "0.002"},
                                                        {"0.000001", "0.000001"},
                                                        {"1e-7", "1e-7"},
                                                        {"1.5e300", "1.5e+300"},
                                                        {"5e-324", "5e-324"},
                                                        {"333333333.33333329", "333333333.3333333"},
                                                        {"9007199254740993", "9007199254740993"},
                                                        {"-7", "-7"},
                                                        {"123456.789e3", "123456789"}};
  for (const auto& [in, out] : kCases) EXPECT_EQ(CanonicalOf(in), out) << in;
}

TEST(CanonicalTest, EscapesOnlyWhatMustBe) {
  EXPECT_EQ(CanonicalOf("\"\\u000f\\n\\u0041\\/\\\"\\\\\\u00e9\""), "\"\\u000f\\nA/\\\"\\\\\xc3\xa9\"");
  EXPECT_EQ(CanonicalOf(" [ true , null , { } ] "), "[true,null,{}]");
}

TEST(AtomTest, NormalizeSortsAndMergesEqualRepeats) {
  const auto atoms = Normalize({Tool(kR, "b"), Action(kR, "b"), Tool(kR, "a"), Tool(kR, "b")});
  ASSERT_THAT(atoms, IsOk());
  EXPECT_THAT(*atoms, ElementsAre(Action(kR, "b"), Tool(kR, "a"), Tool(kR, "b")));
}

TEST(AtomTest, NormalizeRefusesOneToolUnderTwoBounds) {
  EXPECT_THAT(Normalize({Tool(kR, "t"), Tool(kR, "t", {{"f", AtMost(1)}})}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"t\"")));
  EXPECT_THAT(Normalize({Tool(kR, "t"), Tool(kR, "t", {}, std::string(64, 'b'))}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AtomTest, NormalizeDropsWhatNothingMeets) {
  Constraint window;
  window.from = absl::FromUnixSeconds(10);
  window.until = absl::FromUnixSeconds(10);
  Constraint range = AtMost(1);
  range.min = 2;
  EXPECT_THAT(
      *Normalize({Tool(kR, "a", {{"f", In({})}}), Tool(kR, "b", {{"f", window}}), Tool(kR, "c", {{"f", range}})}),
      IsEmpty());
}

TEST(AtomTest, NormalizeCapsTheSet) {
  Atoms atoms;
  for (size_t i = 0; i <= kMaxAtoms; ++i) atoms.push_back(Action(kR, absl::StrCat("a", i)));
  EXPECT_THAT(Normalize(atoms), StatusIs(absl::StatusCode::kInvalidArgument));
}

struct MeetCase {
  const char* name;
  const char* a;
  const char* b;
  const char* both;  // null: the atom is gone
};
// Refinement of constraints, agent-identity C.5.
constexpr MeetCase kMeetCases[] = {
    {"no bounds", "{}", "{}", "{}"},
    {"a bound of one side stays", R"({"f":{"max":5}})", "{}", R"({"f":{"max":5}})"},
    {"bounds of both stay", R"({"f":{"max":5}})", R"({"g":{"max":6}})", R"({"f":{"max":5},"g":{"max":6}})"},
    {"maxima fall", R"({"f":{"max":5}})", R"({"f":{"max":4}})", R"({"f":{"max":4}})"},
    {"minima rise", R"({"f":{"min":5}})", R"({"f":{"min":4}})", R"({"f":{"min":5}})"},
    {"ranges that do not meet", R"({"f":{"min":5}})", R"({"f":{"max":4}})", nullptr},
    {"sets shrink", R"({"f":{"in":["a","b"]}})", R"({"f":{"in":["b","c"]}})", R"({"f":{"in":["b"]}})"},
    {"sets apart", R"({"f":{"in":["a"]}})", R"({"f":{"in":["b"]}})", nullptr},
    {"values by type", R"({"f":{"in":[1]}})", R"({"f":{"in":["1"]}})", nullptr},
    {"windows nest", R"({"f":{"from":10,"until":30}})", R"({"f":{"from":20,"until":40}})",
     R"({"f":{"from":20,"until":30}})"},
    {"windows apart", R"({"f":{"until":30}})", R"({"f":{"from":30}})", nullptr},
    {"unknown and equal", R"({"f":{"like":"a*"}})", R"({"f":{"like":"a*"}})", R"({"f":{"like":"a*"}})"},
    {"unknown and unequal", R"({"f":{"like":"a*"}})", R"({"f":{"like":"ab*"}})", nullptr},
    {"unknown on one side stays", R"({"f":{"like":"a*"}})", R"({"f":{"max":1}})", R"({"f":{"like":"a*","max":1}})"},
};

TEST(AtomTest, MeetKeepsTheNarrowerOfEachBound) {
  for (const MeetCase& c : kMeetCases) {
    const auto constraints = [](const char* text) { return *ParseConstraints(*json::Parse(text, 1000)); };
    const Atoms a = {Tool(kR, "t", constraints(c.a))};
    const Atoms b = {Tool(kR, "t", constraints(c.b))};
    const Atoms both = c.both == nullptr ? Atoms{} : Atoms{Tool(kR, "t", constraints(c.both))};
    EXPECT_EQ(Meet(a, b), both) << c.name;
    EXPECT_EQ(Meet(b, a), both) << c.name;
    EXPECT_TRUE(Within(both, a)) << c.name;
    EXPECT_TRUE(Within(both, b)) << c.name;
  }
}

TEST(AtomTest, MeetComparesResourceKindNameAndHash) {
  const Atoms a = *Normalize({Tool(kR, "t"), Action(kR, "x")});
  EXPECT_THAT(Meet(a, {Tool("https://other.example", "t")}), IsEmpty());
  EXPECT_THAT(Meet(a, {Action(kR, "t")}), IsEmpty());
  EXPECT_THAT(Meet(a, {Tool(kR, "t", {}, std::string(64, 'b'))}), IsEmpty());  // D2_10: the schema changed
  EXPECT_THAT(Meet(a, {Tool(kR, "t")}), ElementsAre(Tool(kR, "t")));
  EXPECT_THAT(Meet(a, {}), IsEmpty());
}

TEST(AtomTest, WithinIsFalseForADroppedBound) {  // D2_11
  const Atoms bounded = {Tool(kR, "t", {{"f", AtMost(5)}})};
  EXPECT_TRUE(Within(bounded, {Tool(kR, "t")}));
  EXPECT_FALSE(Within({Tool(kR, "t")}, bounded));
  EXPECT_FALSE(Within({Tool(kR, "t", {{"f", AtMost(6)}})}, bounded));
  EXPECT_TRUE(Within({}, bounded));
}

TEST(AtomTest, RemovedAndNarrowedTellTheChange) {
  const Atoms before = *Normalize({Action(kR, "a"), Action(kR, "b"), Action(kR, "c")});
  const Atoms after = *Normalize({Action(kR, "a"), Action(kR, "b", {{"f", AtMost(1)}})});
  EXPECT_THAT(Removed(before, after), ElementsAre(Action(kR, "c")));
  EXPECT_THAT(Narrowed(before, after), ElementsAre(Action(kR, "b", {{"f", AtMost(1)}})));
}

TEST(AtomJsonTest, RoundTrips) {
  const Atoms atoms = sample::Token().atoms;
  const std::string text = CanonicalJson(atoms);
  const auto read = ParseAtoms(text);
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(*read, atoms);
  EXPECT_EQ(HashAtoms(*read), Hash(text));
  EXPECT_EQ(
      CanonicalJson({Tool(kR, "t", {{"f", In({"\"a\""})}})}),
      absl::StrCat(R"([{"action":"t","constraints":{"f":{"in":["a"]}},"resource":"https://r.example","tool":true,)"
                   R"("tool_hash":")",
                   sample::kToolHash, "\"}]"));
}

TEST(AtomJsonTest, RefusesWhatIsNotAnAtom) {
  for (absl::string_view text :
       {"{}", "[1]", "[{}]", R"([{"resource":"https://r","action":""}])",
        R"([{"resource":"https://r","action":"a","x":1}])", R"([{"resource":"https://r","action":"a","tool":true}])",
        R"([{"resource":"https://r","action":"a","tool":1}])",
        R"([{"resource":"https://r","action":"a","tool_hash":"00"}])",
        R"([{"resource":"https://r","action":"a","constraints":{"f":{}}}])",
        R"([{"resource":"https://r","action":"a","action":"b"}])"}) {
    EXPECT_THAT(ParseAtoms(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

TEST(DetailsTest, ReadsOneResourceWithItsTools) {
  const auto all = ParseAuthorizationDetails(
      R"([{"type":"mcp_tool_call","locations":["https://MCP.example.org:443/orders"],"tools":["query","list"],)"
      R"("constraints":{"customer":{"in":["c-17"]},"when":{"until":"2027-01-15T08:00:00Z"}},"max_calls":50}])");
  ASSERT_THAT(all, IsOk());
  ASSERT_EQ(all->size(), 1u);
  EXPECT_EQ(all->front().resource, "https://mcp.example.org/orders");
  EXPECT_THAT(all->front().tools, ElementsAre("list", "query"));
  EXPECT_EQ(all->front().max_calls, 50);
  EXPECT_EQ(all->front().constraints.at("when").until, absl::FromUnixSeconds(1'800'000'000));
}

TEST(DetailsTest, D2_11_RefusesWhatItDoesNotUnderstand) {
  const std::string good = R"("type":"mcp_tool_call","locations":["https://r"],"tools":["t"])";
  ASSERT_THAT(ParseAuthorizationDetails(absl::StrCat("[{", good, "}]")), IsOk());
  for (const std::string& bad : {
           std::string(R"({"type":"other","locations":["https://r"],"tools":["t"]})"),
           std::string(R"({"type":"mcp_tool_call","tools":["t"]})"),
           std::string(R"({"type":"mcp_tool_call","locations":["https://r","https://s"],"tools":["t"]})"),
           std::string(R"({"type":"mcp_tool_call","locations":["https://r"],"tools":[]})"),
           std::string(R"({"type":"mcp_tool_call","locations":["https://r"],"tools":["t","t"]})"),
           std::string(R"({"type":"mcp_tool_call","locations":["ftp://r"],"tools":["t"]})"),
           absl::StrCat("{", good, R"(,"privileges":["admin"]})"),  // unknown member
           absl::StrCat("{", good, R"(,"tools":["u"]})"),           // duplicate key
           absl::StrCat("{", good, R"(,"max_calls":0})"),
           absl::StrCat("{", good, R"(,"max_calls":1.5})"),
           absl::StrCat("{", good, R"(,"max_calls":9007199254740993})"),
           absl::StrCat("{", good, R"(,"constraints":{"f":{"max":1e3}}})"),
           absl::StrCat("{", good, R"(,"constraints":{"f":{"max":9007199254740993}}})"),
           absl::StrCat("{", good, R"(,"constraints":{"f":5}})"),
           absl::StrCat("{", good, R"(,"constraints":{"f":{"like":[[[[[1]]]]]}}})"),  // could not be read in a receipt
           absl::StrCat("{", good, R"(,"constraints":{"f":{}}})"),
           absl::StrCat("{", good, R"(,"tool_hashes":{"u":")", sample::kToolHash, "\"}}"),
       }) {
    EXPECT_THAT(ParseAuthorizationDetails(absl::StrCat("[", bad, "]")), StatusIs(absl::StatusCode::kInvalidArgument))
        << bad;
  }
  std::string huge = "[";
  while (huge.size() <= kMaxDetailsBytes) absl::StrAppend(&huge, "{", good, "},");
  EXPECT_THAT(ParseAuthorizationDetails(absl::StrCat(huge, "{", good, "}]")),
              StatusIs(absl::StatusCode::kInvalidArgument));
  std::string values = "1";
  for (size_t i = 0; i <= kMaxConstraintValues; ++i) absl::StrAppend(&values, ",1");
  EXPECT_THAT(ParseAuthorizationDetails(absl::StrCat("[{", good, R"(,"constraints":{"f":{"in":[)", values, "]}}}]")),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DetailsTest, TheDeepestValueIsReadWhereverItIsWritten) {
  const auto all = ParseAuthorizationDetails(
      R"([{"type":"mcp_tool_call","locations":["https://r"],"tools":["t"],"constraints":{"f":{"like":{"a":[{"b":[1]}]}}}}])");
  ASSERT_THAT(all, IsOk());
  AccessToken token = sample::Token();
  token.atoms = {Tool(kR, "t", all->front().constraints)};
  EXPECT_THAT(ParseClaims(ClaimsJson(token)), ::signet::testing::IsOkAndHolds(token));
  sample::Chain chain = sample::MakeChain();
  chain.hops[0].bounds = token.atoms;
  EXPECT_THAT(VerifyReceipt(chain.SignReceipts().front(), chain.receipt_keys()), IsOk());
}

TEST(DetailsTest, WhatWeAnswerCanBeAskedAgain) {
  const std::string answer = AuthorizationDetails(sample::Token().atoms, 50);
  const auto all = ParseAuthorizationDetails(answer);
  ASSERT_THAT(all, IsOk()) << answer;
  EXPECT_EQ(all->size(), 2u);  // two kinds of bounds
  EXPECT_EQ(AuthorizationDetails({Action(kR, "a")}, std::nullopt), "[]");
}

}  // namespace
}  // namespace signet::oauth
