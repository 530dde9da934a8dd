// `signet entry`: create, update, show, list, count, delete, apply.
#include <map>
#include <memory>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/entry_flags.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

using namespace ::spire::api::server::entry::v1;  // NOLINT: the one API of this file
using EntryStub = Entry::Stub;

constexpr int kBatch = 500;  // well under gRPC's 4 MiB for a message
constexpr int kPage = 500;

absl::StatusOr<std::unique_ptr<EntryStub>> Connect(const Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ServerChannel(context));
  return Entry::NewStub(channel);
}

// On a terminal only: "created 1000 of 20000".
class Progress {
 public:
  Progress(Context& context, absl::string_view verb, size_t total) : context_(context), verb_(verb), total_(total) {}
  ~Progress() {
    if (shown_) context_.err << "\r\x1b[K" << std::flush;
  }
  void Show(size_t done) {
    if (!context_.show_progress || total_ <= kBatch) return;
    context_.err << "\r" << verb_ << " " << done << " of " << total_ << std::flush;
    shown_ = true;
  }

 private:
  Context& context_;
  std::string verb_;
  size_t total_;
  bool shown_ = false;
};

// Some items of a batch failed: the first few by name, and the count of all.
class Failures {
 public:
  void Add(const std::string& what, const wire::Status& status) {
    if (++count_ <= 10) lines_.push_back(absl::StrCat(what, ": ", Safe(status.message())));
    if (count_ == 1) code_ = static_cast<absl::StatusCode>(status.code());
  }
  absl::Status ToStatus() const {
    if (count_ == 0) return absl::OkStatus();
    std::string text = absl::StrJoin(lines_, "\n");
    if (count_ > lines_.size()) absl::StrAppend(&text, "\nand ", count_ - lines_.size(), " more");
    return absl::Status(code_, text);
  }

 private:
  size_t count_ = 0;
  absl::StatusCode code_ = absl::StatusCode::kUnknown;
  std::vector<std::string> lines_;
};

// Sends `items` in batches with `add` and hands each answer's results to `take`.
template <typename Request, typename Response, typename Method, typename Item, typename Add, typename Take>
absl::Status InBatches(Context& context, EntryStub& stub, Method method, const std::vector<Item>& items,
                       absl::string_view verb, Request request_template, Add add, Take take) {
  Progress progress(context, verb, items.size());
  for (size_t at = 0; at < items.size(); at += kBatch) {
    Request request = request_template;
    const size_t end = std::min(items.size(), at + kBatch);
    for (size_t i = at; i < end; ++i) add(request, items[i]);
    Response response;
    SIGNET_RETURN_IF_ERROR(Call(stub, method, request, response));
    if (response.results_size() != static_cast<int>(end - at)) {
      return absl::InternalError("the server answered another number of results than was asked for");
    }
    for (size_t i = at; i < end; ++i) take(items[i], *response.mutable_results(static_cast<int>(i - at)));
    progress.Show(end);
  }
  return absl::OkStatus();
}

absl::Status CreateAll(Context& context, EntryStub& stub, const std::vector<wire::Entry>& entries,
                       BatchCreateEntryResponse& all, Failures& failures) {
  return InBatches<BatchCreateEntryRequest, BatchCreateEntryResponse>(
      context, stub, &EntryStub::BatchCreateEntry, entries, "created", {},
      [](BatchCreateEntryRequest& request, const wire::Entry& entry) { *request.add_entries() = entry; },
      [&](const wire::Entry& entry, BatchCreateEntryResponse::Result& result) {
        if (result.status().code() != 0) failures.Add(IdText(entry.spiffe_id()), result.status());
        *all.add_results() = std::move(result);
      });
}

absl::Status DeleteAll(Context& context, EntryStub& stub, const std::vector<std::string>& ids,
                       BatchDeleteEntryResponse& all, Failures& failures) {
  return InBatches<BatchDeleteEntryRequest, BatchDeleteEntryResponse>(
      context, stub, &EntryStub::BatchDeleteEntry, ids, "deleted", {},
      [](BatchDeleteEntryRequest& request, const std::string& id) { request.add_ids(id); },
      [&](const std::string& id, BatchDeleteEntryResponse::Result& result) {
        if (result.status().code() != 0) failures.Add(absl::StrCat("entry ", Safe(id)), result.status());
        *all.add_results() = std::move(result);
      });
}

