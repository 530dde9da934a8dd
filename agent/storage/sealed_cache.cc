#include "agent/storage/sealed_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/sync/wire.h"
#include "common/crypto/random.h"
#include "common/crypto/seal.h"
#include "common/failpoint/failpoint.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "signet/agent/storage.pb.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kSealedMagic = "SGNTCCH1";
constexpr absl::string_view kLogMagic = "SGNTWDR1";
constexpr absl::string_view kKey = "cache.key", kSealed = "cache.sealed", kLog = "cache.withdrawn";
constexpr size_t kKeyBytes = 32;
constexpr size_t kMaxSealedBytes = 512 << 20, kMaxLogBytes = 64 << 20;
constexpr absl::Duration kClockTolerance = absl::Minutes(10);

std::string BigEndian32(uint32_t value) {
  std::string bytes(4, '\0');
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<char>(value >> (24 - 8 * i));
  return bytes;
}

uint32_t ReadBigEndian32(absl::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::string ToRecord(const Withdrawal& withdrawal) {
  storage::Withdrawal wire;
  for (const std::string& id : withdrawal.removed_ids) wire.add_removed_ids(id);
  for (const spiffe::Entry& entry : withdrawal.changed) spiffe::ToWire(entry, wire.add_changed());
  for (const auto& [bundle, revision] : withdrawal.bundles) {
    storage::Bundle& out = *wire.add_bundles();
    spiffe::ToWire(bundle, out.mutable_bundle());
    out.set_revision(revision);
  }
  for (const std::string& name : withdrawal.removed_bundles) wire.add_removed_bundles(name);
  return wire.SerializeAsString();
}

absl::StatusOr<Withdrawal> FromRecord(const std::string& record, const spiffe::TrustDomain& trust_domain) {
  storage::Withdrawal wire;
  if (!wire.ParseFromString(record)) return absl::DataLossError("record that is no message");
  Withdrawal withdrawal;
  withdrawal.removed_ids.assign(wire.removed_ids().begin(), wire.removed_ids().end());
  for (const spire::api::types::Entry& entry : wire.changed()) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Entry parsed, EntryFromWire(entry, trust_domain));
    withdrawal.changed.push_back(std::move(parsed));
  }
  for (const storage::Bundle& bundle : wire.bundles()) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle parsed, spiffe::BundleFromWire(bundle.bundle()));
    withdrawal.bundles.emplace_back(std::move(parsed), bundle.revision());
  }
  withdrawal.removed_bundles.assign(wire.removed_bundles().begin(), wire.removed_bundles().end());
  return withdrawal;
}

std::string ToPlaintext(const SealedState& state, absl::Time now) {
  storage::Cache wire;
  wire.set_sealed_at(absl::ToUnixNanos(now));
  wire.set_epoch(state.epoch);
  for (const EntryPtr& entry : state.snapshot.entries) spiffe::ToWire(*entry, wire.add_entries());
  for (const HeldSvid& held : state.snapshot.svids) {
    storage::Svid& out = *wire.add_svids();
    out.set_entry_id(held.entry->id);
    out.set_revision(held.entry->revision);
    out.set_created_at(absl::ToUnixSeconds(held.entry->created_at));
    for (const crypto::Certificate& certificate : held.svid->chain) out.add_chain(certificate.der());
    out.set_key(held.svid->key.Pkcs8Der());
    out.set_issued(absl::ToUnixNanos(held.life.issued));
  }
  for (const BundlePtr& bundle : state.snapshot.bundles) {
    storage::Bundle& out = *wire.add_bundles();
    spiffe::ToWire(*bundle, out.mutable_bundle());
    const auto revision = state.bundle_revisions.find(bundle->trust_domain.name());
    if (revision != state.bundle_revisions.end()) out.set_revision(revision->second);
  }
  std::string bytes = wire.SerializeAsString();
  for (storage::Svid& svid : *wire.mutable_svids()) crypto::Cleanse(*svid.mutable_key());
  return bytes;
}

absl::StatusOr<HeldSvid> SvidFromWire(storage::Svid& wire, const EntryPtr& entry, Instant now) {
  std::vector<crypto::Certificate> chain;
  for (const std::string& der : wire.chain()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der));
    chain.push_back(std::move(certificate));
  }
  absl::StatusOr<crypto::PrivateKey> key = crypto::PrivateKey::ParsePkcs8(wire.key());
  crypto::Cleanse(*wire.mutable_key());
  SIGNET_RETURN_IF_ERROR(key.status());
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), *std::move(key)));

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

