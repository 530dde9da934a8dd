// Entry.SyncAuthorizedEntries as SPIRE's agents use it: up to 500 entries are sent whole at once; more are announced as
// revisions in pages of 500, and the agent asks for those it lacks, which come in pages of 500.
// The set is that of the moment the stream began.
#pragma once

#include "server/api/call.h"
#include "server/api/stream_registry.h"
#include "server/entries/entry_index.h"

namespace spire::api::server::entry::v1 {
class SyncAuthorizedEntriesRequest;
class SyncAuthorizedEntriesResponse;
}  // namespace spire::api::server::entry::v1

namespace signet::server {

inline constexpr size_t kSyncPage = 500;  // SPIRE's

grpc::ServerBidiReactor<::spire::api::server::entry::v1::SyncAuthorizedEntriesRequest,
                        ::spire::api::server::entry::v1::SyncAuthorizedEntriesResponse>*
StartSyncAuthorizedEntries(grpc::CallbackServerContext* context, Calls& calls, StreamRegistry& streams,
                           const EntryIndex& index);

}  // namespace signet::server
