// `signet status`: state at a glance. `signet doctor`: the same looked through, with advice.
#include <memory>
#include <ostream>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "spire/api/agent/debug/v1/debug.grpc.pb.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/debug/v1/debug.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"
#include "tools/cli/workload_commands.h"

namespace signet::cli {
namespace {

namespace server_debug = ::spire::api::server::debug::v1;
namespace agent_debug = ::spire::agent::debug::v1;
namespace agent_api = ::spire::api::server::agent::v1;
using google::protobuf::Struct;
using google::protobuf::Value;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckResponse;

struct Flags {
  std::string agent_socket, workload_socket;
};

absl::StatusOr<bool> IsServing(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = Health::NewStub(channel);
  HealthCheckResponse response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &Health::Stub::Check, {}, response));
  return response.status() == HealthCheckResponse::SERVING;
}

absl::StatusOr<server_debug::GetInfoResponse> ServerInfo(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = server_debug::Debug::NewStub(channel);
  server_debug::GetInfoResponse info;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &server_debug::Debug::Stub::GetInfo, {}, info));
  return info;
}

absl::StatusOr<agent_debug::GetInfoResponse> AgentInfo(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = agent_debug::Debug::NewStub(channel);
  agent_debug::GetInfoResponse info;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &agent_debug::Debug::Stub::GetInfo, {}, info));
  return info;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> AgentChannel(const Flags& flags) {
  return SocketChannel(flags.agent_socket.empty() ? kAgentSocket : flags.agent_socket, "signet-agent");
}

Value JsonOf(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = options.always_print_primitive_fields = true;
  std::string json;
  Value value;
  if (google::protobuf::util::MessageToJsonString(message, &json, options).ok()) {
    (void)google::protobuf::util::JsonStringToMessage(json, &value);
  }
  return value;
}

template <typename Info>
void AddSvid(Facts& facts, const Info& info, absl::Time now) {
  if (info.svid_chain().empty()) return;
  facts.Add("  identity", IdText(info.svid_chain(0).id()));
  facts.Add("  until", TimeText(absl::FromUnixSeconds(info.svid_chain(0).expires_at()), now));
}

absl::Status ServerStatus(Context& context, Facts& facts, Struct& json) {
  SIGNET_ASSIGN_OR_RETURN(const auto channel, ServerChannel(context));
  SIGNET_ASSIGN_OR_RETURN(const server_debug::GetInfoResponse info, ServerInfo(channel));
  const absl::StatusOr<bool> serving = IsServing(channel);
  facts.Add("signet-server", !serving.ok() ? "runs" : *serving ? "ready" : "not ready: signet doctor says more");
  AddSvid(facts, info, context.clock.Now());
  facts.Add("  up for", DurationText(absl::Seconds(info.uptime())));
  facts.Add("  agents", absl::StrCat(info.agents_count()));
  facts.Add("  entries", absl::StrCat(info.entries_count()));
  facts.Add("  federated bundles", absl::StrCat(info.federated_bundles_count()));
  (*json.mutable_fields())["server"] = JsonOf(info);
  return absl::OkStatus();
}

absl::Status AgentStatus(Context& context, const Flags& flags, Facts& facts, Struct& json) {
  SIGNET_ASSIGN_OR_RETURN(const auto channel, AgentChannel(flags));
  SIGNET_ASSIGN_OR_RETURN(const agent_debug::GetInfoResponse info, AgentInfo(channel));
  const absl::Time now = context.clock.Now();
  facts.Add("signet-agent", "runs");
  AddSvid(facts, info, now);
  facts.Add("  up for", DurationText(absl::Seconds(info.uptime())));
  facts.Add("  cached", absl::StrCat(info.cached_x509_svids_count(), " X.509-SVIDs, ", info.cached_jwt_svids_count(),
                                     " JWT-SVIDs"));
  if (info.last_sync_success() != 0) {
    facts.Add("  last word of server", TimeText(absl::FromUnixSeconds(info.last_sync_success()), now));
  }
  (*json.mutable_fields())["agent"] = JsonOf(info);
  return absl::OkStatus();
}

