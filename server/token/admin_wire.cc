#include "server/token/admin_wire.h"

#include <cmath>

#include <boost/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace signet::server {
namespace {

constexpr int32_t kPageSize = 100, kMaxPageSize = 500;

std::string TimeText(absl::Time time) {
  return time == absl::InfiniteFuture() || time == absl::InfinitePast() || time == absl::UnixEpoch()
             ? ""
             : absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", time, absl::UTCTimeZone());
}

absl::string_view NameOf(oauth::Risk risk) {
  switch (risk) {
    case oauth::Risk::kLow:
      return "low";
    case oauth::Risk::kMedium:
      return "medium";
    case oauth::Risk::kHigh:
      break;
  }
  return "high";
}

absl::string_view NameOf(oauth::MinimumBinding binding) {
  switch (binding) {
    case oauth::MinimumBinding::kBearer:
      return "bearer";
    case oauth::MinimumBinding::kMtls:
      return "mtls";
    case oauth::MinimumBinding::kDpop:
      break;
  }
  return "dpop";
}

absl::string_view NameOf(GrantState state) {
  switch (state) {
    case GrantState::kActive:
      return "active";
    case GrantState::kRevoked:
      return "revoked";
    case GrantState::kVoid:
      break;
  }
  return "void";
}

template <typename Texts>
void AddAll(const std::vector<std::string>& texts, Texts* out) {
  for (const std::string& text : texts) *out->Add() = text;
}

boost::json::value JsonOfValue(const google::protobuf::Value& in) {
  using google::protobuf::Value;
  switch (in.kind_case()) {
    case Value::kBoolValue:
      return in.bool_value();
    case Value::kStringValue:
      return boost::json::string(in.string_value());
    case Value::kNumberValue: {
      const double number = in.number_value();
      if (std::nearbyint(number) == number && std::abs(number) <= static_cast<double>(oauth::kMaxNumber)) {
        return static_cast<int64_t>(number);
      }
      return number;
    }
    case Value::kListValue: {
      boost::json::array array;
      for (const Value& item : in.list_value().values()) array.push_back(JsonOfValue(item));
      return array;
    }
    case Value::kStructValue:
      return JsonOf(in.struct_value());
    case Value::kNullValue:
    case Value::KIND_NOT_SET:
      break;
  }
  return nullptr;
}

void ValueOf(const boost::json::value& in, google::protobuf::Value& out) {
  switch (in.kind()) {
    case boost::json::kind::bool_:
      return out.set_bool_value(in.get_bool());
    case boost::json::kind::int64:
      return out.set_number_value(static_cast<double>(in.get_int64()));
    case boost::json::kind::uint64:
      return out.set_number_value(static_cast<double>(in.get_uint64()));
    case boost::json::kind::double_:
      return out.set_number_value(in.get_double());
    case boost::json::kind::string:
      return out.set_string_value(std::string(in.get_string().data(), in.get_string().size()));
    case boost::json::kind::array:
      out.mutable_list_value();
      for (const boost::json::value& item : in.get_array()) ValueOf(item, *out.mutable_list_value()->add_values());
      return;
    case boost::json::kind::object:
      return StructOf(in.get_object(), *out.mutable_struct_value());
    case boost::json::kind::null:
      break;
  }
  out.set_null_value(google::protobuf::NULL_VALUE);
}

void Set(boost::json::object& object, const char* name, const std::string& text) {
  if (!text.empty()) object[name] = text;
}

}  // namespace

boost::json::object JsonOf(const google::protobuf::Struct& in) {
  boost::json::object object;
  for (const auto& [name, value] : in.fields()) object[name] = JsonOfValue(value);
  return object;
}

void StructOf(const boost::json::object& in, google::protobuf::Struct& out) {
  for (const boost::json::key_value_pair& member : in) {
    ValueOf(member.value(), (*out.mutable_fields())[std::string(member.key().data(), member.key().size())]);
  }
}

absl::string_view NameOf(IdentityState state) {
  switch (state) {
    case IdentityState::kDraft:
      return "draft";
    case IdentityState::kActive:
      return "active";
    case IdentityState::kSuspended:
      return "suspended";
    case IdentityState::kRetired:
      break;
  }
  return "retired";
}

