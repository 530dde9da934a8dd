#include "server/token/issuer_keys.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/net/http_client.h"
#include "common/oauth/access_token.h"

namespace signet::server {
namespace {

constexpr size_t kMaxBytes = 256 * 1024;
constexpr absl::Duration kTimeout = absl::Seconds(10);
constexpr absl::Duration kFresh = absl::Minutes(10);
constexpr absl::Duration kStale = absl::Minutes(70);  // an hour beyond kFresh
constexpr absl::Duration kBetweenFetches = absl::Seconds(30);
constexpr char kReplaced[] = "the record of the issuer was replaced";

absl::StatusOr<crypto::PublicKey> KeyOf(const oauth::Keys& keys, const std::string& kid) {
  if (kid.empty() && keys.size() == 1) return keys.begin()->second;
  const auto found = keys.find(kid);
  if (found == keys.end()) return absl::NotFoundError("the issuer publishes no such key");
  return found->second;
}

}  // namespace

absl::StatusOr<std::string> FetchJwksOverHttps(const IssuerRecord& issuer) {
  return net::HttpsGetGuarded(issuer.jwks_uri, {.max_bytes = kMaxBytes,
                                                .timeout = kTimeout,
                                                .ca_file = issuer.ca_file,
                                                .allow_private_address = issuer.allow_private_address});
}

struct IssuerKeys::Set {
  uint64_t rev = 0;  // of the record; another one starts anew
  std::shared_ptr<const oauth::Keys> keys;
  absl::Duration fetched = -absl::InfiniteDuration(), tried = -absl::InfiniteDuration();  // steady
  bool fetching = false;
  struct Waiting {
    std::string kid;
    Completion<crypto::PublicKey> done;
  };
  std::vector<Waiting> waiting;
};

struct IssuerKeys::State {
  explicit State(FetchJwks f) : fetch(std::move(f)) {}
  const FetchJwks fetch;
  Mutex mutex;
  absl::flat_hash_map<std::string, Set> sets ABSL_GUARDED_BY(mutex);  // by issuer URL

  // On the executor: fetches, keeps what came, answers all who wait.
  void Fetch(const IssuerRecord& issuer, absl::Duration now) {
    absl::StatusOr<std::string> text = fetch(issuer);
    absl::StatusOr<oauth::Keys> keys = text.ok() ? oauth::ParseKeys(*text) : text.status();
    if (!keys.ok()) {
      SIGNET_LOG(warn, "keys of a user issuer not fetched",
                 {{"issuer", issuer.url}, {"reason", keys.status().message()}});
    }
    std::vector<Set::Waiting> waiting;
    std::shared_ptr<const oauth::Keys> known;
    {
      MutexLock lock(mutex);
      Set& set = sets[issuer.url];
      if (set.rev != issuer.rev) return;  // another record by now: its keys are not these, and who waited was told
      if (keys.ok()) {
        set.keys = std::make_shared<const oauth::Keys>(*std::move(keys));
        set.fetched = now;
      } else if (now - set.fetched > kStale) {
        set.keys = nullptr;
      }
      known = set.keys;
      set.fetching = false;
      waiting = std::exchange(set.waiting, {});
    }
    for (Set::Waiting& one : waiting) {
      one.done(known != nullptr ? KeyOf(*known, one.kid)
                                : absl::UnavailableError("the keys of the issuer cannot be fetched now"));
    }
  }
};

IssuerKeys::IssuerKeys(Executor& executor, Clock& clock, FetchJwks fetch)
    : executor_(executor), clock_(clock), state_(std::make_shared<State>(std::move(fetch))) {}
IssuerKeys::~IssuerKeys() = default;

void IssuerKeys::Find(std::shared_ptr<const IssuerRecord> issuer, const std::string& kid,
                      Completion<crypto::PublicKey> done) {
  const absl::Duration now = clock_.Steady();
  absl::StatusOr<crypto::PublicKey> at_once = absl::NotFoundError("the issuer publishes no such key");
  bool start = false, waits = false;
  std::vector<Set::Waiting> outdated;  // wait for keys of the record that was replaced
  {
    MutexLock lock(state_->mutex);
    Set& set = state_->sets[issuer->url];
    if (issuer->rev > set.rev) {
      outdated = std::exchange(set.waiting, {});
      set = Set();
      set.rev = issuer->rev;
    }
    if (issuer->rev < set.rev) {  // looked up before the record was replaced: the newer set stays as it is
      at_once = absl::UnavailableError(kReplaced);
    } else if (!issuer->jwks_json.empty()) {
      if (set.keys == nullptr) {
        absl::StatusOr<oauth::Keys> keys = oauth::ParseKeys(issuer->jwks_json);
        if (keys.ok()) set.keys = std::make_shared<const oauth::Keys>(*std::move(keys));
        if (!keys.ok()) at_once = keys.status();
      }
      if (set.keys != nullptr) at_once = KeyOf(*set.keys, kid);
    } else {
      if (set.keys != nullptr) at_once = KeyOf(*set.keys, kid);
      const bool fresh = now - set.fetched <= kFresh;
      const bool may_try = now - set.tried >= kBetweenFetches;
      if (!(fresh && at_once.ok()) && (set.fetching || may_try)) {
        waits = true;
        start = !std::exchange(set.fetching, true);
        if (start) set.tried = now;
        set.waiting.push_back({kid, std::move(done)});
      } else if (now - set.fetched > kStale) {
        at_once = absl::UnavailableError("the keys of the issuer cannot be fetched now");
      }
    }
  }
  for (Set::Waiting& one : outdated) one.done(absl::UnavailableError(kReplaced));
  if (!waits) return done(std::move(at_once));
  if (!start) return;
  const bool posted = executor_.Post([state = state_, issuer, now] { state->Fetch(*issuer, now); });
  if (posted) return;
  std::vector<Set::Waiting> waiting;
  {
    MutexLock lock(state_->mutex);
    Set& set = state_->sets[issuer->url];
    if (set.rev != issuer->rev) return;  // who waited was told
    set.fetching = false;
    waiting = std::exchange(set.waiting, {});
  }
  for (Set::Waiting& one : waiting) one.done(absl::UnavailableError("too much waits"));
}

}  // namespace signet::server
