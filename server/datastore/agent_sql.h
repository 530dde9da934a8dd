// Attested agents and join tokens in SQL. Functions that write run inside a task of the SqliteWriter.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/datastore/data_store.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"

namespace signet::server {

absl::Status WriteAttestation(WriteContext& context, const Attestation& attestation, absl::Time now);
absl::Status UpdateNewSerial(WriteContext& context, const spiffe::Id& id, const std::string& serial,
                             absl::Time expires_at);
absl::Status PromoteSerial(WriteContext& context, const spiffe::Id& id, const std::string& serial);
absl::Status UpdateAgentVersion(WriteContext& context, const spiffe::Id& id, const std::string& version);
absl::Status MarkBanned(WriteContext& context, const spiffe::Id& id);
absl::Status DeleteAgentRow(WriteContext& context, const spiffe::Id& id);
absl::StatusOr<size_t> DeleteExpiredAgents(WriteContext& context, absl::Time expired_before, bool include_tofu,
                                           size_t limit);

absl::StatusOr<AgentRecord> SelectAgent(SqliteConnection& db, const spiffe::Id& id);  // kNotFound
absl::StatusOr<Page<AgentRecord>> SelectAgents(SqliteConnection& db, const AgentFilter& filter,
                                               const PageRequest& page);
absl::StatusOr<size_t> CountAgentRows(SqliteConnection& db, const AgentFilter& filter);

absl::Status InsertJoinToken(WriteContext& context, const JoinTokenRecord& token);
absl::StatusOr<JoinTokenRecord> SelectJoinToken(SqliteConnection& db, const std::string& token_sha256, absl::Time now);
absl::StatusOr<size_t> DeleteExpiredJoinTokens(WriteContext& context, absl::Time now);

}  // namespace signet::server
