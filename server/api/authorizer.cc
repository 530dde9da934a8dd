#include "server/api/authorizer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/status/grpc_status.h"
#include "spire/api/types/status.pb.h"

namespace signet::server {
namespace {

using spire::api::types::PermissionDeniedDetails;

constexpr absl::Duration kConfirmOnce = absl::Seconds(1);  // once per caller and second (docs/decisions.md, API)
constexpr size_t kMaxConfirmed = 65536;

absl::Status Denied(PermissionDeniedDetails::Reason reason, absl::string_view message) {
  absl::Status status = absl::PermissionDeniedError(message);
  PermissionDeniedDetails details;
  details.set_reason(reason);
  status.SetPayload(kPermissionDeniedDetails, absl::Cord(details.SerializeAsString()));
  return status;
}

std::string Quoted(const spiffe::Id& id) { return absl::StrCat("\"", id.string(), "\""); }

bool HasFlag(const std::vector<EntryPtr>& entries, bool spiffe::Entry::*flag) {
  return std::any_of(entries.begin(), entries.end(), [&](const EntryPtr& entry) { return (*entry).*flag; });
}

}  // namespace

absl::Status MustReattestError() {
  return Denied(PermissionDeniedDetails::AGENT_MUST_REATTEST, "agent must attest again instead of renewing");
}

// kUnavailable or worse from either look-up is passed on as it is: no refusal rests on a database that did not answer.
// The functions are named objects of whoever makes the view: a FunctionRef does not keep a temporary alive.
struct Authorizer::View {
  bool memory;
  std::function<absl::StatusOr<AgentPtr>(const spiffe::Id&)> find_agent;  // null: unknown
  std::function<absl::StatusOr<std::vector<EntryPtr>>(const spiffe::Id&)> entries_of;
};

Authorizer::Authorizer(Options options, CallerSource& callers, const EntryIndex& index, EntryStore& entries,
                       AgentStore& agents, Executor& executor, Clock& clock, Metrics& metrics)
    : trust_domain_(std::move(options.trust_domain)),
      admin_ids_(std::move(options.admin_ids)),
      callers_(callers),
      index_(index),
      entries_(entries),
      agents_(agents),
      executor_(executor),
      clock_(clock),
      metrics_(metrics) {}

Authorizer::Decision Authorizer::Decide(Method method, const grpc::ServerContextBase& context) {
  return Decide(method, callers_.Identify(context));
}

Authorizer::Decision Authorizer::Decide(Method method, CallerPtr caller) {
  Decision decision{std::move(caller), absl::OkStatus()};
  const auto find_agent = [this](const spiffe::Id& id) -> absl::StatusOr<AgentPtr> { return index_.FindAgent(id); };
  const auto entries_of = [this](const spiffe::Id& id) -> absl::StatusOr<std::vector<EntryPtr>> {
    return index_.EntriesWithSpiffeId(id);
  };
  const View memory{true, find_agent, entries_of};
  Evaluate(method, memory, decision);
  if (!decision.status.ok() && !decision.confirm) CountRefusal(method, decision);
  return decision;
}

Authorizer::Decision Authorizer::Confirm(Method method, CallerPtr caller) {
  const absl::Duration now = clock_.Steady();
  const std::string key =
      absl::StrCat(RowOf(method).grants, " ", caller->id ? caller->id->string() : "", " ", caller->serial);
  {
    MutexLock lock(mutex_);
    auto it = confirmed_.find(key);
    if (it != confirmed_.end() && now - it->second.at < kConfirmOnce) {
      Decision decision = it->second.decision;
      decision.caller = std::move(caller);
      return decision;
    }
  }
  Decision decision{std::move(caller), absl::OkStatus()};
  const auto find_agent = [this](const spiffe::Id& id) -> absl::StatusOr<AgentPtr> {
    absl::StatusOr<AgentRecord> record = agents_.GetAgent(id);
    if (absl::IsNotFound(record.status())) return AgentPtr();
    if (!record.ok()) return record.status();
    return std::make_shared<const AgentRecord>(*std::move(record));
  };
  const auto entries_of = [this](const spiffe::Id& id) -> absl::StatusOr<std::vector<EntryPtr>> {
    EntryFilter filter;
    filter.spiffe_id = id;
    absl::StatusOr<Page<spiffe::Entry>> page = entries_.ListEntries(filter, {});
    if (!page.ok()) return page.status();
    std::vector<EntryPtr> found;
    for (spiffe::Entry& entry : page->items) {
      if (!entry.withdrawn) found.push_back(std::make_shared<const spiffe::Entry>(std::move(entry)));
    }
    return found;
  };
  const View database{false, find_agent, entries_of};
  Evaluate(method, database, decision);
  if (decision.status.ok()) return decision;
  CountRefusal(method, decision);
  if (absl::IsUnauthenticated(decision.status) || absl::IsPermissionDenied(decision.status)) {
    MutexLock lock(mutex_);
    if (confirmed_.size() >= kMaxConfirmed) confirmed_.clear();
    confirmed_[key] = {decision, now};
  }
  return decision;
}

void Authorizer::Authorize(Method method, const grpc::ServerContextBase& context, Then then) {
  Decision decision = Decide(method, context);
  if (decision.status.ok()) return then(std::move(decision.caller));
  if (!decision.confirm) return then(decision.status);
  auto shared = std::make_shared<Then>(std::move(then));
  const bool posted = executor_.Post([this, method, caller = std::move(decision.caller), shared] {
    Decision confirmed = Confirm(method, caller);
    if (confirmed.status.ok()) return (*shared)(std::move(confirmed.caller));
    (*shared)(confirmed.status);
  });
  if (!posted) (*shared)(OverloadedError("server is busy", absl::Seconds(1)));
}

void Authorizer::Evaluate(Method method, const View& view, Decision& decision) {
  const Caller& caller = *decision.caller;
  const MethodRow& row = RowOf(method);
  if ((row.grants & kAny) != 0) return;
  if (caller.kind == Caller::Kind::kLocal) {
    if ((row.grants & kLocal) == 0) {
      decision.status = absl::PermissionDeniedError(absl::StrCat(row.path, " is not for local callers"));
    }
    return;
  }
  if (caller.kind == Caller::Kind::kAnonymous) {
    decision.status = absl::UnauthenticatedError(caller.problem.ok() ? "no client certificate: an X.509-SVID is needed"
                                                                     : caller.problem.message());
    return;
  }
  const spiffe::Id& id = *caller.id;
  const bool own = id.IsMemberOf(trust_domain_);
  const bool ended = caller.expired || clock_.Now() >= caller.not_after;

  // T7: some calls are for administrators of the own trust domain alone.
  const bool for_admins = (row.grants & kAdmin) != 0 || (own && (row.grants & kOwnAdmin) != 0);
  if (!ended && for_admins && IsAdminId(id)) return;
  if (own && (row.grants & kAgent) != 0 && spiffe::IsAgentId(id)) {
    if (ended) {
      decision.status =
          Denied(PermissionDeniedDetails::AGENT_EXPIRED, absl::StrCat("agent ", Quoted(id), ": its SVID has ended"));
      return;
    }
    const absl::StatusOr<AgentPtr> agent = view.find_agent(id);
    if (!agent.ok()) {
      decision.status = agent.status();
      return;
    }
    EvaluateAgent(agent->get(), decision);
    decision.confirm = view.memory && !decision.status.ok();
    return;
  }
  if (ended) {
    decision.status = absl::UnauthenticatedError(absl::StrCat(Quoted(id), ": its SVID has ended"));
    return;
  }
  if (own && (for_admins || (row.grants & kDownstream) != 0)) {
    const absl::StatusOr<std::vector<EntryPtr>> entries = view.entries_of(id);
    if (!entries.ok()) {
      decision.status = entries.status();
      return;
    }
    if (for_admins && HasFlag(*entries, &spiffe::Entry::admin)) return;
    if ((row.grants & kDownstream) != 0 && HasFlag(*entries, &spiffe::Entry::downstream)) return;
    decision.confirm = view.memory;
  }
  decision.status = absl::PermissionDeniedError(absl::StrCat(Quoted(id), " may not call ", row.path));
}

bool Authorizer::IsAdminId(const spiffe::Id& id) const {
  const auto ids = admin_ids_.Get();
  return std::find(ids->begin(), ids->end(), id) != ids->end();
}

void Authorizer::EvaluateAgent(const AgentRecord* agent, Decision& decision) {
  const Caller& caller = *decision.caller;
  const auto refuse = [&](PermissionDeniedDetails::Reason reason, absl::string_view why) {
    decision.status = Denied(reason, absl::StrCat("agent ", Quoted(*caller.id), why));
  };
  if (agent == nullptr) {
    refuse(PermissionDeniedDetails::AGENT_NOT_ATTESTED, " is not attested");
  } else if (agent->banned || agent->serial.empty()) {
    refuse(PermissionDeniedDetails::AGENT_BANNED, " is banned");
  } else if (caller.serial == agent->serial) {
    return;
  } else if (!agent->new_serial.empty() && caller.serial == agent->new_serial) {
    TakeUpNewSerial(caller);
  } else {
    decision.superseded = true;
    refuse(PermissionDeniedDetails::AGENT_NOT_ACTIVE,
           absl::StrCat(": serial ", caller.serial, " is not its current one"));
  }
}

// The first call with a renewed SVID ends the old one.
void Authorizer::TakeUpNewSerial(const Caller& caller) {
  {
    MutexLock lock(taking_up_->mutex);
    if (!taking_up_->serials.insert(caller.serial).second) return;
  }
  agents_.ConfirmSerial(*caller.id, caller.serial,
                        [running = taking_up_, id = *caller.id, serial = caller.serial](const absl::Status& status) {
                          if (!status.ok()) {
                            SIGNET_LOG(warn, "renewed serial not taken up, will retry",
                                       {{"agent_id", id.string()}, {"error", status.message()}});
                          }
                          MutexLock lock(running->mutex);
                          running->serials.erase(serial);
                        });
}

void Authorizer::CountRefusal(Method method, const Decision& decision) {
  metrics_.calls_refused.Add();
  SIGNET_LOG(
      debug, "call refused",
      {{"method", RowOf(method).path}, {"caller", decision.caller->ToString()}, {"reason", decision.status.message()}});
}

}  // namespace signet::server
