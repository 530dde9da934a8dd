#include "server/ca/authority_rotator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/keymanager/memory_key_manager.h"
#include "common/log/log.h"
#include "server/ca/journal.h"
#include "tests/fakes/fake_authority_store.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::StatusIs;

// Signs as the KeyManager below it does, until told that it is away.
class FlakyKeys final : public KeyManager {
 public:
  absl::StatusOr<crypto::PublicKey> GenerateKey(absl::string_view id, crypto::KeyType type) override {
    if (!away_.ok()) return away_;
    return keys_.GenerateKey(id, type);
  }
  absl::StatusOr<crypto::PublicKey> GetPublicKey(absl::string_view id) override {
    if (!away_.ok()) return away_;
    return keys_.GetPublicKey(id);
  }
  std::vector<std::string> ListKeys() override { return keys_.ListKeys(); }
  absl::Status RemoveKey(absl::string_view id) override { return keys_.RemoveKey(id); }
  absl::StatusOr<std::string> Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                   absl::string_view message) override {
    return keys_.Sign(id, hash, message);
  }
  void SetAway(absl::Status status) { away_ = std::move(status); }

 private:
  MemoryKeyManager keys_;
  absl::Status away_;
};

class AuthorityRotatorTest : public ::testing::Test {
 protected:
  AuthorityRotatorTest() { log::SetLevel(log::Level::kOff); }
  ~AuthorityRotatorTest() override { log::SetLevel(log::Level::kInfo); }

  absl::Status Start() {
    rotator_.reset();
    AuthorityRotator::Options options{"server-1", IssuePolicy{td_}};
    options.token_key_type = token_key_type_;
    auto rotator = AuthorityRotator::Create(std::move(options), keys_, store_, store_, health_, clock_);
    if (!rotator.ok()) return rotator.status();
    rotator_ = *std::move(rotator);
    return absl::OkStatus();
  }
  // Advances in steps of a minute, and runs the rotation at each.
  void AdvanceBy(absl::Duration by) {
    for (absl::Duration done; done < by; done += absl::Minutes(1)) {
      clock_.Advance(absl::Minutes(1));
      ASSERT_TRUE(rotator_->Step().ok());
    }
  }
  ActiveAuthorities Active() { return *rotator_->authorities().Get(); }
  crypto::Certificate ActiveCertificate() { return Active().x509->certificate; }
  spiffe::Bundle Bundle() { return store_.GetBundle(td_).value(); }
  Journal StoredJournal() { return DecodeJournal(store_.journals().at("server-1"), td_).value(); }
  // The active pair is in the stored bundle: the rule before any use.
  bool ActiveIsPublished() {
    const spiffe::Bundle bundle = Bundle();
    bool x509 = false;
    for (const auto& authority : bundle.x509_authorities) x509 |= authority.certificate == ActiveCertificate();
    return x509 && bundle.FindJwtAuthority(Active().jwt->kid) != nullptr;
  }

  const spiffe::TrustDomain td_ = spiffe::TrustDomain::Parse("example.org").value();
  fakes::FakeClock clock_;
  fakes::FakeAuthorityStore store_;
  FlakyKeys keys_;
  telemetry::Health health_;
  std::optional<crypto::KeyType> token_key_type_;
  std::unique_ptr<AuthorityRotator> rotator_;
};

TEST_F(AuthorityRotatorTest, TheTokenServiceHasKeysOfItsOwnOnlyWhileItIsOn) {
  SIGNET_ASSERT_OK(Start());
  EXPECT_FALSE(Active().token.has_value());
  EXPECT_EQ(Active().token_keys, nullptr);
  token_key_type_ = crypto::KeyType::kRsa2048;
  SIGNET_ASSERT_OK(Start());
  EXPECT_EQ(Active().token->key_manager_id, "Token-Signer-A");
  EXPECT_EQ(Active().token->type, crypto::KeyType::kRsa2048);
  EXPECT_EQ(Active().receipt->key_manager_id, "Receipt-Signer-A");
  const std::string kid = Active().token->kid;
  EXPECT_TRUE(Active().token_keys->contains(kid));
  SIGNET_ASSERT_OK(Start());  // taken up again
  EXPECT_EQ(Active().token->kid, kid);
}

