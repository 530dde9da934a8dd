#include "agent/workloadattestor/attestation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "absl/time/clock.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_peer.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::signet::fakes::FakeClock;
using ::signet::fakes::FakePeerProcess;
using ::signet::fakes::FakeWorkloadAttestor;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AttestationTest : public ::testing::Test {
 protected:
  AttestationTest() {
    for (const char* name : {"b", "a"}) {
      auto attestor = std::make_unique<FakeWorkloadAttestor>(name);
      attestors_.push_back(attestor.get());
      owned_.push_back(std::move(attestor));
    }
    attestation_ =
        Attestation::Create({.deadline = absl::Seconds(10), .pending_per_uid = 3}, std::move(owned_), clock_, metrics_);
  }
  ~AttestationTest() override {
    for (FakeWorkloadAttestor* attestor : attestors_) attestor->Release();
  }

  WorkloadPtr Connection() { return Connection(process_); }
  static WorkloadPtr Connection(std::shared_ptr<const PeerProcess> process) {
    rpc::UnixConnection credentials;
    credentials.uid = 1000;
    return std::make_shared<const Workload>(credentials, std::move(process));
  }
  std::future<absl::StatusOr<EvidencePtr>> Start(WorkloadPtr workload) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<EvidencePtr>>>();
    auto future = promise->get_future();
    attestation_->Attest(std::move(workload), [promise](auto evidence) { promise->set_value(std::move(evidence)); });
    return future;
  }
  absl::StatusOr<EvidencePtr> Attest(WorkloadPtr workload) { return Start(std::move(workload)).get(); }
  size_t calls() const { return attestors_[0]->calls(); }

  FakeClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  std::shared_ptr<FakePeerProcess> process_ = std::make_shared<FakePeerProcess>();
  std::vector<std::unique_ptr<WorkloadAttestor>> owned_;
  std::vector<FakeWorkloadAttestor*> attestors_;
  std::unique_ptr<Attestation> attestation_;
};

TEST_F(AttestationTest, UnitesWhatAllAttestorsSay) {
  auto evidence = Attest(Connection());
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors,
              ElementsAre(spiffe::Selector{"a", "/bin/app"}, spiffe::Selector{"b", "/bin/app"}));  // normalised
  EXPECT_EQ(metrics_.attestations.value(), 1);
}

TEST_F(AttestationTest, RunsThemAtOnceAndNotOnTheCallersThread) {
  attestors_[0]->Hold();
  attestors_[1]->Hold();
  auto future = Start(Connection());
  attestors_[0]->AwaitCalls(1);
  attestors_[1]->AwaitCalls(1);  // though the first has not answered
  attestors_[0]->Release();
  attestors_[1]->Release();
  SIGNET_EXPECT_OK(future.get());
}

TEST_F(AttestationTest, GoesOnWithoutAnAttestorThatFails) {
  attestors_[0]->SetError(absl::UnavailableError("kubelet down"));
  auto evidence = Attest(Connection());
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors, ElementsAre(spiffe::Selector{"a", "/bin/app"}));
}

TEST_F(AttestationTest, IsUnavailableWhenAllFail) {
  attestors_[0]->SetError(absl::UnavailableError("kubelet down"));
  attestors_[1]->SetError(absl::InternalError("broken"));
  EXPECT_THAT(Attest(Connection()),
              StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("b: kubelet down"), HasSubstr("a: broken"))));
}

TEST_F(AttestationTest, DoesNotWaitBeyondTheDeadline) {
  attestors_[0]->Hold();
  auto partly = Start(Connection());
  attestors_[0]->AwaitCalls(1);
  clock_.AwaitWaiters(1);
  for (int i = 0; partly.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready && i < 1000; ++i) {
    clock_.Advance(absl::Seconds(11));
  }
  auto evidence = partly.get();
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors, ElementsAre(spiffe::Selector{"a", "/bin/app"}));

  attestors_[1]->Hold();
  auto nothing = Start(Connection());
  attestors_[1]->AwaitCalls(2);
  for (int i = 0; nothing.wait_for(std::chrono::milliseconds(5)) != std::future_status::ready && i < 1000; ++i) {
    clock_.Advance(absl::Seconds(11));
  }
  EXPECT_THAT(nothing.get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("did not answer in time")));
}  // and late answers do no harm

