// Agent.AttestAgent: evidence, challenges and answers, then one transaction that records the agent, spends its token
// and makes its alias, then the SVID. The certificate is signed before the record is written and sent only after it
// stands.
#pragma once

#include "server/api/agent_service.h"

namespace spire::api::server::agent::v1 {
class AttestAgentRequest;
class AttestAgentResponse;
}  // namespace spire::api::server::agent::v1

namespace signet::server {

inline constexpr absl::Duration kAttestationLimit = absl::Seconds(30);  // all of it, whoever is slow
inline constexpr int kMaxChallenges = 8;
inline constexpr size_t kMaxEvidenceBytes = 256 * 1024;  // a certificate chain, a signed document

grpc::ServerBidiReactor<::spire::api::server::agent::v1::AttestAgentRequest,
                        ::spire::api::server::agent::v1::AttestAgentResponse>*
StartAttestAgent(grpc::CallbackServerContext* context, const AgentServiceDeps& deps);

}  // namespace signet::server
