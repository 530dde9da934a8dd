// What an administrator writes -> records: every rule about a record that can be judged from the outside stands here.
// Scopes and tools are expanded to atoms at this moment (T9). Names are compared in canonical form (T5). Pure but for
// look-ups in the registry. Errors: kInvalidArgument names the field, the rule and what would do.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/spiffe/id.h"
#include "server/datastore/token_records.h"
#include "server/token/token_registry.h"
#include "signet/server/token/v1/token.pb.h"

namespace signet::server {

inline constexpr absl::Duration kMaxTaskLife = absl::Hours(8);
inline constexpr absl::Duration kMaxGrantLife = absl::Hours(24 * 366);

struct AdminInput {
  const spiffe::TrustDomain& trust_domain;
  const std::vector<std::string>& own_issuers;  // of access tokens and JWT-SVIDs
  const TokenRegistry& registry;
  absl::Time now;
};

// `stored`: on update; then authority that is given as it was read (atoms alone) stays as it is.
absl::StatusOr<IdentityRecord> ReadIdentity(const token::v1::Identity& in, const IdentityRecord* stored,
                                            const AdminInput& input);
// `resources`: canonical URIs of all there are (T5).
absl::StatusOr<IssuerRecord> ReadIssuer(const token::v1::Issuer& in, const IssuerRecord* stored,
                                        const std::vector<std::string>& resources, const AdminInput& input);
// `issuers`: URLs of all users' issuers (T5).
absl::StatusOr<ResourceRecord> ReadResource(const token::v1::Resource& in, const std::vector<std::string>& issuers,
                                            const AdminInput& input);
absl::StatusOr<GrantRecord> ReadGrant(const token::v1::Grant& in, const AdminInput& input);
// kFailedPrecondition: the grant is not active any more.
absl::StatusOr<TaskRecord> ReadTask(const token::v1::Task& in, const AdminInput& input);
absl::StatusOr<UserRightsRecord> ReadUserRights(const token::v1::UserRights& in, const AdminInput& input);
// kInvalidArgument also for a kind we do not know.
absl::StatusOr<oauth::Revocation> ReadRevocation(const token::v1::RevokeRequest& in, absl::Time now);

// T9: SHA-256 (hex) over the canonical JSON of name, description, schemas and annotations.
absl::StatusOr<std::string> ToolHash(const token::v1::Tool& tool);
// Whether `spiffe_id` is `definition` or an instance of it: on segments.
bool IsOrIsBelow(absl::string_view spiffe_id, absl::string_view definition);

}  // namespace signet::server
