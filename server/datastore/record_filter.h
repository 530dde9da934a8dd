// Which records a filter lets through: pure, the one meaning of the filters for every store. SQL only narrows down what
// has to be looked at. The match behaviours are SPIRE's:
//   exact     the record's set equals the filter's
//   subset    the record's set is not empty and lies within the filter's
//   superset  the record's set holds all of the filter's
//   any       the two have something in common
// Sets are normalised (sorted, unique).
#pragma once

#include "absl/status/status.h"
#include "server/datastore/records.h"

namespace signet::server {

bool Matches(const spiffe::Entry& entry, const EntryFilter& filter);
bool Matches(const AgentRecord& agent, const AgentFilter& filter);

// kInvalidArgument for a set without members: it would mean everything or nothing.
absl::Status CheckFilter(const EntryFilter& filter);
absl::Status CheckFilter(const AgentFilter& filter);

}  // namespace signet::server
