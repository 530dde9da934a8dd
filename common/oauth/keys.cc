// Public keys of one kind of JWT as a JWK set (RFC 7517 5).
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <utility>

#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/oauth/access_token.h"
#include "common/oauth/members.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

constexpr size_t kMaxKeySetBytes = 256 * 1024;
constexpr size_t kMaxKeys = 256;

}  // namespace

absl::StatusOr<Keys> ParseKeys(absl::string_view jwks_json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(jwks_json, kMaxKeySetBytes), "key set");
  if (!value.is_object()) return absl::InvalidArgumentError("key set: not an object");
  Members members(value.get_object(), "key set");
  const boost::json::array* array = members.Array("keys", kMaxKeys);
  if (array == nullptr) members.Fail("keys", "missing");
  SIGNET_RETURN_IF_ERROR(members.status());
  Keys keys;
  for (const boost::json::value& item : *array) {
    if (!item.is_object()) return absl::InvalidArgumentError("key set: an item is not an object");
    Members jwk(item.get_object(), "key set");
    const std::string kid = jwk.TextOr("kid");
    const std::string use = jwk.TextOr("use");
    SIGNET_RETURN_IF_ERROR(jwk.status());
    if (kid.empty() || (!use.empty() && use != "sig")) continue;
    absl::StatusOr<crypto::PublicKey> key = jose::ParseJwk(item.get_object());
    if (key.status().code() == absl::StatusCode::kUnimplemented) continue;
    if (!key.ok()) return key.status();
    if (!keys.emplace(kid, *std::move(key)).second) return absl::InvalidArgumentError("key set: a \"kid\" comes twice");
  }
  return keys;
}

std::string KeysJson(const Keys& keys) {
  boost::json::array array;
  for (const auto& [kid, key] : keys) {
    boost::json::object jwk = jose::ToJwk(key);
    jwk["kid"] = kid;
    jwk["use"] = "sig";
    if (const auto algorithm = jose::AlgorithmFor(key.type()); algorithm.ok()) jwk["alg"] = JsonView(*algorithm);
    array.push_back(std::move(jwk));
  }
  boost::json::object set;
  set["keys"] = std::move(array);
  return Canonical(set);
}

}  // namespace signet::oauth
