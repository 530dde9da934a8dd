// Pure: (two slots of one kind of authority, now) -> what to do next. The rotator asks again until it is told to wait.
//
// The times are SPIRE's: the next authority is prepared when the active one has less than min(life / 2, 30 d) left, and
// takes over when it has less than min(life / 6, 7 d) left. In between it stands in the bundle and spreads.
// A clock that steps never makes a flood: an authority that a step back has put into the future goes back to prepared,
// and one that is valid now, even an old one, is taken before a new one is made.
#pragma once

#include <array>
#include <cstddef>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::server {

enum class SlotState { kEmpty, kPrepared, kActive, kOld };
absl::string_view SlotStateName(SlotState state);

struct Slot {
  SlotState state = SlotState::kEmpty;
  absl::Time not_before = absl::InfinitePast();
  absl::Time not_after = absl::InfinitePast();
  friend bool operator==(const Slot&, const Slot&) = default;
};
using Slots = std::array<Slot, 2>;

enum class RotationAction {
  kWait,      // nothing to do now
  kPrepare,   // make a new authority in `slot` and publish it; what stood there is no longer needed to sign
  kActivate,  // sign with `slot` from now on
  kPrune,     // forget what stands in `slot`: it has ended
};
struct RotationStep {
  RotationAction action = RotationAction::kWait;
  size_t slot = 0;
  friend bool operator==(const RotationStep&, const RotationStep&) = default;
};

// `clock_settled`: the clock has not been set for a while. Only then is anything forgotten: what has ended by a clock
// that is ahead will be needed when it is put right.
RotationStep NextStep(const Slots& slots, absl::Time now, bool clock_settled);
// The slots after the activation of `slot`. The one that was active becomes old, or prepared when its time is yet to
// come.
Slots Activated(Slots slots, size_t slot, absl::Time now);
// Whether an authority may sign now. A minute before its start is forgiven: a clock that is set back a little.
bool IsUsable(const Slot& slot, absl::Time now);

absl::Duration PrepareBefore(const Slot& active);   // remaining life under which the next one is prepared
absl::Duration ActivateBefore(const Slot& active);  // ... and takes over

}  // namespace signet::server
