#include "server/token/audit_log.h"

#include <future>
#include <map>
#include <set>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/crypto/digest.h"
#include "common/crypto/random.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/token/audit_chain.h"
#include "server/token/audit_export.h"

namespace signet::server {
namespace {

constexpr size_t kVerifyPage = 1000;
constexpr size_t kPeersTold = 16;  // of one window of refusals

std::string NewErrorId() { return absl::StrCat("e-", absl::BytesToHexString(crypto::RandomBytes(10))); }

std::string TimeText(absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()); }

class ChainedAuditLog final : public AuditLog {
 public:
  ChainedAuditLog(Options options, uint64_t epoch, std::unique_ptr<AuditExport> exporter, TokenUseStore& store,
                  TokenSigner& signer, Clock& clock)
      : options_(std::move(options)),
        epoch_(epoch),
        exporter_(std::move(exporter)),
        store_(store),
        signer_(signer),
        clock_(clock) {}

  ~ChainedAuditLog() override {
    if (worker_ == nullptr) return;
    worker_->Stop();
    WriteRefusals();
    // Completions refer to this object: a record behind all others is the last of them.
    std::promise<void> flushed;
    Append({{"event", "audit-stop"}}, {}, [&flushed](const absl::Status&) { flushed.set_value(); });
    flushed.get_future().wait();
    SignHead();
  }

  absl::Status Start() {
    std::promise<absl::Status> started;
    Append({{"event", "audit-start"}}, {}, [&started](const absl::Status& status) { started.set_value(status); });
    SIGNET_RETURN_IF_ERROR(started.get_future().get(), "audit");
    worker_ = std::make_unique<Worker>("audit_head", clock_, [this] { return Tick(); });
    return absl::OkStatus();
  }

  void Append(boost::json::object record, Consume consume, StatusCompletion done) override {
    record["ts"] = TimeText(clock_.Now());
    record["server"] = options_.server_id;
    record["epoch"] = epoch_;
    AuditAppend append{.server_id = options_.server_id, .epoch = epoch_, .txn = {}, .body = {}};
    if (const boost::json::value* txn = record.if_contains("txn"); txn != nullptr && txn->is_string()) {
      append.txn = std::string(txn->get_string());
    }
    struct Placed {
      uint64_t seq = 0;
      std::string body;
    };
    auto placed = std::make_shared<Placed>();
    append.body = [body = AuditBody(record), placed](uint64_t seq, absl::string_view previous) {
      placed->seq = seq;
      placed->body = body(seq, previous);
      return placed->body;
    };
    consume.audit = std::move(append);
    store_.Commit(std::move(consume), clock_.Now(),
                  [this, placed, done = std::move(done)](const absl::Status& status) mutable {
                    if (status.ok()) Committed(placed->seq, std::move(placed->body));
                    done(status);
                  });
  }

  std::string CountRefusal(const std::string& reason, const std::string& peer) override {
    MutexLock lock(mutex_);
    if (refusals_.error_id.empty()) {
      refusals_.error_id = NewErrorId();
      refusals_.since = clock_.Now();
    }
    ++refusals_.counts[reason];
    if (refusals_.peers.size() < kPeersTold) refusals_.peers.insert(peer.substr(0, peer.rfind(':')));
    return refusals_.error_id;
  }

  std::string head() const override {
    MutexLock lock(mutex_);
    return head_;
  }
  void SetOnHead(OnHead on_head) override {
    MutexLock lock(mutex_);
    on_head_ = std::move(on_head);
  }

  Verification Verify(const std::string& server_id, const std::string& outside_head) override;

 private:
  void Committed(uint64_t seq, std::string body) {
    bool due = false;
    {
      MutexLock lock(mutex_);
      last_seq_ = seq;
      last_body_ = std::move(body);
      due = last_seq_ >= head_seq_ + options_.head_records;
    }
    if (due && worker_ != nullptr) worker_->Wake();
    if (exporter_ != nullptr) exporter_->Wake();
  }

  absl::Duration Tick() {
    WriteRefusals();
    SignHead();
    return options_.head_every;
  }

  void WriteRefusals() {
    Refusals refusals;
    {
      MutexLock lock(mutex_);
      if (refusals_.error_id.empty()) return;
      refusals = std::exchange(refusals_, {});
    }
    boost::json::object counts;
    for (const auto& [reason, count] : refusals.counts) counts[reason] = count;
    boost::json::array peers(refusals.peers.begin(), refusals.peers.end());
    Append({{"event", "refusals"},
            {"outcome", "refused"},
            {"error_id", refusals.error_id},
            {"since", TimeText(refusals.since)},
            {"reasons", std::move(counts)},
            {"net", boost::json::object{{"peers", std::move(peers)}}}},
           {}, [](const absl::Status& status) {
             if (!status.ok()) SIGNET_LOG(error, "refusals not audited", {{"reason", status.ToString()}});
           });
  }

