#include "agent/workloadattestor/attestation.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/concurrency/executor.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/worker.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

// How many of something each user has in each cgroup.
class Quota {
 public:
  using Key = std::pair<uid_t, uint64_t>;
  explicit Quota(size_t limit) : limit_(limit) {}
  bool Take(const Key& key) {
    MutexLock lock(mutex_);
    size_t& count = counts_[key];
    if (count >= limit_) return false;
    ++count;
    return true;
  }
  void Give(const Key& key) {
    MutexLock lock(mutex_);
    auto it = counts_.find(key);
    if (it != counts_.end() && --it->second == 0) counts_.erase(it);
  }

 private:
  const size_t limit_;
  Mutex mutex_;
  absl::flat_hash_map<Key, size_t> counts_ ABSL_GUARDED_BY(mutex_);
};

// A connection that is counted as long as it is open.
class CountedWorkload final : public Workload {
 public:
  CountedWorkload(const rpc::UnixConnection& credentials, std::shared_ptr<const PeerProcess> process,
                  std::shared_ptr<Quota> quota)
      : Workload(credentials, std::move(process)), quota_(std::move(quota)) {}
  ~CountedWorkload() override { quota_->Give(key()); }

 private:
  const std::shared_ptr<Quota> quota_;
};

// What all attestors together say.
struct Gathered {
  spiffe::Selectors selectors;
  std::vector<std::shared_ptr<const std::atomic<bool>>> holds_until;
  bool complete = true;
};

// One attestation under way: gathers what the attestors say until all have answered or the deadline has come. What
// counts is the union; that nobody could say is an error, that one could not is not (as SPIRE since 1.15.2).
class Gathering {
 public:
  using Outcome = absl::AnyInvocable<void(absl::StatusOr<Gathered>)>;
  Gathering(size_t attestors, absl::Duration deadline, Outcome outcome)
      : deadline_(deadline), waiting_(attestors), outcome_(std::move(outcome)) {}

  void Answer(absl::string_view attestor, absl::StatusOr<Finding> answer) {
    {
      MutexLock lock(mutex_);
      if (waiting_ == 0) return;  // after the deadline
      --waiting_;
      if (answer.ok()) {
        ++answered_;
        std::move(answer->selectors.begin(), answer->selectors.end(), std::back_inserter(gathered_.selectors));
        if (answer->outdated != nullptr) gathered_.holds_until.push_back(std::move(answer->outdated));
      } else {
        gathered_.complete &= absl::IsPermissionDenied(answer.status());
        failures_.push_back(absl::StrCat(attestor, ": ", answer.status().message()));
      }
      if (waiting_ > 0) return;
    }
    Finish();
  }

  void Expire() {
    {
      MutexLock lock(mutex_);
      if (waiting_ == 0) return;
      gathered_.complete = false;
      failures_.push_back(absl::StrCat(waiting_, " did not answer in time"));
      waiting_ = 0;
    }
    Finish();
  }

  absl::Duration deadline() const { return deadline_; }
  bool finished() const {
    MutexLock lock(mutex_);
    return waiting_ == 0;
  }

 private:
  // Of whoever made waiting_ zero: from then on nobody else touches the rest.
  void Finish() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (!failures_.empty()) {
      SIGNET_LOG(warn, "workload attestors failed", {{"reasons", absl::StrJoin(failures_, "; ")}});
    }
    if (answered_ == 0) {
      outcome_(
          absl::UnavailableError(absl::StrCat("no workload attestor could answer: ", absl::StrJoin(failures_, "; "))));
      return;
    }
    spiffe::Normalize(gathered_.selectors);
    outcome_(std::move(gathered_));
  }

  const absl::Duration deadline_;  // steady time
  mutable Mutex mutex_;
  size_t waiting_ ABSL_GUARDED_BY(mutex_);
  size_t answered_ ABSL_GUARDED_BY(mutex_) = 0;
  Gathered gathered_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> failures_ ABSL_GUARDED_BY(mutex_);
  Outcome outcome_;
};

