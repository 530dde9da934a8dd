#include "agent/sync/standing.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/sync/server_client.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::agent {

std::string Text(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
}

Standing::Standing(Deps deps) : deps_(std::move(deps)) {
  deps_.health.SetUnready("server", "not yet in touch with the server");
  if (deps_.identity.svid() != nullptr) {
    deps_.health.SetReady("identity");
  } else {
    deps_.health.SetUnready("identity", "the agent has not attested yet");
  }
}

void Standing::Lost(const absl::Status& why, absl::string_view part) {
  if (dead_ || absl::IsCancelled(why)) return;
  deps_.metrics.sync_failures.Add();
  deps_.cache.SetOffline(true);
  const std::string reason =
      absl::StrCat("the server does not serve this agent (", Text(why), "); what is held is served on");
  if (deps_.cache.ready()) {
    deps_.health.SetDegraded("server", reason);
  } else {
    deps_.health.SetUnready("server", reason);
  }
  if (!away_.exchange(true)) {
    SIGNET_LOG(warn, "server lost; serving what is held", {{"part", part}, {"error", Text(why)}});
  } else {
    SIGNET_LOG(debug, "server still away", {{"part", part}, {"error", Text(why)}});
  }
}

void Standing::Restored() {
  deps_.cache.SetOffline(true);
  deps_.health.SetDegraded("server", "serving what was held before the restart; the server has not answered yet");
}

void Standing::Synced() {
  synced_ = true;
  back_ = true;
  Answered();
}

void Standing::Answered() {
  deps_.cache.SetOffline(false);
  if (!synced_) return;
  deps_.health.SetReady("server");
  if (away_.exchange(false)) SIGNET_LOG(info, "server is back");
}

void Standing::Refused(const absl::Status& why) {
  const Refusal refusal = RefusalOf(why);
  if (refusal == Refusal::kNone) return;
  if (refusal == Refusal::kBanned) return Banned();
  if (!must_attest_.exchange(true)) {
    SIGNET_LOG(warn, "the server wants this agent to attest again", {{"reason", why.message()}});
  }
  back_ = true;  // it does answer
  deps_.on_must_attest();
}

void Standing::Banned() {
  // Order: what a restart would use first.
  if (deps_.sealed != nullptr) {
    if (const absl::Status status = deps_.sealed->Destroy(); !status.ok()) {
      SIGNET_LOG(error, "the sealed cache of a banned agent is still there", {{"error", status.message()}});
    }
  }
  if (const absl::Status status = deps_.identity.ForgetSvid(); !status.ok()) {
    SIGNET_LOG(error, "the SVID of a banned agent is still on disk", {{"error", status.message()}});
  }
  Die(
      absl::PermissionDeniedError("the server has banned this agent; an operator can lift it (signet agent evict), "
                                  "then it attests anew"));
}

void Standing::Attested() {
  must_attest_ = false;
  deps_.health.SetReady("identity");
}

void Standing::NotAttested(const absl::Status& why) {
  const std::string reason = absl::StrCat("the agent has no SVID of its own: ", why.message());
  if (deps_.cache.ready()) {
    deps_.health.SetDegraded("identity", reason);  // what is held is served all the same
  } else {
    deps_.health.SetUnready("identity", reason);
  }
  SIGNET_LOG(warn, "the agent has not attested; trying again", {{"error", Text(why)}});
}

void Standing::GiveUp(const absl::Status& why) {
  if (must_attest_) {  // evicted: a restart serves nothing either
    if (deps_.sealed != nullptr) (void)deps_.sealed->Destroy();
    (void)deps_.identity.ForgetSvid();
  }
  Die(WithContext(
      why, "attestation is refused; give the agent fresh evidence (such as a new join token) and start it again"));
}

void Standing::Die(absl::Status why) {
  if (dead_.exchange(true)) return;
  SIGNET_LOG(error, "the agent cannot go on", {{"error", why.message()}});
  deps_.health.SetUnready("identity", why.message());
  deps_.on_fatal(std::move(why));
}

}  // namespace signet::agent
