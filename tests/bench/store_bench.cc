// The datastore and the entry index by themselves, within this process: what the rows of the server stand on.
//   store_bench [ENTRIES [ROW]]   default 100000, all rows; needs a few hundred MB in $TMPDIR
// Prints P11, P12, P13, P17 and P20 of the performance budget, and the bare SQLite commit beside them.
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/crypto/random.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_data_store.h"
#include "server/entries/entry_index.h"
#include "server/entries/feed_applier.h"
#include "tests/bench/measure.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_store.h"

namespace signet::bench {
namespace {

using server::EntryResult;
using server::SqliteDataStore;

const spiffe::TrustDomain& Domain() {
  static const auto* const domain = new spiffe::TrustDomain(spiffe::TrustDomain::Parse("example.org").value());
  return *domain;
}
spiffe::Id IdOf(absl::string_view path) { return spiffe::Id::FromPath(Domain(), path).value(); }

// As they are in a cluster: a node alias, the namespace and the service account in the path, three selectors.
spiffe::Entry EntryOf(size_t i, size_t per_parent) {
  spiffe::Entry entry{.id = {},
                      .spiffe_id = IdOf(absl::StrCat("/ns/team-", i % 97, "/sa/service-", i)),
                      .parent_id = IdOf(absl::StrCat("/cluster/prod/node-", i / per_parent)),
                      .selectors = {{"k8s", absl::StrCat("ns:team-", i % 97)},
                                    {"k8s", absl::StrCat("sa:service-", i)},
                                    {"unix", "uid:1000"}},
                      .federates_with = {},
                      .dns_names = {},
                      .hint = {}};
  return entry;
}

absl::Duration Since(absl::Time start) { return absl::Now() - start; }

void CreateOneByOne(server::DataStore& store, int callers, std::atomic<size_t>& next, absl::string_view budget) {
  constexpr absl::Duration kLength = absl::Seconds(3);
  std::vector<Samples> samples(callers);
  const double cpu = CpuSeconds(getpid());
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (int c = 0; c < callers; ++c) {
    threads.emplace_back([&, c] {
      while (Since(start) < kLength) {
        const absl::Time begin = absl::Now();
        if (!testing::CreateEntries(store, {EntryOf(next++, 600)}, absl::Now()).ok()) abort();
        samples[c].Add(Since(begin));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = absl::ToDoubleSeconds(Since(start));
  for (int c = 1; c < callers; ++c) samples[0].Append(samples[c]);
  PrintRow("P11", absl::StrCat("create entry, ", callers, callers == 1 ? " caller" : " callers"),
           absl::StrFormat("%.0f/s, p50 %s, p99 %s, %.0f us CPU each", static_cast<double>(samples[0].size()) / seconds,
                           Micros(samples[0].Percentile(0.5)), Micros(samples[0].Percentile(0.99)),
                           (CpuSeconds(getpid()) - cpu) * 1e6 / static_cast<double>(samples[0].size())),
           budget);
}

// The floor: one row, one commit, one fsync.
void BareCommit(const std::string& path) {
  auto db = server::SqliteConnection::Open(path, server::SqliteConnection::Mode::kCreate).value();
  if (!db->ExecuteScript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
           .ok()) {
    abort();
  }
  const std::string row(400, 'x');
  const absl::Time start = absl::Now();
  int count = 0;
  for (; Since(start) < absl::Seconds(2); ++count) {
    if (!db->Run("INSERT INTO t (b) VALUES (?)", row).ok()) abort();
  }
  PrintRow("", "bare SQLite commit of one row, WAL, FULL",
           absl::StrFormat("%.0f/s", count / absl::ToDoubleSeconds(Since(start))), "");
}

void PrintRows(absl::string_view what, size_t rows, absl::Time start, double cpu_before) {
  const double count = static_cast<double>(rows);
  PrintRow("P12", what,
           absl::StrFormat("%.0f rows/s, %.1f us CPU a row", count / absl::ToDoubleSeconds(Since(start)),
                           (CpuSeconds(getpid()) - cpu_before) * 1e6 / count),
           "30 000");
}

// Into a store that holds what it holds: indexes of a large one no longer fit the writer's cache.
void Batches(server::DataStore& store, std::atomic<size_t>& next) {
  const size_t held = store.CountEntries({}).value();
  constexpr int kBatches = 40;
  std::vector<std::string> ids;
  double cpu = CpuSeconds(getpid());
  absl::Time start = absl::Now();
  for (int b = 0; b < kBatches; ++b) {
    std::vector<spiffe::Entry> entries;
    for (int i = 0; i < 500; ++i) entries.push_back(EntryOf(next++, 600));
    const auto results = testing::CreateEntries(store, std::move(entries), absl::Now()).value();
    for (const EntryResult& result : results) ids.push_back(result.record->id);
  }
  PrintRows(absl::StrCat("create by 500 beside ", held, " entries"), ids.size(), start, cpu);
  cpu = CpuSeconds(getpid());
  start = absl::Now();
  for (int b = 0; b < kBatches; ++b) {
    std::vector<std::string> batch(ids.begin() + b * 500, ids.begin() + (b + 1) * 500);
    if (!testing::Await<std::vector<absl::Status>>([&](auto done) {
           store.DeleteEntries(std::move(batch), std::move(done));
         }).ok()) {
      abort();
    }
  }
  PrintRows(absl::StrCat("delete by 500 beside ", held, " entries"), ids.size(), start, cpu);
}

void Lists(server::DataStore& store) {
  Samples pages, by_selector;
  server::PageRequest request{.after = "", .limit = 500};
  do {
    const absl::Time start = absl::Now();
    const auto page = store.ListEntries({}, request).value();
    pages.Add(Since(start));
    request.after = page.next;
  } while (!request.after.empty() && pages.size() < 200);
  PrintRow("P13", absl::StrCat("list page of 500, ", store.CountEntries({}).value(), " entries"),
           absl::StrFormat("p50 %s, p99 %s", Micros(pages.Percentile(0.5)), Micros(pages.Percentile(0.99))), "3 ms");
  for (int i = 0; i < 50; ++i) {
    const server::SelectorFilter filter{{{"k8s", absl::StrCat("ns:team-", i)}}, server::Match::kSuperset};
    const absl::Time start = absl::Now();
    if (store.ListEntries({.selectors = filter}, {.after = "", .limit = 500})->items.size() < 100) abort();
    by_selector.Add(Since(start));
  }
  PrintRow("P13", "list page of 500 by a selector of 1 %", Micros(by_selector.Percentile(0.5)), "");
  const absl::Time start = absl::Now();
  for (int i = 0; i < 100; ++i) (void)store.CountEntries({});
  PrintRow("P13", "count", Micros(Since(start) / 100), "1 ms");
}

void Index(server::DataStore& store, size_t entries) {
  malloc_trim(0);
  const double before = RssMegabytes(getpid());
  SystemClock clock;
  const absl::Time start = absl::Now();
  auto index = server::EntryIndex::Create(Domain());
  auto applier = server::FeedApplier::Create(store, *index, clock).value();
  const absl::Duration load = Since(start);
  malloc_trim(0);
  const double grown = RssMegabytes(getpid()) - before;
  PrintRow("P17", absl::StrCat("load ", entries, " entries into the index"),
           absl::StrFormat("%s, %.0f MB, %.0f bytes an entry", Micros(load), grown,
                           grown * 1e6 / static_cast<double>(entries)),
           "1.5 s, 130 MB in all");
}

void AuthorizedSet(size_t entries) {
  auto index = server::EntryIndex::Create(Domain());
  server::EntryIndex::Update update{.seq = 1};
  for (size_t i = 0; i < entries; ++i) {
    spiffe::Entry entry = EntryOf(i, 600);
    entry.id = crypto::RandomUuid();
    update.entries.emplace_back(entry.id, std::make_shared<const spiffe::Entry>(entry));
  }
  const size_t nodes = entries / 600;
  std::vector<spiffe::Id> agents;
  for (size_t n = 0; n < nodes; ++n) {
    spiffe::Entry alias = EntryOf(0, 1);
    alias.id = crypto::RandomUuid();
    alias.spiffe_id = IdOf(absl::StrCat("/cluster/prod/node-", n));
    alias.parent_id = spiffe::ServerId(Domain());
    alias.selectors = {{"k8s_psat", absl::StrCat("agent_node_name:node-", n)}};
    update.entries.emplace_back(alias.id, std::make_shared<const spiffe::Entry>(alias));
    server::AgentRecord agent{.id = IdOf(absl::StrCat("/spire/agent/k8s_psat/prod/", n)),
                              .attestation_type = "k8s_psat",
                              .serial = "1",
                              .new_serial = {},
                              .selectors = alias.selectors,
                              .agent_version = {}};
    agents.push_back(agent.id);
    update.agents.emplace_back(agent.id, std::make_shared<const server::AgentRecord>(agent));
  }
  index->Apply(std::move(update));

  Samples warm, cold;
  size_t found = 0;
  for (int round = 0; round < 5000; ++round) {
    const absl::Time start = absl::Now();
    found = index->AuthorizedEntries(agents[7]).size();
    warm.Add(Since(start));
  }
  for (const spiffe::Id& agent : agents) {
    const absl::Time start = absl::Now();
    (void)index->AuthorizedEntries(agent);
    cold.Add(Since(start));
  }
  PrintRow("P20", absl::StrCat("authorised set of one agent, ", entries, " entries, ", found, " mapped"),
           absl::StrFormat("p50 %s, out of the cache %s", Micros(warm.Percentile(0.5)), Micros(cold.Percentile(0.5))),
           "20 us");

  const std::string id = index->AuthorizedEntries(agents[7])[300]->id;
  const absl::Time start = absl::Now();
  for (int i = 0; i < 100'000; ++i) found += index->FindAuthorized(agents[7], id) != nullptr;
  PrintRow("P20", "is this agent authorised for this entry",
           absl::StrFormat("%.0f ns", absl::ToDoubleNanoseconds(Since(start)) / 100'000), "");
}

void MeasureAll(size_t entries, absl::string_view only) {
  const auto wanted = [&](absl::string_view row) { return only.empty() || only == row; };
  testing::TempDir dir;
  if (wanted("P11")) BareCommit(dir.file("bare.db"));
  const std::string path = dir.file("server.db");
  {
    auto store = SqliteDataStore::Open({.path = path}).value();
    std::atomic<size_t> next = 0;
    if (wanted("P11")) {
      CreateOneByOne(*store, 1, next, "2 000/s");
      CreateOneByOne(*store, 8, next, "5 000/s");
      CreateOneByOne(*store, 64, next, "");
    }
    if (wanted("P12")) Batches(*store, next);
    if (wanted("P12") || wanted("P13") || wanted("P17")) {
      // To the number asked for.
      for (size_t have = store->CountEntries({}).value(); have < entries;) {
        std::vector<spiffe::Entry> batch;
        for (; batch.size() < 5000 && have < entries; ++have) batch.push_back(EntryOf(next++, 600));
        if (!testing::CreateEntries(*store, std::move(batch), absl::Now()).ok()) abort();
      }
    }
    if (wanted("P12")) Batches(*store, next);
    if (wanted("P13")) Lists(*store);
  }
  if (wanted("P17")) {
    const absl::Time start = absl::Now();
    auto store = SqliteDataStore::Open({.path = path}).value();
    PrintRow("P17", "open the database", Micros(Since(start)), "");
    Index(*store, store->CountEntries({}).value());
  }
  if (wanted("P20")) AuthorizedSet(1'000'000);
}

}  // namespace
}  // namespace signet::bench

int main(int argc, char** argv) {
  signet::bench::MeasureAll(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100'000, argc > 2 ? argv[2] : "");
  return 0;
}
