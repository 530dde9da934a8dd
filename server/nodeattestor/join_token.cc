#include "server/nodeattestor/join_token.h"

#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kMaxTokenBytes = 255;  // ours; the tokens we make are UUIDs

// The token becomes a segment of the agent's path, so it must be exactly one: SPI-01-007 was a token with slashes.
absl::StatusOr<spiffe::Id> AgentId(const spiffe::TrustDomain& trust_domain, absl::string_view token) {
  // What is wrong with the token is not said with the token in it: it may be a real one with a typo.
  const absl::Status malformed = absl::InvalidArgumentError("join token: not 1 to 255 of letters, digits, . - _");
  if (token.empty() || token.size() > kMaxTokenBytes || token.find('/') != absl::string_view::npos) return malformed;
  absl::StatusOr<spiffe::Id> id = spiffe::Id::FromPath(trust_domain, absl::StrCat("/spire/agent/join_token/", token));
  return id.ok() ? std::move(id) : malformed;
}

absl::StatusOr<NodeAttestation::Step> LookUp(JoinTokenStore& tokens, const std::string& sha256, spiffe::Id agent_id,
                                             absl::Time now) {
  absl::StatusOr<JoinTokenRecord> record = tokens.FindJoinToken(sha256, now);
  if (absl::IsNotFound(record.status())) {
    return absl::PermissionDeniedError(
        "join token: unknown, used already or expired; make a new one with `signet token generate`");
  }
  SIGNET_RETURN_IF_ERROR(record.status(), "join token");
  NodeAttestation::Step step;
  step.node = AttestedNode{.agent_id = std::move(agent_id),
                           .selectors = {},
                           .can_reattest = false,
                           .consume_token_sha256 = sha256,
                           .token_spent_by = std::move(record->spent_by),
                           .alias_id = std::move(record->alias_id)};
  return step;
}

class JoinTokenAttestation final : public NodeAttestation {
 public:
  JoinTokenAttestation(const spiffe::TrustDomain& trust_domain, JoinTokenStore& tokens, Executor& executor,
                       Clock& clock)
      : trust_domain_(trust_domain), tokens_(tokens), executor_(executor), clock_(clock) {}
  ~JoinTokenAttestation() override {
    if (pending_ != nullptr) pending_->Take();
  }

  void Start(std::string payload, Done done) override {
    absl::StatusOr<spiffe::Id> agent_id = AgentId(trust_domain_, payload);
    if (!agent_id.ok()) return done(agent_id.status());
    pending_ = std::make_shared<Pending>(std::move(done));
    const bool posted = executor_.Post([pending = pending_, &tokens = tokens_, sha256 = crypto::Sha256(payload),
                                        id = *std::move(agent_id), now = clock_.Now()] {
      absl::StatusOr<Step> step = LookUp(tokens, sha256, id, now);
      if (Done waiting = pending->Take()) waiting(std::move(step));
    });
    if (posted) return;
    if (Done waiting = pending_->Take())
      waiting(absl::ResourceExhaustedError("join token: the server is busy, try again"));
  }

  void Respond(std::string, Done done) override {
    done(absl::FailedPreconditionError("join token: there is no challenge to respond to"));
  }

 private:
  // Who takes the completion first, the look-up or the destructor, has it.
  class Pending {
   public:
    explicit Pending(Done done) : done_(std::move(done)) {}
    Done Take() {
      const std::lock_guard lock(mutex_);
      return std::exchange(done_, nullptr);
    }

   private:
    std::mutex mutex_;
    Done done_;
  };

  const spiffe::TrustDomain& trust_domain_;
  JoinTokenStore& tokens_;
  Executor& executor_;
  Clock& clock_;
  std::shared_ptr<Pending> pending_;
};

}  // namespace

JoinToken::JoinToken(spiffe::TrustDomain trust_domain, JoinTokenStore& tokens, Executor& executor, Clock& clock)
    : trust_domain_(std::move(trust_domain)), tokens_(tokens), executor_(executor), clock_(clock) {}

std::unique_ptr<NodeAttestation> JoinToken::Begin() {
  return std::make_unique<JoinTokenAttestation>(trust_domain_, tokens_, executor_, clock_);
}

}  // namespace signet::server
