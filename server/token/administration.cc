#include "server/token/administration.h"

#include <algorithm>
#include <future>
#include <map>
#include <mutex>
#include <utility>

#include <google/protobuf/empty.pb.h>
#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/concurrency/executor.h"
#include "common/status/macros.h"
#include "server/token/admin_audit.h"
#include "server/token/admin_input.h"
#include "server/token/admin_wire.h"
#include "server/token/chain_lines.h"
#include "server/token/issuance_gate.h"

namespace signet::server {
namespace {

using google::protobuf::Empty;
using google::protobuf::Message;
using oauth::EntityKind;

constexpr absl::Duration kPatience = absl::Seconds(5);
constexpr size_t kMaxAuditPage = 1000, kAuditPage = 100;

// What a completion is given: calls here run on threads that may wait.
template <typename T, typename Start>
absl::StatusOr<T> Await(const Start& start) {
  std::promise<absl::StatusOr<T>> promise;
  start(Completion<T>([&promise](absl::StatusOr<T> result) { promise.set_value(std::move(result)); }));
  return promise.get_future().get();
}
template <typename Start>
absl::Status AwaitStatus(const Start& start) {
  std::promise<absl::Status> promise;
  start(StatusCompletion([&promise](absl::Status status) { promise.set_value(std::move(status)); }));
  return promise.get_future().get();
}

absl::Status Missing(absl::string_view field) { return absl::InvalidArgumentError(absl::StrCat(field, ": missing")); }

class StoreAdministration final : public Administration {
 public:
  explicit StoreAdministration(AdministrationDeps deps) : d_(std::move(deps)) {
    Write("CreateIdentity", &StoreAdministration::CreateIdentity);
    Write("UpdateIdentity", &StoreAdministration::UpdateIdentity);
    Read("GetIdentity", &StoreAdministration::GetIdentity);
    Read("ListIdentities", &StoreAdministration::ListIdentities);
    Write("SetIdentityState", &StoreAdministration::SetIdentityState);
    Write("PutIssuer", &StoreAdministration::PutIssuer);
    Read("GetIssuer", &StoreAdministration::GetIssuer);
    Write("DeleteIssuer", &StoreAdministration::DeleteIssuer);
    Read("ListIssuers", &StoreAdministration::ListIssuers);
    Write("PutResource", &StoreAdministration::PutResource);
    Read("GetResource", &StoreAdministration::GetResource);
    Write("DeleteResource", &StoreAdministration::DeleteResource);
    Read("ListResources", &StoreAdministration::ListResources);
    Write("CreateGrant", &StoreAdministration::CreateGrant);
    Read("GetGrant", &StoreAdministration::GetGrant);
    Read("ListGrants", &StoreAdministration::ListGrants);
    Write("CreateTask", &StoreAdministration::CreateTask, kPrincipals);
    Read("GetTask", &StoreAdministration::GetTask, kPrincipals);
    Write("CloseTask", &StoreAdministration::CloseTask, kPrincipals);
    Read("ListTasks", &StoreAdministration::ListTasks);
    Write("PutUserRights", &StoreAdministration::PutUserRights);
    Read("ListUserRights", &StoreAdministration::ListUserRights);
    Write("Revoke", &StoreAdministration::Revoke);
    Write("Reinstate", &StoreAdministration::Reinstate);
    Read("ListRevocations", &StoreAdministration::ListRevocations);
    Read("ListSigningKeys", &StoreAdministration::ListSigningKeys);
    Write("PrepareSigningKey", &StoreAdministration::PrepareSigningKey);
    Write("ActivateSigningKey", &StoreAdministration::ActivateSigningKey);
    Write("RotateSigningKey", &StoreAdministration::RotateSigningKey);
    Read("GetChain", &StoreAdministration::GetChain);
    Read("ListAudit", &StoreAdministration::ListAudit);
    Read("VerifyAudit", &StoreAdministration::VerifyAudit);
    Read("ListAlerts", &StoreAdministration::ListAlerts);
    Read("Explain", &StoreAdministration::Explain);
  }

