#include "common/rpc/unix_front.h"

#include <fcntl.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/concurrency/mutex.h"
#include "tests/testing/sanitizers.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::rpc {
namespace {

using ::signet::testing::StatusIs;
using ::signet::testing::TempDir;
using ::testing::HasSubstr;

// Each accepted connection gets a serial of its own, so that a mix-up shows.
struct Numbered : UnixConnection {
  int serial = 0;
};

// Any method: answers with the serial of the caller's connection. "/hold": keeps the call until the test lets go.
class WhoAmI final : public grpc::CallbackGenericService {
 public:
  const UnixFront* front = nullptr;

  std::string Identify(const grpc::CallbackServerContext& context) const {
    auto found = std::static_pointer_cast<const Numbered>(front->Find(context.peer()));
    return found == nullptr ? "nobody" : std::to_string(found->serial);
  }

  // Answers every held call with who the caller is now.
  void Release() {
    std::vector<std::function<void()>> held;
    {
      std::lock_guard lock(mutex_);
      held.swap(held_);
    }
    for (auto& release : held) release();
  }
  void AwaitHeld(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_.size() >= count; });
  }

 private:
  class Reactor final : public grpc::ServerGenericBidiReactor {
   public:
    Reactor(WhoAmI& owner, grpc::GenericCallbackServerContext& context) : owner_(owner), context_(context) {
      before_ = owner_.Identify(context_);
      StartRead(&request_);
    }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      if (context_.method() != "/hold") return Answer();
      std::lock_guard lock(owner_.mutex_);
      owner_.held_.push_back([this] { Answer(); });
      owner_.changed_.notify_all();
    }
    void OnWriteDone(bool) override { Finish(grpc::Status::OK); }
    void OnDone() override { delete this; }

   private:
    void Answer() {
      owner_.seen_before_and_after(before_, owner_.Identify(context_));
      grpc::Slice slice(before_);
      reply_ = grpc::ByteBuffer(&slice, 1);
      StartWrite(&reply_);
    }
    WhoAmI& owner_;
    grpc::GenericCallbackServerContext& context_;
    std::string before_;
    grpc::ByteBuffer request_, reply_;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return new Reactor(*this, *context);
  }
  void seen_before_and_after(const std::string& before, const std::string& after) {
    std::lock_guard lock(mutex_);
    seen.emplace_back(before, after);
  }

 public:
  std::vector<std::pair<std::string, std::string>> seen;  // what a call was at its start, and at its end

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void()>> held_;
};

class UnixFrontTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    front_.reset();
  }

  UnixFront::Options Options() {
    UnixFront::Options options;
    options.path = dir_.file("api.sock");
    return options;
  }

  void Serve(UnixFront::Options options) {
    auto front = UnixFront::Create(
        options, [this](int, const UnixConnection& c) -> absl::StatusOr<std::shared_ptr<const UnixConnection>> {
          if (refuse_) return absl::PermissionDeniedError("refused by the test");
          auto numbered = std::make_shared<Numbered>();
          static_cast<UnixConnection&>(*numbered) = c;
          numbered->serial = ++serials_;
          return numbered;
        });
    SIGNET_ASSERT_OK(front);
    front_ = *std::move(front);
    service_.front = front_.get();
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(&service_);
    server_ = builder.BuildAndStart();
    front_->Start(*server_);
  }

  std::shared_ptr<grpc::Channel> Dial() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel("unix:" + dir_.file("api.sock"), grpc::InsecureChannelCredentials(), arguments);
  }

  static grpc::Status Call(grpc::Channel& channel, const std::string& method, std::string* reply,
                           grpc::ClientContext* context) {
    grpc::GenericStub stub(std::shared_ptr<grpc::Channel>(&channel, [](grpc::Channel*) {}));
    grpc::Slice nothing("x");
    grpc::ByteBuffer request(&nothing, 1), response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(context, method, grpc::StubOptions(), &request, &response,
                   [&](grpc::Status status) { done.set_value(std::move(status)); });
    grpc::Status status = done.get_future().get();
    grpc::Slice slice;
    if (status.ok() && response.DumpToSingleSlice(&slice).ok()) {
      reply->assign(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return status;
  }
  static std::string WhoIs(grpc::Channel& channel) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    std::string reply;
    grpc::Status status = Call(channel, "/who", &reply, &context);
    return status.ok() ? reply : status.error_message();
  }

  // A bare connection, without HTTP/2.
  int Connect() {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, dir_.file("api.sock").c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << strerror(errno);
    return fd;
  }

  static bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  }

  TempDir dir_;
  std::atomic<int> serials_ = 0;
  std::atomic<bool> refuse_ = false;
  WhoAmI service_;
  std::unique_ptr<UnixFront> front_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(UnixFrontTest, TellsCallsOfOneConnectionWhoTheyAre) {  // EP-1: a stock gRPC client
  Serve(Options());
  auto first = Dial(), second = Dial();
  EXPECT_EQ(WhoIs(*first), "1");
  EXPECT_EQ(WhoIs(*second), "2");
  EXPECT_EQ(WhoIs(*first), "1");
  EXPECT_EQ(front_->connections(), 2u);
  first.reset();
  EXPECT_TRUE(Eventually([&] { return front_->connections() == 1; }));
}

