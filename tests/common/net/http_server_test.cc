#include "common/net/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace signet::net {
namespace {

using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = HttpServer::Create("127.0.0.1:0", [](absl::string_view path) {
      if (path == "/metrics") return HttpResponse{200, "text/plain; version=0.0.4", "signet_up 1\n"};
      return HttpResponse{404, "text/plain; charset=utf-8", absl::StrCat("no ", path, "\n")};
    });
    SIGNET_ASSERT_OK(server.status());
    server_ = *std::move(server);
  }

  int Connect() {
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(server_->address().substr(server_->address().rfind(':') + 1), &port));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static std::string ReadToEnd(int fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd, buffer, sizeof buffer)) > 0;) all.append(buffer, static_cast<size_t>(n));
    return all;
  }
  std::string Ask(const std::string& request) {
    const int fd = Connect();
    EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    const std::string answer = ReadToEnd(fd);
    close(fd);
    return answer;
  }

  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersGet) {
  EXPECT_THAT(Ask("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Type: text/plain; version=0.0.4\r\n"),
                    EndsWith("\r\n\r\nsignet_up 1\n")));
  EXPECT_THAT(Ask("GET /else HTTP/1.0\r\n\r\n"), AllOf(StartsWith("HTTP/1.0 404"), EndsWith("no /else\n")));
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  EXPECT_THAT(Ask("HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 12\r\n"), EndsWith("\r\n\r\n")));
}

TEST_F(HttpServerTest, RefusesOtherMethodsBodiesAndLongHeaders) {
  EXPECT_THAT(Ask("DELETE /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(Ask(absl::StrCat("GET / HTTP/1.1\r\nHost: a\r\nX: ", std::string(9000, 'x'), "\r\n\r\n")),
              StartsWith("HTTP/1.1 431"));
  EXPECT_EQ(Ask("\x16\x03\x01 this is no HTTP\r\n\r\n"), "");
}

TEST_F(HttpServerTest, KeepsAConnectionForTheNextRequest) {
  const std::string two =
      "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /else HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  EXPECT_THAT(Ask(two), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("HTTP/1.1 404")));
}

TEST_F(HttpServerTest, ServesAtMost64Connections) {
  std::vector<int> idle;
  for (int i = 0; i < 64; ++i) {
    idle.push_back(Connect());
    const std::string request = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    ASSERT_EQ(send(idle.back(), request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    char byte = 0;
    ASSERT_EQ(read(idle.back(), &byte, 1), 1);  // served: it counts
  }
  const int one_more = Connect();
  EXPECT_EQ(ReadToEnd(one_more), "");
  close(one_more);
  for (const int fd : idle) close(fd);
}

TEST_F(HttpServerTest, NamesAnAddressThatIsTaken) {
  EXPECT_THAT(HttpServer::Create(server_->address(), nullptr).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(server_->address())));
  for (const char* bad : {"8080", "localhost:8080", "127.0.0.1:99999", "127.0.0.1:", ""}) {
    EXPECT_THAT(HttpServer::Create(bad, nullptr).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ADDRESS:PORT")))
        << bad;
  }
}

TEST_F(HttpServerTest, ListensOnIpv6) {
  auto server = HttpServer::Create("[::1]:0", [](absl::string_view) { return HttpResponse{}; });
  if (!server.ok()) GTEST_SKIP() << "NOT RUN: no IPv6 loopback here: " << server.status();
  EXPECT_THAT((*server)->address(), StartsWith("[::1]:"));
}

}  // namespace
}  // namespace signet::net
