#include "common/jose/jws.h"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/ecdsa_signature.h"
#include "common/crypto/key_members.h"
#include "common/json/json.h"
#include "common/status/macros.h"

namespace signet::jose {
namespace {

enum class Family { kRsaPkcs1, kRsaPss, kEcdsa };
struct Algorithm {
  absl::string_view name;  // RFC 7518 3.1; JWT-SVID 2.1 allows these nine and no other
  Family family;
  crypto::HashAlgorithm hash;
  crypto::KeyType curve;  // ECDSA: the one curve it goes with
};
using crypto::HashAlgorithm;
using crypto::KeyType;
constexpr Algorithm kAlgorithms[] = {
    {"RS256", Family::kRsaPkcs1, HashAlgorithm::kSha256, KeyType::kRsaOther},
    {"RS384", Family::kRsaPkcs1, HashAlgorithm::kSha384, KeyType::kRsaOther},
    {"RS512", Family::kRsaPkcs1, HashAlgorithm::kSha512, KeyType::kRsaOther},
    {"ES256", Family::kEcdsa, HashAlgorithm::kSha256, KeyType::kEcP256},
    {"ES384", Family::kEcdsa, HashAlgorithm::kSha384, KeyType::kEcP384},
    {"ES512", Family::kEcdsa, HashAlgorithm::kSha512, KeyType::kEcP521},
    {"PS256", Family::kRsaPss, HashAlgorithm::kSha256, KeyType::kRsaOther},
    {"PS384", Family::kRsaPss, HashAlgorithm::kSha384, KeyType::kRsaOther},
    {"PS512", Family::kRsaPss, HashAlgorithm::kSha512, KeyType::kRsaOther},
};

const Algorithm* FindAlgorithm(absl::string_view name) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.name == name) return &algorithm;
  }
  return nullptr;
}

bool Fits(const Algorithm& algorithm, KeyType key) {
  return algorithm.family == Family::kEcdsa ? key == algorithm.curve : crypto::IsRsa(key);
}

// Members that change how the token is to be read, or that bring or point to a key of the sender's choice (RFC
// 8725 3.10).
constexpr const char* kRefusedMembers[] = {"crit", "jwk", "jku", "x5u", "x5c", "b64"};

absl::StatusOr<std::optional<std::string>> OptionalString(const boost::json::object& object, const char* name) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr) return std::optional<std::string>();
  const boost::json::string* text = value->if_string();
  if (text == nullptr) return absl::InvalidArgumentError(absl::StrCat("JWS header: \"", name, "\" is not a string"));
  return std::optional<std::string>(std::string(text->data(), text->size()));
}

absl::StatusOr<JwsHeader> ParseHeader(absl::string_view text) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(text, text.size()), "JWS header");
  const boost::json::object* object = value.if_object();
  if (object == nullptr) return absl::InvalidArgumentError("JWS header: not a JSON object");
  SIGNET_ASSIGN_OR_RETURN(std::optional<std::string> algorithm, OptionalString(*object, "alg"));
  if (!algorithm.has_value()) return absl::InvalidArgumentError("JWS header: no \"alg\"");
  if (FindAlgorithm(*algorithm) == nullptr) return absl::InvalidArgumentError("JWS header: \"alg\" is not allowed");
  for (const char* member : kRefusedMembers) {
    if (object->contains(member))
      return absl::InvalidArgumentError(absl::StrCat("JWS header: \"", member, "\" is refused"));
  }
  JwsHeader header{.algorithm = *std::move(algorithm), .key_id = std::nullopt, .type = std::nullopt};
  SIGNET_ASSIGN_OR_RETURN(header.key_id, OptionalString(*object, "kid"));
  SIGNET_ASSIGN_OR_RETURN(header.type, OptionalString(*object, "typ"));
  return header;
}

bool IsBase64UrlChar(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

absl::Status DoesNotVerify() { return absl::PermissionDeniedError("JWS: signature does not verify"); }

}  // namespace

std::string Base64UrlEncode(absl::string_view bytes) {
  std::string out;
  absl::WebSafeBase64Escape(bytes, &out);
  return out;
}

