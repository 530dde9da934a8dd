// The way to the token service, against a real TLS server: who is shown, who is believed, what is shared (T6).
#include "agent/token/upstream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <vector>

#include "common/net/web_server.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kServerPath[] = "/spire/server";

class UpstreamTest : public ::testing::Test {
 protected:
  UpstreamTest() : clock_(absl::Now()), authority_(absl::Now()) {
    Serve(authority_, kServerPath);
    bundle_ = std::make_shared<const spiffe::Bundle>(authority_.bundle());
    upstream_ = Upstream::Create(
        {.server_id = IdOf(kServerPath), .max_answer_bytes = 1000}, [this] { return bundle_; }, clock_);
  }
  void Serve(const TestAuthority& authority, const std::string& path) {
    spiffe::Entry entry = EntryOf("server", {"a:b"});
    entry.spiffe_id = IdOf(path);
    const HeldSvid held =
        authority.Mint(std::make_shared<const spiffe::Entry>(entry), {absl::Now(), absl::ZeroDuration()});
    auto identity = std::make_shared<const net::WebCertificate>(net::WebCertificate{held.svid->chain, held.svid->key});
    server_.reset();
    server_ = *net::WebServer::ListenTls(
        "127.0.0.1:0", {},
        [this, identity](absl::string_view server_name) {
          MutexLock lock(mutex_);
          asked_for_ = std::string(server_name);
          return identity;
        },
        [this](net::WebRequest request, net::Respond respond) {
          {
            MutexLock lock(mutex_);
            peers_.insert(request.peer);
            last_ = request;
            if (hold_) return held_.push_back(std::move(respond));
          }
          net::WebResponse answer;
          answer.status = 400;
          answer.body = body_;
          answer.headers = {{"DPoP-Nonce", "n"}, {"X-Internal", "y"}};
          respond(std::move(answer));
        });
  }
  HeldSvid Svid(const std::string& entry) {
    return authority_.Mint(std::make_shared<const spiffe::Entry>(EntryOf(entry, {"a:b"})),
                           {absl::Now(), absl::ZeroDuration()});
  }
  absl::StatusOr<Upstream::Answer> Post(const HeldSvid& held) {
    std::promise<absl::StatusOr<Upstream::Answer>> promise;
    upstream_->Post({"https://" + server_->address() + "/oauth2/token", "a=b", "proof", held.entry->id, held.svid},
                    [&](auto answer) { promise.set_value(std::move(answer)); });
    return promise.get_future().get();
  }
  // The request that came last.
  net::WebRequest last() {
    MutexLock lock(mutex_);
    return last_;
  }
  size_t connections() {
    MutexLock lock(mutex_);
    return peers_.size();
  }

  fakes::FakeClock clock_;
  TestAuthority authority_;
  BundlePtr bundle_;
  Mutex mutex_;
  std::set<std::string> peers_ ABSL_GUARDED_BY(mutex_);
  net::WebRequest last_ ABSL_GUARDED_BY(mutex_);
  std::string asked_for_;
  std::string body_ = "{}";
  bool hold_ = false;
  std::vector<net::Respond> held_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<net::WebServer> server_;
  std::unique_ptr<Upstream> upstream_;
};

TEST_F(UpstreamTest, ShowsTheWorkloadsSvidAndPassesWhatOAuthNeeds) {
  const HeldSvid held = Svid("orders");
  const auto answer = Post(held);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->status, 400);
  EXPECT_EQ(answer->body, "{}");
  EXPECT_EQ(answer->content_type, "application/json");
  EXPECT_EQ(answer->Header("dpop-nonce"), "n");
  EXPECT_THAT(answer->headers, SizeIs(1));
  ASSERT_FALSE(last().client_chain.empty());
  EXPECT_EQ(last().client_chain[0], held.svid->leaf());
  EXPECT_EQ(last().body, "a=b");
  EXPECT_EQ(*last().Header("dpop"), "proof");
  EXPECT_EQ(asked_for_, "spiffe.invalid");  // of a server with a public certificate too, the SVID is wanted
  EXPECT_EQ(*last().Header("content-type"), "application/x-www-form-urlencoded");
}

