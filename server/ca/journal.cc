#include "server/ca/journal.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "signet/server/v1/ca_journal.pb.h"

namespace signet::server {
namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kMaxBytes = 1 << 20;

absl::Status Damaged(absl::string_view how) {
  return absl::DataLossError(absl::StrCat("CA journal is damaged: ", how));
}

v1::CaJournal::State ToProto(SlotState state) {
  switch (state) {
    case SlotState::kEmpty:
      return v1::CaJournal::EMPTY;
    case SlotState::kPrepared:
      return v1::CaJournal::PREPARED;
    case SlotState::kActive:
      return v1::CaJournal::ACTIVE;
    case SlotState::kOld:
      return v1::CaJournal::OLD;
  }
  return v1::CaJournal::EMPTY;
}

absl::StatusOr<SlotState> FromProto(v1::CaJournal::State state) {
  switch (state) {
    case v1::CaJournal::PREPARED:
      return SlotState::kPrepared;
    case v1::CaJournal::ACTIVE:
      return SlotState::kActive;
    case v1::CaJournal::OLD:
      return SlotState::kOld;
    default:
      return Damaged("a slot has no state");
  }
}

absl::StatusOr<X509AuthoritySlot> FromProto(const v1::CaJournal::X509Slot& in) {
  X509AuthoritySlot out;
  SIGNET_ASSIGN_OR_RETURN(out.slot.state, FromProto(in.state()));
  out.key_manager_id = in.key_manager_id();
  auto certificate = crypto::Certificate::Parse(in.certificate());
  if (!certificate.ok()) return Damaged(certificate.status().message());
  out.certificate = *std::move(certificate);
  out.slot.not_before = out.certificate.not_before();
  out.slot.not_after = out.certificate.not_after();
  for (const std::string& der : in.upstream_chain()) {
    auto upstream = crypto::Certificate::Parse(der);
    if (!upstream.ok()) return Damaged(upstream.status().message());
    out.upstream_chain.push_back(*std::move(upstream));
  }
  return out;
}

absl::StatusOr<JwtAuthoritySlot> FromProto(const v1::CaJournal::JwtSlot& in) {
  JwtAuthoritySlot out;
  SIGNET_ASSIGN_OR_RETURN(out.slot.state, FromProto(in.state()));
  out.slot.not_before = absl::FromUnixSeconds(in.not_before());
  out.slot.not_after = absl::FromUnixSeconds(in.not_after());
  out.key_manager_id = in.key_manager_id();
  out.key_id = in.key_id();
  auto key = crypto::PublicKey::ParseSpki(in.public_key());
  if (!key.ok()) return Damaged(key.status().message());
  out.key = *std::move(key);
  if (out.key_id.empty() || out.slot.not_before >= out.slot.not_after)
    return Damaged("a JWT slot has no kid or no life");
  return out;
}

absl::StatusOr<RetiredKey> FromProto(const v1::CaJournal::RetiredKey& in) {
  auto key = crypto::PublicKey::ParseSpki(in.public_key());
  if (!key.ok() || in.key_id().empty()) return Damaged("a retired key has no kid or is none");
  return RetiredKey{in.key_id(), *std::move(key), absl::FromUnixSeconds(in.not_after())};
}

// Each slot once, and one active at most.
template <typename AuthoritySlot, typename Messages>
absl::Status ReadSlots(const Messages& messages, std::array<AuthoritySlot, 2>& slots) {
  int active = 0;
  for (const auto& message : messages) {
    if (message.slot() >= slots.size() || slots[message.slot()].slot.state != SlotState::kEmpty) {
      return Damaged("a slot stands twice or does not exist");
    }
    SIGNET_ASSIGN_OR_RETURN(slots[message.slot()], FromProto(message));
    active += slots[message.slot()].slot.state == SlotState::kActive ? 1 : 0;
  }
  return active > 1 ? Damaged("two authorities are active") : absl::OkStatus();
}

void WriteSlots(const std::array<JwtAuthoritySlot, 2>& slots,
                google::protobuf::RepeatedPtrField<v1::CaJournal::JwtSlot>& out) {
  for (size_t i = 0; i < slots.size(); ++i) {
    const JwtAuthoritySlot& in = slots[i];
    if (in.slot.state == SlotState::kEmpty) continue;
    auto& slot = *out.Add();
    slot.set_slot(static_cast<uint32_t>(i));
    slot.set_state(ToProto(in.slot.state));
    slot.set_key_manager_id(in.key_manager_id);
    slot.set_key_id(in.key_id);
    slot.set_public_key(in.key.spki_der());
    slot.set_not_before(absl::ToUnixSeconds(in.slot.not_before));
    slot.set_not_after(absl::ToUnixSeconds(in.slot.not_after));
  }
}

}  // namespace

std::string EncodeJournal(const Journal& journal) {
  v1::CaJournal out;
  out.set_version(kVersion);
  out.set_trust_domain(journal.trust_domain.name());
  for (size_t i = 0; i < journal.x509.size(); ++i) {
    const X509AuthoritySlot& in = journal.x509[i];
    if (in.slot.state == SlotState::kEmpty) continue;
    auto& slot = *out.add_x509();
    slot.set_slot(static_cast<uint32_t>(i));
    slot.set_state(ToProto(in.slot.state));
    slot.set_key_manager_id(in.key_manager_id);
    slot.set_certificate(in.certificate.der());
    for (const crypto::Certificate& upstream : in.upstream_chain) slot.add_upstream_chain(upstream.der());
  }
  WriteSlots(journal.jwt, *out.mutable_jwt());
  WriteSlots(journal.token, *out.mutable_token());
  WriteSlots(journal.receipt, *out.mutable_receipt());
  for (const RetiredKey& in : journal.retired_receipts) {
    auto& retired = *out.add_retired_receipt();
    retired.set_key_id(in.key_id);
    retired.set_public_key(in.key.spki_der());
    retired.set_not_after(absl::ToUnixSeconds(in.not_after));
  }
  return out.SerializeAsString();
}

absl::StatusOr<Journal> DecodeJournal(absl::string_view bytes, const spiffe::TrustDomain& trust_domain) {
  v1::CaJournal in;
  if (bytes.size() > kMaxBytes || !in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Damaged("it does not parse");
  }
  if (in.version() > kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("CA journal has version ", in.version(), ": written by a newer signet-server, start that one"));
  }
  if (in.version() == 0) return Damaged("it has no version");
  if (in.trust_domain() != trust_domain.name()) {
    return absl::FailedPreconditionError(absl::StrCat("the datastore holds the authorities of trust domain \"",
                                                      in.trust_domain(), "\", this server is configured for \"",
                                                      trust_domain.name(), "\": use another datastore for it"));
  }
  Journal journal{trust_domain, {}, {}, {}, {}, {}};
  SIGNET_RETURN_IF_ERROR(ReadSlots(in.x509(), journal.x509));
  SIGNET_RETURN_IF_ERROR(ReadSlots(in.jwt(), journal.jwt));
  SIGNET_RETURN_IF_ERROR(ReadSlots(in.token(), journal.token));
  SIGNET_RETURN_IF_ERROR(ReadSlots(in.receipt(), journal.receipt));
  for (const auto& retired : in.retired_receipt()) {
    SIGNET_ASSIGN_OR_RETURN(RetiredKey key, FromProto(retired));
    journal.retired_receipts.push_back(std::move(key));
  }
  return journal;
}

}  // namespace signet::server
