// Decides, and does nothing: which X.509-SVIDs to fetch now, in which order, which to drop, and when to look again.
// Pure: no clock, no lock, no I/O. The same input gives the same plan.
//
// Age is the greater of what the wall clock and what the steady clock say. A wall clock that steps back therefore
// neither re-issues anything nor lets an SVID outlive its end; one that steps forward ends what it says has ended. An
// SVID that arrives already old by the wall clock was signed by a server that disagrees with it: such a one is aged by
// the steady clock alone, or it would be asked for again in a circle.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::agent {

// The instant of a plan, by both clocks (common/time/clock.h).
struct Instant {
  absl::Time wall;
  absl::Duration steady;
};

// The life of one SVID as the agent sees it. Plain value.
struct SvidLife {
  absl::Time issued, not_after;                           // issued: by the clock of the agent, where that can be
  absl::Duration received_steady = absl::ZeroDuration();  // of the process that holds it
  bool wall_agrees = true;
  double jitter = 0;  // RenewalJitter(): -1 to 1

  // Of an SVID that has just come from the server. The wall clock agrees with it when the SVID is not yet due and began
  // at most ten minutes ahead; then it counts as issued now, else ten seconds after `not_before`, which is how far
  // servers date back.
  static SvidLife Received(absl::Time not_before, absl::Time not_after, double jitter, Instant at);

  absl::Duration Total() const { return not_after - issued; }
  absl::Duration Age(Instant at) const;
  bool Expired(Instant at) const { return Age(at) >= Total(); }
  // Half of the life, give or take a tenth of that half, fixed for the SVID (SPIRE draws anew at each look).
  absl::Duration RenewAtAge() const { return Total() * (0.5 + 0.05 * jitter); }
  bool Due(Instant at) const { return Age(at) >= RenewAtAge(); }
};

// Spread of the renewals of SVIDs signed together: from a hash of entry and serial number, so that a restart, another
// look and another process come to the same moment.
double RenewalJitter(absl::string_view entry_id, absl::string_view serial);

struct PlanItem {
  std::string entry_id;
  bool wanted = false;    // a live stream, or somebody asked not long ago
  bool waiting = false;   // a live stream has nothing to show for it yet
  bool held = false;      // the rest says what
  bool outdated = false;  // the entry has changed since the SVID was signed
  bool tainted = false;   // its authority is to be replaced
  SvidLife life;
};

struct RefreshPlan {
  std::vector<std::string> fetch;                  // urgent first
  std::vector<std::string> drop;                   // ended: never shown again
  absl::Duration next = absl::InfiniteDuration();  // when the plan changes by itself
};

// Order of `fetch`: what a live stream waits for, then held SVIDs that have ended, then those of a tainted authority,
// then changed entries, then what is due, then the rest that is missing; inside a class the one that ends first.
RefreshPlan MakeRefreshPlan(const std::vector<PlanItem>& items, Instant at);

}  // namespace signet::agent