TEST_F(AuthorityRotatorTest, T5NoKeyOfTokensOrReceiptsIsEverInTheBundleOrInAnotherSet) {
  token_key_type_ = crypto::KeyType::kEcP256;
  SIGNET_ASSERT_OK(Start());
  for (int hour = 0; hour < 60; ++hour) {
    AdvanceBy(absl::Hours(1));
    const ActiveAuthorities active = Active();
    const spiffe::Bundle bundle = Bundle();
    for (const auto* keys : {active.token_keys.get(), active.receipt_keys.get()}) {
      for (const auto& [kid, key] : *keys) {
        EXPECT_EQ(bundle.FindJwtAuthority(kid), nullptr);
        EXPECT_NE(kid, active.jwt->kid);
        for (const auto& authority : bundle.jwt_authorities) EXPECT_FALSE(authority.key == key);
        for (const auto& authority : bundle.x509_authorities) EXPECT_FALSE(authority.certificate.public_key() == key);
      }
    }
    for (const auto& [kid, key] : *active.token_keys) EXPECT_FALSE(active.receipt_keys->contains(kid));
    EXPECT_TRUE(active.token_keys->contains(active.token->kid));
  }
  EXPECT_LE(Active().token_keys->size(), 2u);
}

TEST_F(AuthorityRotatorTest, TheNextTokenKeyIsPublishedBeforeItSigns) {
  token_key_type_ = crypto::KeyType::kEcP256;
  SIGNET_ASSERT_OK(Start());
  const std::string first = Active().token->kid;
  AdvanceBy(absl::Hours(12) + absl::Minutes(1));
  EXPECT_EQ(Active().token->kid, first);
  EXPECT_EQ(Active().token_keys->size(), 2u);
  AdvanceBy(absl::Hours(8));
  EXPECT_NE(Active().token->kid, first);
  EXPECT_TRUE(Active().token_keys->contains(first));  // what it signed is still good
}

