#include "common/crypto/certificate.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/certificate_fields.h"
#include "common/crypto/der.h"
#include "common/crypto/ossl.h"
#include "common/crypto/pem.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

constexpr size_t kMaxCertificateBytes = 16 * 1024;

absl::Status Refused(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("certificate: ", why)); }

const unsigned char* Bytes(absl::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

std::string StringOf(const ASN1_STRING* s) {
  if (s == nullptr) return {};
  // By length, never as a C string: a NUL inside stays visible.
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)),
                     static_cast<size_t>(ASN1_STRING_length(s)));
}

absl::StatusOr<absl::Time> TimeOf(const ASN1_TIME* time) {
  std::tm tm{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &tm) != 1) return OpenSslRefusal("certificate: malformed time");
  return absl::FromTM(tm, absl::UTCTimeZone());
}

std::string NameDer(const X509_NAME* name) {
  const unsigned char* der = nullptr;
  size_t size = 0;
  if (X509_NAME_get0_der(name, &der, &size) != 1) return {};
  return std::string(reinterpret_cast<const char*>(der), size);
}

X509NamePtr ParseName(const std::string& der) {
  const unsigned char* in = Bytes(der);
  X509NamePtr name(d2i_X509_NAME(nullptr, &in, static_cast<long>(der.size())));
  if (name == nullptr) ERR_clear_error();
  return name;
}

std::string CommonNameOf(const X509_NAME* name) {
  const int index = name == nullptr ? -1 : X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (index < 0) return {};
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index)));
  if (size < 0) {
    ERR_clear_error();
    return {};
  }
  std::string text(reinterpret_cast<char*>(utf8), static_cast<size_t>(size));
  OPENSSL_free(utf8);
  return text;
}

// The extension decoded; null in `*out` when absent. Refuses one that stands twice or does not parse.
template <typename Pointer>
absl::Status ReadExtension(const X509* x509, int nid, absl::string_view name, Pointer* out) {
  int critical = 0;
  out->reset(static_cast<typename Pointer::pointer>(X509_get_ext_d2i(x509, nid, &critical, nullptr)));
  if (*out == nullptr && critical != -1) {
    ERR_clear_error();
    return Refused(absl::StrCat("the extension ", name, " is malformed or stands twice"));
  }
  return absl::OkStatus();
}

using BasicConstraintsPtr = std::unique_ptr<BASIC_CONSTRAINTS, OsslDeleter<BASIC_CONSTRAINTS_free>>;
using BitStringPtr = std::unique_ptr<ASN1_BIT_STRING, OsslDeleter<ASN1_BIT_STRING_free>>;
using OctetStringPtr = std::unique_ptr<ASN1_OCTET_STRING, OsslDeleter<ASN1_OCTET_STRING_free>>;
using AuthorityKeyIdPtr = std::unique_ptr<AUTHORITY_KEYID, OsslDeleter<AUTHORITY_KEYID_free>>;

absl::Status ReadExtensions(X509* x509, CertificateAccess::Fields& fields) {
  // Makes OpenSSL decode what it knows once; it marks what is contradictory.
  (void)X509_check_purpose(x509, -1, -1);
  if ((X509_get_extension_flags(x509) & EXFLAG_INVALID) != 0) {
    return OpenSslRefusal("certificate: malformed or contradictory extensions");
  }

  GeneralNamesPtr names;
  SIGNET_RETURN_IF_ERROR(ReadExtension(x509, NID_subject_alt_name, "subjectAltName", &names));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_URI) fields.uri_sans.push_back(StringOf(name->d.uniformResourceIdentifier));
    if (name->type == GEN_DNS) fields.dns_sans.push_back(StringOf(name->d.dNSName));
  }

  BasicConstraintsPtr constraints;
  SIGNET_RETURN_IF_ERROR(ReadExtension(x509, NID_basic_constraints, "basicConstraints", &constraints));
  fields.is_ca = constraints != nullptr && constraints->ca != 0;

  BitStringPtr usage;
  SIGNET_RETURN_IF_ERROR(ReadExtension(x509, NID_key_usage, "keyUsage", &usage));
  fields.has_key_usage = usage != nullptr;
  for (int bit = 0; usage != nullptr && bit < 9; ++bit) {
    if (ASN1_BIT_STRING_get_bit(usage.get(), bit) != 0) fields.key_usage |= static_cast<uint16_t>(1 << bit);
  }

  OctetStringPtr subject_key_id;
  SIGNET_RETURN_IF_ERROR(ReadExtension(x509, NID_subject_key_identifier, "subjectKeyIdentifier", &subject_key_id));
  fields.subject_key_id = StringOf(subject_key_id.get());

  AuthorityKeyIdPtr authority_key_id;
  SIGNET_RETURN_IF_ERROR(
      ReadExtension(x509, NID_authority_key_identifier, "authorityKeyIdentifier", &authority_key_id));
  if (authority_key_id != nullptr) fields.authority_key_id = StringOf(authority_key_id->keyid);
  return absl::OkStatus();
}

absl::StatusOr<std::string> SpkiOf(const X509* x509) {
  unsigned char* buffer = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &buffer);
  if (size <= 0) return OpenSslRefusal("certificate: malformed public key");
  std::string spki(reinterpret_cast<char*>(buffer), static_cast<size_t>(size));
  OPENSSL_free(buffer);
  return spki;
}

}  // namespace