absl::Status UpdateAll(Context& context, EntryStub& stub, const std::vector<wire::Entry>& entries,
                       const wire::EntryMask* mask, BatchUpdateEntryResponse& all, Failures& failures) {
  BatchUpdateEntryRequest request;
  if (mask != nullptr) *request.mutable_input_mask() = *mask;  // none: every field
  return InBatches<BatchUpdateEntryRequest, BatchUpdateEntryResponse>(
      context, stub, &EntryStub::BatchUpdateEntry, entries, "updated", request,
      [](BatchUpdateEntryRequest& r, const wire::Entry& entry) { *r.add_entries() = entry; },
      [&](const wire::Entry& entry, BatchUpdateEntryResponse::Result& result) {
        if (result.status().code() != 0) failures.Add(absl::StrCat("entry ", Safe(entry.id())), result.status());
        *all.add_results() = std::move(result);
      });
}

absl::StatusOr<std::vector<wire::Entry>> ListAll(EntryStub& stub, ListEntriesRequest request) {
  std::vector<wire::Entry> entries;
  request.set_page_size(kPage);
  for (;;) {
    ListEntriesResponse page;
    SIGNET_RETURN_IF_ERROR(Call(stub, &EntryStub::ListEntries, request, page));
    for (wire::Entry& entry : *page.mutable_entries()) entries.push_back(std::move(entry));
    if (page.next_page_token().empty()) return entries;
    request.set_page_token(page.next_page_token());
  }
}

void PrintResults(Context& context, const BatchCreateEntryResponse& response) {
  for (const auto& result : response.results()) {
    if (result.status().code() == 0) PrintEntry(result.entry(), context.clock.Now(), context.out);
    if (response.results_size() > 1 && result.status().code() == 0) context.out << "\n";
  }
}

// Many results are not worth a screen each.
constexpr int kShowInFull = 10;

absl::Status Create(Context& context, const EntryFlags& flags, const std::string& file) {
  std::vector<wire::Entry> entries;
  if (file.empty()) {
    SIGNET_ASSIGN_OR_RETURN(wire::Entry entry, NewEntry(flags));
    entries.push_back(std::move(entry));
  } else {
    SIGNET_ASSIGN_OR_RETURN(entries, ReadEntryFile(file, context.in));
  }
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  BatchCreateEntryResponse response;
  Failures failures;
  SIGNET_RETURN_IF_ERROR(CreateAll(context, *stub, entries, response, failures));
  if (context.json()) {
    SIGNET_RETURN_IF_ERROR(PrintJson(context, response));
  } else if (response.results_size() <= kShowInFull) {
    PrintResults(context, response);
  } else {
    size_t created = 0;
    for (const auto& result : response.results()) created += result.status().code() == 0 ? 1 : 0;
    context.out << "created " << CountText(created, "entry", "entries") << "\n";
  }
  return failures.ToStatus();
}

absl::Status Update(Context& context, const EntryFlags& flags, const CLI::App& verb) {
  wire::Entry entry;
  wire::EntryMask mask;
  entry.set_id(flags.id);
  SIGNET_RETURN_IF_ERROR(ChangedFields(flags, verb, entry, mask));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  BatchUpdateEntryResponse response;
  Failures failures;
  SIGNET_RETURN_IF_ERROR(UpdateAll(context, *stub, {entry}, &mask, response, failures));
  if (context.json()) {
    SIGNET_RETURN_IF_ERROR(PrintJson(context, response));
  } else if (response.results(0).status().code() == 0) {
    PrintEntry(response.results(0).entry(), context.clock.Now(), context.out);
  }
  return WithNextStep(failures.ToStatus(), "signet entry list shows the entries there are");
}

absl::Status Show(Context& context, const std::string& id) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  GetEntryRequest request;
  request.set_id(id);
  wire::Entry entry;
  const absl::Status found = Call(*stub, &EntryStub::GetEntry, request, entry);
  SIGNET_RETURN_IF_ERROR(WithNextStep(found, "signet entry list shows the entries there are"));
  if (context.json()) return PrintJson(context, entry);
  PrintEntry(entry, context.clock.Now(), context.out);
  return absl::OkStatus();
}

