#include "agent/token/upstream.h"

#include <curl/curl.h>

#include <atomic>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/concurrency/executor.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/chain_verifier.h"
#include "common/crypto/tls_client.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

// What an OAuth client has use for; nothing else of the server's answer passes.
constexpr absl::string_view kPassed[] = {"dpop-nonce", "www-authenticate", "retry-after"};

struct EasyDeleter {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// The name asked for in the handshake: one that no certificate of a public CA is for (RFC 6761 6.4), so that a server
// which has such a certificate for other clients shows us its SVID. The connection goes to the host of the URL all the
// same.
constexpr char kNameOfSvids[] = "https://spiffe.invalid";

// `url` by that name, and where to go instead: an entry of CURLOPT_CONNECT_TO.
std::pair<std::string, std::string> ByThatName(const std::string& url) {
  const size_t authority = url.find("://") + 3, path = std::min(url.find('/', authority), url.size());
  const std::string where = url.substr(authority, path - authority);
  const bool has_port =
      where.find(':', where.find(']') == std::string::npos ? 0 : where.find(']')) != std::string::npos;
  return {absl::StrCat(kNameOfSvids, url.substr(path)), absl::StrCat("::", where, has_port ? "" : ":443")};
}

// One curl handle, and with it at most one connection: of one SVID, made under one bundle. Used by one thread at a
// time.
class Connection {
 public:
  Connection(const Upstream::Options& options, const std::atomic<bool>& stopping, SvidPtr svid, BundlePtr bundle,
             Clock& clock)
      : options_(options),
        stopping_(stopping),
        svid_(std::move(svid)),
        bundle_(std::move(bundle)),
        clock_(clock),
        curl_(curl_easy_init()) {
    judge_ = [this](const std::vector<crypto::Certificate>& chain) { return verdict_ = Judge(chain); };
  }

  const BundlePtr& bundle() const { return bundle_; }
  absl::Duration idle_since = absl::ZeroDuration();  // steady

  absl::StatusOr<Upstream::Answer> Post(const Upstream::Request& request) {
    if (curl_ == nullptr) return absl::InternalError("libcurl does not start");
    answer_ = {};
    verdict_ = absl::OkStatus();
    over_ = false;
    char detail[CURL_ERROR_SIZE] = "";
    const std::unique_ptr<curl_slist, ListDeleter> headers = Headers(request);
    if (headers == nullptr) return absl::InternalError("out of memory");
    const auto [url, dial] = ByThatName(request.url);
    const std::unique_ptr<curl_slist, ListDeleter> dials(curl_slist_append(nullptr, dial.c_str()));
    if (dials == nullptr) return absl::InternalError("out of memory");
    Prepare(request, headers.get(), detail);
    curl_easy_setopt(curl_.get(), CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_.get(), CURLOPT_CONNECT_TO, dials.get());
    const CURLcode code = curl_easy_perform(curl_.get());
    curl_easy_setopt(curl_.get(), CURLOPT_HTTPHEADER, nullptr);
    curl_easy_setopt(curl_.get(), CURLOPT_CONNECT_TO, nullptr);
    curl_easy_setopt(curl_.get(), CURLOPT_ERRORBUFFER, nullptr);
    if (!verdict_.ok()) return absl::UnauthenticatedError(absl::StrCat(request.url, ": ", verdict_.message()));
    if (over_) return absl::FailedPreconditionError(absl::StrCat(request.url, ": the answer is too large"));
    if (code != CURLE_OK) {
      return absl::UnavailableError(
          absl::StrCat(request.url, ": ", detail[0] != '\0' ? detail : curl_easy_strerror(code)));
    }
    long status = 0;
    curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    answer_.status = static_cast<int>(status);
    return std::move(answer_);
  }

 private:
  static std::unique_ptr<curl_slist, ListDeleter> Headers(const Upstream::Request& request) {
    std::unique_ptr<curl_slist, ListDeleter> list;
    const auto add = [&](const std::string& line) {
      curl_slist* longer = curl_slist_append(list.get(), line.c_str());
      if (longer == nullptr) return false;
      (void)list.release();  // part of `longer`
      list.reset(longer);
      return true;
    };
    if (!add("Content-Type: application/x-www-form-urlencoded") || !add("Accept: application/json") ||
        !add("Expect:") || (!request.dpop.empty() && !add(absl::StrCat("DPoP: ", request.dpop)))) {
      return nullptr;
    }
    return list;
  }

