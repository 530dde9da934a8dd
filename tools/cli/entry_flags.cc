#include "tools/cli/entry_flags.h"

#include <algorithm>
#include <istream>
#include <iterator>
#include <limits>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/load.h"
#include "common/fs/atomic_file.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "config/entries.pb.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

constexpr size_t kMaxFileBytes = 64 << 20;

absl::Status SetId(absl::string_view what, const std::string& text, wire::SPIFFEID* out) {
  absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
  if (!id.ok()) return UsageError(absl::StrCat(what, ": ", id.status().message()));
  spiffe::ToWire(*id, out);
  return absl::OkStatus();
}

absl::Status SetSelectors(absl::string_view what, const std::vector<std::string>& texts, wire::Entry& entry) {
  spiffe::Selectors selectors;
  for (const std::string& text : texts) {
    absl::StatusOr<spiffe::Selector> selector = spiffe::Selector::Parse(text);
    if (!selector.ok()) return UsageError(absl::StrCat(what, ": ", selector.status().message()));
    selectors.push_back(*std::move(selector));
  }
  spiffe::Normalize(selectors);
  entry.clear_selectors();
  spiffe::ToWire(selectors, entry.mutable_selectors());
  return absl::OkStatus();
}

// Empty and "0" mean the server's default.
absl::StatusOr<int32_t> Seconds(absl::string_view what, const std::string& text) {
  if (text.empty() || text == "0" || text == "0s") return 0;
  config::Errors errors;
  const absl::Duration d = config::ParseDuration(what, text, absl::ZeroDuration(), errors);
  if (!errors.empty()) return UsageError(errors.ToStatus().message());
  const int64_t seconds = absl::ToInt64Seconds(d);
  if (seconds < 1 || seconds > std::numeric_limits<int32_t>::max()) {
    return UsageError(absl::StrCat(what, ": ", text, " is not between 1s and 68 years"));
  }
  return static_cast<int32_t>(seconds);
}

absl::StatusOr<int64_t> UnixTime(absl::string_view what, const std::string& text, absl::Time now) {
  if (text.empty()) return 0;
  if (text[0] == '+') {
    SIGNET_ASSIGN_OR_RETURN(const int32_t seconds, Seconds(what, text.substr(1)));
    return absl::ToUnixSeconds(now) + seconds;
  }
  absl::Time t;
  std::string why;
  if (!absl::ParseTime(absl::RFC3339_full, text, &t, &why)) {
    return UsageError(absl::StrCat(what, ": \"", text, "\" is no time; write 2030-01-31T00:00:00Z, or +24h from now"));
  }
  return absl::ToUnixSeconds(t);
}

// The same checks for flags and files; `names` says what each is called there.
struct Names {
  absl::string_view spiffe_id, parent_id, selector, x509_ttl, jwt_ttl, expires_at;
};
constexpr Names kFlagNames = {"--spiffe-id", "--parent-id", "--selector", "--x509-ttl", "--jwt-ttl", "--expires-at"};
constexpr Names kFileNames = {"spiffe_id", "parent_id", "selectors", "x509_ttl", "jwt_ttl", "expires_at"};