  void SignHead() {
    AuditHead head{.server_id = options_.server_id, .epoch = epoch_, .seq = 0, .hash = {}, .at = clock_.Now()};
    OnHead on_head;
    {
      MutexLock lock(mutex_);
      head.seq = last_seq_;
      head.hash = crypto::Sha256(last_body_);
      on_head = on_head_;
    }
    const absl::StatusOr<std::string> jws = signer_.SignRecord(kAuditHeadType, AuditHeadJson(head));
    if (!jws.ok()) {  // before the first authority is active; the next tick tries again
      SIGNET_LOG(debug, "audit head not signed", {{"reason", jws.status().ToString()}});
      return;
    }
    {
      MutexLock lock(mutex_);
      head_ = *jws;
      head_seq_ = head.seq;
    }
    if (on_head) on_head(*jws);
    if (exporter_ != nullptr) {
      exporter_->SetHead(*jws);
      exporter_->Wake();
    }
  }

  struct Refusals {
    std::string error_id;  // empty: none since the last record
    absl::Time since;
    std::map<std::string, uint64_t> counts;
    std::set<std::string> peers;
  };

  const Options options_;
  const uint64_t epoch_;
  const std::unique_ptr<AuditExport> exporter_;
  TokenUseStore& store_;
  TokenSigner& signer_;
  Clock& clock_;

  mutable Mutex mutex_;
  uint64_t last_seq_ ABSL_GUARDED_BY(mutex_) = 0, head_seq_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_body_ ABSL_GUARDED_BY(mutex_);
  std::string head_ ABSL_GUARDED_BY(mutex_);
  OnHead on_head_ ABSL_GUARDED_BY(mutex_);
  Refusals refusals_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Worker> worker_;
};

AuditLog::Verification ChainedAuditLog::Verify(const std::string& server_id, const std::string& outside_head) {
  Verification result;
  const auto failed = [&](const absl::Status& status) {
    result.problem = std::string(status.message());
    return result;
  };
  std::optional<AuditHead> head;
  if (!outside_head.empty()) {
    absl::StatusOr<AuditHead> read = ReadAuditHead(outside_head, *signer_.receipt_keys());
    if (!read.ok()) return failed(read.status());
    if (read->server_id != server_id) return failed(absl::InvalidArgumentError("the head is of another server"));
    head = *std::move(read);
  }
  const absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> chains = store_.AuditChains();
  if (!chains.ok()) return failed(chains.status());
  bool head_found = false;
  for (const auto& [chain_server, epoch] : *chains) {
    if (chain_server != server_id) continue;
    AuditChainCheck check(server_id, epoch);
    const bool has_head = head.has_value() && head->epoch == epoch;
    if (has_head) check.Expect(*head);
    while (true) {
      absl::StatusOr<std::vector<AuditRecord>> page = store_.ReadAudit(server_id, epoch, check.records(), kVerifyPage);
      if (!page.ok()) return failed(page.status());
      for (const AuditRecord& record : *page) {
        if (absl::Status status = check.Add(record); !status.ok()) return failed(status);
        ++result.records;
      }
      if (page->size() < kVerifyPage) break;
    }
    if (has_head) {
      head_found = true;
      if (absl::Status status = check.Finish(*head); !status.ok()) return failed(status);
    }
  }
  if (result.records == 0)
    return failed(absl::NotFoundError(absl::StrCat("no audit records of server \"", server_id, "\"")));
  if (head.has_value() && !head_found) {
    return failed(
        absl::DataLossError(absl::StrCat("the chain of epoch ", head->epoch, ", which the head names, is gone")));
  }
  result.proven = true;
  result.tail_proven = head.has_value() && clock_.Now() - head->at <= kAuditTailWindow;
  if (!result.tail_proven) {
    result.problem = head.has_value() ? "tail unproven: the head is older than 20 s" : "tail unproven: no outside head";
  }
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Create(Options options, TokenUseStore& store, TokenSigner& signer,
                                                           Clock& clock) {
  // A chain that was lost with its database is not begun again under the same number: a head kept outside shows the
  // loss.
  uint64_t epoch = static_cast<uint64_t>(absl::ToUnixMillis(clock.Now()));
  const absl::StatusOr<AuditRecord> last = store.LastAudit(options.server_id);
  if (last.ok()) {
    epoch = last->epoch;
  } else if (!absl::IsNotFound(last.status())) {
    return WithContext(last.status(), "audit");
  }
  std::unique_ptr<AuditExport> exporter;
  if (!options.export_path.empty() || !options.export_url.empty()) {
    AuditExport::Options sinks{.server_id = options.server_id,
                               .epoch = epoch,
                               .path = options.export_path,
                               .url = options.export_url,
                               .cursor_path = options.export_cursor_path};
    SIGNET_ASSIGN_OR_RETURN(exporter, AuditExport::Create(std::move(sinks), store, clock));
  }
  auto log = std::make_unique<ChainedAuditLog>(std::move(options), epoch, std::move(exporter), store, signer, clock);
  SIGNET_RETURN_IF_ERROR(log->Start());
  return log;
}

}  // namespace signet::server