  void Call(absl::string_view rpc, const AdminCaller& caller, const Message& request, Message* response,
            absl::AnyInvocable<void(absl::Status)> done) override {
    const auto it = handlers_.find(rpc);
    if (it == handlers_.end()) return done(absl::UnimplementedError(absl::StrCat("there is no call \"", rpc, "\"")));
    const Handler& handler = it->second;
    if (!caller.administrator && !handler.principals) {
      return done(absl::PermissionDeniedError(absl::StrCat(caller.name, " is no administrator")));
    }
    // Shared: Post drops the task when it refuses it, and somebody still has to be told.
    auto waiting = std::make_shared<absl::AnyInvocable<void(absl::Status)>>(std::move(done));
    const bool posted = executor_.Post([this, &handler, name = std::string(rpc), caller, &request, response, waiting] {
      absl::Status status = handler.run(caller, request, *response);
      if (handler.writes) status = Audited(name, caller, request, *response, std::move(status));
      (*waiting)(std::move(status));
    });
    if (!posted) (*waiting)(absl::ResourceExhaustedError("too many administrative calls wait: retry later"));
  }

 private:
  static constexpr bool kPrincipals = true;
  struct Handler {
    bool writes = false, principals = false;
    std::function<absl::Status(const AdminCaller&, const Message&, Message&)> run;
  };
  template <typename In, typename Out>
  void Add(const char* rpc, bool writes, bool principals,
           absl::Status (StoreAdministration::*method)(const AdminCaller&, const In&, Out&)) {
    handlers_[rpc] = {writes, principals,
                      [this, method](const AdminCaller& caller, const Message& request, Message& response) {
                        const auto* in = dynamic_cast<const In*>(&request);
                        auto* out = dynamic_cast<Out*>(&response);
                        if (in == nullptr || out == nullptr) return absl::InternalError("a call of other messages");
                        return (this->*method)(caller, *in, *out);
                      }};
  }
  template <typename Method>
  void Write(const char* rpc, Method method, bool principals = false) {
    Add(rpc, true, principals, method);
  }
  template <typename Method>
  void Read(const char* rpc, Method method, bool principals = false) {
    Add(rpc, false, principals, method);
  }

  AdminInput Input() const { return {d_.trust_domain, d_.own_issuers, d_.registry, d_.clock.Now()}; }
  // What was written is seen by the next request.
  absl::Status Shown(uint64_t seq) const {
    if (d_.wait_for(seq, kPatience)) return absl::OkStatus();
    return absl::UnavailableError("stored, but memory does not show it yet");
  }
  absl::Status ShownNow() const {
    SIGNET_ASSIGN_OR_RETURN(const uint64_t seq, d_.store.LastSeq());
    return Shown(seq);
  }
  template <typename Record, typename Out>
  absl::Status Answer(const absl::StatusOr<Record>& stored, Out& out) const {
    SIGNET_RETURN_IF_ERROR(stored.status());
    ToWire(*stored, out);
    return Shown(stored->rev);
  }
  template <typename Record, typename Out>
  static absl::Status Show(const absl::StatusOr<Record>& stored, Out& out) {
    if (stored.ok()) ToWire(*stored, out);
    return stored.status();
  }
  template <typename Record, typename Out>
  static absl::Status ShowPage(const absl::StatusOr<Page<Record>>& page, Out* items, std::string* next) {
    SIGNET_RETURN_IF_ERROR(page.status());
    for (const Record& record : page->items) ToWire(record, *items->Add());
    *next = page->next;
    return absl::OkStatus();
  }

  absl::Status Audited(const std::string& rpc, const AdminCaller& caller, const Message& request,
                       const Message& response, absl::Status status);
  absl::Status CheckPrincipal(const AdminCaller& caller, const std::string& grant) const;
  absl::Status Stop(RevokeChange change) const;

