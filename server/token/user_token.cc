#include "server/token/user_token.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

using boost::json::object;
using boost::json::value;

constexpr absl::Duration kSkew = absl::Seconds(60);
constexpr size_t kMaxSubjectBytes = 255;  // OpenID Connect Core 2

absl::Status Bad(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("subject token: ", what)); }

absl::string_view TextOf(const object& claims, const char* name) {
  const value* found = claims.if_contains(name);
  if (found == nullptr || !found->is_string()) return "";
  return {found->get_string().data(), found->get_string().size()};
}

absl::Status CheckKind(const jose::JwsHeader& header, const object& claims) {
  const std::string type = absl::AsciiStrToLower(header.type.value_or(""));
  if (type == "at+jwt" || type == "application/at+jwt") return absl::OkStatus();
  if (!type.empty() && type != "jwt") return Bad("a JWT of another kind");
  for (const char* mark : {"nonce", "at_hash", "c_hash", "s_hash"}) {
    if (claims.contains(mark)) return Bad("an ID token, not an access token");
  }
  const absl::string_view own_type = TextOf(claims, "typ"), use = TextOf(claims, "token_use");
  if (!own_type.empty() && !absl::EqualsIgnoreCase(own_type, "Bearer")) return Bad("not an access token");
  if (!use.empty() && use != "access") return Bad("not an access token");
  if (!own_type.empty() || !use.empty() || claims.contains("scope") || claims.contains("scp")) return absl::OkStatus();
  return Bad("nothing says that it is an access token");
}