TEST_F(AuthorityRotatorTest, ATokenKeyIsPreparedAndActivatedByHand) {
  token_key_type_ = crypto::KeyType::kEcP256;
  ASSERT_TRUE(Start().ok());
  const std::string first = Active().token->kid;
  const TokenKeys::Key prepared = rotator_->PrepareTokenKey().value();
  EXPECT_EQ(prepared.slot.state, SlotState::kPrepared);
  EXPECT_EQ(Active().token->kid, first);  // signs nothing yet
  EXPECT_TRUE(Active().token_keys->contains(prepared.kid));
  EXPECT_THAT(rotator_->ActivateTokenKey("no-such-key"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(rotator_->ActivateTokenKey(first), StatusIs(absl::StatusCode::kFailedPrecondition));  // active already

  EXPECT_EQ(rotator_->ActivateTokenKey(prepared.kid).value().slot.state, SlotState::kActive);
  EXPECT_EQ(Active().token->kid, prepared.kid);
  EXPECT_TRUE(Active().token_keys->contains(first));  // its tokens are verified until they end
  EXPECT_THAT(rotator_->ActivateTokenKey(first), StatusIs(absl::StatusCode::kFailedPrecondition));  // old: not again
  AdvanceBy(absl::Hours(1));
  EXPECT_EQ(Active().token->kid, prepared.kid);  // the clock does not undo it
  ASSERT_TRUE(Start().ok());
  EXPECT_EQ(Active().token->kid, prepared.kid);
  EXPECT_EQ(rotator_->ListTokenKeys().value().size(), 2u);

  // Once more: the first one goes, with whatever it signed.
  const TokenKeys::Key third = rotator_->PrepareTokenKey().value();
  EXPECT_FALSE(Active().token_keys->contains(first));
  EXPECT_TRUE(Active().token_keys->contains(prepared.kid));
  ASSERT_TRUE(rotator_->ActivateTokenKey(third.kid).ok());
  EXPECT_EQ(Active().token->kid, third.kid);
}

TEST_F(AuthorityRotatorTest, ATokenKeyThatCannotBeWrittenSignsNothing) {
  token_key_type_ = crypto::KeyType::kEcP256;
  ASSERT_TRUE(Start().ok());
  const std::string first = Active().token->kid;
  keys_.SetAway(absl::UnavailableError("away"));
  EXPECT_THAT(rotator_->PrepareTokenKey(), StatusIs(absl::StatusCode::kUnavailable));
  keys_.SetAway(absl::OkStatus());
  EXPECT_EQ(Active().token->kid, first);
  EXPECT_TRUE(Active().token_keys->contains(first));
}

TEST_F(AuthorityRotatorTest, WithoutATokenServiceThereAreNoTokenKeys) {
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(rotator_->ListTokenKeys(), StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(rotator_->PrepareTokenKey(), StatusIs(absl::StatusCode::kUnimplemented));
  EXPECT_THAT(rotator_->ActivateTokenKey("k"), StatusIs(absl::StatusCode::kUnimplemented));
}

TEST_F(AuthorityRotatorTest, T5RetiredReceiptKeysStayKnownForVerificationAlone) {
  token_key_type_ = crypto::KeyType::kEcP256;
  SIGNET_ASSERT_OK(Start());
  const std::string first = Active().receipt->kid;
  for (int day = 0; day < 100; ++day) {
    clock_.Advance(absl::Hours(24) - absl::Hours(1));
    ASSERT_TRUE(rotator_->Step().ok());
    AdvanceBy(absl::Hours(1));
  }
  EXPECT_NE(Active().receipt->kid, first);
  EXPECT_TRUE(Active().receipt_keys->contains(first));
  EXPECT_GT(Active().receipt_keys->size(), 2u);
  for (const RetiredKey& retired : StoredJournal().retired_receipts) {
    EXPECT_NE(retired.key_id, Active().receipt->kid);
    for (const std::string& id : keys_.ListKeys()) EXPECT_FALSE(*keys_.GetPublicKey(id) == retired.key);
  }
  EXPECT_EQ(StoredJournal().retired_receipts.front().key_id, first);
  SIGNET_ASSERT_OK(Start());
  EXPECT_TRUE(Active().receipt_keys->contains(first));
}

TEST_F(AuthorityRotatorTest, AReceiptKeyThatIsLostStillVerifies) {
  token_key_type_ = crypto::KeyType::kEcP256;
  SIGNET_ASSERT_OK(Start());
  const std::string lost = Active().receipt->kid;
  rotator_.reset();
  SIGNET_ASSERT_OK(keys_.RemoveKey("Receipt-Signer-A"));
  SIGNET_ASSERT_OK(Start());
  EXPECT_NE(Active().receipt->kid, lost);
  EXPECT_TRUE(Active().receipt_keys->contains(lost));
}

TEST_F(AuthorityRotatorTest, AFreshServerHasOneAuthorityOfEachKindJournalledAndPublished) {
  SIGNET_ASSERT_OK(Start());
  EXPECT_TRUE(ActiveIsPublished());
  EXPECT_TRUE(health_.ready());
  EXPECT_EQ(Active().x509->key_id, "x509-CA-A");
  EXPECT_EQ(Active().jwt->key_manager_id, "JWT-Signer-A");
  const crypto::Certificate root = ActiveCertificate();
  EXPECT_THAT(root.uri_sans(), ::testing::ElementsAre("spiffe://example.org"));  // ID-15, X509-16
  EXPECT_TRUE(root.is_ca());
  EXPECT_EQ(root.key_usage(), crypto::kKeyCertSign | crypto::kCrlSign);  // X509-15
  EXPECT_THAT(root.subject(), HasSubstr("O=SPIFFE"));
  const Journal journal = StoredJournal();
  EXPECT_EQ(journal.x509[0].slot.state, SlotState::kActive);
  EXPECT_EQ(journal.x509[1].slot.state, SlotState::kEmpty);
  EXPECT_EQ(Bundle().x509_authorities.size(), 1);
  EXPECT_EQ(Bundle().jwt_authorities.size(), 1);
}

TEST_F(AuthorityRotatorTest, PreparesAtHalfLifeActivatesLateAndPrunesADayAfterTheEnd) {  // FED-18, FED-19
  SIGNET_ASSERT_OK(Start());
  const crypto::Certificate first = ActiveCertificate();
  AdvanceBy(absl::Hours(12) + absl::Minutes(1));
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  EXPECT_EQ(Bundle().jwt_authorities.size(), 2);
  EXPECT_EQ(ActiveCertificate(), first);
  AdvanceBy(absl::Hours(8));
  EXPECT_FALSE(ActiveCertificate() == first);
  EXPECT_EQ(Active().x509->key_id, "x509-CA-B");
  EXPECT_EQ(Active().jwt->key_manager_id, "JWT-Signer-B");
  EXPECT_TRUE(ActiveIsPublished());
  AdvanceBy(absl::Hours(27));  // 47 h: the first ended at 24 h, it leaves at 48 h
  const auto holds = [this](const crypto::Certificate& c) {
    for (const auto& authority : Bundle().x509_authorities) {
      if (authority.certificate == c) return true;
    }
    return false;
  };
  EXPECT_TRUE(holds(first));
  AdvanceBy(absl::Hours(3));
  EXPECT_FALSE(holds(first));
  EXPECT_TRUE(ActiveIsPublished());
  EXPECT_LE(Bundle().x509_authorities.size(), 4);
}

TEST_F(AuthorityRotatorTest, ARestartKeepsTheAuthorities) {
  SIGNET_ASSERT_OK(Start());
  AdvanceBy(absl::Hours(13));
  const ActiveAuthorities before = Active();
  const uint64_t sequence = Bundle().sequence_number;
  SIGNET_ASSERT_OK(Start());
  EXPECT_EQ(Active().x509->certificate, before.x509->certificate);
  EXPECT_EQ(Active().jwt->kid, before.jwt->kid);
  EXPECT_EQ(Bundle().sequence_number, sequence);
  AdvanceBy(absl::Hours(8));  // the prepared one of before the restart takes over
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  EXPECT_FALSE(Active().x509->certificate == before.x509->certificate);
}

TEST_F(AuthorityRotatorTest, ALostKeyIsNamedAndWhatIsTrustedStays) {
  SIGNET_ASSERT_OK(Start());
  const crypto::Certificate first = ActiveCertificate();
  const std::string jwt = Active().jwt->kid;
  rotator_.reset();
  SIGNET_ASSERT_OK(keys_.RemoveKey("x509-CA-A"));
  SIGNET_ASSERT_OK(Start());
  EXPECT_FALSE(ActiveCertificate() == first);
  EXPECT_EQ(Active().jwt->kid, jwt);
  EXPECT_TRUE(ActiveIsPublished());
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  EXPECT_TRUE(health_.ready());
  EXPECT_THAT(health_.Json(), HasSubstr("x509-CA-A"));
}

TEST_F(AuthorityRotatorTest, AnotherKeyUnderTheSameIdIsNotTheAuthoritysKey) {
  SIGNET_ASSERT_OK(Start());
  const std::string kid = Active().jwt->kid;
  rotator_.reset();
  SIGNET_ASSERT_OK(keys_.GenerateKey("JWT-Signer-A", crypto::KeyType::kEcP256));
  SIGNET_ASSERT_OK(Start());
  EXPECT_NE(Active().jwt->kid, kid);
  EXPECT_NE(Bundle().FindJwtAuthority(kid), nullptr);
  EXPECT_TRUE(ActiveIsPublished());
}

TEST_F(AuthorityRotatorTest, AKeyManagerThatIsAwayAtStartMakesNoNewAuthority) {
  SIGNET_ASSERT_OK(Start());
  const crypto::Certificate first = ActiveCertificate();
  keys_.SetAway(absl::UnavailableError("token is out"));
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("token is out")));
  keys_.SetAway(absl::OkStatus());
  SIGNET_ASSERT_OK(Start());
  EXPECT_EQ(ActiveCertificate(), first);
  EXPECT_EQ(Bundle().x509_authorities.size(), 1);
}

TEST_F(AuthorityRotatorTest, ADamagedJournalIsKeptAndWhatIsTrustedStays) {
  SIGNET_ASSERT_OK(Start());
  const crypto::Certificate first = ActiveCertificate();
  rotator_.reset();
  const std::string damaged = store_.journals().at("server-1").substr(0, 50);
  store_.SetJournal("server-1", damaged);
  SIGNET_ASSERT_OK(Start());
  EXPECT_FALSE(ActiveCertificate() == first);
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  bool kept = false;
  for (const auto& [id, journal] : store_.journals()) kept |= id.find("server-1.corrupt-") == 0 && journal == damaged;
  EXPECT_TRUE(kept);
  EXPECT_THAT(health_.Json(), HasSubstr("journal was damaged"));
}

TEST_F(AuthorityRotatorTest, AnotherTrustDomainsDatastoreIsRefused) {
  SIGNET_ASSERT_OK(Start());
  rotator_.reset();
  const auto created =
      AuthorityRotator::Create({"server-1", IssuePolicy{spiffe::TrustDomain::Parse("other.org").value()}}, keys_,
                               store_, store_, health_, clock_);
  EXPECT_THAT(created.status(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("example.org")));
}

TEST_F(AuthorityRotatorTest, NothingIsUsedBeforeTheJournalIsWritten) {
  store_.FailWrites(absl::UnavailableError("disk full"));
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("disk full")));
  EXPECT_FALSE(health_.ready());
  store_.FailWrites(absl::OkStatus());
  SIGNET_ASSERT_OK(Start());
  EXPECT_TRUE(ActiveIsPublished());
}

