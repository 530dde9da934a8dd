// The contract on SQLite.
#include "tests/server/datastore/contract_agents.h"
#include "tests/server/datastore/contract_bundles.h"
#include "tests/server/datastore/contract_entries.h"
#include "tests/server/datastore/contract_federation.h"
#include "tests/server/datastore/contract_revocations.h"
#include "tests/server/datastore/contract_token_uses.h"
#include "tests/server/datastore/contract_tokens.h"

namespace signet::server {
namespace {

class SqliteUnderTest final : public StoreUnderTest {
 public:
  DataStore& store() override { return *store_; }
  void Reopen() override { store_.Reopen(); }

 private:
  testing::TestStore store_;
};

const StoreKind kSqlite{"Sqlite", [] { return std::make_unique<SqliteUnderTest>(); }};

INSTANTIATE_TEST_SUITE_P(, EntryContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, AgentContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, BundleContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, FederationContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, FeedContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, TokenContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, RevocationContract, ::testing::Values(kSqlite), KindName);
INSTANTIATE_TEST_SUITE_P(, TokenUseContract, ::testing::Values(kSqlite), KindName);

}  // namespace
}  // namespace signet::server
