// A SPIFFE ID, parsed once: spiffe://<trust domain><path>, at most 2048 bytes, no normalising, no percent-decoding.
// Immutable value; compares by bytes (SPIFFE-ID 2, 2.3, 2.4).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/spiffe/trust_domain.h"

namespace signet::spiffe {

class Id final {
 public:
  // Any ID, that of a trust domain (empty path) included. kInvalidArgument names the rule that failed.
  static absl::StatusOr<Id> Parse(absl::string_view text);
  // `path` is empty or begins with "/".
  static absl::StatusOr<Id> FromPath(const TrustDomain& trust_domain, absl::string_view path);
  static Id OfTrustDomain(const TrustDomain& trust_domain);

  const std::string& string() const { return text_; }
  absl::string_view path() const { return absl::string_view(text_).substr(kSchemeBytes + trust_domain_bytes_); }
  absl::string_view trust_domain_name() const { return absl::string_view(text_).substr(kSchemeBytes, trust_domain_bytes_); }
  TrustDomain trust_domain() const { return TrustDomain(trust_domain_name()); }
  bool IsMemberOf(const TrustDomain& td) const { return trust_domain_name() == td.name(); }
  bool is_root() const { return path().empty(); }

  friend bool operator==(const Id& a, const Id& b) { return a.text_ == b.text_; }
  friend auto operator<=>(const Id& a, const Id& b) { return a.text_ <=> b.text_; }
  template <typename H>
  friend H AbslHashValue(H h, const Id& id) {
    return H::combine(std::move(h), id.text_);
  }

 private:
  static constexpr size_t kSchemeBytes = 9;  // "spiffe://"
  Id(std::string text, size_t trust_domain_bytes) : text_(std::move(text)), trust_domain_bytes_(trust_domain_bytes) {}
  std::string text_;
  size_t trust_domain_bytes_;
};

// Reserved names of the server side (SPIRE's): /spire/server, /spire/agent/<attestor>/...
Id ServerId(const TrustDomain& trust_domain);
bool IsServerId(const Id& id);
bool IsAgentId(const Id& id);          // path below /spire/agent/
bool IsReservedId(const Id& id);       // /spire or below it: no workload may have it

}  // namespace signet::spiffe