TEST_F(UpstreamTest, T6OnePoolForEachEntryAndSerial) {
  const HeldSvid one = Svid("one"), other = Svid("other");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Post(one).ok());
  EXPECT_EQ(connections(), 1u) << "kept alive";
  ASSERT_TRUE(Post(other).ok());
  EXPECT_EQ(connections(), 2u);
  EXPECT_EQ(last().client_chain[0], other.svid->leaf());
  const HeldSvid rotated = Svid("one");
  ASSERT_TRUE(Post(rotated).ok());
  EXPECT_EQ(connections(), 3u);
  EXPECT_EQ(last().client_chain[0], rotated.svid->leaf());
  ASSERT_TRUE(Post(rotated).ok());
  EXPECT_EQ(connections(), 3u);
}

TEST_F(UpstreamTest, T6TheServerMustBeTheOneThatIsExpected) {
  Serve(authority_, "/agent/evil");
  EXPECT_THAT(Post(Svid("orders")), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("agent/evil")));
  const TestAuthority other(absl::Now());
  Serve(other, kServerPath);
  EXPECT_THAT(Post(Svid("orders")), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_EQ(connections(), 0u) << "nothing was sent";
}

TEST_F(UpstreamTest, T6AnAuthorityThatIsGoneEndsKeptConnectionsToo) {
  const HeldSvid held = Svid("orders");
  ASSERT_TRUE(Post(held).ok());
  bundle_ = std::make_shared<const spiffe::Bundle>(TestAuthority(absl::Now()).bundle());
  EXPECT_THAT(Post(held), StatusIs(absl::StatusCode::kUnauthenticated));
  bundle_ = nullptr;
  EXPECT_THAT(Post(held), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(UpstreamTest, RefusesAnAnswerThatIsTooLarge) {
  body_ = std::string(1001, 'x');
  EXPECT_THAT(Post(Svid("orders")), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(UpstreamTest, ConnectionsThatIdledAreNotUsedAgain) {
  const HeldSvid held = Svid("orders");
  ASSERT_TRUE(Post(held).ok());
  clock_.Advance(absl::Seconds(61));
  upstream_->CloseIdle();
  ASSERT_TRUE(Post(held).ok());
  EXPECT_EQ(connections(), 2u);
}

TEST_F(UpstreamTest, OneEntryDoesNotStarveTheOthers) {
  upstream_ = Upstream::Create(
      {.server_id = IdOf(kServerPath), .threads = 2, .per_entry_limit = 2}, [this] { return bundle_; }, clock_);
  {
    MutexLock lock(mutex_);
    hold_ = true;
  }
  const HeldSvid greedy = Svid("greedy");
  const std::string url = "https://" + server_->address() + "/oauth2/token";
  std::atomic<int> answered = 0;
  for (int i = 0; i < 2; ++i) {
    upstream_->Post({url, "", "", greedy.entry->id, greedy.svid}, [&](auto) { ++answered; });
  }
  absl::Status third;
  upstream_->Post({url, "", "", greedy.entry->id, greedy.svid}, [&](auto answer) { third = answer.status(); });
  EXPECT_THAT(third, StatusIs(absl::StatusCode::kResourceExhausted));
  while (true) {
    MutexLock lock(mutex_);
    if (held_.size() < 2) continue;
    hold_ = false;
    for (net::Respond& respond : held_) respond({});
    held_.clear();
    break;
  }
  upstream_.reset();  // waits for both
  EXPECT_EQ(answered, 2);
}

TEST_F(UpstreamTest, SaysWhenNobodyIsThere) {
  const std::string address = server_->address();
  server_.reset();
  std::promise<absl::StatusOr<Upstream::Answer>> promise;
  const HeldSvid held = Svid("orders");
  upstream_->Post({"https://" + address + "/oauth2/token", "", "", held.entry->id, held.svid},
                  [&](auto answer) { promise.set_value(std::move(answer)); });
  EXPECT_THAT(promise.get_future().get(), StatusIs(absl::StatusCode::kUnavailable));
  upstream_->Stop();
  std::promise<absl::StatusOr<Upstream::Answer>> stopped;
  upstream_->Post({"https://" + address, "", "", held.entry->id, held.svid},
                  [&](auto answer) { stopped.set_value(std::move(answer)); });
  EXPECT_THAT(stopped.get_future().get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
}

}  // namespace
}  // namespace signet::agent
