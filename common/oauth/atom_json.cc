// Atoms, constraints and authorization_details as JSON.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/json/json.h"
#include "common/oauth/access_token.h"
#include "common/oauth/atom.h"
#include "common/oauth/claims_json.h"
#include "common/oauth/members.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

constexpr size_t kMaxNameBytes = 256;  // of a tool, an action, a field
// Of the values of a constraint. They stand deeper in a receipt than in a request, and json::Parse has a limit: what
// was read once must be read again where we put it.
constexpr int kMaxValueDepth = 4;

bool IsDeeperThan(const boost::json::value& value, int levels) {
  const auto deeper = [levels](const boost::json::value& item) { return IsDeeperThan(item, levels - 1); };
  if (const boost::json::array* array = value.if_array()) {
    return levels == 0 || std::any_of(array->begin(), array->end(), deeper);
  }
  if (const boost::json::object* object = value.if_object()) {
    return levels == 0 ||
           std::any_of(object->begin(), object->end(), [&](const auto& member) { return deeper(member.value()); });
  }
  return false;
}

absl::Status BadField(absl::string_view field, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("constraint on \"", field, "\": ", problem));
}

absl::StatusOr<int64_t> ReadNumber(absl::string_view field, const boost::json::value& value) {
  const int64_t* number = value.if_int64();
  if (number == nullptr || *number < -kMaxNumber || *number > kMaxNumber) {
    return BadField(field, "a bound is not an integer within 53 bits");
  }
  return *number;
}

absl::StatusOr<absl::Time> ReadTime(absl::string_view field, const boost::json::value& value) {
  if (const int64_t* seconds = value.if_int64()) {
    if (*seconds < 0 || *seconds > kMaxSeconds) return BadField(field, "a time is out of range");
    return absl::FromUnixSeconds(*seconds);
  }
  absl::Time time;
  std::string error;
  const boost::json::string* text = value.if_string();
  if (text == nullptr || !absl::ParseTime(absl::RFC3339_full, View(*text), &time, &error) || time < absl::UnixEpoch() ||
      time > absl::FromUnixSeconds(kMaxSeconds)) {
    return BadField(field, "a time is neither seconds nor RFC 3339");
  }
  if (absl::FromUnixSeconds(absl::ToUnixSeconds(time)) != time) return BadField(field, "a time has parts of seconds");
  return time;
}

absl::StatusOr<std::set<std::string>> ReadValues(absl::string_view field, const boost::json::value& value) {
  const boost::json::array* array = value.if_array();
  if (array == nullptr) return BadField(field, "\"in\" is not an array");
  if (array->size() > kMaxConstraintValues) return BadField(field, "too many values");
  std::set<std::string> values;
  for (const boost::json::value& item : *array) values.insert(Canonical(item));
  return values;
}

absl::StatusOr<Constraint> ReadConstraint(absl::string_view field, const boost::json::value& value) {
  const boost::json::object* object = value.if_object();
  if (object == nullptr) return BadField(field, "not an object; say {\"in\": [...]}, {\"max\": n}, ...");
  Constraint constraint;
  for (const boost::json::key_value_pair& member : *object) {
    const absl::string_view name(member.key().data(), member.key().size());
    if (name.empty() || name.size() > kMaxNameBytes)
      return BadField(field, "the name of an operator is empty or too long");
    if (IsDeeperThan(member.value(), kMaxValueDepth)) return BadField(field, "a value is nested too deeply");
    if (name == "in") {
      SIGNET_ASSIGN_OR_RETURN(constraint.in, ReadValues(field, member.value()));
    } else if (name == "min") {
      SIGNET_ASSIGN_OR_RETURN(constraint.min, ReadNumber(field, member.value()));
    } else if (name == "max") {
      SIGNET_ASSIGN_OR_RETURN(constraint.max, ReadNumber(field, member.value()));
    } else if (name == "from") {
      SIGNET_ASSIGN_OR_RETURN(constraint.from, ReadTime(field, member.value()));
    } else if (name == "until") {
      SIGNET_ASSIGN_OR_RETURN(constraint.until, ReadTime(field, member.value()));
    } else {
      constraint.other.emplace(name, Canonical(member.value()));
    }
  }
  if (constraint == Constraint{}) return BadField(field, "bounds nothing");
  return constraint;
}

