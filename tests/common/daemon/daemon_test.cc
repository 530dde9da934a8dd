#include "common/daemon/daemon.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "common/fs/atomic_file.h"
#include "tests/testing/temp_dir.h"

namespace signet::daemon {
namespace {

TEST(DaemonTest, TellsSystemdWhatItIsTold) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  Notify("READY=1");
  unsetenv("NOTIFY_SOCKET");
  char buffer[64];
  EXPECT_EQ(std::string(buffer, static_cast<size_t>(recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT))), "READY=1");
  close(fd);
}

TEST(DaemonTest, SignalsBecomeEvents) {
  BlockSignals();
  raise(SIGHUP);
  EXPECT_EQ(WaitForEvent(absl::Seconds(5)), Event::kReload);
  raise(SIGTERM);
  EXPECT_EQ(WaitForEvent(absl::Seconds(5)), Event::kStop);
  EXPECT_EQ(WaitForEvent(absl::Milliseconds(1)), Event::kTimeout);
}

TEST(DaemonTest, WritesWhereItListens) {
  testing::TempDir dir;
  ASSERT_TRUE(WriteAddresses(dir.path(), {{"grpc", "127.0.0.1:1"}, {"admin", "/a \"b\""}}).ok());
  EXPECT_EQ(fs::ReadFile(dir.path() + "/addresses.json", 4096).value(),
            "{\"grpc\":\"127.0.0.1:1\",\"admin\":\"/a \\\"b\\\"\"}\n");
}

}  // namespace
}  // namespace signet::daemon
