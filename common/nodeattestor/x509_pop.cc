#include "common/nodeattestor/x509_pop.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/crypto/ecdsa_signature.h"
#include "common/crypto/key_members.h"
#include "common/crypto/random.h"
#include "common/json/json.h"
#include "common/status/macros.h"

namespace signet::x509pop {
namespace {

constexpr size_t kNonceBytes = 32;
constexpr size_t kMaxEvidenceBytes = 128 * 1024;
constexpr size_t kMaxMessageBytes = 8 * 1024;  // challenge, response: an 8192-bit signature is 1.4 KiB
constexpr char kRsa[] = "rsa_signature";
constexpr char kEcdsa[] = "ecdsa_signature";

absl::Status Malformed(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("x509pop: ", what)); }

// The member that carries what is meant for keys of this type; null for a type x509pop does not know.
const char* MemberFor(crypto::KeyType type) {
  if (crypto::IsRsa(type)) return kRsa;
  return crypto::CoordinateBytes(type) != 0 ? kEcdsa : nullptr;
}

absl::StatusOr<boost::json::object> ParseObject(absl::string_view text, size_t max_bytes) {
  SIGNET_ASSIGN_OR_RETURN(boost::json::value value, json::Parse(text, max_bytes), kType);
  if (!value.is_object()) return Malformed("not a JSON object");
  return std::move(value.as_object());
}

absl::StatusOr<std::string> Bytes(const boost::json::value& value, absl::string_view name) {
  std::string bytes;
  const boost::json::string* text = value.if_string();
  if (text == nullptr || !absl::Base64Unescape(absl::string_view(text->data(), text->size()), &bytes)) {
    return Malformed(absl::StrCat("\"", name, "\" is not base64"));
  }
  return bytes;
}

absl::StatusOr<std::string> BytesMember(const boost::json::object& object, const char* name) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr) return Malformed(absl::StrCat("no \"", name, "\""));
  return Bytes(*value, name);
}

absl::StatusOr<std::string> NonceMember(const boost::json::object& object) {
  SIGNET_ASSIGN_OR_RETURN(std::string nonce, BytesMember(object, "nonce"));
  if (nonce.size() != kNonceBytes) return Malformed("\"nonce\" is not 32 bytes");
  return nonce;
}

// The inner object of a challenge or response for a key of `type`.
absl::StatusOr<boost::json::object> InnerObject(const boost::json::object& message, crypto::KeyType type) {
  const char* name = MemberFor(type);
  if (name == nullptr) return Malformed("the key is neither RSA nor ECDSA");
  const boost::json::value* value = message.if_contains(name);
  if (value == nullptr || !value->is_object()) return Malformed(absl::StrCat("no \"", name, "\", which the key needs"));
  return value->get_object();
}

// Both members are always there, as Go writes them.
std::string Wrap(const char* member, boost::json::object inner) {
  boost::json::object message;
  message[kRsa] = nullptr;
  message[kEcdsa] = nullptr;
  message[member] = std::move(inner);
  return boost::json::serialize(message);
}

absl::string_view WithoutLeadingZeros(absl::string_view number) {
  while (number.size() > 1 && number.front() == '\0') number.remove_prefix(1);
  return number;
}

absl::Status CheckKeySize(const crypto::Certificate& certificate) {
  if (!crypto::IsRsa(certificate.public_key().type()) || certificate.public_key().bits() <= kMaxRsaBits) {
    return absl::OkStatus();
  }
  return Malformed(absl::StrCat("an RSA key of more than ", kMaxRsaBits, " bits"));
}

}  // namespace

std::string Fingerprint(const crypto::Certificate& certificate) {
  return absl::BytesToHexString(crypto::Sha1(certificate.der()));
}

std::string EncodeEvidence(absl::Span<const crypto::Certificate> chain) {
  boost::json::array certificates;
  for (const crypto::Certificate& certificate : chain) certificates.emplace_back(absl::Base64Escape(certificate.der()));
  return boost::json::serialize(boost::json::object{{"certificates", std::move(certificates)}});
}

