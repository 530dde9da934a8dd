#include "agent/sync/refresh_plan.h"

#include <algorithm>
#include <tuple>

namespace signet::agent {
namespace {

constexpr absl::Duration kBackdate = absl::Seconds(10);  // SPIRE's, and signet-server's

// FNV-1a, 64 bits: the same on every machine and in every release, which absl::Hash does not promise.
uint64_t StableHash(absl::string_view a, absl::string_view b) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](absl::string_view bytes) {
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ 0xff) * 0x100000001b3;
  };
  mix(a);
  mix(b);
  hash ^= hash >> 33;  // FNV's upper bits are weak for short inputs
  hash *= 0xff51afd7ed558ccd;
  return hash ^ (hash >> 33);
}

enum Urgency { kWaiting, kEnded, kTainted, kOutdated, kDue, kMissing, kNothing };

Urgency Judge(const PlanItem& item, Instant at) {
  if (!item.wanted) return kNothing;
  if (!item.held) return item.waiting ? kWaiting : kMissing;
  if (item.life.Expired(at)) return item.waiting ? kWaiting : kEnded;
  if (item.tainted) return kTainted;
  if (item.outdated) return kOutdated;
  return item.life.Due(at) ? kDue : kNothing;
}

}  // namespace

absl::Duration SvidLife::Age(Instant at) const {
  const absl::Duration held = at.steady - received_steady;
  return wall_agrees ? std::max(at.wall - issued, held) : held;
}

SvidLife SvidLife::Received(absl::Time not_before, absl::Time not_after, double jitter, Instant at) {
  const absl::Time signed_at = std::min(not_before + kBackdate, not_after);
  SvidLife life;
  life.not_after = not_after;
  life.received_steady = at.steady;
  life.jitter = jitter;
  life.wall_agrees = at.wall >= not_before - absl::Minutes(10) && at.wall < signed_at + (not_after - signed_at) * 0.45;
  life.issued = life.wall_agrees ? std::max(at.wall, not_before) : signed_at;
  return life;
}

double RenewalJitter(absl::string_view entry_id, absl::string_view serial) {
  const double unit = static_cast<double>(StableHash(entry_id, serial) >> 11) * 0x1.0p-53;  // [0, 1)
  return unit * 2 - 1;
}

RefreshPlan MakeRefreshPlan(const std::vector<PlanItem>& items, Instant at) {
  struct Fetch {
    Urgency urgency;
    absl::Duration left;  // negative: ended
    const PlanItem* item;
  };
  RefreshPlan plan;
  std::vector<Fetch> fetches;
  for (const PlanItem& item : items) {
    const absl::Duration left = item.held ? item.life.Total() - item.life.Age(at) : absl::ZeroDuration();
    if (item.held && item.life.Expired(at)) plan.drop.push_back(item.entry_id);
    if (const Urgency urgency = Judge(item, at); urgency != kNothing) {
      fetches.push_back({urgency, left, &item});
    } else if (item.held && !item.life.Expired(at)) {
      const absl::Duration until = item.wanted ? item.life.RenewAtAge() - item.life.Age(at) : left;
      plan.next = std::min(plan.next, until);
    }
    if (item.held && left > absl::ZeroDuration()) plan.next = std::min(plan.next, left);  // to be dropped then
  }
  std::sort(fetches.begin(), fetches.end(), [](const Fetch& a, const Fetch& b) {
    return std::tie(a.urgency, a.left, a.item->entry_id) < std::tie(b.urgency, b.left, b.item->entry_id);
  });
  plan.fetch.reserve(fetches.size());
  for (const Fetch& fetch : fetches) plan.fetch.push_back(fetch.item->entry_id);
  return plan;
}

}  // namespace signet::agent
