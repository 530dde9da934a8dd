#include "server/ca/rotation.h"

#include <algorithm>
#include <optional>

namespace signet::server {
namespace {

constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kForgivenStep = absl::Minutes(1);

std::optional<size_t> Find(const Slots& slots, SlotState state) {
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].state == state) return i;
  }
  return std::nullopt;
}

std::optional<size_t> FindUsable(const Slots& slots, SlotState state, absl::Time now) {
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].state == state && IsUsable(slots[i], now)) return i;
  }
  return std::nullopt;
}

// Whether a prepared authority will do when the active one has to be replaced. Not one that has ended or whose time
// comes too late; nor one that ends first and is half gone (the configured life was made shorter).
bool CanSucceed(const Slot& prepared, const Slot& active, absl::Time now) {
  if (prepared.state != SlotState::kPrepared || prepared.not_after <= now) return false;
  if (prepared.not_after <= active.not_after && prepared.not_after - now < PrepareBefore(prepared)) return false;
  return IsUsable(prepared, now) || prepared.not_before <= active.not_after - ActivateBefore(active);
}

// Nothing can sign: take what is valid, else make anew, in the slot that is needed least.
RotationStep Recover(const Slots& slots, absl::Time now) {
  for (SlotState state : {SlotState::kPrepared, SlotState::kOld}) {
    if (const auto slot = FindUsable(slots, state, now)) return {RotationAction::kActivate, *slot};
  }
  for (SlotState state : {SlotState::kEmpty, SlotState::kOld, SlotState::kPrepared}) {
    if (const auto slot = Find(slots, state)) return {RotationAction::kPrepare, *slot};
  }
  return {RotationAction::kPrepare, 0};
}

}  // namespace

absl::string_view SlotStateName(SlotState state) {
  switch (state) {
    case SlotState::kEmpty:
      return "empty";
    case SlotState::kPrepared:
      return "prepared";
    case SlotState::kActive:
      return "active";
    case SlotState::kOld:
      return "old";
  }
  return "unknown";
}

absl::Duration PrepareBefore(const Slot& active) {
  return std::min((active.not_after - active.not_before) / 2, 30 * kDay);
}

absl::Duration ActivateBefore(const Slot& active) {
  return std::min((active.not_after - active.not_before) / 6, 7 * kDay);
}

bool IsUsable(const Slot& slot, absl::Time now) {
  return slot.state != SlotState::kEmpty && now >= slot.not_before - kForgivenStep && now < slot.not_after;
}

RotationStep NextStep(const Slots& slots, absl::Time now, bool clock_settled) {
  const auto index = Find(slots, SlotState::kActive);
  if (!index.has_value() || !IsUsable(slots[*index], now)) return Recover(slots, now);
  const Slot& active = slots[*index];
  const size_t other = 1 - *index;
  const absl::Duration remaining = active.not_after - now;
  if (CanSucceed(slots[other], active, now)) {
    if (remaining < ActivateBefore(active) && IsUsable(slots[other], now)) return {RotationAction::kActivate, other};
    return {};
  }
  if (remaining < PrepareBefore(active)) return {RotationAction::kPrepare, other};
  if (clock_settled && slots[other].state != SlotState::kEmpty && slots[other].not_after <= now) {
    return {RotationAction::kPrune, other};
  }
  return {};
}

Slots Activated(Slots slots, size_t slot, absl::Time now) {
  for (Slot& other : slots) {
    if (other.state != SlotState::kActive) continue;
    other.state = now < other.not_before - kForgivenStep ? SlotState::kPrepared : SlotState::kOld;
  }
  slots[slot].state = SlotState::kActive;
  return slots;
}

}  // namespace signet::server
