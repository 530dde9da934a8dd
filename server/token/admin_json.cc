#include "server/token/admin_json.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/json_util.h>
#include <boost/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/net/form.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

using google::protobuf::Message;

constexpr absl::string_view kPrefix = "/v1/";
constexpr size_t kMaxBody = 1024 * 1024;

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kUnimplemented:
      return 405;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnavailable:
      return 503;
    default:
      return 500;
  }
}

net::WebResponse ErrorAnswer(const absl::Status& status) {
  const int http = HttpStatus(status.code());
  std::string message(status.message());
  if (http == 500) {
    SIGNET_LOG(error, "administration over HTTPS failed", {{"error", status.message()}});
    message = "internal error";
  }
  boost::json::object error{{"code", absl::StatusCodeToString(status.code())}, {"message", message}};
  net::WebResponse answer;
  answer.status = http;
  answer.body = boost::json::serialize(boost::json::object{{"error", std::move(error)}});
  answer.headers = {{"Cache-Control", "no-store"}};
  return answer;
}

// RFC 3986 2.1; '+' is itself.
absl::StatusOr<std::string> DecodePath(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) ||
        !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
      return absl::InvalidArgumentError("path: '%' without two hex digits");
    }
    out += absl::HexStringToBytes(text.substr(i + 1, 2));
    i += 2;
  }
  if (out.find('\0') != std::string::npos) return absl::InvalidArgumentError("path: holds a NUL");
  return out;
}

// A request, taken apart: /v1/<collection>[/<key>][/tools[/<tool>]][:<verb>].
struct Target {
  std::string collection, key, tool, verb;
  bool has_key = false, tools = false;
};

absl::StatusOr<Target> ReadTarget(absl::string_view path) {
  Target target;
  if (!absl::ConsumePrefix(&path, kPrefix)) return absl::NotFoundError("no such path");
  constexpr absl::string_view kVerbs[] = {":activate", ":resume",    ":suspend", ":retire", ":revoke",
                                          ":close",    ":reinstate", ":verify",  ":rotate"};
  for (const absl::string_view verb : kVerbs) {
    if (absl::ConsumeSuffix(&path, verb)) {
      target.verb = std::string(verb.substr(1));
      break;
    }
  }
  const size_t slash = path.find('/');
  target.collection = std::string(path.substr(0, slash));
  if (slash == absl::string_view::npos) return target;
  absl::string_view rest = path.substr(slash + 1);
  if (target.collection == "resources") {
    const size_t tools = rest.find("/tools");
    if (tools != absl::string_view::npos && rest.find('/') == tools) {  // the key is encoded: it has no slash
      absl::string_view name = rest.substr(tools + 6);
      if (name.empty() || (absl::ConsumePrefix(&name, "/") && !name.empty() && !absl::StrContains(name, '/'))) {
        target.tools = true;
        SIGNET_ASSIGN_OR_RETURN(target.tool, DecodePath(name));
        rest = rest.substr(0, tools);
      }
    }
  }
  SIGNET_ASSIGN_OR_RETURN(target.key, DecodePath(rest));
  target.has_key = true;
  if (target.key.empty()) return absl::NotFoundError("no such path");
  return target;
}

const google::protobuf::MethodDescriptor* FindMethod(const std::string& rpc) {
  static const google::protobuf::ServiceDescriptor* const service =
      token::v1::Identity::descriptor()->file()->FindServiceByName("Administration");
  return service->FindMethodByName(rpc);
}