absl::StatusOr<SealedState> FromPlaintext(absl::string_view bytes, const spiffe::TrustDomain& trust_domain,
                                          const std::vector<Withdrawal>& withdrawn, Instant now) {
  storage::Cache wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::DataLossError("not a message");
  if (const absl::Time sealed_at = absl::FromUnixNanos(wire.sealed_at()); now.wall + kClockTolerance < sealed_at) {
    return absl::FailedPreconditionError(absl::StrCat("the clock says ", absl::FormatTime(now.wall),
                                                      ", but the cache was sealed at ", absl::FormatTime(sealed_at),
                                                      "; set the clock"));
  }
  SealedState state;
  state.epoch = wire.epoch();
  absl::flat_hash_map<std::string, EntryPtr> entries;
  for (const spire::api::types::Entry& entry : wire.entries()) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Entry parsed, EntryFromWire(entry, trust_domain));
    const std::string id = parsed.id;  // the right side of an assignment is evaluated first, and moves it away
    entries[id] = std::make_shared<const spiffe::Entry>(std::move(parsed));
  }
  std::map<std::string, BundlePtr> bundles;
  for (const storage::Bundle& bundle : wire.bundles()) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle parsed, spiffe::BundleFromWire(bundle.bundle()));
    const std::string name = parsed.trust_domain.name();
    state.bundle_revisions[name] = bundle.revision();
    bundles[name] = std::make_shared<const spiffe::Bundle>(std::move(parsed));
  }
  for (const Withdrawal& withdrawal : withdrawn) {
    for (const std::string& id : withdrawal.removed_ids) entries.erase(id);
    for (const spiffe::Entry& entry : withdrawal.changed)
      entries[entry.id] = std::make_shared<const spiffe::Entry>(entry);
    for (const auto& [bundle, revision] : withdrawal.bundles) {
      state.bundle_revisions[bundle.trust_domain.name()] = revision;
      bundles[bundle.trust_domain.name()] = std::make_shared<const spiffe::Bundle>(bundle);
    }
    for (const std::string& name : withdrawal.removed_bundles) {
      bundles.erase(name);
      state.bundle_revisions.erase(name);
    }
  }
  for (storage::Svid& svid : *wire.mutable_svids()) {
    const auto entry = entries.find(svid.entry_id());
    if (entry == entries.end()) {
      crypto::Cleanse(*svid.mutable_key());
      continue;
    }
    SIGNET_ASSIGN_OR_RETURN(HeldSvid held, SvidFromWire(svid, entry->second, now));
    if (held.svid->id == entry->second->spiffe_id && !held.life.Expired(now))
      state.snapshot.svids.push_back(std::move(held));
  }
  for (auto& [_, entry] : entries) state.snapshot.entries.push_back(std::move(entry));
  for (auto& [_, bundle] : bundles) state.snapshot.bundles.push_back(std::move(bundle));
  return state;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SealedCache>> SealedCache::Open(const std::string& directory,
                                                               const spiffe::TrustDomain& trust_domain, Clock& clock) {
  const std::string path = absl::StrCat(directory, "/", kKey);
  absl::StatusOr<std::string> key = fs::ReadSecretFile(path, kKeyBytes);
  if (key.ok() && key->size() != kKeyBytes) {
    SIGNET_ASSIGN_OR_RETURN(const std::string aside, fs::SetAside(path, clock.Now()));
    SIGNET_LOG(error, "the key of the sealed cache is damaged and set aside", {{"path", path}, {"set_aside", aside}});
    key = absl::NotFoundError(path);
  }
  if (absl::IsNotFound(key.status())) {
    key = crypto::RandomBytes(kKeyBytes);
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(path, *key));
  }
  SIGNET_RETURN_IF_ERROR(key.status());
  return std::unique_ptr<SealedCache>(new SealedCache(directory, trust_domain, *std::move(key), clock));
}

SealedCache::SealedCache(std::string directory, const spiffe::TrustDomain& trust_domain, std::string key, Clock& clock)
    : directory_(std::move(directory)), trust_domain_(trust_domain), key_(std::move(key)), clock_(clock) {}

SealedCache::~SealedCache() {
  if (log_fd_ >= 0) close(log_fd_);
  crypto::Cleanse(key_);
}

