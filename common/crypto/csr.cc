#include "common/crypto/csr.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/crypto/der.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

constexpr size_t kMaxBytes = size_t{16} * 1024;
constexpr int kMaxRsaBits = 4096;

// Contents of OBJECT IDENTIFIERs. Signatures: RFC 5758 3.2, RFC 8017 appendix C. Request attributes: RFC 2985 5.4.2.
constexpr absl::string_view kOidEcdsaSha256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02",
                            kOidEcdsaSha384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03",
                            kOidEcdsaSha512 = "\x2a\x86\x48\xce\x3d\x04\x03\x04",
                            kOidRsaSha256 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",
                            kOidRsaSha384 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c",
                            kOidRsaSha512 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d";
constexpr absl::string_view kOidExtensionRequest = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e", kOidSan = "\x55\x1d\x11",
                            kOidCommonName = "\x55\x04\x03";

absl::Status Refused(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("CSR: ", why)); }

absl::Status CheckKeySize(const PublicKey& key) {
  switch (key.type()) {
    case KeyType::kEcP256:
    case KeyType::kEcP384:
      return absl::OkStatus();
    case KeyType::kRsa2048:
    case KeyType::kRsa4096:
    case KeyType::kRsaOther:
      if (key.bits() <= kMaxRsaBits) return absl::OkStatus();
      return Refused("RSA key above 4096 bits");
    case KeyType::kEcP521:
    case KeyType::kEd25519:
      break;
  }
  return Refused(absl::StrCat("keys of type ", KeyTypeName(key.type()), " are refused: use ec-p256, ec-p384 or RSA"));
}

// The hash of an allowed signature algorithm that fits the key; RSA-PSS requests do not occur in this field.
absl::StatusOr<HashAlgorithm> ReadSignatureAlgorithm(absl::string_view algorithm, const PublicKey& key) {
  absl::string_view oid, null;
  DerReader reader(algorithm);
  if (!reader.ReadOid(&oid)) return Refused("malformed signature algorithm");
  const bool rsa = key.type() != KeyType::kEcP256 && key.type() != KeyType::kEcP384;
  if (rsa && !reader.done() && !(reader.Read(kDerNull, &null) && null.empty()))
    return Refused("malformed signature algorithm");
  if (!reader.done()) return Refused("malformed signature algorithm");
  if (oid == (rsa ? kOidRsaSha256 : kOidEcdsaSha256)) return HashAlgorithm::kSha256;
  if (oid == (rsa ? kOidRsaSha384 : kOidEcdsaSha384)) return HashAlgorithm::kSha384;
  if (oid == (rsa ? kOidRsaSha512 : kOidEcdsaSha512)) return HashAlgorithm::kSha512;
  return Refused("the signature algorithm does not fit the key, or is none of SHA-256, SHA-384, SHA-512");
}

struct Contents {
  std::vector<std::string> uri_sans, dns_sans;
  bool has_other_sans = false, has_other_extensions = false;
  std::string common_name;
};

