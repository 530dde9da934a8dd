#include "server/token/admin_audit.h"

#include <algorithm>

#include <boost/json.hpp>

#include "signet/server/token/v1/token.pb.h"

namespace signet::server {
namespace {

using google::protobuf::Message;

// A refused request may hold anything; a character stays whole.
std::string Short(const std::string& text) {
  size_t size = std::min<size_t>(text.size(), 512);
  while (size < text.size() && size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  return text.substr(0, size);
}

// What the call was about, by the field that holds a key.
std::string TargetOf(const Message& request) {
  const google::protobuf::Descriptor& type = *request.GetDescriptor();
  for (const char* name : {"spiffe_id", "url", "uri", "id", "kid", "entity", "grant", "identity"}) {
    const google::protobuf::FieldDescriptor* field = type.FindFieldByName(name);
    if (field == nullptr || field->type() != google::protobuf::FieldDescriptor::TYPE_STRING) continue;
    std::string text = request.GetReflection()->GetString(request, field);
    if (!text.empty()) return Short(text);
  }
  return "";
}

}  // namespace

boost::json::object AdminAuditRecord(const std::string& rpc, const AdminCaller& caller, const Message& request,
                                     const Message& response, const absl::Status& status) {
  // The record as stored knows its key even when the server made it.
  std::string target = status.ok() ? TargetOf(response) : "";
  if (target.empty()) target = TargetOf(request);
  boost::json::object record{{"event", "administration"},
                             {"call", rpc},
                             {"who", boost::json::object{{"client", caller.name}}},
                             {"target", target},
                             {"outcome", status.ok() ? "done" : "refused"}};
  if (const auto* revoked = dynamic_cast<const token::v1::RevokeRequest*>(&request)) {
    record["kind"] = Short(revoked->kind());
    record["reason"] = Short(revoked->reason());
  }
  if (const auto* moved = dynamic_cast<const token::v1::SetIdentityStateRequest*>(&request)) {
    record["state"] = Short(moved->state());
    record["reason"] = Short(moved->reason());
  }
  const token::v1::User* user = nullptr;
  if (const auto* grant = dynamic_cast<const token::v1::Grant*>(&request)) user = &grant->user();
  if (const auto* rights = dynamic_cast<const token::v1::UserRights*>(&request)) user = &rights->user();
  if (user != nullptr) {  // T7: a user is always both
    record["for"] = boost::json::object{{"issuer", Short(user->issuer())}, {"user", Short(user->subject())}};
  }
  if (!status.ok()) record["error"] = absl::StatusCodeToString(status.code());
  return record;
}

}  // namespace signet::server
