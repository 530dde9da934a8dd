#include "common/oauth/receipt.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/oauth/claims_json.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

constexpr absl::string_view kType = "signet-receipt+jwt";

void Put(boost::json::object& object, absl::string_view name, const std::string& text) {
  if (!text.empty()) object[JsonView(name)] = text;
}

absl::StatusOr<Receipt> ReadPayload(absl::string_view payload) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(payload, kMaxJwtBytes), "receipt");
  if (!value.is_object()) return absl::InvalidArgumentError("receipt: not an object");
  Members members(value.get_object(), "receipt");
  Receipt r;
  r.jwt_id = members.Text("jti");
  r.txn = members.Text("txn");
  r.issued_at = members.RequiredTime("iat");
  r.previous = members.TextOr("prev");
  r.root = members.Text("root");
  r.token_hash = members.Text("token");
  r.subject_token = members.TextOr("subject_token");
  r.user = members.TextOr("user");
  r.actor = members.Text("actor");
  r.from = members.TextOr("from");
  r.audience = members.Text("audience");
  r.depth = static_cast<int>(members.RequiredInteger("depth", 1, kMaxDepth));
  r.binding = ReadBinding(members);
  r.policy = members.TextOr("policy");
  r.grant = members.TextOr("grant");
  r.task = members.TextOr("task");
  const boost::json::object* object = members.Object("bounds");
  if (object == nullptr) members.Fail("bounds", "missing");
  SIGNET_RETURN_IF_ERROR(members.NothingElse());  // so no iss, aud, sub, scope: T5
  Members bounds(*object, "receipt: bounds");
  r.expires_at = bounds.RequiredTime("exp");
  r.max_depth = static_cast<int>(bounds.RequiredInteger("max_depth", 1, kMaxDepth));
  r.calls = bounds.Integer("calls", 0, kMaxNumber);
  const boost::json::value* atoms = bounds.Find("atoms");
  if (atoms == nullptr) bounds.Fail("atoms", "missing");
  SIGNET_RETURN_IF_ERROR(bounds.NothingElse());
  SIGNET_ASSIGN_OR_RETURN(r.bounds, ReadAtoms(*atoms), "receipt");
  return r;
}

}  // namespace

boost::json::object ReceiptObject(const Receipt& r) {
  boost::json::object bounds;
  bounds["atoms"] = AtomsJson(r.bounds);
  bounds["exp"] = absl::ToUnixSeconds(r.expires_at);
  bounds["max_depth"] = r.max_depth;
  if (r.calls.has_value()) bounds["calls"] = *r.calls;
  boost::json::object object;
  object["jti"] = r.jwt_id;
  object["txn"] = r.txn;
  object["iat"] = absl::ToUnixSeconds(r.issued_at);
  Put(object, "prev", r.previous);
  object["root"] = r.root;
  object["token"] = r.token_hash;
  Put(object, "subject_token", r.subject_token);
  Put(object, "user", r.user);
  object["actor"] = r.actor;
  Put(object, "from", r.from);
  object["audience"] = r.audience;
  object["bounds"] = std::move(bounds);
  object["depth"] = r.depth;
  if (!r.binding.bearer()) object["cnf"] = BindingJson(r.binding);
  Put(object, "policy", r.policy);
  Put(object, "grant", r.grant);
  Put(object, "task", r.task);
  return object;
}

absl::StatusOr<std::string> SignReceipt(const Receipt& receipt, absl::string_view kid, crypto::KeyType type,
                                        const crypto::MessageSigner& sign) {
  SIGNET_ASSIGN_OR_RETURN(const absl::string_view algorithm, jose::AlgorithmFor(type));
  boost::json::object header;
  header["alg"] = JsonView(algorithm);
  header["kid"] = JsonView(kid);
  header["typ"] = JsonView(kType);
  return jose::SignCompact(Canonical(header), Canonical(ReceiptObject(receipt)), type, sign);
}

absl::StatusOr<Receipt> VerifyReceipt(absl::string_view jws_text, const Keys& receipt_keys) {
  SIGNET_ASSIGN_OR_RETURN(const jose::CompactJws jws, jose::CompactJws::Parse(jws_text, kMaxJwtBytes), "receipt");
  if (jws.header.type != kType) return absl::PermissionDeniedError("receipt: \"typ\" is not signet-receipt+jwt");
  if (jws.header.algorithm != "ES256" && jws.header.algorithm != "RS256") {
    return absl::PermissionDeniedError("receipt: signed with an algorithm we do not use");
  }
  if (!jws.header.key_id.has_value()) return absl::PermissionDeniedError("receipt: no \"kid\"");
  const auto key = receipt_keys.find(*jws.header.key_id);
  if (key == receipt_keys.end()) return absl::PermissionDeniedError("receipt: signed by a key that is not known");
  SIGNET_RETURN_IF_ERROR(jws.Verify(key->second), "receipt");
  return ReadPayload(jws.payload);
}

std::string ReceiptHash(absl::string_view jws) { return absl::BytesToHexString(crypto::Sha256(jws)); }

}  // namespace signet::oauth
