// `signet agent`: list, show, count, ban, evict, purge.
#include <map>
#include <memory>
#include <ostream>

#include <google/protobuf/empty.pb.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/load.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

using namespace ::spire::api::server::agent::v1;  // NOLINT: the one API of this file
namespace wire = ::spire::api::types;
using AgentStub = Agent::Stub;

constexpr int kPage = 500;
constexpr char kListAdvice[] = "signet agent list shows the agents there are";

absl::StatusOr<std::unique_ptr<AgentStub>> Connect(const Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ServerChannel(context));
  return Agent::NewStub(channel);
}

absl::Status SetId(const std::string& text, wire::SPIFFEID* out) {
  const absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
  if (!id.ok()) return UsageError(absl::StrCat("agent ID: ", id.status().message()));
  spiffe::ToWire(*id, out);
  return absl::OkStatus();
}

struct FilterFlags {
  std::string attestation_type, match = "superset";
  std::vector<std::string> selectors;
  bool banned = false, can_reattest = false;

  void AddTo(CLI::App& verb) {
    verb.add_option("--attestation-type", attestation_type, "only agents attested by this, such as join_token");
    AddList(verb, "--selector", selectors, "only agents whose selectors match these; repeatable");
    verb.add_option("--match", match, "how: the agent's selectors are ... of the given ones")
        ->check(CLI::IsMember({"exact", "subset", "superset", "any"}));
    verb.add_flag("--banned,!--not-banned", banned, "only agents that are banned, or are not");
    verb.add_flag("--can-reattest,!--cannot-reattest", can_reattest, "only agents that can attest again, or cannot");
  }

  template <typename Filter>
  absl::Status Fill(const CLI::App& verb, Filter& filter) const {
    static const std::map<std::string, int> kMatches = {{"exact", 0}, {"subset", 1}, {"superset", 2}, {"any", 3}};
    filter.set_by_attestation_type(attestation_type);
    for (const std::string& text : selectors) {
      const absl::StatusOr<spiffe::Selector> selector = spiffe::Selector::Parse(text);
      if (!selector.ok()) return UsageError(absl::StrCat("--selector: ", selector.status().message()));
      auto& matches = *filter.mutable_by_selector_match();
      matches.set_match(static_cast<wire::SelectorMatch::MatchBehavior>(kMatches.at(match)));
      wire::Selector& out = *matches.add_selectors();
      out.set_type(selector->type);
      out.set_value(selector->value);
    }
    if (verb.count("--banned") > 0) filter.mutable_by_banned()->set_value(banned);
    if (verb.count("--can-reattest") > 0) filter.mutable_by_can_reattest()->set_value(can_reattest);
    return absl::OkStatus();
  }
};

absl::StatusOr<std::vector<wire::Agent>> ListAll(AgentStub& stub, ListAgentsRequest request) {
  std::vector<wire::Agent> agents;
  request.set_page_size(kPage);
  for (;;) {
    ListAgentsResponse page;
    SIGNET_RETURN_IF_ERROR(Call(stub, &AgentStub::ListAgents, request, page));
    for (wire::Agent& agent : *page.mutable_agents()) agents.push_back(std::move(agent));
    if (page.next_page_token().empty()) return agents;
    request.set_page_token(page.next_page_token());
  }
}

std::string State(const wire::Agent& agent, absl::Time now) {
  if (agent.banned()) return "banned";
  return absl::FromUnixSeconds(agent.x509svid_expires_at()) < now ? "expired" : "active";
}

