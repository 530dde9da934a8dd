// To whom an SVID was issued: the registration entry and the attested agent. The CA writes it into X.509-SVIDs (a
// private extension that is not critical: others pass over it) and into JWT-SVIDs whose only audience is the own token
// service (a private claim), so that the token service can ask at each use whether the entry is still that agent's. The
// agent stands there as a hash: a peer learns nothing about the node. Pure. kInvalidArgument for what does not parse.
#pragma once

#include <string>

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/spiffe/id.h"

namespace signet::spiffe {

struct IssuedTo {
  std::string entry_id;
  std::string agent_hash;  // SHA-256 of the agent's SPIFFE ID, 32 raw bytes
  friend bool operator==(const IssuedTo&, const IssuedTo&) = default;
};

std::string HashOfAgent(const Id& agent_id);

// SEQUENCE { entryId UTF8String, agent OCTET STRING }.
std::string IssuedToDer(const IssuedTo& issued_to);
absl::StatusOr<IssuedTo> ParseIssuedToDer(absl::string_view der);

inline constexpr absl::string_view kIssuedToClaim = "signet_issued_to";
boost::json::object ClaimOf(const IssuedTo& issued_to);  // {"agent": hex, "entry": id}
absl::StatusOr<IssuedTo> ParseIssuedToClaim(const boost::json::object& claims);

}  // namespace signet::spiffe
