#include "common/crypto/certificate_builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/crypto/certificate_fields.h"
#include "common/crypto/der.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

// Contents of OBJECT IDENTIFIERs: RFC 5280 appendix A; RFC 5758 3.2; RFC 8017 appendix C.
constexpr absl::string_view kOidCountry = "\x55\x04\x06", kOidOrganization = "\x55\x04\x0a",
                            kOidOrganizationalUnit = "\x55\x04\x0b", kOidCommonName = "\x55\x04\x03",
                            kOidSerialNumber = "\x55\x04\x05";
constexpr absl::string_view kOidSubjectKeyId = "\x55\x1d\x0e", kOidKeyUsage = "\x55\x1d\x0f", kOidSan = "\x55\x1d\x11",
                            kOidBasicConstraints = "\x55\x1d\x13", kOidAuthorityKeyId = "\x55\x1d\x23",
                            kOidExtendedKeyUsage = "\x55\x1d\x25";
constexpr absl::string_view kOidServerAuth = "\x2b\x06\x01\x05\x05\x07\x03\x01",
                            kOidClientAuth = "\x2b\x06\x01\x05\x05\x07\x03\x02";
constexpr absl::string_view kOidEcdsaSha256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02",
                            kOidEcdsaSha384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03",
                            kOidRsaSha256 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
constexpr size_t kMaxSanBytes = 2048;  // SPIFFE-ID 2.3
constexpr size_t kMaxCertificateBytes = size_t{16} * 1024;

absl::Status Refused(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("certificate template: ", why));
}

struct SignatureAlgorithm {
  HashAlgorithm hash;
  absl::string_view oid;
  bool null_parameters;  // RFC 4055 5 wants NULL, RFC 5758 3.2 wants none
};

absl::StatusOr<SignatureAlgorithm> AlgorithmFor(KeyType issuer_key) {
  switch (issuer_key) {
    case KeyType::kEcP256:
      return SignatureAlgorithm{HashAlgorithm::kSha256, kOidEcdsaSha256, false};
    case KeyType::kEcP384:
      return SignatureAlgorithm{HashAlgorithm::kSha384, kOidEcdsaSha384, false};
    case KeyType::kRsa2048:
    case KeyType::kRsa4096:
    case KeyType::kRsaOther:
      return SignatureAlgorithm{HashAlgorithm::kSha256, kOidRsaSha256, true};
    case KeyType::kEcP521:
    case KeyType::kEd25519:
      break;
  }
  return Refused(absl::StrCat("an issuer with a key of type ", KeyTypeName(issuer_key), " is not supported"));
}

void PutAlgorithm(DerWriter& out, const SignatureAlgorithm& algorithm) {
  out.Nest(kDerSequence, [&] {
    out.Put(kDerOid, algorithm.oid);
    if (algorithm.null_parameters) out.Put(kDerNull, {});
  });
}

