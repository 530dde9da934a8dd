#include "server/token/admin_input.h"

#include <algorithm>
#include <set>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/crypto/digest.h"
#include "common/status/macros.h"
#include "server/token/admin_wire.h"
#include "server/token/decision.h"

namespace signet::server {
namespace {

constexpr size_t kMaxName = 256, kMaxText = 4096, kMaxConsentText = 64 * 1024, kMaxList = 256, kMaxTools = 512,
                 kMaxScopes = 512, kMaxKeys = 256 * 1024;
constexpr absl::Duration kStandardTtl = absl::Minutes(5), kMaxTtl = absl::Hours(1);

absl::Status Bad(absl::string_view field, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", problem));
}

absl::Status CheckText(absl::string_view field, absl::string_view text, size_t limit) {
  if (text.size() > limit) return Bad(field, absl::StrCat("longer than ", limit, " bytes"));
  const bool control = std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\r';
  });
  return control ? Bad(field, "holds a control character") : absl::OkStatus();
}

// RFC 6749 3.3: what a scope may be made of; actions and names of tools keep to it too.
absl::Status CheckToken(absl::string_view field, absl::string_view text) {
  if (text.empty() || text.size() > kMaxName) return Bad(field, "must have 1 to 256 characters");
  const bool fine = std::all_of(text.begin(), text.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u > 0x20 && u < 0x7f && c != '"' && c != '\\';
  });
  return fine ? absl::OkStatus()
              : Bad(field, absl::StrCat("\"", absl::CEscape(text),
                                        "\" may hold printable ASCII alone, no space, quote "
                                        "or backslash"));
}

absl::StatusOr<int> ReadDepth(int32_t depth) {
  if (depth == 0) return oauth::kMaxDepth;
  if (depth < 1 || depth > oauth::kMaxDepth) return Bad("max_depth", "must be 1 to 5");
  return depth;
}

// --- names
// ------------------------------------------------------------------------------------------------------------

absl::StatusOr<spiffe::Id> ReadSpiffeId(absl::string_view field, const std::string& text) {
  absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
  if (!id.ok()) return Bad(field, absl::StrCat("\"", absl::CEscape(text), "\": ", id.status().message()));
  if (id->is_root()) return Bad(field, absl::StrCat("\"", text, "\" has no path"));
  return *std::move(id);
}

// A definition: /agent/<name> of the own trust domain, or the full SPIFFE ID of a federated client (T7).
absl::StatusOr<std::string> ReadDefinition(absl::string_view field, const std::string& text, const AdminInput& input) {
  SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, ReadSpiffeId(field, text));
  if (id.IsMemberOf(input.trust_domain)) {
    absl::string_view path = id.path();
    if (!absl::ConsumePrefix(&path, "/agent/") || absl::StrContains(path, '/')) {
      return Bad(field, absl::StrCat("\"", text, "\" must be ", input.trust_domain.IdString(),
                                     "/agent/NAME; its instances are registration entries one segment below"));
    }
  }
  return id.string();
}

absl::StatusOr<std::vector<std::string>> ReadDefinitions(absl::string_view field,
                                                         const google::protobuf::RepeatedPtrField<std::string>& texts,
                                                         const AdminInput& input) {
  if (static_cast<size_t>(texts.size()) > kMaxList) return Bad(field, absl::StrCat("more than ", kMaxList));
  std::set<std::string> all;
  for (const std::string& text : texts) {
    SIGNET_ASSIGN_OR_RETURN(std::string id, ReadDefinition(field, text, input));
    all.insert(std::move(id));
  }
  return std::vector<std::string>(all.begin(), all.end());
}

absl::StatusOr<std::shared_ptr<const IdentityRecord>> FindIdentity(absl::string_view field, const std::string& id,
                                                                   const AdminInput& input) {
  std::shared_ptr<const IdentityRecord> identity = input.registry.FindIdentity(id);
  if (identity == nullptr) return Bad(field, absl::StrCat(id, " is not registered: create the identity first"));
  if (identity->state == IdentityState::kRetired) return Bad(field, absl::StrCat(id, " is retired"));
  return identity;
}