// Both say who may use it; what we cannot check is not satisfied.
absl::Status CheckPresenter(const object& claims, const TokenPresenter& presenter) {
  if (const value* may_act = claims.if_contains("may_act")) {
    if (!may_act->is_object()) return Bad("may_act is no object");
    const absl::string_view actor = TextOf(may_act->get_object(), "sub");
    const bool named = !actor.empty() && (actor == presenter.client_id || actor == presenter.client_definition);
    const absl::string_view issuer = TextOf(may_act->get_object(), "iss");
    if (!named || (!issuer.empty() && !absl::StartsWith(presenter.client_id, absl::StrCat(issuer, "/")))) {
      return absl::PermissionDeniedError("subject token: may_act names another actor");
    }
  }
  const value* cnf = claims.if_contains("cnf");
  if (cnf == nullptr) return absl::OkStatus();
  if (!cnf->is_object() || cnf->get_object().empty()) return Bad("cnf is no object, or empty");
  for (const auto& member : cnf->get_object()) {
    const std::string& proven = member.key() == "jkt"        ? presenter.proven.jkt
                                : member.key() == "x5t#S256" ? presenter.proven.x5t_s256
                                                             : "";
    if (proven.empty() || !member.value().is_string() || proven != member.value().get_string()) {
      return absl::PermissionDeniedError("subject token: bound to a key that the client did not prove");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SubjectOf(const IssuerRecord& issuer, const object& claims) {
  const std::string subject(TextOf(claims, issuer.user_claim.c_str()));
  if (subject.empty() || subject.size() > kMaxSubjectBytes) return Bad("the user's claim is missing or malformed");
  if (absl::StartsWithIgnoreCase(subject, "spiffe:")) return Bad("a workload is no user");
  return subject;
}

absl::StatusOr<oauth::Atoms> RightsOf(const IssuerRecord& issuer, const object& claims) {
  std::vector<std::string> names;
  if (const value* claim = claims.if_contains(issuer.rights_claim); claim != nullptr && claim->is_string()) {
    names = absl::StrSplit(TextOf(claims, issuer.rights_claim.c_str()), ' ', absl::SkipEmpty());
  } else if (claim != nullptr && claim->is_array()) {
    for (const value& name : claim->get_array()) {
      if (name.is_string()) names.emplace_back(name.get_string());
    }
  }
  oauth::Atoms rights;
  for (const auto& [name, atoms] : issuer.rights) {
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    rights.insert(rights.end(), atoms.begin(), atoms.end());
  }
  absl::StatusOr<oauth::Atoms> normal = oauth::Normalize(std::move(rights));
  if (!normal.ok()) return Bad("two of the user's rights bound the same in different ways");
  return normal;
}

}  // namespace

absl::StatusOr<UserToken> JudgeUserToken(std::shared_ptr<const IssuerRecord> issuer, const jose::JwsHeader& header,
                                         const jose::Claims& claims, const TokenPresenter& presenter, absl::Time now) {
  const object& all = *claims.all;
  SIGNET_RETURN_IF_ERROR(CheckKind(header, all));
  for (const char* delegated : {"act", "agent_ctx"}) {
    if (all.contains(delegated)) return Bad("delegated by another service: its chain cannot be carried on");
  }
  if (!claims.expires_at.has_value() || *claims.expires_at <= now) return Bad("expired, or without exp");
  if (!claims.issued_at.has_value() || *claims.issued_at > now + kSkew) return Bad("without iat, or from the future");
  if (claims.not_before.has_value() && *claims.not_before > now + kSkew) return Bad("not valid yet");
  const bool reserved = std::any_of(claims.audience.begin(), claims.audience.end(), [&](const std::string& audience) {
    return std::find(issuer->audiences.begin(), issuer->audiences.end(), audience) != issuer->audiences.end();
  });
  if (!reserved) return Bad("its aud has none that is reserved for exchange");
  SIGNET_RETURN_IF_ERROR(CheckPresenter(all, presenter));

  UserToken user;
  SIGNET_ASSIGN_OR_RETURN(user.subject, SubjectOf(*issuer, all));
  SIGNET_ASSIGN_OR_RETURN(user.rights, RightsOf(*issuer, all));
  user.issued_at = std::min(*claims.issued_at, now);
  user.expires_at = *claims.expires_at;
  if (const value* auth_time = all.if_contains("auth_time"); auth_time != nullptr && auth_time->is_int64()) {
    user.auth_time = absl::FromUnixSeconds(auth_time->get_int64());
  }
  user.acr = std::string(TextOf(all, "acr"));
  if (const value* amr = all.if_contains("amr"); amr != nullptr && amr->is_array()) {
    for (const value& method : amr->get_array()) {
      if (method.is_string() && user.amr.size() < 8) user.amr.emplace_back(method.get_string());
    }
  }
  user.issuer = std::move(issuer);
  return user;
}

void ReadUserToken(const TokenServiceDeps& deps, std::string token, TokenPresenter presenter, absl::Time now,
                   Completion<UserToken> done) {
  absl::StatusOr<jose::CompactJws> jws = jose::CompactJws::Parse(token, oauth::kMaxJwtBytes);
  if (!jws.ok()) return done(Bad(jws.status().message()));
  absl::StatusOr<jose::Claims> claims = jose::Claims::Parse(jws->payload);
  if (!claims.ok()) return done(Bad(claims.status().message()));
  const std::shared_ptr<const IssuerRecord> issuer = deps.registry.FindIssuer(claims->issuer.value_or(""));
  if (issuer == nullptr) return done(absl::PermissionDeniedError("subject token: its issuer is not registered"));
  const std::string kid = jws->header.key_id.value_or("");
  deps.issuer_keys.Find(
      issuer, kid,
      [&deps, issuer, now, hash = oauth::Hash(token), jws = *std::move(jws), claims = *std::move(claims),
       presenter = std::move(presenter), done = std::move(done)](absl::StatusOr<crypto::PublicKey> key) mutable {
        if (!key.ok()) return done(std::move(key).status());
        if (!jws.Verify(*key).ok()) return done(absl::PermissionDeniedError("subject token: the signature is wrong"));
        absl::StatusOr<UserToken> user = JudgeUserToken(issuer, jws.header, claims, presenter, now);
        if (!user.ok()) return done(std::move(user));
        user->hash = std::move(hash);
        const auto revocations = deps.registry.revocations();
        const std::string key_of_user = oauth::UserKey(issuer->url, user->subject);
        if (revocations == nullptr ||
            revocations->KillsExternal(oauth::EntityKind::kIssuer, issuer->url, user->issued_at) != nullptr ||
            revocations->KillsExternal(oauth::EntityKind::kUser, key_of_user, user->issued_at) != nullptr) {
          return done(absl::PermissionDeniedError("subject token: revoked"));  // T3
        }
        done(std::move(user));
      });
}

}  // namespace signet::server
