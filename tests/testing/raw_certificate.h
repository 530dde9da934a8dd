// Certificates that the builder would never make: any extension, any name, any version, any signature.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/crypto/certificate.h"
#include "common/crypto/der.h"
#include "common/crypto/key.h"
#include "common/crypto/random.h"

namespace signet::testing {

struct RawExtension {
  std::string oid;  // content bytes
  bool critical = false;
  std::string value;  // what the OCTET STRING holds
};

inline RawExtension RawBasicConstraints(bool ca, std::optional<uint8_t> path_length = std::nullopt) {
  crypto::DerWriter out;
  out.Nest(crypto::kDerSequence, [&] {
    if (ca) out.PutTrue();
    if (path_length.has_value()) out.PutSmall(*path_length);
  });
  return {"\x55\x1d\x13", true, out.Take()};
}

// The BIT STRING as it is encoded: count of unused bits, then the bits.
inline RawExtension RawKeyUsage(absl::string_view bits) {
  crypto::DerWriter out;
  out.Put(crypto::kDerBitString, bits);
  return {"\x55\x1d\x0f", true, out.Take()};
}
inline RawExtension RawCaUsage() { return RawKeyUsage("\x01\x06"); }    // keyCertSign, cRLSign
inline RawExtension RawLeafUsage() { return RawKeyUsage("\x07\x80"); }  // digitalSignature

struct RawName {
  int kind;  // GeneralName: 1 email, 2 DNS, 6 URI, 7 IP
  std::string bytes;
};
inline RawExtension RawSan(const std::vector<RawName>& names) {
  crypto::DerWriter out;
  out.Nest(crypto::kDerSequence, [&] {
    for (const RawName& name : names) out.Put(crypto::DerContext(name.kind), name.bytes);
  });
  return {"\x55\x1d\x11", false, out.Take()};
}

inline RawExtension RawNameConstraints(const std::vector<std::string>& permitted_uris,
                                       const std::vector<std::string>& excluded_uris = {}) {
  crypto::DerWriter out;
  const auto subtrees = [&](int number, const std::vector<std::string>& uris) {
    if (uris.empty()) return;
    out.Nest(crypto::DerContextConstructed(number), [&] {
      for (const std::string& uri : uris) {
        out.Nest(crypto::kDerSequence, [&] { out.Put(crypto::DerContext(6), uri); });
      }
    });
  };
  out.Nest(crypto::kDerSequence, [&] {
    subtrees(0, permitted_uris);
    subtrees(1, excluded_uris);
  });
  return {"\x55\x1d\x1e", true, out.Take()};
}

struct RawCertificate {
  std::string subject = "subject", issuer = "issuer";  // common names; empty: an empty Name
  absl::Time not_before, not_after;
  std::vector<RawExtension> extensions;
  int version = 3;
  std::string serial = crypto::RandomSerialNumber();
  std::string signature_oid = "\x2a\x86\x48\xce\x3d\x04\x03\x02";  // ecdsa-with-SHA256
  crypto::HashAlgorithm hash = crypto::HashAlgorithm::kSha256;

  std::string Sign(const crypto::PublicKey& key, const crypto::PrivateKey& issuer_key) const {
    crypto::DerWriter tbs;
    const auto name = [&](const std::string& common_name) {
      tbs.Nest(crypto::kDerSequence, [&] {
        if (common_name.empty()) return;
        tbs.Nest(crypto::kDerSet, [&] {
          tbs.Nest(crypto::kDerSequence, [&] {
            tbs.Put(crypto::kDerOid, "\x55\x04\x03");
            tbs.Put(crypto::kDerUtf8String, common_name);
          });
        });
      });
    };
    const auto algorithm = [this](crypto::DerWriter& out) {
      out.Nest(crypto::kDerSequence, [&] { out.Put(crypto::kDerOid, signature_oid); });
    };
    const auto time = [&](absl::Time t) {
      tbs.Put(crypto::kDerGeneralizedTime, absl::FormatTime("%Y%m%d%H%M%SZ", t, absl::UTCTimeZone()));
    };
    tbs.Nest(crypto::kDerSequence, [&] {
      if (version > 1) {
        tbs.Nest(crypto::DerContextConstructed(0), [&] { tbs.PutSmall(static_cast<uint8_t>(version - 1)); });
      }
      tbs.PutUnsigned(serial);
      algorithm(tbs);
      name(issuer);
      tbs.Nest(crypto::kDerSequence, [&] {
        time(not_before);
        time(not_after);
      });
      name(subject);
      tbs.PutRaw(key.spki_der());
      if (extensions.empty()) return;
      tbs.Nest(crypto::DerContextConstructed(3), [&] {
        tbs.Nest(crypto::kDerSequence, [&] {
          for (const RawExtension& extension : extensions) {
            tbs.Nest(crypto::kDerSequence, [&] {
              tbs.Put(crypto::kDerOid, extension.oid);
              if (extension.critical) tbs.PutTrue();
              tbs.Put(crypto::kDerOctetString, extension.value);
            });
          }
        });
      });
    });
    const std::string to_sign = tbs.Take();
    crypto::DerWriter out;
    out.Nest(crypto::kDerSequence, [&] {
      out.PutRaw(to_sign);
      algorithm(out);
      out.PutBitString(issuer_key.Sign(hash, to_sign).value());
    });
    return out.Take();
  }
};

}  // namespace signet::testing
