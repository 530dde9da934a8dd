#include "common/net/http_post.h"

#include <arpa/inet.h>

#include <memory>

#include <curl/curl.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::net {
namespace {

template <auto kFree>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};

size_t Ignore(char*, size_t size, size_t count, void*) { return size * count; }

}  // namespace

absl::Status CheckPostUrl(const std::string& url) {
  const std::unique_ptr<CURLU, Deleter<curl_url_cleanup>> parsed(curl_url());
  char* scheme = nullptr;
  char* host = nullptr;
  const bool read = parsed != nullptr && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK &&
                    curl_url_get(parsed.get(), CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                    curl_url_get(parsed.get(), CURLUPART_HOST, &host, 0) == CURLUE_OK;
  const std::unique_ptr<char, Deleter<curl_free>> own_scheme(scheme), own_host(host);
  if (!read) return absl::InvalidArgumentError(absl::StrCat(url, ": no URL"));
  const absl::string_view name = host;
  in_addr literal{};
  const bool v4_loopback =
      inet_pton(AF_INET, std::string(name).c_str(), &literal) == 1 && (ntohl(literal.s_addr) >> 24) == 127;
  const bool loopback = name == "[::1]" || v4_loopback;
  if (absl::EqualsIgnoreCase(scheme, "https") || (absl::EqualsIgnoreCase(scheme, "http") && loopback)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(url, ": only https, or http on a literal loopback address"));
}

absl::Status HttpPost(const std::string& url, const std::string& content_type, absl::string_view body,
                      absl::Duration timeout) {
  SIGNET_RETURN_IF_ERROR(CheckPostUrl(url));
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, Deleter<curl_easy_cleanup>> handle(initialised == CURLE_OK ? curl_easy_init() : nullptr);
  if (handle == nullptr) return absl::InternalError("libcurl does not start");
  const std::unique_ptr<curl_slist, Deleter<curl_slist_free_all>> headers(
      curl_slist_append(nullptr, absl::StrCat("Content-Type: ", content_type).c_str()));
  char detail[CURL_ERROR_SIZE] = "";
  CURL* curl = handle.get();
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);  // threads
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(timeout)));
  curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_POST, 1L);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Ignore);
  const CURLcode code = curl_easy_perform(curl);
  if (code == CURLE_OK) {
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300) return absl::OkStatus();  // a redirect is not taken for success
    return absl::UnavailableError(absl::StrCat("post ", url, ": status ", status));
  }
  const absl::string_view why = detail[0] != '\0' ? detail : curl_easy_strerror(code);
  return absl::UnavailableError(absl::StrCat("post ", url, ": ", why));
}

}  // namespace signet::net
