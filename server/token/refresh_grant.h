// Refresh tokens of the first hop of a task: rotated at each use, bound to the instance (not to a certificate: it
// survives the rotation of SVIDs), kept as hashes. One that is used twice kills its family; but the answer that was
// lost is given again, the same bytes, for 10 s to the same key (T11), sealed until then with a key of this process
// alone. Later hops get none: who gave them their token gives them the next.
#pragma once

#include <functional>

#include "server/token/issue.h"

namespace signet::server {

// For Issuance::with_refresh.
std::function<RefreshPart(const oauth::AccessToken& token)> NewRefreshFamily(const TokenCall& call,
                                                                             const GrantCase& grant_case);

inline constexpr char kRefreshTokenPrefix[] = "rt-";
// The root (jti) of the chain that a stored refresh token belongs to.
absl::StatusOr<std::string> RootOfRefresh(const RefreshRecord& record);

}  // namespace signet::server
