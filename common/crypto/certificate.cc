#include "common/crypto/certificate.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/certificate_fields.h"
#include "common/crypto/der.h"
#include "common/crypto/ossl.h"
#include "common/crypto/pem.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

const unsigned char* Bytes(absl::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

X509NamePtr ParseName(const std::string& der) {
  const unsigned char* in = Bytes(der);
  X509NamePtr name(d2i_X509_NAME(nullptr, &in, static_cast<long>(der.size())));
  if (name == nullptr) ERR_clear_error();
  return name;
}

}  // namespace

std::string CommonNameOf(const std::string& name_der) {
  const X509NamePtr name = ParseName(name_der);
  const int index = name == nullptr ? -1 : X509_NAME_get_index_by_NID(name.get(), NID_commonName, -1);
  if (index < 0) return {};
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name.get(), index)));
  if (size < 0) {
    ERR_clear_error();
    return {};
  }
  std::string text(reinterpret_cast<char*>(utf8), static_cast<size_t>(size));
  OPENSSL_free(utf8);
  return text;
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
bool Certificate::may_authenticate_clients() const { return fields().client_auth; }
const std::string& Certificate::subject_key_id() const { return fields().subject_key_id; }
const std::string& Certificate::authority_key_id() const { return fields().authority_key_id; }
const std::string& Certificate::issued_to() const { return fields().issued_to; }

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

std::string Certificate::issuer_common_name() const { return CommonNameOf(issuer_der()); }

}  // namespace signet::crypto
