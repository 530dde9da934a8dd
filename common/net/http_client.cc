#include "common/net/http_client.h"

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

struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};

}  // namespace

absl::StatusOr<std::string> HttpsGet(const std::string& url, size_t max_bytes, absl::Duration timeout,
                                     const std::string& ca_file) {
  if (!absl::StartsWithIgnoreCase(url, "https://")) {
    return absl::InvalidArgumentError(absl::StrCat(url, ": only https:// is fetched"));
  }
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, EasyDeleter> handle(initialised == CURLE_OK ? curl_easy_init() : nullptr);
  if (handle == nullptr) return absl::InternalError("libcurl does not start");
  Body body{{}, max_bytes};
  char detail[CURL_ERROR_SIZE] = "";
  CURL* curl = handle.get();
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);  // threads
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 3L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(timeout)));
  curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
  if (!ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file.c_str());
    curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);  // these roots alone
  }
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Append);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
  const CURLcode code = curl_easy_perform(curl);
  if (body.over) return absl::FailedPreconditionError(absl::StrCat(url, ": answer larger than ", max_bytes, " bytes"));
  if (code != CURLE_OK) {
    const absl::string_view why = detail[0] != '\0' ? detail : curl_easy_strerror(code);
    return absl::UnavailableError(absl::StrCat("get ", url, ": ", why));
  }
  return std::move(body.bytes);
}

}  // namespace signet::net