void ToWire(const oauth::Atoms& atoms, google::protobuf::RepeatedPtrField<token::v1::Atom>& out) {
  for (const oauth::Atom& atom : atoms) {
    token::v1::Atom& one = *out.Add();
    one.set_resource(atom.resource);
    one.set_action(atom.action);
    one.set_tool(atom.tool);
    one.set_tool_hash(atom.tool_hash);
    if (!atom.constraints.empty()) StructOf(oauth::ConstraintsJson(atom.constraints), *one.mutable_constraints());
  }
}

void ToWire(const IdentityRecord& record, token::v1::Identity& out) {
  out.set_spiffe_id(record.spiffe_id);
  out.set_version(record.version);
  out.set_owner(record.owner);
  out.set_sponsor(record.sponsor);
  out.set_description(record.description);
  out.set_risk(std::string(NameOf(record.risk)));
  ToWire(record.ceiling, *out.mutable_ceiling_atoms());
  ToWire(record.own_authority, *out.mutable_own_authority_atoms());
  out.set_max_depth(record.max_depth);
  out.set_token_ttl(absl::FormatDuration(record.token_ttl));
  AddAll(record.user_issuers, out.mutable_user_issuers());
  out.set_state(std::string(NameOf(record.state)));
  out.set_created_at(TimeText(record.created_at));
  out.set_updated_at(TimeText(record.updated_at));
}

void ToWire(const IssuerRecord& record, token::v1::Issuer& out) {
  out.set_url(record.url);
  out.set_jwks_uri(record.jwks_uri);
  out.set_jwks_json(record.jwks_json);
  out.set_ca_file(record.ca_file);
  out.set_allow_private_address(record.allow_private_address);
  AddAll(record.audiences, out.mutable_audiences());
  out.set_user_claim(record.user_claim);
  out.set_rights_claim(record.rights_claim);
  for (const auto& [text, atoms] : record.rights) ToWire(atoms, *(*out.mutable_rights_atoms())[text].mutable_atoms());
  out.set_rights_max_age(absl::FormatDuration(record.rights_max_age));
  out.set_reauth_after(absl::FormatDuration(record.reauth_after));
}

void ToWire(const ResourceRecord& record, token::v1::Resource& out) {
  out.set_uri(record.uri);
  out.set_name(record.name);
  out.set_version(record.version);
  AddAll(record.servers, out.mutable_servers());
  AddAll(record.default_scopes, out.mutable_default_scopes());
  out.set_minimum_binding(std::string(NameOf(record.minimum_binding)));
  out.set_token_ttl(absl::FormatDuration(record.token_ttl));
  for (const auto& [scope, actions] : record.scopes) {
    AddAll(actions, (*out.mutable_scopes())[scope].mutable_actions());
  }
  for (const ToolRecord& tool : record.tools) {
    if (tool.tombstone) continue;
    token::v1::Tool& one = *out.add_tools();
    one.set_name(tool.name);
    one.set_description(tool.description);
    one.set_risk(std::string(NameOf(tool.risk)));
    one.set_read_only(tool.read_only);
    AddAll(tool.needs, one.mutable_scopes());
    one.set_hash(tool.hash);
  }
}

void ToWire(const GrantRecord& record, token::v1::Grant& out) {
  out.set_id(record.id);
  out.mutable_user()->set_issuer(record.user_issuer);
  out.mutable_user()->set_subject(record.user_subject);
  out.set_identity(record.identity);
  AddAll(record.actors, out.mutable_actors());
  AddAll(record.principals, out.mutable_principals());
  AddAll(record.audiences, out.mutable_audiences());
  ToWire(record.atoms, *out.mutable_atoms());
  out.set_max_depth(record.max_depth);
  out.set_expires_at(TimeText(record.expires_at));
  out.set_text_hash(record.text_hash);
  out.set_evidence(record.evidence);
  out.set_state(std::string(NameOf(record.state)));
  out.set_created_at(TimeText(record.created_at));
}

void ToWire(const TaskRecord& record, token::v1::Task& out) {
  out.set_id(record.id);
  out.set_identity(record.identity);
  out.set_grant(record.grant);
  out.set_description(record.description);
  ToWire(record.atoms, *out.mutable_atoms());
  out.set_deadline(TimeText(record.deadline));
  out.set_budget(record.budget);
  out.set_reserved(record.reserved);
  out.set_hash(record.hash);
  out.set_state(record.state == TaskState::kOpen ? "open" : "closed");
  out.set_created_at(TimeText(record.created_at));
}

