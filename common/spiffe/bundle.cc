#include "common/spiffe/bundle.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/jose/jwk.h"
#include "common/json/json.h"
#include "common/status/macros.h"

namespace signet::spiffe {
namespace {

constexpr size_t kMaxDocumentBytes = 4 << 20;
constexpr size_t kMaxKeys = 1000;
constexpr uint64_t kMaxHintSeconds = 365 * 24 * 3600;  // more is taken as this: nobody means it
constexpr absl::string_view kUseX509 = "x509-svid";    // Bundle 4.2.2; case counts
constexpr absl::string_view kUseJwt = "jwt-svid";
constexpr absl::string_view kUseWit = "wit-svid";

absl::StatusOr<absl::string_view> StringOrEmpty(const boost::json::object& object, const char* name) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr) return absl::string_view();
  const boost::json::string* text = value->if_string();
  if (text == nullptr) return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not a string"));
  return absl::string_view(text->data(), text->size());
}

absl::StatusOr<uint64_t> UnsignedOrZero(const boost::json::object& object, const char* name) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr) return uint64_t{0};
  if (value->is_uint64()) return value->get_uint64();
  if (value->is_int64() && value->get_int64() >= 0) return static_cast<uint64_t>(value->get_int64());
  return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not an unsigned integer within 64 bits"));
}

absl::StatusOr<std::string> DecodeBase64(absl::string_view text) {
  std::string bytes;
  if (!absl::Base64Unescape(text, &bytes) || absl::Base64Escape(bytes) != text) {
    return absl::InvalidArgumentError("\"x5c\": not padded base64");
  }
  return bytes;
}

void AddAuthority(crypto::Certificate certificate, Bundle& bundle) {  // once
  for (const X509Authority& known : bundle.x509_authorities) {
    if (known.certificate == certificate) return;
  }
  bundle.x509_authorities.push_back({.certificate = std::move(certificate)});
}

absl::Status AddX509(const boost::json::object& jwk, Bundle& bundle) {
  const boost::json::value* value = jwk.if_contains("x5c");
  if (value == nullptr) return absl::OkStatus();  // BND-9: absent or empty is ignored
  const boost::json::array* x5c = value->if_array();
  if (x5c == nullptr) return absl::InvalidArgumentError("\"x5c\" is not an array");
  if (x5c->empty()) return absl::OkStatus();
  const auto key = jose::ParseJwk(jwk);
  if (absl::IsUnimplemented(key.status())) return absl::OkStatus();  // BND-6
  SIGNET_RETURN_IF_ERROR(key.status());
  const boost::json::string* first = x5c->front().if_string();  // BND-9: the first value only
  if (first == nullptr) return absl::InvalidArgumentError("\"x5c\" holds what is not a string");
  SIGNET_ASSIGN_OR_RETURN(const std::string der, DecodeBase64(absl::string_view(first->data(), first->size())));
  SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der));
  if (certificate.public_key() != *key) {  // RFC 7517 4.7
    return absl::InvalidArgumentError("the key of \"x5c\" is not that of the JWK");
  }
  AddAuthority(std::move(certificate), bundle);
  return absl::OkStatus();
}

absl::Status AddJwt(const boost::json::object& jwk, absl::string_view key_id, Bundle& bundle) {
  auto key = jose::ParseJwk(jwk);
  if (absl::IsUnimplemented(key.status())) return absl::OkStatus();  // BND-6
  SIGNET_RETURN_IF_ERROR(key.status());
  if (const JwtAuthority* known = bundle.FindJwtAuthority(key_id)) {
    if (known->key == *key) return absl::OkStatus();
    return absl::InvalidArgumentError("two keys share one \"kid\"");
  }
  bundle.jwt_authorities.push_back({.key_id = std::string(key_id), .key = *std::move(key)});
  return absl::OkStatus();
}

absl::Status AddJwk(const boost::json::value& value, Bundle& bundle) {
  const boost::json::object* jwk = value.if_object();
  if (jwk == nullptr) return absl::InvalidArgumentError("not an object");
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view kty, StringOrEmpty(*jwk, "kty"));
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view use, StringOrEmpty(*jwk, "use"));
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view key_id, StringOrEmpty(*jwk, "kid"));
  if (kty.empty()) return absl::OkStatus();  // BND-6, as an unknown one
  if (use == kUseX509) return AddX509(*jwk, bundle);
  if (use != kUseJwt && use != kUseWit) return absl::OkStatus();  // BND-6
  // go-spiffe fails the whole document on it; so do we, before a bundle spreads that only some of its readers accept.
  if (key_id.empty()) return absl::InvalidArgumentError(absl::StrCat("a ", use, " key without \"kid\""));
  return use == kUseJwt ? AddJwt(*jwk, key_id, bundle) : absl::OkStatus();  // WIT keys verify WITs and nothing else
}

boost::json::string_view Boost(absl::string_view text) { return {text.data(), text.size()}; }

boost::json::object JwtJwk(const JwtAuthority& authority) {
  boost::json::object jwk = jose::ToJwk(authority.key);
  jwk["use"] = Boost(kUseJwt);
  jwk["kid"] = authority.key_id;
  return jwk;
}

boost::json::object X509Jwk(const X509Authority& authority) {
  boost::json::object jwk = jose::ToJwk(authority.certificate.public_key());
  jwk["use"] = Boost(kUseX509);
  jwk["x5c"] = boost::json::array{boost::json::value(absl::Base64Escape(authority.certificate.der()))};
  return jwk;
}