TEST_F(AuthorityRotatorTest, AStoreThatFailsForADayCostsOneAuthority) {
  SIGNET_ASSERT_OK(Start());
  AdvanceBy(absl::Hours(11));
  const crypto::Certificate first = ActiveCertificate();
  // The worst answer: done, but reported as failed.
  store_.FailWrites(absl::UnavailableError("lost reply"), /*after_commit=*/true);
  for (int i = 0; i < 3 * 60; ++i) {
    clock_.Advance(absl::Minutes(1));
    EXPECT_EQ(rotator_->Step().ok(), i < 59) << i;
  }
  EXPECT_EQ(ActiveCertificate(), first);
  EXPECT_TRUE(health_.ready());
  EXPECT_THAT(health_.Json(), HasSubstr("lost reply"));
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  EXPECT_EQ(Bundle().jwt_authorities.size(), 2);
  store_.FailWrites(absl::OkStatus());
  SIGNET_EXPECT_OK(rotator_->Step());
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  EXPECT_THAT(health_.Json(), Not(HasSubstr("lost reply")));
}

TEST_F(AuthorityRotatorTest, APreparedAuthorityTakesOverThoughTheStoreIsAway) {
  SIGNET_ASSERT_OK(Start());
  AdvanceBy(absl::Hours(13));
  const crypto::Certificate first = ActiveCertificate();
  store_.FailWrites(absl::UnavailableError("away"));
  clock_.Advance(absl::Hours(8));
  EXPECT_FALSE(rotator_->Step().ok());
  EXPECT_FALSE(ActiveCertificate() == first);
  EXPECT_TRUE(ActiveIsPublished());
  const crypto::Certificate second = ActiveCertificate();
  store_.FailWrites(absl::OkStatus());
  SIGNET_EXPECT_OK(rotator_->Step());
  EXPECT_EQ(StoredJournal().x509[1].slot.state, SlotState::kActive);
  SIGNET_ASSERT_OK(Start());
  EXPECT_EQ(ActiveCertificate(), second);
}

