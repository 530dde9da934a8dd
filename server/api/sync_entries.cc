#include "server/api/sync_entries.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "server/api/bidi_stream.h"
#include "server/api/convert.h"
#include "spire/api/server/entry/v1/entry.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::entry::v1;
using Base = BidiStream<v1::SyncAuthorizedEntriesRequest, v1::SyncAuthorizedEntriesResponse>;

class SyncEntries final : public Base {
 public:
  explicit SyncEntries(const EntryIndex& index) : index_(index) {}

 private:
  void Begin() override { Read(); }

  void OnRead(bool ok) override {
    if (!ok) return Close(absl::OkStatus());  // the client has all it wanted
    if (std::exchange(first_, false)) return Announce();
    pending_.clear();
    next_ = 0;
    for (const std::string& id : in_.ids()) {
      auto it = std::lower_bound(entries_.begin(), entries_.end(), id,
                                 [](const EntryPtr& entry, const std::string& key) { return entry->id < key; });
      if (it != entries_.end() && (*it)->id == id) pending_.push_back(*it);
    }
    SendEntries();
  }

  void Announce() {
    if (in_.ids_size() > 0) {
      return Close(absl::InvalidArgumentError("ids: not in the first message, which opens the stream"));
    }
    if (in_.has_output_mask()) {
      // Without the revision the agent could not tell what it lacks.
      if (!in_.output_mask().revision_number()) {
        return Close(absl::InvalidArgumentError("output_mask: revision_number cannot be left out"));
      }
      mask_ = std::make_unique<wire::EntryMask>(in_.output_mask());
    }
    entries_ = index_.AuthorizedEntries(*caller().id);  // sorted by id
    if (entries_.size() <= kSyncPage) {
      pending_ = entries_;
      last_ = true;
      return SendEntries();
    }
    announcing_ = true;
    SendRevisions();
  }

  void SendRevisions() {
    out_.Clear();
    const size_t end = std::min(next_ + kSyncPage, entries_.size());
    for (; next_ < end; ++next_) {
      v1::EntryRevision& revision = *out_.add_entry_revisions();
      revision.set_id(entries_[next_]->id);
      revision.set_revision_number(entries_[next_]->revision);
      revision.set_created_at(absl::ToUnixSeconds(entries_[next_]->created_at));
    }
    out_.set_more(next_ < entries_.size());
    Write();
  }

  void SendEntries() {
    out_.Clear();
    const size_t end = std::min(next_ + kSyncPage, pending_.size());
    for (; next_ < end; ++next_) EntryToWire(*pending_[next_], mask_.get(), *out_.add_entries());
    out_.set_more(next_ < pending_.size());
    if (last_) return WriteLast();
    Write();
  }

  void OnWritten() override {
    if (!out_.more()) {
      announcing_ = false;
      return Read();
    }
    announcing_ ? SendRevisions() : SendEntries();
  }

  const EntryIndex& index_;
  bool first_ = true, announcing_ = false, last_ = false;
  std::unique_ptr<wire::EntryMask> mask_;
  std::vector<EntryPtr> entries_, pending_;
  size_t next_ = 0;  // of what is being sent
};

}  // namespace

grpc::ServerBidiReactor<v1::SyncAuthorizedEntriesRequest, v1::SyncAuthorizedEntriesResponse>*
StartSyncAuthorizedEntries(grpc::CallbackServerContext* context, Calls& calls, StreamRegistry& streams,
                           const EntryIndex& index) {
  return Base::Start(std::make_shared<SyncEntries>(index), context, Method::kSyncAuthorizedEntries, calls, streams);
}

}  // namespace signet::server