void ToWire(const UserRightsRecord& record, token::v1::UserRights& out) {
  out.mutable_user()->set_issuer(record.issuer);
  out.mutable_user()->set_subject(record.subject);
  ToWire(record.atoms, *out.mutable_atoms());
  out.set_at(TimeText(record.at));
}

void ToWire(const oauth::Revocation& record, token::v1::Revocation& out) {
  out.set_kind(std::string(oauth::EntityKindName(record.kind)));
  out.set_entity(record.entity);
  out.set_seq(record.seq);
  out.set_not_before(TimeText(record.not_before));
  out.set_reason(record.reason);
  out.set_reinstated(record.reinstated);
}

void ToWire(const TokenKeys::Key& key, bool revoked, token::v1::SigningKey& out) {
  out.set_kid(key.kid);
  out.set_state(std::string(SlotStateName(key.slot.state)));
  out.set_not_before(TimeText(key.slot.not_before));
  out.set_not_after(TimeText(key.slot.not_after));
  out.set_revoked(revoked);
}

void ToWire(const Alert& alert, token::v1::Alert& out) {
  out.set_id(alert.id);
  out.set_kind(alert.kind);
  out.set_identity(alert.identity);
  out.set_detail(alert.detail);
  out.set_at(TimeText(alert.at));
  out.set_txn(alert.txn);
}

void ToWire(const oauth::Receipt& receipt, google::protobuf::Struct& out) {
  boost::json::object hop{{"depth", receipt.depth}, {"max_depth", receipt.max_depth}};
  Set(hop, "actor", receipt.actor);
  Set(hop, "from", receipt.from);
  Set(hop, "audience", receipt.audience);
  Set(hop, "grant", receipt.grant);
  Set(hop, "task", receipt.task);
  Set(hop, "user_hash", receipt.user);
  Set(hop, "token_hash", receipt.token_hash);
  Set(hop, "previous", receipt.previous);
  Set(hop, "policy", receipt.policy);
  Set(hop, "issued_at", TimeText(receipt.issued_at));
  Set(hop, "expires_at", TimeText(receipt.expires_at));
  if (receipt.calls) hop["calls"] = *receipt.calls;
  boost::json::array bounds;
  for (const oauth::Atom& atom : receipt.bounds) {
    bounds.emplace_back(absl::StrCat(atom.resource, atom.tool ? " tool " : " ", atom.action));
  }
  hop["bounds"] = std::move(bounds);
  StructOf(hop, out);
}

absl::StatusOr<absl::Time> ReadTime(absl::string_view field, const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error) || time <= absl::UnixEpoch() ||
      time > absl::FromUnixSeconds(253'402'300'799)) {  // 9999-12-31, the last that RFC 3339 can say
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": \"", text, "\" is no time; say it as 2030-01-31T00:00:00Z"));
  }
  return absl::FromUnixSeconds(absl::ToUnixSeconds(time));
}

absl::StatusOr<absl::Duration> ReadDuration(absl::string_view field, const std::string& text, absl::Duration standard,
                                            absl::Duration least, absl::Duration most) {
  if (text.empty()) return standard;
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < least || duration > most ||
      absl::Trunc(duration, absl::Seconds(1)) != duration) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": \"", text, "\" is no duration of whole seconds from ",
                                                   absl::FormatDuration(least), " to ", absl::FormatDuration(most)));
  }
  return duration;
}

absl::StatusOr<oauth::Risk> ReadRisk(absl::string_view field, const std::string& text) {
  if (text.empty() || text == "high") return oauth::Risk::kHigh;
  if (text == "medium") return oauth::Risk::kMedium;
  if (text == "low") return oauth::Risk::kLow;
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be low, medium or high"));
}

absl::StatusOr<oauth::MinimumBinding> ReadBinding(absl::string_view field, const std::string& text) {
  if (text.empty() || text == "dpop") return oauth::MinimumBinding::kDpop;
  if (text == "mtls") return oauth::MinimumBinding::kMtls;
  if (text == "bearer") return oauth::MinimumBinding::kBearer;
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be mtls, dpop or bearer"));
}

absl::StatusOr<PageRequest> ReadPage(const token::v1::ListRequest& request) {
  if (request.page_size() < 0 || request.page_size() > kMaxPageSize) {
    return absl::InvalidArgumentError(absl::StrCat("page_size: at most ", kMaxPageSize));
  }
  return PageRequest{.after = request.page_token(),
                     .limit = static_cast<size_t>(request.page_size() == 0 ? kPageSize : request.page_size())};
}

}  // namespace signet::server