TEST_F(AttestationTest, NewAttestorsAreAskedAtOnceAndOldOnesFinishWhatTheyBegan) {
  const WorkloadPtr known = Connection();
  SIGNET_ASSERT_OK(Attest(known));
  attestors_[0]->Hold();
  auto running = Start(Connection());
  attestors_[0]->AwaitCalls(2);

  auto next = std::make_unique<FakeWorkloadAttestor>("next");
  owned_.push_back(std::move(next));
  attestation_->Use(std::move(owned_));
  // What the old ones said of a connection is not believed any more, though nothing changed about the process.
  auto evidence = Attest(known);
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors, ElementsAre(spiffe::Selector{"next", "/bin/app"}));

  attestors_[0]->Release();
  evidence = running.get();
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors,
              ElementsAre(spiffe::Selector{"a", "/bin/app"}, spiffe::Selector{"b", "/bin/app"}));
  attestors_.clear();  // theirs to go when nothing of them is under way
}

TEST_F(AttestationTest, RemembersPerConnectionWhileNothingChanges) {
  WorkloadPtr connection = Connection();
  auto first = Attest(connection);
  SIGNET_ASSERT_OK(first);
  EXPECT_EQ(*Attest(connection), *first);  // the very same
  EXPECT_EQ(process_->facts_read(), 1u);
  EXPECT_EQ(calls(), 1u);
  // Later the facts are read again; the attestors are not asked while they are the same.
  clock_.Advance(absl::Seconds(2));
  SIGNET_EXPECT_OK(Attest(connection));
  EXPECT_EQ(process_->facts_read(), 2u);
  EXPECT_EQ(calls(), 1u);
  // And in the end everything is asked for anew.
  clock_.Advance(absl::Minutes(1));
  SIGNET_EXPECT_OK(Attest(connection));
  EXPECT_EQ(calls(), 2u);
  SIGNET_EXPECT_OK(Attest(Connection()));  // another connection knows nothing
  EXPECT_EQ(calls(), 3u);
}

TEST_F(AttestationTest, ForgetsWhenTheProcessChanges) {
  WorkloadPtr connection = Connection();
  SIGNET_ASSERT_OK(Attest(connection));
  process_->Exec("/bin/next");
  auto evidence = Attest(connection);
  SIGNET_ASSERT_OK(evidence);
  EXPECT_EQ((*evidence)->selectors[0].value, "/bin/next");

  auto facts = *process_->ReadFacts();
  facts.supplementary_gids = {7};  // not among what the cheap look sees
  process_->SetFacts(facts);
  clock_.Advance(absl::Seconds(2));
  evidence = Attest(connection);
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->facts.supplementary_gids, ElementsAre(7));
}