// An issuer of users as its tokens write it; https, or http on this machine alone.
absl::Status CheckIssuerUrl(absl::string_view field, const std::string& url) {
  const absl::StatusOr<std::string> canonical = oauth::CanonicalResource(url);
  if (!canonical.ok()) return Bad(field, absl::StrCat("\"", absl::CEscape(url), "\": ", canonical.status().message()));
  const bool local = absl::StartsWith(*canonical, "http://localhost") || absl::StartsWith(*canonical, "http://127.") ||
                     absl::StartsWith(*canonical, "http://[::1]");
  if (!absl::StartsWith(*canonical, "https://") && !local) return Bad(field, "must be an https URL");
  if (absl::StrContains(url, '?') || absl::StrContains(url, ' ')) return Bad(field, "may have no query");
  return absl::OkStatus();
}

std::string Canonical(const std::string& url) {
  absl::StatusOr<std::string> canonical = oauth::CanonicalResource(url);
  return canonical.ok() ? *std::move(canonical) : url;
}

// T5: the names of issuers and of resources never meet, whatever way they are written.
absl::Status CheckApart(absl::string_view field, const std::string& uri, const std::vector<std::string>& others,
                        absl::string_view what) {
  const std::string canonical = Canonical(uri);
  for (const std::string& other : others) {
    if (Canonical(other) == canonical) {
      return Bad(field, absl::StrCat("\"", uri, "\" is ", what, ": tokens of one kind must not pass for another"));
    }
  }
  return absl::OkStatus();
}

// --- authority
// --------------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<const ResourceRecord>> FindResource(absl::string_view field, const std::string& uri,
                                                                   const AdminInput& input) {
  const absl::StatusOr<std::string> canonical = oauth::CanonicalResource(uri);
  if (!canonical.ok()) return Bad(field, absl::StrCat("\"", absl::CEscape(uri), "\": ", canonical.status().message()));
  std::shared_ptr<const ResourceRecord> resource = input.registry.FindResource(*canonical);
  if (resource == nullptr || resource->tombstone) {
    return Bad(field, absl::StrCat("resource ", *canonical, " is not registered: create it first"));
  }
  return resource;
}

absl::StatusOr<oauth::Atoms> Expand(const token::v1::Authority& in, const AdminInput& input) {
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<const ResourceRecord> resource,
                          FindResource("resource", in.resource(), input));
  if (in.scopes().empty() && in.tools().empty()) return Bad("scopes", "name a scope or a tool");
  std::vector<std::string> unknown;
  oauth::Atoms atoms = ExpandScopes(*resource, {in.scopes().begin(), in.scopes().end()}, &unknown);
  if (!unknown.empty()) {
    return Bad("scopes",
               absl::StrCat("\"", absl::CEscape(unknown.front()), "\" stands for nothing of ", resource->uri));
  }
  const std::set<std::string> tools(in.tools().begin(), in.tools().end());
  const oauth::ToolCallDetails details{.resource = resource->uri,
                                       .tools = {tools.begin(), tools.end()},
                                       .tool_hashes = {},
                                       .constraints = {},
                                       .max_calls = std::nullopt};
  const oauth::Atoms by_name = ExpandDetails(*resource, {details}, &unknown);
  if (!unknown.empty()) {
    return Bad("tools", absl::StrCat("\"", absl::CEscape(unknown.front()), "\" is no tool of ", resource->uri));
  }
  atoms.insert(atoms.end(), by_name.begin(), by_name.end());
  if (in.has_constraints() && !in.constraints().fields().empty()) {
    SIGNET_ASSIGN_OR_RETURN(const oauth::Constraints constraints, oauth::ParseConstraints(JsonOf(in.constraints())));
    for (oauth::Atom& atom : atoms) atom.constraints = constraints;
  }
  return oauth::Normalize(std::move(atoms));
}