struct FilterFlags {
  std::string spiffe_id, parent_id, hint, match = "superset";
  std::vector<std::string> selectors, federates_with;
  bool downstream = false;

  void AddTo(CLI::App& verb) {
    verb.add_option("--spiffe-id", spiffe_id, "only entries that give this ID");
    verb.add_option("--parent-id", parent_id, "only entries below this agent or alias");
    AddList(verb, "--selector", selectors, "only entries whose selectors match these; repeatable");
    AddList(verb, "--federates-with", federates_with, "only entries that federate with these; repeatable");
    verb.add_option("--match", match,
                    "how selectors and trust domains are compared: the entry's are ... of the given ones")
        ->check(CLI::IsMember({"exact", "subset", "superset", "any"}));
    verb.add_option("--hint", hint, "only entries with this hint");
    verb.add_flag("--downstream", downstream, "only entries for downstream servers");
  }

  // Count and List have the same filter under two names.
  template <typename Filter>
  absl::Status Fill(const CLI::App& verb, Filter& filter) const {
    static const std::map<std::string, int> kMatches = {{"exact", 0}, {"subset", 1}, {"superset", 2}, {"any", 3}};
    const auto parse = [](const char* flag, const std::string& text, wire::SPIFFEID* out) -> absl::Status {
      const absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
      if (!id.ok()) return UsageError(absl::StrCat(flag, ": ", id.status().message()));
      spiffe::ToWire(*id, out);
      return absl::OkStatus();
    };
    if (!spiffe_id.empty()) SIGNET_RETURN_IF_ERROR(parse("--spiffe-id", spiffe_id, filter.mutable_by_spiffe_id()));
    if (!parent_id.empty()) SIGNET_RETURN_IF_ERROR(parse("--parent-id", parent_id, filter.mutable_by_parent_id()));
    for (const std::string& text : selectors) {
      const absl::StatusOr<spiffe::Selector> selector = spiffe::Selector::Parse(text);
      if (!selector.ok()) return UsageError(absl::StrCat("--selector: ", selector.status().message()));
      auto& match_selectors = *filter.mutable_by_selectors();
      match_selectors.set_match(static_cast<wire::SelectorMatch::MatchBehavior>(kMatches.at(match)));
      wire::Selector& out = *match_selectors.add_selectors();
      out.set_type(selector->type);
      out.set_value(selector->value);
    }
    for (const std::string& text : federates_with) {
      auto& domains = *filter.mutable_by_federates_with();
      domains.set_match(static_cast<wire::FederatesWithMatch::MatchBehavior>(kMatches.at(match)));
      domains.add_trust_domains(text);
    }
    if (verb.count("--hint") > 0) filter.mutable_by_hint()->set_value(hint);
    if (downstream) filter.mutable_by_downstream()->set_value(true);
    return absl::OkStatus();
  }
};

absl::Status List(Context& context, const FilterFlags& flags, const CLI::App& verb) {
  ListEntriesRequest request;
  SIGNET_RETURN_IF_ERROR(flags.Fill(verb, *request.mutable_filter()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  SIGNET_ASSIGN_OR_RETURN(std::vector<wire::Entry> entries, ListAll(*stub, request));
  if (context.json()) {
    ListEntriesResponse all;
    for (wire::Entry& entry : entries) *all.add_entries() = std::move(entry);
    return PrintJson(context, all);
  }
  if (entries.empty()) {
    context.out << "no entries\n";
  } else {
    PrintEntryTable(entries, context.out);
  }
  return absl::OkStatus();
}

absl::Status Count(Context& context, const FilterFlags& flags, const CLI::App& verb) {
  CountEntriesRequest request;
  SIGNET_RETURN_IF_ERROR(flags.Fill(verb, *request.mutable_filter()));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  CountEntriesResponse response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &EntryStub::CountEntries, request, response));
  if (context.json()) return PrintJson(context, response);
  context.out << response.count() << "\n";
  return absl::OkStatus();
}

