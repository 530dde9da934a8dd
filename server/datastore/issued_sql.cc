#include "server/datastore/issued_sql.h"

#include <algorithm>

#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr absl::Duration kKept = absl::Hours(30 * 24);

}  // namespace

absl::Status InsertIssued(SqliteConnection& db, const std::vector<IssuedSvid>& issued) {
  if (issued.empty()) return absl::OkStatus();
  absl::Time newest = absl::InfinitePast();
  for (const IssuedSvid& svid : issued) {
    newest = std::max(newest, svid.issued_at);
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT INTO issued_svids (serial, spiffe_id, entry_id, agent_id, key_sha256, issued_at, expires_at) "
               "VALUES (?, ?, ?, ?, ?, ?, ?)",
               svid.serial, svid.spiffe_id, svid.entry_id, svid.agent_id, svid.key_sha256_hex,
               absl::ToUnixSeconds(svid.issued_at), absl::ToUnixSeconds(svid.expires_at)));
  }
  // Rows stand in the order of issue; twice as many may go as came, so the log shrinks after a busy time.
  return db.Run("DELETE FROM issued_svids WHERE n IN (SELECT n FROM issued_svids ORDER BY n LIMIT ?) AND issued_at < ?",
                2 * issued.size(), absl::ToUnixSeconds(newest - kKept));
}

}  // namespace signet::server