TEST_F(AuthorityRotatorTest, AnIdleStepWritesNothing) {
  SIGNET_ASSERT_OK(Start());
  const int writes = store_.writes();
  AdvanceBy(absl::Hours(11));
  EXPECT_EQ(store_.writes(), writes);
}

TEST_F(AuthorityRotatorTest, AClockThatStepsNeitherFloodsTheBundleNorEmptiesIt) {
  SIGNET_ASSERT_OK(Start());
  const crypto::Certificate first = ActiveCertificate();
  for (int i = 0; i < 50; ++i) {
    clock_.StepWall(absl::Hours(24 * 400));
    ASSERT_TRUE(rotator_->Step().ok());
    EXPECT_TRUE(ActiveIsPublished());
    clock_.Advance(absl::Minutes(5));
    ASSERT_TRUE(rotator_->Step().ok());
    clock_.StepWall(-absl::Hours(24 * 400));
    ASSERT_TRUE(rotator_->Step().ok());
    EXPECT_TRUE(ActiveIsPublished());
  }
  EXPECT_LE(Bundle().x509_authorities.size(), 2);
  EXPECT_EQ(Bundle().x509_authorities.front().certificate, first);
}

TEST_F(AuthorityRotatorTest, AuthoritiesMissingInTheBundleArePublishedAgainAtStart) {
  SIGNET_ASSERT_OK(Start());
  const crypto::Certificate first = ActiveCertificate();
  rotator_.reset();
  BundleChange everything;
  everything.remove_expired_before = absl::InfiniteFuture();
  store_.ChangeBundle(td_, std::move(everything), [](absl::StatusOr<spiffe::Bundle>) {});
  ASSERT_TRUE(Bundle().x509_authorities.empty());
  SIGNET_ASSERT_OK(Start());
  EXPECT_EQ(ActiveCertificate(), first);
  EXPECT_TRUE(ActiveIsPublished());
}

