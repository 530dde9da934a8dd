#include "common/jose/jwt.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/json/json.h"
#include "common/status/macros.h"

namespace signet::jose {
namespace {

absl::Status Malformed(const char* name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("JWT claim \"", name, "\": ", what));
}

absl::StatusOr<std::optional<std::string>> StringClaim(const boost::json::object& claims, const char* name) {
  const boost::json::value* value = claims.if_contains(name);
  if (value == nullptr) return std::optional<std::string>();
  const boost::json::string* text = value->if_string();
  if (text == nullptr) return Malformed(name, "not a string");
  return std::optional<std::string>(std::string(text->data(), text->size()));
}

// RFC 7519 2 allows fractions of a second; nobody in this field issues them, and a double hides a number that was cut.
absl::StatusOr<std::optional<absl::Time>> TimeClaim(const boost::json::object& claims, const char* name) {
  const boost::json::value* value = claims.if_contains(name);
  if (value == nullptr) return std::optional<absl::Time>();
  const int64_t* seconds = value->if_int64();
  if (seconds == nullptr) return Malformed(name, "not an integer within 64 bits");
  return std::optional<absl::Time>(absl::FromUnixSeconds(*seconds));
}

absl::StatusOr<std::vector<std::string>> AudienceClaim(const boost::json::object& claims) {
  std::vector<std::string> audience;
  const boost::json::value* value = claims.if_contains("aud");
  if (value == nullptr) return audience;
  if (const boost::json::string* text = value->if_string()) {
    audience.emplace_back(text->data(), text->size());
    return audience;
  }
  const boost::json::array* list = value->if_array();
  if (list == nullptr) return Malformed("aud", "not a string or an array");
  for (const boost::json::value& item : *list) {
    const boost::json::string* text = item.if_string();
    if (text == nullptr) return Malformed("aud", "an item is not a string");
    audience.emplace_back(text->data(), text->size());
  }
  return audience;
}

}  // namespace

absl::StatusOr<Claims> Claims::Parse(absl::string_view payload_json) {
  SIGNET_ASSIGN_OR_RETURN(boost::json::value value, json::Parse(payload_json, payload_json.size()), "JWT claims");
  if (!value.is_object()) return absl::InvalidArgumentError("JWT claims: not a JSON object");
  auto all = std::make_shared<const boost::json::object>(std::move(value.as_object()));
  Claims claims;
  SIGNET_ASSIGN_OR_RETURN(claims.subject, StringClaim(*all, "sub"));
  SIGNET_ASSIGN_OR_RETURN(claims.issuer, StringClaim(*all, "iss"));
  SIGNET_ASSIGN_OR_RETURN(claims.jwt_id, StringClaim(*all, "jti"));
  SIGNET_ASSIGN_OR_RETURN(claims.audience, AudienceClaim(*all));
  SIGNET_ASSIGN_OR_RETURN(claims.expires_at, TimeClaim(*all, "exp"));
  SIGNET_ASSIGN_OR_RETURN(claims.not_before, TimeClaim(*all, "nbf"));
  SIGNET_ASSIGN_OR_RETURN(claims.issued_at, TimeClaim(*all, "iat"));
  claims.all = std::move(all);
  return claims;
}

}  // namespace signet::jose
