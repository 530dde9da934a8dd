// The token service's records as the text of a column: JSON of every field that has no column of its own, the same in
// every SQL store. Decode fills those fields of `record` and leaves the others. Errors: kDataLoss, naming the member.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/datastore/token_records.h"

namespace signet::server {

std::string EncodeRecord(const IdentityRecord& record);
std::string EncodeRecord(const IssuerRecord& record);
std::string EncodeRecord(const ResourceRecord& record);
std::string EncodeRecord(const GrantRecord& record);
std::string EncodeRecord(const TaskRecord& record);
std::string EncodeRecord(const UserRightsRecord& record);

absl::Status DecodeRecord(absl::string_view text, IdentityRecord& record);
absl::Status DecodeRecord(absl::string_view text, IssuerRecord& record);
absl::Status DecodeRecord(absl::string_view text, ResourceRecord& record);
absl::Status DecodeRecord(absl::string_view text, GrantRecord& record);
absl::Status DecodeRecord(absl::string_view text, TaskRecord& record);
absl::Status DecodeRecord(absl::string_view text, UserRightsRecord& record);

// Whole seconds; the infinite times are the greatest and the smallest number.
int64_t EncodeMoment(absl::Time time);
absl::Time DecodeMoment(int64_t seconds);

}  // namespace signet::server
