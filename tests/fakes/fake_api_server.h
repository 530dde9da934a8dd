// An HTTPS server on localhost that plays a Kubernetes API server: what it answers, the test says. One thread a
// connection, connections kept alive, answers that stream. With the kubeconfig that reaches it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/testing/test_ca.h"

namespace signet::fakes {

class FakeApiServer {
 public:
  struct Request {
    std::string method, path;                    // query included
    std::map<std::string, std::string> headers;  // names lower case
    std::string body;
    bool client_certificate = false;
  };
  class Stream {
   public:
    virtual ~Stream() = default;
    virtual bool Send(absl::string_view data) = 0;  // false: the client is gone
    virtual void AwaitClosed() = 0;                 // until the client, or the server, goes
  };
  struct Answer {
    int status = 200;
    std::string body;
    std::string headers;                            // "Retry-After: 3\r\n"
    std::function<void(Stream&)> stream = nullptr;  // a chunked body, ended in order when it returns
    bool hang = false;                              // no answer at all
  };
  using Handler = std::function<Answer(const Request&)>;  // on the connection's thread

  explicit FakeApiServer(Handler handler, const std::string& dns_name = "localhost");
  ~FakeApiServer();  // closes every connection and joins

  int port() const;
  std::string url() const;  // https://localhost:PORT
  std::string ca_pem() const;
  const testing::TestCert& ca() const;
  int connections() const;  // accepted so far
  void CloseConnections();  // as a restart does
  // A kubeconfig whose user is `user`: a YAML flow mapping such as "{token: abc}".
  std::string KubeConfig(const std::string& user = "{token: test-token}",
                         const std::string& more_of_cluster = "") const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace signet::fakes
