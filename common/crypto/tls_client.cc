#include "common/crypto/tls_client.h"

#include <openssl/ssl.h>

#include <string>

#include "common/crypto/ossl.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

constexpr int kMaxChain = 8;

absl::StatusOr<X509Ptr> ToX509(const Certificate& certificate) {
  const auto* der = reinterpret_cast<const unsigned char*>(certificate.der().data());
  X509Ptr x509(d2i_X509(nullptr, &der, static_cast<long>(certificate.der().size())));
  if (x509 == nullptr) return OpenSslError("d2i_X509");
  return x509;
}

absl::Status Judge(const STACK_OF(X509) * shown, const JudgeServer& judge) {
  const int count = shown == nullptr ? 0 : sk_X509_num(shown);
  if (count < 1 || count > kMaxChain) return absl::UnauthenticatedError("the server shows no usable chain");
  std::vector<Certificate> chain;
  for (int i = 0; i < count; ++i) {
    unsigned char* der = nullptr;
    const int size = i2d_X509(sk_X509_value(shown, i), &der);
    if (size <= 0) return OpenSslError("i2d_X509");
    absl::StatusOr<Certificate> parsed =
        Certificate::Parse({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
    OPENSSL_free(der);
    if (!parsed.ok()) return parsed.status();
    chain.push_back(*std::move(parsed));
  }
  return judge(chain);
}

// OpenSSL's hook instead of its own verification. The untrusted list is what the server sent, its leaf first.
int VerifyServer(X509_STORE_CTX* context, void* judge) {
  const absl::Status verdict = Judge(X509_STORE_CTX_get0_untrusted(context), *static_cast<const JudgeServer*>(judge));
  X509_STORE_CTX_set_error(context, verdict.ok() ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
  return verdict.ok() ? 1 : 0;
}

}  // namespace

void JudgeTlsServer(void* ssl_ctx, const JudgeServer* judge) {
  auto* context = static_cast<SSL_CTX*>(ssl_ctx);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(context, &VerifyServer, const_cast<JudgeServer*>(judge));
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

absl::Status PrepareTlsClient(void* ssl_ctx, const std::vector<Certificate>& chain, const PrivateKey& key,
                              const JudgeServer* judge) {
  auto* context = static_cast<SSL_CTX*>(ssl_ctx);
  if (chain.empty()) return absl::InvalidArgumentError("no certificate to show");
  SIGNET_ASSIGN_OR_RETURN(const X509Ptr leaf, ToX509(chain.front()));
  if (SSL_CTX_use_certificate(context, leaf.get()) != 1) return OpenSslError("SSL_CTX_use_certificate");
  for (size_t i = 1; i < chain.size(); ++i) {
    SIGNET_ASSIGN_OR_RETURN(const X509Ptr link, ToX509(chain[i]));
    if (SSL_CTX_add1_chain_cert(context, link.get()) != 1) return OpenSslError("SSL_CTX_add1_chain_cert");
  }
  if (SSL_CTX_use_PrivateKey(context, KeyAccess::Get(key)) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return OpenSslError("SSL_CTX_use_PrivateKey");
  }
  JudgeTlsServer(ssl_ctx, judge);
  return absl::OkStatus();
}

}  // namespace signet::crypto
