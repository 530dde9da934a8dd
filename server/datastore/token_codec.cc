#include "server/datastore/token_codec.h"

#include <limits>
#include <type_traits>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/json/json.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kMaxRecordBytes = 16 * 1024 * 1024;

// One list of fields a record, walked by the writer and by the reader.
template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, IdentityRecord> {
  visit("owner", r.owner);
  visit("sponsor", r.sponsor);
  visit("description", r.description);
  visit("risk", r.risk);
  visit("ceiling", r.ceiling);
  visit("own_authority", r.own_authority);
  visit("max_depth", r.max_depth);
  visit("token_ttl", r.token_ttl);
  visit("user_issuers", r.user_issuers);
  visit("created_at", r.created_at);
  visit("updated_at", r.updated_at);
}

template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, IssuerRecord> {
  visit("jwks_uri", r.jwks_uri);
  visit("jwks_json", r.jwks_json);
  visit("ca_file", r.ca_file);
  visit("allow_private_address", r.allow_private_address);
  visit("audiences", r.audiences);
  visit("user_claim", r.user_claim);
  visit("rights_claim", r.rights_claim);
  visit("rights", r.rights);
  visit("rights_max_age", r.rights_max_age);
  visit("reauth_after", r.reauth_after);
}

template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, ToolRecord> {
  visit("name", r.name);
  visit("hash", r.hash);
  visit("description", r.description);
  visit("risk", r.risk);
  visit("read_only", r.read_only);
  visit("needs", r.needs);
  visit("tombstone", r.tombstone);
}

template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, ResourceRecord> {
  visit("name", r.name);
  visit("servers", r.servers);
  visit("default_scopes", r.default_scopes);
  visit("minimum_binding", r.minimum_binding);
  visit("token_ttl", r.token_ttl);
  visit("scopes", r.scopes);
  visit("tools", r.tools);
}

template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, GrantRecord> {
  visit("user_issuer", r.user_issuer);
  visit("user_subject", r.user_subject);
  visit("identity", r.identity);
  visit("actors", r.actors);
  visit("principals", r.principals);
  visit("audiences", r.audiences);
  visit("atoms", r.atoms);
  visit("max_depth", r.max_depth);
  visit("expires_at", r.expires_at);
  visit("text_hash", r.text_hash);
  visit("evidence", r.evidence);
  visit("created_at", r.created_at);
}

template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, TaskRecord> {
  visit("identity", r.identity);
  visit("grant", r.grant);
  visit("description", r.description);
  visit("hash", r.hash);
  visit("atoms", r.atoms);
  visit("deadline", r.deadline);
  visit("created_at", r.created_at);
}

template <typename Visitor, typename Record>
void Fields(Visitor& visit, Record& r) requires std::is_same_v<std::remove_const_t<Record>, UserRightsRecord> {
  visit("issuer", r.issuer);
  visit("subject", r.subject);
  visit("atoms", r.atoms);
  visit("at", r.at);
}

class Writer {
 public:
  template <typename T>
  void operator()(const char* name, const T& value) {
    object_[name] = Value(value);
  }
  template <typename Record>
  static boost::json::object Object(const Record& record) {
    Writer writer;
    Fields(writer, record);
    return std::move(writer.object_);
  }

 private:
  static boost::json::value Value(const std::string& text) { return boost::json::string(text); }
  static boost::json::value Value(bool flag) { return flag; }
  static boost::json::value Value(int number) { return int64_t{number}; }
  template <typename Enum>
  static boost::json::value Value(Enum value) requires std::is_enum_v<Enum> {
    return static_cast<int64_t>(value);
  }
  static boost::json::value Value(absl::Time time) { return EncodeMoment(time); }
  static boost::json::value Value(absl::Duration duration) { return absl::ToInt64Seconds(duration); }
  // Atoms have a text of their own; it stands as it is.
  static boost::json::value Value(const oauth::Atoms& atoms) {
    return boost::json::string(oauth::CanonicalJson(atoms));
  }
  static boost::json::value Value(const ToolRecord& tool) { return Object(tool); }
  template <typename A, typename B>
  static boost::json::value Value(const std::pair<A, B>& pair) {
    return boost::json::array({Value(pair.first), Value(pair.second)});
  }
  template <typename T>
  static boost::json::value Value(const std::vector<T>& list) {
    boost::json::array array;
    array.reserve(list.size());
    for (const T& item : list) array.push_back(Value(item));
    return array;
  }

  boost::json::object object_;
};

// Stops at the first member that is missing or of another type.
class Reader {
 public:
  explicit Reader(const boost::json::object& object) : object_(object) {}
  template <typename T>
  void operator()(const char* name, T& value) {
    if (!status_.ok()) return;
    const boost::json::value* found = object_.if_contains(name);
    status_ = found == nullptr ? absl::DataLossError("is missing") : Value(*found, value);
    status_ = WithContext(status_, name);
  }
  template <typename Record>
  static absl::Status Object(const boost::json::value& value, Record& record) {
    if (!value.is_object()) return absl::DataLossError("is no object");
    Reader reader(value.get_object());
    Fields(reader, record);
    return reader.status_;
  }

