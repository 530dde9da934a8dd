#include "common/rpc/unix_front.h"

#include <errno.h>
#include <fcntl.h>
#include <grpcpp/server_posix.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/concurrency/mutex.h"
#include "common/log/log.h"
#include "common/rpc/unix_listener.h"
#include "common/status/macros.h"

namespace signet::rpc {
namespace {

constexpr int kMaxEvents = 64;
// What epoll reports beside the numbers of connections.
constexpr uint64_t kListener = UINT64_MAX;
constexpr uint64_t kStop = UINT64_MAX - 1;
// Out of descriptors or memory: accepting rests this long; the callers wait in the backlog meanwhile.
constexpr absl::Duration kExhaustedPause = absl::Milliseconds(100);
// A hung-up connection is looked at again after this long, doubled each time, until gRPC has closed it.
constexpr absl::Duration kFirstLook = absl::Milliseconds(2);
constexpr absl::Duration kLastLook = absl::Seconds(1);
// The safety net: all are looked at.
constexpr absl::Duration kSweep = absl::Seconds(30);
// Refusals are logged at most this often, with how many there were.
constexpr absl::Duration kLogEvery = absl::Seconds(10);

absl::Status ErrnoStatus(int error, absl::string_view what) { return absl::ErrnoToStatus(error, what); }

// Raises the limit of open descriptors to what is allowed and returns it.
rlim_t RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  if (limit.rlim_cur < limit.rlim_max) {
    rlimit raised = {limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) return limit.rlim_max;
  }
  return limit.rlim_cur;
}

class AcceptingFront final : public UnixFront {
 public:
  AcceptingFront(Options options, OnAccept on_accept, UnixListener listener, Fd epoll, Fd stop, int last_fd)
      : options_(std::move(options)),
        on_accept_(std::move(on_accept)),
        listener_(std::move(listener)),
        epoll_(std::move(epoll)),
        stop_(std::move(stop)),
        last_fd_(last_fd),
        next_fd_(options_.first_fd) {}

  ~AcceptingFront() override { Stop(); }

  void Stop() override {
    const uint64_t one = 1;
    if (thread_.joinable()) {
      (void)!write(stop_.get(), &one, sizeof(one));
      thread_.join();
    }
    listener_.RemoveFile();
  }

  void Start(grpc::Server& server) override {
    server_ = &server;
    thread_ = std::thread([this] { Run(); });
    pthread_setname_np(thread_.native_handle(), "unix-front");
  }

  std::shared_ptr<const UnixConnection> Find(absl::string_view peer) const override {
    int number = -1;
    if (!absl::ConsumePrefix(&peer, "fd:") || !absl::SimpleAtoi(peer, &number)) return nullptr;
    MutexLock lock(mutex_);
    auto it = records_.find(number);
    return it == records_.end() ? nullptr : it->second.connection;
  }

  size_t connections() const override {
    MutexLock lock(mutex_);
    return records_.size();
  }
  size_t refused() const override { return refused_; }

 private:
  // `watch` is the accepted descriptor itself, kept for two reasons: epoll forgets a socket when gRPC closes the last
  // descriptor of it, and while it is open no other socket can have its inode, which tells the connection from whatever
  // has its number later.
  struct Record {
    Fd watch;
    FileId socket;
    std::shared_ptr<const UnixConnection> connection;
  };
  enum class Accepted { kOne, kNone, kExhausted };

