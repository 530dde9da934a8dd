// Readies an SSL_CTX that another library owns (libcurl) for mutual TLS by our rules: our certificate and key, and the
// server judged by us alone. The key goes in as the object it is and is copied nowhere. Thread-safe for different
// contexts. kInternal: OpenSSL refuses the certificate or the key.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"

namespace signet::crypto {

// The server's chain as it showed it, leaf first; not OK ends the handshake. Runs within the handshake.
using JudgeServer = std::function<absl::Status(const std::vector<Certificate>& chain)>;

// The server alone: nothing of ours is shown.
void JudgeTlsServer(void* ssl_ctx, const JudgeServer* judge);

// `ssl_ctx`: an SSL_CTX*. `chain`: leaf first, with its key. `judge` must outlive every connection made with it.
absl::Status PrepareTlsClient(void* ssl_ctx, const std::vector<Certificate>& chain, const PrivateKey& key,
                              const JudgeServer* judge);

}  // namespace signet::crypto
