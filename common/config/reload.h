// SIGHUP, the part both daemons share: what differs between two configurations, and what is said about a reload.
// How a daemon reloads, in its Reload(): first everything that can fail (files read, attestors built), changing
// nothing; then everything that cannot, swapped in as whole snapshots. So a reload takes effect altogether or not at
// all.
#pragma once

#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace signet::config {

// The dotted keys whose values differ, in the order of the schema. A message that is left out is one with all its
// defaults; where being there is all that can be said (a member of a oneof, a message without fields), that counts.
// Keys alone: a value may be a secret. Both of one type.
std::vector<std::string> Differences(const google::protobuf::Message& a, const google::protobuf::Message& b);

// One line for each of the error's: nothing was changed.
void LogNotReloaded(const absl::Status& why);
// What changed between the last configuration and this one, and a line for each key in which it differs from that of
// the start although only a restart takes it up: all but `reloadable` and what is below them.
void LogReloaded(const google::protobuf::Message& at_start, const google::protobuf::Message& last,
                 const google::protobuf::Message& now, absl::Span<const absl::string_view> reloadable);

}  // namespace signet::config
