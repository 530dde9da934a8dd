// Reads a certificate: RFC 5280 4.1 in strict DER, by our own reader. OpenSSL's takes 110 us, most of it for decoding
// the key once more, and agents read a certificate for each SVID they hold. What is read here is never trusted before
// chain_verifier.cc has OpenSSL check the very same bytes.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/certificate_fields.h"
#include "common/crypto/der.h"
#include "common/crypto/ossl.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

// Contents of OBJECT IDENTIFIERs: RFC 5280 appendix A.
constexpr absl::string_view kOidSubjectKeyId = "\x55\x1d\x0e", kOidKeyUsage = "\x55\x1d\x0f", kOidSan = "\x55\x1d\x11",
                            kOidBasicConstraints = "\x55\x1d\x13", kOidAuthorityKeyId = "\x55\x1d\x23",
                            kOidExtendedKeyUsage = "\x55\x1d\x25", kOidCommonName = "\x55\x04\x03";
constexpr absl::string_view kOidClientAuth = "\x2b\x06\x01\x05\x05\x07\x03\x02",
                            kOidAnyUsage = absl::string_view("\x55\x1d\x25\x00", 4);
constexpr size_t kMaxCertificateBytes = size_t{16} * 1024, kMaxExtensions = 64;

using Fields = CertificateAccess::Fields;

absl::Status Refused(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("certificate: ", why)); }

// RFC 5280 4.1.2.5: YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ and no other form. UTCTime means 1950 to 2049.
absl::StatusOr<absl::Time> ReadTime(DerReader& in) {
  uint8_t tag;
  absl::string_view text;
  if (!in.ReadAny(&tag, &text)) return Refused("malformed validity");
  const size_t year_digits = tag == kDerUtcTime ? 2 : 4;
  if ((tag != kDerUtcTime && tag != kDerGeneralizedTime) || text.size() != year_digits + 11 || text.back() != 'Z' ||
      text.find_first_not_of("0123456789") != text.size() - 1) {
    return Refused("a time is neither UTCTime nor GeneralizedTime in the form of RFC 5280");
  }
  const auto number = [&text](size_t from, size_t digits) {
    int value = 0;
    for (const char c : text.substr(from, digits)) value = value * 10 + (c - '0');
    return value;
  };
  int year = number(0, year_digits);
  if (year_digits == 2) year += year < 50 ? 2000 : 1900;
  const int month = number(year_digits, 2), day = number(year_digits + 2, 2), hour = number(year_digits + 4, 2),
            minute = number(year_digits + 6, 2), second = number(year_digits + 8, 2);
  const absl::CivilSecond civil(year, month, day, hour, minute, second);
  if (civil.month() != month || civil.day() != day || civil.hour() != hour || civil.minute() != minute ||
      civil.second() != second) {
    return Refused("a time does not exist");
  }
  return absl::FromCivil(civil, absl::UTCTimeZone());
}

absl::Status ReadValidity(DerReader& tbs, Fields& fields) {
  absl::string_view validity;
  if (!tbs.Read(kDerSequence, &validity)) return Refused("malformed validity");
  DerReader times(validity);
  SIGNET_ASSIGN_OR_RETURN(fields.not_before, ReadTime(times));
  SIGNET_ASSIGN_OR_RETURN(fields.not_after, ReadTime(times));
  return times.done() ? absl::OkStatus() : Refused("malformed validity");
}

