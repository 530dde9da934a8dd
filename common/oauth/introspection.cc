#include "common/oauth/introspection.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/oauth/claims_json.h"
#include "common/oauth/dpop.h"

namespace signet::oauth {
namespace {

bool Serves(const ResourceState& resource, const std::string& caller) {
  const auto& servers = resource.servers;
  return std::find(servers.begin(), servers.end(), caller) != servers.end() ||
         std::find(servers.begin(), servers.end(), DefinitionOf(caller)) != servers.end();
}

// The key the token is bound to was shown. Empty: it was.
std::string WhyNotBound(const Presentation& seen, const ResourceState& resource, const AccessToken& token,
                        absl::Time now, std::string& dpop_jti) {
  const Binding& binding = token.binding;
  if (binding.bearer()) {
    return resource.minimum_binding == MinimumBinding::kBearer ? "" : "a bearer token, and the resource demands a key";
  }
  if (resource.minimum_binding == MinimumBinding::kMtls && binding.x5t_s256.empty()) {
    return "the resource demands a token bound to a certificate";
  }
  if (!binding.x5t_s256.empty() && !crypto::ConstantTimeEquals(binding.x5t_s256, seen.peer_x5t_s256)) {
    return "presented with another certificate, or none";
  }
  if (!binding.jkt.empty()) {
    if (seen.dpop_proof.empty()) return "presented without a DPoP proof";
    const auto proof = VerifyDpop(seen.dpop_proof, seen.dpop_method, seen.dpop_uri, seen.token, now);
    if (!proof.ok()) return std::string(proof.status().message());
    if (!crypto::ConstantTimeEquals(proof->jkt, binding.jkt)) return "the DPoP proof is by another key";
    dpop_jti = proof->jwt_id;
  }
  return "";
}

// A token that has tools is for tools: which one must be said, granted, and still the one that was granted.
std::string WhyNotTool(const Presentation& seen, const ResourceState& resource, const AccessToken& token) {
  const bool has_tools = std::any_of(token.atoms.begin(), token.atoms.end(),
                                     [&](const Atom& atom) { return atom.tool && atom.resource == token.audience; });
  if (!has_tools && seen.tool.empty()) return "";
  if (seen.tool.empty()) return "the tool was not said";
  const auto atom = std::find_if(token.atoms.begin(), token.atoms.end(), [&](const Atom& a) {
    return a.tool && a.resource == token.audience && a.action == seen.tool;
  });
  if (atom == token.atoms.end()) return "the tool is not granted";
  const auto tool = resource.tools.find(seen.tool);
  if (tool == resource.tools.end()) return "the tool is not declared";
  return tool->second.hash == atom->tool_hash ? "" : "the tool has changed since it was granted";
}

std::string WhyNot(const Presentation& seen, const TokenState& state, absl::Time now, Judgement& out) {
  const AccessToken& token = out.token;
  if (token.issuer != state.issuer || token.expires_at <= now) return "expired, or of another issuer";
  if (token.context.rev > state.seq) return "newer than what is known here";
  if (const Revocation* revocation = state.revocations.Kills(token)) {
    return absl::StrCat("revoked: ", EntityKindName(revocation->kind), " ", revocation->entity);
  }
  const auto resource = state.resources.find(token.audience);
  if (resource == state.resources.end()) return "its audience is not registered";
  if (!Serves(resource->second, seen.caller)) return "the caller does not serve its audience";
  if (std::string why = WhyNotBound(seen, resource->second, token, now, out.dpop_jti); !why.empty()) return why;
  if (std::string why = WhyNotTool(seen, resource->second, token); !why.empty()) return why;
  if (seen.task != token.context.task) return "of another task, or the task was not said";
  if (seen.session != token.context.session) return "of another session, or the session was not said";
  return "";
}

}  // namespace

Judgement Judge(const Presentation& presentation, const TokenState& state, absl::Time now,
                const AccessToken* verified) {
  Judgement judgement;
  if (verified != nullptr) {
    judgement.token = *verified;
  } else {
    absl::StatusOr<AccessToken> read = Verify(presentation.token, state.token_keys, state.issuer, now);
    if (!read.ok()) {
      judgement.why_not = std::string(read.status().message());
      return judgement;
    }
    judgement.token = *std::move(read);
  }
  judgement.why_not = WhyNot(presentation, state, now, judgement);
  judgement.active = judgement.why_not.empty();
  return judgement;
}

bool ShownWithAnotherKey(const Presentation& presentation, const Judgement& judgement, absl::Time now) {
  const Binding& binding = judgement.token.binding;
  if (judgement.active || judgement.token.jwt_id.empty()) return false;
  if (!binding.x5t_s256.empty()) {
    return !presentation.peer_x5t_s256.empty() && presentation.peer_x5t_s256 != binding.x5t_s256;
  }
  if (binding.jkt.empty() || presentation.dpop_proof.empty()) return false;
  const auto proof =
      VerifyDpop(presentation.dpop_proof, presentation.dpop_method, presentation.dpop_uri, presentation.token, now);
  return proof.ok() && proof->jkt != binding.jkt;
}

std::string IntrospectionJson(const Judgement& judgement) {
  if (!judgement.active) return R"({"active":false})";
  boost::json::object answer = ClaimsObject(judgement.token);
  answer["active"] = true;
  answer["token_type"] = judgement.token.binding.jkt.empty() ? "Bearer" : "DPoP";  // RFC 9449 6.2, RFC 8705 3.2
  return Canonical(answer);
}

}  // namespace signet::oauth
