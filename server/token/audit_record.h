// The parts of an audit record of a decision (agent-identity C.9): who, for whom, the chain, what was asked, what was
// granted and what took the rest away. Hashes only, never a token. Pure.
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "absl/time/time.h"
#include "common/oauth/access_token.h"
#include "server/token/client_auth.h"
#include "server/token/decision.h"

namespace signet::server {

inline constexpr char kPolicy[] = "signet/1";  // the rules of decision.h; changes with them

std::string NewErrorId();

boost::json::object AuditWho(const Client& client);
boost::json::object AuditAuth(const Client& client);
boost::json::object AuditNet(const std::string& peer);
boost::json::object AuditUser(const std::string& issuer, const std::string& subject);
boost::json::object AuditBinding(const oauth::Binding& binding);
// What each operand took away: [{operand, atoms}].
boost::json::array AuditRemoved(const Decision& decision);
// Everything about an issued token, but for the token.
void AuditIssued(const oauth::AccessToken& token, boost::json::object& record);
// What was asked.
boost::json::object AuditAsked(const std::string& grant_type, const DecisionInput& input);

}  // namespace signet::server