 private:
  static absl::Status Number(const boost::json::value& value, int64_t& number) {
    if (!value.is_int64()) return absl::DataLossError("is no number");
    number = value.get_int64();
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, std::string& text) {
    if (!value.is_string()) return absl::DataLossError("is no text");
    text.assign(value.get_string().data(), value.get_string().size());
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, bool& flag) {
    if (!value.is_bool()) return absl::DataLossError("is no flag");
    flag = value.get_bool();
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, int& number) {
    int64_t wide = 0;
    SIGNET_RETURN_IF_ERROR(Number(value, wide));
    number = static_cast<int>(wide);
    return absl::OkStatus();
  }
  template <typename Enum>
  static absl::Status Value(const boost::json::value& value, Enum& out) requires std::is_enum_v<Enum> {
    int64_t wide = 0;
    SIGNET_RETURN_IF_ERROR(Number(value, wide));
    if (wide < 1 || wide > 3) return absl::DataLossError("is out of range");  // of every enum here
    out = static_cast<Enum>(wide);
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, absl::Time& time) {
    int64_t seconds = 0;
    SIGNET_RETURN_IF_ERROR(Number(value, seconds));
    time = DecodeMoment(seconds);
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, absl::Duration& duration) {
    int64_t seconds = 0;
    SIGNET_RETURN_IF_ERROR(Number(value, seconds));
    duration = absl::Seconds(seconds);
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, oauth::Atoms& atoms) {
    std::string text;
    SIGNET_RETURN_IF_ERROR(Value(value, text));
    absl::StatusOr<oauth::Atoms> parsed = oauth::ParseAtoms(text);
    if (!parsed.ok()) return absl::DataLossError(parsed.status().message());
    atoms = *std::move(parsed);
    return absl::OkStatus();
  }
  static absl::Status Value(const boost::json::value& value, ToolRecord& tool) { return Object(value, tool); }
  template <typename A, typename B>
  static absl::Status Value(const boost::json::value& value, std::pair<A, B>& pair) {
    if (!value.is_array() || value.get_array().size() != 2) return absl::DataLossError("is no pair");
    SIGNET_RETURN_IF_ERROR(Value(value.get_array()[0], pair.first));
    return Value(value.get_array()[1], pair.second);
  }
  template <typename T>
  static absl::Status Value(const boost::json::value& value, std::vector<T>& list) {
    if (!value.is_array()) return absl::DataLossError("is no list");
    list.clear();
    list.reserve(value.get_array().size());
    for (const boost::json::value& item : value.get_array()) {
      SIGNET_RETURN_IF_ERROR(Value(item, list.emplace_back()));
    }
    return absl::OkStatus();
  }

  const boost::json::object& object_;
  absl::Status status_;
};

template <typename Record>
std::string Encode(const Record& record) {
  return boost::json::serialize(Writer::Object(record));
}

template <typename Record>
absl::Status Decode(absl::string_view text, Record& record) {
  const absl::StatusOr<boost::json::value> value = json::Parse(text, kMaxRecordBytes);
  const absl::Status status =
      value.ok() ? Reader::Object(*value, record) : absl::DataLossError(value.status().message());
  return WithContext(status, "stored record");
}

}  // namespace

int64_t EncodeMoment(absl::Time time) {
  if (time == absl::InfiniteFuture()) return std::numeric_limits<int64_t>::max();
  if (time == absl::InfinitePast()) return std::numeric_limits<int64_t>::min();
  return absl::ToUnixSeconds(time);
}
absl::Time DecodeMoment(int64_t seconds) {
  if (seconds == std::numeric_limits<int64_t>::max()) return absl::InfiniteFuture();
  if (seconds == std::numeric_limits<int64_t>::min()) return absl::InfinitePast();
  return absl::FromUnixSeconds(seconds);
}

std::string EncodeRecord(const IdentityRecord& record) { return Encode(record); }
std::string EncodeRecord(const IssuerRecord& record) { return Encode(record); }
std::string EncodeRecord(const ResourceRecord& record) { return Encode(record); }
std::string EncodeRecord(const GrantRecord& record) { return Encode(record); }
std::string EncodeRecord(const TaskRecord& record) { return Encode(record); }
std::string EncodeRecord(const UserRightsRecord& record) { return Encode(record); }

absl::Status DecodeRecord(absl::string_view text, IdentityRecord& record) { return Decode(text, record); }
absl::Status DecodeRecord(absl::string_view text, IssuerRecord& record) { return Decode(text, record); }
absl::Status DecodeRecord(absl::string_view text, ResourceRecord& record) { return Decode(text, record); }
absl::Status DecodeRecord(absl::string_view text, GrantRecord& record) { return Decode(text, record); }
absl::Status DecodeRecord(absl::string_view text, TaskRecord& record) { return Decode(text, record); }
absl::Status DecodeRecord(absl::string_view text, UserRightsRecord& record) { return Decode(text, record); }

}  // namespace signet::server