std::unique_ptr<Message> New(const google::protobuf::Descriptor* type) {
  return std::unique_ptr<Message>(google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
}

// One call: its messages live until the answer is given.
struct Exchange {
  std::string rpc;
  std::unique_ptr<Message> request, response;
  net::Respond respond;
};
using ExchangePtr = std::shared_ptr<Exchange>;

absl::StatusOr<ExchangePtr> Begin(const std::string& rpc) {
  const google::protobuf::MethodDescriptor* const method = FindMethod(rpc);
  if (method == nullptr) return absl::InternalError(absl::StrCat("no call ", rpc));
  auto exchange = std::make_shared<Exchange>();
  exchange->rpc = rpc;
  exchange->request = New(method->input_type());
  exchange->response = New(method->output_type());
  return exchange;
}

// Strict first (repeated keys, depth, UTF-8), then into the message; fields we do not know are refused.
absl::Status ReadBody(const net::WebRequest& request, Message& message) {
  const std::string* const type = request.Header("content-type");
  absl::string_view media = type == nullptr ? absl::string_view() : absl::string_view(*type);
  media = absl::StripAsciiWhitespace(media.substr(0, media.find(';')));
  if (!absl::EqualsIgnoreCase(media, "application/json")) {
    return absl::InvalidArgumentError("a body needs Content-Type: application/json");
  }
  SIGNET_RETURN_IF_ERROR(json::Parse(request.body, kMaxBody).status(), "body");
  const google::protobuf::util::Status read = google::protobuf::util::JsonStringToMessage(request.body, &message);
  if (!read.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("body: ", absl::string_view(read.message().data(), read.message().size())));
  }
  return absl::OkStatus();
}

void SetText(Message& message, const char* name, const std::string& value) {
  const google::protobuf::FieldDescriptor* const field = message.GetDescriptor()->FindFieldByName(name);
  if (field != nullptr) message.GetReflection()->SetString(&message, field, value);
}

// Query parameters are fields of the request of a list.
absl::Status ReadQuery(const std::string& query, Message& message) {
  if (query.empty()) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(const net::Form form, net::ParseForm(query), "query");
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (const auto& [name, value] : form) {
    using Field = google::protobuf::FieldDescriptor;
    const Field* const field = message.GetDescriptor()->FindFieldByName(name);
    int32_t number = 0;
    uint64_t position = 0;
    if (field != nullptr && field->cpp_type() == Field::CPPTYPE_STRING) {
      reflection.SetString(&message, field, value);
    } else if (field != nullptr && field->cpp_type() == Field::CPPTYPE_INT32 && absl::SimpleAtoi(value, &number)) {
      reflection.SetInt32(&message, field, number);
    } else if (field != nullptr && field->cpp_type() == Field::CPPTYPE_UINT64 && absl::SimpleAtoi(value, &position)) {
      reflection.SetUInt64(&message, field, position);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("query: \"", absl::CEscape(name), "\" is none, or not such a value"));
    }
  }
  return absl::OkStatus();
}

