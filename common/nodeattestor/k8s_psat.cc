#include "common/nodeattestor/k8s_psat.h"

#include <algorithm>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "absl/strings/ascii.h"
#include "common/json/json.h"

namespace signet::k8spsat {
namespace {

constexpr size_t kMaxEvidenceBytes = 32 * 1024;

const boost::json::string* Text(const boost::json::object& object, const char* key) {
  const boost::json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() && !value->get_string().empty() ? &value->get_string() : nullptr;
}

}  // namespace

bool IsToken(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxTokenBytes && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
}

std::string Encode(const Evidence& evidence) {
  const boost::json::object object = {{"cluster", evidence.cluster}, {"token", evidence.token}};
  return boost::json::serialize(object);
}

absl::StatusOr<Evidence> Parse(absl::string_view json) {
  const absl::StatusOr<boost::json::value> parsed = json::Parse(json, kMaxEvidenceBytes);
  if (!parsed.ok() || !parsed->is_object()) {
    return absl::InvalidArgumentError("k8s_psat: the evidence is no JSON object of at most 32 KiB");
  }
  const boost::json::string* cluster = Text(parsed->get_object(), "cluster");
  const boost::json::string* token = Text(parsed->get_object(), "token");
  if (cluster == nullptr) return absl::InvalidArgumentError("k8s_psat: the evidence names no cluster");
  if (token == nullptr) return absl::InvalidArgumentError("k8s_psat: the evidence has no token");
  Evidence evidence{std::string(cluster->data(), cluster->size()), std::string(token->data(), token->size())};
  if (!IsToken(evidence.token)) return absl::InvalidArgumentError("k8s_psat: the token in the evidence is none");
  return evidence;
}

}  // namespace signet::k8spsat
