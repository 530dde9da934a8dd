#include "common/crypto/tls_server.h"

#include <openssl/ssl.h>

#include <array>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/ossl.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

using SslCtxPtr = std::unique_ptr<SSL_CTX, OsslDeleter<SSL_CTX_free>>;
inline void FreeChain(STACK_OF(X509) * chain) { sk_X509_pop_free(chain, X509_free); }
using X509StackPtr = std::unique_ptr<STACK_OF(X509), OsslDeleter<FreeChain>>;

// Those of TLS 1.2; TLS 1.3 has its own.
constexpr char kCiphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr unsigned char kAlpn[] = "\x08http/1.1";

absl::StatusOr<X509Ptr> ToX509(const Certificate& certificate) {
  const auto* in = reinterpret_cast<const unsigned char*>(certificate.der().data());
  X509Ptr x509(d2i_X509(nullptr, &in, static_cast<long>(certificate.der().size())));
  if (x509 == nullptr) return OpenSslError("d2i_X509");
  return x509;
}

// A TlsIdentity as OpenSSL wants it; made once for all handshakes that use it.
struct Prepared {
  std::shared_ptr<const TlsIdentity> identity;
  X509Ptr leaf;
  X509StackPtr chain;
};

absl::StatusOr<std::shared_ptr<const Prepared>> Prepare(std::shared_ptr<const TlsIdentity> identity) {
  if (identity->chain.empty()) return absl::InvalidArgumentError("no certificate to show");
  auto prepared = std::make_shared<Prepared>();
  SIGNET_ASSIGN_OR_RETURN(prepared->leaf, ToX509(identity->chain[0]));
  prepared->chain.reset(sk_X509_new_null());
  for (size_t i = 1; i < identity->chain.size(); ++i) {
    SIGNET_ASSIGN_OR_RETURN(X509Ptr issuer, ToX509(identity->chain[i]));
    if (prepared->chain == nullptr || sk_X509_push(prepared->chain.get(), issuer.get()) <= 0) {
      return OpenSslError("sk_X509_push");
    }
    (void)issuer.release();  // the stack's now
  }
  prepared->identity = std::move(identity);
  return prepared;
}

class OpenSslContext final : public TlsServerContext {
 public:
  OpenSslContext(Source source, SslCtxPtr ctx) : source_(std::move(source)), ctx_(std::move(ctx)) {}

  absl::Status Configure() {
    SSL_CTX* const ctx = ctx_.get();
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 || SSL_CTX_set_cipher_list(ctx, kCiphers) != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1) {
      return OpenSslError("SSL_CTX");
    }
    SSL_CTX_set_options(
        ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_cert_cb(ctx, &OpenSslContext::OnCertificate, this);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, nullptr);  // asks; showing none is fine
    SSL_CTX_set_cert_verify_callback(
        ctx, [](X509_STORE_CTX*, void*) { return 1; }, nullptr);
    SSL_CTX_set_alpn_select_cb(ctx, &OpenSslContext::OnAlpn, nullptr);
    return absl::OkStatus();
  }

  ssl_ctx_st* Share() override {
    SSL_CTX_up_ref(ctx_.get());
    return ctx_.get();
  }

 private:
  static int OnCertificate(SSL* ssl, void* self) {
    const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const auto prepared = static_cast<OpenSslContext*>(self)->Current(name == nullptr ? "" : name);
    if (prepared == nullptr) return 0;
    const int used = SSL_use_cert_and_key(ssl, prepared->leaf.get(), KeyAccess::Get(prepared->identity->key),
                                          prepared->chain.get(), 1);
    if (used != 1) {
      const absl::Status error = OpenSslError("SSL_use_cert_and_key");
      SIGNET_LOG(error, "the certificate of the HTTPS server cannot be used", {{"error", error.message()}});
    }
    return used == 1 ? 1 : 0;
  }

  static int OnAlpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned int in_size, void*) {
    unsigned char* chosen = nullptr;
    const int found = SSL_select_next_proto(&chosen, out_size, kAlpn, sizeof kAlpn - 1, in, in_size);
    if (found != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;  // RFC 7301 3.2
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
  }

  std::shared_ptr<const Prepared> Current(absl::string_view server_name) {
    std::shared_ptr<const TlsIdentity> identity = source_(server_name);
    if (identity == nullptr) return nullptr;
    MutexLock lock(mutex_);
    for (const auto& prepared : prepared_) {
      if (prepared != nullptr && prepared->identity == identity) return prepared;
    }
    auto prepared = Prepare(std::move(identity));
    if (!prepared.ok()) {
      SIGNET_LOG(error, "the certificate of the HTTPS server cannot be used", {{"error", prepared.status().message()}});
      return nullptr;
    }
    next_ = (next_ + 1) % prepared_.size();
    return prepared_[next_] = *std::move(prepared);
  }

  const Source source_;
  const SslCtxPtr ctx_;
  Mutex mutex_;
  // The last ones: a source has one or two to choose from.
  std::array<std::shared_ptr<const Prepared>, 2> prepared_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsServerContext>> TlsServerContext::Create(Source source) {
  SslCtxPtr ctx(SSL_CTX_new(TLS_server_method()));
  if (ctx == nullptr) return OpenSslError("SSL_CTX_new");
  auto context = std::make_unique<OpenSslContext>(std::move(source), std::move(ctx));
  SIGNET_RETURN_IF_ERROR(context->Configure());
  return context;
}

std::vector<Certificate> ShownChain(const ssl_st* ssl) {
  std::vector<Certificate> chain;
  const auto add = [&](const X509* x509) {
    unsigned char* der = nullptr;
    const int size = i2d_X509(const_cast<X509*>(x509), &der);
    if (size <= 0) return false;
    auto certificate = Certificate::Parse({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
    OPENSSL_free(der);
    if (!certificate.ok()) return false;
    chain.push_back(*std::move(certificate));
    return true;
  };
  const X509* const leaf = SSL_get0_peer_certificate(ssl);
  if (leaf == nullptr) return {};
  // A server's view of the chain is without the leaf.
  STACK_OF(X509)* const rest = SSL_get_peer_cert_chain(ssl);
  const int count = rest == nullptr ? 0 : sk_X509_num(rest);
  bool readable = add(leaf) && count < static_cast<int>(kMaxShownCertificates);
  for (int i = 0; readable && i < count; ++i) readable = add(sk_X509_value(rest, i));
  if (!readable) {
    ERR_clear_error();
    return {};
  }
  return chain;
}

}  // namespace signet::crypto
