// The dry run of an exchange: the same reading, the same decision, and nothing else. It proves no one's key: a token
// that is bound to one is taken as presented by it.
#include <utility>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <boost/json.hpp>

#include "absl/strings/str_join.h"
#include "common/oauth/access_token.h"
#include "server/token/chain_case.h"
#include "server/token/endpoint_answers.h"
#include "server/token/grants.h"
#include "server/token/issue.h"

namespace signet::server {
namespace {

using Done = absl::AnyInvocable<void(absl::StatusOr<token::v1::ExplainResponse>)>;

void ToProto(const oauth::Atoms& atoms, google::protobuf::RepeatedPtrField<token::v1::Atom>& out) {
  for (const oauth::Atom& atom : atoms) {
    token::v1::Atom& one = *out.Add();
    one.set_resource(atom.resource);
    one.set_action(atom.action);
    one.set_tool(atom.tool);
    one.set_tool_hash(atom.tool_hash);
    if (atom.constraints.empty()) continue;
    const std::string json = boost::json::serialize(oauth::ConstraintsJson(atom.constraints));
    if (!google::protobuf::util::JsonStringToMessage(json, one.mutable_constraints()).ok()) one.clear_constraints();
  }
}

token::v1::ExplainResponse Refused(const OAuthError& error) {
  token::v1::ExplainResponse response;
  response.set_outcome("refused");
  response.set_error(error.error);
  response.set_reason(error.reason);
  response.set_detail(error.detail.empty() ? error.description : error.detail);
  return response;
}

token::v1::ExplainResponse ResponseOf(const TokenServiceDeps& deps, const TokenCall& call,
                                      const GrantCase& grant_case) {
  const Decision decision = Decide(grant_case.input);
  token::v1::ExplainResponse response;
  if (decision.refusal.has_value()) {
    response = Refused(ErrorOf(*decision.refusal));
  } else {
    const oauth::AccessToken token = MakeToken(deps, call.client, grant_case, decision);
    if (const auto blocked = deps.gate.Check(token)) {
      response = Refused(InvalidGrant("revoked", "revoked", *blocked));
    } else {
      response.set_outcome("granted");
      ToProto(decision.granted, *response.mutable_granted());
      response.set_scope(decision.scope);
      response.set_expires_at(absl::FormatTime(absl::RFC3339_sec, token.expires_at, absl::UTCTimeZone()));
      response.set_expiry_bound_by(token.expires_at < decision.expires_at ? "subject_token" : decision.expiry_bound_by);
      response.set_depth(decision.depth);
      response.set_max_depth(decision.max_depth);
    }
  }
  for (const TraceStep& step : decision.trace) {
    token::v1::ExplainResponse::Step& told = *response.add_steps();
    told.set_operand(step.operand);
    told.set_applies(step.applies);
    ToProto(step.removed, *told.mutable_removed());
  }
  return response;
}

// As if the client were here and had proven what the resource and the token demand.
void AsClient(const TokenServiceDeps& deps, const std::string& client_id, TokenCall& call) {
  Client& client = call.client;
  client.id = client_id;
  client.identity = deps.registry.IdentityOf(client_id);
  if (client.identity != nullptr) client.definition = client.identity->spiffe_id;
  client.own_trust_domain = true;
  call.proven.jkt = "dry-run";
}

void Conclude(const TokenServiceDeps& deps, TokenCall& call, GrantCase& grant_case, Done done) {
  if (auto error = ReadRequested(call.request, grant_case)) return done(Refused(*error));
  grant_case.input.binding.jkt = call.proven.jkt;
  if (grant_case.target->minimum_binding == oauth::MinimumBinding::kMtls) {
    grant_case.input.binding.x5t_s256 = "dry-run";
    grant_case.input.certificate_not_after = absl::InfiniteFuture();
  }
  done(ResponseOf(deps, call, grant_case));
}

void ExplainOwn(const TokenServiceDeps& deps, TokenCall& call, GrantCase& grant_case, const oauth::AccessToken& token,
                Done done) {
  auto parent = std::make_shared<const oauth::AccessToken>(token);
  const bool narrows = parent->client_id == call.client.id;
  grant_case.input.kind = narrows ? RequestKind::kNarrow : RequestKind::kNewHop;
  if (narrows) grant_case.input.instance = call.client.instance = parent->context.instance;
  grant_case.input.task = call.request.Get("task");
  FillFromParent(deps, parent, nullptr, grant_case);
  const std::string fallback = narrows ? parent->audience : OnlyCarried(*parent);
  if (auto error = ReadTargets(deps, call.request, fallback, grant_case)) return done(Refused(*error));
  Conclude(deps, call, grant_case, std::move(done));
}

void ExplainFirstHop(const TokenServiceDeps& deps, TokenCall& call, GrantCase& grant_case, const UserToken& user,
                     Done done) {
  if (const auto task = deps.registry.FindTask(call.request.Get("task")); task != nullptr && !task->instance.empty()) {
    grant_case.input.instance = call.client.instance = task->instance;  // it is bound already: as if by that one
  }
  if (auto error = FillFirstHop(deps, call.request, user, grant_case)) return done(Refused(*error));
  Conclude(deps, call, grant_case, std::move(done));
}

TokenRequest FormOf(const token::v1::ExplainRequest& request) {
  TokenRequest form;
  form.form["scope"] = absl::StrJoin(request.scopes(), " ");
  form.form["authorization_details"] = request.authorization_details();
  form.form["task"] = request.task();
  form.form["grant"] = request.grant();
  if (!request.resource().empty()) form.resources.push_back(request.resource());
  return form;
}

}  // namespace

void ExplainExchange(const TokenServiceDeps& deps, token::v1::ExplainRequest request, Done done) {
  auto call = std::make_shared<TokenCall>();
  auto grant_case = std::make_shared<GrantCase>();
  call->request = FormOf(request);
  call->now = deps.clock.Now();
  grant_case->rev = deps.registry.seq();
  AsClient(deps, request.client_id(), *call);
  ReadClient(*call, *grant_case);

  if (request.grant_type() == "client_credentials") {
    if (call->client.identity == nullptr)
      return done(Refused({400, "unauthorized_client", "no identity record", "", ""}));
    grant_case->input.kind = RequestKind::kClientCredentials;
    if (auto error = ReadTargets(deps, call->request, "", *grant_case)) return done(Refused(*error));
    return Conclude(deps, *call, *grant_case, std::move(done));
  }
  if (!request.grant_type().empty() && request.grant_type() != kTokenExchangeGrant &&
      request.grant_type() != "token-exchange") {
    return done(absl::InvalidArgumentError("grant_type: client_credentials or token-exchange"));
  }
  if (request.subject_token().empty()) {
    UserToken user;
    user.issuer = deps.registry.FindIssuer(request.user().issuer());
    if (user.issuer == nullptr) return done(absl::NotFoundError("no such issuer; give user.issuer or a subject_token"));
    user.subject = request.user().subject();
    // Without a token all that the issuer's rights can mean stands in for the user's.
    for (const auto& [name, atoms] : user.issuer->rights) {
      user.rights.insert(user.rights.end(), atoms.begin(), atoms.end());
    }
    if (absl::StatusOr<oauth::Atoms> rights = oauth::Normalize(user.rights); rights.ok()) user.rights = *rights;
    user.issued_at = call->now;
    user.expires_at = absl::InfiniteFuture();
    return ExplainFirstHop(deps, *call, *grant_case, user, std::move(done));
  }
  const absl::StatusOr<oauth::AccessToken> own =
      oauth::Verify(request.subject_token(), *deps.signer.token_keys(), deps.issuer, call->now);
  if (own.ok()) return ExplainOwn(deps, *call, *grant_case, *own, std::move(done));
  TokenPresenter presenter{call->client.id, call->client.definition, {}};
  ReadUserToken(deps, request.subject_token(), std::move(presenter), call->now,
                [&deps, call, grant_case, done = std::move(done)](absl::StatusOr<UserToken> user) mutable {
                  if (!user.ok()) {
                    return done(Refused(InvalidRequest("subject token", std::string(user.status().message()))));
                  }
                  ExplainFirstHop(deps, *call, *grant_case, *user, std::move(done));
                });
}

}  // namespace signet::server
