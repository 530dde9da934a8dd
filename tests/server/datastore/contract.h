// What every DataStore must do: suites by kind of record (contract_*.h), run on each implementation:
//   INSTANTIATE_TEST_SUITE_P(Sqlite, EntryContract, ::testing::Values(...));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/datastore/data_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_store.h"

namespace signet::server {

// A store that can be closed and opened again on what it holds.
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  virtual DataStore& store() = 0;
  virtual void Reopen() = 0;
};
struct StoreKind {
  std::string name;
  std::function<std::unique_ptr<StoreUnderTest>()> make;
};
inline std::string KindName(const ::testing::TestParamInfo<StoreKind>& info) { return info.param.name; }

class StoreContract : public ::testing::TestWithParam<StoreKind> {
 protected:
  DataStore& store() { return under_test_->store(); }
  void Reopen() { under_test_->Reopen(); }
  const absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);

 private:
  std::unique_ptr<StoreUnderTest> under_test_ = GetParam().make();
};

inline spiffe::Id TestId(absl::string_view path) {
  return spiffe::Id::Parse(absl::StrCat("spiffe://example.org", path)).value();
}
inline spiffe::TrustDomain TestTrustDomain(absl::string_view name = "example.org") {
  return spiffe::TrustDomain::Parse(name).value();
}
inline spiffe::Selectors TestSelectors(const std::vector<std::string>& texts) {
  spiffe::Selectors selectors;
  for (const std::string& text : texts) selectors.push_back(spiffe::Selector::Parse(text).value());
  spiffe::Normalize(selectors);
  return selectors;
}
inline spiffe::Entry TestEntry(absl::string_view path, const std::vector<std::string>& selectors = {"unix:uid:1"},
                               absl::string_view parent = "/spire/agent/x") {
  spiffe::Entry entry{.id = "", .spiffe_id = TestId(path), .parent_id = TestId(parent)};
  entry.selectors = TestSelectors(selectors);
  return entry;
}
inline AgentRecord TestAgent(absl::string_view path, absl::Time expires_at) {
  return {.id = TestId(path), .attestation_type = "join_token", .serial = "17", .expires_at = expires_at};
}

}  // namespace signet::server
