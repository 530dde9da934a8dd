#include "server/token/audit_export.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/net/http_post.h"
#include "tests/fakes/fake_token_use_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::server {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;

// Takes posts, one connection each, and answers with the status it is told.
class HttpSink {
 public:
  HttpSink() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~HttpSink() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::string url() const { return absl::StrCat("http://127.0.0.1:", port_, "/audit"); }
  std::vector<std::string> lines() {
    std::lock_guard lock(mutex_);
    return lines_;
  }
  std::atomic<int> status = 200, posts = 0;

 private:
  void Serve() {
    for (int peer; (peer = accept(listener_, nullptr, nullptr)) >= 0; close(peer)) {
      std::string text;
      char buffer[4096];
      size_t body = std::string::npos, length = 0;
      while (body == std::string::npos || text.size() < body + length) {
        const ssize_t got = read(peer, buffer, sizeof(buffer));
        if (got <= 0) break;
        text.append(buffer, static_cast<size_t>(got));
        if (body != std::string::npos || text.find("\r\n\r\n") == std::string::npos) continue;
        body = text.find("\r\n\r\n") + 4;
        const size_t header = text.find("Content-Length: ");
        if (header == std::string::npos ||
            !absl::SimpleAtoi(text.substr(header + 16, text.find('\r', header) - header - 16), &length)) {
          break;
        }
      }
      ++posts;
      if (status == 200 && body != std::string::npos) {
        std::lock_guard lock(mutex_);
        for (absl::string_view line : absl::StrSplit(text.substr(body), '\n', absl::SkipEmpty()))
          lines_.emplace_back(line);
      }
      const std::string answer =
          absl::StrCat("HTTP/1.1 ", status.load(), " X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      EXPECT_EQ(write(peer, answer.data(), answer.size()), static_cast<ssize_t>(answer.size()));
    }
  }

  const int listener_;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> lines_;
  std::thread thread_;
};

class AuditExportTest : public ::testing::Test {
 protected:
  void Append(int count) {
    for (int i = 0; i < count; ++i) {
      Consume consume;
      consume.audit =
          AuditAppend{.server_id = "s1", .epoch = 1, .txn = {}, .body = [](uint64_t seq, absl::string_view) {
                        return absl::StrCat(R"({"epoch":1,"seq":)", seq, R"(,"server":"s1"})");
                      }};
      store.Commit(std::move(consume), absl::Now(), [](const absl::Status& status) { EXPECT_THAT(status, IsOk()); });
    }
  }
  std::unique_ptr<AuditExport> Open() {
    return AuditExport::Create(
               {.server_id = "s1", .epoch = 1, .path = {}, .url = sink.url(), .cursor_path = dir.file("cursor")}, store,
               clock)
        .value();
  }

  SystemClock clock;
  testing::TempDir dir;
  fakes::FakeTokenUseStore store;
  HttpSink sink;
};

TEST_F(AuditExportTest, PostsWhatComesAndGoesOnAfterARestart) {
  {
    auto exporter = Open();
    Append(3);
  }  // its end is a last round
  EXPECT_EQ(sink.lines().size(), 3u);
  Append(2);  // while nobody exports
  { auto exporter = Open(); }
  ASSERT_EQ(sink.lines().size(), 5u);
  EXPECT_EQ(sink.lines()[3], R"({"epoch":1,"seq":4,"server":"s1"})");
}

TEST_F(AuditExportTest, WhatASinkMissedComesWhenItIsBack) {
  sink.status = 503;
  {
    auto exporter = Open();
    Append(1200);  // more than a batch
    exporter->Wake();
    while (sink.posts == 0) std::this_thread::yield();
    EXPECT_EQ(exporter->url_seq(), 0u);
    sink.status = 200;
    while (exporter->url_seq() < 1200) {
      exporter->Wake();
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(sink.lines().size(), 1200u);
}

TEST_F(AuditExportTest, ARedirectIsNoSuccess) {
  sink.status = 302;
  EXPECT_THAT(net::HttpPost(sink.url(), "text/plain", "x", absl::Seconds(5)), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(AuditExportTest, PostsOverHttpsOrToALiteralLoopbackAddressOnly) {
  for (const char* url : {"https://collector.example/x", "http://127.0.0.1:80/", "http://[::1]/"}) {
    EXPECT_THAT(net::CheckPostUrl(url), IsOk()) << url;
  }
  for (const char* url :
       {"http://collector.example/", "http://localhost/", "ftp://127.0.0.1/", "x", "http://127.0.0.1.evil.example/"}) {
    EXPECT_THAT(net::CheckPostUrl(url), StatusIs(absl::StatusCode::kInvalidArgument)) << url;
  }
}

}  // namespace
}  // namespace signet::server
