// How a cluster's API server is reached and how we prove ourselves there: the service account of the pod we run in, or
// a kubeconfig file. Read again whenever a file changes: a projected token lives an hour, its file is replaced before.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/concurrency/mutex.h"

namespace signet::kubernetes {

// Secrets inside: never log one.
struct Credentials {
  Credentials() = default;
  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;
  ~Credentials();  // cleanses

  std::string server;                            // https://HOST:PORT, no slash at the end, perhaps with a path
  std::string server_name;                       // of the certificate; empty: the host's
  std::string ca_pem;                            // the only roots that count; never empty
  std::string token;                             // bearer; empty: none
  std::string certificate_pem, private_key_pem;  // of the client; both or none
};

// Thread-safe. Blocks on files. Errors: kInvalidArgument what the file says is wrong or not supported (exec plugins,
// auth providers, passwords, insecure-skip-tls-verify, proxies, impersonation); kFailedPrecondition a file is missing,
// empty or too large, or this is no pod; both name file and key. Never a secret.
class CredentialSource {
 public:
  struct Options {
    std::string kube_config_file;  // its current context; empty: in-cluster
    // In-cluster. A token without its file's end: "token", "ca.crt" in there.
    std::string service_account_folder = "/var/run/secrets/kubernetes.io/serviceaccount";
    std::string in_cluster_server;  // https://HOST:PORT; empty: from KUBERNETES_SERVICE_HOST and _PORT
    // For a server beside the API server (the kubelet): its name in its certificate, and files that are elsewhere.
    std::string server_name = {}, token_file = {}, ca_file = {};  // empty: the host; those of the folder
  };
  explicit CredentialSource(Options options) : options_(std::move(options)) {}

  // What holds now. The same object as long as no file that was read has changed (inode, size, modification time).
  absl::StatusOr<std::shared_ptr<const Credentials>> Current();

 private:
  struct Stamp {
    std::string path;
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = 0;
    bool operator==(const Stamp& other) const = default;
  };
  static Stamp StampOf(const std::string& path);
  absl::StatusOr<std::shared_ptr<const Credentials>> Read(std::vector<Stamp>& stamps) const;
  absl::StatusOr<std::shared_ptr<const Credentials>> ReadInCluster(std::vector<Stamp>& stamps) const;
  absl::StatusOr<std::shared_ptr<const Credentials>> ReadKubeConfig(std::vector<Stamp>& stamps) const;

  const Options options_;
  Mutex mutex_;
  std::shared_ptr<const Credentials> current_ ABSL_GUARDED_BY(mutex_);
  std::vector<Stamp> stamps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::kubernetes