std::string SealedCache::Path(absl::string_view name) const { return absl::StrCat(directory_, "/", name); }

std::string SealedCache::Context(absl::string_view what) const {
  return absl::StrCat("signet-agent ", what, " 1 ", trust_domain_.name());
}

absl::StatusOr<SealedState> SealedCache::Load() {
  std::lock_guard lock(mutex_);
  absl::StatusOr<SealedState> state = ReadSealed();
  if (state.ok() || absl::IsNotFound(state.status()) || absl::IsFailedPrecondition(state.status()) ||
      absl::IsPermissionDenied(state.status())) {
    return state;
  }
  SIGNET_RETURN_IF_ERROR(SetAsideAll(state.status()));
  return absl::DataLossError(state.status().message());
}

absl::Status SealedCache::SetAsideAll(const absl::Status& why) {
  for (const absl::string_view name : {kSealed, kLog}) {
    const absl::StatusOr<std::string> aside = fs::SetAside(Path(name), clock_.Now());
    if (absl::IsNotFound(aside.status())) continue;
    SIGNET_RETURN_IF_ERROR(aside.status());
    SIGNET_LOG(error, "the sealed cache is damaged; it is set aside and nothing is served from it",
               {{"path", Path(name)}, {"set_aside", *aside}, {"error", why.message()}});
  }
  records_.clear();
  return absl::OkStatus();
}

absl::StatusOr<SealedState> SealedCache::ReadSealed() {
  SIGNET_ASSIGN_OR_RETURN(const std::string content, fs::ReadSecretFile(Path(kSealed), kMaxSealedBytes));
  if (!absl::StartsWith(content, kSealedMagic)) return absl::DataLossError("not a sealed cache of this version");
  SIGNET_ASSIGN_OR_RETURN(const std::vector<Withdrawal> withdrawn, ReadLog());
  SIGNET_ASSIGN_OR_RETURN(
      std::string plaintext,
      crypto::Unseal(key_, absl::string_view(content).substr(kSealedMagic.size()), Context("cache")));
  absl::StatusOr<SealedState> state =
      FromPlaintext(plaintext, trust_domain_, withdrawn, {clock_.Now(), clock_.Steady()});
  crypto::Cleanse(plaintext);
  return state;
}

absl::StatusOr<std::vector<Withdrawal>> SealedCache::ReadLog() {
  records_.clear();
  absl::StatusOr<std::string> content = fs::ReadSecretFile(Path(kLog), kMaxLogBytes);
  if (absl::IsNotFound(content.status())) return std::vector<Withdrawal>{};
  SIGNET_RETURN_IF_ERROR(content.status());
  absl::string_view rest = *content;
  const bool torn_header = rest.size() < kLogMagic.size() && absl::StartsWith(kLogMagic, rest);
  if (!torn_header && !absl::ConsumePrefix(&rest, kLogMagic)) return absl::DataLossError("not a log of withdrawals");

  std::vector<Withdrawal> withdrawn;
  while (!torn_header && !rest.empty()) {
    // What a crash has cut off was never acknowledged: the server will say it again.
    if (rest.size() < 8 || rest.find_first_not_of('\0') == absl::string_view::npos) break;
    const uint32_t length = ReadBigEndian32(rest), check = ReadBigEndian32(rest.substr(4));
    if (length != ~check) return absl::DataLossError("damaged log of withdrawals");
    if (rest.size() - 8 < length) break;
    SIGNET_ASSIGN_OR_RETURN(
        std::string record,
        crypto::Unseal(key_, rest.substr(8, length), absl::StrCat(Context("withdrawal"), " ", records_.size())));
    SIGNET_ASSIGN_OR_RETURN(Withdrawal withdrawal, FromRecord(record, trust_domain_));
    withdrawn.push_back(std::move(withdrawal));
    records_.push_back(std::move(record));
    rest.remove_prefix(8 + length);
  }
  if (torn_header || !rest.empty()) SIGNET_RETURN_IF_ERROR(RewriteLog(0));  // without the torn end
  return withdrawn;
}

