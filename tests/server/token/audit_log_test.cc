#include "server/token/audit_log.h"

#include <algorithm>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/crypto/digest.h"
#include "server/token/audit_chain.h"
#include "server/token/audit_record.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_token_signer.h"
#include "tests/fakes/fake_token_use_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::HasSubstr;

class AuditLogTest : public ::testing::Test {
 protected:
  std::unique_ptr<AuditLog> Open(AuditLog::Options options = {.server_id = "s1"}) {
    return AuditLog::Create(std::move(options), store_, signer_, clock_).value();
  }
  absl::Status Append(AuditLog& log, const std::string& event, Consume consume = {}) {
    std::promise<absl::Status> done;
    log.Append({{"event", event}}, std::move(consume), [&](const absl::Status& s) { done.set_value(s); });
    return done.get_future().get();
  }
  // One round of the head's worker, seen to its end.
  void Tick(AuditLog& log) {
    clock_.AwaitWaiters(1);
    const std::string before = log.head();
    clock_.Advance(absl::Seconds(10));
    while (log.head() == before) std::this_thread::yield();
  }
  AuditLog::Verification Verify(AuditLog& log, const std::string& head = "") { return log.Verify("s1", head); }

  fakes::FakeClock clock_;
  fakes::FakeTokenUseStore store_;
  fakes::FakeTokenSigner signer_;
};

TEST_F(AuditLogTest, ChainsRecordsInTheOrderOfTheirCommit) {
  auto log = Open();
  SIGNET_EXPECT_OK(Append(*log, "one"));
  SIGNET_EXPECT_OK(Append(*log, "two"));
  const auto records = store_.audit();
  ASSERT_EQ(records.size(), 3u);  // the first says that the log was opened
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(records[i].seq, i + 1);
  EXPECT_THAT(records[2].body, HasSubstr("\"event\":\"two\""));
  const auto result = Verify(*log);
  EXPECT_TRUE(result.proven) << result.problem;
  EXPECT_EQ(result.records, 3u);
}

TEST_F(AuditLogTest, BodyIsCanonicalJson) {
  auto log = Open();
  SIGNET_EXPECT_OK(Append(*log, "one"));
  for (const AuditRecord& record : store_.audit()) {
    EXPECT_EQ(record.body, oauth::Canonical(boost::json::parse(record.body)));
  }
}

TEST_F(AuditLogTest, T10WhatIsRefusedLeavesNoGap) {
  auto log = Open();
  Consume consume;
  consume.once = {{"jti", clock_.Now() + absl::Minutes(1)}};
  SIGNET_EXPECT_OK(Append(*log, "one", consume));
  EXPECT_THAT(Append(*log, "again", consume), StatusIs(absl::StatusCode::kAlreadyExists));
  SIGNET_EXPECT_OK(Append(*log, "two"));
  EXPECT_TRUE(Verify(*log).proven);
  EXPECT_EQ(Verify(*log).records, 3u);
}

TEST_F(AuditLogTest, T10VerifyNamesTheChangedRecord) {
  auto log = Open();
  for (int i = 0; i < 4; ++i) SIGNET_EXPECT_OK(Append(*log, "e"));
  auto records = store_.audit();
  records[2].body[records[2].body.size() - 2] ^= 1;
  store_.SetAudit(records);
  EXPECT_THAT(Verify(*log).problem, HasSubstr("record 3"));
  records[2].hash = crypto::Sha256(records[2].body);  // who can write the body can write the hash
  store_.SetAudit(records);
  EXPECT_FALSE(Verify(*log).proven);
}

TEST_F(AuditLogTest, T10VerifyNamesAConsistentlyChangedRecord) {
  auto log = Open();
  for (int i = 0; i < 4; ++i) SIGNET_EXPECT_OK(Append(*log, "event-before"));
  auto records = store_.audit();
  records[2].body.replace(records[2].body.find("event-before"), 12, "event-behind");
  records[2].hash = crypto::Sha256(records[2].body);
  store_.SetAudit(records);
  EXPECT_THAT(Verify(*log).problem, HasSubstr("record 4"));  // does not follow it any more
}

