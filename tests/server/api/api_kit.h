// A store, its index and an authoriser over them, with callers made by hand.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/api/authorizer.h"
#include "server/entries/entry_index.h"
#include "server/entries/feed_applier.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/test_store.h"

namespace signet::server {

inline spiffe::TrustDomain Own() { return spiffe::TrustDomain::Parse("example.org").value(); }
inline spiffe::Id IdOf(absl::string_view path) { return spiffe::Id::FromPath(Own(), path).value(); }

inline spiffe::Entry EntryOf(absl::string_view path, absl::string_view parent = "/spire/agent/join_token/a") {
  return {.id = {},
          .spiffe_id = IdOf(path),
          .parent_id = IdOf(parent),
          .selectors = {{"unix", "uid:1000"}},
          .federates_with = {},
          .dns_names = {},
          .hint = {}};
}

inline AgentRecord AgentOf(absl::string_view path, std::string serial) {
  return {.id = IdOf(path),
          .attestation_type = "join_token",
          .serial = std::move(serial),
          .new_serial = {},
          .expires_at = absl::FromUnixSeconds(1'800'003'600),
          .selectors = {},
          .agent_version = {}};
}

// What a real one proves by TLS, this one is told.
class FakeCallers final : public CallerSource {
 public:
  CallerPtr Identify(const grpc::ServerContextBase&) override { return caller; }
  bool StillVerifies(const Caller&) override { return verifies; }
  CallerPtr caller = std::make_shared<Caller>();
  std::atomic<bool> verifies = true;
};

inline CallerPtr TlsCaller(const spiffe::Id& id, std::string serial = "1",
                           absl::Time not_after = absl::FromUnixSeconds(1'800'003'600)) {
  auto caller = std::make_shared<Caller>();
  caller->kind = Caller::Kind::kTls;
  caller->id = id;
  caller->serial = std::move(serial);
  caller->not_after = not_after;
  return caller;
}
inline CallerPtr LocalCaller() {
  auto caller = std::make_shared<Caller>();
  caller->kind = Caller::Kind::kLocal;
  return caller;
}

class ApiKit {
 public:
  // Follows the store as the server does, or (for tests of a memory that lags) not at all.
  explicit ApiKit(bool follow = true) {
    if (follow) applier = FeedApplier::Create(*store, *index, clock).value();
  }

  void Attest(AgentRecord agent) {
    Attestation attestation{.agent = std::move(agent), .consume_token_sha256 = {}, .key_sha256 = {}, .alias = {}};
    auto done = [&](auto d) { store->Attest(std::move(attestation), clock.Now(), std::move(d)); };
    if (absl::Status s = testing::AwaitStatus(done); !s.ok()) abort();
    CatchUp();
  }
  spiffe::Entry Create(spiffe::Entry entry) {
    auto results = testing::CreateEntries(*store, {std::move(entry)}, clock.Now()).value();
    if (!results[0].status.ok()) abort();
    CatchUp();
    return *results[0].record;
  }
  void Ban(const spiffe::Id& id) {
    if (!testing::AwaitStatus([&](auto d) { store->BanAgent(id, std::move(d)); }).ok()) abort();
    CatchUp();
  }
  void Delete(const spiffe::Id& id) {
    if (!testing::AwaitStatus([&](auto d) { store->DeleteAgent(id, std::move(d)); }).ok()) abort();
    CatchUp();
  }
  void CatchUp() {
    if (applier != nullptr && !applier->WaitFor(store->LastSeq().value(), absl::Seconds(10))) abort();
  }

  fakes::FakeClock clock;
  SystemClock system_clock;
  testing::TestStore store;
  std::unique_ptr<EntryIndex> index = EntryIndex::Create(Own());
  std::unique_ptr<FeedApplier> applier;
  telemetry::Metrics registry;
  Metrics metrics{registry};
  Executor executor{{"test", 1, 64}};
  FakeCallers callers;
  Authorizer authorizer{{Own(), {IdOf("/ops/admin"), spiffe::Id::Parse("spiffe://partner.org/admin").value()}},
                        callers,
                        *index,
                        *store,
                        *store,
                        executor,
                        clock,
                        metrics};
};

}  // namespace signet::server