absl::StatusOr<oauth::Atoms> ExpandAll(absl::string_view field,
                                       const google::protobuf::RepeatedPtrField<token::v1::Authority>& authorities,
                                       const AdminInput& input) {
  oauth::Atoms all;
  for (int i = 0; i < authorities.size(); ++i) {
    SIGNET_ASSIGN_OR_RETURN(const oauth::Atoms atoms, Expand(authorities[i], input), absl::StrCat(field, "[", i, "]"));
    if (all.size() + atoms.size() > 4 * oauth::kMaxAtoms) return Bad(field, "too many permissions");
    all.insert(all.end(), atoms.begin(), atoms.end());
  }
  absl::StatusOr<oauth::Atoms> normal = oauth::Normalize(std::move(all));
  if (!normal.ok()) return Bad(field, normal.status().message());
  return normal;
}

// --- users
// ------------------------------------------------------------------------------------------------------------

// T7: a user is a name that a registered issuer gave, never a SPIFFE ID.
absl::Status CheckUser(const token::v1::User& user, const AdminInput& input) {
  if (user.issuer().empty()) return Bad("user.issuer", "required: the issuer's URL");
  if (user.subject().empty()) return Bad("user.subject", "required: the issuer's stable name for the user");
  SIGNET_RETURN_IF_ERROR(CheckText("user.subject", user.subject(), kMaxName));
  if (absl::StartsWithIgnoreCase(user.subject(), "spiffe:")) {
    return Bad("user.subject", "a SPIFFE ID is a workload, never a user");
  }
  if (input.registry.FindIssuer(user.issuer()) == nullptr) {
    return Bad("user.issuer",
               absl::StrCat("\"", absl::CEscape(user.issuer()), "\" is not registered: put the issuer first"));
  }
  return absl::OkStatus();
}

// Claims that a user or an administrator of the issuer can change, or that can pass to somebody else.
bool IsMutableClaim(absl::string_view claim) {
  constexpr absl::string_view kMutable[] = {
      "email",    "email_verified", "preferred_username", "username",     "user_name",   "name",
      "nickname", "given_name",     "family_name",        "phone_number", "unique_name", "upn",
      "login",    "mail",           "middle_name",        "profile",      "website",     "display_name",
      "address"};
  return std::any_of(std::begin(kMutable), std::end(kMutable),
                     [&](absl::string_view name) { return absl::EqualsIgnoreCase(name, claim); });
}

absl::StatusOr<std::string> ReadId(const std::string& id) {
  const bool fine = id.size() <= 64 && std::all_of(id.begin(), id.end(), [](char c) {
                      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
                    });
  if (!fine) return Bad("id", "at most 64 letters, digits, '-', '_' and '.'; left out, the server makes one");
  return id;
}

// --- resources
// --------------------------------------------------------------------------------------------------------

bool IsHash(absl::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

absl::StatusOr<ToolRecord> ReadTool(const token::v1::Tool& in) {
  ToolRecord tool;
  SIGNET_RETURN_IF_ERROR(CheckToken("name", in.name()));
  SIGNET_RETURN_IF_ERROR(CheckText("description", in.description(), kMaxConsentText));
  tool.name = in.name();
  tool.description = in.description();
  SIGNET_ASSIGN_OR_RETURN(tool.risk, ReadRisk("risk", in.risk()));
  tool.read_only = in.read_only();
  std::set<std::string> scopes;
  for (const std::string& scope : in.scopes()) {
    SIGNET_RETURN_IF_ERROR(CheckToken("scopes", scope));
    scopes.insert(scope);
  }
  tool.needs = {scopes.begin(), scopes.end()};
  const bool described = in.has_input_schema() || in.has_output_schema() || in.has_annotations();
  if (!in.hash().empty() && !IsHash(in.hash())) return Bad("hash", "must be a SHA-256 in 64 lower case hex digits");
  if (!described && !in.hash().empty()) {
    tool.hash = in.hash();
    return tool;
  }
  SIGNET_ASSIGN_OR_RETURN(tool.hash, ToolHash(in));
  if (!in.hash().empty() && in.hash() != tool.hash) {
    return Bad("hash", "is not that of the description and schemas beside it: leave it out");
  }
  return tool;
}

}  // namespace

