// A trust domain name: 1 to 255 of a-z 0-9 . - _ (SPIFFE-ID 2.1, 2.3). Immutable value; compares by bytes.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace signet::spiffe {

class TrustDomain final {
 public:
  // The bare name. kInvalidArgument names the rule that failed.
  static absl::StatusOr<TrustDomain> Parse(absl::string_view name);
  // The bare name or any SPIFFE ID, of which only the trust domain is kept: what configuration and bundle keys allow.
  static absl::StatusOr<TrustDomain> ParseNameOrId(absl::string_view text);

  const std::string& name() const { return name_; }
  std::string IdString() const { return absl::StrCat("spiffe://", name_); }
  // "a..b", ".a", "a.": legal, but Go's x509 package refuses a URI SAN with such a host. Warn who configures it.
  bool has_empty_label() const;

  friend bool operator==(const TrustDomain&, const TrustDomain&) = default;
  friend auto operator<=>(const TrustDomain&, const TrustDomain&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const TrustDomain& td) {
    return H::combine(std::move(h), td.name_);
  }

 private:
  explicit TrustDomain(absl::string_view name) : name_(name) {}
  friend class Id;
  std::string name_;
};

}  // namespace signet::spiffe