  absl::Status CreateIdentity(const AdminCaller&, const token::v1::Identity& in, token::v1::Identity& out);
  absl::Status UpdateIdentity(const AdminCaller&, const token::v1::Identity& in, token::v1::Identity& out);
  absl::Status GetIdentity(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Identity& out);
  absl::Status ListIdentities(const AdminCaller&, const token::v1::ListRequest& in,
                              token::v1::ListIdentitiesResponse& out);
  absl::Status SetIdentityState(const AdminCaller&, const token::v1::SetIdentityStateRequest& in,
                                token::v1::Identity& out);
  absl::Status PutIssuer(const AdminCaller&, const token::v1::Issuer& in, token::v1::Issuer& out);
  absl::Status GetIssuer(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Issuer& out);
  absl::Status DeleteIssuer(const AdminCaller&, const token::v1::GetRequest& in, Empty& out);
  absl::Status ListIssuers(const AdminCaller&, const token::v1::ListRequest& in, token::v1::ListIssuersResponse& out);
  absl::Status PutResource(const AdminCaller&, const token::v1::Resource& in, token::v1::Resource& out);
  absl::Status GetResource(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Resource& out);
  absl::Status DeleteResource(const AdminCaller&, const token::v1::GetRequest& in, Empty& out);
  absl::Status ListResources(const AdminCaller&, const token::v1::ListRequest& in,
                             token::v1::ListResourcesResponse& out);
  absl::Status CreateGrant(const AdminCaller&, const token::v1::Grant& in, token::v1::Grant& out);
  absl::Status GetGrant(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Grant& out);
  absl::Status ListGrants(const AdminCaller&, const token::v1::ListRequest& in, token::v1::ListGrantsResponse& out);
  absl::Status CreateTask(const AdminCaller& caller, const token::v1::Task& in, token::v1::Task& out);
  absl::Status GetTask(const AdminCaller& caller, const token::v1::GetRequest& in, token::v1::Task& out);
  absl::Status CloseTask(const AdminCaller& caller, const token::v1::GetRequest& in, token::v1::Task& out);
  absl::Status ListTasks(const AdminCaller&, const token::v1::ListRequest& in, token::v1::ListTasksResponse& out);
  absl::Status PutUserRights(const AdminCaller&, const token::v1::UserRights& in, token::v1::UserRights& out);
  absl::Status ListUserRights(const AdminCaller&, const token::v1::ListRequest& in,
                              token::v1::ListUserRightsResponse& out);
  absl::Status Revoke(const AdminCaller&, const token::v1::RevokeRequest& in, token::v1::Revocation& out);
  absl::Status Reinstate(const AdminCaller&, const token::v1::RevokeRequest& in, token::v1::Revocation& out);
  absl::Status ListRevocations(const AdminCaller&, const token::v1::ListRequest& in,
                               token::v1::ListRevocationsResponse& out);
  void ShowDeath(token::v1::Grant& out) const;
  void ShowKey(const TokenKeys::Key& key, token::v1::SigningKey& out) const;
  absl::Status ListSigningKeys(const AdminCaller&, const Empty&, token::v1::ListSigningKeysResponse& out);
  absl::Status PrepareSigningKey(const AdminCaller&, const Empty&, token::v1::SigningKey& out);
  absl::Status ActivateSigningKey(const AdminCaller&, const token::v1::GetRequest& in, token::v1::SigningKey& out);
  absl::Status RotateSigningKey(const AdminCaller&, const Empty&, token::v1::SigningKey& out);
  absl::Status GetChain(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Chain& out);
  absl::Status ListAudit(const AdminCaller&, const token::v1::ListAuditRequest& in, token::v1::ListAuditResponse& out);
  absl::Status VerifyAudit(const AdminCaller&, const token::v1::VerifyAuditRequest& in,
                           token::v1::VerifyAuditResponse& out);
  absl::Status ListAlerts(const AdminCaller&, const token::v1::ListRequest& in, token::v1::ListAlertsResponse& out);
  absl::Status Explain(const AdminCaller&, const token::v1::ExplainRequest& in, token::v1::ExplainResponse& out);