// `text` was written by Canonical(), so it reads.
boost::json::value Reread(const std::string& text) {
  absl::StatusOr<boost::json::value> value = json::Parse(text, text.size());
  return value.ok() ? *std::move(value) : boost::json::value();
}

bool IsHash(absl::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

boost::json::object AtomJson(const Atom& atom) {
  boost::json::object object;
  object["resource"] = atom.resource;
  object["action"] = atom.action;
  if (atom.tool) object["tool"] = true;
  if (!atom.tool_hash.empty()) object["tool_hash"] = atom.tool_hash;
  if (!atom.constraints.empty()) object["constraints"] = ConstraintsJson(atom.constraints);
  return object;
}

absl::StatusOr<Atom> ReadAtom(const boost::json::value& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("permission: not an object");
  Members members(value.get_object(), "permission");
  Atom atom{.resource = members.Text("resource"), .action = members.Text("action"), .tool_hash = {}, .constraints = {}};
  atom.tool_hash = members.TextOr("tool_hash");
  if (const boost::json::value* tool = members.Find("tool")) {
    if (!tool->is_bool()) members.Fail("tool", "not true or false");
    atom.tool = tool->is_bool() && tool->get_bool();
  }
  if (atom.action.size() > kMaxNameBytes) members.Fail("action", "too long");
  if (atom.tool ? !IsHash(atom.tool_hash) : !atom.tool_hash.empty()) members.Fail("tool_hash", "not that of a tool");
  if (const boost::json::value* constraints = members.Find("constraints")) {
    SIGNET_ASSIGN_OR_RETURN(atom.constraints, ParseConstraints(*constraints));
  }
  SIGNET_RETURN_IF_ERROR(members.NothingElse());
  return atom;
}

absl::StatusOr<ToolCallDetails> ReadItem(const boost::json::value& value) {
  if (!value.is_object()) return absl::InvalidArgumentError("authorization_details: an item is not an object");
  Members members(value.get_object(), "authorization_details");
  ToolCallDetails details;
  if (members.Text("type") != "mcp_tool_call") members.Fail("type", "only mcp_tool_call is supported");
  const std::vector<std::string> locations = members.Texts("locations", 1);
  if (locations.size() != 1) members.Fail("locations", "must name one resource");
  details.tools = members.Texts("tools", kMaxAtoms, kMaxNameBytes);
  if (details.tools.empty()) members.Fail("tools", "must name a tool");
  details.max_calls = members.Integer("max_calls", 1, kMaxNumber);
  if (const boost::json::value* constraints = members.Find("constraints")) {
    SIGNET_ASSIGN_OR_RETURN(details.constraints, ParseConstraints(*constraints), "authorization_details");
  }
  if (const boost::json::object* hashes = members.Object("tool_hashes")) {
    for (const boost::json::key_value_pair& hash : *hashes) {
      const std::string tool(hash.key().data(), hash.key().size());
      const boost::json::string* text = hash.value().if_string();
      if (text == nullptr || !IsHash(View(*text)) ||
          std::find(details.tools.begin(), details.tools.end(), tool) == details.tools.end()) {
        members.Fail("tool_hashes", "an item is not the hash of a tool named here");
        break;
      }
      details.tool_hashes.emplace(tool, View(*text));
    }
  }
  SIGNET_RETURN_IF_ERROR(members.NothingElse());
  SIGNET_ASSIGN_OR_RETURN(details.resource, CanonicalResource(locations.front()),
                          "authorization_details: \"locations\"");
  std::sort(details.tools.begin(), details.tools.end());
  if (std::adjacent_find(details.tools.begin(), details.tools.end()) != details.tools.end()) {
    return absl::InvalidArgumentError("authorization_details: \"tools\": one comes twice");
  }
  return details;
}

}  // namespace

absl::StatusOr<Constraints> ParseConstraints(const boost::json::value& value) {
  const boost::json::object* object = value.if_object();
  if (object == nullptr) return absl::InvalidArgumentError("constraints: not an object");
  if (object->size() > kMaxConstraintFields) return absl::InvalidArgumentError("constraints: too many fields");
  Constraints constraints;
  for (const boost::json::key_value_pair& member : *object) {
    const std::string field(member.key().data(), member.key().size());
    if (field.empty() || field.size() > kMaxNameBytes) {
      return absl::InvalidArgumentError("constraints: the name of a field is empty or too long");
    }
    SIGNET_ASSIGN_OR_RETURN(Constraint constraint, ReadConstraint(field, member.value()));
    constraints.emplace(field, std::move(constraint));
  }
  return constraints;
}

