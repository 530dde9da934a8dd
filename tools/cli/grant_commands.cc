// `signet grant` and `signet task`: what a user consented to, and one piece of work within it.
#include "absl/strings/str_join.h"
#include "common/fs/atomic_file.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

using token_v1::Grant;
using token_v1::Task;

struct GrantFlags {
  Grant grant;
  std::string user, expires = "24h", text_file, file;
  std::vector<std::string> authority;
};

// A file's record may say "2h" as the flags may.
absl::Status FixEnd(Context& context, absl::string_view key, std::string* end) {
  if (end->empty()) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(*end, ParseEnd(key, *end, context.clock.Now()));
  return absl::OkStatus();
}

absl::Status CreateGrant(Context& context, GrantFlags& flags) {
  config::Grants records;
  if (flags.file.empty()) {
    if (flags.grant.identity().empty()) return UsageError("--identity is required: who may act for the user");
    SIGNET_ASSIGN_OR_RETURN(*flags.grant.mutable_user(), ParseUser("--user", flags.user));
    SIGNET_RETURN_IF_ERROR(AddAuthorities("--allow", flags.authority, flags.grant.mutable_authority()));
    flags.grant.set_expires_at(flags.expires);
    if (!flags.text_file.empty()) {
      SIGNET_ASSIGN_OR_RETURN(*flags.grant.mutable_text(), fs::ReadFile(flags.text_file, 64 * 1024));
    }
    *records.add_grants() = flags.grant;
  } else {
    SIGNET_RETURN_IF_ERROR(ReadRecords(flags.file, context.in, records));
  }
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  for (Grant grant : records.grants()) {
    SIGNET_RETURN_IF_ERROR(FixEnd(context, "--expires-at", grant.mutable_expires_at()));
    Grant stored;
    SIGNET_RETURN_IF_ERROR(client.Call("CreateGrant", grant, stored));
    SIGNET_RETURN_IF_ERROR(Answer(context, stored));
  }
  return absl::OkStatus();
}

// Consent is not changed, it is given anew: what is there already stays as it is.
absl::Status PutGrant(AdministrationClient& client, const Grant& grant, bool exists, Grant& stored) {
  return exists ? client.Call("GetGrant", ById(grant.id()), stored) : client.Call("CreateGrant", grant, stored);
}

struct TaskFlags {
  Task task;
  std::string deadline = "1h", file;
  std::vector<std::string> authority;
};

absl::Status CreateTask(Context& context, TaskFlags& flags) {
  config::Tasks records;
  if (flags.file.empty()) {
    if (flags.task.grant().empty()) return UsageError("--grant is required: the consent it works under");
    SIGNET_RETURN_IF_ERROR(AddAuthorities("--allow", flags.authority, flags.task.mutable_authority()));
    flags.task.set_deadline(flags.deadline);
    *records.add_tasks() = flags.task;
  } else {
    SIGNET_RETURN_IF_ERROR(ReadRecords(flags.file, context.in, records));
  }
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  for (Task task : records.tasks()) {
    SIGNET_RETURN_IF_ERROR(FixEnd(context, "--deadline", task.mutable_deadline()));
    Task stored;
    SIGNET_RETURN_IF_ERROR(client.Call("CreateTask", task, stored));
    SIGNET_RETURN_IF_ERROR(Answer(context, stored));
  }
  return absl::OkStatus();
}

absl::Status PutTask(AdministrationClient& client, const Task& task, bool exists, Task& stored) {
  return exists ? client.Call("GetTask", ById(task.id()), stored) : client.Call("CreateTask", task, stored);
}

}  // namespace

void AddGrantCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("grant", "what a user consented that an agent may do for them");
  noun.require_subcommand(1);
  auto flags = std::make_shared<GrantFlags>();
  CLI::App& create = AddVerb(noun, context, "create", "record a consent",
                             "signet grant create --user 'https://idp.example.org alice-7f3a' --identity "
                             "spiffe://example.org/agent/planner --actor spiffe://example.org/agent/worker --audience "
                             "https://mcp.example.org/orders --allow https://mcp.example.org/orders=orders:read",
                             Target::kServer);
  const auto each = [&create, flags](const std::string& name, void (Grant::*add)(const std::string&),
                                     const std::string& what) {
    create.add_option_function<std::vector<std::string>>(
              name,
              [flags, add](const std::vector<std::string>& all) {
                for (const std::string& one : all) (flags->grant.*add)(one);
              },
              what)
        ->allow_extra_args(false);
  };
  create.add_option("--user", flags->user, "\"ISSUER SUBJECT\": the issuer's URL and its name for the user");
  create.add_option_function<std::string>(
      "--identity", [flags](const std::string& v) { flags->grant.set_identity(v); }, "agent that starts the chain");
  each("--actor", &Grant::add_actors, "agent allowed on later hops; repeatable");
  each("--principal", &Grant::add_principals, "who may create tasks under it, beside administrators; repeatable");
  each("--audience", &Grant::add_audiences, "resource tokens may be for: the consent's boundary; repeatable");
  AddList(create, "--allow", flags->authority, kAuthorityHelp);
  create.add_option_function<int>(
      "--max-depth", [flags](const int& depth) { flags->grant.set_max_depth(depth); }, "longest chain, 1 to 5 (5)");
  create.add_option("--expires-at", flags->expires, "such as 30m or 2030-01-31T00:00:00Z (24h)");
  create.add_option("--text-file", flags->text_file, "the text the user was shown; its hash is kept");
  create.add_option_function<std::string>(
      "--evidence", [flags](const std::string& v) { flags->grant.set_evidence(v); }, "where the consent is on record");
  create.add_option("--file", flags->file, "YAML or JSON with one grant or many; - reads standard input")->excludes("--user");
  create.callback([&context, flags] { context.action = [&context, flags] { return CreateGrant(context, *flags); }; });
  AddShowVerb<Grant>(noun, context, "the grant's id", "one grant in full", "signet grant show g-...", "GetGrant");
  AddListVerb<token_v1::ListGrantsResponse>(
      noun, context, "all grants", "signet grant list", "ListGrants", {"ID", "STATE", "USER", "IDENTITY", "EXPIRES"},
      [](const token_v1::ListGrantsResponse& all, Table& table) {
        for (const Grant& g : all.grants()) {
          table.Add({Safe(g.id()), Safe(g.state()), Safe(g.user().subject()), Safe(g.identity()), Safe(g.expires_at())});
        }
      });
  AddApplyVerb<config::Grants, Grant>(
      noun, context, "create the grants of a file that are not there yet", "signet grant apply --file grants.yaml",
      &config::Grants::grants, [](const Grant& g) { return g.id(); }, "GetGrant", &PutGrant);
  auto revoke = std::make_shared<token_v1::RevokeRequest>();
  revoke->set_kind("grant");
  CLI::App& end = AddVerb(noun, context, "revoke", "take the consent back: every token under it dies",
                          "signet grant revoke g-...", Target::kServer);
  end.add_option_function<std::string>(
         "id,--id", [revoke](const std::string& id) { revoke->set_entity(id); }, "the grant's id")
      ->required();
  end.add_option_function<std::string>(
      "--reason", [revoke](const std::string& reason) { revoke->set_reason(reason); }, "for the audit");
  end.callback([&context, revoke] {
    context.action = [&context, revoke] { return CallAndShow<token_v1::Revocation>(context, "Revoke", *revoke); };
  });
}

void AddTaskCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("task", "one piece of work: its tools, its deadline, its budget of calls");
  noun.require_subcommand(1);
  auto flags = std::make_shared<TaskFlags>();
  CLI::App& create = AddVerb(noun, context, "create", "open a task under a grant",
                             "signet task create --grant g-... --description 'refund order 17' --deadline 30m --budget 50",
                             Target::kServer);
  create.add_option_function<std::string>(
      "--grant", [flags](const std::string& v) { flags->task.set_grant(v); }, "the consent it works under");
  create.add_option_function<std::string>(
      "--identity", [flags](const std::string& v) { flags->task.set_identity(v); }, "agent that does it; the grant's by default");
  create.add_option_function<std::string>(
      "--description", [flags](const std::string& v) { flags->task.set_description(v); }, "what is to be done");
  create.add_option("--deadline", flags->deadline, "such as 30m or 2030-01-31T00:00:00Z, at most 8h away (1h)");
  create.add_option_function<int64_t>(
      "--budget", [flags](const int64_t& calls) { flags->task.set_budget(calls); }, "calls in all; none by default");
  AddList(create, "--allow", flags->authority, absl::StrCat("narrower than the grant: ", kAuthorityHelp));
  create.add_option("--file", flags->file, "YAML or JSON with one task or many; - reads standard input")->excludes("--grant");
  create.callback([&context, flags] { context.action = [&context, flags] { return CreateTask(context, *flags); }; });
  AddShowVerb<Task>(noun, context, "the task's id", "one task in full", "signet task show task-...", "GetTask");
  AddListVerb<token_v1::ListTasksResponse>(
      noun, context, "all tasks", "signet task list", "ListTasks",
      {"ID", "STATE", "GRANT", "CALLS", "DEADLINE", "DESCRIPTION"}, [](const token_v1::ListTasksResponse& all, Table& table) {
        for (const Task& t : all.tasks()) {
          const std::string calls = t.budget() == 0 ? "" : absl::StrCat(t.reserved(), " of ", t.budget());
          table.Add({Safe(t.id()), Safe(t.state()), Safe(t.grant()), calls, Safe(t.deadline()), Safe(t.description())});
        }
      });
  AddApplyVerb<config::Tasks, Task>(
      noun, context, "open the tasks of a file that are not there yet", "signet task apply --file tasks.yaml",
      &config::Tasks::tasks, [](const Task& t) { return t.id(); }, "GetTask", &PutTask);
  auto id = std::make_shared<std::string>();
  CLI::App& close = AddVerb(noun, context, "close", "end it: every token of it dies", "signet task close task-...",
                            Target::kServer);
  close.add_option("id,--id", *id, "the task's id")->required();
  close.callback([&context, id] {
    context.action = [&context, id] { return CallAndShow<Task>(context, "CloseTask", ById(*id)); };
  });
}

}  // namespace signet::cli
