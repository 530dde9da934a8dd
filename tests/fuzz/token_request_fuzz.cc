// Requests to the token endpoint (token-service 7). The first byte chooses the headers, the rest is the body. Oracles:
// what is read keeps every cap and reads the same again when written canonically; errors never hold a part of the body.
#include <stdint.h>

#include <string>

#include "common/net/form.h"
#include "common/oauth/access_token.h"
#include "server/token/token_request.h"
#include "tests/fuzz/check.h"

namespace signet::server {
namespace {

net::WebRequest Request(uint8_t choice, std::string body) {
  net::WebRequest request;
  request.method = "POST";
  request.path = "/oauth2/token";
  request.headers = {{"content-type", "application/x-www-form-urlencoded"}};
  if ((choice & 1) != 0) request.headers.emplace_back("dpop", body.substr(0, 64));
  if ((choice & 2) != 0) request.headers.emplace_back("dpop", "second");
  if ((choice & 4) != 0) request.headers.emplace_back("authorization", "Basic eDp5");
  if ((choice & 8) != 0) request.query = "a=b";
  request.body = std::move(body);
  return request;
}

std::string Canonical(const TokenRequest& request) {
  net::Form form(request.form.begin(), request.form.end());
  for (const std::string& value : request.resources) form.emplace_back("resource", value);
  for (const std::string& value : request.audiences) form.emplace_back("audience", value);
  if (!request.client_assertion.empty()) form.emplace_back("client_assertion", request.client_assertion);
  if (!request.client_assertion_type.empty()) form.emplace_back("client_assertion_type", request.client_assertion_type);
  return net::FormatForm(form);
}

void Try(uint8_t choice, const std::string& body) {
  TokenRequest read;
  if (const auto error = TokenRequest::Parse(Request(choice, body), read)) {
    FUZZ_CHECK(error->status == 400 || error->status == 401);
    FUZZ_CHECK(error->error == "invalid_request" || error->error == "invalid_client" ||
               error->error == "invalid_dpop_proof");
    FUZZ_CHECK(body.size() < 48 || error->description.find(body) == std::string::npos);
    return;
  }
  FUZZ_CHECK(body.size() <= 64 * 1024 && (choice & 14) == 0);
  FUZZ_CHECK(read.resources.size() <= 16 && read.audiences.size() <= 16);
  FUZZ_CHECK(read.client_assertion.empty() == read.client_assertion_type.empty());
  FUZZ_CHECK(read.client_assertion.size() <= oauth::kMaxJwtBytes);
  for (const char* secret : {"client_secret", "client_assertion", "resource", "audience"}) {
    FUZZ_CHECK(read.form.count(secret) == 0);
  }
  for (const auto& [name, value] : read.form) FUZZ_CHECK(!name.empty() && !value.empty());
  const std::string canonical = Canonical(read);
  TokenRequest again;
  if (canonical.size() > 64 * 1024) return;  // percent signs make it longer
  FUZZ_CHECK(!TokenRequest::Parse(Request(0, canonical), again).has_value());
  FUZZ_CHECK(again.form == read.form && again.resources == read.resources && again.audiences == read.audiences);
}

}  // namespace
}  // namespace signet::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  signet::server::Try(data[0], std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
