// The front of a gRPC server on a Unix socket: an accept loop of our own, because the caller's kernel credentials must
// be taken at accept and kept for the life of the connection. The accepted descriptor is moved to a number from a
// cycling range and handed to gRPC, whose peer() then reads "fd:<number>": Find() maps it back to what `on_accept`
// returned. A number is used again only after the whole range was walked and gRPC has closed it, so that a late call on
// a dead connection never gets the identity of the one that took its number. A call that is alive keeps its
// connection's descriptor open (gRPC 1.51 closes it with the last stream), so "the number can be taken" already means
// "no call is left"; the cycling range is the second lock on that door. Owns one thread. Thread-safe. The destructor
// stops accepting, joins and removes the socket file when it is still its own; gRPC closes the connections. Errors of
// Create: kInvalidArgument the path; kAlreadyExists a living daemon listens there; kFailedPrecondition something that
// is not a socket is in the way, or the folder cannot be trusted.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include <grpcpp/server.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::rpc {

// What was learnt about a connection at accept. Derive from it to keep more (the agent: a pinned process).
struct UnixConnection {
  virtual ~UnixConnection() = default;
  pid_t pid = 0;  // SO_PEERCRED, of connect() time
  uid_t uid = 0;
  gid_t gid = 0;
};

class UnixFront {
 public:
  struct Options {
    std::string path;  // at most 107 bytes; a dead socket file is replaced, a living daemon's never
    unsigned socket_mode = 0777;
    unsigned directory_mode = 0755;  // of the socket's own folder, made when missing
    int first_fd = 1024;   // the cycling range; bounded by RLIMIT_NOFILE, which Create raises to its hard limit
    int last_fd = 131071;  // the kernel's table of descriptors grows with it: 8 bytes each
    size_t max_connections_per_uid = 4096;
  };
  // Refuses the connection with an error (logged, counted); `credentials` holds pid, uid and gid.
  using OnAccept =
      std::function<absl::StatusOr<std::shared_ptr<const UnixConnection>>(int fd, const UnixConnection& credentials)>;

  virtual ~UnixFront() = default;
  // Binds at once; accepts once Start() is called with the running server (which must outlive this).
  static absl::StatusOr<std::unique_ptr<UnixFront>> Create(Options options, OnAccept on_accept);
  virtual void Start(grpc::Server& server) = 0;
  // Accepts no more and removes the socket; Find() goes on answering for connections there are. Before the server is shut
  // down, which is no place for new connections. Idempotent; the destructor calls it.
  virtual void Stop() = 0;

  // `peer`: ServerContext::peer(). Null for anything that did not come through this front: refuse the call.
  virtual std::shared_ptr<const UnixConnection> Find(absl::string_view peer) const = 0;
  virtual size_t connections() const = 0;
  virtual size_t refused() const = 0;  // over the limit, refused by on_accept, or no descriptor left; since Create
};

}  // namespace signet::rpc
