#include "common/oauth/access_token.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/oauth/claims_json.h"
#include "common/oauth/members.h"
#include "common/oauth/revocation.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

constexpr absl::string_view kType = "at+jwt";           // RFC 9068 2.1
constexpr absl::Duration kMaxSkew = absl::Seconds(60);  // iat may lie so far ahead
constexpr size_t kMaxReceipts = kMaxAncestors + 1;

void Put(boost::json::object& object, absl::string_view name, const std::string& text) {
  if (!text.empty()) object[JsonView(name)] = text;
}
void Put(boost::json::object& object, absl::string_view name, absl::Time time, absl::Time absent) {
  if (time != absent) object[JsonView(name)] = absl::ToUnixSeconds(time);
}

// From the innermost out: each link holds the one before.
boost::json::object ActJson(const std::vector<Actor>& actors) {
  boost::json::object act;
  for (auto actor = actors.rbegin(); actor != actors.rend(); ++actor) {
    boost::json::object link;
    link["sub"] = actor->subject;
    link["iss"] = actor->issuer;
    link["sub_profile"] = "ai_agent";
    if (!act.empty()) link["act"] = std::move(act);
    act = std::move(link);
  }
  return act;
}

std::vector<Actor> ReadAct(Members& members) {
  std::vector<Actor> actors;
  for (const boost::json::object* link = members.Object("act"); link != nullptr;) {
    if (actors.size() == kMaxDepth) {  // OAuth Actor Profile: more than five must be rejected on receipt
      members.Fail("act", "nested deeper than 5");
      break;
    }
    Members act(*link, "act");
    actors.push_back({.subject = act.Text("sub"), .issuer = act.Text("iss")});
    if (act.Text("sub_profile") != "ai_agent") act.Fail("sub_profile", "not ai_agent");
    link = act.Object("act");
    members.Take(act.NothingElse());
    if (!members.ok()) break;
  }
  return actors;
}

boost::json::object ContextJson(const Context& c) {
  boost::json::object object;
  Put(object, "task", c.task);
  Put(object, "task_hash", c.task_hash);
  Put(object, "session", c.session);
  Put(object, "instance", c.instance);
  Put(object, "grant", c.grant);
  Put(object, "identity", c.identity);
  Put(object, "user_iss", c.user_issuer);
  Put(object, "user_sub", c.user_subject);
  Put(object, "node", c.node);
  object["depth"] = c.depth;
  object["max_depth"] = c.max_depth;
  Put(object, "parent", c.parent);
  Put(object, "root", c.root);
  if (!c.ancestors.empty()) {
    boost::json::array ancestors;
    for (const Ancestor& a : c.ancestors) {
      boost::json::object ancestor;
      Put(ancestor, "jti", a.jwt_id);
      Put(ancestor, "instance", a.instance);
      Put(ancestor, "node", a.node);
      Put(ancestor, "kid", a.key_id);
      ancestors.push_back(std::move(ancestor));
    }
    object["ancestors"] = std::move(ancestors);
  }
  Put(object, "reauth_at", c.reauth_at, absl::InfiniteFuture());
  Put(object, "rights_at", c.rights_at, absl::InfinitePast());
  if (c.calls.has_value()) object["calls"] = *c.calls;
  object["rev"] = static_cast<int64_t>(c.rev);
  Put(object, "receipt_hash", c.receipt_hash);
  object["receipts"] = c.receipts;
  return object;
}

Ancestor ReadAncestor(Members& members, const boost::json::value& value) {
  Ancestor ancestor;
  if (!value.is_object()) return members.Fail("ancestors", "an item is not an object"), ancestor;
  Members item(value.get_object(), "ancestors");
  ancestor.jwt_id = item.Text("jti");
  ancestor.instance = item.TextOr("instance");
  ancestor.node = item.TextOr("node");
  ancestor.key_id = item.TextOr("kid");
  members.Take(item.NothingElse());
  return ancestor;
}