TEST_F(AuthorityRotatorTest, SeveralServersShareOneBundle) {
  SIGNET_ASSERT_OK(Start());
  MemoryKeyManager other_keys;
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto other, AuthorityRotator::Create({"server-2", IssuePolicy{td_}}, other_keys,
                                                                         store_, store_, health_, clock_));
  EXPECT_EQ(Bundle().x509_authorities.size(), 2);
  EXPECT_FALSE(other->authorities().Get()->x509->certificate == ActiveCertificate());
}

TEST_F(AuthorityRotatorTest, SerialNumbersNeverRepeat) {
  std::set<std::string> serials;
  SIGNET_ASSERT_OK(Start());
  for (int day = 0; day < 4; ++day) {
    AdvanceBy(absl::Hours(20));
    serials.insert(ActiveCertificate().SerialDecimal());
  }
  EXPECT_GE(serials.size(), 3);
}

TEST(JournalTest, RoundTripAndEveryTruncation) {
  log::SetLevel(log::Level::kWarn);
  const spiffe::TrustDomain td = spiffe::TrustDomain::Parse("example.org").value();
  fakes::FakeClock clock;
  fakes::FakeAuthorityStore store;
  MemoryKeyManager keys;
  telemetry::Health health;
  SIGNET_ASSERT_OK(AuthorityRotator::Create({"s", IssuePolicy{td}}, keys, store, store, health, clock).status());
  const std::string bytes = store.journals().at("s");
  SIGNET_ASSERT_OK_AND_ASSIGN(const Journal journal, DecodeJournal(bytes, td));
  EXPECT_EQ(EncodeJournal(journal), bytes);
  for (size_t length = 0; length < bytes.size(); ++length) {
    const auto cut = DecodeJournal(bytes.substr(0, length), td);
    EXPECT_TRUE(!cut.ok() || !(*cut == journal)) << length;
  }
  EXPECT_THAT(DecodeJournal("", td), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeJournal(bytes + "\x08\x63", td),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("newer")));
}

}  // namespace
}  // namespace signet::server
