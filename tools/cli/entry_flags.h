// The flags and the file form of a registration entry, and how one is shown. Everything a person writes is checked here
// as strictly as the server does, so that mistakes are told with the flag or line they stand in.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "spire/api/types/entry.pb.h"
#include "tools/cli/command.h"

namespace signet::cli {

namespace wire = ::spire::api::types;

// What --spiffe-id, --selector and the rest hold after parsing. An option is looked up by its name: "--hint".
struct EntryFlags {
  std::string id, spiffe_id, parent_id, hint, x509_ttl, jwt_ttl, expires_at;
  std::vector<std::string> selectors, federates_with, dns_names;
  bool admin = false, downstream = false, store_svid = false, no_prefetch = false, jti = false;

  void AddTo(CLI::App& verb);
};

// Usage errors name the flag. A new entry: spiffe_id, parent_id and a selector are required.
absl::StatusOr<wire::Entry> NewEntry(const EntryFlags& flags);
// The fields whose flags were given, and the mask that names them.
absl::Status ChangedFields(const EntryFlags& flags, const CLI::App& verb, wire::Entry& entry, wire::EntryMask& mask);

// YAML or JSON (config/entries.proto); "-" reads `in`. At least one entry.
absl::StatusOr<std::vector<wire::Entry>> ReadEntryFile(const std::string& path, std::istream& in);

// Every field that is set, a line each.
void PrintEntry(const wire::Entry& entry, absl::Time now, std::ostream& out);
void PrintEntryTable(const std::vector<wire::Entry>& entries, std::ostream& out);

// "x509_ttl: 1h -> 30m", a line a difference, in what a file can say (not id, revision, creation). Empty: the same.
std::vector<std::string> Differences(const wire::Entry& from, const wire::Entry& to);

}  // namespace signet::cli
