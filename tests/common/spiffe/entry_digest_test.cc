#include "common/spiffe/entry_digest.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace signet::spiffe {
namespace {

const absl::Time kCreated = absl::FromUnixSeconds(1'800'000'000);

TEST(EntryDigestTest, OfNothingIsTheHashOfNothing) {
  EXPECT_EQ(absl::BytesToHexString(EntryDigest({})),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(EntryDigestTest, DoesNotDependOnTheOrderGiven) {
  EXPECT_EQ(EntryDigest({{"a", 1, kCreated}, {"b", 2, kCreated}}),
            EntryDigest({{"b", 2, kCreated}, {"a", 1, kCreated}}));
}

TEST(EntryDigestTest, ChangesWithEachPartOfAVersion) {
  const std::string digest = EntryDigest({{"a", 1, kCreated}});
  EXPECT_NE(digest, EntryDigest({{"b", 1, kCreated}}));
  EXPECT_NE(digest, EntryDigest({{"a", 2, kCreated}}));
  EXPECT_NE(digest, EntryDigest({{"a", 1, kCreated + absl::Seconds(1)}}));
  EXPECT_NE(digest, EntryDigest({{"a", 1, kCreated}, {"b", 1, kCreated}}));
}

TEST(EntryDigestTest, IdsCannotRunIntoEachOther) {
  EXPECT_NE(EntryDigest({{"ab", 0, kCreated}}), EntryDigest({{"a", 0, kCreated}, {"b", 0, kCreated}}));
}

}  // namespace
}  // namespace signet::spiffe
