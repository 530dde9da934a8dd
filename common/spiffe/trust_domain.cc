#include "common/spiffe/trust_domain.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "common/spiffe/id.h"
#include "common/status/macros.h"

namespace signet::spiffe {
namespace {

constexpr size_t kMaxBytes = 255;  // SPIFFE-ID 2.3: the host of RFC 3986

bool IsTrustDomainChar(char c) {  // SPIFFE-ID 2.1
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

}  // namespace

absl::StatusOr<TrustDomain> TrustDomain::Parse(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("trust domain: empty");
  if (name.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat("trust domain: ", name.size(), " bytes, more than ", kMaxBytes));
  }
  for (char c : name) {
    if (IsTrustDomainChar(c)) continue;
    return absl::InvalidArgumentError(absl::StrCat("trust domain \"", absl::CHexEscape(name),
                                                   "\": only a-z 0-9 . - _ are allowed, not \"",
                                                   absl::CHexEscape(absl::string_view(&c, 1)), "\""));
  }
  return TrustDomain(name);
}

absl::StatusOr<TrustDomain> TrustDomain::ParseNameOrId(absl::string_view text) {
  if (!absl::StrContains(text, ":/")) return Parse(text);
  SIGNET_ASSIGN_OR_RETURN(Id id, Id::Parse(text));
  return id.trust_domain();
}

bool TrustDomain::has_empty_label() const {
  return name_.front() == '.' || name_.back() == '.' || absl::StrContains(name_, "..");
}

}  // namespace signet::spiffe