// What a method on a path means: the call, and where the key goes.
struct Route {
  const char *collection, *method, *verb;
  bool key;
  const char* rpc;
  const char* key_field;  // of the request; null: none
  bool body;
};
constexpr Route kRoutes[] = {
    {"identities", "GET", "", false, "ListIdentities", nullptr, false},
    {"identities", "POST", "", false, "CreateIdentity", nullptr, true},
    {"identities", "GET", "", true, "GetIdentity", "id", false},
    {"identities", "PUT", "", true, "UpdateIdentity", "spiffe_id", true},
    {"identities", "POST", "activate", true, "SetIdentityState", "spiffe_id", true},
    {"identities", "POST", "resume", true, "SetIdentityState", "spiffe_id", true},
    {"identities", "POST", "suspend", true, "SetIdentityState", "spiffe_id", true},
    {"identities", "POST", "retire", true, "SetIdentityState", "spiffe_id", true},
    {"issuers", "GET", "", false, "ListIssuers", nullptr, false},
    {"issuers", "POST", "", false, "PutIssuer", nullptr, true},
    {"issuers", "GET", "", true, "GetIssuer", "id", false},
    {"issuers", "PUT", "", true, "PutIssuer", "url", true},
    {"issuers", "DELETE", "", true, "DeleteIssuer", "id", false},
    {"resources", "GET", "", false, "ListResources", nullptr, false},
    {"resources", "POST", "", false, "PutResource", nullptr, true},
    {"resources", "GET", "", true, "GetResource", "id", false},
    {"resources", "PUT", "", true, "PutResource", "uri", true},
    {"resources", "DELETE", "", true, "DeleteResource", "id", false},
    {"grants", "GET", "", false, "ListGrants", nullptr, false},
    {"grants", "POST", "", false, "CreateGrant", nullptr, true},
    {"grants", "GET", "", true, "GetGrant", "id", false},
    {"grants", "POST", "revoke", true, "Revoke", "entity", true},
    {"tasks", "GET", "", false, "ListTasks", nullptr, false},
    {"tasks", "POST", "", false, "CreateTask", nullptr, true},
    {"tasks", "GET", "", true, "GetTask", "id", false},
    {"tasks", "POST", "close", true, "CloseTask", "id", true},
    {"user-rights", "GET", "", false, "ListUserRights", nullptr, false},
    {"user-rights", "POST", "", false, "PutUserRights", nullptr, true},
    {"revocations", "GET", "", false, "ListRevocations", nullptr, false},
    {"revocations", "POST", "", false, "Revoke", nullptr, true},
    {"revocations", "POST", "reinstate", false, "Reinstate", nullptr, true},
    {"signing-keys", "GET", "", false, "ListSigningKeys", nullptr, false},
    {"signing-keys", "POST", "", false, "PrepareSigningKey", nullptr, true},
    {"signing-keys", "POST", "activate", true, "ActivateSigningKey", "id", true},
    {"signing-keys", "POST", "rotate", false, "RotateSigningKey", nullptr, true},
    {"chains", "GET", "", true, "GetChain", "id", false},
    {"audit", "GET", "", false, "ListAudit", nullptr, false},
    {"audit", "POST", "verify", false, "VerifyAudit", nullptr, true},
    {"alerts", "GET", "", false, "ListAlerts", nullptr, false},
    {"explain", "POST", "", false, "Explain", nullptr, true},
};

absl::StatusOr<const Route*> FindRoute(const Target& target, const std::string& method) {
  bool known = false;
  for (const Route& route : kRoutes) {
    if (target.collection != route.collection || target.has_key != route.key || target.verb != route.verb) continue;
    if (method == route.method) return &route;
    known = true;
  }
  if (known) return absl::UnimplementedError(absl::StrCat(absl::CEscape(method), " means nothing here"));
  return absl::NotFoundError("no such path");
}

// A body may name its key too, but no other than the path does.
absl::Status SetKey(const Route& route, const std::string& key, Message& message) {
  if (route.key_field == nullptr) return absl::OkStatus();
  const google::protobuf::FieldDescriptor* const field = message.GetDescriptor()->FindFieldByName(route.key_field);
  const std::string named = message.GetReflection()->GetString(message, field);
  if (!named.empty() && named != key) {
    return absl::InvalidArgumentError(absl::StrCat(route.key_field, ": the path names another"));
  }
  message.GetReflection()->SetString(&message, field, key);
  return absl::OkStatus();
}

absl::StatusOr<ExchangePtr> Prepare(const net::WebRequest& request, const Target& target) {
  SIGNET_ASSIGN_OR_RETURN(const Route* const route, FindRoute(target, request.method));
  SIGNET_ASSIGN_OR_RETURN(ExchangePtr exchange, Begin(route->rpc));
  Message& message = *exchange->request;
  // A verb has one too, if only {}: by its type it shows that no foreign page sent it.
  if (route->body) SIGNET_RETURN_IF_ERROR(ReadBody(request, message));
  if (!route->body && !request.body.empty()) return absl::InvalidArgumentError("body: none is expected here");
  SIGNET_RETURN_IF_ERROR(SetKey(*route, target.key, message));
  if (exchange->rpc == "SetIdentityState") {
    const std::string& verb = target.verb;
    SetText(message, "state", verb == "suspend" ? "suspended" : verb == "retire" ? "retired" : "active");
  }
  if (exchange->rpc == "Revoke" && target.verb == "revoke") SetText(message, "kind", "grant");
  SIGNET_RETURN_IF_ERROR(ReadQuery(request.query, message));
  return exchange;
}