TEST_F(AuditLogTest, T10VerifyNamesTheRemovedRecord) {
  auto log = Open();
  for (int i = 0; i < 4; ++i) SIGNET_EXPECT_OK(Append(*log, "e"));
  auto records = store_.audit();
  records.erase(records.begin() + 1);
  store_.SetAudit(records);
  EXPECT_THAT(Verify(*log).problem, HasSubstr("record 2 of server \"s1\""));
  EXPECT_THAT(Verify(*log).problem, HasSubstr("missing"));
}

TEST_F(AuditLogTest, T10VerifyNamesTheReorderedRecord) {
  auto log = Open();
  for (int i = 0; i < 4; ++i) SIGNET_EXPECT_OK(Append(*log, "e"));
  auto records = store_.audit();
  std::swap(records[1].body, records[2].body);
  std::swap(records[1].hash, records[2].hash);
  store_.SetAudit(records);
  EXPECT_THAT(Verify(*log).problem, HasSubstr("record 3 stands in its place"));
}

TEST_F(AuditLogTest, T10TruncationIsSeenByAnOutsideHead) {
  auto log = Open();
  for (int i = 0; i < 4; ++i) SIGNET_EXPECT_OK(Append(*log, "e"));
  Tick(*log);
  const std::string head = log->head();
  auto records = store_.audit();
  records.resize(3);
  store_.SetAudit(records);
  const auto alone = Verify(*log);
  EXPECT_TRUE(alone.proven);  // without a head nothing shows, and it says so
  EXPECT_FALSE(alone.tail_proven);
  EXPECT_THAT(alone.problem, HasSubstr("tail unproven"));
  const auto with_head = Verify(*log, head);
  EXPECT_FALSE(with_head.proven);
  EXPECT_THAT(with_head.problem, HasSubstr("record 4"));
}

TEST_F(AuditLogTest, T10AChainWrittenAnewDoesNotFitTheHead) {
  auto log = Open();
  SIGNET_EXPECT_OK(Append(*log, "e"));
  Tick(*log);
  const std::string head = log->head();
  auto records = store_.audit();
  const uint64_t epoch = records[0].epoch;
  std::string previous;
  for (size_t i = 0; i < records.size(); ++i) {
    records[i].body = AuditBody({{"event", "forged"}, {"epoch", epoch}, {"server", "s1"}})(i + 1, previous);
    records[i].hash = previous = crypto::Sha256(records[i].body);
  }
  store_.SetAudit(records);
  EXPECT_TRUE(Verify(*log).proven);
  EXPECT_THAT(Verify(*log, head).problem, HasSubstr("written anew"));
}

TEST_F(AuditLogTest, T10TheTailIsProvenByAYoungHeadOnly) {
  auto log = Open();
  Tick(*log);
  const std::string head = log->head();
  EXPECT_TRUE(Verify(*log, head).tail_proven);
  clock_.Advance(absl::Seconds(21));
  EXPECT_FALSE(Verify(*log, head).tail_proven);
  EXPECT_TRUE(Verify(*log, head).proven);
}

TEST_F(AuditLogTest, T10HeadsComeWhenIdleAndWhenBusy) {
  std::atomic<int> heads = 0;
  auto log = Open({.server_id = "s1", .head_records = 5});
  clock_.AwaitWaiters(1);  // the first round is over
  log->SetOnHead([&](const std::string&) { ++heads; });
  Tick(*log);
  while (heads < 1) std::this_thread::yield();
  for (int i = 0; i < 6; ++i) SIGNET_EXPECT_OK(Append(*log, "e"));
  while (heads < 2) std::this_thread::yield();
}