absl::StatusOr<Certificate> Certificate::Parse(absl::string_view der) {
  if (der.size() > kMaxCertificateBytes) return Refused("larger than 16 KiB");
  // One element that fills the input, in DER: BER's other forms would give one certificate several encodings.
  absl::string_view content;
  DerReader reader(der);
  if (!reader.Read(kDerSequence, &content) || !reader.done()) return Refused("not a single DER certificate");
  const unsigned char* in = Bytes(der);
  X509Ptr x509(d2i_X509(nullptr, &in, static_cast<long>(der.size())));
  if (x509 == nullptr || in != Bytes(der) + der.size()) return OpenSslRefusal("certificate: malformed");

  Fields fields;
  fields.der = std::string(der);
  SIGNET_ASSIGN_OR_RETURN(const std::string spki, SpkiOf(x509.get()));
  SIGNET_ASSIGN_OR_RETURN(fields.public_key, PublicKey::ParseSpki(spki), "certificate");
  const ASN1_INTEGER* serial = X509_get0_serialNumber(x509.get());
  if (ASN1_STRING_length(serial) > 20) return Refused("the serial number is longer than 20 bytes");  // RFC 5280 4.1.2.2
  if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER) return Refused("the serial number is negative");
  const std::string magnitude = StringOf(serial);
  fields.serial = magnitude.substr(std::min(magnitude.find_first_not_of('\0'), magnitude.size()));
  SIGNET_ASSIGN_OR_RETURN(fields.not_before, TimeOf(X509_get0_notBefore(x509.get())));
  SIGNET_ASSIGN_OR_RETURN(fields.not_after, TimeOf(X509_get0_notAfter(x509.get())));
  fields.subject_der = NameDer(X509_get_subject_name(x509.get()));
  fields.issuer_der = NameDer(X509_get_issuer_name(x509.get()));
  fields.common_name = CommonNameOf(X509_get_subject_name(x509.get()));
  SIGNET_RETURN_IF_ERROR(ReadExtensions(x509.get(), fields));
  ERR_clear_error();
  return CertificateAccess::Make(std::move(fields));
}

absl::StatusOr<std::vector<Certificate>> Certificate::ParseChain(absl::string_view concatenated_der, size_t max_count) {
  if (concatenated_der.empty()) return absl::InvalidArgumentError("certificate chain is empty");
  std::vector<Certificate> chain;
  DerReader reader(concatenated_der);
  while (!reader.done()) {
    if (chain.size() == max_count) {
      return absl::InvalidArgumentError(absl::StrCat("certificate chain has more than ", max_count, " certificates"));
    }
    absl::string_view content, whole;
    if (!reader.Read(kDerSequence, &content, &whole)) {
      return absl::InvalidArgumentError(
          absl::StrCat("certificate chain: stray bytes after ", chain.size(), " certificates"));
    }
    SIGNET_ASSIGN_OR_RETURN(Certificate certificate, Parse(whole));
    chain.push_back(std::move(certificate));
  }
  return chain;
}

absl::StatusOr<std::vector<Certificate>> Certificate::ParsePemChain(absl::string_view pem, size_t max_count) {
  SIGNET_ASSIGN_OR_RETURN(const std::vector<PemBlock> blocks, ParsePem(pem), "certificates");
  std::vector<Certificate> chain;
  for (const PemBlock& block : blocks) {
    if (block.label != "CERTIFICATE") {
      return absl::InvalidArgumentError(absl::StrCat("PEM block \"", block.label, "\" among certificates"));
    }
    if (chain.size() == max_count)
      return absl::InvalidArgumentError(absl::StrCat("more than ", max_count, " certificates"));
    SIGNET_ASSIGN_OR_RETURN(Certificate certificate, Parse(block.der));
    chain.push_back(std::move(certificate));
  }
  return chain;
}

std::string SerialToDecimal(absl::string_view serial) {
  BignumPtr number(BN_bin2bn(Bytes(serial), static_cast<int>(serial.size()), nullptr));
  char* decimal = number == nullptr ? nullptr : BN_bn2dec(number.get());
  std::string text = decimal == nullptr ? "" : decimal;
  OPENSSL_free(decimal);
  return text;
}

const Certificate::Fields& Certificate::fields() const {
  static const Fields* const none = new Fields;
  return fields_ == nullptr ? *none : *fields_;
}

const std::string& Certificate::der() const { return fields().der; }
std::string Certificate::Pem() const { return ToPem("CERTIFICATE", der()); }
const PublicKey& Certificate::public_key() const { return fields().public_key; }
const std::string& Certificate::serial() const { return fields().serial; }
absl::Time Certificate::not_before() const { return fields().not_before; }
absl::Time Certificate::not_after() const { return fields().not_after; }
const std::vector<std::string>& Certificate::uri_sans() const { return fields().uri_sans; }
const std::vector<std::string>& Certificate::dns_sans() const { return fields().dns_sans; }
const std::string& Certificate::subject_der() const { return fields().subject_der; }
const std::string& Certificate::issuer_der() const { return fields().issuer_der; }
const std::string& Certificate::common_name() const { return fields().common_name; }
bool Certificate::is_ca() const { return fields().is_ca; }
bool Certificate::has_key_usage() const { return fields().has_key_usage; }
uint16_t Certificate::key_usage() const { return fields().key_usage; }
const std::string& Certificate::subject_key_id() const { return fields().subject_key_id; }
const std::string& Certificate::authority_key_id() const { return fields().authority_key_id; }

std::string Certificate::SerialDecimal() const { return SerialToDecimal(serial()); }

std::string Certificate::subject() const {
  const X509NamePtr name = ParseName(subject_der());
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (name == nullptr || bio == nullptr) return {};
  X509_NAME_print_ex(bio.get(), name.get(), 0, XN_FLAG_RFC2253);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return size > 0 ? std::string(data, static_cast<size_t>(size)) : std::string();
}

std::string Certificate::issuer_common_name() const { return CommonNameOf(ParseName(issuer_der()).get()); }

}  // namespace signet::crypto