absl::Status Delete(Context& context, const std::vector<std::string>& ids) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  BatchDeleteEntryResponse response;
  Failures failures;
  SIGNET_RETURN_IF_ERROR(DeleteAll(context, *stub, ids, response, failures));
  if (context.json()) {
    SIGNET_RETURN_IF_ERROR(PrintJson(context, response));
  } else {
    for (const auto& result : response.results()) {
      if (result.status().code() == 0) context.out << "deleted " << Safe(result.id()) << "\n";
    }
  }
  return WithNextStep(failures.ToStatus(), "signet entry list shows the entries there are");
}

// What makes two entries the same when no id is given; the server holds at most one of each.
std::string Key(const wire::Entry& entry) {
  std::vector<std::string> selectors;
  for (const wire::Selector& s : entry.selectors()) selectors.push_back(absl::StrCat(s.type(), ":", s.value()));
  std::sort(selectors.begin(), selectors.end());
  return absl::StrCat(IdText(entry.spiffe_id()), "\n", IdText(entry.parent_id()), "\n", absl::StrJoin(selectors, "\n"));
}

struct Plan {
  std::vector<wire::Entry> create, update;
  std::vector<std::string> remove;
  std::string text;  // a line a change
};

absl::StatusOr<Plan> MakePlan(const std::vector<wire::Entry>& wanted, const std::vector<wire::Entry>& present,
                              bool prune) {
  std::map<std::string, const wire::Entry*> by_id, by_key;
  for (const wire::Entry& entry : present) {
    by_id[entry.id()] = &entry;
    by_key[Key(entry)] = &entry;
  }
  Plan plan;
  std::map<std::string, bool> kept;
  for (const wire::Entry& entry : wanted) {
    const wire::Entry* old = nullptr;
    if (const auto it = by_id.find(entry.id()); !entry.id().empty() && it != by_id.end()) old = it->second;
    if (const auto it = by_key.find(Key(entry)); old == nullptr && entry.id().empty() && it != by_key.end())
      old = it->second;
    if (old == nullptr) {
      plan.create.push_back(entry);
      absl::StrAppend(&plan.text, "+ ", IdText(entry.spiffe_id()), "\n");
      continue;
    }
    if (!kept.emplace(old->id(), true).second) {
      return UsageError(absl::StrCat("two entries of the file mean the same: ", IdText(entry.spiffe_id()), " (entry ",
                                     Safe(old->id()), "); remove one"));
    }
    const std::vector<std::string> differences = Differences(*old, entry);
    if (differences.empty()) continue;
    plan.update.push_back(entry);
    plan.update.back().set_id(old->id());
    absl::StrAppend(&plan.text, "~ ", IdText(entry.spiffe_id()), " (", Safe(old->id()), ")\n    ",
                    absl::StrJoin(differences, "\n    "), "\n");
  }
  if (!prune) return plan;
  for (const wire::Entry& entry : present) {
    if (kept.count(entry.id()) > 0) continue;
    plan.remove.push_back(entry.id());
    absl::StrAppend(&plan.text, "- ", IdText(entry.spiffe_id()), " (", Safe(entry.id()), ")\n");
  }
  return plan;
}

absl::Status Apply(Context& context, const std::string& file, bool prune, bool dry_run) {
  SIGNET_ASSIGN_OR_RETURN(const std::vector<wire::Entry> wanted, ReadEntryFile(file, context.in));
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  SIGNET_ASSIGN_OR_RETURN(const std::vector<wire::Entry> present, ListAll(*stub, {}));
  SIGNET_ASSIGN_OR_RETURN(const Plan plan, MakePlan(wanted, present, prune));
  std::ostream& told = context.json() ? context.err : context.out;
  told << plan.text;
  Failures failures;
  BatchCreateEntryResponse created;
  BatchUpdateEntryResponse updated;
  BatchDeleteEntryResponse deleted;
  if (!dry_run) {  // removals last: an identity that only moves is never gone
    SIGNET_RETURN_IF_ERROR(CreateAll(context, *stub, plan.create, created, failures));
    SIGNET_RETURN_IF_ERROR(UpdateAll(context, *stub, plan.update, nullptr, updated, failures));
    SIGNET_RETURN_IF_ERROR(DeleteAll(context, *stub, plan.remove, deleted, failures));
  }
  if (context.json()) {  // all that is there afterwards
    SIGNET_ASSIGN_OR_RETURN(std::vector<wire::Entry> entries, ListAll(*stub, {}));
    ListEntriesResponse all;
    for (wire::Entry& entry : entries) *all.add_entries() = std::move(entry);
    SIGNET_RETURN_IF_ERROR(PrintJson(context, all));
  } else {
    const size_t changes = plan.create.size() + plan.update.size() + plan.remove.size();
    context.out << (dry_run ? "would create " : "created ") << plan.create.size() << ", "
                << (dry_run ? "update " : "updated ") << plan.update.size() << ", "
                << (dry_run ? "delete " : "deleted ") << plan.remove.size()
                << (changes == 0 ? ": nothing to change" : "") << "\n";
  }
  return failures.ToStatus();
}

}  // namespace

void AddEntryCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("entry", "registration entries: which process gets which identity");
  noun.require_subcommand(1);
  // Flags outlive this function: the app's callbacks own them.
  auto flags = std::make_shared<EntryFlags>();
  auto filter = std::make_shared<FilterFlags>();
  auto file = std::make_shared<std::string>();
  auto ids = std::make_shared<std::vector<std::string>>();
  auto prune = std::make_shared<bool>(false);
  auto dry_run = std::make_shared<bool>(false);

  CLI::App& create = AddVerb(noun, context, "create", "create one entry by flags, or many by a file",
                             "signet entry create --parent-id spiffe://example.org/spire/agent/join_token/TOKEN "
                             "--spiffe-id spiffe://example.org/web --selector unix:user:web",
                             Target::kServer);
  flags->AddTo(create);
  create.add_option("--id", flags->id, "the entry's own id; made by the server when left out");
  auto* file_option = create.add_option("--file", *file, "YAML or JSON with one entry or many; - reads standard input");
  file_option->excludes("--spiffe-id")->excludes("--parent-id")->excludes("--selector");
  create.callback(
      [&context, flags, file] { context.action = [&context, flags, file] { return Create(context, *flags, *file); }; });

  CLI::App& update = AddVerb(noun, context, "update", "change the fields whose flags are given; the others stay",
                             "signet entry update --id 7f3a... --x509-ttl 30m", Target::kServer);
  flags->AddTo(update);
  update.add_option("id,--id", flags->id, "the entry to change")->required();
  update.callback([&context, flags, &update] {
    context.action = [&context, flags, &update] { return Update(context, *flags, update); };
  });

  CLI::App& show = AddVerb(noun, context, "show", "one entry in full", "signet entry show 7f3a...", Target::kServer);
  show.add_option("id,--id", flags->id, "the entry's id")->required();
  show.callback([&context, flags] { context.action = [&context, flags] { return Show(context, flags->id); }; });

  CLI::App& list = AddVerb(noun, context, "list", "all entries, or those that the filters let through",
                           "signet entry list --selector unix:user:web --match superset", Target::kServer);
  filter->AddTo(list);
  list.callback([&context, filter, &list] {
    context.action = [&context, filter, &list] { return List(context, *filter, list); };
  });

  CLI::App& count = AddVerb(noun, context, "count", "how many entries there are",
                            "signet entry count --parent-id spiffe://example.org/node", Target::kServer);
  filter->AddTo(count);
  count.callback([&context, filter, &count] {
    context.action = [&context, filter, &count] { return Count(context, *filter, count); };
  });

  CLI::App& remove = AddVerb(noun, context, "delete", "delete entries; their SVIDs are withdrawn at once",
                             "signet entry delete 7f3a...", Target::kServer);
  remove.add_option("id,--id", *ids, "the entry's id; repeatable")->required();
  remove.callback([&context, ids] { context.action = [&context, ids] { return Delete(context, *ids); }; });

  CLI::App& apply =
      AddVerb(noun, context, "apply", "make the entries what a file says: create or update, and show what changed",
              "signet entry apply --file entries.yaml --prune --dry-run", Target::kServer);
  apply.add_option("file,--file", *file, "YAML or JSON with one entry or many; - reads standard input")->required();
  apply.add_flag("--prune", *prune, "delete every entry that the file does not have");
  apply.add_flag("--dry-run", *dry_run, "only show what would change");
  apply.callback([&context, file, prune, dry_run] {
    context.action = [&context, file, prune, dry_run] { return Apply(context, *file, *prune, *dry_run); };
  });
}

}  // namespace signet::cli
