#include "common/kubernetes/api_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/fs/atomic_file.h"
#include "tests/fakes/fake_api_server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::kubernetes {
namespace {

using fakes::FakeApiServer;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Answer = FakeApiServer::Answer;
using Request = FakeApiServer::Request;

std::string StatusJson(int code, const std::string& message) {
  return absl::StrCat(R"({"kind":"Status","status":"Failure","message":")", message, R"(","code":)", code, "}");
}

class ApiClientTest : public ::testing::Test {
 protected:
  void Serve(FakeApiServer::Handler handler, const std::string& dns_name = "localhost") {
    server_ = std::make_unique<FakeApiServer>(std::move(handler), dns_name);
  }
  std::unique_ptr<ApiClient> Connect(const std::string& kube_config) {
    const std::string path = dir_.file("config");
    EXPECT_THAT(fs::WriteFileAtomically(path, kube_config), testing::IsOk());
    CredentialSource::Options options;
    options.kube_config_file = path;
    auto client = ApiClient::Create(options);
    EXPECT_THAT(client, testing::IsOk());
    return *std::move(client);
  }
  std::unique_ptr<ApiClient> Connect() { return Connect(server_->KubeConfig()); }

  testing::TempDir dir_;
  std::unique_ptr<FakeApiServer> server_;
};

TEST_F(ApiClientTest, SendsItsTokenAndKeepsTheConnection) {
  std::atomic<int> calls{0};
  Serve([&](const Request& request) {
    ++calls;
    EXPECT_EQ(request.headers.at("authorization"), "Bearer test-token");
    return Answer{.body = absl::StrCat(request.method, " ", request.path, " ", request.body)};
  });
  const auto client = Connect();
  EXPECT_THAT(client->Get("/api/v1/pods?x=1", {}), IsOkAndHolds("GET /api/v1/pods?x=1 "));
  EXPECT_THAT(client->Post("/p", "{}", {}), IsOkAndHolds("POST /p {}"));
  EXPECT_THAT(client->Patch("/p", "application/merge-patch+json", "{1}", {}), IsOkAndHolds("PATCH /p {1}"));
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(server_->connections(), 1);
  server_->CloseConnections();
  EXPECT_THAT(client->Get("/again", {}), testing::IsOk()) << "a kept connection that died is not the caller's concern";
}

TEST_F(ApiClientTest, TrustsTheCredentialsRootsAlone) {  // F15: wrong certificate
  Serve([](const Request&) { return Answer{.body = "secret"}; });
  const FakeApiServer other([](const Request&) { return Answer{}; });
  std::string config = server_->KubeConfig();
  const std::string ours = absl::Base64Escape(server_->ca_pem());
  config.replace(config.find(ours), ours.size(), absl::Base64Escape(other.ca_pem()));
  EXPECT_THAT(Connect(config)->Get("/x", {}), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("certificate")));
}

TEST_F(ApiClientTest, ChecksTheNameInTheCertificate) {
  Serve([](const Request& request) { return Answer{.body = request.headers.at("host")}; }, "kubernetes.default");
  EXPECT_THAT(Connect()->Get("/x", {}), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("SSL")));
  // tls-server-name asks for another name than the address has.
  const auto client = Connect(server_->KubeConfig("{token: t}", ", tls-server-name: kubernetes.default"));
  EXPECT_THAT(client->Get("/x", {}), IsOkAndHolds(absl::StrCat("localhost:", server_->port())));
}