// What is not known here may be a bound of a newer release: refused, never ignored.
absl::StatusOr<Context> ReadContext(const boost::json::object& object) {
  Members members(object, "agent_ctx");
  Context c;
  c.task = members.TextOr("task");
  c.task_hash = members.TextOr("task_hash");
  c.session = members.TextOr("session");
  c.instance = members.TextOr("instance");
  c.grant = members.TextOr("grant");
  c.identity = members.TextOr("identity");
  c.user_issuer = members.TextOr("user_iss");
  c.user_subject = members.TextOr("user_sub");
  c.node = members.TextOr("node");
  c.depth = static_cast<int>(members.RequiredInteger("depth", 1, kMaxDepth));
  c.max_depth = static_cast<int>(members.RequiredInteger("max_depth", 1, kMaxDepth));
  c.parent = members.TextOr("parent");
  c.root = members.Text("root");
  if (const boost::json::array* ancestors = members.Array("ancestors", kMaxAncestors)) {
    for (const boost::json::value& value : *ancestors) c.ancestors.push_back(ReadAncestor(members, value));
    if (ancestors->empty()) members.Fail("ancestors", "empty");
  }
  c.reauth_at = members.TimeOr("reauth_at", absl::InfiniteFuture());
  c.rights_at = members.TimeOr("rights_at", absl::InfinitePast());
  c.calls = members.Integer("calls", 0, kMaxNumber);
  c.rev = static_cast<uint64_t>(members.RequiredInteger("rev", 0, INT64_MAX));
  c.receipt_hash = members.TextOr("receipt_hash");
  c.receipts = static_cast<int>(members.RequiredInteger("receipts", 0, kMaxReceipts));
  SIGNET_RETURN_IF_ERROR(members.NothingElse());
  if (c.user_issuer.empty() != c.user_subject.empty()) return absl::InvalidArgumentError("agent_ctx: half a user");
  if (c.receipt_hash.empty() != (c.receipts == 0)) return absl::InvalidArgumentError("agent_ctx: receipts do not fit");
  if (c.parent.empty() != c.ancestors.empty()) return absl::InvalidArgumentError("agent_ctx: parent without ancestors");
  return c;
}

// Atoms that are not tools; those of one resource with equal bounds share an object.
boost::json::array PermissionsJson(const Atoms& atoms) {
  std::map<std::pair<std::string, std::string>, boost::json::object> objects;
  for (const Atom& atom : atoms) {
    if (atom.tool) continue;
    boost::json::object constraints = ConstraintsJson(atom.constraints);
    boost::json::object& object = objects[{atom.resource, Canonical(constraints)}];
    if (object.empty()) {
      object["resource"] = atom.resource;
      object["actions"] = boost::json::array();
      if (!constraints.empty()) object["constraints"] = std::move(constraints);
    }
    object["actions"].get_array().emplace_back(atom.action);
  }
  boost::json::array array;
  for (auto& [key, object] : objects) array.push_back(std::move(object));
  return array;
}

absl::Status ReadPermissions(Members& members, Atoms& atoms) {
  const boost::json::array* array = members.Array("permissions", kMaxAtoms);
  if (array == nullptr) return members.status();
  for (const boost::json::value& value : *array) {
    if (!value.is_object()) return absl::InvalidArgumentError("permissions: an item is not an object");
    Members item(value.get_object(), "permissions");
    const std::string resource = item.Text("resource");
    Constraints constraints;
    if (const boost::json::value* given = item.Find("constraints")) {
      SIGNET_ASSIGN_OR_RETURN(constraints, ParseConstraints(*given));
    }
    for (std::string& action : item.Texts("actions", kMaxAtoms)) {
      atoms.push_back({.resource = resource, .action = std::move(action), .tool_hash = {}, .constraints = constraints});
    }
    SIGNET_RETURN_IF_ERROR(item.NothingElse());
  }
  return absl::OkStatus();
}

// In a token every tool has its hash and the objects are ours.
absl::Status ReadTools(Members& members, const std::optional<int64_t>& calls, Atoms& atoms) {
  const boost::json::value* value = members.Find("authorization_details");
  if (value == nullptr) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(const std::vector<ToolCallDetails> all, ReadDetails(*value));
  for (const ToolCallDetails& details : all) {
    if (details.max_calls != calls)
      return absl::InvalidArgumentError("authorization_details: max_calls is not the quota");
    for (const std::string& tool : details.tools) {
      const auto hash = details.tool_hashes.find(tool);
      if (hash == details.tool_hashes.end()) return absl::InvalidArgumentError("authorization_details: no tool hash");
      atoms.push_back({.resource = details.resource,
                       .action = tool,
                       .tool = true,
                       .tool_hash = hash->second,
                       .constraints = details.constraints});
    }
  }
  return absl::OkStatus();
}