TEST_F(UnixFrontTest, TakesKernelCredentials) {
  Serve(Options());
  int fd = Connect();
  ASSERT_TRUE(Eventually([&] { return front_->connections() == 1; }));
  auto found = front_->Find("fd:1024");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->pid, getpid());
  EXPECT_EQ(found->uid, getuid());
  EXPECT_EQ(found->gid, getgid());
  close(fd);
}

TEST_F(UnixFrontTest, FindsNobodyForOtherPeers) {
  Serve(Options());
  int fd = Connect();
  ASSERT_TRUE(Eventually([&] { return front_->connections() == 1; }));
  for (const char* peer : {"", "fd:", "fd:1025", "fd:-1", "fd:1024x", "ipv4:127.0.0.1:1024", "unix:/x", "1024"}) {
    EXPECT_EQ(front_->Find(peer), nullptr) << peer;
  }
  close(fd);
}

// W1 on the level of descriptors: the range has four numbers, a call is held on a connection whose client is gone, and
// many others come and go meanwhile.
TEST_F(UnixFrontTest, CallOnDeadConnectionNeverGetsTheIdentityOfTheNextOne) {
  UnixFront::Options options = Options();
  options.first_fd = 2000;
  options.last_fd = 2003;
  Serve(options);
  auto doomed = Dial();
  auto context = std::make_unique<grpc::ClientContext>();
  std::string reply;
  auto call = std::async(std::launch::async, [&] { return Call(*doomed, "/hold", &reply, context.get()); });
  service_.AwaitHeld(1);
  context->TryCancel();
  EXPECT_FALSE(call.get().ok());
  context.reset();
  doomed.reset();  // the connection is closed by the client; the handler does not know yet

  std::set<std::string> seen;
  for (int i = 0; i < 20; ++i) {
    auto other = Dial();
    seen.insert(WhoIs(*other));
    other.reset();
    ASSERT_TRUE(Eventually([&] { return front_->connections() <= 2; }));
  }
  EXPECT_EQ(seen.count("1"), 0u);
  EXPECT_EQ(seen.size(), 20u);

  service_.Release();
  ASSERT_TRUE(Eventually([&] { return front_->connections() == 0; }));
  ASSERT_FALSE(service_.seen.empty());
  for (const auto& [before, after] : service_.seen) {
    EXPECT_TRUE(after == before || after == "nobody") << before << " became " << after;
  }
}

TEST_F(UnixFrontTest, NumberRestsUntilTheRangeIsThrough) {
  UnixFront::Options options = Options();
  options.first_fd = 2000;
  options.last_fd = 2009;
  Serve(options);
  for (int i = 0; i < 25; ++i) {
    int fd = Connect();
    ASSERT_TRUE(Eventually([&] { return front_->connections() == 1; }));
    EXPECT_NE(front_->Find("fd:" + std::to_string(2000 + i % 10)), nullptr) << i;
    close(fd);
    ASSERT_TRUE(Eventually([&] { return front_->connections() == 0; }));
  }
}