  const AdministrationDeps d_;
  std::map<std::string, Handler, std::less<>> handlers_;
  // T5: a resource and an issuer of one name are not both written at once.
  std::mutex names_mutex_;
  Executor executor_{{"admin", 2, 256}};  // last: runs what waits before the rest goes
};

// --- audit, principals
// ------------------------------------------------------------------------------------------------

absl::Status StoreAdministration::Audited(const std::string& rpc, const AdminCaller& caller, const Message& request,
                                          const Message& response, absl::Status status) {
  boost::json::object record = AdminAuditRecord(rpc, caller, request, response, status);
  const absl::Status audited =
      AwaitStatus([&](auto done) { d_.audit.Append(std::move(record), Consume{}, std::move(done)); });
  if (status.ok() && !audited.ok()) {
    return absl::UnavailableError(absl::StrCat("done, but the audit did not take it: ", audited.message()));
  }
  return status;
}

// T8: the principals of a grant make tasks under it, and nobody the task constrains.
absl::Status StoreAdministration::CheckPrincipal(const AdminCaller& caller, const std::string& grant_id) const {
  if (caller.administrator) return absl::OkStatus();
  const std::shared_ptr<const GrantRecord> grant = grant_id.empty() ? nullptr : d_.registry.FindGrant(grant_id);
  const bool named = grant != nullptr && std::find(grant->principals.begin(), grant->principals.end(), caller.name) !=
                                             grant->principals.end();
  // The same answer for a grant that is not there: who is no principal learns nothing.
  if (!named) return absl::PermissionDeniedError(absl::StrCat(caller.name, " is no principal of this grant"));
  return absl::OkStatus();
}

// --- identities
// -------------------------------------------------------------------------------------------------------

absl::Status StoreAdministration::CreateIdentity(const AdminCaller&, const token::v1::Identity& in,
                                                 token::v1::Identity& out) {
  SIGNET_ASSIGN_OR_RETURN(IdentityRecord record, ReadIdentity(in, nullptr, Input()));
  return Answer(Await<IdentityRecord>(
                    [&](auto done) { d_.store.CreateIdentity(std::move(record), d_.clock.Now(), std::move(done)); }),
                out);
}

absl::Status StoreAdministration::UpdateIdentity(const AdminCaller&, const token::v1::Identity& in,
                                                 token::v1::Identity& out) {
  const std::shared_ptr<const IdentityRecord> stored = d_.registry.FindIdentity(in.spiffe_id());
  if (stored == nullptr) {
    return absl::NotFoundError(absl::StrCat("identity \"", absl::CEscape(in.spiffe_id()), "\" does not exist"));
  }
  SIGNET_ASSIGN_OR_RETURN(IdentityRecord record, ReadIdentity(in, stored.get(), Input()));
  return Answer(Await<IdentityRecord>(
                    [&](auto done) { d_.store.UpdateIdentity(std::move(record), d_.clock.Now(), std::move(done)); }),
                out);
}

absl::Status StoreAdministration::GetIdentity(const AdminCaller&, const token::v1::GetRequest& in,
                                              token::v1::Identity& out) {
  if (in.id().empty()) return Missing("id");
  return Show(d_.store.GetIdentity(in.id()), out);
}

absl::Status StoreAdministration::ListIdentities(const AdminCaller&, const token::v1::ListRequest& in,
                                                 token::v1::ListIdentitiesResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  return ShowPage(d_.store.ListIdentities(page), out.mutable_identities(), out.mutable_next_page_token());
}

absl::Status StoreAdministration::SetIdentityState(const AdminCaller&, const token::v1::SetIdentityStateRequest& in,
                                                   token::v1::Identity& out) {
  if (in.spiffe_id().empty()) return Missing("spiffe_id");
  const absl::StatusOr<IdentityRecord> stored = d_.store.GetIdentity(in.spiffe_id());
  SIGNET_RETURN_IF_ERROR(stored.status());
  if (in.state() == "active") {
    const absl::Time now = d_.clock.Now();
    if (stored->state == IdentityState::kSuspended) {
      SIGNET_ASSIGN_OR_RETURN(const uint64_t seq, Await<uint64_t>([&](auto done) {
                                d_.store.Reinstate(EntityKind::kIdentity, in.spiffe_id(), now, std::move(done));
                              }));
      SIGNET_RETURN_IF_ERROR(Shown(seq));
    } else {
      const absl::StatusOr<IdentityRecord> active =
          Await<IdentityRecord>([&](auto done) { d_.store.ActivateIdentity(in.spiffe_id(), now, std::move(done)); });
      return Answer(active, out);
    }
  } else if (in.state() == "suspended" || in.state() == "retired") {
    token::v1::RevokeRequest revoke;
    revoke.set_kind("identity");
    revoke.set_entity(in.spiffe_id());
    revoke.set_reason(in.reason());
    SIGNET_ASSIGN_OR_RETURN(oauth::Revocation revocation, ReadRevocation(revoke, d_.clock.Now()));
    SIGNET_RETURN_IF_ERROR(
        Stop({std::move(revocation), in.state() == "retired" ? IdentityState::kRetired : IdentityState::kSuspended}));
  } else {
    return absl::InvalidArgumentError("state: must be active, suspended or retired");
  }
  return Show(d_.store.GetIdentity(in.spiffe_id()), out);
}

// --- issuers, resources
// -----------------------------------------------------------------------------------------------

absl::Status StoreAdministration::PutIssuer(const AdminCaller&, const token::v1::Issuer& in, token::v1::Issuer& out) {
  std::lock_guard lock(names_mutex_);
  SIGNET_ASSIGN_OR_RETURN(const Page<ResourceRecord> resources, d_.store.ListResources({}));
  std::vector<std::string> uris;
  for (const ResourceRecord& resource : resources.items) uris.push_back(resource.uri);
  const std::shared_ptr<const IssuerRecord> stored = d_.registry.FindIssuer(in.url());
  SIGNET_ASSIGN_OR_RETURN(IssuerRecord record, ReadIssuer(in, stored.get(), uris, Input()));
  return Answer(Await<IssuerRecord>([&](auto done) { d_.store.PutIssuer(std::move(record), std::move(done)); }), out);
}

absl::Status StoreAdministration::GetIssuer(const AdminCaller&, const token::v1::GetRequest& in,
                                            token::v1::Issuer& out) {
  if (in.id().empty()) return Missing("id");
  return Show(d_.store.GetIssuer(in.id()), out);
}

absl::Status StoreAdministration::DeleteIssuer(const AdminCaller&, const token::v1::GetRequest& in, Empty&) {
  if (in.id().empty()) return Missing("id");
  SIGNET_RETURN_IF_ERROR(AwaitStatus([&](auto done) { d_.store.DeleteIssuer(in.id(), std::move(done)); }));
  return ShownNow();
}

absl::Status StoreAdministration::ListIssuers(const AdminCaller&, const token::v1::ListRequest& in,
                                              token::v1::ListIssuersResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  return ShowPage(d_.store.ListIssuers(page), out.mutable_issuers(), out.mutable_next_page_token());
}

absl::Status StoreAdministration::PutResource(const AdminCaller&, const token::v1::Resource& in,
                                              token::v1::Resource& out) {
  std::lock_guard lock(names_mutex_);
  SIGNET_ASSIGN_OR_RETURN(const Page<IssuerRecord> issuers, d_.store.ListIssuers({}));
  std::vector<std::string> urls;
  for (const IssuerRecord& issuer : issuers.items) urls.push_back(issuer.url);
  SIGNET_ASSIGN_OR_RETURN(ResourceRecord record, ReadResource(in, urls, Input()));
  return Answer(Await<ResourceRecord>([&](auto done) { d_.store.PutResource(std::move(record), std::move(done)); }),
                out);
}

absl::Status StoreAdministration::GetResource(const AdminCaller&, const token::v1::GetRequest& in,
                                              token::v1::Resource& out) {
  if (in.id().empty()) return Missing("id");
  SIGNET_ASSIGN_OR_RETURN(const std::string uri, oauth::CanonicalResource(in.id()), "id");
  absl::StatusOr<ResourceRecord> record = d_.store.GetResource(uri);
  if (record.ok() && record->tombstone) record = absl::NotFoundError(absl::StrCat("resource ", uri, " was deleted"));
  return Show(record, out);
}

absl::Status StoreAdministration::DeleteResource(const AdminCaller&, const token::v1::GetRequest& in, Empty&) {
  if (in.id().empty()) return Missing("id");
  SIGNET_ASSIGN_OR_RETURN(const std::string uri, oauth::CanonicalResource(in.id()), "id");
  SIGNET_RETURN_IF_ERROR(AwaitStatus([&](auto done) { d_.store.DeleteResource(uri, std::move(done)); }));
  return ShownNow();
}

absl::Status StoreAdministration::ListResources(const AdminCaller&, const token::v1::ListRequest& in,
                                                token::v1::ListResourcesResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest request, ReadPage(in));
  absl::StatusOr<Page<ResourceRecord>> page = d_.store.ListResources(request);
  if (page.ok()) std::erase_if(page->items, [](const ResourceRecord& record) { return record.tombstone; });
  return ShowPage(page, out.mutable_resources(), out.mutable_next_page_token());
}

// --- grants, tasks, rights
// --------------------------------------------------------------------------------------------

absl::Status StoreAdministration::CreateGrant(const AdminCaller&, const token::v1::Grant& in, token::v1::Grant& out) {
  SIGNET_ASSIGN_OR_RETURN(GrantRecord record, ReadGrant(in, Input()));
  return Answer(
      Await<GrantRecord>([&](auto done) { d_.store.CreateGrant(std::move(record), d_.clock.Now(), std::move(done)); }),
      out);
}

absl::Status StoreAdministration::GetGrant(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Grant& out) {
  if (in.id().empty()) return Missing("id");
  SIGNET_RETURN_IF_ERROR(Show(d_.store.GetGrant(in.id()), out));
  ShowDeath(out);
  return absl::OkStatus();
}

absl::Status StoreAdministration::ListGrants(const AdminCaller&, const token::v1::ListRequest& in,
                                             token::v1::ListGrantsResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  SIGNET_RETURN_IF_ERROR(ShowPage(d_.store.ListGrants(page), out.mutable_grants(), out.mutable_next_page_token()));
  for (token::v1::Grant& grant : *out.mutable_grants()) ShowDeath(grant);
  return absl::OkStatus();
}

// Older than a revocation of what it is for: it needs consent anew, as one that a change of its resource voided.
void StoreAdministration::ShowDeath(token::v1::Grant& out) const {
  const auto revocations = d_.registry.revocations();
  const auto grant = d_.registry.FindGrant(out.id());
  if (revocations == nullptr || grant == nullptr || grant->state != GrantState::kActive) return;
  if (IsDead(*grant, *revocations)) out.set_state("void");
}

absl::Status StoreAdministration::CreateTask(const AdminCaller& caller, const token::v1::Task& in,
                                             token::v1::Task& out) {
  SIGNET_RETURN_IF_ERROR(CheckPrincipal(caller, in.grant()));
  SIGNET_ASSIGN_OR_RETURN(TaskRecord record, ReadTask(in, Input()));
  const auto revocations = d_.registry.revocations();
  if (const auto grant = d_.registry.FindGrant(record.grant);
      grant != nullptr && revocations != nullptr && IsDead(*grant, *revocations)) {
    return absl::FailedPreconditionError(
        absl::StrCat("grant: ", grant->id, " is void: its identity, user or issuer was revoked since; grant anew"));
  }
  if (IsOrIsBelow(caller.name, record.identity)) {  // T8, administrator or not
    return absl::PermissionDeniedError(absl::StrCat(caller.name, " may not make the task that constrains it"));
  }
  return Answer(
      Await<TaskRecord>([&](auto done) { d_.store.CreateTask(std::move(record), d_.clock.Now(), std::move(done)); }),
      out);
}

absl::Status StoreAdministration::GetTask(const AdminCaller& caller, const token::v1::GetRequest& in,
                                          token::v1::Task& out) {
  if (in.id().empty()) return Missing("id");
  const absl::StatusOr<TaskRecord> task = d_.store.GetTask(in.id());
  SIGNET_RETURN_IF_ERROR(CheckPrincipal(caller, task.ok() ? task->grant : ""));
  return Show(task, out);
}

absl::Status StoreAdministration::CloseTask(const AdminCaller& caller, const token::v1::GetRequest& in,
                                            token::v1::Task& out) {
  if (in.id().empty()) return Missing("id");
  const absl::StatusOr<TaskRecord> task = d_.store.GetTask(in.id());
  SIGNET_RETURN_IF_ERROR(CheckPrincipal(caller, task.ok() ? task->grant : ""));
  SIGNET_RETURN_IF_ERROR(task.status());
  if (task->state == TaskState::kOpen) {
    oauth::Revocation revocation;
    revocation.kind = EntityKind::kTask;
    revocation.entity = in.id();
    revocation.not_before = absl::FromUnixSeconds(absl::ToUnixSeconds(d_.clock.Now()));
    revocation.reason = "closed";
    SIGNET_RETURN_IF_ERROR(Stop({std::move(revocation), std::nullopt}));
  }
  return Show(d_.store.GetTask(in.id()), out);
}

absl::Status StoreAdministration::ListTasks(const AdminCaller&, const token::v1::ListRequest& in,
                                            token::v1::ListTasksResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  return ShowPage(d_.store.ListTasks(page), out.mutable_tasks(), out.mutable_next_page_token());
}

absl::Status StoreAdministration::PutUserRights(const AdminCaller&, const token::v1::UserRights& in,
                                                token::v1::UserRights& out) {
  SIGNET_ASSIGN_OR_RETURN(UserRightsRecord record, ReadUserRights(in, Input()));
  return Answer(Await<UserRightsRecord>([&](auto done) { d_.store.PutUserRights(std::move(record), std::move(done)); }),
                out);
}

absl::Status StoreAdministration::ListUserRights(const AdminCaller&, const token::v1::ListRequest& in,
                                                 token::v1::ListUserRightsResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  return ShowPage(d_.store.ListUserRights(page), out.mutable_rights(), out.mutable_next_page_token());
}

// --- revocation
// -------------------------------------------------------------------------------------------------------

absl::Status StoreAdministration::Stop(RevokeChange change) const {
  return Await<uint64_t>([&](auto done) { d_.revoker.Revoke(std::move(change), std::move(done)); }).status();
}

absl::Status StoreAdministration::Revoke(const AdminCaller&, const token::v1::RevokeRequest& in,
                                         token::v1::Revocation& out) {
  SIGNET_ASSIGN_OR_RETURN(const oauth::Revocation revocation, ReadRevocation(in, d_.clock.Now()));
  RevokeChange change{revocation, std::nullopt};
  if (revocation.kind == EntityKind::kIdentity) {
    SIGNET_ASSIGN_OR_RETURN(const IdentityRecord identity, d_.store.GetIdentity(revocation.entity));
    // A retired one stays so; its revocation may still be renewed.
    if (identity.state != IdentityState::kRetired) change.identity_state = IdentityState::kSuspended;
  }
  SIGNET_RETURN_IF_ERROR(Stop(std::move(change)));
  return Show(d_.store.GetRevocation(revocation.kind, revocation.entity), out);
}

absl::Status StoreAdministration::Reinstate(const AdminCaller&, const token::v1::RevokeRequest& in,
                                            token::v1::Revocation& out) {
  SIGNET_ASSIGN_OR_RETURN(const oauth::Revocation named, ReadRevocation(in, d_.clock.Now()));
  SIGNET_ASSIGN_OR_RETURN(const uint64_t seq, Await<uint64_t>([&](auto done) {
                            d_.store.Reinstate(named.kind, named.entity, d_.clock.Now(), std::move(done));
                          }));
  SIGNET_RETURN_IF_ERROR(Shown(seq));
  return Show(d_.store.GetRevocation(named.kind, named.entity), out);
}

absl::Status StoreAdministration::ListRevocations(const AdminCaller&, const token::v1::ListRequest& in,
                                                  token::v1::ListRevocationsResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  return ShowPage(d_.store.ListRevocations(page), out.mutable_revocations(), out.mutable_next_page_token());
}

// --- signing keys
// -----------------------------------------------------------------------------------------------------

void StoreAdministration::ShowKey(const TokenKeys::Key& key, token::v1::SigningKey& out) const {
  const auto revocations = d_.registry.revocations();
  ToWire(key, revocations != nullptr && revocations->Find(EntityKind::kSigningKey, key.kid) != nullptr, out);
}

absl::Status StoreAdministration::ListSigningKeys(const AdminCaller&, const Empty&,
                                                  token::v1::ListSigningKeysResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const std::vector<TokenKeys::Key> keys, d_.keys.ListTokenKeys());
  for (const TokenKeys::Key& key : keys) ShowKey(key, *out.add_keys());
  return absl::OkStatus();
}

