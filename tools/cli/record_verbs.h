// What the nouns of the token service share (identity, issuer, resource, grant, task ...): records from a file or from
// flags, lists by pages, a record shown in full, and what an `apply` changed. The record is the message of the
// administration API; a noun adds its flags and columns. One thread, as all of the tool.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "config/token_records.pb.h"
#include "signet/server/token/v1/token.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {

namespace token_v1 = ::signet::server::token::v1;

// signet.server.token.v1.Administration, its calls by name: this header stays free of generated gRPC code.
class AdministrationClient {
 public:
  static absl::StatusOr<AdministrationClient> Connect(const Context& context);
  // kInternal: there is no such RPC with these messages.
  absl::Status Call(const std::string& rpc, const google::protobuf::Message& request, google::protobuf::Message& response);

 private:
  explicit AdministrationClient(std::shared_ptr<grpc::Channel> channel) : channel_(std::move(channel)) {}
  std::shared_ptr<grpc::Channel> channel_;
};

// "RESOURCE=orders:read,tool:query_orders": scopes, and tools after "tool:". Usage errors name `flag`.
absl::StatusOr<token_v1::Authority> ParseAuthority(absl::string_view flag, absl::string_view text);
absl::Status AddAuthorities(absl::string_view flag, const std::vector<std::string>& texts,
                            google::protobuf::RepeatedPtrField<token_v1::Authority>* into);
inline constexpr char kAuthorityHelp[] = "RESOURCE=SCOPE[,SCOPE][,tool:NAME]; repeatable";
// "2h", or RFC 3339: RFC 3339.
absl::StatusOr<std::string> ParseEnd(absl::string_view flag, absl::string_view text, absl::Time now);
// "ISSUER SUBJECT".
absl::StatusOr<token_v1::User> ParseUser(absl::string_view flag, absl::string_view text);

std::string AtomText(const token_v1::Atom& atom);  // "https://mcp.example.org/orders tool query_orders {...}"
// Every field that is set, a line each.
void PrintRecord(const google::protobuf::Message& record, std::ostream& out);
// A line a field that differs, save version and times; empty: equal.
std::string Changes(const google::protobuf::Message& before, const google::protobuf::Message& after);

// Reads `path` (- is standard input) into `file`, a message of one list; usage error when it has no item.
absl::Status ReadRecords(const std::string& path, std::istream& in, google::protobuf::Message& file);

// All pages into one response.
template <typename Response>
absl::StatusOr<Response> ListAllRecords(AdministrationClient& client, const std::string& rpc) {
  Response all;
  token_v1::ListRequest request;
  request.set_page_size(500);
  for (;;) {
    Response page;
    SIGNET_RETURN_IF_ERROR(client.Call(rpc, request, page));
    const std::string next = page.next_page_token();
    page.clear_next_page_token();
    all.MergeFrom(page);
    if (next.empty()) return all;
    request.set_page_token(next);
  }
}

// Prints what a call answered: JSON, or the record in full.
absl::Status Answer(Context& context, const google::protobuf::Message& record);

// One call whose answer is a record, shown.
template <typename Response>
absl::Status CallAndShow(Context& context, const std::string& rpc, const google::protobuf::Message& request) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  Response response;
  SIGNET_RETURN_IF_ERROR(client.Call(rpc, request, response));
  return Answer(context, response);
}

inline token_v1::GetRequest ById(const std::string& id) {
  token_v1::GetRequest request;
  request.set_id(id);
  return request;
}

// The verbs every noun has. `rows` fills the table of a list.
template <typename Response>
void AddListVerb(CLI::App& noun, Context& context, const std::string& what, const std::string& example,
                 const std::string& rpc, std::vector<std::string> header, std::function<void(const Response&, Table&)> rows) {
  CLI::App& list = AddVerb(noun, context, "list", what, example, Target::kServer);
  list.callback([&context, rpc, header, rows] {
    context.action = [&context, rpc, header, rows]() -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
      SIGNET_ASSIGN_OR_RETURN(const Response all, ListAllRecords<Response>(client, rpc));
      if (context.json()) return PrintJson(context, all);
      Table table(header);
      rows(all, table);
      if (table.size() == 0) {
        context.out << "none\n";
      } else {
        table.Print(context.out);
      }
      return absl::OkStatus();
    };
  });
}

template <typename Record>
void AddShowVerb(CLI::App& noun, Context& context, const std::string& key, const std::string& what,
                 const std::string& example, const std::string& rpc) {
  auto id = std::make_shared<std::string>();
  CLI::App& show = AddVerb(noun, context, "show", what, example, Target::kServer);
  show.add_option("id,--id", *id, key)->required();
  show.callback([&context, id, rpc] {
    context.action = [&context, id, rpc] { return CallAndShow<Record>(context, rpc, ById(*id)); };
  });
}

// `put` of every record of a file, each compared with what `get` had before: "+ key", "~ key" with what changed.
template <typename Record, typename Put>
absl::Status ApplyRecords(Context& context, AdministrationClient& client,
                          const google::protobuf::RepeatedPtrField<Record>& records,
                          const std::function<std::string(const Record&)>& key, const std::string& get, Put put) {
  std::ostream& told = context.json() ? context.err : context.out;
  size_t created = 0, updated = 0;
  for (const Record& record : records) {
    Record before, after;
    absl::Status found = absl::NotFoundError("no key");
    if (!key(record).empty()) found = client.Call(get, ById(key(record)), before);
    if (!found.ok() && !absl::IsNotFound(found)) return found;
    SIGNET_RETURN_IF_ERROR(put(client, record, found.ok(), after));
    const std::string changes = found.ok() ? Changes(before, after) : "";
    if (!found.ok()) {
      ++created;
      told << "+ " << Safe(key(after)) << "\n";
    } else if (!changes.empty()) {
      ++updated;
      told << "~ " << Safe(key(after)) << "\n" << changes;
    }
    if (context.json()) SIGNET_RETURN_IF_ERROR(PrintJson(context, after, true));
  }
  if (!context.json()) {
    context.out << "created " << created << ", updated " << updated
                << (created + updated == 0 ? ": nothing to change" : "") << "\n";
  }
  return absl::OkStatus();
}

// `apply --file` for a noun.
template <typename File, typename Record, typename Put>
void AddApplyVerb(CLI::App& noun, Context& context, const std::string& what, const std::string& example,
                  const google::protobuf::RepeatedPtrField<Record>& (File::*items)() const,
                  std::function<std::string(const Record&)> key, const std::string& get, Put put) {
  auto file = std::make_shared<std::string>();
  CLI::App& apply = AddVerb(noun, context, "apply", what, example, Target::kServer);
  apply.add_option("file,--file", *file, "YAML or JSON with one record or many; - reads standard input")->required();
  apply.callback([&context, file, items, key, get, put] {
    context.action = [&context, file, items, key, get, put]() -> absl::Status {
      File records;
      SIGNET_RETURN_IF_ERROR(ReadRecords(*file, context.in, records));
      SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
      return ApplyRecords<Record>(context, client, (records.*items)(), key, get, put);
    };
  });
}

}  // namespace signet::cli
