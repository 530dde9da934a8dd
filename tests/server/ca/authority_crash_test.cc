// kill -9 at each step of the life of an authority, with the real key folder and the real database: what was
// acknowledged is there after the restart, what is used is published, and no serial number comes twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/failpoint/failpoint.h"
#include "common/keymanager/disk_key_manager.h"
#include "common/log/log.h"
#include "server/ca/authority_rotator.h"
#include "server/datastore/sqlite_data_store.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::server {
namespace {

#ifdef SIGNET_FAILPOINTS

const spiffe::TrustDomain kTd = spiffe::TrustDomain::Parse("example.org").value();
const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

// A server's CA over a folder: keys and database on disk, the clock in our hands.
struct Ca {
  explicit Ca(const std::string& dir, absl::Time now) : clock(now) {
    keys = DiskKeyManager::Open(dir + "/keys", clock).value();
    store = SqliteDataStore::Open({dir + "/server.db"}).value();
    rotator = AuthorityRotator::Create({"server-1", policy}, *keys, *store, *store, health, clock).value();
    authority = std::make_unique<CertificateAuthority>(policy, *keys, rotator->authorities(), clock);
  }
  std::string ActiveId() {
    return absl::BytesToHexString(rotator->authorities().Get()->x509->certificate.subject_key_id());
  }

  const IssuePolicy policy{kTd};
  fakes::FakeClock clock;
  telemetry::Health health;
  std::unique_ptr<DiskKeyManager> keys;
  std::unique_ptr<SqliteDataStore> store;
  std::unique_ptr<AuthorityRotator> rotator;
  std::unique_ptr<CertificateAuthority> authority;
};

crypto::PublicKey AnyKey() {
  static const crypto::PublicKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256)->public_key();
  return key;
}

// What the life that was cut short had told the world. One line a fact; a write() of a line survives kill -9.
struct Acknowledged {
  std::vector<std::string> active;  // key ids, in order
  std::set<std::string> serials;
  absl::Time now = kStart;
};
Acknowledged ReadFacts(const std::string& path) {
  Acknowledged facts;
  std::ifstream in(path);
  for (std::string kind, value; in >> kind >> value;) {
    if (kind == "active") facts.active.push_back(value);
    if (kind == "serial") facts.serials.insert(value);
    if (kind == "at") facts.now = kStart + absl::Minutes(std::stoi(value));
  }
  return facts;
}

// One and a half lives of a CA, in the child. Returns only when no failpoint was hit.
[[noreturn]] void Live(const std::string& dir, const std::string& facts_path, const std::string& rule) {
  log::SetLevel(log::Level::kOff);
  failpoint::Arm(rule);
  std::ofstream facts(facts_path);
  {
    Ca ca(dir, kStart);
    for (int minutes : {0, 12 * 60 + 1, 20 * 60 + 1, 25 * 60 + 61, 33 * 60}) {
      facts << "at " << minutes << std::endl;
      ca.clock.Advance(kStart + absl::Minutes(minutes) - ca.clock.Now());
      (void)ca.rotator->Step();
      facts << "active " << ca.ActiveId() << std::endl;
      const auto issued = ca.authority->SignServer(AnyKey());
      if (issued.ok()) facts << "serial " << issued->chain[0].SerialDecimal() << std::endl;
    }
  }
  _exit(0);
}

// True when the life was cut short.
bool LiveAndDie(const std::string& dir, const std::string& facts_path, const std::string& rule) {
  (void)AnyKey();
  const pid_t child = fork();
  if (child == 0) Live(dir, facts_path, rule);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
      << rule << ": status " << status;
  return WIFSIGNALED(status);
}

class AuthorityCrashTest : public ::testing::TestWithParam<const char*> {};

TEST_P(AuthorityCrashTest, ARestartHasAllThatWasAcknowledged) {
  log::SetLevel(log::Level::kOff);
  int deaths = 0;
  for (int passage = 1; passage < 40; ++passage) {
    const std::string rule = absl::StrCat(GetParam(), "=kill@", passage);
    SCOPED_TRACE(rule);
    testing::TempDir dir;
    if (!LiveAndDie(dir.path(), dir.file("facts"), rule)) break;
    ++deaths;
    const Acknowledged facts = ReadFacts(dir.file("facts"));
    Ca ca(dir.path(), facts.now + absl::Minutes(1));
    SIGNET_ASSERT_OK(ca.rotator->Step());
    // What is used is published.
    SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Bundle bundle, ca.store->GetBundle(kTd));
    std::set<std::string> published;
    for (const auto& authority : bundle.x509_authorities) {
      published.insert(absl::BytesToHexString(authority.certificate.subject_key_id()));
    }
    EXPECT_TRUE(published.count(ca.ActiveId()));
    EXPECT_NE(bundle.FindJwtAuthority(ca.rotator->authorities().Get()->jwt->kid), nullptr);
    // What signed is still trusted; the crash cost at most one authority that nobody used.
    std::set<std::string> known(facts.active.begin(), facts.active.end());
    for (const std::string& id : known) EXPECT_TRUE(published.count(id)) << id;
    EXPECT_LE(published.size(), known.size() + 2);
    // The authority that signed last goes on, or the next one has taken over on time.
    if (!facts.active.empty() && facts.active.back() != ca.ActiveId()) {
      EXPECT_FALSE(std::count(facts.active.begin(), facts.active.end(), ca.ActiveId())) << "an old one came back";
    }
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued, ca.authority->SignServer(AnyKey()));
    EXPECT_FALSE(facts.serials.count(issued.chain[0].SerialDecimal()));
    const auto anchors = bundle.Anchors();
    SIGNET_ASSERT_OK(anchors->Verify(issued.chain, ca.clock.Now()));
    EXPECT_TRUE(ca.health.ready());
  }
  EXPECT_GT(deaths, 0) << "the failpoint was never passed";
  log::SetLevel(log::Level::kInfo);
}

INSTANTIATE_TEST_SUITE_P(Failpoints, AuthorityCrashTest,
                         ::testing::Values("ca.after_generate_key", "ca.before_journal", "ca.after_journal",
                                           "ca.before_activate", "ca.before_sign", "ca.after_sign",
                                           "sqlite.before_commit", "sqlite.after_commit", "atomic_file.before_write",
                                           "atomic_file.after_fsync", "atomic_file.before_rename",
                                           "atomic_file.after_rename"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

#endif  // SIGNET_FAILPOINTS

}  // namespace
}  // namespace signet::server
