#include "common/net/http_client.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>

#include <curl/curl.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace signet::net {
namespace {

struct Body {
  std::string bytes;
  size_t limit;
  bool over = false;
};

size_t Append(char* data, size_t size, size_t count, void* user) {
  auto& body = *static_cast<Body*>(user);
  if (body.bytes.size() + size * count > body.limit) {
    body.over = true;
    return 0;  // ends the transfer
  }
  body.bytes.append(data, size * count);
  return size * count;
}

// As much as any server needs to say of a small document.
constexpr size_t kMaxHeaderBytes = 64 * 1024;
struct Headers {
  size_t bytes = 0;
  bool over = false;
};

size_t CountHeader(char*, size_t size, size_t count, void* user) {
  auto& headers = *static_cast<Headers*>(user);
  headers.bytes += size * count;
  headers.over = headers.bytes > kMaxHeaderBytes;
  return headers.over ? 0 : size * count;
}

struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};

struct Range {
  uint32_t network;
  int bits;
};
// RFC 6890 and its like: not globally reachable, or no unicast.
constexpr Range kNotPublic[] = {
    {0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},  {0xA9FE0000, 16},
    {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24}, {0xC0586300, 24}, {0xC0A80000, 16},
    {0xC6120000, 15}, {0xC6336400, 24}, {0xCB007100, 24}, {0xE0000000, 3},
};

bool IsPublicV4(uint32_t address) {
  return std::none_of(std::begin(kNotPublic), std::end(kNotPublic), [&](const Range& range) {
    return (address >> (32 - range.bits)) == (range.network >> (32 - range.bits));
  });
}

bool IsPublicV6(const uint8_t* bytes) {
  if ((bytes[0] & 0xE0) != 0x20) return false;             // global unicast is 2000::/3 so far
  if (bytes[0] == 0x20 && bytes[1] == 0x02) return false;  // 6to4 carries an IPv4 address
  if (bytes[0] == 0x20 && bytes[1] == 0x01) {
    if (bytes[2] < 0x02) return false;                       // 2001::/23, Teredo among them
    if (bytes[2] == 0x0D && bytes[3] == 0xB8) return false;  // documentation
  }
  if (bytes[0] == 0x3F && bytes[1] == 0xFF && bytes[2] < 0x10) return false;  // documentation (RFC 9637)
  return true;
}

// libcurl asks for a socket when it is about to connect to this very address: no name is resolved after it. One address
// of several that is not public is enough to refuse the name.
curl_socket_t OpenPublicOnly(void* refused, curlsocktype, curl_sockaddr* address) {
  if (!IsPublicAddress(&address->addr, address->addrlen)) {
    *static_cast<bool*>(refused) = true;
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

CURLcode JudgeByUs(CURL*, void* ssl_ctx, void* judge) {
  crypto::JudgeTlsServer(ssl_ctx, static_cast<const crypto::JudgeServer*>(judge));
  return CURLE_OK;
}

absl::StatusOr<std::string> Get(const std::string& url, const GuardedGet& options, bool guarded,
                                const crypto::JudgeServer* judge = nullptr) {
  if (!absl::StartsWithIgnoreCase(url, "https://")) {
    return absl::InvalidArgumentError(absl::StrCat(url, ": only https:// is fetched"));
  }
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, EasyDeleter> handle(initialised == CURLE_OK ? curl_easy_init() : nullptr);
  if (handle == nullptr) return absl::InternalError("libcurl does not start");
  Body body{{}, options.max_bytes};
  Headers headers;
  bool refused = false;
  char detail[CURL_ERROR_SIZE] = "";
  CURL* curl = handle.get();
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);  // threads
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(options.timeout)));
  curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
  if (!guarded) {
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 3L);
  } else {
    curl_easy_setopt(curl, CURLOPT_PROXY, "");  // a proxy would connect where we cannot look
    if (!options.allow_private_address) {
      curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &OpenPublicOnly);
      curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &refused);
    }
  }
  if (!options.ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, options.ca_file.c_str());
    curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);  // these roots alone
  }
  if (judge != nullptr) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, nullptr);
    curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, &JudgeByUs);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, const_cast<crypto::JudgeServer*>(judge));
  }
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Append);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &CountHeader);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &headers);
  // No CURLOPT_ACCEPT_ENCODING: what comes compressed stays so, whatever it would become.
  const CURLcode code = curl_easy_perform(curl);
  if (body.over) {
    return absl::FailedPreconditionError(absl::StrCat(url, ": answer larger than ", options.max_bytes, " bytes"));
  }
  if (headers.over) {
    return absl::FailedPreconditionError(absl::StrCat(url, ": headers larger than ", kMaxHeaderBytes, " bytes"));
  }
  if (refused) return absl::PermissionDeniedError(absl::StrCat(url, ": its address is not a public one"));
  if (code != CURLE_OK) {
    const absl::string_view why = detail[0] != '\0' ? detail : curl_easy_strerror(code);
    return absl::UnavailableError(absl::StrCat("get ", url, ": ", why));
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) return absl::UnavailableError(absl::StrCat("get ", url, ": status ", status));
  return std::move(body.bytes);
}

}  // namespace

bool IsPublicAddress(const void* address, size_t bytes) {
  sockaddr generic;
  if (bytes < sizeof(generic)) return false;
  std::memcpy(&generic, address, sizeof(generic));
  if (generic.sa_family == AF_INET && bytes >= sizeof(sockaddr_in)) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof(v4));
    return IsPublicV4(ntohl(v4.sin_addr.s_addr));
  }
  if (generic.sa_family == AF_INET6 && bytes >= sizeof(sockaddr_in6)) {
    sockaddr_in6 v6;
    std::memcpy(&v6, address, sizeof(v6));
    return IsPublicV6(v6.sin6_addr.s6_addr);
  }
  return false;
}

absl::StatusOr<std::string> HttpsGet(const std::string& url, size_t max_bytes, absl::Duration timeout,
                                     const std::string& ca_file) {
  return Get(url, {.max_bytes = max_bytes, .timeout = timeout, .ca_file = ca_file}, /*guarded=*/false);
}

absl::StatusOr<std::string> HttpsGetJudged(const std::string& url, size_t max_bytes, absl::Duration timeout,
                                           const crypto::JudgeServer& judge) {
  return Get(url, {.max_bytes = max_bytes, .timeout = timeout, .ca_file = {}}, /*guarded=*/false, &judge);
}

absl::StatusOr<std::string> HttpsGetGuarded(const std::string& url, const GuardedGet& options) {
  return Get(url, options, /*guarded=*/true);
}

}  // namespace signet::net