// The frame of a Name, and its first commonName.
absl::Status ReadName(DerReader& tbs, std::string* der, std::string* common_name) {
  absl::string_view name, whole;
  if (!tbs.Read(kDerSequence, &name, &whole)) return Refused("malformed name");
  *der = std::string(whole);
  bool found = false;
  for (DerReader rdns(name); !rdns.done();) {
    absl::string_view set;
    if (!rdns.Read(kDerSet, &set) || set.empty()) return Refused("malformed name");
    for (DerReader attributes(set); !attributes.done();) {
      absl::string_view attribute, oid, value;
      uint8_t tag;
      if (!attributes.Read(kDerSequence, &attribute)) return Refused("malformed name");
      DerReader pair(attribute);
      if (!pair.ReadOid(&oid) || !pair.ReadAny(&tag, &value) || !pair.done()) return Refused("malformed name");
      if (common_name == nullptr || found || oid != kOidCommonName) continue;
      found = true;
      const bool text = tag == kDerUtf8String || tag == kDerPrintableString || tag == kDerIa5String;
      *common_name = text ? std::string(value) : CommonNameOf(*der);  // the rare encodings are OpenSSL's part
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSan(absl::string_view value, Fields& fields) {
  absl::string_view names, name;
  DerReader outer(value);
  if (!outer.Read(kDerSequence, &names) || !outer.done() || names.empty()) return Refused("malformed subjectAltName");
  for (DerReader reader(names); !reader.done();) {
    uint8_t tag;
    if (!reader.ReadAny(&tag, &name) || (tag & 0xc0) != 0x80) return Refused("malformed subjectAltName");
    if (tag == DerContext(6)) fields.uri_sans.emplace_back(name);
    if (tag == DerContext(2)) fields.dns_sans.emplace_back(name);
  }
  return absl::OkStatus();
}

absl::Status ReadBasicConstraints(absl::string_view value, Fields& fields) {
  absl::string_view constraints, path_length;
  DerReader outer(value);
  if (!outer.Read(kDerSequence, &constraints) || !outer.done()) return Refused("malformed basicConstraints");
  DerReader reader(constraints);
  if (reader.PeekTag() == kDerBoolean && !reader.ReadBoolean(&fields.is_ca))
    return Refused("malformed basicConstraints");
  if (reader.PeekTag() == kDerInteger && (!reader.ReadUnsigned(&path_length) || path_length.size() > 4)) {
    return Refused("malformed basicConstraints");
  }
  return reader.done() ? absl::OkStatus() : Refused("malformed basicConstraints");
}

absl::Status ReadKeyUsage(absl::string_view value, Fields& fields) {
  absl::string_view content;
  DerReader outer(value);
  if (!outer.Read(kDerBitString, &content) || !outer.done() || content.empty()) return Refused("malformed keyUsage");
  const auto unused = static_cast<uint8_t>(content[0]);
  content.remove_prefix(1);
  if (unused > 7 || (content.empty() && unused != 0)) return Refused("malformed keyUsage");
  if (!content.empty() && (static_cast<uint8_t>(content.back()) & ((1 << unused) - 1)) != 0) {
    return Refused("malformed keyUsage");
  }
  fields.has_key_usage = true;
  for (size_t bit = 0; bit < 9 && bit / 8 < content.size(); ++bit) {
    if ((static_cast<uint8_t>(content[bit / 8]) & (0x80 >> (bit % 8))) == 0) continue;
    fields.key_usage = static_cast<uint16_t>(fields.key_usage | (1 << bit));
  }
  return absl::OkStatus();
}

absl::Status ReadExtendedKeyUsage(absl::string_view value, Fields& fields) {
  absl::string_view list, oid;
  DerReader outer(value);
  if (!outer.Read(kDerSequence, &list) || !outer.done() || list.empty()) return Refused("malformed extKeyUsage");
  fields.client_auth = false;
  for (DerReader reader(list); !reader.done();) {
    if (!reader.ReadOid(&oid)) return Refused("malformed extKeyUsage");
    fields.client_auth |= oid == kOidClientAuth || oid == kOidAnyUsage;
  }
  return absl::OkStatus();
}

absl::Status ReadSubjectKeyId(absl::string_view value, Fields& fields) {
  absl::string_view id;
  DerReader outer(value);
  if (!outer.Read(kDerOctetString, &id) || !outer.done()) return Refused("malformed subjectKeyIdentifier");
  fields.subject_key_id = std::string(id);
  return absl::OkStatus();
}

absl::Status ReadAuthorityKeyId(absl::string_view value, Fields& fields) {
  absl::string_view sequence, part;
  DerReader outer(value);
  if (!outer.Read(kDerSequence, &sequence) || !outer.done()) return Refused("malformed authorityKeyIdentifier");
  DerReader reader(sequence);
  if (reader.Read(DerContext(0), &part)) fields.authority_key_id = std::string(part);
  // The issuer's name and serial number, in old certificates: not used, but well-formed.
  const bool issuer = reader.Read(DerContextConstructed(1), &part), serial = reader.Read(DerContext(2), &part);
  if (issuer != serial || !reader.done()) return Refused("malformed authorityKeyIdentifier");
  return absl::OkStatus();
}

absl::Status ReadExtension(absl::string_view oid, absl::string_view value, Fields& fields) {
  if (oid == kOidSan) return ReadSan(value, fields);
  if (oid == kOidBasicConstraints) return ReadBasicConstraints(value, fields);
  if (oid == kOidKeyUsage) return ReadKeyUsage(value, fields);
  if (oid == kOidExtendedKeyUsage) return ReadExtendedKeyUsage(value, fields);
  if (oid == kOidSubjectKeyId) return ReadSubjectKeyId(value, fields);
  if (oid == kOidAuthorityKeyId) return ReadAuthorityKeyId(value, fields);
  if (oid == kOidIssuedTo) fields.issued_to = std::string(value);
  return absl::OkStatus();
}

absl::Status ReadExtensions(absl::string_view extensions, Fields& fields) {
  absl::string_view list;
  DerReader outer(extensions);
  if (!outer.Read(kDerSequence, &list) || !outer.done() || list.empty()) return Refused("malformed extensions");
  std::vector<absl::string_view> seen;
  for (DerReader reader(list); !reader.done();) {
    absl::string_view extension, oid, value;
    bool critical = false;
    if (!reader.Read(kDerSequence, &extension)) return Refused("malformed extension");
    DerReader parts(extension);
    if (!parts.ReadOid(&oid)) return Refused("malformed extension");
    if (parts.PeekTag() == kDerBoolean && !parts.ReadBoolean(&critical)) return Refused("malformed extension");
    if (!parts.Read(kDerOctetString, &value) || !parts.done()) return Refused("malformed extension");
    if (std::find(seen.begin(), seen.end(), oid) != seen.end()) return Refused("an extension stands twice");
    if (seen.size() == kMaxExtensions) return Refused("more than 64 extensions");
    seen.push_back(oid);
    SIGNET_RETURN_IF_ERROR(ReadExtension(oid, value, fields));
  }
  return absl::OkStatus();
}

// 1 for absent; 2 and 3 as INTEGER 1 and 2. DER does not write the default.
absl::StatusOr<int> ReadVersion(DerReader& tbs) {
  if (tbs.PeekTag() != DerContextConstructed(0)) return 1;
  absl::string_view version, magnitude;
  if (!tbs.Read(DerContextConstructed(0), &version)) return Refused("malformed version");
  DerReader reader(version);
  if (!reader.ReadUnsigned(&magnitude) || !reader.done() || magnitude.size() != 1 || magnitude[0] > 2) {
    return Refused("the version is none of 1, 2, 3");
  }
  return magnitude[0] + 1;
}

absl::Status ReadTbs(absl::string_view tbs, absl::string_view outer_algorithm, Fields& fields) {
  DerReader reader(tbs);
  SIGNET_ASSIGN_OR_RETURN(const int version, ReadVersion(reader));
  absl::string_view serial, algorithm, whole_algorithm, spki, whole_spki, rest;
  if (!reader.ReadUnsigned(&serial)) return Refused("the serial number is negative or malformed");
  if (serial.size() > 20) return Refused("the serial number is longer than 20 bytes");  // RFC 5280 4.1.2.2
  fields.serial = std::string(serial);
  if (!reader.Read(kDerSequence, &algorithm, &whole_algorithm) || whole_algorithm != outer_algorithm) {
    return Refused("the two signature algorithms differ");  // RFC 5280 4.1.1.2
  }
  SIGNET_RETURN_IF_ERROR(ReadName(reader, &fields.issuer_der, nullptr));
  SIGNET_RETURN_IF_ERROR(ReadValidity(reader, fields));
  SIGNET_RETURN_IF_ERROR(ReadName(reader, &fields.subject_der, &fields.common_name));
  if (!reader.Read(kDerSequence, &spki, &whole_spki)) return Refused("malformed public key");
  SIGNET_ASSIGN_OR_RETURN(fields.public_key, PublicKey::ParseSpki(whole_spki), "certificate");
  for (int unique_id : {1, 2}) {
    if (reader.PeekTag() == DerContext(unique_id) && (version < 2 || !reader.Read(DerContext(unique_id), &rest))) {
      return Refused("malformed unique identifier");
    }
  }
  if (reader.PeekTag() == DerContextConstructed(3)) {
    if (version < 3 || !reader.Read(DerContextConstructed(3), &rest)) return Refused("extensions outside of version 3");
    SIGNET_RETURN_IF_ERROR(ReadExtensions(rest, fields));
  }
  return reader.done() ? absl::OkStatus() : Refused("bytes after the last field");
}

// Whether OpenSSL can work with a CA certificate: found out when it arrives, not when a chain has to be verified with
// it.
absl::Status CheckUsable(absl::string_view der) {
  const auto* in = reinterpret_cast<const unsigned char*>(der.data());
  X509Ptr x509(d2i_X509(nullptr, &in, static_cast<long>(der.size())));
  if (x509 == nullptr) return OpenSslRefusal("certificate: malformed");
  (void)X509_check_purpose(x509.get(), -1, -1);  // decodes the extensions and marks what is contradictory
  if ((X509_get_extension_flags(x509.get()) & EXFLAG_INVALID) != 0) {
    return OpenSslRefusal("certificate: malformed or contradictory extensions");
  }
  ERR_clear_error();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Certificate> Certificate::Parse(absl::string_view der) {
  if (der.size() > kMaxCertificateBytes) return Refused("larger than 16 KiB");
  absl::string_view certificate, tbs, algorithm, whole_algorithm, signature;
  DerReader outer(der);
  if (!outer.Read(kDerSequence, &certificate) || !outer.done()) return Refused("not a single DER certificate");
  DerReader parts(certificate);
  if (!parts.Read(kDerSequence, &tbs) || !parts.Read(kDerSequence, &algorithm, &whole_algorithm) ||
      !parts.ReadBitString(&signature) || !parts.done()) {
    return Refused("not a certificate");
  }
  Fields fields;
  fields.der = std::string(der);
  SIGNET_RETURN_IF_ERROR(ReadTbs(tbs, whole_algorithm, fields));
  if (fields.is_ca) SIGNET_RETURN_IF_ERROR(CheckUsable(der));
  return CertificateAccess::Make(std::move(fields));
}

}  // namespace signet::crypto