absl::StatusOr<wire::Entry> Build(const EntryFlags& flags, const Names& names) {
  wire::Entry entry;
  entry.set_id(flags.id);
  if (flags.spiffe_id.empty()) return UsageError(absl::StrCat(names.spiffe_id, " is required"));
  if (flags.parent_id.empty())
    return UsageError(absl::StrCat(names.parent_id, " is required: the agent's ID, or an alias"));
  if (flags.selectors.empty()) {
    return UsageError(absl::StrCat(names.selector, " is required: an entry without any matches nothing"));
  }
  SIGNET_RETURN_IF_ERROR(SetId(names.spiffe_id, flags.spiffe_id, entry.mutable_spiffe_id()));
  SIGNET_RETURN_IF_ERROR(SetId(names.parent_id, flags.parent_id, entry.mutable_parent_id()));
  SIGNET_RETURN_IF_ERROR(SetSelectors(names.selector, flags.selectors, entry));
  SIGNET_ASSIGN_OR_RETURN(const int32_t x509_ttl, Seconds(names.x509_ttl, flags.x509_ttl));
  SIGNET_ASSIGN_OR_RETURN(const int32_t jwt_ttl, Seconds(names.jwt_ttl, flags.jwt_ttl));
  SIGNET_ASSIGN_OR_RETURN(const int64_t expires_at, UnixTime(names.expires_at, flags.expires_at, absl::Now()));
  entry.set_x509_svid_ttl(x509_ttl);
  entry.set_jwt_svid_ttl(jwt_ttl);
  entry.set_expires_at(expires_at);
  *entry.mutable_federates_with() = {flags.federates_with.begin(), flags.federates_with.end()};
  *entry.mutable_dns_names() = {flags.dns_names.begin(), flags.dns_names.end()};
  entry.set_hint(flags.hint);
  entry.set_admin(flags.admin);
  entry.set_downstream(flags.downstream);
  entry.set_store_svid(flags.store_svid);
  if (flags.no_prefetch || flags.jti) {
    entry.mutable_additional_attributes()->set_disable_x509_svid_prefetch(flags.no_prefetch);
    entry.mutable_additional_attributes()->set_jwt_svid_include_jti(flags.jti);
  }
  // What the server would refuse is refused here already, with its own words.
  if (const auto checked = spiffe::EntryFromWire(entry); !checked.ok()) return UsageError(checked.status().message());
  return entry;
}

EntryFlags FromFile(const config::RegistrationEntry& e) {
  EntryFlags flags{e.id(), e.spiffe_id(), e.parent_id(), e.hint(), e.x509_ttl(), e.jwt_ttl(), e.expires_at()};
  flags.selectors = {e.selectors().begin(), e.selectors().end()};
  flags.federates_with = {e.federates_with().begin(), e.federates_with().end()};
  flags.dns_names = {e.dns_names().begin(), e.dns_names().end()};
  flags.admin = e.admin();
  flags.downstream = e.downstream();
  flags.store_svid = e.store_svid();
  flags.no_prefetch = e.disable_x509_svid_prefetch();
  flags.jti = e.jwt_svid_include_jti();
  return flags;
}

std::string SelectorsText(const wire::Entry& entry, absl::string_view separator) {
  return absl::StrJoin(entry.selectors(), separator,
                       [](std::string* out, const wire::Selector& s) { out->append(SelectorText(s)); });
}

std::string TtlText(int32_t seconds) { return seconds == 0 ? "default" : DurationText(absl::Seconds(seconds)); }

std::string Words(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  return Safe(absl::StrJoin(texts, " "));
}

std::string FlagText(const wire::Entry& entry) {
  std::vector<std::string> flags;
  if (entry.admin()) flags.emplace_back("admin");
  if (entry.downstream()) flags.emplace_back("downstream");
  if (entry.store_svid()) flags.emplace_back("store-svid");
  if (entry.additional_attributes().disable_x509_svid_prefetch()) flags.emplace_back("no-prefetch");
  if (entry.additional_attributes().jwt_svid_include_jti()) flags.emplace_back("jti");
  return absl::StrJoin(flags, ",");
}