bool IsOrIsBelow(absl::string_view spiffe_id, absl::string_view definition) {
  return absl::ConsumePrefix(&spiffe_id, definition) && (spiffe_id.empty() || spiffe_id.front() == '/');
}

absl::StatusOr<std::string> ToolHash(const token::v1::Tool& tool) {
  boost::json::object seen{{"name", tool.name()}};
  if (!tool.description().empty()) seen["description"] = tool.description();
  if (tool.has_input_schema()) seen["inputSchema"] = JsonOf(tool.input_schema());
  if (tool.has_output_schema()) seen["outputSchema"] = JsonOf(tool.output_schema());
  if (tool.has_annotations()) seen["annotations"] = JsonOf(tool.annotations());
  const std::string canonical = oauth::Canonical(seen);
  if (canonical.size() > kMaxKeys) return Bad("input_schema", absl::StrCat("more than ", kMaxKeys, " bytes"));
  return absl::BytesToHexString(crypto::Sha256(canonical));
}

absl::StatusOr<IdentityRecord> ReadIdentity(const token::v1::Identity& in, const IdentityRecord* stored,
                                            const AdminInput& input) {
  IdentityRecord record;
  SIGNET_ASSIGN_OR_RETURN(record.spiffe_id, ReadDefinition("spiffe_id", in.spiffe_id(), input));
  record.version = in.version();
  if (in.owner().empty()) return Bad("owner", "required: the person or team that answers for it");
  SIGNET_RETURN_IF_ERROR(CheckText("owner", in.owner(), kMaxName));
  SIGNET_RETURN_IF_ERROR(CheckText("sponsor", in.sponsor(), kMaxName));
  SIGNET_RETURN_IF_ERROR(CheckText("description", in.description(), kMaxText));
  record.owner = in.owner();
  record.sponsor = in.sponsor();
  record.description = in.description();
  SIGNET_ASSIGN_OR_RETURN(record.risk, ReadRisk("risk", in.risk()));
  SIGNET_ASSIGN_OR_RETURN(record.ceiling, ExpandAll("ceiling", in.ceiling(), input));
  SIGNET_ASSIGN_OR_RETURN(record.own_authority, ExpandAll("own_authority", in.own_authority(), input));
  if (stored != nullptr && in.ceiling().empty() && !in.ceiling_atoms().empty()) record.ceiling = stored->ceiling;
  if (stored != nullptr && in.own_authority().empty() && !in.own_authority_atoms().empty()) {
    record.own_authority = stored->own_authority;
  }
  SIGNET_ASSIGN_OR_RETURN(record.max_depth, ReadDepth(in.max_depth()));
  SIGNET_ASSIGN_OR_RETURN(record.token_ttl,
                          ReadDuration("token_ttl", in.token_ttl(), kStandardTtl, absl::Seconds(1), kMaxTtl));
  if (static_cast<size_t>(in.user_issuers().size()) > kMaxList) return Bad("user_issuers", "too many");
  for (const std::string& url : in.user_issuers()) {
    SIGNET_RETURN_IF_ERROR(CheckIssuerUrl("user_issuers", url));
    record.user_issuers.push_back(url);
  }
  if (in.state().empty() || in.state() == "draft") {
    record.state = IdentityState::kDraft;
  } else if (in.state() == "active") {
    record.state = IdentityState::kActive;
  } else if (stored == nullptr) {
    return Bad("state", "an identity begins as draft or active");
  }
  return record;
}

