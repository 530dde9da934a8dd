#include "server/token/issuance_gate.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"

namespace signet::server {

// Tickets are counted by generation; Drain starts a new one and waits for the older.
struct IssuanceGate::Tickets {
  std::mutex mutex;
  std::condition_variable gone;
  uint64_t generation = 0;
  std::map<uint64_t, uint64_t> live;  // generation -> tickets
};

struct IssuanceGate::Ticket::State {
  explicit State(std::shared_ptr<Tickets> of) : tickets(std::move(of)) {
    std::lock_guard lock(tickets->mutex);
    generation = tickets->generation;
    ++tickets->live[generation];
  }
  ~State() {
    std::lock_guard lock(tickets->mutex);
    auto it = tickets->live.find(generation);
    if (--it->second == 0) {
      tickets->live.erase(it);
      tickets->gone.notify_all();
    }
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  const std::shared_ptr<Tickets> tickets;
  uint64_t generation = 0;
};

IssuanceGate::Ticket::Ticket(Ticket&&) noexcept = default;
IssuanceGate::Ticket& IssuanceGate::Ticket::operator=(Ticket&&) noexcept = default;
IssuanceGate::Ticket::~Ticket() = default;

IssuanceGate::IssuanceGate(const TokenRegistry& registry)
    : registry_(registry), tickets_(std::make_shared<Tickets>()) {}
IssuanceGate::~IssuanceGate() = default;

namespace {

using oauth::EntityKind;

std::optional<std::string> Name(EntityKind kind, absl::string_view entity) {
  return absl::StrCat(oauth::EntityKindName(kind), " ", entity);
}

std::optional<std::string> BlockedByRevocation(const oauth::RevocationSet& revocations,
                                               const oauth::AccessToken& token) {
  if (const oauth::Revocation* killed = revocations.Kills(token)) return Name(killed->kind, killed->entity);
  const auto blocks = [&](EntityKind kind, absl::string_view entity) {
    return !entity.empty() && revocations.Blocks(kind, entity) != nullptr;
  };
  const oauth::Context& context = token.context;
  if (blocks(EntityKind::kInstance, context.instance)) return Name(EntityKind::kInstance, context.instance);
  if (blocks(EntityKind::kNode, context.node)) return Name(EntityKind::kNode, context.node);
  if (blocks(EntityKind::kIdentity, context.identity)) return Name(EntityKind::kIdentity, context.identity);
  for (const oauth::Actor& actor : token.actors) {
    const std::string definition = oauth::DefinitionOf(actor.subject);
    if (blocks(EntityKind::kIdentity, definition)) return Name(EntityKind::kIdentity, definition);
  }
  if (!context.user_issuer.empty()) {
    if (blocks(EntityKind::kIssuer, context.user_issuer)) return Name(EntityKind::kIssuer, context.user_issuer);
    const std::string user = oauth::UserKey(context.user_issuer, context.user_subject);
    if (blocks(EntityKind::kUser, user)) return Name(EntityKind::kUser, user);
  }
  for (const oauth::Atom& atom : token.atoms) {
    if (!atom.tool) continue;
    const std::string tool = oauth::ToolKey(atom.resource, atom.action);
    if (blocks(EntityKind::kTool, tool)) return Name(EntityKind::kTool, tool);
  }
  return std::nullopt;
}

}  // namespace

bool IsDead(const GrantRecord& grant, const oauth::RevocationSet& revocations) {
  const auto killed = [&](EntityKind kind, const std::string& entity) {
    const oauth::Revocation* found = revocations.Find(kind, entity);
    return found != nullptr && grant.rev < found->seq;
  };
  return killed(EntityKind::kIdentity, grant.identity) || killed(EntityKind::kIssuer, grant.user_issuer) ||
         killed(EntityKind::kUser, oauth::UserKey(grant.user_issuer, grant.user_subject));
}

std::optional<std::string> IssuanceGate::Check(const oauth::AccessToken& token, const std::string& family) const {
  const std::shared_ptr<const oauth::RevocationSet> revocations = registry_.revocations();
  if (revocations == nullptr) return "the registry, which is not loaded yet";
  if (auto blocked = BlockedByRevocation(*revocations, token)) return blocked;
  if (!family.empty() && revocations->Find(EntityKind::kFamily, family) != nullptr) {
    return Name(EntityKind::kFamily, family);
  }

  const oauth::Context& context = token.context;
  const auto inactive = [&](const std::string& spiffe_id) {
    const std::shared_ptr<const IdentityRecord> identity = registry_.IdentityOf(spiffe_id);
    return identity == nullptr || identity->state != IdentityState::kActive;
  };
  if (inactive(context.identity)) return Name(EntityKind::kIdentity, context.identity);
  for (const oauth::Actor& actor : token.actors) {
    if (inactive(actor.subject)) return Name(EntityKind::kIdentity, actor.subject);
  }
  if (!context.grant.empty()) {
    const std::shared_ptr<const GrantRecord> grant = registry_.FindGrant(context.grant);
    if (grant == nullptr || grant->state != GrantState::kActive || IsDead(*grant, *revocations)) {
      return Name(EntityKind::kGrant, context.grant);
    }
  }
  if (!context.task.empty()) {
    const std::shared_ptr<const TaskRecord> task = registry_.FindTask(context.task);
    if (task == nullptr || task->state != TaskState::kOpen) return Name(EntityKind::kTask, context.task);
    const auto killed = [&](EntityKind kind, absl::string_view entity) {
      const oauth::Revocation* found = entity.empty() ? nullptr : revocations->Find(kind, entity);
      return found != nullptr && task->rev < found->seq;
    };
    if (killed(EntityKind::kIdentity, task->identity) || killed(EntityKind::kInstance, task->instance) ||
        killed(EntityKind::kIssuer, context.user_issuer) || killed(EntityKind::kUser, task->root_subject)) {
      return Name(EntityKind::kTask, context.task);
    }
  }
  if (!context.user_issuer.empty() && registry_.FindIssuer(context.user_issuer) == nullptr) {
    return Name(EntityKind::kIssuer, context.user_issuer);
  }
  const std::shared_ptr<const ResourceRecord> resource = registry_.FindResource(token.audience);
  if (resource == nullptr || resource->tombstone) return absl::StrCat("resource ", token.audience);
  return std::nullopt;
}

std::optional<std::string> IssuanceGate::Enter(const oauth::AccessToken& token, Ticket& ticket,
                                               const std::string& family) {
  // The ticket first, the look second: whoever looked before a revocation showed is one that Drain waits for.
  Ticket taken;
  taken.state_ = std::make_shared<Ticket::State>(tickets_);
  if (auto blocked = Check(token, family)) return blocked;
  ticket = std::move(taken);
  return std::nullopt;
}

bool IssuanceGate::Drain(absl::Duration timeout) {
  std::unique_lock lock(tickets_->mutex);
  const uint64_t old = tickets_->generation++;
  return tickets_->gone.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                                 [&] { return tickets_->live.empty() || tickets_->live.begin()->first > old; });
}

}  // namespace signet::server