// The claims must tell one story: who acts is the client, how deep is how many acted.
absl::Status CheckStory(const AccessToken& token) {
  const auto bad = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("access token: ", what));
  };
  if (token.actors.empty()) {
    if (token.subject != token.client_id || token.subject_profile != "ai_agent" || !token.context.user_issuer.empty() ||
        token.context.depth != 1) {
      return bad("without act, and not the client's own authority");
    }
    return absl::OkStatus();
  }
  if (token.actors.front().subject != token.client_id) return bad("client_id is not the outermost actor");
  if (token.subject_profile != "user" || token.context.user_issuer.empty()) return bad("act without a user");
  if (static_cast<size_t>(token.context.depth) != token.actors.size()) return bad("depth is not the number of actors");
  if (token.context.depth > token.context.max_depth) return bad("deeper than its max_depth");
  return absl::OkStatus();
}

}  // namespace

bool IsOwnAuthority(const AccessToken& token) { return token.actors.empty() || token.subject_profile != "user"; }

boost::json::object BindingJson(const Binding& binding) {
  boost::json::object cnf;
  Put(cnf, "jkt", binding.jkt);
  Put(cnf, "x5t#S256", binding.x5t_s256);
  return cnf;
}

Binding ReadBinding(Members& members) {
  Binding binding;
  const boost::json::object* object = members.Object("cnf");
  if (object == nullptr) return binding;
  Members cnf(*object, "cnf");
  binding.jkt = cnf.TextOr("jkt");
  binding.x5t_s256 = cnf.TextOr("x5t#S256");
  members.Take(cnf.NothingElse());
  if (binding.bearer()) members.Fail("cnf", "names no key");
  return binding;
}

boost::json::object ClaimsObject(const AccessToken& token) {
  boost::json::object claims;
  Put(claims, "iss", token.issuer);
  Put(claims, "sub", token.subject);
  Put(claims, "sub_profile", token.subject_profile);
  Put(claims, "aud", token.audience);
  Put(claims, "client_id", token.client_id);
  Put(claims, "jti", token.jwt_id);
  Put(claims, "txn", token.txn);
  claims["iat"] = absl::ToUnixSeconds(token.issued_at);
  claims["exp"] = absl::ToUnixSeconds(token.expires_at);
  Put(claims, "scope", token.scope);
  if (std::any_of(token.atoms.begin(), token.atoms.end(), [](const Atom& atom) { return atom.tool; })) {
    claims["authorization_details"] = DetailsJson(token.atoms, token.context.calls);
  }
  if (boost::json::array permissions = PermissionsJson(token.atoms); !permissions.empty()) {
    claims["permissions"] = std::move(permissions);
  }
  if (!token.actors.empty()) claims["act"] = ActJson(token.actors);
  if (!token.binding.bearer()) claims["cnf"] = BindingJson(token.binding);
  claims["agent_ctx"] = ContextJson(token.context);
  if (!token.receipts.empty()) {
    boost::json::array receipts;
    for (const std::string& receipt : token.receipts) receipts.emplace_back(receipt);
    claims["actor_receipts"] = std::move(receipts);
  }
  Put(claims, "receipts_uri", token.receipts_uri);
  if (token.auth_time.has_value()) claims["auth_time"] = absl::ToUnixSeconds(*token.auth_time);
  Put(claims, "acr", token.acr);
  if (!token.amr.empty()) {
    boost::json::array amr;
    for (const std::string& method : token.amr) amr.emplace_back(method);
    claims["amr"] = std::move(amr);
  }
  return claims;
}

std::string ClaimsJson(const AccessToken& token) { return Canonical(ClaimsObject(token)); }

