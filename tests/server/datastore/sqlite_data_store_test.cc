// What is SQLite's own: the file, its damage, the schema, kill -9 at each step, a commit that fails.
#include "server/datastore/sqlite_data_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_schema.h"
#include "tests/server/datastore/contract.h"

namespace signet::server {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}
void WriteAll(const std::string& path, absl::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
}
unsigned ModeOf(const std::string& path) {
  struct stat info = {};
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return info.st_mode & 0777;
}

class SqliteDataStoreTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<SqliteDataStore>> Open() { return SqliteDataStore::Open({.path = path_}); }
  // A database with a few hundred entries, closed.
  void Fill() {
    auto store = Open().value();
    std::vector<spiffe::Entry> entries;
    for (int i = 0; i < 500; ++i) entries.push_back(TestEntry(absl::StrCat("/workload/", i)));
    SIGNET_ASSERT_OK(testing::CreateEntries(*store, std::move(entries), absl::FromUnixSeconds(1'800'000'000)));
  }
  // Refused with this code, a message that names the file, and not a byte changed.
  void ExpectRefused(absl::StatusCode code, const std::string& text) {
    const std::string before = ReadAll(path_);
    EXPECT_THAT(Open(), StatusIs(code, AllOf(HasSubstr(path_), HasSubstr(text))));
    EXPECT_EQ(ReadAll(path_), before);
  }
  testing::TempDir dir_;
  const std::string path_ = dir_.file("server.db");
};

TEST_F(SqliteDataStoreTest, ADatabaseOfBeforeTheTokenServiceIsBroughtForward) {
  Fill();
  {
    auto db = SqliteConnection::Open(path_, SqliteConnection::Mode::kReadWrite).value();
    SIGNET_ASSERT_OK(db->ExecuteScript(
        "DROP TABLE identities; DROP TABLE issuers; DROP TABLE resources; DROP TABLE grants; DROP TABLE "
        "grant_resources;"
        "DROP TABLE tasks; DROP TABLE user_rights; DROP TABLE revocations; DROP TABLE once_values;"
        "DROP TABLE refresh_tokens; DROP TABLE audit_records; ALTER TABLE entries DROP COLUMN withdrawn;"
        "ALTER TABLE join_tokens DROP COLUMN spent_by; DROP TABLE token_calls; DROP TABLE federation_relationships;"
        "PRAGMA user_version = 1"));
  }
  auto store = Open().value();
  EXPECT_EQ(store->CountEntries({}).value(), 500u);
  EXPECT_FALSE(store->ListEntries({}, {.after = "", .limit = 1}).value().items.front().withdrawn);
  EXPECT_TRUE(store->ListIdentities({}).value().items.empty());
}

TEST_F(SqliteDataStoreTest, IsOpenToItsOwnerAlone) {
  auto store = Open().value();
  SIGNET_ASSERT_OK(testing::CreateEntries(*store, {TestEntry("/a")}, absl::FromUnixSeconds(1'800'000'000)));
  for (const char* suffix : {"", "-wal", "-shm"}) EXPECT_EQ(ModeOf(path_ + suffix), 0600u) << suffix;
}

TEST_F(SqliteDataStoreTest, ShutsAFileThatWasOpenToOthers) {
  Fill();
  chmod(path_.c_str(), 0644);
  SIGNET_ASSERT_OK(Open());
  EXPECT_EQ(ModeOf(path_), 0600u);
}

TEST_F(SqliteDataStoreTest, IsDurable) {
  auto connection = OpenSqliteDatabase(path_).value();
  EXPECT_EQ(connection->QueryInt("PRAGMA synchronous").value(), 2);  // FULL
  EXPECT_EQ(connection->Query("PRAGMA journal_mode").value().Next().value(), true);
}

TEST_F(SqliteDataStoreTest, RefusesANewerSchema) {
  Fill();
  {
    auto connection = OpenSqliteDatabase(path_).value();
    SIGNET_ASSERT_OK(connection->ExecuteScript(absl::StrCat("PRAGMA user_version=", SqliteSchemaVersion() + 1)));
  }
  ExpectRefused(absl::StatusCode::kFailedPrecondition, absl::StrCat("has schema ", SqliteSchemaVersion() + 1));
}

TEST_F(SqliteDataStoreTest, RefusesAnotherProgramsDatabase) {
  {
    auto connection = SqliteConnection::Open(path_, SqliteConnection::Mode::kCreate).value();
    SIGNET_ASSERT_OK(connection->ExecuteScript("CREATE TABLE t (x); PRAGMA journal_mode=WAL;"));
  }
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "another program");
}

TEST_F(SqliteDataStoreTest, NeverTakesDamageForANewDatabase) {
  Fill();
  const std::string good = ReadAll(path_);
  WriteAll(path_, "");
  ExpectRefused(absl::StatusCode::kDataLoss, "is empty");
  WriteAll(path_, std::string(4096, 'x'));
  ExpectRefused(absl::StatusCode::kDataLoss, "no SQLite database");
  WriteAll(path_, good.substr(0, 10));
  ExpectRefused(absl::StatusCode::kDataLoss, "no SQLite database");
  unlink(path_.c_str());
  WriteAll(path_ + "-wal", "x");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is gone")));
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(SqliteDataStoreTest, ADamagedPageIsNamedWhenItIsMet) {
  Fill();
  const std::string good = ReadAll(path_);
  int named = 0;
  for (size_t page = 0; page < good.size() / 4096; ++page) {
    std::string bad = good;
    for (size_t i = page == 0 ? 100 : 0; i < 4096; ++i) bad[page * 4096 + i] = static_cast<char>(0xa5 ^ i);
    WriteAll(path_, bad);
    auto store = Open();
    absl::Status status = store.status();
    if (status.ok()) status = (*store)->ListEntries({}, {}).status();
    if (status.ok()) continue;  // a page that the list does not read
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss)) << page;
    ++named;
  }
  EXPECT_GT(named, 3);
}

TEST_F(SqliteDataStoreTest, SaysWhatIsWrongWithTheFolder) {
  EXPECT_THAT(SqliteDataStore::Open({.path = dir_.file("none/server.db")}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("none/server.db")));
}

TEST_F(SqliteDataStoreTest, AHalfMadeNewDatabaseIsMadeAnew) {
  WriteAll(path_ + ".new", "half");
  Fill();
  EXPECT_EQ(Open().value()->CountEntries({}).value(), 500u);
  EXPECT_NE(access((path_ + ".new").c_str(), F_OK), 0);
}

TEST_F(SqliteDataStoreTest, PrunesTheFeedAndSaysSo) {
  auto store = SqliteDataStore::Open({.path = path_, .writer = {.feed_rows = 100}}).value();
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  for (int batch = 0; batch < 20; ++batch) {
    std::vector<spiffe::Entry> entries;
    for (int i = 0; i < 250; ++i) entries.push_back(TestEntry(absl::StrCat("/", batch, "/", i)));
    SIGNET_ASSERT_OK(testing::CreateEntries(*store, std::move(entries), now));
  }
  EXPECT_EQ(store->LastSeq().value(), 5000u);
  EXPECT_THAT(store->ReadChanges(0, 10), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_EQ(store->ReadChanges(4900, 0).value().size(), 100u);
}

TEST_F(SqliteDataStoreTest, WritesTheIssuanceLogByTheWay) {
  auto store = Open().value();
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  for (int i = 0; i < 1000; ++i) {
    store->Record(
        {.serial = absl::StrCat(i), .spiffe_id = "spiffe://example.org/a", .issued_at = now, .expires_at = now});
  }
  store.reset();  // what waits is written at the end at the latest
  auto connection = OpenSqliteDatabase(path_).value();
  EXPECT_EQ(connection->QueryInt("SELECT count(*) FROM issued_svids").value(), 1000);
  EXPECT_EQ(connection->QueryInt("SELECT count(*) FROM changes").value(), 0);
}

TEST_F(SqliteDataStoreTest, RefusesWritesBeyondItsQueueAndAnswersEveryOne) {
  auto store = SqliteDataStore::Open({.path = path_, .writer = {.queue_limit = 2}}).value();
  std::atomic<int> ok = 0, refused = 0;
  for (int i = 0; i < 2000; ++i) {
    store->CreateJoinToken({.token_sha256 = absl::StrCat(i), .expires_at = absl::InfiniteFuture()},
                           [&](const absl::Status& status) {
                             if (status.ok()) ++ok;
                             if (absl::IsResourceExhausted(status)) ++refused;
                           });
  }
  store.reset();
  EXPECT_EQ(ok + refused, 2000);
  EXPECT_GT(ok, 0);
}

// Runs one of the Child cases below in a process of its own with a failpoint armed; its wait status.
int RunChild(const std::string& name, const std::string& failpoint, const std::string& dir) {
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("SIGNET_FAILPOINT", failpoint.c_str(), 1);
    setenv("SIGNET_TEST_DIR", dir.c_str(), 1);
    const std::string filter = "--gtest_filter=SqliteDataStoreChild.DISABLED_" + name;
    const int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    execl("/proc/self/exe", "child", filter.c_str(), "--gtest_also_run_disabled_tests", nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

// A disk that is full, by a limit on the size of files: refused as such, nothing lost, and well again once there is
// room.
TEST(SqliteDataStoreChild, DISABLED_FillsTheDisk) {
  signal(SIGXFSZ, SIG_IGN);
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  auto store = SqliteDataStore::Open({.path = std::string(std::getenv("SIGNET_TEST_DIR")) + "/server.db"}).value();
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{512 * 1024, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::vector<std::string> acknowledged;
  absl::Status refused;
  for (int i = 0; refused.ok() && i < 10'000; ++i) {
    const auto results = testing::CreateEntries(*store, {TestEntry(absl::StrCat("/", i))}, now);
    refused = results.status();
    if (refused.ok()) acknowledged.push_back(results->front().record->id);
  }
  ASSERT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("disk")));
  // The little that a check writes may still have room.
  absl::Status check = store->Check();
  for (int i = 0; check.ok() && i < 100; ++i) {
    EXPECT_FALSE(testing::CreateEntries(*store, {TestEntry("/full")}, now).ok());
    check = store->Check();
  }
  EXPECT_THAT(check, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(store->CountEntries({}).value(), acknowledged.size());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  SIGNET_EXPECT_OK(store->Check());
  SIGNET_EXPECT_OK(testing::CreateEntries(*store, {TestEntry("/after")}, now));
  EXPECT_EQ(store->GetEntries(acknowledged).value().size(), acknowledged.size());
}

TEST_F(SqliteDataStoreTest, IsUnreadyWhileTheDiskIsFullAndWellAfterwards) {
  const int status = RunChild("FillsTheDisk", "", dir_.path());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

#ifdef SIGNET_FAILPOINTS

// Four threads write; what each was told goes to the file "acknowledged", a line an entry.
TEST(SqliteDataStoreChild, DISABLED_Writes) {
  const std::string dir = std::getenv("SIGNET_TEST_DIR");
  auto opened = SqliteDataStore::Open({.path = dir + "/server.db"});
  if (!opened.ok()) return;
  SqliteDataStore& store = **opened;
  const int acknowledged = open((dir + "/acknowledged").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int refused = open((dir + "/refused").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        spiffe::Entry entry = TestEntry(absl::StrCat("/", t, "/", i));
        entry.id = absl::StrCat(t, "-", i);
        const auto result = testing::CreateEntries(store, {entry}, absl::Now());
        const std::string line = entry.id + "\n";
        ASSERT_EQ(write(result.ok() ? acknowledged : refused, line.data(), line.size()),
                  static_cast<ssize_t>(line.size()));
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
}

TEST_F(SqliteDataStoreTest, WhatWasAcknowledgedSurvivesAKillAtEachStep) {
  for (const char* failpoint :
       {"sqlite.before_create=kill", "sqlite.after_create=kill", "sqlite.after_migration=kill",
        "sqlite.before_commit=kill@1", "sqlite.before_commit=kill@20", "sqlite.after_commit=kill@1",
        "sqlite.after_commit=kill@2", "sqlite.after_commit=kill@31"}) {
    SCOPED_TRACE(failpoint);
    testing::TempDir dir;
    const int status = RunChild("Writes", failpoint, dir.path());
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    SIGNET_ASSERT_OK_AND_ASSIGN(auto store, SqliteDataStore::Open({.path = dir.file("server.db")}));
    size_t count = 0;
    std::istringstream lines(ReadAll(dir.file("acknowledged")));
    for (std::string id; std::getline(lines, id); ++count) SIGNET_EXPECT_OK(store->GetEntry(id));
    // Each stored entry has its change, and none is half there.
    const auto changes = store->ReadChanges(0, 0).value();
    EXPECT_EQ(changes.size(), store->CountEntries({}).value());
    EXPECT_GE(changes.size(), count);
    for (const Change& change : changes) SIGNET_EXPECT_OK(store->GetEntry(change.key));
    SIGNET_EXPECT_OK(testing::CreateEntries(*store, {TestEntry("/after")}, absl::Now()));
  }
}

TEST_F(SqliteDataStoreTest, AFailedCommitFailsEveryCallerOfItsBatchAndNoOther) {
  testing::TempDir dir;
  const int status = RunChild("Writes", "sqlite.before_commit=fail@5", dir.path());
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  auto store = SqliteDataStore::Open({.path = dir.file("server.db")}).value();
  int count = 0, refused = 0;
  std::istringstream lines(ReadAll(dir.file("acknowledged"))), bad(ReadAll(dir.file("refused")));
  for (std::string id; std::getline(lines, id); ++count) SIGNET_EXPECT_OK(store->GetEntry(id));
  for (std::string id; std::getline(bad, id); ++refused) {
    EXPECT_THAT(store->GetEntry(id), StatusIs(absl::StatusCode::kNotFound));
  }
  EXPECT_EQ(count + refused, 160);
  EXPECT_GE(refused, 1);
  EXPECT_LE(refused, 4);
  EXPECT_EQ(store->CountEntries({}).value(), static_cast<size_t>(count));
}

#endif

}  // namespace
}  // namespace signet::server
