#include "common/rpc/client_channel.h"

#include <vector>

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "absl/strings/str_cat.h"
#include "common/crypto/certificate.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"

namespace signet::rpc {
namespace {

using grpc::experimental::ExternalCertificateVerifier;
using grpc::experimental::TlsCustomVerificationCheckRequest;

constexpr size_t kMaxChainPemBytes = 256 << 10;

// Runs on gRPC's threads during the handshake: CPU and memory only.
class ServerVerifier final : public ExternalCertificateVerifier {
 public:
  ServerVerifier(spiffe::Id server_id, std::function<std::shared_ptr<const spiffe::Bundle>()> bundle, bool insecure,
                 Clock& clock)
      : server_id_(std::move(server_id)), bundle_(std::move(bundle)), insecure_(insecure), clock_(clock) {}

  bool Verify(TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* sync_status) override {
    const grpc::string_ref pem = request->peer_cert_full_chain();  // client side: leaf first, then intermediates
    const absl::Status verdict = Check(absl::string_view(pem.data(), pem.size()));
    if (!verdict.ok()) *sync_status = {grpc::StatusCode::UNAUTHENTICATED, std::string(verdict.message())};
    return true;
  }
  void Cancel(TlsCustomVerificationCheckRequest*) override {}

 private:
  absl::Status Check(absl::string_view pem) const {
    if (pem.empty() || pem.size() > kMaxChainPemBytes)
      return absl::UnauthenticatedError("server shows no usable certificate");
    SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> chain, crypto::Certificate::ParsePemChain(pem),
                            "server certificate");
    SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, ProvenId(chain), "server certificate");
    if (id != server_id_) {
      return absl::UnauthenticatedError(absl::StrCat("server is ", id.string(), ", expected ", server_id_.string(),
                                                     "; check the address and the trust domain"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<spiffe::Id> ProvenId(const std::vector<crypto::Certificate>& chain) const {
    if (insecure_) return spiffe::IdFromLeaf(chain.front());
    const std::shared_ptr<const spiffe::Bundle> bundle = bundle_ ? bundle_() : nullptr;
    if (bundle == nullptr) {
      return absl::UnauthenticatedError(absl::StrCat("no trust bundle for ", server_id_.trust_domain_name()));
    }
    SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors anchors, bundle->Anchors());
    const auto shared = std::make_shared<const crypto::TrustAnchors>(std::move(anchors));
    const auto anchors_of = [&](const spiffe::TrustDomain& td) {
      return td == bundle->trust_domain ? shared : nullptr;
    };
    return spiffe::VerifyX509Svid(chain, anchors_of, clock_.Now());
  }

  const spiffe::Id server_id_;
  const std::function<std::shared_ptr<const spiffe::Bundle>()> bundle_;
  const bool insecure_;
  Clock& clock_;
};

grpc::ChannelArguments CommonArguments() {
  grpc::ChannelArguments arguments;
  // Else a new channel may be given a connection that still shows the old certificate.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);                  // nothing in between, whatever http_proxy says
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);  // no TXT look-ups
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  // A server that comes back is found soon; gRPC adds jitter of 20 %.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);  // also the time a connection attempt may take
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 10'000);
  return arguments;
}

// A peer that has vanished without a word (F8) is found within six minutes when idle, within 20 s when something was
// sent to it. Not more often: servers of gRPC's defaults, SPIRE's among them, close on pings closer than five minutes.
void KeepAlive(grpc::ChannelArguments& arguments) {
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 310'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeTlsChannel(const std::string& target, ClientTls tls, Clock& clock) {
  // One options object makes one credentials object: a second use is a double free in this version of gRPC.
  grpc::experimental::TlsChannelCredentialsOptions options;
  if (tls.identity.has_value()) {
    options.set_certificate_provider(std::make_shared<grpc::experimental::StaticDataCertificateProvider>(
        std::vector<grpc::experimental::IdentityKeyCertPair>{
            {tls.identity->key.Pkcs8Pem(), tls.identity->ChainPem()}}));
    options.watch_identity_key_cert_pairs();
  }
  options.set_verify_server_certs(false);  // the verifier does, by SPIFFE's rules instead of host names
  options.set_check_call_host(false);
  options.set_certificate_verifier(ExternalCertificateVerifier::Create<ServerVerifier>(
      std::move(tls.server_id), std::move(tls.bundle), tls.insecure, clock));
  grpc::ChannelArguments arguments = CommonArguments();
  KeepAlive(arguments);
  return grpc::CreateCustomChannel(target, grpc::experimental::TlsCredentials(options), arguments);
}

absl::Status FromTlsCall(const grpc::Status& status) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return FromGrpc(status);
  constexpr absl::string_view kRefusal = "Custom verification check failed with error: UNAUTHENTICATED: ";
  const std::string message = status.error_message();  // by value
  const absl::string_view text = message;
  const size_t at = text.find(kRefusal);
  if (at == absl::string_view::npos) return FromGrpc(status);
  return absl::UnauthenticatedError(text.substr(at + kRefusal.size()));
}

std::shared_ptr<grpc::Channel> MakeUnixChannel(const std::string& socket_path) {
  return grpc::CreateCustomChannel(absl::StrCat("unix:", socket_path), grpc::InsecureChannelCredentials(),
                                   CommonArguments());
}

}  // namespace signet::rpc