  void Prepare(const Upstream::Request& request, curl_slist* headers, char* detail) {
    CURL* curl = curl_.get();
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.form.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.form.data());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");  // nothing in between, whatever https_proxy says
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, Milliseconds(options_.connect_timeout));
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, Milliseconds(options_.timeout));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &OnBody);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &OnHeader);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &OnProgress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
    // Who the server is, is proven by its SPIFFE ID: no root of the system's, and no host name, plays a part.
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_CAINFO, nullptr);
    curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, &OnTls);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, this);
  }

  static long Milliseconds(absl::Duration time) { return static_cast<long>(absl::ToInt64Milliseconds(time)); }

  static CURLcode OnTls(CURL*, void* ssl_ctx, void* self) {
    auto& connection = *static_cast<Connection*>(self);
    const absl::Status ready =
        crypto::PrepareTlsClient(ssl_ctx, connection.svid_->chain, connection.svid_->key, &connection.judge_);
    if (ready.ok()) return CURLE_OK;
    connection.verdict_ = ready;
    return CURLE_SSL_CERTPROBLEM;
  }

  static int OnProgress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<const Connection*>(self)->stopping_ ? 1 : 0;  // at least once a second
  }

  static size_t OnBody(char* data, size_t size, size_t count, void* self) {
    auto& connection = *static_cast<Connection*>(self);
    if (connection.answer_.body.size() + size * count > connection.options_.max_answer_bytes) {
      connection.over_ = true;
      return 0;  // ends the transfer
    }
    connection.answer_.body.append(data, size * count);
    return size * count;
  }

  static size_t OnHeader(char* data, size_t size, size_t count, void* self) {
    auto& answer = static_cast<Connection*>(self)->answer_;
    const absl::string_view line(data, size * count);
    if (absl::StartsWith(line, "HTTP/")) answer = {};  // after an interim response
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) return line.size();
    const std::string name = absl::AsciiStrToLower(line.substr(0, colon));
    std::string value(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    if (name == "content-type") {
      answer.content_type = std::move(value);
      return line.size();
    }
    for (const absl::string_view passed : kPassed) {
      if (name == passed && answer.headers.size() < 8) answer.headers.emplace_back(name, value);
    }
    return line.size();
  }

  absl::Status Judge(const std::vector<crypto::Certificate>& chain) const {
    SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors anchors, bundle_->Anchors());
    const auto shared = std::make_shared<const crypto::TrustAnchors>(std::move(anchors));
    const auto anchors_of = [&](const spiffe::TrustDomain& trust_domain) {
      return trust_domain == bundle_->trust_domain ? shared : nullptr;
    };
    SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, spiffe::VerifyX509Svid(chain, anchors_of, clock_.Now()));
    if (id == options_.server_id) return absl::OkStatus();
    return absl::UnauthenticatedError(absl::StrCat("the server is ", id.string(), ", expected ",
                                                   options_.server_id.string(),
                                                   "; check token_service.server_url and server_spiffe_id"));
  }

  const Upstream::Options& options_;
  const std::atomic<bool>& stopping_;
  const SvidPtr svid_;
  const BundlePtr bundle_;
  Clock& clock_;
  crypto::JudgeServer judge_;
  absl::Status verdict_;
  Upstream::Answer answer_;
  bool over_ = false;
  std::unique_ptr<CURL, EasyDeleter> curl_;  // first to go: its connection refers to the rest
};

class CurlUpstream final : public Upstream {
 public:
  CurlUpstream(Options options, BundleSource bundle, Clock& clock)
      : options_(std::move(options)),
        bundle_(std::move(bundle)),
        clock_(clock),
        executor_({.name = "token-up", .threads = options_.threads, .queue_limit = options_.queue_limit}) {}

  ~CurlUpstream() override { stopping_ = true; }

  void Post(Request request, Done done) override {
    const std::string entry_id = request.entry_id;
    if (!Enter(entry_id)) {
      return done(absl::ResourceExhaustedError("too many requests of this workload are under way: try again later"));
    }
    auto held = std::make_shared<Done>(std::move(done));
    if (!executor_.Post([this, request = std::move(request), held] {
          absl::StatusOr<Answer> answer = Run(request);
          Leave(request.entry_id);
          (*held)(std::move(answer));
        })) {
      Leave(entry_id);
      (*held)(absl::ResourceExhaustedError("too many requests to the token service are under way: try again later"));
    }
  }

  void Stop() override { stopping_ = true; }

