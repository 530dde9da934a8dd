#include "common/rpc/server_credentials.h"

#include <mutex>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

namespace signet::rpc {
namespace {

// What one listening address has handed to gRPC so far.
class Cursor {
 public:
  explicit Cursor(LatestValue<ServerIdentity>& identity) : identity_(identity) {}

  // gRPC asks at each handshake, on a poller thread with the connector's mutex held: no more than a comparison and,
  // after a rotation, a copy.
  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** out) {
    return static_cast<Cursor*>(self)->Fetch(out);
  }
  static void Destroy(void* self) { delete static_cast<Cursor*>(self); }

 private:
  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** out) {
    std::lock_guard lock(mutex_);
    const auto now = identity_.Get();
    if (now == nullptr) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;  // the port is not bound then
    if (now == seen_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair{now->key_pem.c_str(), now->chain_pem.c_str()};
    // The roots only fill the list of CA names in CertificateRequest; a null pointer here aborts the process.
    *out = grpc_ssl_server_certificate_config_create(now->roots_pem.c_str(), &pair, 1);
    seen_ = now;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  LatestValue<ServerIdentity>& identity_;
  std::mutex mutex_;
  LatestValue<ServerIdentity>::Snapshot seen_;
};

class RotatingServerCredentials final : public grpc::ServerCredentials {
 public:
  explicit RotatingServerCredentials(LatestValue<ServerIdentity>& identity) {
    auto* cursor = new Cursor(identity);
    credentials_ =
        grpc_ssl_server_credentials_create_with_options(grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY, &Cursor::Fetch, cursor));
    // gRPC's server keeps the C object after this wrapper is gone, and with it must live the cursor. A metadata
    // processor that processes nothing is the one thing gRPC destroys together with it.
    grpc_server_credentials_set_auth_metadata_processor(credentials_, {nullptr, &Cursor::Destroy, cursor});
  }
  ~RotatingServerCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }
  grpc_server_credentials* credentials_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeRotatingServerCredentials(LatestValue<ServerIdentity>& identity) {
  return std::make_shared<RotatingServerCredentials>(identity);
}

}  // namespace signet::rpc
