#include "server/token/alerts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/log/log.h"

namespace signet::server {
namespace {

constexpr char kFirstUse[] = "first-use";
constexpr absl::Duration kWindow = absl::Minutes(1);
constexpr double kWeight = 0.2;         // of the newest window in the average
constexpr double kRateFactor = 10;      // times its own average
constexpr uint64_t kRateCalls = 60;     // and at least so many in a window
constexpr uint64_t kRatioCalls = 10;    // calls before a share of refusals says anything
constexpr uint64_t kRatioPercent = 50;  // refused

}  // namespace

Alerts::Alerts(Clock& clock, Metrics& metrics) : Alerts(clock, metrics, Limits()) {}
Alerts::Alerts(Clock& clock, Metrics& metrics, Limits limits) : clock_(clock), metrics_(metrics), limits_(limits) {}

void Alerts::Add(const std::string& kind, const std::string& identity, const std::string& detail,
                 const std::string& txn) {
  Alert alert{.id = absl::StrCat("a-", absl::Hex(++last_id_, absl::kZeroPad16)),
              .kind = kind,
              .identity = identity,
              .detail = detail,
              .txn = txn,
              .at = clock_.Now()};
  metrics_.token_alerts.Add();
  if (kind == kFirstUse) {  // many after a start, and seldom more than news
    SIGNET_LOG(debug, "token alert", {{"kind", kind}, {"identity", identity}, {"detail", detail}, {"txn", txn}});
  } else {
    SIGNET_LOG(warn, "token alert", {{"kind", kind}, {"identity", identity}, {"detail", detail}, {"txn", txn}});
  }
  alerts_.push_back(std::move(alert));
  if (alerts_.size() > limits_.alerts) alerts_.pop_front();
}

void Alerts::Raise(const std::string& kind, const std::string& identity, const std::string& detail,
                   const std::string& txn) {
  MutexLock lock(mutex_);
  Add(kind, identity, detail, txn);
}

void Alerts::Roll(Watched& watched, absl::Duration now) const {
  absl::Duration since = now - watched.window_start;
  if (since < kWindow) return;
  // Windows without a call count too, but no more of them than change the average.
  const int64_t windows = std::min<int64_t>(absl::IDivDuration(since, kWindow, &since), 64);
  watched.average += kWeight * (static_cast<double>(watched.calls) - watched.average);
  for (int64_t i = 1; i < windows; ++i) watched.average -= kWeight * watched.average;
  watched.calls = watched.refused = 0;
  watched.window_start = now;
  watched.rate_told = watched.ratio_told = false;
}

std::vector<std::string> Alerts::Observe(const Observation& observation) {
  std::vector<std::string> raised;
  MutexLock lock(mutex_);
  if (watched_.size() >= limits_.identities && !watched_.contains(observation.identity)) return raised;
  const absl::Duration now = clock_.Steady();
  Watched& watched = watched_[observation.identity];
  if (watched.total == 0) watched.window_start = now;
  Roll(watched, now);
  const auto raise = [&](const char* kind, const std::string& detail) {
    Add(kind, observation.identity, detail, observation.txn);
    if (std::find(raised.begin(), raised.end(), kind) == raised.end()) raised.emplace_back(kind);
  };

  ++watched.calls;
  ++watched.total;
  if (!observation.granted) ++watched.refused;
  if (!watched.ratio_told && watched.calls >= kRatioCalls && watched.refused * 100 >= watched.calls * kRatioPercent) {
    watched.ratio_told = true;
    raise("denial-ratio", absl::StrCat(watched.refused, " of ", watched.calls,
                                       " requests were refused within a minute; last: ", observation.refusal));
  }
  if (!watched.rate_told && watched.average > 0 && watched.total > limits_.learning_calls && watched.calls >= kRateCalls &&
      static_cast<double>(watched.calls) > kRateFactor * std::max(watched.average, 1.0)) {
    watched.rate_told = true;
    raise("call-rate", absl::StrCat(watched.calls, " requests within a minute, against an average of ",
                                    static_cast<int64_t>(watched.average)));
  }
  if (!observation.granted) return raised;

  const auto first = [&](const char* what, const std::string& value) {
    if (value.empty() || watched.seen.size() >= limits_.features) return;
    if (watched.seen.insert(absl::StrCat(what, " ", value)).second) {
      raise(kFirstUse, absl::StrCat("first ", what, " ", value));
    }
  };
  first("audience", observation.audience);
  first("node", observation.node);
  for (const std::string& scope : observation.scopes) first("scope", absl::StrCat(observation.audience, " ", scope));
  for (const std::string& tool : observation.tools) first("tool", tool);
  if (observation.near_depth_limit) {
    raise("depth-near-limit", absl::StrCat("depth ", observation.depth, " of at most ", observation.max_depth));
  }
  return raised;
}

bool Alerts::SawToken(const std::string& token_hash, const std::string& peer, absl::Time expires_at,
                      const std::string& identity, const std::string& txn) {
  MutexLock lock(mutex_);
  if (peers_.size() >= limits_.tokens && !peers_.contains(token_hash)) {
    const absl::Time now = clock_.Now();
    absl::erase_if(peers_, [&](const auto& entry) { return entry.second.expires_at <= now; });
    if (peers_.size() >= limits_.tokens) return false;
  }
  auto [found, first] = peers_.try_emplace(token_hash, Peer{.peer = peer, .expires_at = expires_at, .told = false});
  if (first || found->second.peer == peer) return false;
  if (!std::exchange(found->second.told, true)) Add("two-peers", identity, "one token came from two peers", txn);
  return true;
}

std::vector<Alert> Alerts::List(const std::string& after, size_t limit) const {
  MutexLock lock(mutex_);
  std::vector<Alert> page;
  for (auto alert = alerts_.rbegin(); alert != alerts_.rend() && page.size() < limit; ++alert) {
    if (after.empty() || alert->id < after) page.push_back(*alert);
  }
  return page;
}

}  // namespace signet::server
