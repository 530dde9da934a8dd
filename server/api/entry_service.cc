#include "server/api/entry_service.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "server/api/convert.h"
#include "server/api/sync_entries.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::entry::v1;

// CountEntriesRequest and ListEntriesRequest have each a Filter of their own, with the same fields.
template <typename Filter>
absl::StatusOr<EntryFilter> FilterFromWire(const Filter& in, const spiffe::TrustDomain& own) {
  EntryFilter out;
  if (in.has_by_spiffe_id()) {
    SIGNET_ASSIGN_OR_RETURN(out.spiffe_id, MemberId("by_spiffe_id", in.by_spiffe_id(), own));
  }
  if (in.has_by_parent_id()) {
    SIGNET_ASSIGN_OR_RETURN(out.parent_id, MemberId("by_parent_id", in.by_parent_id(), own));
  }
  if (in.has_by_selectors()) {
    SIGNET_ASSIGN_OR_RETURN(out.selectors, SelectorFilterFromWire(in.by_selectors()));
  }
  if (in.has_by_federates_with()) {
    SIGNET_ASSIGN_OR_RETURN(out.federates_with, FederatesWithFilterFromWire(in.by_federates_with()));
  }
  // As SPIRE reads them, whose command line sends by_downstream = false when it means any entry.
  if (!in.by_hint().value().empty()) out.hint = in.by_hint().value();
  if (in.by_downstream().value()) out.downstream = true;
  return out;
}

template <typename Request>
const wire::EntryMask* OutputMask(const Request& request) {
  return request.has_output_mask() ? &request.output_mask() : nullptr;
}

// Fills results in the order of the request: `where[i]` is the place of the i-th stored item.
template <typename Response>
void FillResults(const absl::StatusOr<std::vector<EntryResult>>& stored, const std::vector<int>& where,
                 const wire::EntryMask* mask, Method method, Response& response) {
  for (size_t i = 0; i < where.size(); ++i) {
    auto& result = *response.mutable_results(where[i]);
    const absl::Status status = stored.ok() ? (*stored)[i].status : stored.status();
    LogFailure(method, status);
    StatusToWire(status, *result.mutable_status());
    if (stored.ok() && (*stored)[i].record) EntryToWire(*(*stored)[i].record, mask, *result.mutable_entry());
  }
}

class EntryService final : public v1::Entry::CallbackService {
 public:
  explicit EntryService(EntryServiceDeps deps) : d_(std::move(deps)) {}