absl::StatusOr<AccessToken> ParseClaims(absl::string_view payload_json) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(payload_json, kMaxJwtBytes), "access token");
  if (!value.is_object()) return absl::InvalidArgumentError("access token: not an object");
  Members members(value.get_object(), "access token");
  AccessToken token;
  token.issuer = members.Text("iss");
  token.subject = members.Text("sub");
  token.subject_profile = members.Text("sub_profile");
  token.audience = members.Text("aud");
  token.client_id = members.Text("client_id");
  token.jwt_id = members.Text("jti");
  token.txn = members.Text("txn");
  token.issued_at = members.RequiredTime("iat");
  token.expires_at = members.RequiredTime("exp");
  token.scope = members.TextOr("scope");
  token.actors = ReadAct(members);
  token.binding = ReadBinding(members);
  const boost::json::object* context = members.Object("agent_ctx");
  if (context == nullptr) members.Fail("agent_ctx", "missing");
  SIGNET_RETURN_IF_ERROR(members.status());
  SIGNET_ASSIGN_OR_RETURN(token.context, ReadContext(*context));
  token.receipts = members.Texts("actor_receipts", kMaxReceipts, kMaxJwtBytes);
  token.receipts_uri = members.TextOr("receipts_uri");
  if (members.Find("auth_time") != nullptr) token.auth_time = members.RequiredTime("auth_time");
  token.acr = members.TextOr("acr");
  token.amr = members.Texts("amr", 16);
  SIGNET_RETURN_IF_ERROR(members.status());
  Atoms atoms;
  SIGNET_RETURN_IF_ERROR(ReadTools(members, token.context.calls, atoms));
  SIGNET_RETURN_IF_ERROR(ReadPermissions(members, atoms));
  SIGNET_ASSIGN_OR_RETURN(token.atoms, Normalize(std::move(atoms)), "access token");
  SIGNET_RETURN_IF_ERROR(CheckStory(token));
  return token;
}

absl::StatusOr<std::string> Sign(const AccessToken& token, absl::string_view kid, crypto::KeyType type,
                                 const crypto::MessageSigner& sign) {
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view algorithm, jose::AlgorithmFor(type));
  boost::json::object header;
  header["alg"] = JsonView(algorithm);
  header["kid"] = JsonView(kid);
  header["typ"] = JsonView(kType);
  return jose::SignCompact(Canonical(header), ClaimsJson(token), type, sign);
}

absl::StatusOr<AccessToken> VerifyAnyTime(absl::string_view token, const Keys& keys, absl::string_view issuer) {
  SIGNET_ASSIGN_OR_RETURN(const jose::CompactJws jws, jose::CompactJws::Parse(token, kMaxJwtBytes));
  if (jws.header.type != kType) return absl::PermissionDeniedError("access token: \"typ\" is not at+jwt");
  if (jws.header.algorithm != "ES256" && jws.header.algorithm != "RS256") {
    return absl::PermissionDeniedError("access token: signed with an algorithm we do not use");
  }
  if (!jws.header.key_id.has_value()) return absl::PermissionDeniedError("access token: no \"kid\"");
  const auto key = keys.find(*jws.header.key_id);
  if (key == keys.end()) return absl::PermissionDeniedError("access token: signed by a key that is not known");
  SIGNET_RETURN_IF_ERROR(jws.Verify(key->second));
  SIGNET_ASSIGN_OR_RETURN(AccessToken read, ParseClaims(jws.payload));
  if (read.issuer != issuer) return absl::PermissionDeniedError("access token: of another issuer");
  read.key_id = *jws.header.key_id;
  return read;
}

absl::StatusOr<AccessToken> Verify(absl::string_view token, const Keys& keys, absl::string_view issuer,
                                   absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(AccessToken read, VerifyAnyTime(token, keys, issuer));
  if (read.expires_at <= now) return absl::PermissionDeniedError("access token: expired");
  if (read.issued_at > now + kMaxSkew) return absl::PermissionDeniedError("access token: issued in the future");
  return read;
}

std::string Hash(absl::string_view text) {
  return absl::StrCat("sha-256:", absl::BytesToHexString(crypto::Sha256(text)));
}

std::string UserSubject(absl::string_view issuer, absl::string_view subject) {
  // 128 bits of the hash: no two users meet, and the text stays short.
  return absl::StrCat("user:", absl::BytesToHexString(crypto::Sha256(UserKey(issuer, subject)).substr(0, 16)));
}

std::vector<Ancestor> AncestorsFor(const AccessToken& parent) {
  std::vector<Ancestor> ancestors = {{.jwt_id = parent.jwt_id,
                                      .instance = parent.context.instance,
                                      .node = parent.context.node,
                                      .key_id = parent.key_id}};
  ancestors.insert(ancestors.end(), parent.context.ancestors.begin(), parent.context.ancestors.end());
  return ancestors;
}

}  // namespace signet::oauth
