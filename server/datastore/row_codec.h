// How values stand in a column, the same in every SQL store. A list of strings is one blob: for each its length as a
// varint (LEB128), then its bytes; a selector is its type, then its value. Equal normalised lists have equal blobs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"

namespace signet::server {

std::string EncodeStrings(const std::vector<std::string>& strings);
absl::StatusOr<std::vector<std::string>> DecodeStrings(absl::string_view blob);  // kDataLoss

std::string EncodeSelectors(const spiffe::Selectors& selectors);
absl::StatusOr<spiffe::Selectors> DecodeSelectors(absl::string_view blob);  // kDataLoss

// Whole seconds; the epoch is "not set".
inline int64_t EncodeTime(absl::Time time) { return absl::ToUnixSeconds(time); }
inline absl::Time DecodeTime(int64_t seconds) { return absl::FromUnixSeconds(seconds); }

absl::StatusOr<spiffe::Id> DecodeId(absl::string_view text);  // kDataLoss

// SHA-256 over parent, SPIFFE ID and selectors: two entries with the same are duplicates (SPIRE: pkg/server/api/entry).
std::string EntryIdentity(const spiffe::Entry& entry);

}  // namespace signet::server
