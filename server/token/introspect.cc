// Introspection (RFC 7662, rule T4): judges a presentation, not only a token. Anything but a full match is
// `active: false` and nothing else. Parameters beside `token`: what the resource saw.
#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/oauth/dpop.h"
#include "common/oauth/introspection.h"
#include "server/token/audit_record.h"
#include "server/token/endpoint_answers.h"

namespace signet::server {
namespace {

constexpr size_t kMaxCounted = 65'536;  // tokens with a quota at one time; beyond it new ones are not active

oauth::ResourceState StateOf(const ResourceRecord& record) {
  oauth::ResourceState state;
  state.servers = record.servers;
  state.minimum_binding = record.minimum_binding;
  for (const ToolRecord& tool : record.tools) {
    if (!tool.tombstone) state.tools[tool.name] = {.hash = tool.hash, .risk = tool.risk, .read_only = tool.read_only};
  }
  return state;
}

oauth::Presentation PresentationOf(const TokenCall& call) {
  const TokenRequest& request = call.request;
  oauth::Presentation seen;
  seen.caller = call.client.definition.empty() ? call.client.id : call.client.definition;
  seen.token = request.Get("token");
  seen.peer_x5t_s256 = request.Get("peer_x5t#S256");
  seen.dpop_proof = request.Get("dpop");
  seen.dpop_method = request.Get("htm");
  seen.dpop_uri = request.Get("htu");
  seen.tool = request.Get("tool");
  seen.task = request.Get("task");
  seen.session = request.Get("session");
  return seen;
}

}  // namespace

std::shared_ptr<const oauth::TokenState> Introspection::State() {
  const uint64_t seq = deps_.registry.seq();
  const std::shared_ptr<const oauth::Keys> keys = deps_.signer.token_keys();
  {
    MutexLock lock(mutex_);
    if (state_ != nullptr && state_->seq == seq && state_keys_ == keys) return state_;
  }
  auto state = std::make_shared<oauth::TokenState>();
  state->seq = seq;
  state->issuer = deps_.issuer;
  state->token_keys = *keys;
  for (const std::shared_ptr<const ResourceRecord>& record : deps_.registry.Resources()) {
    if (!record->tombstone) state->resources[record->uri] = StateOf(*record);
  }
  if (const auto revocations = deps_.registry.revocations()) state->revocations = *revocations;
  MutexLock lock(mutex_);
  if (state_ == nullptr || state_->seq <= seq) {
    state_ = state;
    state_keys_ = keys;
  }
  return state;
}

bool Introspection::CountCall(const oauth::AccessToken& token, absl::Time now) {
  if (!token.context.calls.has_value()) return true;
  MutexLock lock(mutex_);
  if (calls_.size() >= kMaxCounted && !calls_.contains(token.jwt_id)) {
    absl::erase_if(calls_, [&](const auto& entry) { return entry.second.expires_at <= now; });
    if (calls_.size() >= kMaxCounted) return false;
  }
  Calls& calls = calls_[token.jwt_id];
  calls.expires_at = token.expires_at;
  if (calls.used >= *token.context.calls) return false;
  ++calls.used;
  return true;
}

void Introspection::Answer(TokenCallPtr call) {
  if (call->request.Get("token").empty()) return Refuse(deps_, call, InvalidRequest("token is missing"));
  const oauth::Presentation seen = PresentationOf(*call);
  oauth::Judgement judgement;
  if (seen.token.size() > oauth::kMaxJwtBytes) {
    judgement.why_not = "too large";
  } else {
    judgement = oauth::Judge(seen, *State(), call->now);
  }
  const oauth::AccessToken& token = judgement.token;
  const std::string& identity = token.context.identity;
  if (judgement.active) {
    if (const auto blocked = deps_.gate.Check(token)) judgement.why_not = *blocked;  // grant, task and identity too
    if (judgement.why_not.empty() && !CountCall(token, call->now)) judgement.why_not = "its calls are used up";
    judgement.active = judgement.why_not.empty();
  }
  boost::json::array anomaly;
  if (oauth::ShownWithAnotherKey(seen, judgement, call->now)) {
    deps_.alerts.Raise("two-peers", identity, "a token was presented with a key that is not its own", token.txn);
    anomaly.emplace_back("two-peers");
  } else if (judgement.active && token.binding.bearer() &&
             deps_.alerts.SawToken(oauth::Hash(token.jwt_id), seen.peer_x5t_s256, token.expires_at, identity,
                                   token.txn)) {
    anomaly.emplace_back("two-peers");
  }

  boost::json::object record = call->audit;
  record["event"] = call->event;
  record["outcome"] = judgement.active ? "active" : "inactive";
  if (!judgement.active) record["detail"] = judgement.why_not;
  if (!anomaly.empty()) record["anomaly"] = std::move(anomaly);
  if (!token.jwt_id.empty()) {
    record["token"] = boost::json::object{{"jti_hash", oauth::Hash(token.jwt_id)}, {"aud", token.audience}};
    record["txn"] = token.txn;
  }
  if (!seen.tool.empty()) record["tool"] = seen.tool;
  if (!seen.task.empty()) record["task"] = seen.task;
  Consume consume;
  consume.once = std::exchange(call->once, {});
  if (judgement.active && !judgement.dpop_jti.empty()) {
    consume.once.emplace_back(oauth::Hash(absl::StrCat("dpop ", token.binding.jkt, " ", judgement.dpop_jti)),
                              call->now + 2 * oauth::kDpopWindow + absl::Seconds(1));
  }
  deps_.audit.Append(
      std::move(record), std::move(consume),
      [this, call, judgement = std::move(judgement)](const absl::Status& status) mutable {
        // A proof that was shown before, or nothing on record: not active either way.
        if (!status.ok()) judgement.active = false;
        (judgement.active ? deps_.metrics.introspections_active : deps_.metrics.introspections_inactive).Add();
        call->done({.status = 200,
                    .body = oauth::IntrospectionJson(judgement),
                    .headers = {{"Cache-Control", "no-store"}, {"Pragma", "no-cache"}}});
      });
}

}  // namespace signet::server