  void Run() {
    epoll_event events[kMaxEvents];
    absl::Time next_sweep = absl::Now() + kSweep;
    absl::Time resume_at = absl::InfiniteFuture();  // while accepting rests
    absl::Duration look_again = kFirstLook;
    for (;;) {
      absl::Duration wait = resume_at - absl::Now();
      if (!hung_up_.empty()) wait = std::min(wait, look_again);
      if (connections() > 0) wait = std::min(wait, next_sweep - absl::Now());
      wait = std::max(wait, absl::ZeroDuration());
      const int timeout_ms = wait >= absl::Hours(1) ? -1 : static_cast<int>(absl::ToInt64Milliseconds(wait)) + 1;
      const int count = epoll_wait(epoll_.get(), events, kMaxEvents, timeout_ms);
      bool acceptable = false;
      for (int i = 0; i < count; ++i) {
        if (events[i].data.u64 == kStop) return;
        if (events[i].data.u64 == kListener) {
          acceptable = true;
        } else {
          hung_up_.push_back(static_cast<int>(events[i].data.u64));
          look_again = kFirstLook;
        }
      }
      if (!hung_up_.empty()) {
        DropClosed(hung_up_);
        look_again = std::min(look_again * 2, kLastLook);
      }
      if (absl::Now() >= next_sweep) {
        Sweep();
        next_sweep = absl::Now() + kSweep;
      }
      if (absl::Now() >= resume_at) {
        resume_at = absl::InfiniteFuture();
        Watch(EPOLL_CTL_ADD);
      }
      if (acceptable && AcceptSome() == Accepted::kExhausted) {
        Watch(EPOLL_CTL_DEL);
        resume_at = absl::Now() + kExhaustedPause;
      }
    }
  }

  void Watch(int operation) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = kListener;
    epoll_ctl(epoll_.get(), operation, listener_.fd.get(), &event);
  }

  // A bounded number, so that a storm of connections does not keep us from seeing the others hang up.
  Accepted AcceptSome() {
    for (int i = 0; i < kMaxEvents; ++i) {
      Accepted result = AcceptOne();
      if (result != Accepted::kOne) return result;
    }
    return Accepted::kOne;
  }

  Accepted AcceptOne() {
    Fd fd(accept4(listener_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.get() < 0) {
      switch (errno) {
        case EAGAIN:
          return Accepted::kNone;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
          LogRefusal("no connection can be accepted now", strerror(errno));
          return Accepted::kExhausted;
        default:
          return Accepted::kOne;  // EINTR, ECONNABORTED: of this one connection
      }
    }
    absl::Status admitted = Admit(fd);
    if (!admitted.ok()) {
      ++refused_;
      LogRefusal("connection refused", admitted.message());
    }
    return Accepted::kOne;
  }

  absl::Status Admit(Fd& fd) {
    ucred credentials = {};
    socklen_t size = sizeof(credentials);
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
      return ErrnoStatus(errno, "SO_PEERCRED");
    // The limit comes before anything that costs (W10).
    if (!HasRoom(credentials.uid)) {
      Sweep();
      if (!HasRoom(credentials.uid)) {
        return absl::ResourceExhaustedError(absl::StrCat("uid ", credentials.uid, " has ",
                                                         options_.max_connections_per_uid,
                                                         " connections open: raise limits.connections_per_uid"));
      }
    }
    UnixConnection plain;
    plain.pid = credentials.pid;
    plain.uid = credentials.uid;
    plain.gid = credentials.gid;
    SIGNET_ASSIGN_OR_RETURN(std::shared_ptr<const UnixConnection> connection, on_accept_(fd.get(), plain),
                            absl::StrCat("pid ", credentials.pid, " uid ", credentials.uid));
    if (connection == nullptr) return absl::InternalError("on_accept returned nothing");

    SIGNET_ASSIGN_OR_RETURN(Fd moved, Move(fd.get()));
    const int number = moved.get();
    std::optional<FileId> file = IdOf(number);
    if (!file.has_value()) return ErrnoStatus(errno, "fstat of an accepted socket");
    // Once: whether the caller hung up or gRPC shut the socket down, from then on it is looked at until it is closed.
    epoll_event event = {};
    event.events = EPOLLRDHUP | EPOLLONESHOT;
    event.data.u64 = static_cast<uint64_t>(number);
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) return ErrnoStatus(errno, "epoll_ctl");
    Record record{std::move(fd), *file, std::move(connection)};
    {
      // A record that is still here is of a connection that gRPC has closed: its number was free.
      MutexLock lock(mutex_);
      if (auto it = records_.find(number); it != records_.end()) Uncount(it->second);
      std::swap(records_[number], record);
      ++per_uid_[credentials.uid];
    }
    grpc::AddInsecureChannelFromFd(server_, moved.release());
    return absl::OkStatus();
  }