TEST_F(ApiClientTest, MapsWhatTheServerSays) {
  int status = 0;
  Serve([&](const Request&) {
    return Answer{
        .status = status, .body = StatusJson(status, "it is so"), .headers = status == 429 ? "Retry-After: 7\r\n" : ""};
  });
  const auto client = Connect();
  const std::pair<int, absl::StatusCode> codes[] = {
      {400, absl::StatusCode::kInvalidArgument},   {401, absl::StatusCode::kUnauthenticated},
      {403, absl::StatusCode::kPermissionDenied},  {404, absl::StatusCode::kNotFound},
      {409, absl::StatusCode::kAborted},           {410, absl::StatusCode::kOutOfRange},
      {429, absl::StatusCode::kResourceExhausted}, {500, absl::StatusCode::kUnavailable},
      {302, absl::StatusCode::kUnavailable},       {503, absl::StatusCode::kUnavailable}};
  for (const auto& [http, code] : codes) {
    status = http;
    const absl::Status told = client->Get("/api/v1/nodes/n", {}).status();
    EXPECT_THAT(told, StatusIs(code, AllOf(HasSubstr("get /api/v1/nodes/n"), HasSubstr("it is so"),
                                           Not(HasSubstr("test-token")))))
        << http;
    EXPECT_EQ(RetryAfter(told).has_value(), http == 429) << http;
  }
  status = 429;
  EXPECT_EQ(RetryAfter(client->Get("/x", {}).status()), absl::Seconds(7));
  status = 409;
  EXPECT_THAT(client->Post("/x", "{}", {}), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(ApiClientTest, FollowsNoRedirect) {
  std::atomic<int> led_away{0};
  const FakeApiServer elsewhere([&](const Request&) {
    ++led_away;
    return Answer{};
  });
  Serve([&](const Request&) {
    return Answer{.status = 302, .headers = absl::StrCat("Location: ", elsewhere.url(), "/x\r\n")};
  });
  EXPECT_THAT(Connect()->Get("/x", {}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(led_away, 0);
}

TEST_F(ApiClientTest, StopsReadingAnAnswerOverItsCap) {  // F15: 50 MiB
  Serve([](const Request&) {
    return Answer{.stream = [](FakeApiServer::Stream& stream) {
      const std::string piece(1 << 20, ' ');
      for (int i = 0; i < 50 && stream.Send(piece); ++i) {
      }
    }};
  });
  EXPECT_THAT(Connect()->Get("/x", {}), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("larger than")));
}

TEST_F(ApiClientTest, AServerThatHangsCostsTheDeadlineAndNoMore) {
  Serve([](const Request&) { return Answer{.hang = true}; });
  const auto client = Connect();
  EXPECT_THAT(client->Get("/x", {.timeout = absl::Milliseconds(50)}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no answer within 50ms")));
}

TEST_F(ApiClientTest, AnotherThreadEndsACall) {
  std::promise<void> asked;
  Serve([&](const Request&) {
    asked.set_value();
    return Answer{.hang = true};
  });
  const auto client = Connect();
  Cancellation cancel;
  std::thread canceller([&] {
    asked.get_future().wait();
    cancel.Cancel();
  });
  EXPECT_THAT(client->Get("/x", {.timeout = absl::Hours(1), .cancel = &cancel}),
              StatusIs(absl::StatusCode::kCancelled));
  canceller.join();
  EXPECT_THAT(client->Get("/x", {.timeout = absl::Hours(1), .cancel = &cancel}), StatusIs(absl::StatusCode::kCancelled))
      << "cancelled once is cancelled for good";
}

TEST_F(ApiClientTest, SaysWhereNobodyListens) {
  Serve([](const Request&) { return Answer{}; });
  const std::string config = server_->KubeConfig();
  server_.reset();
  EXPECT_THAT(Connect(config)->Get("/x", {}), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("get /x")));
}

TEST_F(ApiClientTest, WatchHandsOutLinesAsTheyCome) {
  std::promise<void> first_seen;
  Serve([&](const Request& request) {
    EXPECT_EQ(request.path, "/api/v1/pods?watch=1");
    return Answer{.stream = [&](FakeApiServer::Stream& stream) {
      stream.Send("one\ntw");
      first_seen.get_future().wait();  // the client has it before the rest is sent
      stream.Send("o\n\nthree\n");
    }};
  });
  std::vector<std::string> lines;
  const absl::Status status = Connect()->Watch("/api/v1/pods?watch=1",
                                               [&](absl::string_view line) {
                                                 if (lines.empty()) first_seen.set_value();
                                                 lines.emplace_back(line);
                                                 return absl::OkStatus();
                                               },
                                               {});
  SIGNET_EXPECT_OK(status) << "the server ended it in order";
  EXPECT_THAT(lines, ElementsAre("one", "two", "three"));
}

TEST_F(ApiClientTest, AWatchEndsByItsReaderItsCancelItsSilenceAndItsServer) {
  int status = 200;
  std::string sent = "line\n";
  Serve([&](const Request&) -> Answer {
    if (status != 200) return {.status = status, .body = StatusJson(status, "too old resource version")};
    return {.stream = [&](FakeApiServer::Stream& stream) {
      stream.Send(sent);
      stream.AwaitClosed();
    }};
  });
  const auto client = Connect();
  const auto ignore = [](absl::string_view) { return absl::OkStatus(); };
  EXPECT_THAT(client->Watch("/w", [](absl::string_view) { return absl::AbortedError("enough"); }, {}),
              StatusIs(absl::StatusCode::kAborted, "enough"));
  Cancellation cancel;
  EXPECT_THAT(client->Watch("/w",
                            [&](absl::string_view) {
                              std::thread([&] { cancel.Cancel(); }).join();
                              return absl::OkStatus();
                            },
                            {.cancel = &cancel}),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(client->Watch("/w", ignore, {.silence = absl::Milliseconds(50)}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nothing heard for 50ms")));
  EXPECT_THAT(client->Watch("/w",
                            [&](absl::string_view) {
                              server_->CloseConnections();
                              return absl::OkStatus();
                            },
                            {}),
              StatusIs(absl::StatusCode::kUnavailable));
  sent = std::string(ApiClient::kMaxWatchLineBytes + 1, 'x');
  EXPECT_THAT(client->Watch("/w", ignore, {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("line larger")));
  status = 410;
  EXPECT_THAT(client->Watch("/w", ignore, {}),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("too old resource version")));
}

TEST_F(ApiClientTest, UsesATokenFileThatWasReplaced) {
  std::mutex mutex;
  std::vector<std::string> seen;
  Serve([&](const Request& request) {
    std::lock_guard lock(mutex);
    seen.push_back(request.headers.at("authorization"));
    return Answer{};
  });
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("token"), "first\n"));
  const auto client = Connect(server_->KubeConfig("{tokenFile: token}"));
  SIGNET_EXPECT_OK(client->Get("/x", {}));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("token"), "second\n"));
  SIGNET_EXPECT_OK(client->Get("/x", {}));
  EXPECT_THAT(seen, ElementsAre("Bearer first", "Bearer second"));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("token"), ""));
  EXPECT_THAT(client->Get("/x", {}), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is empty")));
}

TEST_F(ApiClientTest, ShowsItsClientCertificate) {
  std::atomic<bool> shown{false};
  Serve([&](const Request& request) {
    shown = request.client_certificate;
    EXPECT_EQ(request.headers.count("authorization"), 0u);
    return Answer{};
  });
  const testing::TestCert user =
      testing::IssuedBy(server_->ca(), testing::LeafTemplate("spiffe://test/user", absl::Now()));
  const auto client =
      Connect(server_->KubeConfig(absl::StrCat("{client-certificate-data: ", absl::Base64Escape(user.certificate.Pem()),
                                               ", client-key-data: ", absl::Base64Escape(user.key.Pkcs8Pem()), "}")));
  SIGNET_EXPECT_OK(client->Get("/x", {}));
  EXPECT_TRUE(shown);
}

TEST_F(ApiClientTest, InClusterReadsTheServiceAccountsFolder) {
  Serve([](const Request& request) { return Answer{.body = request.headers.at("authorization")}; });
  CredentialSource::Options options;
  options.service_account_folder = dir_.path();
  options.in_cluster_server = server_->url();
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto client, ApiClient::Create(options));
  EXPECT_THAT(client->Get("/x", {}), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("automount")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("token"), "pods-own"));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("ca.crt"), server_->ca_pem()));
  EXPECT_THAT(client->Get("/x", {}), IsOkAndHolds("Bearer pods-own"));
}

}  // namespace
}  // namespace signet::kubernetes
