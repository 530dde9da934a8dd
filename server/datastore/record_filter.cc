#include "server/datastore/record_filter.h"

#include <algorithm>

namespace signet::server {
namespace {

template <typename T>
bool SetMatches(const std::vector<T>& record, const std::vector<T>& wanted, Match match) {
  switch (match) {
    case Match::kExact:
      return record == wanted;
    case Match::kSubset:
      return !record.empty() && std::includes(wanted.begin(), wanted.end(), record.begin(), record.end());
    case Match::kSuperset:
      return std::includes(record.begin(), record.end(), wanted.begin(), wanted.end());
    case Match::kAny:
      return std::any_of(wanted.begin(), wanted.end(),
                         [&](const T& item) { return std::binary_search(record.begin(), record.end(), item); });
  }
  return false;
}

template <typename T>
bool Allows(const std::optional<T>& wanted, const T& value) {
  return !wanted.has_value() || *wanted == value;
}

absl::Status CheckSelectors(const std::optional<SelectorFilter>& filter) {
  if (filter.has_value() && filter->selectors.empty()) {
    return absl::InvalidArgumentError("cannot list by an empty set of selectors");
  }
  return absl::OkStatus();
}

}  // namespace

bool Matches(const spiffe::Entry& entry, const EntryFilter& filter) {
  return Allows(filter.spiffe_id, entry.spiffe_id) && Allows(filter.parent_id, entry.parent_id) &&
         Allows(filter.hint, entry.hint) && Allows(filter.downstream, entry.downstream) &&
         (!filter.selectors || SetMatches(entry.selectors, filter.selectors->selectors, filter.selectors->match)) &&
         (!filter.federates_with ||
          SetMatches(entry.federates_with, filter.federates_with->trust_domains, filter.federates_with->match));
}

bool Matches(const AgentRecord& agent, const AgentFilter& filter) {
  return Allows(filter.attestation_type, agent.attestation_type) && Allows(filter.banned, agent.banned) &&
         Allows(filter.can_reattest, agent.can_reattest) &&
         (!filter.expires_before || agent.expires_at < *filter.expires_before) &&
         (!filter.selectors || SetMatches(agent.selectors, filter.selectors->selectors, filter.selectors->match));
}

absl::Status CheckFilter(const EntryFilter& filter) {
  if (filter.federates_with.has_value() && filter.federates_with->trust_domains.empty()) {
    return absl::InvalidArgumentError("cannot list by an empty set of trust domains");
  }
  return CheckSelectors(filter.selectors);
}

absl::Status CheckFilter(const AgentFilter& filter) { return CheckSelectors(filter.selectors); }

}  // namespace signet::server
