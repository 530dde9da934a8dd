// URI name constraints (RFC 5280 4.2.1.10), checked by our own code beside OpenSSL's: there, a NUL byte in a name has
// slipped past them, and trust domains are bound by nothing else. Included by common/crypto/*.cc alone. Pure.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/crypto/certificate.h"
#include "common/crypto/ossl.h"

namespace signet::crypto {

// 1 to 2048 bytes of printable ASCII without blanks: no NUL, no control byte.
bool IsPlainUri(absl::string_view uri);

// The host of scheme://[user@]host[:port][/...]; empty when there is none. Views into `uri`.
absl::string_view UriHost(absl::string_view uri);

// A constraint that begins with a dot means every name below it; any other means exactly that host. ASCII case is
// ignored.
bool HostMatches(absl::string_view host, absl::string_view constraint);

// Holds the URI names of `below` (all that `issuer` stands above in the path) against the constraints of `issuer`.
// kUnauthenticated; also when a constrained name has no host.
absl::Status CheckUriConstraints(X509* issuer, absl::Span<const Certificate> below);

}  // namespace signet::crypto