absl::StatusOr<std::vector<crypto::Certificate>> ParseEvidence(absl::string_view json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::object evidence, ParseObject(json, kMaxEvidenceBytes));
  const boost::json::value* list = evidence.if_contains("certificates");
  if (list == nullptr || !list->is_array() || list->get_array().empty()) return Malformed("no certificate");
  if (list->get_array().size() > kMaxCertificates) {
    return Malformed(absl::StrCat("more than ", kMaxCertificates, " certificates"));
  }
  std::vector<crypto::Certificate> chain;
  for (const boost::json::value& item : list->get_array()) {
    SIGNET_ASSIGN_OR_RETURN(const std::string der, Bytes(item, "certificates"));
    SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der),
                            absl::StrCat("x509pop: certificates[", chain.size(), "]"));
    SIGNET_RETURN_IF_ERROR(CheckKeySize(certificate));
    chain.push_back(std::move(certificate));
  }
  return chain;
}

absl::StatusOr<Challenge> MakeChallenge(const crypto::PublicKey& key) {
  const char* member = MemberFor(key.type());
  if (member == nullptr) return Malformed("the key is neither RSA nor ECDSA");
  Challenge challenge{.nonce = crypto::RandomBytes(kNonceBytes), .json = {}};
  challenge.json = Wrap(member, {{"nonce", absl::Base64Escape(challenge.nonce)}});
  return challenge;
}

absl::StatusOr<std::string> Respond(const crypto::PrivateKey& key, absl::string_view challenge_json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::object message, ParseObject(challenge_json, kMaxMessageBytes));
  SIGNET_ASSIGN_OR_RETURN(const boost::json::object challenge, InnerObject(message, key.type()));
  SIGNET_ASSIGN_OR_RETURN(const std::string nonce, NonceMember(challenge));
  const std::string own_nonce = crypto::RandomBytes(kNonceBytes);
  SIGNET_ASSIGN_OR_RETURN(
      const std::string signature,
      key.Sign(crypto::HashAlgorithm::kSha256, absl::StrCat(nonce, own_nonce), crypto::RsaPadding::kPss));
  boost::json::object response{{"nonce", absl::Base64Escape(own_nonce)}};
  if (crypto::IsRsa(key.type())) {
    response["signature"] = absl::Base64Escape(signature);
  } else {
    SIGNET_ASSIGN_OR_RETURN(const crypto::EcdsaNumbers numbers,
                            crypto::EcdsaFromDer(signature, crypto::CoordinateBytes(key.type())));
    response["r"] = absl::Base64Escape(WithoutLeadingZeros(numbers.r));
    response["s"] = absl::Base64Escape(WithoutLeadingZeros(numbers.s));
  }
  return Wrap(MemberFor(key.type()), std::move(response));
}

absl::Status CheckResponse(const crypto::PublicKey& key, absl::string_view nonce, absl::string_view response_json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::object message, ParseObject(response_json, kMaxMessageBytes));
  SIGNET_ASSIGN_OR_RETURN(const boost::json::object response, InnerObject(message, key.type()));
  SIGNET_ASSIGN_OR_RETURN(const std::string own_nonce, NonceMember(response));
  std::string signature;
  if (crypto::IsRsa(key.type())) {
    SIGNET_ASSIGN_OR_RETURN(signature, BytesMember(response, "signature"));
  } else {
    SIGNET_ASSIGN_OR_RETURN(const std::string r, BytesMember(response, "r"));
    SIGNET_ASSIGN_OR_RETURN(const std::string s, BytesMember(response, "s"));
    SIGNET_ASSIGN_OR_RETURN(signature, crypto::EcdsaToDer(r, s), kType);
  }
  if (!key.Verify(crypto::HashAlgorithm::kSha256, absl::StrCat(nonce, own_nonce), signature,
                  crypto::RsaPadding::kPssAnySalt)
           .ok()) {
    return absl::PermissionDeniedError("x509pop: the response is not signed by the key of the certificate");
  }
  return absl::OkStatus();
}

}  // namespace signet::x509pop