  grpc::ServerUnaryReactor* CountEntries(grpc::CallbackServerContext* context, const v1::CountEntriesRequest* request,
                                         v1::CountEntriesResponse* response) override {
    return d_.calls.Blocking(context, Method::kCountEntries, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const EntryFilter filter, FilterFromWire(request->filter(), d_.trust_domain));
      SIGNET_ASSIGN_OR_RETURN(const size_t count, d_.entries.CountEntries(filter));
      response->set_count(static_cast<int32_t>(count));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ListEntries(grpc::CallbackServerContext* context, const v1::ListEntriesRequest* request,
                                        v1::ListEntriesResponse* response) override {
    return d_.calls.Blocking(context, Method::kListEntries, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const EntryFilter filter, FilterFromWire(request->filter(), d_.trust_domain));
      SIGNET_ASSIGN_OR_RETURN(
          Page<spiffe::Entry> page,
          d_.entries.ListEntries(filter, PageFromWire(request->page_size(), request->page_token())));
      response->mutable_entries()->Reserve(static_cast<int>(page.items.size()));
      for (const spiffe::Entry& entry : page.items) EntryToWire(entry, OutputMask(*request), *response->add_entries());
      response->set_next_page_token(std::move(page.next));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetEntry(grpc::CallbackServerContext* context, const v1::GetEntryRequest* request,
                                     wire::Entry* response) override {
    return d_.calls.Blocking(context, Method::kGetEntry, [=, this](const CallerPtr&) -> absl::Status {
      if (request->id().empty()) return absl::InvalidArgumentError("id: missing");
      SIGNET_ASSIGN_OR_RETURN(const spiffe::Entry entry, d_.entries.GetEntry(request->id()));
      EntryToWire(entry, OutputMask(*request), *response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* BatchCreateEntry(grpc::CallbackServerContext* context,
                                             const v1::BatchCreateEntryRequest* request,
                                             v1::BatchCreateEntryResponse* response) override {
    return d_.calls.Async(context, Method::kBatchCreateEntry, [=, this](const CallerPtr&, Reply reply) {
      std::vector<spiffe::Entry> wanted;
      std::vector<int> where;
      for (int i = 0; i < request->entries_size(); ++i) {
        auto& result = *response->add_results();
        absl::StatusOr<WantedEntry> one = EntryFromClient(request->entries(i), nullptr, d_.trust_domain);
        StatusToWire(one.status(), *result.mutable_status());
        if (!one.ok()) continue;
        wanted.push_back(std::move(one->entry));
        where.push_back(i);
      }
      if (wanted.empty()) return reply.Send(absl::OkStatus());
      d_.entries.CreateEntries(std::move(wanted), d_.clock.Now(),
                               [=, where = std::move(where), reply = std::move(reply)](
                                   const absl::StatusOr<std::vector<EntryResult>>& stored) mutable {
                                 FillResults(stored, where, OutputMask(*request), Method::kBatchCreateEntry, *response);
                                 reply.Send(absl::OkStatus());
                               });
    });
  }

  grpc::ServerUnaryReactor* BatchUpdateEntry(grpc::CallbackServerContext* context,
                                             const v1::BatchUpdateEntryRequest* request,
                                             v1::BatchUpdateEntryResponse* response) override {
    return d_.calls.Async(context, Method::kBatchUpdateEntry, [=, this](const CallerPtr&, Reply reply) {
      const wire::EntryMask* mask = request->has_input_mask() ? &request->input_mask() : nullptr;
      std::vector<spiffe::Entry> wanted;
      std::vector<int> where;
      EntryFields fields;  // the same for all: it follows from the mask
      for (int i = 0; i < request->entries_size(); ++i) {
        auto& result = *response->add_results();
        absl::StatusOr<WantedEntry> one = EntryFromClient(request->entries(i), mask, d_.trust_domain);
        if (one.ok() && one->entry.id.empty()) one = absl::InvalidArgumentError("id: missing");
        StatusToWire(one.status(), *result.mutable_status());
        if (!one.ok()) continue;
        fields = one->fields;
        wanted.push_back(std::move(one->entry));
        where.push_back(i);
      }
      if (wanted.empty()) return reply.Send(absl::OkStatus());
      d_.entries.UpdateEntries(std::move(wanted), fields,
                               [=, where = std::move(where), reply = std::move(reply)](
                                   const absl::StatusOr<std::vector<EntryResult>>& stored) mutable {
                                 FillResults(stored, where, OutputMask(*request), Method::kBatchUpdateEntry, *response);
                                 reply.Send(absl::OkStatus());
                               });
    });
  }

  grpc::ServerUnaryReactor* BatchDeleteEntry(grpc::CallbackServerContext* context,
                                             const v1::BatchDeleteEntryRequest* request,
                                             v1::BatchDeleteEntryResponse* response) override {
    return d_.calls.Async(context, Method::kBatchDeleteEntry, [=, this](const CallerPtr&, Reply reply) {
      std::vector<std::string> ids;
      std::vector<int> where;
      for (int i = 0; i < request->ids_size(); ++i) {
        auto& result = *response->add_results();
        result.set_id(request->ids(i));
        const absl::Status status =
            request->ids(i).empty() ? absl::InvalidArgumentError("id: missing") : absl::OkStatus();
        StatusToWire(status, *result.mutable_status());
        if (!status.ok()) continue;
        ids.push_back(request->ids(i));
        where.push_back(i);
      }
      if (ids.empty()) return reply.Send(absl::OkStatus());
      d_.entries.DeleteEntries(std::move(ids), [=, where = std::move(where), reply = std::move(reply)](
                                                   const absl::StatusOr<std::vector<absl::Status>>& deleted) mutable {
        for (size_t i = 0; i < where.size(); ++i) {
          const absl::Status status = deleted.ok() ? (*deleted)[i] : deleted.status();
          LogFailure(Method::kBatchDeleteEntry, status);
          StatusToWire(status, *response->mutable_results(where[i])->mutable_status());
        }
        reply.Send(absl::OkStatus());
      });
    });
  }

  grpc::ServerUnaryReactor* GetAuthorizedEntries(grpc::CallbackServerContext* context,
                                                 const v1::GetAuthorizedEntriesRequest* request,
                                                 v1::GetAuthorizedEntriesResponse* response) override {
    return d_.calls.Inline(context, Method::kGetAuthorizedEntries, [=, this](const CallerPtr& caller) {
      for (const EntryPtr& entry : d_.index.AuthorizedEntries(*caller->id)) {
        EntryToWire(*entry, OutputMask(*request), *response->add_entries());
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerBidiReactor<v1::SyncAuthorizedEntriesRequest, v1::SyncAuthorizedEntriesResponse>* SyncAuthorizedEntries(
      grpc::CallbackServerContext* context) override {
    return StartSyncAuthorizedEntries(context, d_.calls, d_.streams, d_.index);
  }

 private:
  const EntryServiceDeps d_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeEntryService(EntryServiceDeps deps) {
  return std::make_unique<EntryService>(std::move(deps));
}

}  // namespace signet::server
