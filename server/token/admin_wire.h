// Records of the token service -> messages of its administration, and the small values of those messages. Pure.
// Errors: kInvalidArgument names the field and what would do.
#pragma once

#include <string>

#include <google/protobuf/struct.pb.h>
#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/oauth/receipt.h"
#include "server/ca/authority_rotator.h"
#include "server/datastore/records.h"
#include "server/datastore/token_records.h"
#include "server/token/alerts.h"
#include "signet/server/token/v1/token.pb.h"

namespace signet::server {

void ToWire(const IdentityRecord& record, token::v1::Identity& out);
void ToWire(const IssuerRecord& record, token::v1::Issuer& out);
void ToWire(const ResourceRecord& record, token::v1::Resource& out);  // without tombstones
void ToWire(const GrantRecord& record, token::v1::Grant& out);
void ToWire(const TaskRecord& record, token::v1::Task& out);
void ToWire(const UserRightsRecord& record, token::v1::UserRights& out);
void ToWire(const oauth::Revocation& record, token::v1::Revocation& out);
void ToWire(const TokenKeys::Key& key, bool revoked, token::v1::SigningKey& out);
void ToWire(const Alert& alert, token::v1::Alert& out);
void ToWire(const oauth::Receipt& receipt, google::protobuf::Struct& out);
void ToWire(const oauth::Atoms& atoms, google::protobuf::RepeatedPtrField<token::v1::Atom>& out);

absl::string_view NameOf(IdentityState state);  // as in messages: "active"

// Empty text: the default given. RFC 3339; whole seconds.
absl::StatusOr<absl::Time> ReadTime(absl::string_view field, const std::string& text);
absl::StatusOr<absl::Duration> ReadDuration(absl::string_view field, const std::string& text, absl::Duration standard,
                                            absl::Duration least, absl::Duration most);
absl::StatusOr<oauth::Risk> ReadRisk(absl::string_view field, const std::string& text);               // empty: high
absl::StatusOr<oauth::MinimumBinding> ReadBinding(absl::string_view field, const std::string& text);  // empty: dpop
absl::StatusOr<PageRequest> ReadPage(const token::v1::ListRequest& request);

// The same value as JSON: numbers without a fraction become integers, as they would be in text.
boost::json::object JsonOf(const google::protobuf::Struct& in);
void StructOf(const boost::json::object& in, google::protobuf::Struct& out);

}  // namespace signet::server