// A field of the hashed text: its size keeps neighbours apart.
void AppendField(std::string& out, absl::string_view field) { absl::StrAppend(&out, field.size(), ":", field, ","); }

}  // namespace

absl::StatusOr<Bundle> Bundle::ParseJson(const TrustDomain& trust_domain, absl::string_view json) {
  const std::string context = absl::StrCat("bundle of \"", trust_domain.name(), "\"");
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value document, json::Parse(json, kMaxDocumentBytes), context);
  const boost::json::object* object = document.if_object();
  if (object == nullptr) return absl::InvalidArgumentError(absl::StrCat(context, ": not a JSON object"));
  const boost::json::value* keys = object->if_contains("keys");
  if (keys == nullptr || !keys->is_array()) {  // BND-1
    return absl::InvalidArgumentError(absl::StrCat(context, ": no array \"keys\""));
  }
  if (keys->get_array().size() > kMaxKeys) {
    return absl::InvalidArgumentError(absl::StrCat(context, ": more than ", kMaxKeys, " keys"));
  }
  Bundle bundle{.trust_domain = trust_domain, .x509_authorities = {}, .jwt_authorities = {}};
  SIGNET_ASSIGN_OR_RETURN(bundle.sequence_number, UnsignedOrZero(*object, "spiffe_sequence"), context);
  SIGNET_ASSIGN_OR_RETURN(const uint64_t hint_seconds, UnsignedOrZero(*object, "spiffe_refresh_hint"), context);
  bundle.refresh_hint = absl::Seconds(std::min(hint_seconds, kMaxHintSeconds));
  size_t index = 0;
  for (const boost::json::value& key : keys->get_array()) {
    SIGNET_RETURN_IF_ERROR(AddJwk(key, bundle), absl::StrCat(context, ": keys[", index, "]"));
    ++index;
  }
  return bundle;
}

absl::StatusOr<Bundle> Bundle::ParsePem(const TrustDomain& trust_domain, absl::string_view pem) {
  SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> certificates, crypto::Certificate::ParsePemChain(pem),
                          absl::StrCat("bundle of \"", trust_domain.name(), "\""));
  Bundle bundle{.trust_domain = trust_domain, .x509_authorities = {}, .jwt_authorities = {}};
  for (crypto::Certificate& certificate : certificates) AddAuthority(std::move(certificate), bundle);
  return bundle;
}

absl::StatusOr<Bundle> Bundle::ParsePemOrJson(const TrustDomain& trust_domain, absl::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != absl::string_view::npos && text[first] == '{') return ParseJson(trust_domain, text);
  return ParsePem(trust_domain, text);
}

std::string Bundle::ToSpiffeJson() const {
  boost::json::array keys;
  for (const X509Authority& authority : x509_authorities) keys.push_back(X509Jwk(authority));
  for (const JwtAuthority& authority : jwt_authorities) keys.push_back(JwtJwk(authority));
  boost::json::object document;
  document["keys"] = std::move(keys);
  if (sequence_number != 0) document["spiffe_sequence"] = sequence_number;
  if (refresh_hint > absl::ZeroDuration()) {
    document["spiffe_refresh_hint"] = absl::ToInt64Seconds(absl::Ceil(refresh_hint, absl::Seconds(1)));
  }
  return boost::json::serialize(document);
}

std::string Bundle::ToJwtJwks() const {
  boost::json::array keys;
  for (const JwtAuthority& authority : jwt_authorities) keys.push_back(JwtJwk(authority));
  boost::json::object document;
  document["keys"] = std::move(keys);
  return boost::json::serialize(document);
}

std::string Bundle::ToPem() const {
  std::string pem;
  for (const X509Authority& authority : x509_authorities) pem += authority.certificate.Pem();
  return pem;
}

std::string Bundle::X509Der() const {
  std::string der;
  for (const X509Authority& authority : x509_authorities) der += authority.certificate.der();
  return der;
}

std::string Bundle::Revision() const {
  std::vector<std::string> authorities;  // sorted: the order in which they are held is not content
  for (const X509Authority& a : x509_authorities) {
    std::string& text = authorities.emplace_back("x509,");
    AppendField(text, a.certificate.der());
    AppendField(text, a.tainted ? "tainted" : "");
  }
  for (const JwtAuthority& a : jwt_authorities) {
    std::string& text = authorities.emplace_back("jwt,");
    AppendField(text, a.key_id);
    AppendField(text, a.key.spki_der());
    AppendField(text, absl::StrCat(absl::ToUnixSeconds(a.expires_at)));
    AppendField(text, a.tainted ? "tainted" : "");
  }
  std::sort(authorities.begin(), authorities.end());
  std::string text;
  AppendField(text, trust_domain.name());
  AppendField(text, absl::StrCat(absl::ToInt64Seconds(refresh_hint)));
  AppendField(text, absl::StrCat(sequence_number));
  for (const std::string& authority : authorities) AppendField(text, authority);
  return absl::BytesToHexString(crypto::Sha256(text));
}

absl::StatusOr<crypto::TrustAnchors> Bundle::Anchors() const {
  std::vector<crypto::Certificate> roots;
  for (const X509Authority& authority : x509_authorities) roots.push_back(authority.certificate);
  return crypto::TrustAnchors::Create(roots);
}

const JwtAuthority* Bundle::FindJwtAuthority(absl::string_view key_id) const {
  for (const JwtAuthority& authority : jwt_authorities) {
    if (authority.key_id == key_id) return &authority;
  }
  return nullptr;
}

}  // namespace signet::spiffe
