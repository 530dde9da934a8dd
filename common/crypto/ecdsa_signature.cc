#include "common/crypto/ecdsa_signature.h"

#include "absl/strings/str_cat.h"
#include "common/crypto/der.h"

namespace signet::crypto {
namespace {

constexpr size_t kMaxNumberBytes = 66;  // P-521

std::string PadLeft(absl::string_view number, size_t width) {
  return absl::StrCat(std::string(width - number.size(), '\0'), number);
}

}  // namespace

absl::StatusOr<std::string> EcdsaToDer(absl::string_view r, absl::string_view s) {
  for (absl::string_view number : {r, s}) {
    if (!number.empty() && number.size() <= kMaxNumberBytes) continue;
    return absl::InvalidArgumentError(absl::StrCat("ECDSA signature: a number of ", number.size(), " bytes"));
  }
  DerWriter der(2 * kMaxNumberBytes + 16);
  der.Nest(kDerSequence, [&] {
    der.PutUnsigned(r);
    der.PutUnsigned(s);
  });
  return der.Take();
}

absl::StatusOr<EcdsaNumbers> EcdsaFromDer(absl::string_view der, size_t width) {
  absl::string_view body, r, s;
  DerReader outer(der);
  if (!outer.Read(kDerSequence, &body) || !outer.done()) {
    return absl::InvalidArgumentError("ECDSA signature: not an ECDSA-Sig-Value");
  }
  DerReader inner(body);
  if (!inner.ReadUnsigned(&r) || !inner.ReadUnsigned(&s) || !inner.done()) {
    return absl::InvalidArgumentError("ECDSA signature: not an ECDSA-Sig-Value");
  }
  if (r.size() > width || s.size() > width) {
    return absl::InvalidArgumentError(absl::StrCat("ECDSA signature: a number is longer than ", width, " bytes"));
  }
  return EcdsaNumbers{.r = PadLeft(r, width), .s = PadLeft(s, width)};
}

}  // namespace signet::crypto
