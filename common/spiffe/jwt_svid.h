// The rules of the JWT-SVID standard: making the claims, validating a token.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/crypto/certificate_builder.h"
#include "common/jose/jwt.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/spiffe/issued_to.h"

namespace signet::spiffe {

inline constexpr absl::Duration kJwtLeeway = absl::Seconds(60);  // go-jose's default, what SPIFFE clients use

struct JwtSvidClaims {
  Id subject;
  std::vector<std::string> audience;                 // at least one, none empty
  absl::Time issued_at, expires_at;                  // whole seconds
  std::string issuer;                                // empty: no iss
  std::string jwt_id;                                // empty: no jti
  std::optional<IssuedTo> issued_to = std::nullopt;  // in tokens for the own token service alone
};

// Signs the compact JWS: header alg, kid, typ=JWT and nothing else (JWT-7). alg follows from `type`: ES256, ES384,
// RS256.
absl::StatusOr<std::string> SignJwtSvid(const JwtSvidClaims& claims, absl::string_view key_id, crypto::KeyType type,
                                        const crypto::MessageSigner& sign);

struct ValidatedJwtSvid {
  Id id;
  std::vector<std::string> audience;
  absl::Time expires_at;
  jose::Claims claims;  // all of them
};

// The bundle of a trust domain, null when unknown.
using BundleOf = std::function<std::shared_ptr<const Bundle>(const TrustDomain&)>;

// JWT-SVID 4 and 5 to the letter, cap 16 KiB. One of `audience` must match; empty `audience` refuses.
// kInvalidArgument with the rule that failed; never a part of the token.
absl::StatusOr<ValidatedJwtSvid> ValidateJwtSvid(absl::string_view token, absl::string_view audience,
                                                 const BundleOf& bundles, absl::Time now);

// Reads id, audience and times without verifying the signature: for a token that came from our own server over TLS.
absl::StatusOr<ValidatedJwtSvid> ParseUnverifiedJwtSvid(absl::string_view token);

}  // namespace signet::spiffe
