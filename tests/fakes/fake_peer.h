// Processes and attestors as the test wants them: a pinner that pins everyone to one process, whose facts and life the
// test changes while connections are open, and an attestor that answers when and what it is told.
#pragma once

#include <fcntl.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agent/peer/peer_process.h"
#include "agent/workloadattestor/workload_attestor.h"

namespace signet::fakes {

class FakePeerProcess final : public agent::PeerProcess {
 public:
  FakePeerProcess() {
    facts_.uid = 1000;
    facts_.gid = 1000;
    facts_.executable = "/bin/app";
    facts_.executable_inode = 1;
  }
  void SetFacts(Facts facts) {
    std::lock_guard lock(mutex_);
    facts_ = std::move(facts);
  }
  // Another program in the same process, as exec makes it.
  void Exec(const std::string& executable) {
    std::lock_guard lock(mutex_);
    facts_.executable = executable;
    ++facts_.executable_inode;
  }
  void Exit() {
    std::lock_guard lock(mutex_);
    alive_ = false;
  }
  size_t facts_read() const {
    std::lock_guard lock(mutex_);
    return facts_read_;
  }

  pid_t pid() const override { return 4242; }
  uid_t uid() const override { return facts().uid; }
  gid_t gid() const override { return facts().gid; }
  uint64_t cgroup_key() const override { return facts().cgroup_id; }
  absl::StatusOr<Facts> ReadFacts() const override {
    std::lock_guard lock(mutex_);
    ++facts_read_;
    if (!alive_) return absl::PermissionDeniedError("has exited");
    return facts_;
  }
  absl::Status StillTheSame(const Facts& before) const override {
    std::lock_guard lock(mutex_);
    if (!alive_) return absl::PermissionDeniedError("has exited");
    if (facts_.uid != before.uid || facts_.gid != before.gid || facts_.executable_inode != before.executable_inode) {
      return absl::PermissionDeniedError("changed");
    }
    return absl::OkStatus();
  }
  bool alive() const override {
    std::lock_guard lock(mutex_);
    return alive_;
  }
  absl::StatusOr<int> OpenExecutable() const override { return open("/proc/self/exe", O_RDONLY | O_CLOEXEC); }

 private:
  Facts facts() const {
    std::lock_guard lock(mutex_);
    return facts_;
  }
  mutable std::mutex mutex_;
  Facts facts_;
  bool alive_ = true;
  mutable size_t facts_read_ = 0;
};

class FakePinner final : public agent::PeerPinner {
 public:
  explicit FakePinner(std::shared_ptr<const FakePeerProcess> process) : process_(std::move(process)) {}
  absl::StatusOr<std::shared_ptr<const agent::PeerProcess>> Pin(int) const override { return process_; }

 private:
  const std::shared_ptr<const FakePeerProcess> process_;
};

// Gives exe:<path of the executable>, or what it is told to.
class FakeWorkloadAttestor final : public agent::WorkloadAttestor {
 public:
  explicit FakeWorkloadAttestor(std::string name = "exe") : name_(std::move(name)) {}

  absl::string_view name() const override { return name_; }
  void Attest(std::shared_ptr<const agent::PeerProcess>, const agent::PeerProcess::Facts& facts, absl::Duration,
              Done done) override {
    absl::Status error;
    Said said{facts.executable, nullptr};
    {
      std::lock_guard lock(mutex_);
      ++calls_;
      said.outdated = outdated_;
      if (!value_.empty()) said.value = value_;
      changed_.notify_all();
      if (holding_) {
        held_.emplace_back(std::move(said), std::move(done));
        return;
      }
      error = error_;
    }
    Answer(said, std::move(done), error);
  }

  void Start(std::function<void()> signal) override {
    std::lock_guard lock(mutex_);
    signal_ = std::move(signal);
  }
  // From now on it says `value`, and takes back what it said.
  void Change(const std::string& value) {
    std::function<void()> signal;
    {
      std::lock_guard lock(mutex_);
      value_ = value;
      std::exchange(outdated_, std::make_shared<std::atomic<bool>>(false))->store(true);
      signal = signal_;
    }
    if (signal) signal();
  }
  void SetError(absl::Status error) {
    std::lock_guard lock(mutex_);
    error_ = std::move(error);
  }
  void Hold() {
    std::lock_guard lock(mutex_);
    holding_ = true;
  }
  void Release() {
    std::vector<std::pair<Said, Done>> held;
    absl::Status error;
    {
      std::lock_guard lock(mutex_);
      holding_ = false;
      held.swap(held_);
      error = error_;
    }
    for (auto& [said, done] : held) Answer(said, std::move(done), error);
  }
  void AwaitCalls(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return calls_ >= count; });
  }
  size_t calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  struct Said {
    std::string value;
    std::shared_ptr<const std::atomic<bool>> outdated;
  };
  void Answer(const Said& said, Done done, const absl::Status& error) {
    if (!error.ok()) return done(error);
    done(agent::Finding(spiffe::Selectors{{name_, said.value}}, said.outdated));
  }
  const std::string name_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t calls_ = 0;
  bool holding_ = false;
  absl::Status error_;
  std::string value_;  // empty: the executable's path
  std::shared_ptr<std::atomic<bool>> outdated_ = std::make_shared<std::atomic<bool>>(false);
  std::function<void()> signal_;
  std::vector<std::pair<Said, Done>> held_;
};

}  // namespace signet::fakes