absl::StatusOr<IssuerRecord> ReadIssuer(const token::v1::Issuer& in, const IssuerRecord* stored,
                                        const std::vector<std::string>& resources, const AdminInput& input) {
  IssuerRecord record;
  SIGNET_RETURN_IF_ERROR(CheckIssuerUrl("url", in.url()));
  SIGNET_RETURN_IF_ERROR(CheckApart("url", in.url(), input.own_issuers, "an issuer of our own"));
  SIGNET_RETURN_IF_ERROR(CheckApart("url", in.url(), resources, "a resource"));
  record.url = in.url();
  if (in.jwks_uri().empty() == in.jwks_json().empty()) return Bad("jwks_uri", "give this or jwks_json, one of the two");
  if (!in.jwks_uri().empty() && (!absl::StartsWith(in.jwks_uri(), "https://") || in.jwks_uri().size() > kMaxText)) {
    return Bad("jwks_uri", "must be an https URL");
  }
  SIGNET_RETURN_IF_ERROR(CheckText("jwks_uri", in.jwks_uri(), kMaxText));
  if (!in.jwks_json().empty()) {
    if (in.jwks_json().size() > kMaxKeys) return Bad("jwks_json", "too long");
    const absl::StatusOr<oauth::Keys> keys = oauth::ParseKeys(in.jwks_json());
    if (!keys.ok()) return Bad("jwks_json", keys.status().message());
    if (keys->empty()) return Bad("jwks_json", "holds no key that we can use");
  }
  record.jwks_uri = in.jwks_uri();
  record.jwks_json = in.jwks_json();
  SIGNET_RETURN_IF_ERROR(CheckText("ca_file", in.ca_file(), kMaxText));
  record.ca_file = in.ca_file();
  record.allow_private_address = in.allow_private_address();
  if (in.audiences().empty()) {
    return Bad("audiences", "required: an audience that its tokens bear for exchange here and for nothing else");
  }
  if (static_cast<size_t>(in.audiences().size()) > kMaxList) return Bad("audiences", "too many");
  for (const std::string& audience : in.audiences()) {
    if (audience.empty()) return Bad("audiences", "one is empty");
    SIGNET_RETURN_IF_ERROR(CheckText("audiences", audience, kMaxText));
    record.audiences.push_back(audience);
  }
  if (!in.user_claim().empty()) record.user_claim = in.user_claim();
  SIGNET_RETURN_IF_ERROR(CheckToken("user_claim", record.user_claim));
  if (IsMutableClaim(record.user_claim)) {
    return Bad("user_claim", absl::StrCat("\"", record.user_claim,
                                          "\" can change or pass to somebody else: take sub, or "
                                          "another name that the issuer never gives again"));
  }
  if (!in.rights_claim().empty()) record.rights_claim = in.rights_claim();
  SIGNET_RETURN_IF_ERROR(CheckToken("rights_claim", record.rights_claim));
  if (in.rights().size() > kMaxList) return Bad("rights", "too many");
  const std::map<std::string, token::v1::AuthorityList> rights(in.rights().begin(), in.rights().end());
  for (const auto& [text, authorities] : rights) {
    SIGNET_RETURN_IF_ERROR(CheckText("rights", text, kMaxName));
    SIGNET_ASSIGN_OR_RETURN(oauth::Atoms atoms, ExpandAll(absl::StrCat("rights[\"", absl::CEscape(text), "\"]"),
                                                          authorities.authorities(), input));
    record.rights.emplace_back(text, std::move(atoms));
  }
  if (stored != nullptr && in.rights().empty() && !in.rights_atoms().empty()) record.rights = stored->rights;
  SIGNET_ASSIGN_OR_RETURN(record.rights_max_age, ReadDuration("rights_max_age", in.rights_max_age(), absl::Hours(1),
                                                              absl::Seconds(1), absl::Hours(24)));
  SIGNET_ASSIGN_OR_RETURN(record.reauth_after, ReadDuration("reauth_after", in.reauth_after(), absl::Hours(1),
                                                            absl::Seconds(1), absl::Hours(24)));
  return record;
}

