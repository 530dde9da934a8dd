// The API server of one Kubernetes cluster, over HTTPS: the few verbs that are used, each a blocking call with a
// deadline that another thread can cut short. Not a Kubernetes library: paths and bodies are the caller's.
// Thread-safe; calls run side by side. Run them on a worker or an Executor of their own. Outlives its calls.
// TLS 1.2 or newer, the credentials' roots alone, the certificate's name always checked; no redirect, no proxy. Answers
// are capped while they come in. Credentials are looked at before each call: a token file that was replaced is used
// by the next one, and by the next connection of a watch.
// Errors name verb and path, and what the server says: kUnauthenticated 401; kPermissionDenied 403 (the server's
// message names the right that the role lacks); kNotFound 404; kAlreadyExists 409 of a POST, otherwise kAborted;
// kOutOfRange 410; kResourceExhausted 429 (RetryAfter()); kInvalidArgument other 4xx; kUnavailable 5xx, network,
// certificate, deadline; kFailedPrecondition answer over its cap, credentials' files; kCancelled. Never a token.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/kubernetes/cancellation.h"
#include "common/kubernetes/credentials.h"

namespace signet::kubernetes {

struct CallOptions {
  absl::Duration timeout = absl::Seconds(10);  // all of it
  Cancellation* cancel = nullptr;
};

struct WatchOptions {
  absl::Duration answer_timeout = absl::Seconds(10);  // until the server has answered the request
  absl::Duration silence = absl::InfiniteDuration();  // without a byte for so long: kUnavailable
  std::function<void()> on_open = nullptr;            // the server has taken the watch; it may say nothing for long
  Cancellation* cancel = nullptr;
};

class ApiClient {
 public:
  static constexpr size_t kMaxAnswerBytes = size_t{16} << 20;
  // One object. etcd takes 1.5 MiB, and JSON may need six bytes for one ("\u003c"): whoever makes pods must not be able
  // to end the watch of a node.
  static constexpr size_t kMaxWatchLineBytes = size_t{12} << 20;
  // A line of a watch. Not OK ends the watch with that status.
  using OnLine = std::function<absl::Status(absl::string_view line)>;

  // Touches no network. kInvalidArgument, kFailedPrecondition when a kubeconfig file is named and cannot be used;
  // in-cluster files are looked at by the calls.
  static absl::StatusOr<std::unique_ptr<ApiClient>> Create(CredentialSource::Options credentials);

  virtual ~ApiClient() = default;

  // `path` begins with "/", query included, names in it checked or escaped (names.h). Result: the body of a 2xx.
  virtual absl::StatusOr<std::string> Get(const std::string& path, const CallOptions& options) = 0;
  virtual absl::StatusOr<std::string> Post(const std::string& path, absl::string_view json,
                                           const CallOptions& options) = 0;
  // `content_type` as "application/merge-patch+json".
  virtual absl::StatusOr<std::string> Patch(const std::string& path, const std::string& content_type,
                                            absl::string_view json, const CallOptions& options) = 0;
  // Calls `on_line` for each line as it comes, on this thread, and returns OK when the server has ended the stream in
  // order (its timeoutSeconds). `path` asks for the watch: "...?watch=1&resourceVersion=...".
  virtual absl::Status Watch(const std::string& path, const OnLine& on_line, const WatchOptions& options) = 0;
};

// The status of an answer of the API server, "get /path: what it says": its Status object's message where there is one.
// For what comes inside a watch too: an event of type ERROR carries such an object.
absl::Status StatusOf(int http_status, absl::string_view verb_and_path, absl::string_view body);
// How long the server asks us to stay away: of kResourceExhausted and kUnavailable, when it says so.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);
absl::Status WithRetryAfter(absl::Status status, absl::Duration after);

}  // namespace signet::kubernetes
