#include "tools/cli/connect.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/x509_svid.h"
#include "common/status/macros.h"
#include "tools/cli/identity_dir.h"

namespace signet::cli {
namespace {

absl::Status TryConnect(const std::string& path, absl::string_view daemon) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return UsageError(absl::StrCat("\"", path, "\" is no path of a socket: it may have 107 bytes"));
  }
  memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::InternalError(absl::StrCat("socket: ", strerror(errno)));
  const auto close_it = absl::MakeCleanup([fd] { close(fd); });
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return absl::OkStatus();
  const int error = errno;
  const std::string text = absl::StrCat("cannot reach ", daemon, " at ", path, ": ", strerror(error));
  if (error == EACCES || error == EPERM) {
    return WithNextStep(absl::PermissionDeniedError(text), "run this as root, or as the user the daemon runs as");
  }
  return WithNextStep(absl::UnavailableError(text),
                      absl::StrCat("start ", daemon, ", or say by --socket where it listens"));
}

}  // namespace

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> SocketChannel(const std::string& path, absl::string_view daemon) {
  SIGNET_RETURN_IF_ERROR(TryConnect(path, daemon));
  return rpc::MakeUnixChannel(path);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> ServerChannel(const Context& context) {
  if (context.server.empty()) {
    if (!context.identity_dir.empty()) return UsageError("--identity-dir goes with --server HOST:PORT");
    return SocketChannel(context.socket.empty() ? kServerSocket : context.socket, "signet-server");
  }
  if (!context.socket.empty()) return UsageError("--socket and --server exclude each other");
  if (context.identity_dir.empty()) {
    return UsageError(
        "--server needs --identity-dir DIR with an SVID that may administrate (admin entry or admin_ids)");
  }
  SIGNET_ASSIGN_OR_RETURN(IdentityDir identity, ReadIdentityDir(context.identity_dir));
  const auto bundle = std::make_shared<const spiffe::Bundle>(std::move(identity.bundle));
  rpc::ClientTls tls{spiffe::ServerId(identity.svid.id.trust_domain()), std::move(identity.svid),
                     [bundle] { return bundle; }};
  return rpc::MakeTlsChannel(context.server, std::move(tls), context.clock);
}

absl::StatusOr<std::string> WorkloadSocketPath(const std::string& given) {
  std::string text = given;
  if (text.empty()) {
    const char* variable = std::getenv("SPIFFE_ENDPOINT_SOCKET");
    if (variable == nullptr || *variable == '\0') return kWorkloadSocket;
    text = variable;
    if (!absl::StartsWith(text, "unix:")) {
      return UsageError(absl::StrCat("SPIFFE_ENDPOINT_SOCKET is \"", text, "\"; only unix:///PATH is supported"));
    }
  }
  absl::string_view path = text;
  absl::ConsumePrefix(&path, "unix:");
  absl::ConsumePrefix(&path, "//");
  return std::string(path);
}

}  // namespace signet::cli