absl::Status StoreAdministration::PrepareSigningKey(const AdminCaller&, const Empty&, token::v1::SigningKey& out) {
  SIGNET_ASSIGN_OR_RETURN(const TokenKeys::Key key, d_.keys.PrepareTokenKey());
  ShowKey(key, out);
  return absl::OkStatus();
}

absl::Status StoreAdministration::ActivateSigningKey(const AdminCaller&, const token::v1::GetRequest& in,
                                                     token::v1::SigningKey& out) {
  if (in.id().empty()) return Missing("id");
  const auto revocations = d_.registry.revocations();
  if (revocations == nullptr || revocations->Find(EntityKind::kSigningKey, in.id()) != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("token key ", absl::CEscape(in.id()), " is revoked: prepare another"));
  }
  SIGNET_ASSIGN_OR_RETURN(const TokenKeys::Key key, d_.keys.ActivateTokenKey(in.id()));
  ShowKey(key, out);
  return absl::OkStatus();
}

absl::Status StoreAdministration::RotateSigningKey(const AdminCaller&, const Empty&, token::v1::SigningKey& out) {
  SIGNET_ASSIGN_OR_RETURN(const TokenKeys::Key prepared, d_.keys.PrepareTokenKey());
  SIGNET_ASSIGN_OR_RETURN(const TokenKeys::Key key, d_.keys.ActivateTokenKey(prepared.kid));
  ShowKey(key, out);
  return absl::OkStatus();
}