boost::json::object ConstraintsJson(const Constraints& constraints) {
  boost::json::object all;
  for (const auto& [field, constraint] : constraints) {
    boost::json::object object;
    if (constraint.in.has_value()) {
      boost::json::array values;
      for (const std::string& value : *constraint.in) values.push_back(Reread(value));
      object["in"] = std::move(values);
    }
    if (constraint.min.has_value()) object["min"] = *constraint.min;
    if (constraint.max.has_value()) object["max"] = *constraint.max;
    if (constraint.from.has_value()) object["from"] = absl::ToUnixSeconds(*constraint.from);
    if (constraint.until.has_value()) object["until"] = absl::ToUnixSeconds(*constraint.until);
    for (const auto& [name, value] : constraint.other) object[name] = Reread(value);
    all[field] = std::move(object);
  }
  return all;
}

boost::json::array AtomsJson(const Atoms& atoms) {
  boost::json::array array;
  array.reserve(atoms.size());
  for (const Atom& atom : atoms) array.push_back(AtomJson(atom));
  return array;
}

std::string CanonicalJson(const Atoms& atoms) { return Canonical(AtomsJson(atoms)); }

absl::StatusOr<Atoms> ReadAtoms(const boost::json::value& value) {
  if (!value.is_array()) return absl::InvalidArgumentError("permissions: not an array");
  if (value.get_array().size() > kMaxAtoms) return absl::InvalidArgumentError("permissions: too many");
  Atoms atoms;
  for (const boost::json::value& item : value.get_array()) {
    SIGNET_ASSIGN_OR_RETURN(Atom atom, ReadAtom(item));
    atoms.push_back(std::move(atom));
  }
  return Normalize(std::move(atoms));
}

absl::StatusOr<Atoms> ParseAtoms(absl::string_view json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(json, kMaxAtomsBytes), "permissions");
  return ReadAtoms(value);
}

std::string HashAtoms(const Atoms& atoms) { return Hash(CanonicalJson(atoms)); }

absl::StatusOr<std::vector<ToolCallDetails>> ReadDetails(const boost::json::value& value) {
  if (!value.is_array()) return absl::InvalidArgumentError("authorization_details: not an array");
  if (value.get_array().size() > kMaxAtoms) return absl::InvalidArgumentError("authorization_details: too many items");
  std::vector<ToolCallDetails> all;
  for (const boost::json::value& item : value.get_array()) {
    SIGNET_ASSIGN_OR_RETURN(ToolCallDetails details, ReadItem(item));
    all.push_back(std::move(details));
  }
  return all;
}

absl::StatusOr<std::vector<ToolCallDetails>> ParseAuthorizationDetails(absl::string_view json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(json, kMaxDetailsBytes), "authorization_details");
  return ReadDetails(value);
}

boost::json::array DetailsJson(const Atoms& atoms, std::optional<int64_t> max_calls) {
  // By resource and bounds, in the order in which they first come.
  std::map<std::pair<std::string, std::string>, size_t> place;
  std::vector<boost::json::object> objects;
  for (const Atom& atom : atoms) {
    if (!atom.tool) continue;
    boost::json::object constraints = ConstraintsJson(atom.constraints);
    const auto [at, added] = place.emplace(std::pair(atom.resource, Canonical(constraints)), objects.size());
    if (added) {
      boost::json::object object;
      object["type"] = "mcp_tool_call";
      object["locations"] = boost::json::array{boost::json::value(atom.resource)};
      object["tools"] = boost::json::array();
      object["tool_hashes"] = boost::json::object();
      if (!constraints.empty()) object["constraints"] = std::move(constraints);
      if (max_calls.has_value()) object["max_calls"] = *max_calls;
      objects.push_back(std::move(object));
    }
    boost::json::object& object = objects[at->second];
    object["tools"].get_array().emplace_back(atom.action);
    object["tool_hashes"].get_object()[atom.action] = atom.tool_hash;
  }
  boost::json::array array;
  for (boost::json::object& object : objects) array.push_back(std::move(object));
  return array;
}

std::string AuthorizationDetails(const Atoms& atoms, std::optional<int64_t> max_calls) {
  return Canonical(DetailsJson(atoms, max_calls));
}

}  // namespace signet::oauth
