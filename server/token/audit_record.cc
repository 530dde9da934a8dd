#include "server/token/audit_record.h"

#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/random.h"

namespace signet::server {
namespace {

absl::string_view MethodName(ClientAuthMethod method) {
  switch (method) {
    case ClientAuthMethod::kX509Svid:
      return "x509_svid";
    case ClientAuthMethod::kJwtSvid:
      return "jwt_svid";
    case ClientAuthMethod::kPrivateKeyJwt:
      return "private_key_jwt";
  }
  return "";
}

void Set(boost::json::object& object, const char* name, absl::string_view value) {
  if (!value.empty()) object[name] = boost::json::string(value.data(), value.size());
}

// Atoms by name, without their constraints: the hash stands beside them.
// More are counted, not named: a record must stay readable, whatever was asked.
constexpr size_t kMaxNames = 64;

boost::json::array Names(const oauth::Atoms& atoms) {
  boost::json::array names;
  for (const oauth::Atom& atom : atoms) {
    if (names.size() == kMaxNames) {
      names.emplace_back(absl::StrCat("and ", atoms.size() - kMaxNames, " more"));
      break;
    }
    names.emplace_back(absl::StrCat(atom.resource, atom.tool ? " tool " : " ", atom.action));
  }
  return names;
}

}  // namespace

std::string NewErrorId() { return absl::StrCat("e-", absl::BytesToHexString(crypto::RandomBytes(10))); }

boost::json::object AuditWho(const Client& client) {
  boost::json::object who;
  Set(who, "client", client.id);
  Set(who, "identity", client.definition);
  Set(who, "instance", client.instance);
  Set(who, "node", client.node);
  return who;
}

boost::json::object AuditAuth(const Client& client) {
  boost::json::object auth;
  Set(auth, "method", MethodName(client.method));
  Set(auth, client.method == ClientAuthMethod::kX509Svid ? "svid_serial" : "jti_hash",
      client.method == ClientAuthMethod::kX509Svid || client.credential.empty() ? client.credential
                                                                                : oauth::Hash(client.credential));
  return auth;
}

boost::json::object AuditNet(const std::string& peer) {
  boost::json::object net;
  Set(net, "peer", peer);
  return net;
}

boost::json::object AuditUser(const std::string& issuer, const std::string& subject) {
  return {{"issuer", issuer}, {"user", subject}};
}

boost::json::object AuditBinding(const oauth::Binding& binding) {
  if (!binding.x5t_s256.empty()) return {{"type", "x5t"}, {"thumbprint", binding.x5t_s256}};
  if (!binding.jkt.empty()) return {{"type", "dpop"}, {"thumbprint", binding.jkt}};
  return {{"type", "bearer"}};
}

boost::json::array AuditRemoved(const Decision& decision) {
  boost::json::array removed;
  for (const TraceStep& step : decision.trace) {
    if (step.removed.empty() && step.narrowed.empty()) continue;
    boost::json::object entry{{"operand", step.operand}};
    if (!step.removed.empty()) entry["atoms"] = Names(step.removed);
    if (!step.narrowed.empty()) entry["narrowed"] = Names(step.narrowed);
    removed.push_back(std::move(entry));
  }
  return removed;
}

void AuditIssued(const oauth::AccessToken& token, boost::json::object& record) {
  boost::json::object granted{{"aud", token.audience},
                              {"atoms_hash", oauth::HashAtoms(token.atoms)},
                              {"exp", absl::ToUnixSeconds(token.expires_at)},
                              {"jti_hash", oauth::Hash(token.jwt_id)}};
  Set(granted, "scope", token.scope);
  if (token.context.calls.has_value()) granted["calls"] = *token.context.calls;
  record["granted"] = std::move(granted);
  boost::json::array chain;
  for (const oauth::Actor& actor : token.actors) chain.emplace_back(actor.subject);
  if (!chain.empty()) record["chain"] = std::move(chain);
  record["depth"] = token.context.depth;
  Set(record, "txn", token.txn);
  Set(record, "task", token.context.task);
  Set(record, "grant", token.context.grant);
  Set(record, "session", token.context.session);
  Set(record, "parent", token.context.parent);
  if (!token.context.root.empty()) record["root_hash"] = oauth::Hash(token.context.root);
  record["rev"] = token.context.rev;
  record["binding"] = AuditBinding(token.binding);
  if (!token.context.user_issuer.empty()) {
    record["for"] = AuditUser(token.context.user_issuer, token.context.user_subject);
  }
}

boost::json::object AuditAsked(const std::string& grant_type, const DecisionInput& input) {
  boost::json::object asked;
  Set(asked, "grant_type", grant_type);
  Set(asked, "aud", input.resource);
  if (!input.nothing_asked) {
    asked["atoms"] = Names(input.requested);
    asked["atoms_hash"] = oauth::HashAtoms(input.requested);
  }
  if (input.max_calls.has_value()) asked["calls"] = *input.max_calls;
  return asked;
}

}  // namespace signet::server