TEST_F(UnixFrontTest, ManyConnectionsLeaveRoomForAnotherFront) {  // an agent's admin socket beside its workload socket
  Serve(Options());
  UnixFront::Options options = Options();
  options.path = dir_.file("admin.sock");
  auto admin =
      UnixFront::Create(options, [](int, const UnixConnection& c) { return std::make_shared<UnixConnection>(c); });
  SIGNET_ASSERT_OK(admin);
  (*admin)->Start(*server_);
  std::vector<int> held;
  for (int i = 0; i < 1100; ++i) held.push_back(Connect());
  ASSERT_TRUE(Eventually([&] { return front_->connections() == 1100; }));
  auto channel = grpc::CreateChannel("unix:" + options.path, grpc::InsecureChannelCredentials());
  EXPECT_EQ(WhoIs(*channel), "nobody");  // served; the service asks the other front
  EXPECT_EQ((*admin)->connections(), 1u);
  for (int fd : held) close(fd);
}

TEST_F(UnixFrontTest, RefusesWhenTheRangeIsFull) {
  UnixFront::Options options = Options();
  options.first_fd = 2000;
  options.last_fd = 2001;
  Serve(options);
  int a = Connect(), b = Connect(), c = Connect();
  char byte;
  EXPECT_EQ(recv(c, &byte, 1, 0), 0);  // closed by the front
  EXPECT_EQ(front_->connections(), 2u);
  close(a);
  close(b);
  close(c);
  ASSERT_TRUE(Eventually([&] { return front_->connections() == 0; }));
  auto channel = Dial();
  EXPECT_EQ(WhoIs(*channel), "4");
}

TEST_F(UnixFrontTest, LimitsConnectionsOfOneUser) {  // W10
  UnixFront::Options options = Options();
  options.max_connections_per_uid = 3;
  Serve(options);
  std::vector<int> held;
  for (int i = 0; i < 3; ++i) held.push_back(Connect());
  int refused = Connect();
  char byte;
  EXPECT_EQ(recv(refused, &byte, 1, 0), 0);
  EXPECT_EQ(serials_, 3);  // refused before anything was looked up
  EXPECT_EQ(front_->refused(), 1u);
  close(refused);
  close(held.back());
  held.pop_back();
  // The place is free again as soon as gRPC has closed that one, without waiting for a sweep.
  EXPECT_TRUE(Eventually([&] { return WhoIs(*Dial()) == "4"; }));
  for (int fd : held) close(fd);
}

TEST_F(UnixFrontTest, ClosesWhatOnAcceptRefuses) {
  Serve(Options());
  refuse_ = true;
  int fd = Connect();
  char byte;
  EXPECT_EQ(recv(fd, &byte, 1, 0), 0);
  EXPECT_EQ(front_->connections(), 0u);
  EXPECT_EQ(front_->refused(), 1u);
  close(fd);
}