class ConcurrentAttestation final : public Attestation {
 public:
  ConcurrentAttestation(Options options, std::vector<std::unique_ptr<WorkloadAttestor>> attestors, Clock& clock,
                        Metrics& metrics)
      : options_(options),
        clock_(clock),
        metrics_(metrics),
        attestors_(AttestorSet{0, Prepared(std::move(attestors))}),
        limit_(std::make_shared<Quota>(options.pending_per_uid)),
        expirer_("attest-expire", clock, [this] { return ExpireOverdue(); }),
        executor_(std::make_unique<Executor>(
            Executor::Options{.name = "attest", .threads = options.threads, .queue_limit = options.queue_limit})) {}
  ~ConcurrentAttestation() override {
    executor_.reset();  // runs what is queued
    std::vector<Waiting> left;
    {
      MutexLock lock(mutex_);
      left.swap(waiting_);
    }
    for (const Waiting& waiting : left) waiting.gathering->Expire();
  }

  void Attest(WorkloadPtr workload, Done done) override {
    if (EvidencePtr known = StillGood(*workload); known != nullptr) return done(std::move(known));
    const Quota::Key key = workload->key();
    if (!limit_->Take(key)) {
      return done(absl::UnavailableError(absl::StrCat("uid ", key.first, " has ", options_.pending_per_uid,
                                                      " attestations under way in this cgroup: try again later")));
    }
    auto finish = std::make_shared<Done>([limit = limit_, key, done = std::move(done)](auto evidence) mutable {
      limit->Give(key);
      done(std::move(evidence));
    });
    if (!executor_->Post([this, workload = std::move(workload), finish] { Run(workload, finish); })) {
      (*finish)(absl::UnavailableError("too many attestations under way: try again later"));
    }
  }

  void Use(std::vector<std::unique_ptr<WorkloadAttestor>> attestors) override {
    const uint64_t next = generation_ + 1;
    attestors_.Set({next, Prepared(std::move(attestors))});
    generation_ = next;
  }

  LatestValue<uint64_t>& outdated() override { return *outdated_; }

 private:
  struct AttestorSet {
    uint64_t generation;
    std::vector<std::unique_ptr<WorkloadAttestor>> attestors;
  };
  using AttestorSetPtr = LatestValue<AttestorSet>::Snapshot;
  // Keeps those that were asked. Not the gathering itself: they may hold it in their turn.
  struct Waiting {
    std::shared_ptr<Gathering> gathering;
    AttestorSetPtr asked;
  };

  std::vector<std::unique_ptr<WorkloadAttestor>> Prepared(std::vector<std::unique_ptr<WorkloadAttestor>> attestors) {
    for (const std::unique_ptr<WorkloadAttestor>& attestor : attestors) {
      attestor->Start([outdated = outdated_] { outdated->Set(*outdated->Get() + 1); });
    }
    return attestors;
  }

  // What is known of the process, when it provably still holds: null otherwise.
  EvidencePtr StillGood(const Workload& workload) {
    EvidencePtr known = Remembered(workload);
    if (known == nullptr || known->generation != generation_) return nullptr;
    const absl::Duration now = clock_.Steady();
    if (now - known->attested_at >= (known->complete ? options_.attest_every : options_.full_read_every))
      return nullptr;
    if (known->outdated()) return nullptr;
    if (now - known->read_at < options_.full_read_every) return Confirm(workload, *known).ok() ? known : nullptr;
    absl::StatusOr<PeerProcess::Facts> facts = workload.process()->ReadFacts();
    if (!facts.ok() || !(*facts == known->facts)) return nullptr;
    auto fresh = std::make_shared<Evidence>(*known);
    fresh->read_at = now;
    Remember(workload, fresh);
    return fresh;
  }

  void Run(const WorkloadPtr& workload, const std::shared_ptr<Done>& finish) {
    absl::StatusOr<PeerProcess::Facts> facts = workload->process()->ReadFacts();
    if (!facts.ok()) {
      metrics_.attestations_refused.Add();
      return (*finish)(facts.status());
    }
    const absl::Duration now = clock_.Steady();
    const AttestorSetPtr asked = attestors_.Get();
    auto evidence = std::make_shared<Evidence>();
    evidence->generation = asked->generation;
    evidence->facts = *std::move(facts);
    evidence->read_at = evidence->attested_at = now;
    auto gathering = std::make_shared<Gathering>(
        asked->attestors.size(), now + options_.deadline,
        [&metrics = metrics_, workload, evidence, finish](absl::StatusOr<Gathered> gathered) {
          if (!gathered.ok()) return (*finish)(gathered.status());
          evidence->selectors = std::move(gathered->selectors);
          evidence->holds_until = std::move(gathered->holds_until);
          evidence->complete = gathered->complete;
          // What the attestors looked at was this process all the while.
          const absl::Status same = workload->process()->StillTheSame(evidence->facts);
          if (!same.ok()) return (*finish)(same);
          metrics.attestations.Add();
          Remember(*workload, evidence);
          (*finish)(evidence);
        });
    for (const std::unique_ptr<WorkloadAttestor>& attestor : asked->attestors) {
      attestor->Attest(workload->process(), evidence->facts, gathering->deadline(),
                       [gathering, name = std::string(attestor->name())](auto answer) {
                         gathering->Answer(name, std::move(answer));
                       });
    }
    if (gathering->finished()) return;
    {
      MutexLock lock(mutex_);
      waiting_.push_back({gathering, asked});
    }
    expirer_.Wake();
  }