absl::StatusOr<ResourceRecord> ReadResource(const token::v1::Resource& in, const std::vector<std::string>& issuers,
                                            const AdminInput& input) {
  ResourceRecord record;
  const absl::StatusOr<std::string> uri = oauth::CanonicalResource(in.uri());
  if (!uri.ok()) return Bad("uri", absl::StrCat("\"", absl::CEscape(in.uri()), "\": ", uri.status().message()));
  record.uri = *uri;
  SIGNET_RETURN_IF_ERROR(CheckApart("uri", record.uri, input.own_issuers, "an issuer of our own"));
  SIGNET_RETURN_IF_ERROR(CheckApart("uri", record.uri, issuers, "an issuer of users"));
  SIGNET_RETURN_IF_ERROR(CheckText("name", in.name(), kMaxName));
  record.name = in.name();
  record.version = in.version();
  SIGNET_ASSIGN_OR_RETURN(record.servers, ReadDefinitions("servers", in.servers(), input));
  SIGNET_ASSIGN_OR_RETURN(record.minimum_binding, ReadBinding("minimum_binding", in.minimum_binding()));
  SIGNET_ASSIGN_OR_RETURN(record.token_ttl,
                          ReadDuration("token_ttl", in.token_ttl(), kStandardTtl, absl::Seconds(1), kMaxTtl));
  if (in.scopes().size() > kMaxScopes) return Bad("scopes", "too many");
  std::set<std::string> declared;
  const std::map<std::string, token::v1::Actions> scopes(in.scopes().begin(), in.scopes().end());
  for (const auto& [scope, actions] : scopes) {
    SIGNET_RETURN_IF_ERROR(CheckToken("scopes", scope));
    std::set<std::string> unique;
    for (const std::string& action : actions.actions()) {
      SIGNET_RETURN_IF_ERROR(CheckToken(absl::StrCat("scopes[\"", scope, "\"]"), action));
      unique.insert(action);
    }
    declared.insert(scope);
    record.scopes.emplace_back(scope, std::vector<std::string>(unique.begin(), unique.end()));
  }
  if (static_cast<size_t>(in.tools().size()) > kMaxTools) return Bad("tools", "too many");
  std::set<std::string> names;
  for (int i = 0; i < in.tools().size(); ++i) {
    SIGNET_ASSIGN_OR_RETURN(ToolRecord tool, ReadTool(in.tools(i)), absl::StrCat("tools[", i, "]"));
    if (!names.insert(tool.name).second) return Bad("tools", absl::StrCat("\"", tool.name, "\" is there twice"));
    declared.insert(tool.needs.begin(), tool.needs.end());
    record.tools.push_back(std::move(tool));
  }
  for (const std::string& scope : in.default_scopes()) {
    if (!declared.contains(scope)) {
      return Bad("default_scopes", absl::StrCat("\"", absl::CEscape(scope), "\" is no scope of this resource"));
    }
    record.default_scopes.push_back(scope);
  }
  return record;
}