absl::Status SealedCache::Write(const std::function<SealedState()>& take) {
  size_t included;
  uint64_t generation;
  {
    std::lock_guard lock(mutex_);
    included = records_.size();
    generation = generation_;
  }
  std::string plaintext = ToPlaintext(take(), clock_.Now());
  absl::StatusOr<std::string> sealed = crypto::Seal(key_, plaintext, Context("cache"));
  crypto::Cleanse(plaintext);
  SIGNET_RETURN_IF_ERROR(sealed.status());
  std::lock_guard lock(mutex_);
  if (destroyed_ || generation_ != generation) return absl::AbortedError("the cache was removed meanwhile");
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(Path(kSealed), absl::StrCat(kSealedMagic, *sealed)));
  SIGNET_FAILPOINT_STATUS("sealed_cache.before_log_reset");
  if (included == 0) return absl::OkStatus();
  return RewriteLog(included);
}

absl::Status SealedCache::RewriteLog(size_t first_kept) {
  std::vector<std::string> kept(records_.begin() + static_cast<ptrdiff_t>(first_kept), records_.end());
  std::string content(kLogMagic);
  for (size_t i = 0; i < kept.size(); ++i) {
    SIGNET_ASSIGN_OR_RETURN(const std::string sealed,
                            crypto::Seal(key_, kept[i], absl::StrCat(Context("withdrawal"), " ", i)));
    absl::StrAppend(&content, BigEndian32(static_cast<uint32_t>(sealed.size())),
                    BigEndian32(~static_cast<uint32_t>(sealed.size())), sealed);
  }
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(Path(kLog), content));
  records_ = std::move(kept);
  if (log_fd_ >= 0) close(std::exchange(log_fd_, -1));  // it names the file before
  return absl::OkStatus();
}

absl::Status SealedCache::Append(const std::string& record) {
  SIGNET_FAILPOINT_STATUS("sealed_cache.before_withdraw");
  if (log_fd_ < 0) {
    if (absl::IsNotFound(fs::ReadSecretFile(Path(kLog), kMaxLogBytes).status()))
      SIGNET_RETURN_IF_ERROR(RewriteLog(records_.size()));
    log_fd_ = open(Path(kLog).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (log_fd_ < 0) return absl::InternalError(absl::StrCat("open ", Path(kLog), ": ", strerror(errno)));
  }
  SIGNET_ASSIGN_OR_RETURN(const std::string sealed,
                          crypto::Seal(key_, record, absl::StrCat(Context("withdrawal"), " ", records_.size())));
  const std::string bytes = absl::StrCat(BigEndian32(static_cast<uint32_t>(sealed.size())),
                                         BigEndian32(~static_cast<uint32_t>(sealed.size())), sealed);
  const ssize_t written = write(log_fd_, bytes.data(), bytes.size());
  if (written != static_cast<ssize_t>(bytes.size())) {
    return absl::InternalError(absl::StrCat("write ", Path(kLog), ": ", written < 0 ? strerror(errno) : "cut short"));
  }
  if (fdatasync(log_fd_) != 0)
    return absl::InternalError(absl::StrCat("fdatasync ", Path(kLog), ": ", strerror(errno)));
  records_.push_back(record);
  SIGNET_FAILPOINT_STATUS("sealed_cache.after_withdraw");
  return absl::OkStatus();
}

absl::Status SealedCache::Withdraw(const Withdrawal& withdrawal) {
  if (withdrawal.empty()) return absl::OkStatus();
  std::lock_guard lock(mutex_);
  const absl::Status status = destroyed_ ? absl::OkStatus() : Append(ToRecord(withdrawal));
  if (status.ok()) return status;
  SIGNET_LOG(error, "a withdrawal cannot be written; the sealed cache is removed, so that nothing comes back",
             {{"error", status.message()}});
  return Remove();
}

absl::Status SealedCache::Destroy() {
  std::lock_guard lock(mutex_);
  destroyed_ = true;
  return Remove();
}

absl::Status SealedCache::Remove() {
  ++generation_;
  if (log_fd_ >= 0) close(std::exchange(log_fd_, -1));
  for (const absl::string_view name : {kSealed, kLog}) {  // in this order: the log alone serves nothing
    if (unlink(Path(name).c_str()) != 0 && errno != ENOENT) {
      return absl::InternalError(absl::StrCat("remove ", Path(name), ": ", strerror(errno), "; remove it by hand"));
    }
  }
  records_.clear();
  const int folder = open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = folder >= 0 && fsync(folder) == 0;
  if (folder >= 0) close(folder);
  return synced ? absl::OkStatus() : absl::InternalError(absl::StrCat("fsync ", directory_, ": ", strerror(errno)));
}

}  // namespace signet::agent
