#include "common/spiffe/issued_to.h"

#include <boost/json/object.hpp>

#include "absl/strings/escaping.h"
#include "common/crypto/der.h"
#include "common/crypto/digest.h"

namespace signet::spiffe {
namespace {

constexpr size_t kHashBytes = 32, kMaxEntryId = 255;

absl::StatusOr<IssuedTo> Checked(IssuedTo issued_to) {
  if (issued_to.entry_id.empty() || issued_to.entry_id.size() > kMaxEntryId ||
      issued_to.agent_hash.size() != kHashBytes) {
    return absl::InvalidArgumentError("issued-to: no entry id, or no hash of an agent");
  }
  return issued_to;
}

}  // namespace

std::string HashOfAgent(const Id& agent_id) { return crypto::Sha256(agent_id.string()); }

std::string IssuedToDer(const IssuedTo& issued_to) {
  crypto::DerWriter out(issued_to.entry_id.size() + kHashBytes + 8);
  out.Nest(crypto::kDerSequence, [&] {
    out.Put(crypto::kDerUtf8String, issued_to.entry_id);
    out.Put(crypto::kDerOctetString, issued_to.agent_hash);
  });
  return out.Take();
}

absl::StatusOr<IssuedTo> ParseIssuedToDer(absl::string_view der) {
  crypto::DerReader outer(der);
  absl::string_view sequence, entry, agent;
  if (!outer.Read(crypto::kDerSequence, &sequence) || !outer.done()) {
    return absl::InvalidArgumentError("issued-to: not a SEQUENCE");
  }
  crypto::DerReader inner(sequence);
  if (!inner.Read(crypto::kDerUtf8String, &entry) || !inner.Read(crypto::kDerOctetString, &agent) || !inner.done()) {
    return absl::InvalidArgumentError("issued-to: malformed");
  }
  return Checked({std::string(entry), std::string(agent)});
}

boost::json::object ClaimOf(const IssuedTo& issued_to) {
  boost::json::object claim;
  claim["agent"] = absl::BytesToHexString(issued_to.agent_hash);
  claim["entry"] = issued_to.entry_id;
  return claim;
}

absl::StatusOr<IssuedTo> ParseIssuedToClaim(const boost::json::object& claims) {
  const auto* claim = claims.if_contains({kIssuedToClaim.data(), kIssuedToClaim.size()});
  const auto* object = claim == nullptr ? nullptr : claim->if_object();
  const auto text = [object](const char* name) -> std::string {
    const auto* value = object == nullptr ? nullptr : object->if_contains(name);
    const auto* string = value == nullptr ? nullptr : value->if_string();
    return string == nullptr ? std::string() : std::string(string->data(), string->size());
  };
  const std::string hex = text("agent");
  if (hex.size() != 2 * kHashBytes || hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return absl::InvalidArgumentError("issued-to: no claim, or no hash of an agent");
  }
  return Checked({text("entry"), absl::HexStringToBytes(hex)});
}

}  // namespace signet::spiffe