void Answer(Exchange& exchange, const absl::Status& status) {
  if (!status.ok()) return exchange.respond(ErrorAnswer(status));
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  net::WebResponse answer;
  const google::protobuf::util::Status printed =
      google::protobuf::util::MessageToJsonString(*exchange.response, &answer.body, options);
  if (!printed.ok()) return exchange.respond(ErrorAnswer(absl::InternalError("an answer could not be printed")));
  answer.headers = {{"Cache-Control", "no-store"}};
  exchange.respond(std::move(answer));
}

void Run(Administration& administration, const AdminCaller& caller, ExchangePtr exchange) {
  Exchange& e = *exchange;
  administration.Call(e.rpc, caller, *e.request, e.response.get(),
                      [exchange = std::move(exchange)](const absl::Status& status) { Answer(*exchange, status); });
}

// --- the tools of a resource: the resource is read, changed and written back; `version` keeps two writers apart
// ---------

using token::v1::Resource;
using token::v1::Tool;

// The change that a request makes; kNotFound when there is no such tool.
absl::Status ChangeTools(const std::string& method, const Tool& tool, const std::string& name, Resource& resource) {
  auto& tools = *resource.mutable_tools();
  const auto at = std::find_if(tools.begin(), tools.end(), [&](const Tool& t) { return t.name() == name; });
  if (method == "DELETE") {
    if (at == tools.end()) return absl::NotFoundError(absl::StrCat("no tool \"", absl::CEscape(name), "\""));
    tools.erase(at);
  } else if (at == tools.end()) {
    *tools.Add() = tool;
  } else {
    *at = tool;
  }
  return absl::OkStatus();
}

// Answers with one tool, or with all of them.
void AnswerTools(const Resource& resource, const std::string& name, Exchange& exchange) {
  auto answer = std::make_unique<Resource>();
  for (const Tool& tool : resource.tools()) {
    if (name.empty()) *answer->add_tools() = tool;
    if (!name.empty() && tool.name() == name) {
      exchange.response = std::make_unique<Tool>(tool);
      return Answer(exchange, absl::OkStatus());
    }
  }
  if (!name.empty())
    return Answer(exchange, absl::NotFoundError(absl::StrCat("no tool \"", absl::CEscape(name), "\"")));
  exchange.response = std::move(answer);
  Answer(exchange, absl::OkStatus());
}

absl::StatusOr<Tool> ReadToolOf(const net::WebRequest& request, std::string& name) {
  Tool tool;
  const bool fits = request.method == "GET" || (request.method == "POST" && name.empty()) ||
                    ((request.method == "PUT" || request.method == "DELETE") && !name.empty());
  if (!fits) return absl::UnimplementedError(absl::StrCat(absl::CEscape(request.method), " means nothing here"));
  if (request.method == "POST" || request.method == "PUT") {
    SIGNET_RETURN_IF_ERROR(ReadBody(request, tool));
    if (name.empty()) name = tool.name();
    if (tool.name().empty()) tool.set_name(name);
    if (tool.name().empty()) return absl::InvalidArgumentError("name: missing");
    if (tool.name() != name) return absl::InvalidArgumentError("name: the path names another");
  } else if (!request.body.empty()) {
    return absl::InvalidArgumentError("body: none is expected here");
  }
  return tool;
}

