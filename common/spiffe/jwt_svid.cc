#include "common/spiffe/jwt_svid.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/jose/jws.h"
#include "common/status/macros.h"

namespace signet::spiffe {
namespace {

absl::Status Refusal(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("JWT-SVID: ", why)); }

boost::json::string_view Boost(absl::string_view text) { return {text.data(), text.size()}; }

absl::Status CheckClaims(const JwtSvidClaims& claims) {
  if (claims.subject.is_root()) return Refusal("the subject has no path");
  if (claims.audience.empty()) return Refusal("no audience");  // 3.2
  for (const std::string& audience : claims.audience) {
    if (audience.empty()) return Refusal("an empty audience");
  }
  if (claims.expires_at <= claims.issued_at) return Refusal("expires before it is issued");
  return absl::OkStatus();
}

std::string ClaimsJson(const JwtSvidClaims& claims) {
  boost::json::object payload;
  boost::json::array audience;
  for (const std::string& value : claims.audience) audience.emplace_back(value);
  payload["aud"] = std::move(audience);  // always a list, as SPIRE does
  payload["exp"] = absl::ToUnixSeconds(claims.expires_at);
  payload["iat"] = absl::ToUnixSeconds(claims.issued_at);
  if (!claims.issuer.empty()) payload["iss"] = claims.issuer;
  if (!claims.jwt_id.empty()) payload["jti"] = claims.jwt_id;
  if (claims.issued_to.has_value()) payload[Boost(kIssuedToClaim)] = ClaimOf(*claims.issued_to);
  payload["sub"] = claims.subject.string();
  return boost::json::serialize(payload);
}

// What both readers need: the form of the token and of the claims SPIFFE defines. JWT-SVID 2, 3.
struct Decoded {
  jose::CompactJws jws;
  ValidatedJwtSvid svid;
};
absl::StatusOr<Decoded> Decode(absl::string_view token) {
  SIGNET_ASSIGN_OR_RETURN(jose::CompactJws jws, jose::CompactJws::Parse(token), "JWT-SVID");
  if (jws.header.type.has_value() && *jws.header.type != "JWT" && *jws.header.type != "JOSE") {  // 2.3
    return Refusal("\"typ\" is neither JWT nor JOSE");
  }
  SIGNET_ASSIGN_OR_RETURN(jose::Claims claims, jose::Claims::Parse(jws.payload), "JWT-SVID");
  if (!claims.subject.has_value()) return Refusal("no \"sub\"");  // 3.1
  absl::StatusOr<Id> id = Id::Parse(*claims.subject);
  if (!id.ok()) return Refusal("\"sub\" is not a SPIFFE ID");
  if (!claims.expires_at.has_value()) return Refusal("no \"exp\"");  // 3.3
  if (claims.audience.empty()) return Refusal("no \"aud\"");         // 3.2
  const absl::Time expires_at = *claims.expires_at;
  return Decoded{
      .jws = std::move(jws),
      .svid = {
          .id = *std::move(id), .audience = claims.audience, .expires_at = expires_at, .claims = std::move(claims)}};
}

absl::Status CheckTimes(const jose::Claims& claims, absl::Time now) {
  if (now - kJwtLeeway > *claims.expires_at) return Refusal("expired");  // 3.3, appendix A
  if (claims.not_before.has_value() && now + kJwtLeeway < *claims.not_before) return Refusal("not valid yet");
  if (claims.issued_at.has_value() && now + kJwtLeeway < *claims.issued_at) return Refusal("issued in the future");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> SignJwtSvid(const JwtSvidClaims& claims, absl::string_view key_id, crypto::KeyType type,
                                        const crypto::MessageSigner& sign) {
  SIGNET_RETURN_IF_ERROR(CheckClaims(claims));
  if (key_id.empty()) return Refusal("no key id to sign under");  // go-spiffe and SPIRE refuse a token without kid
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view algorithm, jose::AlgorithmFor(type));
  boost::json::object header;  // JWT-SVID 2: no other member
  header["alg"] = Boost(algorithm);
  header["kid"] = Boost(key_id);
  header["typ"] = "JWT";
  return jose::SignCompact(boost::json::serialize(header), ClaimsJson(claims), type, sign);
}

absl::StatusOr<ValidatedJwtSvid> ValidateJwtSvid(absl::string_view token, absl::string_view audience,
                                                 const BundleOf& bundles, absl::Time now) {
  if (audience.empty()) return Refusal("no audience to match");
  SIGNET_ASSIGN_OR_RETURN(Decoded decoded, Decode(token));
  const std::shared_ptr<const Bundle> bundle = bundles(decoded.svid.id.trust_domain());  // JWT-19
  if (bundle == nullptr) return Refusal("no bundle of the trust domain of \"sub\"");
  const std::optional<std::string>& key_id = decoded.jws.header.key_id;
  if (!key_id.has_value() || key_id->empty()) return Refusal("no \"kid\"");
  const JwtAuthority* authority = bundle->FindJwtAuthority(*key_id);
  if (authority == nullptr) return Refusal("no key of the bundle has its \"kid\"");
  if (!decoded.jws.Verify(authority->key).ok()) return Refusal("signature does not verify");
  SIGNET_RETURN_IF_ERROR(CheckTimes(decoded.svid.claims, now));
  const std::vector<std::string>& values = decoded.svid.audience;
  if (std::find(values.begin(), values.end(), audience) == values.end()) return Refusal("audience does not match");
  return std::move(decoded.svid);
}

absl::StatusOr<ValidatedJwtSvid> ParseUnverifiedJwtSvid(absl::string_view token) {
  SIGNET_ASSIGN_OR_RETURN(Decoded decoded, Decode(token));
  return std::move(decoded.svid);
}

}  // namespace signet::spiffe
