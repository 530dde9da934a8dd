#include "agent/storage/sealed_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/failpoint/failpoint.h"
#include "common/fs/atomic_file.h"
#include "tests/testing/memory_dir.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::IsOkAndHolds;
using testing::StatusIs;

constexpr size_t kHeader = 16;

class SealedLogTest : public ::testing::Test {
 protected:
  SealedLog Open(const std::string& context = "test") {
    return SealedLog(dir_.file("log"), std::string(32, 'k'), context);
  }
  std::string Content() { return fs::ReadFile(dir_.file("log"), 1 << 20).value(); }
  void Overwrite(const std::string& content) {
    std::ofstream(dir_.file("log"), std::ios::binary | std::ios::trunc) << content;
    chmod(dir_.file("log").c_str(), 0600);
  }
  void Fill(int records) {
    SealedLog log = Open();
    for (int i = 0; i < records; ++i) SIGNET_ASSERT_OK(log.Append(absl::StrCat("record ", i)));
  }

  testing::MemoryDir dir_;
};

TEST_F(SealedLogTest, GivesBackWhatWasAppended) {
  Fill(2);
  SealedLog log = Open();
  EXPECT_THAT(log.Read(), IsOkAndHolds(ElementsAre("record 0", "record 1")));
  SIGNET_ASSERT_OK(log.Append(""));
  EXPECT_EQ(log.next(), 3u);
  EXPECT_THAT(Open().Read(), IsOkAndHolds(ElementsAre("record 0", "record 1", "")));
}

TEST_F(SealedLogTest, NoFileIsNoRecords) { EXPECT_THAT(Open().Read(), IsOkAndHolds(IsEmpty())); }

TEST_F(SealedLogTest, ForgetsTheOldestAndCountsOn) {
  Fill(3);
  SealedLog log = Open();
  SIGNET_ASSERT_OK(log.Read().status());
  SIGNET_ASSERT_OK(log.DropBefore(2));
  SIGNET_ASSERT_OK(log.Append("record 3"));
  SealedLog after = Open();
  EXPECT_THAT(after.Read(), IsOkAndHolds(ElementsAre("record 2", "record 3")));
  EXPECT_EQ(after.first(), 2u);
  SIGNET_ASSERT_OK(after.DropBefore(4));
  EXPECT_EQ(after.bytes(), 0u);
  EXPECT_EQ(Content().size(), kHeader);
}

TEST_F(SealedLogTest, EachRecordIsBoundToItsNumberAndToTheContext) {
  Fill(3);
  const std::string good = Content();
  const size_t size = (good.size() - kHeader) / 3;
  const std::string head = good.substr(0, kHeader), one = good.substr(kHeader, size),
                    two = good.substr(kHeader + size, size), three = good.substr(kHeader + 2 * size);
  for (const std::string& bad : {head + two + one + three, head + one + three, head + two + three, head + one + one}) {
    Overwrite(bad);
    EXPECT_THAT(Open().Read(), StatusIs(absl::StatusCode::kDataLoss));
  }
  Overwrite(good);
  EXPECT_THAT(Open("another").Read(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SealedLogTest, ACutEndIsIgnoredAndMendedByTheNextRecord) {
  Fill(2);
  const std::string good = Content();
  const size_t size = (good.size() - kHeader) / 2;
  for (size_t length = 0; length < good.size(); ++length) {
    Overwrite(good.substr(0, length));
    SealedLog log = Open();
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::vector<std::string> records, log.Read());
    ASSERT_EQ(records.size(), length < kHeader + size ? 0 : 1) << length;
    SIGNET_ASSERT_OK(log.Append("after"));
    ASSERT_EQ(Open().Read().value().back(), "after") << length;
  }
}

TEST_F(SealedLogTest, ZerosThatWereNeverFilledInAreACutEnd) {  // power lost between the size and the bytes
  Fill(2);
  const std::string good = Content();
  const size_t size = (good.size() - kHeader) / 2;
  for (size_t lost = 16; lost <= size; ++lost) {
    Overwrite(good.substr(0, good.size() - lost) + std::string(lost, '\0'));
    EXPECT_THAT(Open().Read(), IsOkAndHolds(ElementsAre("record 0"))) << lost;
  }
}

#ifdef SIGNET_FAILPOINTS
TEST_F(SealedLogTest, WhatFailedIsNotThereAndHarmsNothing) {
  Fill(1);
  SealedLog log = Open();
  SIGNET_ASSERT_OK(log.Read().status());
  failpoint::Arm("sealed_log.after_write=fail@1");
  EXPECT_THAT(log.Append("lost"), StatusIs(absl::StatusCode::kInternal));
  failpoint::Arm("");
  SIGNET_ASSERT_OK(log.Append("record 1"));
  EXPECT_THAT(Open().Read(), IsOkAndHolds(ElementsAre("record 0", "record 1")));
}
#endif

}  // namespace
}  // namespace signet::agent
