#include "tools/cli/record_verbs.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <grpcpp/impl/codegen/client_unary_call.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/codegen/rpc_method.h>

#include <algorithm>
#include <iterator>
#include <ostream>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/config/load.h"
#include "common/fs/atomic_file.h"

namespace signet::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMaxFileBytes = 16 * 1024 * 1024;

std::string OneLineJson(const Message& message) {
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(message, &json).ok()) return "?";
  return json;
}

std::string ValueText(const Message& record, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *record.GetReflection();
  std::string scratch;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return index < 0 ? reflection.GetStringReference(record, &field, &scratch)
                       : reflection.GetRepeatedStringReference(record, &field, index, &scratch);
    case FieldDescriptor::CPPTYPE_BOOL:
      return "yes";  // only set fields are shown
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(record, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(record, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection.GetUInt64(record, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const Message& inner = index < 0 ? reflection.GetMessage(record, &field)
                                       : reflection.GetRepeatedMessage(record, &field, index);
      if (inner.GetDescriptor() == token_v1::Atom::descriptor()) {
        return AtomText(static_cast<const token_v1::Atom&>(inner));
      }
      if (inner.GetDescriptor() == token_v1::User::descriptor()) {
        const auto& user = static_cast<const token_v1::User&>(inner);
        return absl::StrCat(user.subject(), " of ", user.issuer());
      }
      return OneLineJson(inner);
    }
    default:
      return "?";
  }
}

}  // namespace

absl::StatusOr<AdministrationClient> AdministrationClient::Connect(const Context& context) {
  SIGNET_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, ServerChannel(context));
  return AdministrationClient(std::move(channel));
}

absl::Status AdministrationClient::Call(const std::string& rpc, const Message& request, Message& response) {
  const google::protobuf::ServiceDescriptor* service =
      token_v1::GetRequest::descriptor()->file()->FindServiceByName("Administration");
  const google::protobuf::MethodDescriptor* method = service == nullptr ? nullptr : service->FindMethodByName(rpc);
  if (method == nullptr || method->input_type() != request.GetDescriptor() || method->output_type() != response.GetDescriptor()) {
    return absl::InternalError(absl::StrCat("no RPC ", rpc, " from ", request.GetTypeName(), " to ", response.GetTypeName()));
  }
  const std::string path = absl::StrCat("/", service->full_name(), "/", rpc);
  grpc::ClientContext context;
  SetDeadline(context);
  return rpc::FromTlsCall(grpc::internal::BlockingUnaryCall<google::protobuf::MessageLite, google::protobuf::MessageLite>(
      channel_.get(), grpc::internal::RpcMethod(path.c_str(), grpc::internal::RpcMethod::NORMAL_RPC, channel_), &context,
      request, &response));
}

absl::StatusOr<token_v1::Authority> ParseAuthority(absl::string_view flag, absl::string_view text) {
  const size_t at = text.rfind('=');
  if (at == absl::string_view::npos || at == 0 || at + 1 == text.size()) {
    return UsageError(absl::StrCat(flag, ": expects ", kAuthorityHelp, ", not \"", Safe(text), "\""));
  }
  token_v1::Authority authority;
  authority.set_resource(std::string(text.substr(0, at)));
  for (absl::string_view word : absl::StrSplit(text.substr(at + 1), ',', absl::SkipEmpty())) {
    if (absl::ConsumePrefix(&word, "tool:")) {
      authority.add_tools(std::string(word));
    } else {
      authority.add_scopes(std::string(word));
    }
  }
  return authority;
}

absl::Status AddAuthorities(absl::string_view flag, const std::vector<std::string>& texts,
                            google::protobuf::RepeatedPtrField<token_v1::Authority>* into) {
  for (const std::string& text : texts) {
    SIGNET_ASSIGN_OR_RETURN(*into->Add(), ParseAuthority(flag, text));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ParseEnd(absl::string_view flag, absl::string_view text, absl::Time now) {
  absl::Time end;
  std::string ignored;
  if (!absl::ParseTime(absl::RFC3339_full, text, &end, &ignored)) {
    config::Errors errors;
    end = now + config::ParseDuration(flag, text, absl::ZeroDuration(), errors);
    if (!errors.empty()) {
      return UsageError(absl::StrCat(flag, ": expects a duration such as 2h, or a time such as 2030-01-31T00:00:00Z"));
    }
  }
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", end, absl::UTCTimeZone());
}

absl::StatusOr<token_v1::User> ParseUser(absl::string_view flag, absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(' ', 1));
  if (parts.size() != 2 || parts[0].empty() || parts[1].empty()) {
    return UsageError(absl::StrCat(flag, ": expects \"ISSUER SUBJECT\", the issuer's URL and its name for the user"));
  }
  token_v1::User user;
  user.set_issuer(parts[0]);
  user.set_subject(parts[1]);
  return user;
}

std::string AtomText(const token_v1::Atom& atom) {
  std::string text = absl::StrCat(atom.resource(), atom.tool() ? " tool " : " ", atom.action());
  if (atom.has_constraints()) absl::StrAppend(&text, " ", OneLineJson(atom.constraints()));
  return text;
}

void PrintRecord(const Message& record, std::ostream& out) {
  Facts facts;
  std::vector<const FieldDescriptor*> fields;
  record.GetReflection()->ListFields(record, &fields);
  for (const FieldDescriptor* field : fields) {
    std::string name = field->name();
    std::replace(name.begin(), name.end(), '_', ' ');
    if (field->is_map()) {
      for (int i = 0; i < record.GetReflection()->FieldSize(record, field); ++i) {
        facts.Add(name, Safe(OneLineJson(record.GetReflection()->GetRepeatedMessage(record, field, i))));
      }
    } else if (field->is_repeated()) {
      for (int i = 0; i < record.GetReflection()->FieldSize(record, field); ++i) {
        facts.Add(name, Safe(ValueText(record, *field, i)));
      }
    } else {
      facts.Add(name, Safe(ValueText(record, *field, -1)));
    }
  }
  facts.Print(out);
}

std::string Changes(const Message& before, const Message& after) {
  google::protobuf::util::MessageDifferencer differencer;
  for (const char* name : {"version", "created_at", "updated_at", "at"}) {
    if (const FieldDescriptor* field = before.GetDescriptor()->FindFieldByName(name)) differencer.IgnoreField(field);
  }
  std::string report;
  differencer.ReportDifferencesToString(&report);
  if (differencer.Compare(before, after)) return "";
  std::string text;
  for (const absl::string_view line : absl::StrSplit(report, '\n', absl::SkipEmpty())) {
    absl::StrAppend(&text, "    ", Safe(line), "\n");
  }
  return text;
}

absl::Status ReadRecords(const std::string& path, std::istream& in, Message& file) {
  std::string text;
  const std::string name = path == "-" ? "standard input" : path;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(in), {});
  } else {
    SIGNET_ASSIGN_OR_RETURN(text, fs::ReadFile(path, kMaxFileBytes));
  }
  if (const absl::Status loaded = config::LoadYamlList(text, name, kMaxFileBytes, file); !loaded.ok()) {
    return UsageError(loaded.message());
  }
  const FieldDescriptor* list = file.GetDescriptor()->field(0);
  if (file.GetReflection()->FieldSize(file, list) == 0) {
    return UsageError(absl::StrCat(name, ": no ", list->name(), " in it"));
  }
  return absl::OkStatus();
}

absl::Status Answer(Context& context, const Message& record) {
  if (context.json()) return PrintJson(context, record);
  PrintRecord(record, context.out);
  return absl::OkStatus();
}

}  // namespace signet::cli
