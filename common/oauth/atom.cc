#include "common/oauth/atom.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

namespace signet::oauth {
namespace {

// What an atom is about. Two atoms of a set never share it.
auto KeyOf(const Atom& atom) { return std::tie(atom.resource, atom.tool, atom.action); }
bool Before(const Atom& a, const Atom& b) { return KeyOf(a) < KeyOf(b); }

template <typename T, typename Pick>
std::optional<T> Both(const std::optional<T>& a, const std::optional<T>& b, Pick pick) {
  if (!a.has_value()) return b;
  if (!b.has_value()) return a;
  return pick(*a, *b);
}

bool Unmeetable(const Constraint& c) {
  return (c.in.has_value() && c.in->empty()) || (c.min.has_value() && c.max.has_value() && *c.min > *c.max) ||
         (c.from.has_value() && c.until.has_value() && *c.from >= *c.until);
}

bool Unmeetable(const Constraints& constraints) {
  return std::any_of(constraints.begin(), constraints.end(), [](const auto& c) { return Unmeetable(c.second); });
}

// Narrows `a` by `b`. False: nothing is left.
bool MeetInto(Constraint& a, const Constraint& b) {
  a.in = Both(a.in, b.in, [](const auto& x, const auto& y) {
    std::set<std::string> both;
    std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::inserter(both, both.end()));
    return both;
  });
  a.min = Both(a.min, b.min, [](int64_t x, int64_t y) { return std::max(x, y); });
  a.max = Both(a.max, b.max, [](int64_t x, int64_t y) { return std::min(x, y); });
  a.from = Both(a.from, b.from, [](absl::Time x, absl::Time y) { return std::max(x, y); });
  a.until = Both(a.until, b.until, [](absl::Time x, absl::Time y) { return std::min(x, y); });
  for (const auto& [name, value] : b.other) {
    const auto [at, added] = a.other.emplace(name, value);
    if (!added && at->second != value) return false;
  }
  return !Unmeetable(a);
}

std::optional<Atom> MeetAtoms(const Atom& a, const Atom& b) {
  if (a.tool_hash != b.tool_hash) return std::nullopt;
  Atom both = a;
  for (const auto& [field, constraint] : b.constraints) {
    const auto [at, added] = both.constraints.emplace(field, constraint);
    if (!added && !MeetInto(at->second, constraint)) return std::nullopt;
  }
  return Unmeetable(both.constraints) ? std::nullopt : std::optional<Atom>(std::move(both));
}

template <typename Fn>
void ForEachPair(const Atoms& a, const Atoms& b, Fn fn) {  // fn(atom of a, atom of b with the same key or null)
  auto other = b.begin();
  for (const Atom& atom : a) {
    while (other != b.end() && Before(*other, atom)) ++other;
    fn(atom, other != b.end() && !Before(atom, *other) ? &*other : nullptr);
  }
}

}  // namespace

absl::StatusOr<Atoms> Normalize(Atoms atoms) {
  if (atoms.size() > kMaxAtoms) {
    return absl::InvalidArgumentError(absl::StrCat(atoms.size(), " permissions, more than ", kMaxAtoms));
  }
  for (Atom& atom : atoms) {  // a constraint that bounds nothing is none
    std::erase_if(atom.constraints, [](const auto& c) { return c.second == Constraint{}; });
  }
  std::erase_if(atoms, [](const Atom& atom) { return Unmeetable(atom.constraints); });
  std::sort(atoms.begin(), atoms.end(), Before);
  atoms.erase(std::unique(atoms.begin(), atoms.end()), atoms.end());
  for (size_t i = 1; i < atoms.size(); ++i) {
    if (KeyOf(atoms[i - 1]) == KeyOf(atoms[i])) {
      return absl::InvalidArgumentError(absl::StrCat(atoms[i].tool ? "tool \"" : "action \"", atoms[i].action, "\" of ",
                                                     atoms[i].resource,
                                                     " comes twice with different bounds: name it once"));
    }
  }
  return atoms;
}

Atoms Meet(const Atoms& a, const Atoms& b) {
  Atoms both;
  ForEachPair(a, b, [&](const Atom& atom, const Atom* other) {
    if (other == nullptr) return;
    if (std::optional<Atom> met = MeetAtoms(atom, *other)) both.push_back(*std::move(met));
  });
  return both;
}

bool Within(const Atoms& inner, const Atoms& outer) { return Meet(inner, outer) == inner; }

Atoms Removed(const Atoms& before, const Atoms& after) {
  Atoms removed;
  ForEachPair(before, after, [&](const Atom& atom, const Atom* left) {
    if (left == nullptr) removed.push_back(atom);
  });
  return removed;
}

Atoms Narrowed(const Atoms& before, const Atoms& after) {
  Atoms narrowed;
  ForEachPair(before, after, [&](const Atom& atom, const Atom* left) {
    if (left != nullptr && *left != atom) narrowed.push_back(*left);
  });
  return narrowed;
}

}  // namespace signet::oauth
