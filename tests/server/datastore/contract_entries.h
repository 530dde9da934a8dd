// The EntryStore part of the contract.
#pragma once

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/server/datastore/contract.h"

namespace signet::server {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class EntryContract : public StoreContract {
 protected:
  EntryResult Create(spiffe::Entry entry) {
    return testing::CreateEntries(store(), {std::move(entry)}, now_).value().front();
  }
  EntryResult Update(spiffe::Entry entry, EntryFields fields = {}) {
    return testing::Await<std::vector<EntryResult>>(
               [&](auto done) { store().UpdateEntries({std::move(entry)}, fields, std::move(done)); })
        .value()
        .front();
  }
  std::vector<absl::Status> Delete(std::vector<std::string> ids) {
    return testing::Await<std::vector<absl::Status>>(
               [&](auto done) { store().DeleteEntries(std::move(ids), std::move(done)); })
        .value();
  }
  // The paths of the entries that a filter lets through, gathered page by page.
  std::vector<std::string> List(const EntryFilter& filter, size_t page_size = 2) {
    std::vector<std::string> paths;
    PageRequest request{.after = "", .limit = page_size};
    do {
      const Page<spiffe::Entry> page = store().ListEntries(filter, request).value();
      EXPECT_LE(page.items.size(), page_size);
      for (const spiffe::Entry& entry : page.items) paths.emplace_back(entry.spiffe_id.path());
      request.after = page.next;
    } while (!request.after.empty());
    EXPECT_EQ(store().CountEntries(filter).value(), paths.size());
    return paths;
  }
};

TEST_P(EntryContract, KeepsEveryField) {
  spiffe::Entry entry = TestEntry("/all", {"unix:uid:1", "k8s:ns:a:b"});
  entry.id = "my-entry";
  entry.x509_svid_ttl = absl::Seconds(61);
  entry.jwt_svid_ttl = absl::Seconds(62);
  entry.federates_with = {"a.test", "b.test"};
  entry.dns_names = {"z.example.org", "a.example.org"};
  entry.hint = "internal";
  entry.admin = entry.downstream = entry.store_svid = true;
  entry.disable_x509_svid_prefetch = entry.jwt_svid_include_jti = true;
  entry.expires_at = now_ + absl::Hours(1);
  const EntryResult created = Create(entry);
  SIGNET_ASSERT_OK(created.status);
  entry.created_at = now_;
  EXPECT_EQ(created.record, entry);
  Reopen();
  EXPECT_EQ(store().GetEntry("my-entry").value(), entry);
  EXPECT_THAT(store().GetEntries({"none", "my-entry"}).value(), ElementsAre(entry));
}

TEST_P(EntryContract, GivesAnIdAndRevisionZero) {
  spiffe::Entry entry = TestEntry("/a");
  entry.revision = 7;
  const EntryResult created = Create(entry);
  SIGNET_ASSERT_OK(created.status);
  EXPECT_EQ(created.record->id.size(), 36u);
  EXPECT_EQ(created.record->revision, 0);
}

TEST_P(EntryContract, RefusesADuplicateAndShowsTheOneThatIsThere) {
  const EntryResult first = Create(TestEntry("/a", {"unix:uid:1", "unix:gid:2"}));
  const EntryResult second = Create(TestEntry("/a", {"unix:gid:2", "unix:uid:1"}));
  EXPECT_THAT(second.status, StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(first.record->id)));
  EXPECT_EQ(second.record, first.record);
  SIGNET_EXPECT_OK(Create(TestEntry("/a", {"unix:uid:1"})).status);
  SIGNET_EXPECT_OK(Create(TestEntry("/a", {"unix:uid:1", "unix:gid:2"}, "/spire/agent/y")).status);
}

TEST_P(EntryContract, SelectorsThatOnlyLookAlikeAreDifferent) {
  SIGNET_EXPECT_OK(Create(TestEntry("/a", {"a:b:c"})).status);
  SIGNET_EXPECT_OK(Create(TestEntry("/a", {"a:b", "a:c"})).status);
}