TEST_F(AttestationTest, RefusesAProcessThatIsGone) {
  WorkloadPtr connection = Connection();
  SIGNET_ASSERT_OK(Attest(connection));
  process_->Exit();
  EXPECT_THAT(Attest(connection), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(Attest(Connection()), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_EQ(calls(), 1u);
}

TEST_F(AttestationTest, RefusesAProcessThatChangedWhileItWasAttested) {  // W4
  attestors_[0]->Hold();
  WorkloadPtr connection = Connection();
  auto future = Start(connection);
  attestors_[0]->AwaitCalls(1);
  process_->Exec("/bin/evil");
  attestors_[0]->Release();
  EXPECT_THAT(future.get(), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(AttestationTest, BoundsWhatOneUserHasUnderWay) {  // W10
  attestors_[0]->Hold();
  std::vector<std::future<absl::StatusOr<EvidencePtr>>> pending;
  for (int i = 0; i < 3; ++i) pending.push_back(Start(Connection()));
  attestors_[0]->AwaitCalls(3);
  EXPECT_THAT(Attest(Connection()), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("uid 1000")));
  EXPECT_EQ(process_->facts_read(), 3u);  // nothing was looked up for it
  attestors_[0]->Release();
  for (auto& future : pending) SIGNET_EXPECT_OK(future.get());
  SIGNET_EXPECT_OK(Attest(Connection()));
}

// Most pods run as user 0: what one of them has under way keeps no other waiting.
TEST_F(AttestationTest, BoundsEachCgroupOfAUserByItself) {  // W10
  attestors_[0]->Hold();
  std::vector<std::future<absl::StatusOr<EvidencePtr>>> pending;
  for (int i = 0; i < 3; ++i) pending.push_back(Start(Connection()));
  attestors_[0]->AwaitCalls(3);
  auto other = std::make_shared<FakePeerProcess>();
  auto facts = *other->ReadFacts();
  facts.cgroup_id = 77;
  other->SetFacts(facts);
  pending.push_back(Start(Connection(other)));
  attestors_[0]->AwaitCalls(4);
  EXPECT_THAT(Attest(Connection()), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in this cgroup")));
  attestors_[0]->Release();
  for (auto& future : pending) SIGNET_EXPECT_OK(future.get());
}

TEST_F(AttestationTest, AsksAnewWhatAnAttestorHasTakenBack) {
  std::atomic<int> told = 0;
  auto subscription = attestation_->outdated().Subscribe([&](const auto&) { ++told; });
  const WorkloadPtr connection = Connection();
  auto first = Attest(connection);
  SIGNET_ASSERT_OK(first);
  EXPECT_FALSE((*first)->outdated());
  attestors_[1]->Change("other");  // the process is as it was
  EXPECT_EQ(told, 1);
  EXPECT_TRUE((*first)->outdated());
  EXPECT_THAT(Attestation::Confirm(*connection, **first), StatusIs(absl::StatusCode::kUnavailable));
  auto second = Attest(connection);
  SIGNET_ASSERT_OK(second);
  EXPECT_THAT((*second)->selectors, ElementsAre(spiffe::Selector{"a", "other"}, spiffe::Selector{"b", "/bin/app"}));
  SIGNET_EXPECT_OK(Attestation::Confirm(*connection, **second));
}

TEST_F(AttestationTest, AsksSoonAgainWhenOneCouldNotAnswer) {
  const WorkloadPtr connection = Connection();
  attestors_[0]->SetError(absl::UnavailableError("kubelet down"));
  auto evidence = Attest(connection);
  SIGNET_ASSERT_OK(evidence);
  EXPECT_FALSE((*evidence)->complete);
  attestors_[0]->SetError(absl::OkStatus());
  clock_.Advance(absl::Seconds(1));
  evidence = Attest(connection);
  SIGNET_ASSERT_OK(evidence);
  EXPECT_TRUE((*evidence)->complete);
  EXPECT_EQ((*evidence)->selectors.size(), 2u);
  // What one refuses to say is an answer.
  attestors_[0]->SetError(absl::PermissionDeniedError("its cgroups disagree"));
  evidence = Attest(Connection());
  SIGNET_ASSERT_OK(evidence);
  EXPECT_TRUE((*evidence)->complete);
}

TEST_F(AttestationTest, AnswersEverybodyWhenItIsDestroyed) {
  attestors_[0]->Hold();
  attestors_[1]->SetError(absl::UnavailableError("no"));
  auto future = Start(Connection());
  attestors_[0]->AwaitCalls(1);
  attestors_.clear();
  attestation_.reset();
  EXPECT_THAT(future.get(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace signet::agent
