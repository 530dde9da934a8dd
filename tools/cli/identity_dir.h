// A folder of PEM files that hold an X509-SVID, its key and its trust bundle: what `svid fetch --write` and
// `svid mint-x509 --write` leave and what --identity-dir reads.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/x509_svid.h"

namespace signet::cli {

struct IdentityDir {
  spiffe::X509Svid svid;
  spiffe::Bundle bundle;
};

// The names within: svid.N.pem, svid.N.key (0600), bundle.N.pem, as SPIRE's `fetch -write` has them.
// Reads number 0.
absl::StatusOr<IdentityDir> ReadIdentityDir(const std::string& directory);

// Replaces the three files number `n`, key first: a reader that finds a new certificate finds its key. 0700 is made
// when missing.
absl::Status WriteIdentity(const std::string& directory, size_t n, absl::string_view chain_pem,
                           absl::string_view key_pem, absl::string_view bundle_pem);

}  // namespace signet::cli
