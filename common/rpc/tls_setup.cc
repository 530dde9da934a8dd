#include "common/rpc/tls_setup.h"

#include <openssl/conf.h>
#include <openssl/ssl.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#include <google/protobuf/stubs/logging.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <grpc/support/string_util.h>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "common/crypto/certificate_builder.h"
#include "common/crypto/key.h"
#include "common/crypto/random.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::rpc {
namespace {

// Read by OpenSSL whenever an SSL_CTX is made, gRPC's included.
constexpr char kTlsConfig[] =
    "openssl_conf=signet\n[signet]\nssl_conf=ssl\n[ssl]\nsystem_default=defaults\n"
    "[defaults]\nMinProtocol=TLSv1.2\nOptions=-SessionTicket\nNumTickets=0\n";

void ConfigureOpenSsl() {
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  BIO* text = BIO_new_mem_buf(kTlsConfig, -1);
  CONF* config = NCONF_new(nullptr);
  long line = 0;
  const bool loaded = text != nullptr && config != nullptr && NCONF_load_bio(config, text, &line) == 1 &&
                      CONF_modules_load(config, nullptr, 0) == 1;
  NCONF_free(config);
  BIO_free(text);
  if (!loaded) {  // going on would mean resumable sessions: an assumption of the chain checks
    SIGNET_LOG(error, "OpenSSL refused the TLS settings of this program");
    std::abort();
  }
}

// gRPC's lines as ours. What any stranger on the network can cause is not worth an operator's attention.
void LogGrpc(gpr_log_func_args* args) {
  const absl::string_view message = args->message;
  if (absl::StrContains(message, "No match found for server name"))
    return;  // every handshake: nobody dials a SPIFFE ID
  const char* file = std::strrchr(args->file, '/');
  const absl::string_view source = file == nullptr ? args->file : file + 1;
  const bool handshake = absl::StrContains(message, "Handshake failed") || absl::StrContains(message, "handshake");
  if (args->severity == GPR_LOG_SEVERITY_ERROR && !handshake) {
    SIGNET_LOG(warn, "gRPC", {{"source", source}, {"message", message}});
  } else if (args->severity == GPR_LOG_SEVERITY_DEBUG) {
    SIGNET_LOG(trace, "gRPC", {{"source", source}, {"message", message}});
  } else {
    SIGNET_LOG(debug, "gRPC", {{"source", source}, {"message", message}});
  }
}

// Protobuf's lines: a stranger's message with bad UTF-8 would write one to stderr for each field.
void LogProtobuf(google::protobuf::LogLevel, const char* file, int, const std::string& message) {
  SIGNET_LOG(debug, "protobuf", {{"source", file}, {"message", message}});
}

// Every client of gRPC's that names no roots reads and parses all of the system's, 10 ms and a MB, also where, as in
// client_channel.cc, only a verifier of its own decides. It is given one instead whose key nobody has.
grpc_ssl_roots_override_result RootOfNobody(char** pem) {
  const auto certificate = []() -> absl::StatusOr<crypto::Certificate> {
    SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, crypto::PrivateKey::Generate(crypto::KeyType::kEcP256));
    const absl::Time now = absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()));
    const crypto::CertificateTemplate contents{.serial = crypto::RandomSerialNumber(),
                                               .subject = {.common_name = "nobody"},
                                               .not_before = now,
                                               .not_after = now + absl::Seconds(1),
                                               .is_ca = true,
                                               .key_usage = crypto::kKeyCertSign};
    return crypto::SelfSign(contents, key.public_key(), [&](crypto::HashAlgorithm hash, absl::string_view message) {
      return key.Sign(hash, message);
    });
  }();
  if (!certificate.ok()) {
    SIGNET_LOG(warn, "gRPC reads the roots of the system", {{"error", certificate.status().message()}});
    return GRPC_SSL_ROOTS_OVERRIDE_FAIL;
  }
  *pem = gpr_strdup(certificate->Pem().c_str());
  return GRPC_SSL_ROOTS_OVERRIDE_OK;
}

}  // namespace

void PrepareProcess() {
  static std::once_flag once;
  std::call_once(once, [] {
    // 8 KB less for each idle connection; read by gRPC when it starts.
    setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", 0);
    gpr_set_log_function(LogGrpc);
    unsetenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH");  // gRPC would read that file before it asks
    grpc_set_ssl_roots_override_callback(RootOfNobody);
    google::protobuf::SetLogHandler(LogProtobuf);
    ConfigureOpenSsl();
  });
}

}  // namespace signet::rpc
