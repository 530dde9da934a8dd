// `signet resource` and `signet tool`: protected APIs and MCP servers, their scopes, and the tools they offer.
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/fs/atomic_file.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

using token_v1::Resource;
using token_v1::Tool;

struct Flags {
  Resource resource;
  std::vector<std::string> scopes;
  std::string file;
};

absl::Status Create(Context& context, Flags& flags) {
  config::Resources records;
  if (flags.file.empty()) {
    if (flags.resource.uri().empty()) return UsageError("--uri is required: what tokens name as their audience");
    for (const std::string& text : flags.scopes) {
      const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
      token_v1::Actions& actions = (*flags.resource.mutable_scopes())[parts[0]];
      if (parts.size() < 2) {
        actions.add_actions(parts[0]);
        continue;
      }
      for (const absl::string_view action : absl::StrSplit(parts[1], ',', absl::SkipEmpty())) {
        actions.add_actions(std::string(action));
      }
    }
    *records.add_resources() = flags.resource;
  } else {
    SIGNET_RETURN_IF_ERROR(ReadRecords(flags.file, context.in, records));
  }
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  for (const Resource& resource : records.resources()) {
    Resource stored;
    SIGNET_RETURN_IF_ERROR(client.Call("PutResource", resource, stored));
    SIGNET_RETURN_IF_ERROR(Answer(context, stored));
  }
  return absl::OkStatus();
}

absl::Status Put(AdministrationClient& client, const Resource& resource, bool, Resource& stored) {
  return client.Call("PutResource", resource, stored);
}

// Reads the resource, lets `change` work on its tools, and writes it back.
template <typename Change>
absl::Status ChangeTools(Context& context, const std::string& uri, Change change) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  Resource resource, stored;
  SIGNET_RETURN_IF_ERROR(WithNextStep(client.Call("GetResource", ById(uri), resource),
                                      "signet resource list shows the resources there are"));
  SIGNET_RETURN_IF_ERROR(change(resource));
  SIGNET_RETURN_IF_ERROR(client.Call("PutResource", resource, stored));
  return Answer(context, stored);
}

Tool* FindTool(Resource& resource, absl::string_view name) {
  for (Tool& tool : *resource.mutable_tools()) {
    if (tool.name() == name) return &tool;
  }
  return nullptr;
}

struct ToolFlags {
  std::string resource, name, file, risk = "high";
  std::vector<std::string> scopes;
  bool read_only = false;
};

absl::Status AddTools(Context& context, const ToolFlags& flags) {
  config::Tools file;
  SIGNET_RETURN_IF_ERROR(ReadRecords(flags.file, context.in, file));
  return ChangeTools(context, flags.resource, [&](Resource& resource) -> absl::Status {
    for (Tool tool : file.tools()) {
      if (tool.risk().empty()) tool.set_risk(flags.risk);
      if (flags.read_only) tool.set_read_only(true);
      for (const std::string& scope : flags.scopes) tool.add_scopes(scope);
      Tool* present = FindTool(resource, tool.name());
      *(present != nullptr ? present : resource.add_tools()) = tool;
    }
    return absl::OkStatus();
  });
}

absl::Status RemoveTool(Context& context, const ToolFlags& flags) {
  return ChangeTools(context, flags.resource, [&](Resource& resource) -> absl::Status {
    auto& tools = *resource.mutable_tools();
    for (int i = 0; i < tools.size(); ++i) {
      if (tools[i].name() != flags.name) continue;
      tools.DeleteSubrange(i, 1);
      return absl::OkStatus();
    }
    return absl::NotFoundError(absl::StrCat(resource.uri(), " has no tool \"", flags.name, "\""));
  });
}

absl::Status ListTools(Context& context, const std::string& uri) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  Resource resource;
  SIGNET_RETURN_IF_ERROR(client.Call("GetResource", ById(uri), resource));
  if (context.json()) {
    config::Tools tools;
    *tools.mutable_tools() = resource.tools();
    return PrintJson(context, tools);
  }
  Table table({"TOOL", "RISK", "READ ONLY", "SCOPES", "HASH"});
  for (const Tool& tool : resource.tools()) {
    table.Add({Safe(tool.name()), Safe(tool.risk()), tool.read_only() ? "yes" : "no",
               Safe(absl::StrJoin(tool.scopes(), " ")), Safe(tool.hash().substr(0, 16))});
  }
  table.Print(context.out);
  return absl::OkStatus();
}

}  // namespace

void AddResourceCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("resource", "protected APIs and MCP servers: what tokens are for");
  noun.require_subcommand(1);
  auto flags = std::make_shared<Flags>();
  CLI::App& create = AddVerb(noun, context, "create", "register a resource, or replace what is known of it",
                             "signet resource create --uri https://mcp.example.org/orders --served-by "
                             "spiffe://example.org/agent/orders-api --scope orders:read --default-scope orders:read",
                             Target::kServer);
  const auto each = [&create, flags](const std::string& name, void (Resource::*add)(const std::string&),
                                     const std::string& what) {
    create.add_option_function<std::vector<std::string>>(
              name,
              [flags, add](const std::vector<std::string>& all) {
                for (const std::string& one : all) (flags->resource.*add)(one);
              },
              what)
        ->allow_extra_args(false);
  };
  const auto text = [&create, flags](const std::string& name, void (Resource::*set)(const std::string&),
                                     const std::string& what) {
    create.add_option_function<std::string>(name, [flags, set](const std::string& v) { (flags->resource.*set)(v); }, what);
  };
  text("--uri", &Resource::set_uri, "its URI, the audience of its tokens");
  text("--name", &Resource::set_name, "for people");
  text("--minimum-binding", &Resource::set_minimum_binding, "mtls, dpop or bearer (dpop)");
  text("--token-ttl", &Resource::set_token_ttl, "longest life of a token for it (5m)");
  each("--served-by", &Resource::add_servers, "identity that serves it; repeatable");
  each("--default-scope", &Resource::add_default_scopes, "what a token has when nothing is asked for; repeatable");
  AddList(create, "--scope", flags->scopes, "SCOPE, or SCOPE=ACTION[,ACTION]; repeatable");
  create.add_option("--file", flags->file, "YAML or JSON with one resource or many, tools included; - reads standard input")
      ->excludes("--uri");
  create.callback([&context, flags] { context.action = [&context, flags] { return Create(context, *flags); }; });
  AddShowVerb<Resource>(noun, context, "the resource's URI", "one resource in full",
                        "signet resource show https://mcp.example.org/orders", "GetResource");
  AddListVerb<token_v1::ListResourcesResponse>(
      noun, context, "all resources", "signet resource list", "ListResources",
      {"URI", "TOOLS", "MINIMUM BINDING", "SERVED BY"}, [](const token_v1::ListResourcesResponse& all, Table& table) {
        for (const Resource& r : all.resources()) {
          table.Add({Safe(r.uri()), absl::StrCat(r.tools_size()), Safe(r.minimum_binding()),
                     Safe(absl::StrJoin(r.servers(), " "))});
        }
      });
  AddApplyVerb<config::Resources, Resource>(
      noun, context, "make the resources what a file says, and show what changed",
      "signet resource apply --file resources.yaml", &config::Resources::resources,
      [](const Resource& r) { return r.uri(); }, "GetResource", &Put);
  auto id = std::make_shared<std::string>();
  CLI::App& remove = AddVerb(noun, context, "delete", "no token for it any more; its URI is never given again",
                             "signet resource delete https://mcp.example.org/orders", Target::kServer);
  remove.add_option("id,--id", *id, "the resource's URI")->required();
  remove.callback([&context, id] {
    context.action = [&context, id] {
      return CallAndShow<google::protobuf::Empty>(context, "DeleteResource", ById(*id));
    };
  });

  CLI::App& tool = *app.add_subcommand("tool", "the tools of a resource: an undeclared tool is never called");
  tool.require_subcommand(1);
  auto tools = std::make_shared<ToolFlags>();
  CLI::App& add = AddVerb(tool, context, "add",
                          "declare tools as their server lists them: name, description, inputSchema as input_schema, "
                          "annotations; a changed schema is another tool to every consent given before",
                          "signet tool add --resource https://mcp.example.org/orders --file tools.json --risk low "
                          "--read-only --scope orders:read",
                          Target::kServer);
  add.add_option("--resource", tools->resource, "the resource's URI")->required();
  add.add_option("--file", tools->file, "YAML or JSON with one tool or many; - reads standard input")->required();
  add.add_option("--risk", tools->risk, "low, medium or high, where the file says nothing (high)");
  add.add_flag("--read-only", tools->read_only, "they change nothing");
  AddList(add, "--scope", tools->scopes, "scope that contains them; repeatable");
  add.callback([&context, tools] { context.action = [&context, tools] { return AddTools(context, *tools); }; });
  CLI::App& apply = AddVerb(tool, context, "apply", "the same as add: create or replace",
                            "signet tool apply --resource https://mcp.example.org/orders --file tools.yaml", Target::kServer);
  apply.add_option("--resource", tools->resource, "the resource's URI")->required();
  apply.add_option("--file", tools->file, "YAML or JSON with one tool or many; - reads standard input")->required();
  apply.callback([&context, tools] { context.action = [&context, tools] { return AddTools(context, *tools); }; });
  CLI::App& list = AddVerb(tool, context, "list", "the tools of a resource",
                           "signet tool list --resource https://mcp.example.org/orders", Target::kServer);
  list.add_option("--resource", tools->resource, "the resource's URI")->required();
  list.callback([&context, tools] { context.action = [&context, tools] { return ListTools(context, tools->resource); }; });
  CLI::App& drop = AddVerb(tool, context, "remove", "declare it no longer; its name is never given again",
                           "signet tool remove --resource https://mcp.example.org/orders --name query_orders", Target::kServer);
  drop.add_option("--resource", tools->resource, "the resource's URI")->required();
  drop.add_option("--name", tools->name, "the tool")->required();
  drop.callback([&context, tools] { context.action = [&context, tools] { return RemoveTool(context, *tools); }; });
}

}  // namespace signet::cli