TEST_F(AuditLogTest, T5AHeadMustBeSignedAsAHead) {
  auto log = Open();
  const std::string other = signer_.SignRecord("signet-receipt+jwt", AuditHeadJson({.server_id = "s1"})).value();
  EXPECT_FALSE(Verify(*log, other).proven);
  fakes::FakeTokenSigner stranger;
  const std::string foreign =
      stranger.SignRecord(kAuditHeadType, AuditHeadJson({.server_id = "s1", .at = clock_.Now()})).value();
  EXPECT_FALSE(Verify(*log, foreign).proven);
}

TEST_F(AuditLogTest, T10RefusalsOfStrangersCannotFillTheLog) {
  auto log = Open();
  clock_.AwaitWaiters(1);
  const std::string error_id = log->CountRefusal("signature", "192.0.2.1:4711");
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(log->CountRefusal("certificate", "192.0.2.2:1"), error_id);
  Tick(*log);
  const auto records = store_.audit();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_THAT(records[1].body, HasSubstr(error_id));
  EXPECT_THAT(records[1].body, HasSubstr("\"certificate\":1000"));
  EXPECT_NE(log->CountRefusal("signature", "192.0.2.1:1"), error_id);
}

TEST_F(AuditLogTest, GoesOnWithItsChainAfterARestart) {
  Open();
  auto log = Open();
  EXPECT_TRUE(Verify(*log).proven);
  EXPECT_EQ(store_.audit().front().epoch, store_.audit().back().epoch);
}

TEST_F(AuditLogTest, T10ALostDatabaseIsAnotherEpochAndTheOldHeadShowsIt) {
  std::string head;
  {
    auto log = Open();
    Tick(*log);
    head = log->head();
  }
  store_.SetAudit({});
  clock_.Advance(absl::Seconds(1));
  auto log = Open();
  EXPECT_TRUE(Verify(*log).proven);
  EXPECT_THAT(Verify(*log, head).problem, HasSubstr("is gone"));
}

std::vector<std::string> LinesOf(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return absl::StrSplit(text.str(), '\n', absl::SkipEmpty());
}

TEST_F(AuditLogTest, ExportsEveryRecordToTheFileOnce) {
  testing::TempDir dir;
  const std::string path = dir.file("audit.jsonl");
  for (int run = 0; run < 2; ++run) {
    auto log = Open({.server_id = "s1", .export_path = path});
    for (int i = 0; i < 3; ++i) SIGNET_EXPECT_OK(Append(*log, "e"));
  }
  std::vector<std::string> lines = LinesOf(path);
  std::erase_if(lines, [](const std::string& line) { return absl::StartsWith(line, "{\"head\""); });
  const auto records = store_.audit();
  ASSERT_EQ(lines.size(), records.size());
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], records[i].body);
}

TEST_F(AuditLogTest, ExportGoesOnAfterATornLine) {
  testing::TempDir dir;
  const std::string path = dir.file("audit.jsonl");
  { auto log = Open({.server_id = "s1", .export_path = path}); }
  std::ofstream(path, std::ios::app) << R"({"event":"half)";
  { auto log = Open({.server_id = "s1", .export_path = path}); }
  std::vector<std::string> lines = LinesOf(path);
  const auto records = store_.audit();
  for (const AuditRecord& record : records) EXPECT_EQ(std::count(lines.begin(), lines.end(), record.body), 1);
}

TEST_F(AuditLogTest, RefusesToExportOverPlainHttp) {
  const auto log =
      AuditLog::Create({.server_id = "s1", .export_url = "http://collector.example.org/"}, store_, signer_, clock_);
  EXPECT_THAT(log, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("https")));
}

// A client names up to 512 atoms in a request: what is written of it can still be read and verified.
TEST(AuditRecordTest, NamesSoManyAtomsAndCountsTheRest) {
  DecisionInput input;
  for (int i = 0; i < 100; ++i) input.requested.push_back({.resource = "https://r.example.org", .action = absl::StrCat("a", i)});
  const boost::json::object asked = AuditAsked("g", input);
  const boost::json::array& named = asked.at("atoms").as_array();
  ASSERT_EQ(named.size(), 65u);
  EXPECT_EQ(named.back().as_string(), "and 36 more");
}

}  // namespace
}  // namespace signet::server
