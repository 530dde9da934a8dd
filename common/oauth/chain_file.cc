#include "common/oauth/chain_file.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/oauth/claims_json.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

absl::StatusOr<std::optional<Keys>> ReadKeys(Members& members, absl::string_view name) {
  const boost::json::object* set = members.Object(name);
  if (set == nullptr) return std::optional<Keys>();
  SIGNET_ASSIGN_OR_RETURN(Keys keys, ParseKeys(Canonical(*set)), name);
  return std::optional<Keys>(std::move(keys));
}

// Those that lead to `last`, by the hashes they are linked with; nothing here is believed, VerifyChain reads them anew.
std::vector<std::string> PathTo(const std::string& last, const std::vector<std::string>& all) {
  absl::flat_hash_map<std::string, const std::string*> by_hash;
  for (const std::string& receipt : all) by_hash.emplace(ReceiptHash(receipt), &receipt);
  std::vector<std::string> path;
  std::string next = last;
  for (auto found = by_hash.find(next); found != by_hash.end(); found = by_hash.find(next)) {
    path.insert(path.begin(), *found->second);
    const auto jws = jose::CompactJws::Parse(*found->second, kMaxJwtBytes);
    if (!jws.ok() || path.size() > kMaxAncestors + 1) break;
    const auto payload = json::Parse(jws->payload, kMaxJwtBytes);
    if (!payload.ok() || !payload->is_object()) break;
    next = Members(payload->get_object(), "receipt").TextOr("prev");
  }
  return path;
}

}  // namespace

absl::StatusOr<ChainFile> ChainFile::Parse(absl::string_view json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(json, kMaxChainFileBytes), "chain file");
  if (!value.is_object()) return absl::InvalidArgumentError("chain file: not an object");
  Members members(value.get_object(), "chain file");
  ChainFile file;
  file.issuer = members.TextOr("issuer");
  if (const boost::json::value* token = members.Find("token")) {  // longer than other texts may be
    if (!token->is_string() || token->get_string().size() > kMaxJwtBytes) members.Fail("token", "not a JWT");
    if (members.ok()) file.token = std::string(View(token->get_string()));
  }
  file.receipts = members.Texts("receipts", kMaxChainFileReceipts, kMaxJwtBytes);
  SIGNET_ASSIGN_OR_RETURN(file.token_keys, ReadKeys(members, "token_keys"));
  SIGNET_ASSIGN_OR_RETURN(file.receipt_keys, ReadKeys(members, "receipt_keys"));
  SIGNET_RETURN_IF_ERROR(members.status());
  return file;
}

ChainFinding ChainFile::Verify() const {
  std::vector<std::string> all = receipts;
  // What the token says is believed only once it verifies, which VerifyChain asks for.
  if (const auto jws = jose::CompactJws::Parse(token, kMaxJwtBytes); jws.ok()) {
    if (const auto claims = ParseClaims(jws->payload); claims.ok()) {
      if (all.empty()) all = claims->receipts;
      if (all.size() > static_cast<size_t>(claims->context.receipts)) all = PathTo(claims->context.receipt_hash, all);
    }
  }
  return VerifyChain(all, token, receipt_keys.value_or(Keys()), token_keys.value_or(Keys()), issuer);
}

std::string FindingJson(const ChainFinding& finding) {
  boost::json::object object;
  object["proven"] = finding.proven;
  object["problem"] = finding.problem;
  boost::json::array hops;
  for (const Receipt& hop : finding.hops) hops.push_back(ReceiptObject(hop));
  object["hops"] = std::move(hops);
  return Canonical(object);
}

}  // namespace signet::oauth
