// JSON Web Keys (RFC 7517), public ones of kty EC (P-256, P-384, P-521), RSA and OKP (Ed25519, which some foreign X.509
// authorities use; no JWT-SVID is signed with it).
#pragma once

#include <string>

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/key.h"

namespace signet::jose {

// The members of the key alone (kty; crv, x, y; n, e). kUnimplemented for a kty or crv we do not know (a consumer of a
// set ignores such a key), kInvalidArgument for a malformed one. Private members ("d") are refused.
absl::StatusOr<crypto::PublicKey> ParseJwk(const boost::json::object& jwk);
boost::json::object ToJwk(const crypto::PublicKey& key);
// RFC 7638, base64url SHA-256.
std::string Thumbprint(const crypto::PublicKey& key);

}  // namespace signet::jose