void HandleTools(Administration& administration, const AdminCaller& caller, const net::WebRequest& request,
                 const Target& target, net::Respond respond) {
  std::string name = target.tool;
  absl::StatusOr<Tool> tool = ReadToolOf(request, name);
  absl::StatusOr<ExchangePtr> read = Begin("GetResource");
  absl::StatusOr<ExchangePtr> write = Begin("PutResource");
  for (const absl::Status& status : {tool.status(), read.status(), write.status()}) {
    if (!status.ok()) return respond(ErrorAnswer(status));
  }
  SetText(*(*read)->request, "id", target.key);
  Exchange& e = **read;
  e.respond = std::move(respond);
  administration.Call(e.rpc, caller, *e.request, e.response.get(),
                      [&administration, caller, method = request.method, name, tool = *std::move(tool),
                       read = *std::move(read), write = *std::move(write)](const absl::Status& got) {
                        if (!got.ok()) return Answer(*read, got);
                        auto& resource = static_cast<Resource&>(*read->response);
                        if (method == "GET") return AnswerTools(resource, name, *read);
                        const absl::Status changed = ChangeTools(method, tool, name, resource);
                        if (!changed.ok()) return Answer(*read, changed);
                        static_cast<Resource&>(*write->request) = std::move(resource);
                        write->respond = std::move(read->respond);
                        administration.Call(write->rpc, caller, *write->request, write->response.get(),
                                            [write, name, gone = method == "DELETE"](const absl::Status& put) {
                                              if (!put.ok()) return Answer(*write, put);
                                              const auto stored = std::move(static_cast<Resource&>(*write->response));
                                              AnswerTools(stored, gone ? "" : name, *write);
                                            });
                      });
}

}  // namespace

bool AdminJson::Owns(absl::string_view path) { return absl::StartsWith(path, kPrefix); }

void AdminJson::Handle(const net::WebRequest& request, const AdminCaller& caller, net::Respond respond) {
  const absl::StatusOr<Target> target = ReadTarget(request.path);
  if (!target.ok()) return respond(ErrorAnswer(target.status()));
  if (target->tools && target->verb.empty()) {
    return HandleTools(administration_, caller, request, *target, std::move(respond));
  }
  absl::StatusOr<ExchangePtr> exchange = Prepare(request, *target);
  if (!exchange.ok()) return respond(ErrorAnswer(exchange.status()));
  (*exchange)->respond = std::move(respond);
  Run(administration_, caller, *std::move(exchange));
}

net::WebResponse AdminRefusal(const absl::Status& status) { return ErrorAnswer(status); }

AdminCallers::AdminCallers(spiffe::TrustDomain own, FindBundle find_bundle, Authorizer& authorizer,
                           ClientAuthenticator& clients, Clock& clock)
    : own_(std::move(own)),
      callers_(std::move(find_bundle), clock),
      authorizer_(authorizer),
      clients_(clients),
      clock_(clock) {}

absl::StatusOr<AdminCaller> AdminCallers::Identify(const net::WebRequest& request) {
  if (request.client_chain.empty()) {
    return absl::UnauthenticatedError("no client certificate: an X.509-SVID is needed");
  }
  std::string pem;
  for (size_t i = 1; i < request.client_chain.size(); ++i) pem += request.client_chain[i].Pem();
  const CallerPtr caller = callers_.Identify(request.client_chain.front().Pem(), pem);
  if (caller->kind != Caller::Kind::kTls) {
    return absl::UnauthenticatedError(caller->problem.ok() ? "the certificate is no SVID" : caller->problem.message());
  }
  if (!caller->id->IsMemberOf(own_)) {
    return absl::PermissionDeniedError(
        absl::StrCat(caller->id->string(), " is of another trust domain: administration is for our own"));
  }
  // Of all calls any would do: their rights are the same.
  if (authorizer_.Decide(Method::kTokenCreateTask, caller).status.ok()) {
    return AdminCaller{.name = caller->id->string(), .administrator = true};
  }
  TokenRequest as_client;
  as_client.client_chain = request.client_chain;
  as_client.form["client_id"] = caller->id->string();
  as_client.peer = request.peer;
  const absl::StatusOr<Client> client = clients_.Authenticate(as_client, clock_.Now());
  if (!client.ok()) return absl::UnauthenticatedError("the SVID does not count here");
  return AdminCaller{.name = client->id, .administrator = false};
}

}  // namespace signet::server
