#include "agent/storage/cache_state.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "agent/sync/wire.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::Duration kClockTolerance = absl::Minutes(10);

void AddSvid(const HeldSvid& held, storage::Change& wire) {
  storage::Svid& out = *wire.add_svids();
  out.set_entry_id(held.entry->id);
  out.set_revision(held.entry->revision);
  out.set_created_at(absl::ToUnixSeconds(held.entry->created_at));
  for (const crypto::Certificate& certificate : held.svid->chain) out.add_chain(certificate.der());
  out.set_key(held.svid->key.Pkcs8Der());
  out.set_issued(absl::ToUnixNanos(held.life.issued));
}

void AddBundle(const spiffe::Bundle& bundle, const std::string& revision, storage::Change& wire) {
  storage::Bundle& out = *wire.add_bundles();
  spiffe::ToWire(bundle, out.mutable_bundle());
  out.set_revision(revision);
}

void CleanseKeys(storage::Change& wire) {
  for (storage::Svid& svid : *wire.mutable_svids()) crypto::Cleanse(*svid.mutable_key());
}

absl::StatusOr<HeldSvid> ToHeld(const storage::Svid& wire, const EntryPtr& entry, Instant now) {
  std::vector<crypto::Certificate> chain;
  for (const std::string& der : wire.chain()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der));
    chain.push_back(std::move(certificate));
  }
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::ParsePkcs8(wire.key()));
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), std::move(key)));

  HeldSvid held;
  held.life.issued = absl::FromUnixNanos(wire.issued());
  held.life.not_after = svid.leaf().not_after();
  held.life.received_steady = now.steady;
  held.life.jitter = RenewalJitter(wire.entry_id(), svid.leaf().serial());
  held.entry = entry;
  if (entry->revision != wire.revision() || absl::ToUnixSeconds(entry->created_at) != wire.created_at()) {
    spiffe::Entry as_signed = *entry;
    as_signed.revision = wire.revision();
    as_signed.created_at = absl::FromUnixSeconds(wire.created_at());
    held.entry = std::make_shared<const spiffe::Entry>(std::move(as_signed));
  }
  held.svid = std::make_shared<const spiffe::X509Svid>(std::move(svid));
  return held;
}

}  // namespace

std::string ToBytes(const SealedState& state, uint64_t next_record, absl::Time now) {
  storage::Cache wire;
  wire.set_next_record(next_record);
  wire.set_epoch(state.epoch);
  storage::Change& all = *wire.mutable_state();
  all.set_written_at(absl::ToUnixNanos(now));
  for (const EntryPtr& entry : state.snapshot.entries) spiffe::ToWire(*entry, all.add_entries());
  for (const HeldSvid& held : state.snapshot.svids) AddSvid(held, all);
  for (const BundlePtr& bundle : state.snapshot.bundles) {
    const auto revision = state.bundle_revisions.find(bundle->trust_domain.name());
    AddBundle(*bundle, revision == state.bundle_revisions.end() ? "" : revision->second, all);
  }
  std::string bytes = wire.SerializeAsString();
  CleanseKeys(all);
  return bytes;
}

std::string ToBytes(const RecordedChange& change, absl::Time now) {
  storage::Change wire;
  wire.set_written_at(absl::ToUnixNanos(now));
  for (const std::string& id : change.removed_ids) wire.add_removed_ids(id);
  for (const spiffe::Entry& entry : change.entries) spiffe::ToWire(entry, wire.add_entries());
  for (const auto& [bundle, revision] : change.bundles) AddBundle(bundle, revision, wire);
  for (const std::string& name : change.removed_bundles) wire.add_removed_bundles(name);
  for (const HeldSvid& held : change.svids) AddSvid(held, wire);
  std::string bytes = wire.SerializeAsString();
  CleanseKeys(wire);
  return bytes;
}

CacheReplay::~CacheReplay() {
  for (auto& [_, svid] : svids_) crypto::Cleanse(*svid.mutable_key());
}

absl::Status CacheReplay::AddWhole(absl::string_view bytes) {
  storage::Cache wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::DataLossError("not a cache");
  next_record_ = wire.next_record();
  epoch_ = wire.epoch();
  return Apply(*wire.mutable_state());
}

absl::Status CacheReplay::AddRecord(absl::string_view bytes) {
  storage::Change wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::DataLossError("not a change");
  return Apply(wire);
}

absl::Status CacheReplay::Apply(storage::Change& change) {
  written_at_ = std::max(written_at_, absl::FromUnixNanos(change.written_at()));
  const auto drop_svid = [this](const std::string& id) {
    const auto svid = svids_.find(id);
    if (svid == svids_.end()) return;
    crypto::Cleanse(*svid->second.mutable_key());
    svids_.erase(svid);
  };
  for (const std::string& id : change.removed_ids()) {
    entries_.erase(id);
    drop_svid(id);
  }
  for (const spire::api::types::Entry& entry : change.entries()) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Entry parsed, EntryFromWire(entry, trust_domain_));
    EntryPtr& held = entries_[parsed.id];
    if (held != nullptr && held->spiffe_id != parsed.spiffe_id) drop_svid(parsed.id);
    held = std::make_shared<const spiffe::Entry>(std::move(parsed));
  }
  for (const storage::Bundle& bundle : change.bundles()) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle parsed, spiffe::BundleFromWire(bundle.bundle()));
    const std::string name = parsed.trust_domain.name();
    bundles_[name] = {std::make_shared<const spiffe::Bundle>(std::move(parsed)), bundle.revision()};
  }
  for (const std::string& name : change.removed_bundles()) bundles_.erase(name);
  for (storage::Svid& svid : *change.mutable_svids()) {
    drop_svid(svid.entry_id());
    storage::Svid& held = svids_[svid.entry_id()];
    held.Swap(&svid);
  }
  return absl::OkStatus();
}

absl::StatusOr<SealedState> CacheReplay::Finish(Instant now) {
  if (now.wall + kClockTolerance < written_at_) {
    return absl::FailedPreconditionError(absl::StrCat("the clock says ", absl::FormatTime(now.wall),
                                                      ", but the cache was written at ", absl::FormatTime(written_at_),
                                                      "; set the clock"));
  }
  SealedState state;
  state.epoch = epoch_;
  for (const auto& [id, wire] : svids_) {
    const auto entry = entries_.find(id);
    if (entry == entries_.end()) continue;
    SIGNET_ASSIGN_OR_RETURN(HeldSvid held, ToHeld(wire, entry->second, now));
    if (held.svid->id == entry->second->spiffe_id && !held.life.Expired(now)) {
      state.snapshot.svids.push_back(std::move(held));
    }
  }
  for (const auto& [_, entry] : entries_) state.snapshot.entries.push_back(entry);
  for (const auto& [name, held] : bundles_) {
    state.snapshot.bundles.push_back(held.first);
    state.bundle_revisions[name] = held.second;
  }
  return state;
}

}  // namespace signet::agent
