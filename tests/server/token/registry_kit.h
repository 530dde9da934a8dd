// A store with the entry index and the token registry that follow it, and blocking writes.
#pragma once

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <utility>

#include "common/time/clock.h"
#include "server/entries/feed_applier.h"
#include "server/token/token_registry.h"
#include "tests/server/datastore/contract.h"

namespace signet::server {

class RegistryKit {
 public:
  RegistryKit() { Restart(); }
  // Memory anew, as after a restart of the server.
  void Restart() {
    applier.reset();
    index = EntryIndex::Create(TestTrustDomain());
    registry = TokenRegistry::Create(TestTrustDomain());
    applier = FeedApplier::Create(*store, *index, clock, registry.get()).value();
  }
  void CatchUp() { ASSERT_TRUE(applier->WaitFor(store->LastSeq().value(), absl::Seconds(20))); }

  IdentityRecord Create(IdentityRecord record) {
    return testing::Await<IdentityRecord>(
               [&](auto done) { store->CreateIdentity(std::move(record), now, std::move(done)); })
        .value();
  }
  GrantRecord Create(GrantRecord record) {
    return testing::Await<GrantRecord>([&](auto done) { store->CreateGrant(std::move(record), now, std::move(done)); })
        .value();
  }
  TaskRecord Create(TaskRecord record) {
    return testing::Await<TaskRecord>([&](auto done) { store->CreateTask(std::move(record), now, std::move(done)); })
        .value();
  }
  IssuerRecord Put(IssuerRecord record) {
    return testing::Await<IssuerRecord>([&](auto done) { store->PutIssuer(std::move(record), std::move(done)); })
        .value();
  }
  ResourceRecord Put(ResourceRecord record) {
    return testing::Await<ResourceRecord>([&](auto done) { store->PutResource(std::move(record), std::move(done)); })
        .value();
  }
  UserRightsRecord Put(UserRightsRecord record) {
    return testing::Await<UserRightsRecord>(
               [&](auto done) { store->PutUserRights(std::move(record), std::move(done)); })
        .value();
  }
  uint64_t Revoke(RevokeChange change) {
    return testing::Await<uint64_t>([&](auto done) { store->Revoke(std::move(change), now, std::move(done)); }).value();
  }
  uint64_t Reinstate(oauth::EntityKind kind, const std::string& entity) {
    return testing::Await<uint64_t>([&](auto done) { store->Reinstate(kind, entity, now, std::move(done)); }).value();
  }
  uint64_t Suspend(const std::string& spiffe_id, IdentityState state = IdentityState::kSuspended) {
    return Revoke({{.kind = oauth::EntityKind::kIdentity,
                    .entity = spiffe_id,
                    .seq = 0,
                    .not_before = now,
                    .reason = "test",
                    .reinstated = false},
                   state});
  }

  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  SystemClock clock;
  testing::TestStore store;
  std::unique_ptr<EntryIndex> index;
  std::unique_ptr<TokenRegistry> registry;
  std::unique_ptr<FeedApplier> applier;
};

}  // namespace signet::server
