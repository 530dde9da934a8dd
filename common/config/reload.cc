#include "common/config/reload.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/message_differencer.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/log/log.h"

namespace signet::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::MessageDifferencer;

bool SameField(const Message& a, const Message& b, const FieldDescriptor* field) {
  MessageDifferencer differencer;
  return differencer.CompareWithFields(a, b, {field}, {field});
}

void Compare(const Message& a, const Message& b, absl::string_view prefix, std::vector<std::string>& keys) {
  const Reflection& reflection = *a.GetReflection();
  for (int i = 0; i < a.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = a.GetDescriptor()->field(i);
    const std::string key = prefix.empty() ? field->name() : absl::StrCat(prefix, ".", field->name());
    if (field->is_repeated() || field->message_type() == nullptr) {
      if (!SameField(a, b, field)) keys.push_back(key);
      continue;
    }
    const bool chosen = field->real_containing_oneof() != nullptr || field->message_type()->field_count() == 0;
    if (chosen && reflection.HasField(a, field) != reflection.HasField(b, field)) {
      keys.push_back(key);
    } else {
      Compare(reflection.GetMessage(a, field), reflection.GetMessage(b, field), key, keys);
    }
  }
}

// "ca" and "ca.ttl" are under "ca".
bool IsUnder(absl::string_view key, absl::Span<const absl::string_view> keys) {
  for (const absl::string_view above : keys) {
    if (key == above || absl::StartsWith(key, absl::StrCat(above, "."))) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> Differences(const Message& a, const Message& b) {
  std::vector<std::string> keys;
  Compare(a, b, "", keys);
  return keys;
}

void LogNotReloaded(const absl::Status& why) {
  for (const absl::string_view line : absl::StrSplit(why.message(), '\n')) {
    SIGNET_LOG(error, "configuration not reloaded, the old one stays", {{"error", line}});
  }
}

void LogReloaded(const Message& at_start, const Message& last, const Message& now,
                 absl::Span<const absl::string_view> reloadable) {
  std::vector<std::string> changed;
  for (std::string& key : Differences(last, now)) {
    if (IsUnder(key, reloadable)) changed.push_back(std::move(key));
  }
  SIGNET_LOG(info, "configuration reloaded",
             {{"changed", changed.empty() ? "no setting" : absl::StrJoin(changed, ", ")}});
  for (const std::string& key : Differences(at_start, now)) {
    if (IsUnder(key, reloadable)) continue;
    SIGNET_LOG(warn, "changed, takes effect after a restart", {{"key", key}});
  }
}

}  // namespace signet::config
