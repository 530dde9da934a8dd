// The SSL_CTX of a TLS server of ours: a certificate chosen anew at each handshake, the client's asked for and taken as
// it comes (that the client holds its key is proven by TLS; who it is, is for the caller to judge), TLS 1.2 with AEAD
// suites or 1.3, no resumption (a resumed session loses the peer's intermediates), no renegotiation, ALPN http/1.1.
// Thread-safe. The OpenSSL types are named here and nowhere used: asio's streams take them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"

struct ssl_ctx_st;  // SSL_CTX
struct ssl_st;      // SSL

namespace signet::crypto {

// What a handshake is made with.
struct TlsIdentity {
  std::vector<Certificate> chain;  // leaf first
  PrivateKey key;
};

class TlsServerContext {
 public:
  // Called at each handshake, on its thread; must be quick. `server_name` is the name the client asked for (SNI), empty
  // when it named none. Null: the handshake fails. What was given before is not prepared again.
  using Source = std::function<std::shared_ptr<const TlsIdentity>(absl::string_view server_name)>;
  static absl::StatusOr<std::unique_ptr<TlsServerContext>> Create(Source source);
  virtual ~TlsServerContext() = default;

  // One more reference to the SSL_CTX, for who will free it. No handshake may run once this object is gone.
  virtual ssl_ctx_st* Share() = 0;
};

inline constexpr size_t kMaxShownCertificates = 10;
// The certificates the client showed, leaf first, NOT verified. Empty: none, or not readable as certificates.
std::vector<Certificate> ShownChain(const ssl_st* ssl);

}  // namespace signet::crypto
