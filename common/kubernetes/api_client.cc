#include "common/kubernetes/api_client.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include <curl/curl.h>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/concurrency/mutex.h"
#include "common/kubernetes/json_members.h"
#include "common/status/macros.h"

namespace signet::kubernetes {
namespace {

constexpr absl::string_view kRetryAfterPayload = "signet.kubernetes.retry_after_seconds";
constexpr size_t kMaxIdleSessions = 4;
constexpr size_t kMaxToldBytes = 512;               // of a message of the server
constexpr size_t kMaxErrorBytes = size_t{1} << 20;  // of the answer that refuses a watch

template <auto kFree>
struct Deleter {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using EasyPtr = std::unique_ptr<CURL, Deleter<curl_easy_cleanup>>;
using MultiPtr = std::unique_ptr<CURLM, Deleter<curl_multi_cleanup>>;
using ListPtr = std::unique_ptr<curl_slist, Deleter<curl_slist_free_all>>;

// A connection that is kept open between calls, for as long as the credentials it was made with hold.
struct Session {
  std::shared_ptr<const Credentials> credentials;
  MultiPtr multi;  // owns the connection; outlives `easy`
  EasyPtr easy;
};

absl::Duration Steady() { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

// What is printed of bytes that came from outside.
std::string Told(absl::string_view text) {
  std::string told = absl::CHexEscape(text.substr(0, kMaxToldBytes));
  if (text.size() > kMaxToldBytes) absl::StrAppend(&told, "...");
  return told;
}

// One request and what comes of it. Lives on the stack of the calling thread, which runs every callback.
struct Transfer {
  // The request.
  std::string verb_and_path;
  const std::string& path;
  const char* method = nullptr;  // null: GET
  std::string content_type;
  absl::string_view body;
  absl::Duration answer_timeout;  // of a call all of it, of a watch until the header has come
  absl::Duration silence = absl::InfiniteDuration();
  Cancellation* cancel = nullptr;
  const ApiClient::OnLine* on_line = nullptr;  // a watch
  std::function<void()> on_open = nullptr;

  // What came.
  CURL* easy = nullptr;
  bool answered = false;  // the header is complete
  absl::Duration last_byte;
  std::string bytes;     // of a watch: the unfinished line
  absl::Status refused;  // why we do not read on

  long http_status() const {
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
  }
  bool streams() const { return on_line != nullptr && http_status() == 200; }

  bool Take(absl::string_view data) {
    last_byte = Steady();
    if (streams()) return TakeLines(data);
    const size_t limit = on_line != nullptr ? kMaxErrorBytes : ApiClient::kMaxAnswerBytes;
    if (bytes.size() + data.size() > limit) return Refuse(absl::StrCat("answer larger than ", limit, " bytes"));
    bytes.append(data.data(), data.size());
    return true;
  }

  bool TakeLines(absl::string_view data) {
    for (;;) {
      const size_t end = data.find('\n');
      const absl::string_view piece = data.substr(0, end);
      if (bytes.size() + piece.size() > ApiClient::kMaxWatchLineBytes) {
        return Refuse(absl::StrCat("a line larger than ", ApiClient::kMaxWatchLineBytes, " bytes"));
      }
      if (end == absl::string_view::npos) {
        bytes.append(piece.data(), piece.size());
        return true;
      }
      absl::string_view line = piece;
      if (!bytes.empty()) {
        bytes.append(piece.data(), piece.size());
        line = bytes;
      }
      if (!line.empty()) refused = (*on_line)(line);
      bytes.clear();
      if (!refused.ok()) return false;
      data.remove_prefix(end + 1);
    }
  }

  bool Refuse(const std::string& why) {
    refused = absl::FailedPreconditionError(absl::StrCat(verb_and_path, ": ", why));
    return false;
  }
};

size_t OnBody(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  return transfer.Take(absl::string_view(data, size * count)) ? size * count : 0;
}

size_t OnHeader(char* data, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const absl::string_view line(data, size * count);
  if ((line == "\r\n" || line == "\n") && transfer.http_status() >= 200) {
    transfer.answered = true;
    transfer.last_byte = Steady();
    if (transfer.streams() && transfer.on_open) transfer.on_open();
  }
  return size * count;
}

curl_blob Blob(const std::string& bytes) { return {const_cast<char*>(bytes.data()), bytes.size(), CURL_BLOB_NOCOPY}; }

// https://HOST:PORT/path, split so that another name than HOST's can be asked of the certificate.
struct Target {
  std::string url, connect_to, host_header;
};
Target TargetOf(const Credentials& credentials, const std::string& path) {
  Target target{.url = credentials.server + path, .connect_to = {}, .host_header = {}};
  if (credentials.server_name.empty()) return target;
  const std::unique_ptr<CURLU, Deleter<curl_url_cleanup>> url(curl_url());
  char *host = nullptr, *port = nullptr, *changed = nullptr;
  if (url == nullptr || curl_url_set(url.get(), CURLUPART_URL, target.url.c_str(), CURLU_PATH_AS_IS) != CURLUE_OK) {
    return target;  // the request fails on the same URL
  }
  curl_url_get(url.get(), CURLUPART_HOST, &host, 0);
  curl_url_get(url.get(), CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
  curl_url_set(url.get(), CURLUPART_HOST, credentials.server_name.c_str(), 0);
  curl_url_get(url.get(), CURLUPART_URL, &changed, 0);
  const std::unique_ptr<char, Deleter<curl_free>> own_host(host), own_port(port), own_changed(changed);
  if (host == nullptr || port == nullptr || changed == nullptr) return target;
  target.url = changed;
  target.connect_to = absl::StrCat("::", host, ":", port);
  target.host_header = absl::StrCat("Host: ", host, ":", port);
  return target;
}

class HttpApiClient final : public ApiClient {
 public:
  explicit HttpApiClient(CredentialSource::Options credentials) : credentials_(std::move(credentials)) {}

  CredentialSource& credentials() { return credentials_; }

  absl::StatusOr<std::string> Get(const std::string& path, const CallOptions& options) override {
    return Call("get", path, nullptr, "", "", options);
  }
  absl::StatusOr<std::string> Post(const std::string& path, absl::string_view json,
                                   const CallOptions& options) override {
    return Call("post", path, "POST", "application/json", json, options);
  }
  absl::StatusOr<std::string> Patch(const std::string& path, const std::string& content_type, absl::string_view json,
                                    const CallOptions& options) override {
    return Call("patch", path, "PATCH", content_type, json, options);
  }

  absl::Status Watch(const std::string& path, const OnLine& on_line, const WatchOptions& options) override {
    Transfer transfer{.verb_and_path = absl::StrCat("watch ", path), .path = path};
    transfer.answer_timeout = options.answer_timeout;
    transfer.silence = options.silence;
    transfer.cancel = options.cancel;
    transfer.on_line = &on_line;
    transfer.on_open = options.on_open;
    SIGNET_RETURN_IF_ERROR(Perform(transfer));
    if (!transfer.bytes.empty()) return absl::UnavailableError(absl::StrCat("watch ", path, ": ended within a line"));
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::string> Call(absl::string_view verb, const std::string& path, const char* method,
                                   std::string content_type, absl::string_view body, const CallOptions& options) {
    const absl::string_view without_query = absl::string_view(path).substr(0, path.find('?'));
    Transfer transfer{.verb_and_path = absl::StrCat(verb, " ", without_query), .path = path};
    transfer.method = method;
    transfer.content_type = std::move(content_type);
    transfer.body = body;
    transfer.answer_timeout = options.timeout;
    transfer.cancel = options.cancel;
    SIGNET_RETURN_IF_ERROR(Perform(transfer));
    return std::move(transfer.bytes);
  }

  // OK: a 2xx, read to its end. `transfer.easy` is gone afterwards.
  absl::Status Perform(Transfer& transfer) {
    absl::StatusOr<std::shared_ptr<const Credentials>> credentials = credentials_.Current();
    SIGNET_RETURN_IF_ERROR(credentials.status(), transfer.verb_and_path);
    SIGNET_ASSIGN_OR_RETURN(Session session, Open(*std::move(credentials)));
    bool reusable = false;
    const absl::Status status = Run(transfer, session, reusable);
    if (reusable) Keep(std::move(session));
    return status;
  }

  absl::StatusOr<Session> Open(std::shared_ptr<const Credentials> credentials) {
    std::vector<Session> outdated;  // closed without the lock
    {
      MutexLock lock(mutex_);
      while (!idle_.empty()) {
        Session session = std::move(idle_.back());
        idle_.pop_back();
        if (session.credentials == credentials) return session;
        outdated.push_back(std::move(session));
      }
    }
    static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
    Session session{std::move(credentials), MultiPtr(initialised == CURLE_OK ? curl_multi_init() : nullptr),
                    EasyPtr(initialised == CURLE_OK ? curl_easy_init() : nullptr)};
    if (session.multi == nullptr || session.easy == nullptr) return absl::InternalError("libcurl does not start");
    return session;
  }

  void Keep(Session session) {
    curl_easy_reset(session.easy.get());  // its connection stays
    MutexLock lock(mutex_);
    if (idle_.size() < kMaxIdleSessions) idle_.push_back(std::move(session));
  }

  static absl::Status Run(Transfer& transfer, Session& session, bool& reusable) {
    const Credentials& credentials = *session.credentials;
    CURL* const easy = session.easy.get();
    CURLM* const multi = session.multi.get();
    transfer.easy = easy;
    const Target target = TargetOf(credentials, transfer.path);
    char detail[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(easy, CURLOPT_URL, target.url.c_str());
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);    // threads
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);  // a name that is being resolved must not hold up a cancel
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");  // whatever the environment says
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    const curl_blob roots = Blob(credentials.ca_pem);
    curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &roots);
    curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);  // these roots alone
    const curl_blob certificate = Blob(credentials.certificate_pem), key = Blob(credentials.private_key_pem);
    if (certificate.len != 0) {
      curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &certificate);
      curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
    }
    ListPtr headers, connect_to;
    const auto add = [](ListPtr& list, const std::string& text) {
      if (text.empty()) return;
      curl_slist* grown = curl_slist_append(list.get(), text.c_str());
      if (grown == nullptr) return;
      (void)list.release();
      list.reset(grown);
    };
    add(headers, "Accept: application/json");
    add(headers, "User-Agent: signet");
    add(headers, "Expect:");
    add(headers, target.host_header);
    if (!credentials.token.empty()) add(headers, "Authorization: Bearer " + credentials.token);
    if (transfer.method != nullptr) {
      add(headers, "Content-Type: " + transfer.content_type);
      curl_easy_setopt(easy, CURLOPT_POST, 1L);
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, transfer.method);
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer.body.size()));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, transfer.body.data());
    }
    add(connect_to, target.connect_to);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to.get());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &OnBody);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &OnHeader);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);

    if (curl_multi_add_handle(multi, easy) != CURLM_OK) return absl::InternalError("libcurl does not take a request");
    absl::Status status = Await(transfer, multi, detail);
    curl_multi_remove_handle(multi, easy);
    reusable = status.ok() || transfer.http_status() >= 400;
    if (!transfer.refused.ok()) {
      reusable = false;
      return transfer.refused;
    }
    if (!status.ok()) {
      reusable = false;
      return status;
    }
    const long http_status = transfer.http_status();
    if (http_status >= 200 && http_status < 300) return absl::OkStatus();
    status = StatusOf(static_cast<int>(http_status), transfer.verb_and_path, transfer.bytes);
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0) {
      status = WithRetryAfter(std::move(status), absl::Seconds(std::min<curl_off_t>(seconds, 3600)));
    }
    return status;
  }

  // Until libcurl has done, or we have had enough. OK: there is an answer, whatever it says.
  static absl::Status Await(Transfer& transfer, CURLM* multi, const char* detail) {
    const Cancellation::Waker waker(transfer.cancel, [multi] { curl_multi_wakeup(multi); });
    const absl::Duration begun = Steady();
    transfer.last_byte = begun;
    for (;;) {
      if (transfer.cancel != nullptr && transfer.cancel->cancelled()) {
        return absl::CancelledError(absl::StrCat(transfer.verb_and_path, ": cancelled"));
      }
      int running = 0;
      const CURLMcode performed = curl_multi_perform(multi, &running);
      if (performed != CURLM_OK) return absl::InternalError(curl_multi_strerror(performed));
      int left = 0;
      if (const CURLMsg* message = curl_multi_info_read(multi, &left); message != nullptr) {
        if (message->data.result == CURLE_OK) return absl::OkStatus();
        const absl::string_view why = detail[0] != '\0' ? detail : curl_easy_strerror(message->data.result);
        return absl::UnavailableError(absl::StrCat(transfer.verb_and_path, ": ", Told(why)));
      }
      const bool waits_for_answer = transfer.on_line == nullptr || !transfer.answered;
      const absl::Duration limit = waits_for_answer ? transfer.answer_timeout : transfer.silence;
      const absl::Duration left_over = (waits_for_answer ? begun : transfer.last_byte) + limit - Steady();
      if (left_over <= absl::ZeroDuration()) {
        return absl::UnavailableError(absl::StrCat(transfer.verb_and_path,
                                                   waits_for_answer ? ": no answer within " : ": nothing heard for ",
                                                   absl::FormatDuration(absl::Ceil(limit, absl::Milliseconds(1)))));
      }
      const int64_t wait_ms = absl::ToInt64Milliseconds(std::min(left_over, absl::Seconds(10))) + 1;
      curl_multi_poll(multi, nullptr, 0, static_cast<int>(wait_ms), nullptr);
    }
  }

  CredentialSource credentials_;
  Mutex mutex_;
  std::vector<Session> idle_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusCode CodeOf(int http_status, bool creates) {
  switch (http_status) {
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 409:
      return creates ? absl::StatusCode::kAlreadyExists : absl::StatusCode::kAborted;
    case 410:
      return absl::StatusCode::kOutOfRange;
    case 429:
      return absl::StatusCode::kResourceExhausted;
    default:
      return http_status >= 400 && http_status < 500 ? absl::StatusCode::kInvalidArgument
                                                     : absl::StatusCode::kUnavailable;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ApiClient>> ApiClient::Create(CredentialSource::Options credentials) {
  const bool named = !credentials.kube_config_file.empty();
  auto client = std::make_unique<HttpApiClient>(std::move(credentials));
  if (named) SIGNET_RETURN_IF_ERROR(client->credentials().Current().status());
  return client;
}

absl::Status StatusOf(int http_status, absl::string_view verb_and_path, absl::string_view body) {
  std::string message = absl::StrCat(verb_and_path, ": status ", http_status);
  if (const absl::StatusOr<boost::json::value> json = ParseAnswer(body, kMaxErrorBytes);
      json.ok() && json->is_object()) {
    const boost::json::value* told = json->get_object().if_contains("message");
    if (told != nullptr && told->is_string()) {
      const boost::json::string& text = told->get_string();
      absl::StrAppend(&message, ", ", Told(absl::string_view(text.data(), text.size())));
    }
  }
  return absl::Status(CodeOf(http_status, absl::StartsWith(verb_and_path, "post ")), message);
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfterPayload);
  int64_t seconds = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &seconds)) return std::nullopt;
  return absl::Seconds(seconds);
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration after) {
  status.SetPayload(kRetryAfterPayload, absl::Cord(absl::StrCat(absl::ToInt64Seconds(after))));
  return status;
}

}  // namespace signet::kubernetes
