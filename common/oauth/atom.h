// Permission atoms: one action, or one tool, of one resource, under constraints. All authority of the token service is
// a set of atoms; a scope string is only a macro for some. Plain immutable values; pure functions.
//
// Sets form a lattice: Meet() is the greatest set within both. Of two atoms with the same resource and action the meet
// keeps every constraint of either: sets of values intersect, maxima fall, minima rise, windows nest. An operator that
// is not understood stays, since a constraint only ever narrows; where both sides have it, it must be equal or the atom
// is gone. So is an atom whose constraints nothing can meet, and a tool whose hash differs between the sides.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::oauth {

// The bounds of one field of a call. What is unset does not bound.
struct Constraint {
  std::optional<std::set<std::string>> in;   // allowed values, as canonical JSON texts
  std::optional<int64_t> min, max;           // inclusive
  std::optional<absl::Time> from, until;     // whole seconds, [from, until)
  std::map<std::string, std::string> other;  // operator we do not know -> canonical JSON: only equality is understood
  friend bool operator==(const Constraint&, const Constraint&) = default;
};
using Constraints = std::map<std::string, Constraint>;  // by field name

struct Atom {
  std::string resource;  // canonical URI
  std::string action;    // "orders:read", or the name of the tool
  bool tool = false;
  std::string tool_hash;  // of a tool: SHA-256 (hex) of what the registrar saw of it (T9); empty for an action
  Constraints constraints;
  friend bool operator==(const Atom&, const Atom&) = default;
};

// Sorted by (resource, tool, action), at most one atom for each: Normalize() merges repeats by joining nothing: a
// repeat with other constraints is refused, since a union of constraints cannot be told apart from a widening.
using Atoms = std::vector<Atom>;

inline constexpr size_t kMaxAtoms = 512;                       // of one set; more is refused when it is read
inline constexpr size_t kMaxConstraintFields = 32;             // of one atom
inline constexpr size_t kMaxConstraintValues = 256;            // of one `in`
inline constexpr size_t kMaxAtomsBytes = 1024 * 1024;          // of a set as text
inline constexpr size_t kMaxDetailsBytes = 16 * 1024;          // of authorization_details
inline constexpr int64_t kMaxNumber = (int64_t{1} << 53) - 1;  // RFC 8785: what every reader holds exactly

absl::StatusOr<Atoms> Normalize(Atoms atoms);  // kInvalidArgument
Atoms Meet(const Atoms& a, const Atoms& b);
// Whether `inner` allows nothing that `outer` does not.
bool Within(const Atoms& inner, const Atoms& outer);
// For traces: the atoms of `before` of which nothing is left in `after`, and those of `after` that were cut down from
// it.
Atoms Removed(const Atoms& before, const Atoms& after);
Atoms Narrowed(const Atoms& before, const Atoms& after);

// Canonical JSON (RFC 8785 as far as our values go: sorted keys, integers, UTF-8): what is stored, hashed and signed.
std::string CanonicalJson(const Atoms& atoms);
absl::StatusOr<Atoms> ParseAtoms(absl::string_view json);
std::string HashAtoms(const Atoms& atoms);  // "sha-256:" + hex

// Canonical JSON of any value read by json::Parse: what constraint values, tool hashes and audit records are compared
// by.
std::string Canonical(const boost::json::value& value);

// {field: {in, min, max, from, until, ...}}: as in records and in the API. `from` and `until` are read as seconds or as
// RFC 3339, written as seconds. Other operators are kept as they are. kInvalidArgument names the field.
absl::StatusOr<Constraints> ParseConstraints(const boost::json::value& value);
boost::json::object ConstraintsJson(const Constraints& constraints);

// RFC 9396 objects of type `mcp_tool_call`: locations (one resource URI), tools, constraints, max_calls, tool_hashes
// (of all or some of the tools: as in our answers). Any other member, type or a repeat is refused. kInvalidArgument.
struct ToolCallDetails {
  std::string resource;  // canonical
  std::vector<std::string> tools;
  std::map<std::string, std::string> tool_hashes;
  Constraints constraints;
  std::optional<int64_t> max_calls;
};
absl::StatusOr<std::vector<ToolCallDetails>> ParseAuthorizationDetails(absl::string_view json);
// Of granted atoms that are tools; atoms of one resource with equal constraints share an object.
std::string AuthorizationDetails(const Atoms& atoms, std::optional<int64_t> max_calls);

}  // namespace signet::oauth