absl::StatusOr<GrantRecord> ReadGrant(const token::v1::Grant& in, const AdminInput& input) {
  GrantRecord record;
  SIGNET_ASSIGN_OR_RETURN(record.id, ReadId(in.id()));
  SIGNET_RETURN_IF_ERROR(CheckUser(in.user(), input));
  record.user_issuer = in.user().issuer();
  record.user_subject = in.user().subject();
  SIGNET_ASSIGN_OR_RETURN(record.identity, ReadDefinition("identity", in.identity(), input));
  SIGNET_RETURN_IF_ERROR(FindIdentity("identity", record.identity, input).status());
  SIGNET_ASSIGN_OR_RETURN(record.actors, ReadDefinitions("actors", in.actors(), input));
  for (const std::string& actor : record.actors) {
    SIGNET_RETURN_IF_ERROR(FindIdentity("actors", actor, input).status());
  }
  if (static_cast<size_t>(in.principals().size()) > kMaxList) return Bad("principals", "too many");
  for (const std::string& principal : in.principals()) {
    SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, ReadSpiffeId("principals", principal));
    if (!id.IsMemberOf(input.trust_domain)) {
      return Bad("principals", absl::StrCat(principal, " is of another trust domain: administration is for our own"));
    }
    // T8: nobody makes the task that constrains it.
    const auto acts = [&](const std::string& identity) { return IsOrIsBelow(id.string(), identity); };
    if (acts(record.identity) || std::any_of(record.actors.begin(), record.actors.end(), acts)) {
      return Bad("principals", absl::StrCat(principal, " is an agent of this grant: it may not make its own tasks"));
    }
    record.principals.push_back(id.string());
  }
  if (in.authority().empty()) return Bad("authority", "required: what the user consented to");
  SIGNET_ASSIGN_OR_RETURN(record.atoms, ExpandAll("authority", in.authority(), input));
  std::set<std::string> audiences;
  for (const std::string& audience : in.audiences()) {
    SIGNET_ASSIGN_OR_RETURN(const auto resource, FindResource("audiences", audience, input));
    audiences.insert(resource->uri);
  }
  for (const oauth::Atom& atom : record.atoms) {
    if (!in.audiences().empty() && !audiences.contains(atom.resource)) {
      return Bad("authority", absl::StrCat(atom.resource, " is not among the audiences"));
    }
    audiences.insert(atom.resource);
  }
  record.audiences = {audiences.begin(), audiences.end()};
  SIGNET_ASSIGN_OR_RETURN(record.max_depth, ReadDepth(in.max_depth()));
  SIGNET_ASSIGN_OR_RETURN(record.expires_at, ReadTime("expires_at", in.expires_at()));
  if (record.expires_at <= input.now || record.expires_at > input.now + kMaxGrantLife) {
    return Bad("expires_at", "must lie ahead, by a year at most");
  }
  SIGNET_RETURN_IF_ERROR(CheckText("text", in.text(), kMaxConsentText));
  if (!in.text().empty()) record.text_hash = oauth::Hash(in.text());
  SIGNET_RETURN_IF_ERROR(CheckText("evidence", in.evidence(), kMaxText));
  record.evidence = in.evidence();
  return record;
}

namespace {

absl::StatusOr<std::shared_ptr<const GrantRecord>> FindActiveGrant(const std::string& id, const AdminInput& input) {
  std::shared_ptr<const GrantRecord> grant = input.registry.FindGrant(id);
  if (grant == nullptr) return Bad("grant", absl::StrCat("\"", absl::CEscape(id), "\" does not exist"));
  if (grant->state != GrantState::kActive) {
    return absl::FailedPreconditionError(
        absl::StrCat("grant: \"", id, "\" is ",
                     grant->state == GrantState::kVoid ? "void: a resource was loosened since, consent must be renewed"
                                                       : "revoked"));
  }
  if (grant->expires_at <= input.now)
    return absl::FailedPreconditionError(absl::StrCat("grant: \"", id, "\" has expired"));
  return grant;
}

// The envelope: what is asked within what is allowed. An atom of which nothing is left was asked for in vain.
absl::StatusOr<oauth::Atoms> Envelope(const token::v1::Task& in, const oauth::Atoms& allowed, absl::string_view within,
                                      const AdminInput& input) {
  if (in.authority().empty()) return allowed;
  SIGNET_ASSIGN_OR_RETURN(const oauth::Atoms asked, ExpandAll("authority", in.authority(), input));
  oauth::Atoms atoms = oauth::Meet(asked, allowed);
  const oauth::Atoms outside = oauth::Removed(asked, atoms);
  if (!outside.empty()) {
    return Bad("authority", absl::StrCat(outside.front().resource, outside.front().tool ? " tool " : " ",
                                         outside.front().action, " is not within ", within));
  }
  return atoms;
}

std::string TaskHash(const TaskRecord& task) {
  const boost::json::object hashed{{"description", task.description},
                                   {"atoms", oauth::HashAtoms(task.atoms)},
                                   {"deadline", absl::ToUnixSeconds(task.deadline)},
                                   {"budget", task.budget}};
  return oauth::Hash(oauth::Canonical(hashed));
}

}  // namespace

