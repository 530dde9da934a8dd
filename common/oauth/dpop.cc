#include "common/oauth/dpop.h"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/crypto/digest.h"
#include "common/crypto/random.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/oauth/access_token.h"
#include "common/oauth/atom.h"
#include "common/oauth/members.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

constexpr absl::string_view kType = "dpop+jwt";
constexpr size_t kMaxProofBytes = 8 * 1024;
constexpr size_t kMaxIdBytes = 256;  // of jti and nonce: they are kept

absl::Status Bad(absl::string_view rule) { return absl::InvalidArgumentError(absl::StrCat("DPoP proof: ", rule)); }

// The part of a URI that counts (RFC 9449 4.3 item 9): no query, no fragment, scheme and host in one spelling.
absl::StatusOr<std::string> TargetOf(absl::string_view uri) {
  return CanonicalResource(uri.substr(0, uri.find_first_of("?#")));
}

std::string TokenHash(absl::string_view access_token) { return jose::Base64UrlEncode(crypto::Sha256(access_token)); }

// The key a proof is made with stands in its own header: what CompactJws refuses in every other JWT.
struct ParsedProof {
  jose::CompactJws jws;
  crypto::PublicKey key;
};

absl::StatusOr<crypto::PublicKey> ReadHeader(absl::string_view text, jose::JwsHeader& out) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(text, kMaxProofBytes), "DPoP proof: header");
  if (!value.is_object()) return Bad("the header is not an object");
  Members header(value.get_object(), "DPoP proof: header");
  out.algorithm = header.Text("alg");
  out.type = header.Text("typ");
  const boost::json::object* jwk = header.Object("jwk");
  if (jwk == nullptr) header.Fail("jwk", "missing");
  for (const char* refused : {"crit", "b64", "jku", "x5u", "x5c"}) {
    if (header.Find(refused) != nullptr) header.Fail(refused, "refused");
  }
  SIGNET_RETURN_IF_ERROR(header.status());
  if (*out.type != kType) return Bad("\"typ\" is not dpop+jwt");
  if (out.algorithm != "ES256" && out.algorithm != "ES384" && out.algorithm != "RS256" && out.algorithm != "PS256") {
    return Bad("\"alg\" is not one we take");
  }
  absl::StatusOr<crypto::PublicKey> key = jose::ParseJwk(*jwk);
  if (!key.ok()) return Bad(key.status().message());
  return key;
}

absl::StatusOr<ParsedProof> ParseProof(absl::string_view proof) {
  if (proof.size() > kMaxProofBytes) return Bad("more than 8 KiB");
  const std::vector<absl::string_view> parts = absl::StrSplit(proof, '.');
  if (parts.size() != 3) return Bad("not three parts");
  ParsedProof parsed;
  parsed.jws.signing_input = absl::StrCat(parts[0], ".", parts[1]);
  SIGNET_ASSIGN_OR_RETURN(const std::string header, jose::Base64UrlDecode(parts[0]), "DPoP proof");
  SIGNET_ASSIGN_OR_RETURN(parsed.key, ReadHeader(header, parsed.jws.header));
  SIGNET_ASSIGN_OR_RETURN(parsed.jws.payload, jose::Base64UrlDecode(parts[1]), "DPoP proof");
  SIGNET_ASSIGN_OR_RETURN(parsed.jws.signature, jose::Base64UrlDecode(parts[2]), "DPoP proof");
  return parsed;
}

}  // namespace

absl::StatusOr<DpopProof> VerifyDpop(absl::string_view proof, absl::string_view method, absl::string_view uri,
                                     absl::string_view access_token, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(const ParsedProof parsed, ParseProof(proof));
  if (!parsed.jws.Verify(parsed.key).ok()) return Bad("the signature does not verify with its own key");
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(parsed.jws.payload, kMaxProofBytes),
                          "DPoP proof");
  if (!value.is_object()) return Bad("the claims are not an object");
  Members claims(value.get_object(), "DPoP proof");
  DpopProof read;
  read.jkt = jose::Thumbprint(parsed.key);
  read.jwt_id = claims.Text("jti");
  read.nonce = claims.TextOr("nonce");
  read.issued_at = claims.RequiredTime("iat");
  const std::string htm = claims.Text("htm");
  const std::string htu = claims.Text("htu");
  const std::string ath = claims.TextOr("ath");
  SIGNET_RETURN_IF_ERROR(claims.status());
  if (read.jwt_id.size() > kMaxIdBytes || read.nonce.size() > kMaxIdBytes)
    return Bad("\"jti\" or \"nonce\" is too long");
  if (htm != method) return Bad("\"htm\" is another method");
  const absl::StatusOr<std::string> seen = TargetOf(uri);
  const absl::StatusOr<std::string> said = TargetOf(htu);
  if (!seen.ok() || !said.ok() || *seen != *said) return Bad("\"htu\" is another URI");
  if (read.issued_at < now - kDpopWindow || read.issued_at > now + kDpopWindow)
    return Bad("\"iat\" is too far from now");
  if (!access_token.empty() && !crypto::ConstantTimeEquals(ath, TokenHash(access_token))) {
    return Bad("\"ath\" is missing or that of another token");
  }
  return read;
}

absl::StatusOr<std::string> MakeDpop(const crypto::PrivateKey& key, absl::string_view method, absl::string_view uri,
                                     absl::string_view access_token, absl::string_view nonce, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view algorithm, jose::AlgorithmFor(key.type()));
  boost::json::object header;
  header["alg"] = JsonView(algorithm);
  header["typ"] = JsonView(kType);
  header["jwk"] = jose::ToJwk(key.public_key());
  boost::json::object claims;
  claims["jti"] = crypto::RandomUuid();
  claims["htm"] = JsonView(method);
  claims["htu"] = JsonView(uri.substr(0, uri.find_first_of("?#")));
  claims["iat"] = absl::ToUnixSeconds(now);
  if (!access_token.empty()) claims["ath"] = TokenHash(access_token);
  if (!nonce.empty()) claims["nonce"] = JsonView(nonce);
  return jose::SignCompact(
      Canonical(header), Canonical(claims), key.type(),
      [&key](crypto::HashAlgorithm hash, absl::string_view message) { return key.Sign(hash, message); });
}

}  // namespace signet::oauth
