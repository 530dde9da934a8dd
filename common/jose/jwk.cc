#include "common/jose/jwk.h"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/crypto/key_members.h"
#include "common/jose/jws.h"
#include "common/status/macros.h"

namespace signet::jose {
namespace {

struct Curve {
  absl::string_view name;  // RFC 7518 6.2.1.1
  crypto::KeyType type;
};
constexpr Curve kCurves[] = {
    {"P-256", crypto::KeyType::kEcP256}, {"P-384", crypto::KeyType::kEcP384}, {"P-521", crypto::KeyType::kEcP521}};

absl::StatusOr<absl::string_view> StringMember(const boost::json::object& jwk, absl::string_view name) {
  const boost::json::value* value = jwk.if_contains(boost::json::string_view(name.data(), name.size()));
  if (value == nullptr) return absl::InvalidArgumentError(absl::StrCat("JWK: no \"", name, "\""));
  const boost::json::string* text = value->if_string();
  if (text == nullptr) return absl::InvalidArgumentError(absl::StrCat("JWK: \"", name, "\" is not a string"));
  return absl::string_view(text->data(), text->size());
}

absl::StatusOr<std::string> NumberMember(const boost::json::object& jwk, absl::string_view name) {
  SIGNET_ASSIGN_OR_RETURN(absl::string_view text, StringMember(jwk, name));
  SIGNET_ASSIGN_OR_RETURN(std::string bytes, Base64UrlDecode(text), absl::StrCat("JWK: \"", name, "\""));
  return bytes;
}

absl::StatusOr<crypto::PublicKey> ParseEc(const boost::json::object& jwk) {
  SIGNET_ASSIGN_OR_RETURN(absl::string_view name, StringMember(jwk, "crv"));
  for (const Curve& curve : kCurves) {
    if (curve.name != name) continue;
    SIGNET_ASSIGN_OR_RETURN(std::string x, NumberMember(jwk, "x"));
    SIGNET_ASSIGN_OR_RETURN(std::string y, NumberMember(jwk, "y"));
    return crypto::PublicKeyFromEcPoint(curve.type, x, y);
  }
  return absl::UnimplementedError("JWK: curve not supported");
}

absl::StatusOr<crypto::PublicKey> ParseRsa(const boost::json::object& jwk) {
  SIGNET_ASSIGN_OR_RETURN(std::string n, NumberMember(jwk, "n"));
  SIGNET_ASSIGN_OR_RETURN(std::string e, NumberMember(jwk, "e"));
  return crypto::PublicKeyFromRsaNumbers(n, e);
}

absl::StatusOr<crypto::PublicKey> ParseOkp(const boost::json::object& jwk) {  // RFC 8037 2
  SIGNET_ASSIGN_OR_RETURN(absl::string_view name, StringMember(jwk, "crv"));
  if (name != "Ed25519") return absl::UnimplementedError("JWK: curve not supported");
  SIGNET_ASSIGN_OR_RETURN(std::string x, NumberMember(jwk, "x"));
  return crypto::PublicKeyFromEd25519(x);
}

absl::Status RefusePrivateMembers(const boost::json::object& jwk) {
  for (const char* member : {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}) {  // RFC 7518 6.2.2, 6.3.2, 6.4
    if (jwk.contains(member)) return absl::InvalidArgumentError("JWK: holds a private or symmetric key");
  }
  return absl::OkStatus();
}

absl::string_view CurveName(crypto::KeyType type) {
  for (const Curve& curve : kCurves) {
    if (curve.type == type) return curve.name;
  }
  return "";
}

}  // namespace

absl::StatusOr<crypto::PublicKey> ParseJwk(const boost::json::object& jwk) {
  SIGNET_ASSIGN_OR_RETURN(absl::string_view kty, StringMember(jwk, "kty"));
  if (kty != "EC" && kty != "RSA" && kty != "OKP") return absl::UnimplementedError("JWK: key type not supported");
  SIGNET_RETURN_IF_ERROR(RefusePrivateMembers(jwk));
  return kty == "EC" ? ParseEc(jwk) : kty == "RSA" ? ParseRsa(jwk) : ParseOkp(jwk);
}

boost::json::object ToJwk(const crypto::PublicKey& key) {
  boost::json::object jwk;
  if (const auto point = crypto::EcPointOf(key)) {
    const absl::string_view curve = CurveName(key.type());
    jwk["kty"] = "EC";
    jwk["crv"] = boost::json::string_view(curve.data(), curve.size());
    jwk["x"] = Base64UrlEncode(point->x);
    jwk["y"] = Base64UrlEncode(point->y);
  } else if (const auto rsa = crypto::RsaNumbersOf(key)) {
    jwk["kty"] = "RSA";
    jwk["n"] = Base64UrlEncode(rsa->modulus);
    jwk["e"] = Base64UrlEncode(rsa->exponent);
  } else if (const auto bytes = crypto::Ed25519BytesOf(key)) {
    jwk["kty"] = "OKP";
    jwk["crv"] = "Ed25519";
    jwk["x"] = Base64UrlEncode(*bytes);
  }
  return jwk;
}

std::string Thumbprint(const crypto::PublicKey& key) {
  // RFC 7638 3.2: the required members in lexicographic order, no white space. Values are base64url and curve names.
  std::string canonical;
  if (const auto point = crypto::EcPointOf(key)) {
    canonical = absl::StrCat("{\"crv\":\"", CurveName(key.type()), "\",\"kty\":\"EC\",\"x\":\"",
                             Base64UrlEncode(point->x), "\",\"y\":\"", Base64UrlEncode(point->y), "\"}");
  } else if (const auto rsa = crypto::RsaNumbersOf(key)) {
    canonical = absl::StrCat("{\"e\":\"", Base64UrlEncode(rsa->exponent), "\",\"kty\":\"RSA\",\"n\":\"",
                             Base64UrlEncode(rsa->modulus), "\"}");
  } else if (const auto bytes = crypto::Ed25519BytesOf(key)) {
    canonical = absl::StrCat("{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"", Base64UrlEncode(*bytes), "\"}");
  }
  return Base64UrlEncode(crypto::Sha256(canonical));
}

}  // namespace signet::jose
