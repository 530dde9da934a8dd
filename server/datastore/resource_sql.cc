#include "server/datastore/resource_sql.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/grant_sql.h"
#include "server/datastore/row_list.h"
#include "server/datastore/token_codec.h"

namespace signet::server {
namespace {

#define SIGNET_RESOURCE_COLUMNS "n, uri, version, tombstone, rev, record"

absl::StatusOr<ResourceRecord> DecodeResource(const SqliteRows& row) {
  ResourceRecord record;
  SIGNET_RETURN_IF_ERROR(DecodeRecord(row.Text(5), record), absl::StrCat("resource ", row.Text(1)));
  record.uri = row.String(1);
  record.version = row.Int(2);
  record.tombstone = row.Bool(3);
  record.rev = static_cast<uint64_t>(row.Int(4));
  return record;
}

absl::StatusOr<std::optional<ResourceRecord>> Find(SqliteConnection& db, const std::string& uri) {
  return FindRow<ResourceRecord>(db, DecodeResource, "SELECT " SIGNET_RESOURCE_COLUMNS " FROM resources WHERE uri = ?",
                                 uri);
}

absl::Status Write(WriteContext& context, ResourceRecord& record) {
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kResource, record.uri));
  record.rev = context.seq();
  return context.db.Run(
      "INSERT INTO resources (uri, version, tombstone, rev, record) VALUES (?, ?, ?, ?, ?) ON CONFLICT (uri) DO UPDATE "
      "SET version = excluded.version, tombstone = excluded.tombstone, rev = excluded.rev, record = excluded.record",
      record.uri, record.version, record.tombstone, record.rev, EncodeRecord(record));
}

const ToolRecord* FindTool(const ResourceRecord& resource, const std::string& name) {
  const auto it = std::find_if(resource.tools.begin(), resource.tools.end(),
                               [&](const ToolRecord& tool) { return tool.name == name; });
  return it == resource.tools.end() ? nullptr : &*it;
}

// What was once there stays as a tombstone, so that no name comes to mean something else.
absl::Status KeepTombstones(const ResourceRecord& stored, ResourceRecord& record) {
  for (const ToolRecord& old : stored.tools) {
    const ToolRecord* now = FindTool(record, old.name);
    if (now == nullptr) {
      record.tools.push_back(old);
      record.tools.back().tombstone = true;
    } else if (old.tombstone) {
      return absl::AlreadyExistsError(absl::StrCat("resource ", record.uri, ": a tool \"", old.name,
                                                   "\" was deleted: a name is never given again"));
    }
  }
  return absl::OkStatus();
}

// T9: what guards less than when consent was given needs consent anew.
absl::Status VoidLoosened(WriteContext& context, const ResourceRecord& stored, const ResourceRecord& record) {
  const bool looser = record.minimum_binding < stored.minimum_binding;
  std::set<std::string> tools;
  for (const ToolRecord& old : stored.tools) {
    const ToolRecord* now = FindTool(record, old.name);
    if (now != nullptr && !now->tombstone && (now->risk < old.risk || (now->read_only && !old.read_only))) {
      tools.insert(old.name);
    }
  }
  if (!looser && tools.empty()) return absl::OkStatus();
  return VoidGrants(context, record.uri,
                    [&](const oauth::Atom& atom) { return looser || (atom.tool && tools.contains(atom.action)); });
}

}  // namespace

absl::StatusOr<ResourceRecord> WriteResource(WriteContext& context, ResourceRecord record) {
  std::set<std::string> names;
  for (const ToolRecord& tool : record.tools) {
    if (!names.insert(tool.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("tool \"", tool.name, "\" is there twice"));
    }
  }
  SIGNET_ASSIGN_OR_RETURN(const std::optional<ResourceRecord> stored, Find(context.db, record.uri));
  const int64_t version = std::exchange(record.version, 1);
  record.tombstone = false;
  if (stored) {
    if (stored->tombstone) {
      return absl::AlreadyExistsError(
          absl::StrCat("resource ", record.uri, " was deleted: a URI is never given again"));
    }
    if (version != 0 && version != stored->version) {
      return absl::AbortedError(absl::StrCat("resource ", record.uri, " has version ", stored->version, ", not ",
                                             version, ": read it again, then change it"));
    }
    record.version = stored->version + 1;
    SIGNET_RETURN_IF_ERROR(KeepTombstones(*stored, record));
    SIGNET_RETURN_IF_ERROR(VoidLoosened(context, *stored, record));
  }
  SIGNET_RETURN_IF_ERROR(Write(context, record));
  return record;
}

absl::Status BuryResource(WriteContext& context, const std::string& uri) {
  SIGNET_ASSIGN_OR_RETURN(ResourceRecord record, SelectResource(context.db, uri));
  if (record.tombstone) return absl::NotFoundError(absl::StrCat("resource ", uri, " was deleted before"));
  record.tombstone = true;
  record.version += 1;
  return Write(context, record);
}

absl::StatusOr<ResourceRecord> SelectResource(SqliteConnection& db, const std::string& uri) {
  SIGNET_ASSIGN_OR_RETURN(std::optional<ResourceRecord> record, Find(db, uri));
  if (!record) return absl::NotFoundError(absl::StrCat("resource ", uri, " does not exist"));
  return *std::move(record);
}

absl::StatusOr<Page<ResourceRecord>> SelectResources(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<ResourceRecord>(
      db, DecodeResource, "SELECT " SIGNET_RESOURCE_COLUMNS " FROM resources WHERE n > ? ORDER BY n LIMIT ?", request);
}

}  // namespace signet::server
