// The messages of the node attestor "x509pop", as SPIRE's server and agent exchange them: JSON with base64 bytes.
//   evidence   {"certificates": [DER, ...]}            leaf first
//   challenge  {"rsa_signature": {"nonce"}, "ecdsa_signature": null}, or the other way round
//   response   {"rsa_signature": {"nonce", "signature"}} or {"ecdsa_signature": {"nonce", "r", "s"}}
// What is signed is challenge nonce || response nonce, 32 bytes each, hashed with SHA-256: RSASSA-PSS or ECDSA. The
// responder's nonce keeps the challenger from choosing what the key signs.
// Pure functions. Errors: kInvalidArgument for what is malformed, too large or does not fit the key.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"

namespace signet::x509pop {

inline constexpr absl::string_view kType = "x509pop";
inline constexpr size_t kMaxCertificates = 5;  // a leaf and SPIRE's default of 4 intermediates
inline constexpr int kMaxRsaBits = 4096;       // of any certificate: what an unknown peer may make us compute (N6)

// SHA-1 of the certificate's DER in hex: the last segment of the agent's ID.
std::string Fingerprint(const crypto::Certificate& certificate);

std::string EncodeEvidence(absl::Span<const crypto::Certificate> chain);
// Every cap holds before any cryptography: 128 KiB in all, kMaxCertificates, kMaxRsaBits.
absl::StatusOr<std::vector<crypto::Certificate>> ParseEvidence(absl::string_view json);

// A challenge for the holder of `key`, which must be RSA or ECDSA.
struct Challenge {
  std::string nonce;  // keep it: CheckResponse needs it
  std::string json;
};
absl::StatusOr<Challenge> MakeChallenge(const crypto::PublicKey& key);

// Agent: signs what `challenge_json` asks for.
absl::StatusOr<std::string> Respond(const crypto::PrivateKey& key, absl::string_view challenge_json);

// Server. kPermissionDenied when the signature is not that of `key` over `nonce`.
absl::Status CheckResponse(const crypto::PublicKey& key, absl::string_view nonce, absl::string_view response_json);

}  // namespace signet::x509pop