TEST_P(EntryContract, RefusesAnIdThatIsTaken) {
  spiffe::Entry entry = TestEntry("/a");
  entry.id = "same";
  SIGNET_ASSERT_OK(Create(entry).status);
  entry.spiffe_id = TestId("/b");
  const EntryResult second = Create(entry);
  EXPECT_THAT(second.status, StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(second.record->spiffe_id, TestId("/a"));
}

TEST_P(EntryContract, OneBadItemLeavesTheOthers) {
  const auto results =
      testing::CreateEntries(store(), {TestEntry("/a"), TestEntry("/a"), TestEntry("/b")}, now_).value();
  EXPECT_THAT(results[0].status, IsOk());
  EXPECT_THAT(results[1].status, StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(results[2].status, IsOk());
  EXPECT_THAT(List({}), ElementsAre("/a", "/b"));
}

TEST_P(EntryContract, UpdatesOnlyTheFieldsAskedForAndBumpsTheRevision) {
  spiffe::Entry entry = *Create(TestEntry("/a")).record;
  spiffe::Entry wanted = TestEntry("/b", {"unix:uid:9"});
  wanted.id = entry.id;
  wanted.hint = "new";
  EntryFields only_hint{false, false, false, false, false, false, false, true, false, false, false, false, false};
  EntryResult updated = Update(wanted, only_hint);
  SIGNET_ASSERT_OK(updated.status);
  entry.hint = "new";
  entry.revision = 1;
  EXPECT_EQ(updated.record, entry);

  updated = Update(wanted);
  SIGNET_ASSERT_OK(updated.status);
  EXPECT_EQ(updated.record->spiffe_id, TestId("/b"));
  EXPECT_EQ(updated.record->revision, 2);
  EXPECT_EQ(updated.record->created_at, entry.created_at);
  EXPECT_EQ(store().GetEntry(entry.id).value(), *updated.record);
  const SelectorFilter by_new{TestSelectors({"unix:uid:9"}), Match::kExact};
  EXPECT_THAT(List({.selectors = by_new}), ElementsAre("/b"));
  const SelectorFilter by_old{TestSelectors({"unix:uid:1"}), Match::kAny};
  EXPECT_THAT(List({.selectors = by_old}), ElementsAre());
}

TEST_P(EntryContract, UpdateRefusesToMakeADuplicate) {
  const spiffe::Entry first = *Create(TestEntry("/a")).record;
  const spiffe::Entry second = *Create(TestEntry("/b")).record;
  spiffe::Entry wanted = first;
  wanted.id = second.id;
  const EntryResult updated = Update(wanted);
  EXPECT_THAT(updated.status, StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(updated.record, first);
  EXPECT_EQ(store().GetEntry(second.id).value(), second);
}

TEST_P(EntryContract, UpdateAndDeleteNameWhatIsNotThere) {
  spiffe::Entry entry = TestEntry("/a");
  entry.id = "none";
  EXPECT_THAT(Update(entry).status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(Delete({"none"}), ElementsAre(StatusIs(absl::StatusCode::kNotFound, HasSubstr("none"))));
  EXPECT_THAT(store().GetEntry("none"), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(EntryContract, DeletesAndTheSamePlaceCanBeTakenAgain) {
  const spiffe::Entry entry = *Create(TestEntry("/a")).record;
  EXPECT_THAT(Delete({entry.id, "none"}), ElementsAre(IsOk(), StatusIs(absl::StatusCode::kNotFound)));
  EXPECT_THAT(List({}), ElementsAre());
  EXPECT_EQ(store().CountEntries({}).value(), 0u);
  SIGNET_EXPECT_OK(Create(TestEntry("/a")).status);
}

TEST_P(EntryContract, PrunesWhatHasExpiredAndNothingElse) {
  spiffe::Entry ended = TestEntry("/ended"), ends_now = TestEntry("/now"), later = TestEntry("/later");
  ended.expires_at = now_ - absl::Seconds(1);
  ends_now.expires_at = now_;
  later.expires_at = now_ + absl::Seconds(1);
  for (const auto& entry : {ended, ends_now, later, TestEntry("/never")}) SIGNET_ASSERT_OK(Create(entry).status);
  const auto prune = [&] {
    return testing::Await<size_t>([&](auto done) { store().PruneExpiredEntries(now_, 1, std::move(done)); }).value();
  };
  EXPECT_EQ(prune(), 1u);  // at most the limit
  EXPECT_EQ(prune(), 1u);
  EXPECT_EQ(prune(), 0u);
  EXPECT_THAT(List({}), ElementsAre("/later", "/never"));
}

TEST_P(EntryContract, ListsInStablePages) {
  for (int i = 0; i < 7; ++i) SIGNET_ASSERT_OK(Create(TestEntry(absl::StrCat("/", i))).status);
  EXPECT_THAT(List({}, 3), ElementsAre("/0", "/1", "/2", "/3", "/4", "/5", "/6"));
  EXPECT_THAT(List({}, 7).size(), 7u);
  EXPECT_EQ(store().ListEntries({}, {}).value().items.size(), 7u);  // no limit: all

  // Between pages what was seen may go and more may come: nothing is shown twice, nothing that stayed is left out.
  const Page<spiffe::Entry> first = store().ListEntries({}, {.after = "", .limit = 3}).value();
  Delete({first.items[2].id});
  SIGNET_ASSERT_OK(Create(TestEntry("/new")).status);
  std::vector<std::string> rest;
  const Page<spiffe::Entry> second = store().ListEntries({}, {.after = first.next, .limit = 10}).value();
  for (const spiffe::Entry& entry : second.items) rest.emplace_back(entry.spiffe_id.path());
  EXPECT_THAT(rest, ElementsAre("/3", "/4", "/5", "/6", "/new"));
  EXPECT_THAT(store().ListEntries({}, {.after = "'; --", .limit = 1}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(EntryContract, FiltersByPlainFieldsAlone) {
  spiffe::Entry hinted = TestEntry("/hinted"), down = TestEntry("/down");
  hinted.hint = "external";
  down.downstream = true;
  for (const auto& entry : {hinted, down, TestEntry("/plain"), TestEntry("/plain", {"unix:uid:1"}, "/spire/agent/y")}) {
    SIGNET_ASSERT_OK(Create(entry).status);
  }
  EXPECT_THAT(List({.hint = "external"}), ElementsAre("/hinted"));
  EXPECT_THAT(List({.hint = ""}).size(), 3u);
  EXPECT_THAT(List({.downstream = true}), ElementsAre("/down"));
  EXPECT_THAT(List({.downstream = false}).size(), 3u);
  EXPECT_THAT(List({.spiffe_id = TestId("/plain")}), ElementsAre("/plain", "/plain"));
  EXPECT_THAT(List({.parent_id = TestId("/spire/agent/y")}), ElementsAre("/plain"));
  EXPECT_THAT(List({.spiffe_id = TestId("/plain"), .parent_id = TestId("/spire/agent/x")}), ElementsAre("/plain"));
  EXPECT_THAT(List({.spiffe_id = TestId("/nobody")}), ElementsAre());
}

// Every subset of five values against every match behaviour, against the definition (SPIRE's, record_filter.h).
TEST_P(EntryContract, MatchesSetsByDefinition) {
  const std::vector<std::string> values = {"a", "b", "c", "d", "e"};
  std::map<std::string, std::set<std::string>> sets;
  std::vector<spiffe::Entry> entries;
  for (int mask = 1; mask < 32; mask += 2) {
    spiffe::Entry entry = TestEntry(absl::StrCat("/", mask), {"x:a"});
    entry.selectors.clear();
    for (int i = 0; i < 5; ++i) {
      if ((mask >> i & 1) == 0) continue;
      sets[absl::StrCat("/", mask)].insert(values[i]);
      entry.selectors.push_back({"x", values[i]});
      entry.federates_with.push_back(values[i]);
    }
    entries.push_back(entry);
  }
  const std::vector<EntryResult> created = testing::CreateEntries(store(), entries, now_).value();
  for (const EntryResult& result : created) SIGNET_ASSERT_OK(result.status);

  for (int mask = 1; mask < 32; ++mask) {
    std::set<std::string> wanted;
    SelectorFilter selectors;
    FederatesWithFilter federates_with;
    for (int i = 0; i < 5; ++i) {
      if ((mask >> i & 1) == 0) continue;
      wanted.insert(values[i]);
      selectors.selectors.push_back({"x", values[i]});
      federates_with.trust_domains.push_back(values[i]);
    }
    for (Match match : {Match::kExact, Match::kSubset, Match::kSuperset, Match::kAny}) {
      std::vector<std::string> expected;
      for (const auto& [path, set] : sets) {
        const bool within = std::includes(wanted.begin(), wanted.end(), set.begin(), set.end());
        const bool holds = std::includes(set.begin(), set.end(), wanted.begin(), wanted.end());
        const bool touches = std::any_of(set.begin(), set.end(), [&](const auto& v) { return wanted.contains(v); });
        if ((match == Match::kExact && within && holds) || (match == Match::kSubset && within) ||
            (match == Match::kSuperset && holds) || (match == Match::kAny && touches)) {
          expected.push_back(path);
        }
      }
      selectors.match = federates_with.match = match;
      EXPECT_THAT(List({.selectors = selectors}, 3), ::testing::UnorderedElementsAreArray(expected));
      EXPECT_THAT(List({.federates_with = federates_with}, 3), ::testing::UnorderedElementsAreArray(expected));
      EXPECT_THAT(List({.selectors = selectors, .federates_with = federates_with}, 3),
                  ::testing::UnorderedElementsAreArray(expected));
    }
  }
}

TEST_P(EntryContract, AnEntryWithoutMembersIsInNoSubset) {
  SIGNET_ASSERT_OK(Create(TestEntry("/a")).status);  // federates with nobody
  for (Match match : {Match::kExact, Match::kSubset, Match::kSuperset, Match::kAny}) {
    EXPECT_THAT(List({.federates_with = FederatesWithFilter{{"x.test"}, match}}), ElementsAre());
  }
}

TEST_P(EntryContract, RefusesToListByAnEmptySet) {
  EXPECT_THAT(store().ListEntries({.selectors = SelectorFilter{}}, {}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store().CountEntries({.federates_with = FederatesWithFilter{}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(EntryContract, TakesALongFilter) {
  SIGNET_ASSERT_OK(Create(TestEntry("/a", {"x:7"})).status);
  SelectorFilter filter;
  for (int i = 0; i < 1000; ++i) filter.selectors.push_back({"x", absl::StrCat(i)});
  spiffe::Normalize(filter.selectors);
  for (Match match : {Match::kSubset, Match::kAny}) {
    filter.match = match;
    EXPECT_THAT(List({.selectors = filter}), ElementsAre("/a"));
  }
  for (Match match : {Match::kExact, Match::kSuperset}) {
    filter.match = match;
    EXPECT_THAT(List({.selectors = filter}), ElementsAre());
  }
}

TEST_P(EntryContract, SelectorValuesAreBytes) {
  spiffe::Entry entry = TestEntry("/a");
  entry.selectors = {{"x", "it's \"quoted\"; DROP TABLE entries; -- \n %_"}};
  SIGNET_ASSERT_OK(Create(entry).status);
  EXPECT_THAT(List({.selectors = SelectorFilter{entry.selectors, Match::kExact}}), ElementsAre("/a"));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(EntryContract);

}  // namespace signet::server