absl::Status List(Context& context, const FilterFlags& flags, const CLI::App& verb) {
  ListAgentsRequest request;
  SIGNET_RETURN_IF_ERROR(flags.Fill(verb, *request.mutable_filter()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  SIGNET_ASSIGN_OR_RETURN(std::vector<wire::Agent> agents, ListAll(*stub, request));
  if (context.json()) {
    ListAgentsResponse all;
    for (wire::Agent& agent : agents) *all.add_agents() = std::move(agent);
    return PrintJson(context, all);
  }
  if (agents.empty()) {
    context.out << "no agents\n";
    return absl::OkStatus();
  }
  const absl::Time now = context.clock.Now();
  Table table({"ID", "ATTESTED BY", "STATE", "SVID EXPIRES", "VERSION"});
  for (const wire::Agent& agent : agents) {
    table.Add({IdText(agent.id()), Safe(agent.attestation_type()), State(agent, now),
               TimeText(absl::FromUnixSeconds(agent.x509svid_expires_at()), now), Safe(agent.agent_version())});
  }
  table.Print(context.out);
  return absl::OkStatus();
}

absl::Status Show(Context& context, const std::string& id) {
  GetAgentRequest request;
  SIGNET_RETURN_IF_ERROR(SetId(id, request.mutable_id()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  wire::Agent agent;
  SIGNET_RETURN_IF_ERROR(WithNextStep(Call(*stub, &AgentStub::GetAgent, request, agent), kListAdvice));
  if (context.json()) return PrintJson(context, agent);
  const absl::Time now = context.clock.Now();
  Facts facts;
  facts.Add("id", IdText(agent.id()));
  facts.Add("state", State(agent, now));
  facts.Add("attested by", Safe(agent.attestation_type()));
  for (const wire::Selector& selector : agent.selectors()) facts.Add("selector", SelectorText(selector));
  facts.Add("svid serial", Safe(agent.x509svid_serial_number()));
  facts.Add("svid expires", TimeText(absl::FromUnixSeconds(agent.x509svid_expires_at()), now));
  facts.Add("can attest again", agent.can_reattest() ? "yes" : "no");
  facts.Add("version", Safe(agent.agent_version()));
  facts.Print(context.out);
  return absl::OkStatus();
}

absl::Status Count(Context& context, const FilterFlags& flags, const CLI::App& verb) {
  CountAgentsRequest request;
  SIGNET_RETURN_IF_ERROR(flags.Fill(verb, *request.mutable_filter()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  CountAgentsResponse response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &AgentStub::CountAgents, request, response));
  if (context.json()) return PrintJson(context, response);
  context.out << response.count() << "\n";
  return absl::OkStatus();
}

absl::Status Ban(Context& context, const std::string& id) {
  BanAgentRequest request;
  SIGNET_RETURN_IF_ERROR(SetId(id, request.mutable_id()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  google::protobuf::Empty response;
  SIGNET_RETURN_IF_ERROR(WithNextStep(Call(*stub, &AgentStub::BanAgent, request, response), kListAdvice));
  if (context.json()) return PrintJson(context, response);
  context.out << "banned " << IdText(request.id()) << "; evict it to let the node attest again\n";
  return absl::OkStatus();
}

absl::Status Evict(Context& context, const std::string& id) {
  DeleteAgentRequest request;
  SIGNET_RETURN_IF_ERROR(SetId(id, request.mutable_id()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  google::protobuf::Empty response;
  SIGNET_RETURN_IF_ERROR(WithNextStep(Call(*stub, &AgentStub::DeleteAgent, request, response), kListAdvice));
  if (context.json()) return PrintJson(context, response);
  context.out << "evicted " << IdText(request.id()) << "\n";
  return absl::OkStatus();
}

// Deletes the agents that expired long ago and could attest again if they came back, as SPIRE does: the record of one
// that could not (a spent join token) is what keeps its node known.
absl::Status Purge(Context& context, const std::string& expired_for, bool dry_run) {
  config::Errors errors;
  const absl::Duration age = config::ParseDuration("--expired-for", expired_for, absl::Hours(720), errors);
  if (!errors.empty()) return UsageError(errors.ToStatus().message());
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  ListAgentsRequest request;
  request.mutable_filter()->mutable_by_can_reattest()->set_value(true);
  request.mutable_filter()->mutable_by_banned()->set_value(false);
  SIGNET_ASSIGN_OR_RETURN(const std::vector<wire::Agent> agents, ListAll(*stub, request));
  const absl::Time now = context.clock.Now();
  ListAgentsResponse purged;
  for (const wire::Agent& agent : agents) {
    if (absl::FromUnixSeconds(agent.x509svid_expires_at()) > now - age) continue;
    if (!dry_run) {
      DeleteAgentRequest remove;
      *remove.mutable_id() = agent.id();
      google::protobuf::Empty response;
      const absl::Status removed = Call(*stub, &AgentStub::DeleteAgent, remove, response);
      if (!removed.ok() && !absl::IsNotFound(removed)) return WithContext(removed, IdText(agent.id()));
    }
    if (!context.json()) context.out << (dry_run ? "would evict " : "evicted ") << IdText(agent.id()) << "\n";
    *purged.add_agents() = agent;
  }
  if (context.json()) return PrintJson(context, purged);
  if (purged.agents().empty()) context.out << "no agent expired more than " << DurationText(age) << " ago\n";
  return absl::OkStatus();
}

}  // namespace

void AddAgentCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("agent", "attested nodes");
  noun.require_subcommand(1);
  auto filter = std::make_shared<FilterFlags>();
  auto id = std::make_shared<std::string>();
  auto expired_for = std::make_shared<std::string>("720h");
  auto dry_run = std::make_shared<bool>(false);
  const std::string example_id = "spiffe://example.org/spire/agent/join_token/TOKEN";

  CLI::App& list = AddVerb(noun, context, "list", "all agents, or those that the filters let through",
                           "signet agent list --attestation-type join_token", Target::kServer);
  filter->AddTo(list);
  list.callback([&context, filter, &list] {
    context.action = [&context, filter, &list] { return List(context, *filter, list); };
  });

  CLI::App& count =
      AddVerb(noun, context, "count", "how many agents there are", "signet agent count --banned", Target::kServer);
  filter->AddTo(count);
  count.callback([&context, filter, &count] {
    context.action = [&context, filter, &count] { return Count(context, *filter, count); };
  });

  const auto by_id = [&](const char* name, const char* description, absl::Status (*run)(Context&, const std::string&)) {
    CLI::App& verb = AddVerb(noun, context, name, description, absl::StrCat("signet agent ", name, " ", example_id),
                             Target::kServer);
    verb.add_option("id,--spiffe-id,--id", *id, "the agent's SPIFFE ID")->required();
    verb.callback([&context, id, run] { context.action = [&context, id, run] { return run(context, *id); }; });
  };
  by_id("show", "one agent in full", &Show);
  by_id("ban", "refuse the agent for good and end its streams at once", &Ban);
  by_id("evict", "forget the agent; its node may attest again if its attestor allows it", &Evict);

  CLI::App& purge = AddVerb(noun, context, "purge", "evict agents that expired long ago and could attest again",
                            "signet agent purge --expired-for 720h --dry-run", Target::kServer);
  purge.add_option("--expired-for", *expired_for, "how long ago (720h)");
  purge.add_flag("--dry-run", *dry_run, "only show them");
  purge.callback([&context, expired_for, dry_run] {
    context.action = [&context, expired_for, dry_run] { return Purge(context, *expired_for, *dry_run); };
  });
}

}  // namespace signet::cli