  // Copies to the next free number of the range, so that the number of a closed connection rests until the range is
  // through.
  absl::StatusOr<Fd> Move(int fd) {
    for (int start : {next_fd_, options_.first_fd}) {
      Fd moved(fcntl(fd, F_DUPFD_CLOEXEC, start));
      if (moved.get() >= 0 && moved.get() <= last_fd_) {
        next_fd_ = moved.get() == last_fd_ ? options_.first_fd : moved.get() + 1;
        return moved;
      }
      if (moved.get() < 0 && errno != EMFILE && errno != EINVAL) return ErrnoStatus(errno, "F_DUPFD_CLOEXEC");
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("all descriptors from ", options_.first_fd, " to ", last_fd_, " are in use: raise LimitNOFILE"));
  }

  bool HasRoom(uid_t uid) const {
    MutexLock lock(mutex_);
    auto it = per_uid_.find(uid);
    return it == per_uid_.end() || it->second < options_.max_connections_per_uid;
  }

  void Uncount(const Record& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto count = per_uid_.find(record.connection->uid);
    if (count != per_uid_.end() && --count->second == 0) per_uid_.erase(count);
  }

  // Drops the records of `numbers` whose connection gRPC has closed; keeps in `numbers` those that are still open.
  void DropClosed(std::vector<int>& numbers) {
    std::vector<Record> dropped;  // destroyed without the lock: that closes descriptors
    {
      MutexLock lock(mutex_);
      std::erase_if(numbers, [&](int number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        auto it = records_.find(number);
        if (it == records_.end()) return true;
        if (IdOf(number) == it->second.socket) return false;
        Uncount(it->second);
        dropped.push_back(std::move(it->second));
        records_.erase(it);
        return true;
      });
    }
  }

  void Sweep() {
    std::vector<int> all;
    {
      MutexLock lock(mutex_);
      all.reserve(records_.size());
      for (const auto& [number, record] : records_) all.push_back(number);
    }
    DropClosed(all);
  }

  void LogRefusal(absl::string_view event, absl::string_view reason) {
    ++unlogged_;
    const absl::Time now = absl::Now();
    if (now - last_log_ < kLogEvery) return;
    SIGNET_LOG(warn, event, {{"socket", options_.path}, {"reason", reason}, {"times", unlogged_}});
    last_log_ = now;
    unlogged_ = 0;
  }

  const Options options_;
  const OnAccept on_accept_;
  const UnixListener listener_;
  const Fd epoll_;
  const Fd stop_;
  const int last_fd_;
  grpc::Server* server_ = nullptr;
  std::atomic<size_t> refused_ = 0;

  // Of the accepting thread alone.
  int next_fd_;
  std::vector<int> hung_up_;
  size_t unlogged_ = 0;
  absl::Time last_log_ = absl::InfinitePast();

  mutable Mutex mutex_;
  absl::flat_hash_map<int, Record> records_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uid_t, size_t> per_uid_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<UnixFront>> UnixFront::Create(Options options, OnAccept on_accept) {
  SIGNET_ASSIGN_OR_RETURN(UnixListener listener,
                          UnixListener::Create(options.path, options.socket_mode, options.directory_mode));
  const rlim_t limit = RaiseDescriptorLimit();
  const int last_fd = static_cast<int>(std::min<rlim_t>(static_cast<rlim_t>(options.last_fd), limit - 1));
  if (last_fd < options.first_fd) {
    return absl::FailedPreconditionError(absl::StrCat("only ", limit,
                                                      " descriptors may be open (RLIMIT_NOFILE), more than ",
                                                      options.first_fd, " are needed: raise LimitNOFILE"));
  }
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (epoll.get() < 0) return ErrnoStatus(errno, "epoll_create1");
  Fd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (stop.get() < 0) return ErrnoStatus(errno, "eventfd");
  for (auto [fd, tag] : {std::pair(listener.fd.get(), kListener), std::pair(stop.get(), kStop)}) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoStatus(errno, "epoll_ctl");
  }
  return std::make_unique<AcceptingFront>(std::move(options), std::move(on_accept), std::move(listener),
                                          std::move(epoll), std::move(stop), last_fd);
}

}  // namespace signet::rpc