// --- chains, audit, alerts
// --------------------------------------------------------------------------------------------

// `id` is a txn, or TXN/HASH for the line that ends at one receipt: a token names its last one.
absl::Status StoreAdministration::GetChain(const AdminCaller&, const token::v1::GetRequest& in, token::v1::Chain& out) {
  const std::pair<std::string, std::string> id = absl::StrSplit(in.id(), absl::MaxSplits('/', 1));
  if (id.first.empty()) return Missing("id");
  SIGNET_ASSIGN_OR_RETURN(const std::vector<AuditRecord> records, d_.store.ReadAuditOfChain(id.first, kMaxAuditPage));
  out.set_txn(id.first);
  std::string problem;
  std::vector<Hop> hops = HopsOf(records, *d_.signer.receipt_keys(), problem);
  out.set_problem(problem);
  if (hops.empty() && out.problem().empty()) {
    return absl::NotFoundError(absl::StrCat("no receipt of chain \"", absl::CEscape(id.first), "\" is on record"));
  }
  if (!id.second.empty()) {
    hops = PathTo(hops, id.second);
    if (hops.empty()) return absl::NotFoundError("the chain has no such receipt, or not all that lead to it");
  } else if (!IsOneLine(hops) && out.problem().empty()) {
    out.set_problem("several lines: ask for TXN/HASH with the hash of the receipt a token ends with");
  }
  for (const Hop& hop : hops) {
    out.add_receipts(hop.jws);
    ToWire(hop.receipt, *out.add_hops());
  }
  return absl::OkStatus();
}