absl::Status CheckName(const DistinguishedName& name) {
  const bool letters =
      std::all_of(name.country.begin(), name.country.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (!name.country.empty() && (name.country.size() != 2 || !letters))
    return Refused("country is not two capital letters");
  for (const std::string* part :
       {&name.organization, &name.organizational_unit, &name.common_name, &name.serial_number}) {
    if (part->size() > 64) return Refused("a part of the subject is longer than 64 bytes");  // RFC 5280 upper bounds
    if (part->find('\0') != std::string::npos) return Refused("a part of the subject has a NUL byte");
  }
  return absl::OkStatus();
}

void PutName(DerWriter& out, const DistinguishedName& name) {
  const auto part = [&out](absl::string_view oid, uint8_t tag, const std::string& value) {
    if (value.empty()) return;
    out.Nest(kDerSet, [&] {
      out.Nest(kDerSequence, [&] {
        out.Put(kDerOid, oid);
        out.Put(tag, value);
      });
    });
  };
  out.Nest(kDerSequence, [&] {
    part(kOidCountry, kDerPrintableString, name.country);
    part(kOidOrganization, kDerUtf8String, name.organization);
    part(kOidOrganizationalUnit, kDerUtf8String, name.organizational_unit);
    part(kOidCommonName, kDerUtf8String, name.common_name);
    part(kOidSerialNumber, kDerPrintableString, name.serial_number);
  });
}

// RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050 on.
absl::Status PutTime(DerWriter& out, absl::Time time) {
  const absl::CivilSecond t = absl::ToCivilSecond(time, absl::UTCTimeZone());
  if (t.year() < 1950 || t.year() > 9999) return Refused("a time lies outside the years 1950 to 9999");
  const std::string rest =
      absl::StrFormat("%02d%02d%02d%02d%02dZ", t.month(), t.day(), t.hour(), t.minute(), t.second());
  if (t.year() < 2050) {
    out.Put(kDerUtcTime, absl::StrFormat("%02d%s", t.year() % 100, rest));
  } else {
    out.Put(kDerGeneralizedTime, absl::StrFormat("%04d%s", t.year(), rest));
  }
  return absl::OkStatus();
}

template <typename Body>
void PutExtension(DerWriter& out, absl::string_view oid, bool critical, Body&& body) {
  out.Nest(kDerSequence, [&] {
    out.Put(kDerOid, oid);
    if (critical) out.PutTrue();
    out.Nest(kDerOctetString, body);
  });
}

// A BIT STRING of named bits: trailing zero bits are left out (X.690 11.2.2). Bit 0 is the highest of the first byte.
void PutKeyUsage(DerWriter& out, uint16_t bits) {
  std::string bytes(2, '\0');
  size_t last = 0;
  for (size_t bit = 0; bit < 9; ++bit) {
    if ((bits & (1 << bit)) == 0) continue;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] | (0x80 >> (bit % 8)));
    last = bit;
  }
  bytes.resize(last / 8 + 1);
  out.Put(kDerBitString, absl::StrCat(std::string(1, static_cast<char>(7 - last % 8)), bytes));
}