absl::StatusOr<TaskRecord> ReadTask(const token::v1::Task& in, const AdminInput& input) {
  TaskRecord record;
  SIGNET_ASSIGN_OR_RETURN(record.id, ReadId(in.id()));
  SIGNET_RETURN_IF_ERROR(CheckText("description", in.description(), kMaxText));
  record.description = in.description();
  if (!in.grant().empty()) {
    SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<const GrantRecord> grant, FindActiveGrant(in.grant(), input));
    record.grant = grant->id;
    record.identity = in.identity().empty() ? grant->identity : in.identity();
    if (record.identity != grant->identity &&
        std::find(grant->actors.begin(), grant->actors.end(), record.identity) == grant->actors.end()) {
      return Bad("identity", absl::StrCat("\"", absl::CEscape(record.identity), "\" is not of this grant"));
    }
    SIGNET_ASSIGN_OR_RETURN(record.atoms, Envelope(in, grant->atoms, "the grant", input));
  } else {
    // Without a user: of the identity's own authority.
    SIGNET_ASSIGN_OR_RETURN(record.identity, ReadDefinition("identity", in.identity(), input));
    SIGNET_ASSIGN_OR_RETURN(const auto identity, FindIdentity("identity", record.identity, input));
    SIGNET_ASSIGN_OR_RETURN(record.atoms, Envelope(in, identity->own_authority, "its own authority", input));
  }
  record.deadline = input.now + absl::Hours(1);
  if (!in.deadline().empty()) {
    SIGNET_ASSIGN_OR_RETURN(record.deadline, ReadTime("deadline", in.deadline()));
  }
  record.deadline = absl::FromUnixSeconds(absl::ToUnixSeconds(record.deadline));
  if (record.deadline <= input.now || record.deadline > input.now + kMaxTaskLife) {
    return Bad("deadline", "must lie ahead, by 8 h at most");
  }
  if (in.budget() < 0 || in.budget() > oauth::kMaxNumber)
    return Bad("budget", "must be a number of calls; 0: no bound");
  record.budget = in.budget();
  record.hash = TaskHash(record);
  return record;
}

absl::StatusOr<UserRightsRecord> ReadUserRights(const token::v1::UserRights& in, const AdminInput& input) {
  UserRightsRecord record;
  SIGNET_RETURN_IF_ERROR(CheckUser(in.user(), input));
  record.issuer = in.user().issuer();
  record.subject = in.user().subject();
  SIGNET_ASSIGN_OR_RETURN(record.atoms, ExpandAll("authority", in.authority(), input));
  record.at = absl::FromUnixSeconds(absl::ToUnixSeconds(input.now));
  return record;
}

absl::StatusOr<oauth::Revocation> ReadRevocation(const token::v1::RevokeRequest& in, absl::Time now) {
  oauth::Revocation revocation;
  if (!oauth::ParseEntityKind(in.kind(), revocation.kind)) {
    return Bad("kind", absl::StrCat("\"", absl::CEscape(in.kind()),
                                    "\": must be token, chain, task, grant, instance, node, identity, user, issuer, "
                                    "signing-key or tool"));
  }
  if (in.entity().empty()) return Bad("entity", "required: what is revoked");
  SIGNET_RETURN_IF_ERROR(CheckText("entity", in.entity(), kMaxText));
  SIGNET_RETURN_IF_ERROR(CheckText("reason", in.reason(), kMaxText));
  revocation.entity = in.entity();
  const size_t space = in.entity().find(' ');
  if (revocation.kind == oauth::EntityKind::kUser || revocation.kind == oauth::EntityKind::kTool) {
    if (space == std::string::npos || space == 0 || space + 1 == in.entity().size()) {
      return Bad("entity", revocation.kind == oauth::EntityKind::kUser ? "of a user: \"ISSUER SUBJECT\""
                                                                       : "of a tool: \"RESOURCE TOOL\"");
    }
  }
  if (revocation.kind == oauth::EntityKind::kTool) {
    SIGNET_ASSIGN_OR_RETURN(const std::string uri, oauth::CanonicalResource(in.entity().substr(0, space)), "entity");
    revocation.entity = oauth::ToolKey(uri, in.entity().substr(space + 1));
  }
  revocation.not_before = absl::FromUnixSeconds(absl::ToUnixSeconds(now));
  revocation.reason = in.reason();
  return revocation;
}

}  // namespace signet::server
