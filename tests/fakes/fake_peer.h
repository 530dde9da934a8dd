// Processes and attestors as the test wants them: a pinner that pins everyone to one process, whose facts and life the
// test changes while connections are open, and an attestor that answers when and what it is told.
#pragma once

#include <fcntl.h>

#include <condition_variable>
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
    std::string value = facts.executable;
    {
      std::lock_guard lock(mutex_);
      ++calls_;
      changed_.notify_all();
      if (holding_) {
        held_.emplace_back(std::move(value), std::move(done));
        return;
      }
      error = error_;
    }
    Answer(value, std::move(done), error);
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
    std::vector<std::pair<std::string, Done>> held;
    absl::Status error;
    {
      std::lock_guard lock(mutex_);
      holding_ = false;
      held.swap(held_);
      error = error_;
    }
    for (auto& [value, done] : held) Answer(value, std::move(done), error);
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
  void Answer(const std::string& value, Done done, const absl::Status& error) {
    if (!error.ok()) return done(error);
    done(spiffe::Selectors{{name_, value}});
  }
  const std::string name_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t calls_ = 0;
  bool holding_ = false;
  absl::Status error_;
  std::vector<std::pair<std::string, Done>> held_;
};

}  // namespace signet::fakes
