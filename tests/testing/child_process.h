// A child process of a test, told what to do step by step through a pipe. The child is forked from a program with
// threads, so what runs in it is plain system calls.
#pragma once

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

namespace signet::testing {

class ChildProcess {
 public:
  // What the child sees: it waits for a step of the parent's, and reports that it has done one.
  class Steps {
   public:
    Steps(int in, int out) : in_(in), out_(out) {}
    void Await() const {
      char byte;
      if (read(in_, &byte, 1) != 1) _exit(90);  // the parent is gone
    }
    void Done() const {
      if (write(out_, "+", 1) != 1) _exit(91);
    }

   private:
    int in_, out_;
  };

  // `body` runs in the child, which exits 0 when it returns. `pid`: the number to take (as root; ours must be free), 0
  // any.
  template <typename Body>
  explicit ChildProcess(Body body, pid_t pid = 0) {
    int in[2], out[2];
    if (pipe2(in, 0) != 0 || pipe2(out, 0) != 0) return;
    pid_ = pid == 0 ? fork() : ForkAs(pid);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(in[1]);
      close(out[0]);
      body(Steps(in[0], out[1]));
      _exit(0);
    }
    error_ = pid_ < 0 ? errno : 0;
    close(in[0]);
    close(out[1]);
    to_ = in[1];
    from_ = out[0];
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Reap();
    }
    if (to_ >= 0) close(to_);
    if (from_ >= 0) close(from_);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  int error() const { return error_; }  // of fork or clone3
  void Go() { (void)!write(to_, "+", 1); }
  bool AwaitDone() {
    char byte;
    return read(from_, &byte, 1) == 1;
  }
  // Waits until it has exited, but leaves it a zombie.
  void AwaitExit() {
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
  }
  // Waits until it has exited; its number is free afterwards.
  int Reap() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  // clone3 with set_tid: the surest way to PID reuse.
  static pid_t ForkAs(pid_t pid) {
    clone_args args = {};
    args.exit_signal = SIGCHLD;
    args.set_tid = reinterpret_cast<uint64_t>(&pid);
    args.set_tid_size = 1;
    return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  }

  pid_t pid_ = -1;
  int error_ = 0;
  int to_ = -1, from_ = -1;
};

// In a child: a connection to the socket at `path`, or exit.
inline int ConnectOrExit(const char* path) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) _exit(92);
  return fd;
}

// Passes a descriptor on over a Unix socket (SCM_RIGHTS). Plain system calls: may run in a child.
inline bool SendFd(int socket, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  char byte = 'x';
  iovec data = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  return sendmsg(socket, &message, 0) == 1;
}
inline int ReceiveFd(int socket) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  char byte;
  iovec data = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(socket, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == nullptr) return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
  return fd;
}

}  // namespace signet::testing