absl::Status StoreAdministration::ListAudit(const AdminCaller&, const token::v1::ListAuditRequest& in,
                                            token::v1::ListAuditResponse& out) {
  if (in.limit() < 0 || static_cast<size_t>(in.limit()) > kMaxAuditPage) {
    return absl::InvalidArgumentError(absl::StrCat("limit: at most ", kMaxAuditPage));
  }
  const size_t limit = in.limit() == 0 ? kAuditPage : static_cast<size_t>(in.limit());
  const std::string server_id = in.server_id().empty() ? d_.server_id : in.server_id();
  std::vector<AuditRecord> records;
  if (!in.txn().empty()) {
    SIGNET_ASSIGN_OR_RETURN(records, d_.store.ReadAuditOfChain(in.txn(), limit));
  } else {
    SIGNET_ASSIGN_OR_RETURN(const AuditRecord last, d_.store.LastAudit(server_id));
    SIGNET_ASSIGN_OR_RETURN(records, d_.store.ReadAudit(server_id, last.epoch, in.after_seq(), limit));
  }
  for (AuditRecord& record : records) out.add_records(std::move(record.body));
  if (server_id == d_.server_id) out.set_head(d_.audit.head());
  return absl::OkStatus();
}

absl::Status StoreAdministration::VerifyAudit(const AdminCaller&, const token::v1::VerifyAuditRequest& in,
                                              token::v1::VerifyAuditResponse& out) {
  const AuditLog::Verification found =
      d_.audit.Verify(in.server_id().empty() ? d_.server_id : in.server_id(), in.head());
  out.set_proven(found.proven);
  out.set_tail_proven(found.tail_proven);
  out.set_records(found.records);
  out.set_problem(found.problem);
  return absl::OkStatus();
}

absl::Status StoreAdministration::ListAlerts(const AdminCaller&, const token::v1::ListRequest& in,
                                             token::v1::ListAlertsResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(const PageRequest page, ReadPage(in));
  const std::vector<Alert> alerts = d_.alerts.List(page.after, page.limit);
  for (const Alert& alert : alerts) ToWire(alert, *out.add_alerts());
  if (alerts.size() == page.limit) out.set_next_page_token(alerts.back().id);
  return absl::OkStatus();
}

absl::Status StoreAdministration::Explain(const AdminCaller&, const token::v1::ExplainRequest& in,
                                          token::v1::ExplainResponse& out) {
  SIGNET_ASSIGN_OR_RETURN(out, Await<token::v1::ExplainResponse>([&](auto done) { d_.explain(in, std::move(done)); }));
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Administration> MakeAdministration(AdministrationDeps deps) {
  return std::make_unique<StoreAdministration>(std::move(deps));
}

}  // namespace signet::server
