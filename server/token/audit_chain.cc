#include "server/token/audit_chain.h"

#include <utility>

#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/oauth/atom.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kMaxHeadBytes = 4096;
constexpr size_t kMaxRecordBytes = 1 << 20;

// The members of an object as canonical JSON, without the braces.
std::string Members(const boost::json::object& object) {
  if (object.empty()) return "";
  const std::string text = oauth::Canonical(object);
  return text.substr(1, text.size() - 2);
}

std::string HashText(absl::string_view raw) {
  return raw.empty() ? "" : absl::StrCat("sha-256:", absl::BytesToHexString(raw));
}

absl::StatusOr<std::string> Text(const boost::json::object& object, const char* name) {
  const boost::json::value* value = object.if_contains(name);
  const boost::json::string* text = value == nullptr ? nullptr : value->if_string();
  if (text == nullptr) return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is missing or no string"));
  return std::string(text->data(), text->size());
}

absl::StatusOr<uint64_t> Number(const boost::json::object& object, const char* name) {
  const boost::json::value* value = object.if_contains(name);
  if (value != nullptr && value->is_uint64()) return value->get_uint64();
  if (value != nullptr && value->is_int64() && value->get_int64() >= 0) {
    return static_cast<uint64_t>(value->get_int64());
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is missing or no whole number"));
}

absl::StatusOr<std::string> RawHash(const boost::json::object& object, const char* name) {
  SIGNET_ASSIGN_OR_RETURN(const std::string text, Text(object, name));
  if (text.empty()) return text;
  constexpr absl::string_view kPrefix = "sha-256:";
  const std::string raw = text.size() == kPrefix.size() + 64 ? absl::HexStringToBytes(text.substr(kPrefix.size())) : "";
  if (HashText(raw) != text) return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is no hash"));
  return raw;
}

}  // namespace

std::function<std::string(uint64_t, absl::string_view)> AuditBody(const boost::json::object& record) {
  // Canonical JSON has its members sorted, so the two that are not known yet have fixed places between the others.
  boost::json::object before, between, after;
  for (const auto& member : record) {
    const absl::string_view key(member.key().data(), member.key().size());
    (key < "prev" ? before : key < "seq" ? between : after)[member.key()] = member.value();
  }
  std::string head = absl::StrCat("{", Members(before), before.empty() ? "" : ",", "\"prev\":\"");
  std::string middle = absl::StrCat("\",", Members(between), between.empty() ? "" : ",", "\"seq\":");
  std::string tail = absl::StrCat(after.empty() ? "" : ",", Members(after), "}");
  return [head = std::move(head), middle = std::move(middle), tail = std::move(tail)](uint64_t seq,
                                                                                      absl::string_view previous) {
    return absl::StrCat(head, HashText(previous), middle, seq, tail);
  };
}

std::string AuditHeadJson(const AuditHead& head) {
  return oauth::Canonical(boost::json::object{{"epoch", head.epoch},
                                              {"hash", HashText(head.hash)},
                                              {"iat", absl::ToUnixSeconds(head.at)},
                                              {"seq", head.seq},
                                              {"server", head.server_id}});
}

absl::StatusOr<AuditHead> ReadAuditHead(absl::string_view jws, const oauth::Keys& receipt_keys) {
  SIGNET_ASSIGN_OR_RETURN(const jose::CompactJws parsed, jose::CompactJws::Parse(jws, kMaxHeadBytes), "audit head");
  if (parsed.header.type != kAuditHeadType || !parsed.header.key_id.has_value()) {
    return absl::InvalidArgumentError("audit head: a JWS of another kind");  // T5
  }
  const auto key = receipt_keys.find(*parsed.header.key_id);
  if (key == receipt_keys.end()) return absl::PermissionDeniedError("audit head: signed by a key we do not know");
  SIGNET_RETURN_IF_ERROR(parsed.Verify(key->second), "audit head");
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(parsed.payload, kMaxHeadBytes), "audit head");
  if (!value.is_object()) return absl::InvalidArgumentError("audit head: not an object");
  const boost::json::object& object = value.get_object();
  AuditHead head;
  SIGNET_ASSIGN_OR_RETURN(head.server_id, Text(object, "server"), "audit head");
  SIGNET_ASSIGN_OR_RETURN(head.epoch, Number(object, "epoch"), "audit head");
  SIGNET_ASSIGN_OR_RETURN(head.seq, Number(object, "seq"), "audit head");
  SIGNET_ASSIGN_OR_RETURN(head.hash, RawHash(object, "hash"), "audit head");
  SIGNET_ASSIGN_OR_RETURN(const uint64_t at, Number(object, "iat"), "audit head");
  head.at = absl::FromUnixSeconds(static_cast<int64_t>(at));
  return head;
}

absl::Status AuditChainCheck::Bad(uint64_t seq, absl::string_view what) const {
  return absl::DataLossError(
      absl::StrCat("audit record ", seq, " of server \"", server_id_, "\", epoch ", epoch_, ": ", what));
}

absl::Status AuditChainCheck::Add(const AuditRecord& record) {
  const uint64_t seq = seq_ + 1;
  if (record.seq != seq) return Bad(seq, "missing");
  if (crypto::Sha256(record.body) != record.hash) return Bad(seq, "changed: its hash does not fit");
  const absl::StatusOr<boost::json::value> value = json::Parse(record.body, kMaxRecordBytes);
  if (!value.ok() || !value->is_object()) return Bad(seq, "changed: no JSON object");
  const boost::json::object& object = value->get_object();
  const absl::StatusOr<uint64_t> told_seq = Number(object, "seq"), told_epoch = Number(object, "epoch");
  const absl::StatusOr<std::string> told_server = Text(object, "server"), previous = RawHash(object, "prev");
  if (!told_seq.ok() || !told_epoch.ok() || !told_server.ok() || !previous.ok()) {
    return Bad(seq, "changed: seq, epoch, server or prev is not readable");
  }
  if (*told_seq != seq) return Bad(seq, absl::StrCat("record ", *told_seq, " stands in its place"));
  if (*told_epoch != epoch_ || *told_server != server_id_) return Bad(seq, "belongs to another chain");
  if (*previous != previous_) return Bad(seq, "does not follow the record before: that one was changed or replaced");
  seq_ = seq;
  previous_ = record.hash;
  if (seq == wanted_seq_) wanted_hash_ = record.hash;
  return absl::OkStatus();
}

absl::Status AuditChainCheck::Finish(const AuditHead& head) const {
  if (head.seq > seq_) {
    return Bad(seq_ + 1, absl::StrCat("missing: the chain was cut, its head of ", absl::FormatTime(head.at),
                                      " names record ", head.seq));
  }
  if (head.seq > 0 && head.hash != wanted_hash_) {
    return Bad(head.seq, "not the one that the head names: the chain was written anew");
  }
  return absl::OkStatus();
}

}  // namespace signet::server