std::vector<std::string> Sorted(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  std::vector<std::string> sorted(texts.begin(), texts.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace

void EntryFlags::AddTo(CLI::App& verb) {
  verb.add_option("--spiffe-id", spiffe_id, "the SPIFFE ID to give, spiffe://TD/PATH");
  verb.add_option("--parent-id", parent_id,
                  "the agent that may give it, an alias, or spiffe://TD/spire/server for a node alias");
  AddList(verb, "--selector", selectors, "TYPE:VALUE that must hold; repeat it for more: all must hold");
  verb.add_option("--x509-ttl", x509_ttl, "life of X.509-SVIDs such as 1h; 0: the server's default");
  verb.add_option("--jwt-ttl", jwt_ttl, "life of JWT-SVIDs such as 5m; 0: the server's default");
  AddList(verb, "--federates-with", federates_with, "trust domain whose bundle the workload gets too; repeatable");
  AddList(verb, "--dns", dns_names, "DNS name in the certificate; repeatable, the first becomes the CN");
  verb.add_option("--hint", hint, "tells several SVIDs of one workload apart");
  verb.add_flag("--admin,!--no-admin", admin, "the SVID may administrate the server");
  verb.add_flag("--downstream,!--no-downstream", downstream, "the SVID may ask for an intermediate CA");
  verb.add_flag("--store-svid,!--no-store-svid", store_svid, "for agents that push SVIDs to a store");
  verb.add_option("--expires-at", expires_at, "when the entry is removed: 2030-01-31T00:00:00Z, or +24h");
}

absl::StatusOr<wire::Entry> NewEntry(const EntryFlags& flags) { return Build(flags, kFlagNames); }

absl::Status ChangedFields(const EntryFlags& flags, const CLI::App& verb, wire::Entry& entry, wire::EntryMask& mask) {
  const auto given = [&](const char* name) { return verb.count(name) > 0; };
  if (given("--spiffe-id")) {
    SIGNET_RETURN_IF_ERROR(SetId("--spiffe-id", flags.spiffe_id, entry.mutable_spiffe_id()));
    mask.set_spiffe_id(true);
  }
  if (given("--parent-id")) {
    SIGNET_RETURN_IF_ERROR(SetId("--parent-id", flags.parent_id, entry.mutable_parent_id()));
    mask.set_parent_id(true);
  }
  if (given("--selector")) {
    SIGNET_RETURN_IF_ERROR(SetSelectors("--selector", flags.selectors, entry));
    mask.set_selectors(true);
  }
  if (given("--x509-ttl")) {
    SIGNET_ASSIGN_OR_RETURN(const int32_t ttl, Seconds("--x509-ttl", flags.x509_ttl));
    entry.set_x509_svid_ttl(ttl);
    mask.set_x509_svid_ttl(true);
  }
  if (given("--jwt-ttl")) {
    SIGNET_ASSIGN_OR_RETURN(const int32_t ttl, Seconds("--jwt-ttl", flags.jwt_ttl));
    entry.set_jwt_svid_ttl(ttl);
    mask.set_jwt_svid_ttl(true);
  }
  if (given("--expires-at")) {
    SIGNET_ASSIGN_OR_RETURN(const int64_t at, UnixTime("--expires-at", flags.expires_at, absl::Now()));
    entry.set_expires_at(at);
    mask.set_expires_at(true);
  }
  // --dns "" and --federates-with "" empty the list.
  const auto list = [](const std::vector<std::string>& texts, google::protobuf::RepeatedPtrField<std::string>* out) {
    for (const std::string& text : texts) {
      if (!text.empty()) *out->Add() = text;
    }
  };
  if (given("--federates-with")) {
    list(flags.federates_with, entry.mutable_federates_with());
    mask.set_federates_with(true);
  }
  if (given("--dns")) {
    list(flags.dns_names, entry.mutable_dns_names());
    mask.set_dns_names(true);
  }
  if (given("--hint")) {
    entry.set_hint(flags.hint);
    mask.set_hint(true);
  }
  if (given("--admin")) {
    entry.set_admin(flags.admin);
    mask.set_admin(true);
  }
  if (given("--downstream")) {
    entry.set_downstream(flags.downstream);
    mask.set_downstream(true);
  }
  if (given("--store-svid")) {
    entry.set_store_svid(flags.store_svid);
    mask.set_store_svid(true);
  }
  if (mask.ByteSizeLong() == 0)
    return UsageError("nothing to change: give at least one of the flags that --help lists");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<wire::Entry>> ReadEntryFile(const std::string& path, std::istream& in) {
  std::string text;
  const std::string name = path == "-" ? "standard input" : path;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(in), {});
  } else {
    SIGNET_ASSIGN_OR_RETURN(text, fs::ReadFile(path, kMaxFileBytes));
  }
  config::Entries file;
  if (const absl::Status loaded = config::LoadYamlList(text, name, kMaxFileBytes, file); !loaded.ok()) {
    return UsageError(loaded.message());
  }
  if (file.entries().empty()) return UsageError(absl::StrCat(name, ": no entries in it"));
  std::vector<wire::Entry> entries;
  std::vector<std::string> errors;
  for (int i = 0; i < file.entries_size(); ++i) {
    absl::StatusOr<wire::Entry> entry = Build(FromFile(file.entries(i)), kFileNames);
    if (entry.ok()) {
      entries.push_back(*std::move(entry));
    } else {
      errors.push_back(absl::StrCat(name, ": entries[", i, "]: ", entry.status().message()));
    }
  }
  if (!errors.empty()) return UsageError(absl::StrJoin(errors, "\n"));
  return entries;
}

void PrintEntry(const wire::Entry& entry, absl::Time now, std::ostream& out) {
  Facts facts;
  facts.Add("id", Safe(entry.id()));
  facts.Add("spiffe id", IdText(entry.spiffe_id()));
  facts.Add("parent id", IdText(entry.parent_id()));
  for (const wire::Selector& selector : entry.selectors()) facts.Add("selector", SelectorText(selector));
  facts.Add("x509 ttl", TtlText(entry.x509_svid_ttl()));
  facts.Add("jwt ttl", TtlText(entry.jwt_svid_ttl()));
  facts.Add("dns names", Words(entry.dns_names()));
  facts.Add("federates with", Words(entry.federates_with()));
  facts.Add("hint", Safe(entry.hint()));
  facts.Add("flags", FlagText(entry));
  if (entry.expires_at() != 0) facts.Add("expires", TimeText(absl::FromUnixSeconds(entry.expires_at()), now));
  if (entry.created_at() != 0) facts.Add("created", TimeText(absl::FromUnixSeconds(entry.created_at()), now));
  facts.Add("revision", absl::StrCat(entry.revision_number()));
  facts.Print(out);
}

void PrintEntryTable(const std::vector<wire::Entry>& entries, std::ostream& out) {
  Table table({"ID", "SPIFFE ID", "PARENT ID", "X509 TTL", "FLAGS", "SELECTORS"});
  for (const wire::Entry& entry : entries) {
    table.Add({Safe(entry.id()), IdText(entry.spiffe_id()), IdText(entry.parent_id()), TtlText(entry.x509_svid_ttl()),
               FlagText(entry), SelectorsText(entry, " ")});
  }
  table.Print(out);
}

std::vector<std::string> Differences(const wire::Entry& from, const wire::Entry& to) {
  std::vector<std::string> lines;
  const auto compare = [&](absl::string_view name, const std::string& a, const std::string& b) {
    if (a != b) lines.push_back(absl::StrCat(name, ": ", a.empty() ? "none" : a, " -> ", b.empty() ? "none" : b));
  };
  const auto at = [](int64_t unix) { return unix == 0 ? "" : absl::FormatTime(absl::FromUnixSeconds(unix)); };
  compare("spiffe_id", IdText(from.spiffe_id()), IdText(to.spiffe_id()));
  compare("parent_id", IdText(from.parent_id()), IdText(to.parent_id()));
  compare("selectors", SelectorsText(from, " "), SelectorsText(to, " "));
  compare("x509_ttl", TtlText(from.x509_svid_ttl()), TtlText(to.x509_svid_ttl()));
  compare("jwt_ttl", TtlText(from.jwt_svid_ttl()), TtlText(to.jwt_svid_ttl()));
  compare("federates_with", Safe(absl::StrJoin(Sorted(from.federates_with()), " ")),
          Safe(absl::StrJoin(Sorted(to.federates_with()), " ")));
  compare("dns_names", Words(from.dns_names()), Words(to.dns_names()));  // their order counts
  compare("hint", Safe(from.hint()), Safe(to.hint()));
  compare("flags", FlagText(from), FlagText(to));
  compare("expires_at", at(from.expires_at()), at(to.expires_at()));
  return lines;
}

}  // namespace signet::cli