// The first commonName of a DER Name; only well-formedness of its frame is checked.
absl::Status ReadSubject(absl::string_view name, Contents& out) {
  for (DerReader rdns(name); !rdns.done();) {
    absl::string_view set;
    if (!rdns.Read(kDerSet, &set)) return Refused("malformed subject");
    for (DerReader attributes(set); !attributes.done();) {
      absl::string_view attribute, oid, value;
      uint8_t tag;
      if (!attributes.Read(kDerSequence, &attribute)) return Refused("malformed subject");
      DerReader pair(attribute);
      if (!pair.ReadOid(&oid) || !pair.ReadAny(&tag, &value) || !pair.done()) return Refused("malformed subject");
      if (oid == kOidCommonName && out.common_name.empty()) out.common_name = std::string(value);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSans(absl::string_view value, Contents& out) {
  absl::string_view names, name;
  DerReader outer(value);
  if (!outer.Read(kDerSequence, &names) || !outer.done()) return Refused("malformed subjectAltName");
  for (DerReader reader(names); !reader.done();) {
    uint8_t tag;
    if (!reader.ReadAny(&tag, &name)) return Refused("malformed subjectAltName");
    if (tag == DerContext(6)) {
      out.uri_sans.emplace_back(name);
    } else if (tag == DerContext(2)) {
      out.dns_sans.emplace_back(name);
    } else {
      out.has_other_sans = true;
    }
  }
  return absl::OkStatus();
}

absl::Status ReadExtensions(absl::string_view extensions, bool* seen_san, Contents& out) {
  for (DerReader reader(extensions); !reader.done();) {
    absl::string_view extension, oid, critical, value;
    if (!reader.Read(kDerSequence, &extension)) return Refused("malformed extension");
    DerReader parts(extension);
    if (!parts.ReadOid(&oid)) return Refused("malformed extension");
    if (parts.PeekTag() == kDerBoolean && !parts.Read(kDerBoolean, &critical)) return Refused("malformed extension");
    if (!parts.Read(kDerOctetString, &value) || !parts.done()) return Refused("malformed extension");
    if (oid != kOidSan) {
      out.has_other_extensions = true;
      continue;
    }
    if (std::exchange(*seen_san, true)) return Refused("two subjectAltName extensions");
    SIGNET_RETURN_IF_ERROR(ReadSans(value, out));
  }
  return absl::OkStatus();
}

absl::Status ReadAttributes(absl::string_view attributes, Contents& out) {
  bool seen_san = false;
  for (DerReader reader(attributes); !reader.done();) {
    absl::string_view attribute, oid, values, extensions;
    if (!reader.Read(kDerSequence, &attribute)) return Refused("malformed attribute");
    DerReader parts(attribute);
    if (!parts.ReadOid(&oid) || !parts.Read(kDerSet, &values) || !parts.done()) return Refused("malformed attribute");
    if (oid != kOidExtensionRequest) continue;
    DerReader value(values);
    if (!value.Read(kDerSequence, &extensions) || !value.done()) return Refused("malformed extension request");
    SIGNET_RETURN_IF_ERROR(ReadExtensions(extensions, &seen_san, out));
  }
  return absl::OkStatus();
}

}  // namespace

// RFC 2986 4. Read by our own strict reader: what is verified is the very bytes that were read.
absl::StatusOr<CertificateRequest> CertificateRequest::ParseAndVerify(absl::string_view der) {
  if (der.size() > kMaxBytes) return Refused("larger than 16 KiB");
  absl::string_view request, info, info_der, algorithm, signature;
  DerReader outer(der);
  if (!outer.Read(kDerSequence, &request) || !outer.done()) return Refused("not a PKCS#10 request");
  DerReader parts(request);
  if (!parts.Read(kDerSequence, &info, &info_der) || !parts.Read(kDerSequence, &algorithm) ||
      !parts.ReadBitString(&signature) || !parts.done()) {
    return Refused("not a PKCS#10 request");
  }
  absl::string_view version, subject, spki, spki_der, attributes;
  DerReader fields(info);
  if (!fields.ReadUnsigned(&version) || !version.empty()) return Refused("the version is not 0");
  if (!fields.Read(kDerSequence, &subject) || !fields.Read(kDerSequence, &spki, &spki_der)) {
    return Refused("not a PKCS#10 request");
  }
  if (!fields.done() && (!fields.Read(DerContextConstructed(0), &attributes) || !fields.done())) {
    return Refused("malformed attributes");
  }

  Contents contents;
  SIGNET_RETURN_IF_ERROR(ReadSubject(subject, contents));
  SIGNET_RETURN_IF_ERROR(ReadAttributes(attributes, contents));

  CertificateRequest out;
  SIGNET_ASSIGN_OR_RETURN(out.public_key_, PublicKey::ParseSpki(spki_der), "CSR");
  SIGNET_RETURN_IF_ERROR(CheckKeySize(out.public_key_));
  SIGNET_ASSIGN_OR_RETURN(const HashAlgorithm hash, ReadSignatureAlgorithm(algorithm, out.public_key_));
  if (!out.public_key_.Verify(hash, info_der, signature).ok()) return Refused("its signature does not verify");
  out.uri_sans_ = std::move(contents.uri_sans);
  out.dns_sans_ = std::move(contents.dns_sans);
  out.has_other_sans_ = contents.has_other_sans;
  out.has_other_extensions_ = contents.has_other_extensions;
  out.common_name_ = std::move(contents.common_name);
  return out;
}

absl::StatusOr<std::string> CertificateRequest::Create(const PrivateKey& key, const std::vector<std::string>& uri_sans,
                                                       const std::vector<std::string>& dns_sans) {
  const bool p384 = key.type() == KeyType::kEcP384, p256 = key.type() == KeyType::kEcP256;
  SIGNET_RETURN_IF_ERROR(CheckKeySize(key.public_key()));
  DerWriter info(512);
  info.Nest(kDerSequence, [&] {
    info.PutSmall(0);
    info.Nest(kDerSequence, [] {});
    info.PutRaw(key.public_key().spki_der());
    info.Nest(DerContextConstructed(0), [&] {
      if (uri_sans.empty() && dns_sans.empty()) return;
      info.Nest(kDerSequence, [&] {
        info.Put(kDerOid, kOidExtensionRequest);
        info.Nest(kDerSet, [&] {
          info.Nest(kDerSequence, [&] {
            info.Nest(kDerSequence, [&] {
              info.Put(kDerOid, kOidSan);
              info.Nest(kDerOctetString, [&] {
                info.Nest(kDerSequence, [&] {
                  for (const std::string& dns : dns_sans) info.Put(DerContext(2), dns);
                  for (const std::string& uri : uri_sans) info.Put(DerContext(6), uri);
                });
              });
            });
          });
        });
      });
    });
  });
  const std::string to_sign = info.Take();
  SIGNET_ASSIGN_OR_RETURN(const std::string signature,
                          key.Sign(p384 ? HashAlgorithm::kSha384 : HashAlgorithm::kSha256, to_sign));
  DerWriter request(to_sign.size() + signature.size() + 32);
  request.Nest(kDerSequence, [&] {
    request.PutRaw(to_sign);
    request.Nest(kDerSequence, [&] {
      request.Put(kDerOid, p384 ? kOidEcdsaSha384 : p256 ? kOidEcdsaSha256 : kOidRsaSha256);
      if (!p384 && !p256) request.Put(kDerNull, {});
    });
    request.PutBitString(signature);
  });
  return request.Take();
}

}  // namespace signet::crypto