TEST_F(UnixFrontTest, SetsModesWhateverTheUmask) {
  mode_t before = umask(0077);
  UnixFront::Options options = Options();
  options.path = dir_.file("made/api.sock");
  auto front = UnixFront::Create(options, nullptr);
  umask(before);
  SIGNET_ASSERT_OK(front);
  struct stat st;
  ASSERT_EQ(stat(options.path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0777u);
  ASSERT_EQ(stat(dir_.file("made").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0755u);
}

TEST_F(UnixFrontTest, ReplacesDeadSocketFile) {
  {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, dir_.file("api.sock").c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    close(fd);  // a daemon that was killed leaves this behind
  }
  Serve(Options());
  auto channel = Dial();
  EXPECT_EQ(WhoIs(*channel), "1");
}

TEST_F(UnixFrontTest, NeverReplacesALivingDaemon) {
  Serve(Options());
  EXPECT_THAT(UnixFront::Create(Options(), nullptr),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("already listens")));
  auto channel = Dial();
  EXPECT_EQ(WhoIs(*channel), "2");  // it still answers; connection 1 was the probe
}

TEST_F(UnixFrontTest, NeverReplacesSomethingElse) {
  std::ofstream(dir_.file("api.sock")) << "precious";
  EXPECT_THAT(UnixFront::Create(Options(), nullptr),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not a socket")));
  EXPECT_EQ(std::filesystem::file_size(dir_.file("api.sock")), 8u);
}

TEST_F(UnixFrontTest, RefusesFolderThatEverybodyCanWrite) {
  chmod(dir_.path().c_str(), 0777);
  EXPECT_THAT(UnixFront::Create(Options(), nullptr),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("written by everybody")));
}

TEST_F(UnixFrontTest, NamesThePathThatIsTooLong) {
  UnixFront::Options options = Options();
  options.path = "/" + std::string(107, 'x');
  EXPECT_THAT(UnixFront::Create(options, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("has 108 bytes and a Unix socket takes 107")));
  options.path = "relative.sock";
  EXPECT_THAT(UnixFront::Create(options, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not absolute")));
}

TEST_F(UnixFrontTest, RemovesItsOwnSocketFileOnly) {
  auto front = UnixFront::Create(Options(), nullptr);
  SIGNET_ASSERT_OK(front);
  EXPECT_TRUE(std::filesystem::exists(dir_.file("api.sock")));
  front->reset();
  EXPECT_FALSE(std::filesystem::exists(dir_.file("api.sock")));

  front = UnixFront::Create(Options(), nullptr);
  SIGNET_ASSERT_OK(front);
  std::filesystem::remove(dir_.file("api.sock"));
  std::ofstream(dir_.file("api.sock")) << "someone else's";
  front->reset();
  EXPECT_TRUE(std::filesystem::exists(dir_.file("api.sock")));
}

TEST_F(UnixFrontTest, RestsWhenOutOfDescriptorsAndGoesOnAfterwards) {  // W10: EMFILE must not spin
  if (testing::kSanitized)
    GTEST_SKIP() << "NOT RUN under a sanitizer: its check of virtual tables needs descriptors itself";
  Serve(Options());
  int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = {3, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, dir_.file("api.sock").c_str(), sizeof(address.sun_path) - 1);
  EXPECT_EQ(connect(waiting, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  timespec start, end;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
  absl::SleepFor(absl::Milliseconds(500));  // not a wait for something: the time over which nothing may be burnt
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
  EXPECT_LT(absl::DurationFromTimespec(end) - absl::DurationFromTimespec(start), absl::Milliseconds(100));
  EXPECT_EQ(front_->connections(), 0u);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(Eventually([&] { return front_->connections() == 1; }));
  close(waiting);
}

int OpenDescriptors() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}
long ResidentKilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return atol(line.c_str() + 6);
  }
  return 0;
}

// W10, scaled down; SIGNET_SOAK=1 makes it the 10 000 of the requirement.
TEST_F(UnixFrontTest, ConnectAndAbortLeavesNothingBehind) {
  Serve(Options());
  const int rounds = getenv("SIGNET_SOAK") != nullptr ? 10000 : 1000;
  auto round = [&](int i) {
    int fd = Connect();
    static constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (i % 4 == 1) (void)!write(fd, kPreface, 10);                    // half a preface
    if (i % 4 == 2) (void)!write(fd, kPreface, sizeof(kPreface) - 1);  // a whole one and SETTINGS
    if (i % 4 == 3) (void)!write(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    if (i % 8 > 3) {
      linger abort = {1, 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    }
    close(fd);
  };
  for (int i = 0; i < 200; ++i) round(i);  // warm up the allocator
  ASSERT_TRUE(Eventually([&] { return front_->connections() == 0; }));
  const int descriptors = OpenDescriptors();
  const long resident = ResidentKilobytes();
  for (int i = 0; i < rounds; ++i) round(i);
  EXPECT_TRUE(Eventually([&] { return front_->connections() == 0 && OpenDescriptors() <= descriptors; }))
      << OpenDescriptors() << " open, " << descriptors << " before";
  if (!testing::kSanitized) {
    EXPECT_LT(ResidentKilobytes(), resident + resident / 20 + 1024);
  }
}

}  // namespace
}  // namespace signet::rpc