  // The job of expirer_: ends what is overdue and says when the next one will be.
  absl::Duration ExpireOverdue() {
    std::vector<Waiting> over;  // answered or overdue: let go of without the lock
    absl::Duration next = absl::InfiniteDuration();
    const absl::Duration now = clock_.Steady();
    {
      MutexLock lock(mutex_);
      std::vector<Waiting> left;
      for (Waiting& waiting : waiting_) {
        const bool wait = !waiting.gathering->finished() && waiting.gathering->deadline() > now;
        if (wait) next = std::min(next, waiting.gathering->deadline() - now);
        (wait ? left : over).push_back(std::move(waiting));
      }
      waiting_.swap(left);
    }
    for (const Waiting& waiting : over) waiting.gathering->Expire();  // nothing when it has finished
    return next;
  }

  const Options options_;
  Clock& clock_;
  Metrics& metrics_;
  const std::shared_ptr<LatestValue<uint64_t>> outdated_ = std::make_shared<LatestValue<uint64_t>>(0);
  LatestValue<AttestorSet> attestors_;
  std::atomic<uint64_t> generation_ = 0;  // of attestors_
  const std::shared_ptr<Quota> limit_;
  Mutex mutex_;
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  Worker expirer_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace

std::unique_ptr<Attestation> Attestation::Create(Options options,
                                                 std::vector<std::unique_ptr<WorkloadAttestor>> attestors, Clock& clock,
                                                 Metrics& metrics) {
  return std::make_unique<ConcurrentAttestation>(options, std::move(attestors), clock, metrics);
}

EvidencePtr Attestation::Remembered(const Workload& workload) {
  MutexLock lock(workload.mutex_);
  return workload.evidence_;
}

void Attestation::Remember(const Workload& workload, EvidencePtr evidence) {
  MutexLock lock(workload.mutex_);
  workload.evidence_ = std::move(evidence);
}

absl::Status Attestation::Confirm(const Workload& workload, const Evidence& evidence) {
  SIGNET_RETURN_IF_ERROR(workload.process()->StillTheSame(evidence.facts));
  if (evidence.outdated()) {
    return absl::UnavailableError("what is known of the process has changed meanwhile: try again");
  }
  return absl::OkStatus();
}

rpc::UnixFront::OnAccept PinAtAccept(const PeerPinner& pinner, Metrics& metrics, size_t connections_per_cgroup) {
  return [&pinner, &metrics, quota = std::make_shared<Quota>(connections_per_cgroup), connections_per_cgroup](
             int fd,
             const rpc::UnixConnection& credentials) -> absl::StatusOr<std::shared_ptr<const rpc::UnixConnection>> {
    absl::StatusOr<std::shared_ptr<const PeerProcess>> process = pinner.Pin(fd);
    if (!process.ok()) {
      metrics.attestations_refused.Add();
      return process.status();
    }
    const Quota::Key key(credentials.uid, (*process)->cgroup_key());
    if (!quota->Take(key)) {
      metrics.attestations_refused.Add();
      return absl::ResourceExhaustedError(absl::StrCat("user ", credentials.uid, " has ", connections_per_cgroup,
                                                       " connections open in one cgroup: raise "
                                                       "limits.connections_per_uid"));
    }
    return std::make_shared<const CountedWorkload>(credentials, *std::move(process), quota);
  };
}

WorkloadPtr FindWorkload(const rpc::UnixFront& front, absl::string_view peer) {
  return std::dynamic_pointer_cast<const Workload>(front.Find(peer));
}

}  // namespace signet::agent
