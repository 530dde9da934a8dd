#include "server/token/issuer_keys.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <atomic>
#include <future>

#include <gtest/gtest.h>

#include "common/net/http_client.h"
#include "common/oauth/access_token.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_store.h"

namespace signet::server {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;

class IssuerKeysTest : public ::testing::Test {
 protected:
  IssuerKeysTest() {
    auto record = std::make_shared<IssuerRecord>();
    record->url = "https://idp.example";
    record->jwks_uri = "https://idp.example/jwks";
    record->rev = 1;
    issuer = record;
  }
  absl::StatusOr<crypto::PublicKey> Find(const std::string& kid) {
    return testing::Await<crypto::PublicKey>([&](auto done) { keys.Find(issuer, kid, std::move(done)); });
  }
  using Found = std::promise<absl::StatusOr<crypto::PublicKey>>;
  void Start(const std::string& kid, Found& found) {
    keys.Find(issuer, kid, [&found](absl::StatusOr<crypto::PublicKey> result) { found.set_value(std::move(result)); });
  }
  void Publish(const std::string& kid) {
    std::lock_guard lock(mutex);
    published = oauth::KeysJson({{kid, key.public_key()}});
  }

  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  std::shared_ptr<const IssuerRecord> issuer;
  fakes::FakeClock clock;
  std::mutex mutex;
  absl::StatusOr<std::string> published = absl::UnavailableError("away");
  std::atomic<int> fetches = 0;
  std::shared_future<void> held;  // fetches wait for it; set while none runs
  Executor executor{{.name = "keys_test", .threads = 1}};
  IssuerKeys keys{executor, clock, [this](const IssuerRecord&) {
                    ++fetches;
                    if (held.valid()) held.wait();
                    std::lock_guard lock(mutex);
                    return published;
                  }};
};

TEST_F(IssuerKeysTest, FetchesOnceAndKeeps) {
  Publish("a");
  EXPECT_THAT(Find("a"), IsOk());
  EXPECT_THAT(Find("a"), IsOk());
  EXPECT_EQ(fetches, 1);
  clock.Advance(absl::Minutes(11));
  EXPECT_THAT(Find("a"), IsOk());
  EXPECT_EQ(fetches, 2);
}

TEST_F(IssuerKeysTest, AnUnknownKidIsFetchedButNotAtAStrangersRate) {
  Publish("a");
  EXPECT_THAT(Find("a"), IsOk());
  Publish("b");
  EXPECT_THAT(Find("b"), StatusIs(absl::StatusCode::kNotFound));  // within 30 s of the last
  EXPECT_EQ(fetches, 1);
  clock.Advance(absl::Seconds(31));
  EXPECT_THAT(Find("b"), IsOk());
  for (int i = 0; i < 100; ++i) EXPECT_THAT(Find(absl::StrCat("x", i)), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(fetches, 2);
}

TEST_F(IssuerKeysTest, OldKeysServeForAnHourWhileTheIssuerIsAway) {
  Publish("a");
  EXPECT_THAT(Find("a"), IsOk());
  {
    std::lock_guard lock(mutex);
    published = absl::UnavailableError("away");
  }
  clock.Advance(absl::Minutes(60));
  EXPECT_THAT(Find("a"), IsOk());
  clock.Advance(absl::Minutes(15));
  EXPECT_THAT(Find("a"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(IssuerKeysTest, AChangedRecordStartsAnew) {
  Publish("a");
  EXPECT_THAT(Find("a"), IsOk());
  auto changed = std::make_shared<IssuerRecord>(*issuer);
  changed->rev = 2;
  changed->jwks_uri = "";
  changed->jwks_json = oauth::KeysJson({{"c", key.public_key()}});
  issuer = changed;
  EXPECT_THAT(Find("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Find("c"), IsOk());
  EXPECT_EQ(fetches, 1);
}

TEST_F(IssuerKeysTest, KeysOfAReplacedRecordDoNotVerifyWhileTheyAreFetched) {
  Publish("a");
  EXPECT_THAT(Find("a"), IsOk());
  clock.Advance(absl::Minutes(11));
  std::promise<void> release;
  held = release.get_future().share();
  Found before;
  Start("a", before);  // of the old record; its fetch runs
  auto changed = std::make_shared<IssuerRecord>(*issuer);
  changed->rev = 2;
  changed->jwks_uri = "";
  changed->jwks_json = oauth::KeysJson({{"c", key.public_key()}});
  issuer = changed;
  EXPECT_THAT(Find("a"), StatusIs(absl::StatusCode::kNotFound));
  release.set_value();
  EXPECT_THAT(before.get_future().get(), StatusIs(absl::StatusCode::kUnavailable));
  std::promise<void> fetched;  // one thread: the fetch is over when this runs
  ASSERT_TRUE(executor.Post([&] { fetched.set_value(); }));
  fetched.get_future().wait();
  EXPECT_THAT(Find("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Find("c"), IsOk());
}

TEST_F(IssuerKeysTest, WhoStillHoldsTheOlderRecordDoesNotDisturbTheNewer) {
  const std::shared_ptr<const IssuerRecord> older = issuer;
  auto changed = std::make_shared<IssuerRecord>(*older);
  changed->rev = 2;
  issuer = changed;
  Publish("b");
  std::promise<void> release;
  held = release.get_future().share();
  Found waits;
  Start("b", waits);  // its fetch runs
  issuer = older;
  EXPECT_THAT(Find("b"), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Find("a"), StatusIs(absl::StatusCode::kUnavailable));
  release.set_value();
  EXPECT_THAT(waits.get_future().get(), IsOk());
  issuer = changed;
  EXPECT_THAT(Find("b"), IsOk());
  EXPECT_EQ(fetches, 1);
  issuer = older;
  EXPECT_THAT(Find("b"), StatusIs(absl::StatusCode::kUnavailable));  // nor is it served from the newer set
}

TEST_F(IssuerKeysTest, AKnownKeyDoesNotWaitForTheFetchOfAnother) {
  Publish("a");
  EXPECT_THAT(Find("a"), IsOk());
  clock.Advance(absl::Seconds(31));
  std::promise<void> release;
  held = release.get_future().share();
  Found unknown, known;
  Start("b", unknown);
  Start("a", known);
  std::future<absl::StatusOr<crypto::PublicKey>> at_once = known.get_future();
  EXPECT_EQ(at_once.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  release.set_value();
  EXPECT_THAT(at_once.get(), IsOk());
  EXPECT_THAT(unknown.get_future().get(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(IssuerKeysTest, ASetThatIsNoneIsRefused) {
  {
    std::lock_guard lock(mutex);
    published = std::string("<html>");
  }
  EXPECT_THAT(Find("a"), StatusIs(absl::StatusCode::kUnavailable));
}

bool PublicV4(const char* text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  EXPECT_EQ(inet_pton(AF_INET, text, &address.sin_addr), 1);
  return net::IsPublicAddress(&address, sizeof(address));
}
bool PublicV6(const char* text) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  EXPECT_EQ(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
  return net::IsPublicAddress(&address, sizeof(address));
}

TEST(PublicAddressTest, KnowsWhatIsNot) {
  for (const char* text : {"127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
                           "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1"}) {
    EXPECT_FALSE(PublicV4(text)) << text;
  }
  for (const char* text : {"8.8.8.8", "172.32.0.1", "192.0.1.1", "100.128.0.1"}) EXPECT_TRUE(PublicV4(text)) << text;
  for (const char* text : {"::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
                           "2001:db8::1", "2002:a00::1", "2001::1", "3fff:fff::1"}) {
    EXPECT_FALSE(PublicV6(text)) << text;
  }
  EXPECT_TRUE(PublicV6("2a00:1450:4001:830::200e"));
}

TEST(PublicAddressTest, TheFetchRefusesPrivateAddressesAndOtherSchemes) {  // D.2 item 12
  IssuerRecord issuer;
  issuer.jwks_uri = "https://127.0.0.1:1/jwks";
  EXPECT_THAT(FetchJwksOverHttps(issuer), StatusIs(absl::StatusCode::kPermissionDenied));
  issuer.jwks_uri = "https://localhost:1/jwks";
  EXPECT_THAT(FetchJwksOverHttps(issuer), StatusIs(absl::StatusCode::kPermissionDenied));
  issuer.allow_private_address = true;
  EXPECT_THAT(FetchJwksOverHttps(issuer), StatusIs(absl::StatusCode::kUnavailable));
  issuer.jwks_uri = "http://127.0.0.1:1/jwks";
  EXPECT_THAT(FetchJwksOverHttps(issuer), StatusIs(absl::StatusCode::kInvalidArgument));
  issuer.jwks_uri = "file:///etc/passwd";
  EXPECT_THAT(FetchJwksOverHttps(issuer), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace signet::server