absl::StatusOr<std::string> Base64UrlDecode(absl::string_view text) {
  for (char c : text) {
    if (!IsBase64UrlChar(c)) return absl::InvalidArgumentError("base64url: a byte that is not of the alphabet");
  }
  std::string bytes;
  // Encoding back tells whether bits were left over: one value has one spelling.
  if (!absl::WebSafeBase64Unescape(text, &bytes) || Base64UrlEncode(bytes) != text) {
    return absl::InvalidArgumentError("base64url: truncated, or with stray bits");
  }
  return bytes;
}

absl::StatusOr<CompactJws> CompactJws::Parse(absl::string_view token, size_t max_bytes) {
  if (token.size() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("JWS: ", token.size(), " bytes, more than ", max_bytes));
  }
  const size_t first = token.find('.');
  const size_t last = token.rfind('.');
  if (first == absl::string_view::npos || first == last ||
      token.substr(first + 1, last - first - 1).find('.') != absl::string_view::npos) {
    return absl::InvalidArgumentError("JWS: not three parts");
  }
  CompactJws jws;
  jws.signing_input = std::string(token.substr(0, last));
  SIGNET_ASSIGN_OR_RETURN(const std::string header, Base64UrlDecode(token.substr(0, first)), "JWS header");
  SIGNET_ASSIGN_OR_RETURN(jws.header, ParseHeader(header));
  SIGNET_ASSIGN_OR_RETURN(jws.payload, Base64UrlDecode(token.substr(first + 1, last - first - 1)), "JWS payload");
  SIGNET_ASSIGN_OR_RETURN(jws.signature, Base64UrlDecode(token.substr(last + 1)), "JWS signature");
  if (jws.signature.empty()) return absl::InvalidArgumentError("JWS: no signature");
  return jws;
}

absl::Status CompactJws::Verify(const crypto::PublicKey& key) const {
  const Algorithm* algorithm = FindAlgorithm(header.algorithm);
  if (algorithm == nullptr || !Fits(*algorithm, key.type())) {
    return absl::PermissionDeniedError("JWS: the algorithm does not fit the key");
  }
  std::string encoded = signature;
  if (algorithm->family == Family::kEcdsa) {  // RFC 7518 3.4: r || s, each of the curve's width
    const size_t width = crypto::CoordinateBytes(algorithm->curve);
    if (signature.size() != 2 * width) return DoesNotVerify();
    const absl::string_view raw = signature;
    SIGNET_ASSIGN_OR_RETURN(encoded, crypto::EcdsaToDer(raw.substr(0, width), raw.substr(width)));
  }
  const auto padding = algorithm->family == Family::kRsaPss ? crypto::RsaPadding::kPss : crypto::RsaPadding::kPkcs1;
  return key.Verify(algorithm->hash, signing_input, encoded, padding).ok() ? absl::OkStatus() : DoesNotVerify();
}

absl::StatusOr<absl::string_view> AlgorithmFor(crypto::KeyType type) {
  switch (type) {
    case KeyType::kEcP256:
      return "ES256";
    case KeyType::kEcP384:
      return "ES384";
    case KeyType::kRsa2048:
    case KeyType::kRsa4096:
    case KeyType::kRsaOther:
      return "RS256";
    default:
      return absl::InvalidArgumentError(absl::StrCat("no JWS algorithm for keys of type ", crypto::KeyTypeName(type)));
  }
}

absl::StatusOr<std::string> SignCompact(absl::string_view header_json, absl::string_view payload_json,
                                        crypto::KeyType type, const crypto::MessageSigner& sign) {
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view name, AlgorithmFor(type));
  const Algorithm& algorithm = *FindAlgorithm(name);
  const std::string signing_input = absl::StrCat(Base64UrlEncode(header_json), ".", Base64UrlEncode(payload_json));
  SIGNET_ASSIGN_OR_RETURN(std::string signature, sign(algorithm.hash, signing_input));
  if (algorithm.family == Family::kEcdsa) {
    SIGNET_ASSIGN_OR_RETURN(const crypto::EcdsaNumbers numbers,
                            crypto::EcdsaFromDer(signature, crypto::CoordinateBytes(type)));
    signature = absl::StrCat(numbers.r, numbers.s);
  }
  return absl::StrCat(signing_input, ".", Base64UrlEncode(signature));
}

}  // namespace signet::jose