  void CloseIdle() override {
    std::vector<std::unique_ptr<Connection>> closed;  // without the lock: closing writes to the network
    MutexLock lock(mutex_);
    for (auto pool = pools_.begin(); pool != pools_.end();) {
      Expire(pool->second, closed);
      pool = pool->second.idle.empty() && pool->second.busy == 0 ? pools_.erase(pool) : std::next(pool);
    }
  }

 private:
  struct Pool {  // of one entry
    std::string serial;
    std::vector<std::unique_ptr<Connection>> idle;  // the last used last
    size_t busy = 0;
  };

  absl::StatusOr<Answer> Run(const Request& request) {
    if (stopping_) return absl::UnavailableError("the agent is stopping");
    const BundlePtr bundle = bundle_();
    if (bundle == nullptr) return absl::UnavailableError("there is no trust bundle yet");
    std::unique_ptr<Connection> connection = Take(request, bundle);
    absl::StatusOr<Answer> answer = connection->Post(request);
    Give(request, std::move(connection), answer.ok());
    return answer;
  }

  bool Enter(const std::string& entry_id) {
    MutexLock lock(mutex_);
    size_t& count = under_way_[entry_id];
    if (count >= options_.per_entry_limit) return false;
    ++count;
    return true;
  }
  void Leave(const std::string& entry_id) {
    MutexLock lock(mutex_);
    const auto count = under_way_.find(entry_id);
    if (count != under_way_.end() && --count->second == 0) under_way_.erase(count);
  }

  std::unique_ptr<Connection> Take(const Request& request, const BundlePtr& bundle) {
    std::vector<std::unique_ptr<Connection>> closed;
    {
      MutexLock lock(mutex_);
      Pool& pool = pools_[request.entry_id];
      const std::string& serial = request.svid->leaf().serial();
      if (pool.serial != serial) {  // the SVID has rotated
        idle_ -= pool.idle.size();
        closed.swap(pool.idle);
        pool.serial = serial;
      }
      Expire(pool, closed);
      ++pool.busy;
      while (!pool.idle.empty()) {
        std::unique_ptr<Connection> connection = std::move(pool.idle.back());
        pool.idle.pop_back();
        --idle_;
        if (connection->bundle() == bundle) return connection;
        closed.push_back(std::move(connection));  // made under a bundle that has changed: prove it anew
      }
    }
    return std::make_unique<Connection>(options_, stopping_, request.svid, bundle, clock_);
  }

  void Give(const Request& request, std::unique_ptr<Connection> connection, bool good) {
    MutexLock lock(mutex_);
    const auto pool = pools_.find(request.entry_id);
    if (pool == pools_.end()) return;
    --pool->second.busy;
    if (!good || pool->second.serial != request.svid->leaf().serial() ||
        pool->second.idle.size() >= options_.idle_per_pool || idle_ >= options_.idle_total) {
      return;  // closed on return, after the lock
    }
    connection->idle_since = clock_.Steady();
    pool->second.idle.push_back(std::move(connection));
    ++idle_;
  }

  void Expire(Pool& pool, std::vector<std::unique_ptr<Connection>>& closed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Duration before = clock_.Steady() - options_.keep_idle;
    size_t old = 0;
    while (old < pool.idle.size() && pool.idle[old]->idle_since < before) closed.push_back(std::move(pool.idle[old++]));
    pool.idle.erase(pool.idle.begin(), pool.idle.begin() + static_cast<ptrdiff_t>(old));
    idle_ -= old;
  }

  const Options options_;
  const BundleSource bundle_;
  Clock& clock_;
  std::atomic<bool> stopping_ = false;
  Mutex mutex_;
  std::map<std::string, Pool> pools_ ABSL_GUARDED_BY(mutex_);        // by entry id
  std::map<std::string, size_t> under_way_ ABSL_GUARDED_BY(mutex_);  // by entry id
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  Executor executor_;  // last: its threads use the above
};

}  // namespace

const std::string& Upstream::Answer::Header(absl::string_view name) const {
  static const std::string kNone;
  for (const auto& [header, value] : headers) {
    if (header == name) return value;
  }
  return kNone;
}

std::unique_ptr<Upstream> Upstream::Create(Options options, BundleSource bundle, Clock& clock) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(initialised);  // without it every curl_easy_init() fails, and says so
  return std::make_unique<CurlUpstream>(std::move(options), std::move(bundle), clock);
}

}  // namespace signet::agent