absl::Status CheckSans(const std::vector<std::string>& sans) {
  for (const std::string& san : sans) {
    const bool printable = std::all_of(san.begin(), san.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (san.empty() || san.size() > kMaxSanBytes || !printable) {
      return Refused("a subject alternative name is empty, longer than 2048 bytes or not printable ASCII");
    }
  }
  return absl::OkStatus();
}

void PutExtensions(DerWriter& out, const CertificateTemplate& t, absl::string_view key_id,
                   absl::string_view issuer_key_id) {
  if (t.key_usage != 0) PutExtension(out, kOidKeyUsage, true, [&] { PutKeyUsage(out, t.key_usage); });
  if (t.server_and_client_auth) {
    PutExtension(out, kOidExtendedKeyUsage, false, [&] {
      out.Nest(kDerSequence, [&] {
        out.Put(kDerOid, kOidServerAuth);
        out.Put(kDerOid, kOidClientAuth);
      });
    });
  }
  PutExtension(out, kOidBasicConstraints, true, [&] {
    out.Nest(kDerSequence, [&] {
      if (t.is_ca) out.PutTrue();  // DER leaves a FALSE default out
    });
  });
  PutExtension(out, kOidSubjectKeyId, false, [&] { out.Put(kDerOctetString, key_id); });
  if (!issuer_key_id.empty()) {
    PutExtension(out, kOidAuthorityKeyId, false,
                 [&] { out.Nest(kDerSequence, [&] { out.Put(DerContext(0), issuer_key_id); }); });
  }
  if (!t.issued_to.empty()) PutExtension(out, kOidIssuedTo, false, [&] { out.PutRaw(t.issued_to); });
  if (t.uri_sans.empty() && t.dns_sans.empty()) return;
  PutExtension(out, kOidSan, t.subject.empty(), [&] {
    out.Nest(kDerSequence, [&] {
      for (const std::string& dns : t.dns_sans) out.Put(DerContext(2), dns);
      for (const std::string& uri : t.uri_sans) out.Put(DerContext(6), uri);
    });
  });
}

absl::Status CheckTemplate(const CertificateTemplate& t) {
  if (t.serial.size() > 20 || t.serial.find_first_not_of('\0') == std::string::npos) {
    return Refused("the serial number is zero or longer than 20 bytes");
  }
  if (t.serial.size() == 20 && (t.serial[0] & 0x80) != 0) return Refused("the serial number needs more than 20 bytes");
  if (t.not_before >= t.not_after) return Refused("it ends before it begins");
  if (t.is_ca && t.subject.empty()) return Refused("a CA needs a subject");  // RFC 5280 4.1.2.6
  SIGNET_RETURN_IF_ERROR(CheckName(t.subject));
  SIGNET_RETURN_IF_ERROR(CheckSans(t.uri_sans));
  return CheckSans(t.dns_sans);
}

std::string NameDer(const DistinguishedName& name) {
  DerWriter out(128);
  PutName(out, name);
  return out.Take();
}

absl::StatusOr<Certificate> Build(const CertificateTemplate& t, const PublicKey& subject_key, std::string subject_der,
                                  absl::string_view issuer_der, absl::string_view issuer_key_id, KeyType issuer_key,
                                  const MessageSigner& sign) {
  SIGNET_ASSIGN_OR_RETURN(const SignatureAlgorithm algorithm, AlgorithmFor(issuer_key));
  if (subject_key.spki_der().empty()) return Refused("there is no subject key");
  std::string key_id = subject_key.KeyId();

  absl::Status times;
  DerWriter tbs(1024);
  tbs.Nest(kDerSequence, [&] {
    tbs.Nest(DerContextConstructed(0), [&] { tbs.PutSmall(2); });  // v3
    tbs.PutUnsigned(t.serial);
    PutAlgorithm(tbs, algorithm);
    tbs.PutRaw(issuer_der);
    tbs.Nest(kDerSequence, [&] {
      times = PutTime(tbs, t.not_before);
      if (times.ok()) times = PutTime(tbs, t.not_after);
    });
    tbs.PutRaw(subject_der);
    tbs.PutRaw(subject_key.spki_der());
    tbs.Nest(DerContextConstructed(3),
             [&] { tbs.Nest(kDerSequence, [&] { PutExtensions(tbs, t, key_id, issuer_key_id); }); });
  });
  if (!times.ok()) return times;

  const std::string to_sign = tbs.Take();
  SIGNET_ASSIGN_OR_RETURN(const std::string signature, sign(algorithm.hash, to_sign));
  DerWriter certificate(to_sign.size() + signature.size() + 32);
  certificate.Nest(kDerSequence, [&] {
    certificate.PutRaw(to_sign);
    PutAlgorithm(certificate, algorithm);
    certificate.PutBitString(signature);
  });

  // The value is filled from what was encoded: parsing it back would cost more than the signature. A test holds the two
  // against each other.
  CertificateAccess::Fields fields;
  fields.der = certificate.Take();
  if (fields.der.size() > kMaxCertificateBytes) return Refused("the certificate would be larger than 16 KiB");
  fields.public_key = subject_key;
  fields.serial = t.serial.substr(t.serial.find_first_not_of('\0'));
  fields.not_before = absl::FromUnixSeconds(absl::ToUnixSeconds(t.not_before));
  fields.not_after = absl::FromUnixSeconds(absl::ToUnixSeconds(t.not_after));
  fields.uri_sans = t.uri_sans;
  fields.dns_sans = t.dns_sans;
  fields.subject_der = std::move(subject_der);
  fields.issuer_der = std::string(issuer_der);
  fields.common_name = t.subject.common_name;
  fields.is_ca = t.is_ca;
  fields.has_key_usage = t.key_usage != 0;
  fields.key_usage = t.key_usage;
  fields.subject_key_id = std::move(key_id);
  fields.authority_key_id = std::string(issuer_key_id);
  fields.issued_to = t.issued_to;
  return CertificateAccess::Make(std::move(fields));
}

}  // namespace

absl::StatusOr<Certificate> IssueCertificate(const CertificateTemplate& tmpl, const PublicKey& subject_key,
                                             absl::string_view issuer_subject_der, absl::string_view issuer_key_id,
                                             KeyType issuer_key, const MessageSigner& sign) {
  SIGNET_RETURN_IF_ERROR(CheckTemplate(tmpl));
  return Build(tmpl, subject_key, NameDer(tmpl.subject), issuer_subject_der, issuer_key_id, issuer_key, sign);
}

absl::StatusOr<Certificate> SelfSign(const CertificateTemplate& tmpl, const PublicKey& key, const MessageSigner& sign) {
  SIGNET_RETURN_IF_ERROR(CheckTemplate(tmpl));
  const std::string subject_der = NameDer(tmpl.subject);
  return Build(tmpl, key, subject_der, subject_der, key.KeyId(), key.type(), sign);
}

}  // namespace signet::crypto