// A machine may have the one, the other, or both: only when neither answers does the command fail.
absl::Status Status(Context& context, const Flags& flags) {
  Facts facts;
  Struct json;
  const absl::Status server = ServerStatus(context, facts, json);
  const absl::Status agent = AgentStatus(context, flags, facts, json);
  if (!server.ok() && !agent.ok()) {
    return WithNextStep(
        absl::Status(server.code(), absl::StrCat(server.message(), "\n", agent.message())),
        "start one of them, or say by --socket and --agent-socket where they listen; signet doctor says more");
  }
  if (context.json()) return PrintJson(context, json);
  facts.Print(context.out);
  for (const absl::Status& one : {server, agent}) {
    if (!one.ok()) context.out << "(" << one.message() << ")\n";
  }
  return absl::OkStatus();
}

class Report {
 public:
  void Good(std::string what) { findings_.push_back({"ok", std::move(what), ""}); }
  void Warn(std::string what, std::string advice) { findings_.push_back({"warn", std::move(what), std::move(advice)}); }
  void Bad(std::string what, std::string advice) { findings_.push_back({"BAD", std::move(what), std::move(advice)}); }
  void Bad(const absl::Status& status, std::string advice) { Bad(std::string(status.message()), std::move(advice)); }

  absl::Status Print(Context& context) const {
    size_t bad = 0;
    Struct json;
    for (const Finding& finding : findings_) {
      bad += finding.state == "BAD" ? 1 : 0;
      if (context.json()) {
        Struct& one = *(*json.mutable_fields())["findings"].mutable_list_value()->add_values()->mutable_struct_value();
        (*one.mutable_fields())["state"].set_string_value(finding.state);
        (*one.mutable_fields())["what"].set_string_value(finding.what);
        (*one.mutable_fields())["advice"].set_string_value(finding.advice);
        continue;
      }
      context.out << finding.state << std::string(6 - finding.state.size(), ' ') << Safe(finding.what) << "\n";
      if (!finding.advice.empty()) context.out << "      -> " << Safe(finding.advice) << "\n";
    }
    if (context.json()) SIGNET_RETURN_IF_ERROR(PrintJson(context, json));
    if (bad == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(CountText(bad, "thing needs", "things need"), " attention"));
  }

 private:
  struct Finding {
    std::string state, what, advice;
  };
  std::vector<Finding> findings_;
};

void ExamineSvid(Report& report, absl::string_view whose, absl::Time expires, absl::Time now) {
  if (expires < now) {
    report.Bad(absl::StrCat(whose, " expired ", DurationText(now - expires), " ago"),
               "compare this machine's clock with the server's; then look at its log for what keeps it from renewing");
  } else if (expires < now + absl::Minutes(5)) {
    report.Warn(absl::StrCat(whose, " expires in ", DurationText(expires - now)),
                "it is renewed at half its life: unless that is so short, look at its log");
  } else {
    report.Good(absl::StrCat(whose, " is valid for ", DurationText(expires - now)));
  }
}

