#include "server/token/audit_export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/fs/atomic_file.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/net/http_post.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kBatchRecords = 500;
constexpr size_t kTailBytes = 256 * 1024;  // of the file, in which the last whole record must lie
constexpr absl::Duration kPostTimeout = absl::Seconds(5);
constexpr char kLineType[] = "application/x-ndjson";

absl::Status Errno(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

// One open, write and close a batch: whoever rotates the file needs to tell nobody.
absl::Status AppendToFile(const std::string& path, absl::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return Errno("open", path);
  absl::Status status;
  while (status.ok() && !bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) status = Errno("write", path);
    if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
  }
  if (close(fd) != 0 && status.ok()) status = Errno("close", path);
  return status;
}

// The last `kTailBytes` of a file; empty when there is none.
absl::StatusOr<std::string> FileTail(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return std::string();
    return Errno("open", path);
  }
  struct stat info {};
  std::string tail;
  if (fstat(fd, &info) == 0) {
    tail.resize(std::min<size_t>(kTailBytes, static_cast<size_t>(info.st_size)));
    const ssize_t got = pread(fd, tail.data(), tail.size(), info.st_size - static_cast<off_t>(tail.size()));
    tail.resize(got < 0 ? 0 : static_cast<size_t>(got));
  }
  close(fd);
  return tail;
}

// The place of a line in the chain; 0: not a record of it.
uint64_t SeqOfLine(absl::string_view line, const AuditExport::Options& options) {
  const absl::StatusOr<boost::json::value> value = json::Parse(line, kTailBytes);
  if (!value.ok() || !value->is_object()) return 0;
  const boost::json::object& object = value->get_object();
  const auto number = [&](const char* name) -> uint64_t {
    const boost::json::value* found = object.if_contains(name);
    return found != nullptr && found->is_int64() && found->get_int64() > 0 ? static_cast<uint64_t>(found->get_int64())
                                                                           : 0;
  };
  const boost::json::value* server = object.if_contains("server");
  if (server == nullptr || !server->is_string() || server->get_string() != options.server_id) return 0;
  return number("epoch") == options.epoch ? number("seq") : 0;
}

class DatabaseExport final : public AuditExport {
 public:
  DatabaseExport(Options options, TokenUseStore& store, Clock& clock) : options_(std::move(options)), store_(store) {
    if (!options_.path.empty()) PlaceOfFile();
    if (!options_.url.empty()) PlaceOfUrl();
    worker_ = std::make_unique<Worker>("audit_export", clock, [this] { return Round(); });
  }
  ~DatabaseExport() override {
    worker_->Stop();
    Round();
  }

  void Wake() override { worker_->Wake(); }
  void SetHead(std::string jws) override {
    MutexLock lock(mutex_);
    head_ = std::move(jws);
  }
  uint64_t file_seq() const override { return file_.seq; }
  uint64_t url_seq() const override { return url_.seq; }

 private:
  struct Sink {
    std::atomic<uint64_t> seq = 0;
    std::string sent_head;
    Backoff backoff{absl::Seconds(1), absl::Minutes(1)};
    bool failing = false;
  };

  void PlaceOfFile() {
    const absl::StatusOr<std::string> tail = FileTail(options_.path);
    if (!tail.ok()) return;  // the first append says why
    torn_ = !tail->empty() && tail->back() != '\n';
    const std::vector<absl::string_view> lines = absl::StrSplit(*tail, '\n');
    for (auto line = lines.rbegin(); line != lines.rend() && file_.seq == 0; ++line) {
      file_.seq = SeqOfLine(*line, options_);
    }
  }

  void PlaceOfUrl() {
    // Without a place on record: what is new, since the receiver may have seen the rest.
    if (const absl::StatusOr<AuditRecord> last = store_.LastAudit(options_.server_id); last.ok()) {
      url_.seq = last->epoch == options_.epoch ? last->seq : 0;
    }
    if (options_.cursor_path.empty()) return;
    const absl::StatusOr<std::string> text = fs::ReadFile(options_.cursor_path, 64);
    uint64_t epoch = 0, seq = 0;
    if (text.ok()) {
      const std::vector<absl::string_view> parts = absl::StrSplit(*text, ' ');
      if (parts.size() == 2 && absl::SimpleAtoi(parts[0], &epoch) && absl::SimpleAtoi(parts[1], &seq)) {
        url_.seq = epoch == options_.epoch ? std::min<uint64_t>(seq, url_.seq) : 0;
      }
    }
  }

  absl::Duration Round() {
    absl::Duration wait = absl::InfiniteDuration();
    if (!options_.path.empty()) {
      wait = std::min(wait, Drain(file_, [this](const std::string& lines, uint64_t) {
                        SIGNET_RETURN_IF_ERROR(AppendToFile(options_.path, torn_ ? absl::StrCat("\n", lines) : lines));
                        torn_ = false;
                        return absl::OkStatus();
                      }));
    }
    if (!options_.url.empty()) {
      wait = std::min(wait, Drain(url_, [this](const std::string& lines, uint64_t seq) {
                        SIGNET_RETURN_IF_ERROR(net::HttpPost(options_.url, kLineType, lines, kPostTimeout));
                        if (options_.cursor_path.empty()) return absl::OkStatus();
                        return fs::WriteFileAtomically(options_.cursor_path, absl::StrCat(options_.epoch, " ", seq));
                      }));
    }
    return wait;
  }

  template <typename Send>
  absl::Duration Drain(Sink& sink, Send send) {
    std::string head;
    {
      MutexLock lock(mutex_);
      head = head_;
    }
    while (true) {
      absl::StatusOr<std::vector<AuditRecord>> records =
          store_.ReadAudit(options_.server_id, options_.epoch, sink.seq, kBatchRecords);
      absl::Status status = records.status();
      std::string lines;
      const bool last = records.ok() && records->size() < kBatchRecords;
      uint64_t seq = sink.seq;
      if (records.ok()) {
        for (const AuditRecord& record : *records) absl::StrAppend(&lines, record.body, "\n");
        if (!records->empty()) seq = records->back().seq;
      }
      const bool with_head = last && !head.empty() && head != sink.sent_head;
      if (with_head) absl::StrAppend(&lines, "{\"head\":\"", head, "\"}\n");
      if (status.ok() && !lines.empty()) status = send(lines, seq);
      if (!status.ok()) {
        if (!std::exchange(sink.failing, true)) {
          SIGNET_LOG(warn, "audit export fails; it goes on where it stands", {{"reason", status.ToString()}});
        }
        return sink.backoff.Next();
      }
      if (std::exchange(sink.failing, false)) SIGNET_LOG(info, "audit export works again");
      sink.backoff.Reset();
      sink.seq = seq;
      if (with_head) sink.sent_head = head;
      if (last) return absl::InfiniteDuration();
    }
  }

  const Options options_;
  TokenUseStore& store_;
  Sink file_, url_;    // of the worker's thread
  bool torn_ = false;  // the file ends in half a line
  Mutex mutex_;
  std::string head_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Worker> worker_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AuditExport>> AuditExport::Create(Options options, TokenUseStore& store, Clock& clock) {
  if (!options.url.empty()) SIGNET_RETURN_IF_ERROR(net::CheckPostUrl(options.url), "audit export");
  if (!options.path.empty()) SIGNET_RETURN_IF_ERROR(AppendToFile(options.path, ""), "audit export");
  return std::make_unique<DatabaseExport>(std::move(options), store, clock);
}

}  // namespace signet::server
