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

std::string FlagOrVariable(const std::string& flag, const char* variable) {
  if (!flag.empty()) return flag;
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
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
  if (!context.socket.empty() && !context.server.empty()) return UsageError("--socket and --server exclude each other");
  // A flag beats the environment: --socket is not overruled by SIGNET_SERVER.
  const std::string address = context.socket.empty() ? FlagOrVariable(context.server, "SIGNET_SERVER") : "";
  if (address.empty()) {
    if (!context.identity_dir.empty()) return UsageError("--identity-dir goes with --server HOST:PORT");
    const std::string socket = FlagOrVariable(context.socket, "SIGNET_SERVER_SOCKET");
    return SocketChannel(socket.empty() ? kServerSocket : socket, "signet-server");
  }
  const std::string directory = FlagOrVariable(context.identity_dir, "SIGNET_IDENTITY_DIR");
  if (directory.empty()) {
    return UsageError(
        "--server needs --identity-dir DIR with an SVID that may administrate (admin entry or admin_ids)");
  }
  SIGNET_ASSIGN_OR_RETURN(IdentityDir identity, ReadIdentityDir(directory));
  const auto bundle = std::make_shared<const spiffe::Bundle>(std::move(identity.bundle));
  rpc::ClientTls tls{spiffe::ServerId(identity.svid.id.trust_domain()), std::move(identity.svid),
                     [bundle] { return bundle; }};
  return rpc::MakeTlsChannel(address, std::move(tls), context.clock);
}

absl::StatusOr<std::string> WorkloadSocketPath(const std::string& given) {
  const std::string text = FlagOrVariable(given, "SPIFFE_ENDPOINT_SOCKET");
  if (text.empty()) return kWorkloadSocket;
  if (given.empty() && !absl::StartsWith(text, "unix:")) {
    return UsageError(absl::StrCat("SPIFFE_ENDPOINT_SOCKET is \"", text, "\"; only unix:///PATH is supported"));
  }
  absl::string_view path = text;
  absl::ConsumePrefix(&path, "unix:");
  absl::ConsumePrefix(&path, "//");
  return std::string(path);
}

}  // namespace signet::cli