void ExamineAgents(Report& report, const std::shared_ptr<grpc::Channel>& channel, absl::Time now) {
  const auto stub = agent_api::Agent::NewStub(channel);
  agent_api::ListAgentsRequest request;
  request.set_page_size(500);
  size_t active = 0, banned = 0, expired = 0;
  do {
    agent_api::ListAgentsResponse page;
    if (const absl::Status listed = Call(*stub, &agent_api::Agent::Stub::ListAgents, request, page); !listed.ok()) {
      report.Bad(listed, "look at the server's log");
      return;
    }
    for (const auto& agent : page.agents()) {
      const bool over = absl::FromUnixSeconds(agent.x509svid_expires_at()) < now;
      (agent.banned() ? banned : over ? expired : active)++;
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  if (active > 0) {
    report.Good(CountText(active, "agent is active", "agents are active"));
  } else {
    report.Warn("no agent is active", "signet token generate makes a join token for one");
  }
  if (expired > 0) {
    report.Warn(CountText(expired, "agent has expired", "agents have expired"),
                "signet agent list shows which; signet agent purge evicts those that can attest again");
  }
  if (banned > 0)
    report.Warn(CountText(banned, "agent is banned", "agents are banned"), "signet agent list --banned shows which");
}

void ExamineServer(Context& context, Report& report) {
  const auto channel = ServerChannel(context);
  if (!channel.ok()) {
    report.Warn(std::string(channel.status().message()),
                "fine on a machine without a server; else systemctl status signet-server");
    return;
  }
  const auto info = ServerInfo(*channel);
  if (!info.ok()) {
    report.Bad(absl::StrCat("signet-server does not answer: ", info.status().message()), "look at its log");
    return;
  }
  report.Good(absl::StrCat("signet-server answers, up for ", DurationText(absl::Seconds(info->uptime()))));
  const absl::StatusOr<bool> serving = IsServing(*channel);
  if (serving.ok() && !*serving) report.Bad("signet-server is not ready", "curl its /readyz for the reasons");
  if (!info->svid_chain().empty()) {
    ExamineSvid(report, "the server's own certificate", absl::FromUnixSeconds(info->svid_chain(0).expires_at()),
                context.clock.Now());
  }
  ExamineAgents(report, *channel, context.clock.Now());
  if (info->entries_count() == 0) {
    report.Warn("there are no registration entries: no workload gets an identity",
                "signet entry create --help has an example");
  } else {
    report.Good(CountText(static_cast<size_t>(info->entries_count()), "registration entry", "registration entries"));
  }
}

void ExamineAgent(Context& context, const Flags& flags, Report& report) {
  const auto channel = AgentChannel(flags);
  if (!channel.ok()) {
    report.Warn(std::string(channel.status().message()),
                "fine on a machine without an agent; else systemctl status signet-agent");
    return;
  }
  const auto info = AgentInfo(*channel);
  if (!info.ok()) {
    report.Bad(absl::StrCat("signet-agent does not answer: ", info.status().message()), "look at its log");
    return;
  }
  const absl::Time now = context.clock.Now();
  report.Good(absl::StrCat("signet-agent answers, up for ", DurationText(absl::Seconds(info->uptime()))));
  if (info->svid_chain().empty()) {
    report.Bad("signet-agent has no identity of its own yet", "look at its log: the server is away, or refuses it");
  } else {
    ExamineSvid(report, "the agent's own SVID", absl::FromUnixSeconds(info->svid_chain(0).expires_at()), now);
  }
  const absl::Time heard = absl::FromUnixSeconds(info->last_sync_success());
  if (info->last_sync_success() != 0 && now - heard > absl::Minutes(5)) {
    report.Warn(absl::StrCat("the agent last heard of the server ", DurationText(now - heard), " ago"),
                "it serves what it holds; check that the server runs and server_address is reached from here");
  }
}

void ExamineWorkload(Context& context, const Flags& flags, Report& report) {
  const absl::StatusOr<WorkloadProbe> probe = ProbeWorkloadApi(flags.workload_socket);
  if (!probe.ok()) {
    report.Warn(std::string(probe.status().message()), "workloads reach it by SPIFFE_ENDPOINT_SOCKET=unix://PATH");
  } else if (!probe->refusal.ok()) {
    report.Warn(
        absl::StrCat("the Workload API answers this process: ", probe->refusal.message()),
        "expected unless this process is registered; signet entry create --selector unix:uid:$(id -u) ... would do so");
  } else {
    for (const auto& [id, expires] : probe->svids)
      ExamineSvid(report, absl::StrCat("this process's SVID ", id), expires, context.clock.Now());
  }
}

absl::Status Doctor(Context& context, const Flags& flags) {
  Report report;
  ExamineServer(context, report);
  ExamineAgent(context, flags, report);
  ExamineWorkload(context, flags, report);
  return report.Print(context);
}

}  // namespace

void AddStatusCommands(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  const auto sockets = [flags](CLI::App& verb) {
    verb.add_option("--agent-socket", flags->agent_socket, "the agent's admin socket (/run/signet/agent/admin.sock)");
  };
  CLI::App& status = AddVerb(app, context, "status", "the server and the agent of this machine at a glance",
                             "signet status", Target::kServer);
  sockets(status);
  status.callback([&context, flags] { context.action = [&context, flags] { return Status(context, *flags); }; });

  CLI::App& doctor =
      AddVerb(app, context, "doctor", "look through every part and advise; fails when something needs attention",
              "signet doctor", Target::kServer);
  sockets(doctor);
  doctor.add_option("--workload-socket", flags->workload_socket,
                    "the Workload API's ($SPIFFE_ENDPOINT_SOCKET, else /run/signet/workload/api.sock)");
  doctor.callback([&context, flags] { context.action = [&context, flags] { return Doctor(context, *flags); }; });
}

}  // namespace signet::cli
