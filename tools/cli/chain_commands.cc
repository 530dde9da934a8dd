// `signet chain`: who passed authority to whom, and the proof of it that needs no server.
#include "absl/strings/str_join.h"
#include "common/fs/atomic_file.h"
#include "common/oauth/chain_file.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

constexpr char kFileHelp[] =
    R"(JSON: {"issuer": URL, "token": JWT, "receipts": [JWT, ...], "token_keys": {"keys": [...]},
"receipt_keys": {"keys": [...]}}. Receipts stand first hop first; left out, those inside the token are taken; of more
than the token counts, those of its chain are picked. What `chain show --output json` prints is such a file without
token and keys. - reads standard input. Keys that came with the chain prove nothing: take them from the issuer,
at /jwks and /receipt-jwks, with --jwks and --receipt-jwks)";

struct Flags {
  std::string file, token, jwks, receipt_jwks, issuer;
};

absl::StatusOr<std::string> ReadInput(Context& context, const std::string& path, size_t max_bytes) {
  if (path != "-") return fs::ReadFile(path, max_bytes);
  std::string text(max_bytes + 1, '\0');
  context.in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(context.in.gcount()));
  if (text.size() > max_bytes)
    return absl::InvalidArgumentError(absl::StrCat("standard input: more than ", max_bytes, " bytes"));
  return text;
}

absl::StatusOr<oauth::Keys> ReadKeyFile(const std::string& path) {
  SIGNET_ASSIGN_OR_RETURN(const std::string text, fs::ReadFile(path, 256 * 1024));
  SIGNET_ASSIGN_OR_RETURN(oauth::Keys keys, oauth::ParseKeys(text), path);
  return keys;
}

absl::StatusOr<oauth::ChainFile> ReadChain(Context& context, const Flags& flags) {
  SIGNET_ASSIGN_OR_RETURN(const std::string text, ReadInput(context, flags.file, oauth::kMaxChainFileBytes));
  SIGNET_ASSIGN_OR_RETURN(oauth::ChainFile chain, oauth::ChainFile::Parse(text), flags.file);
  if (!flags.token.empty()) {
    SIGNET_ASSIGN_OR_RETURN(chain.token, fs::ReadFile(flags.token, oauth::kMaxJwtBytes));
    while (!chain.token.empty() && (chain.token.back() == '\n' || chain.token.back() == '\r')) chain.token.pop_back();
  }
  if (!flags.jwks.empty()) {
    SIGNET_ASSIGN_OR_RETURN(chain.token_keys, ReadKeyFile(flags.jwks));
  }
  if (!flags.receipt_jwks.empty()) {
    SIGNET_ASSIGN_OR_RETURN(chain.receipt_keys, ReadKeyFile(flags.receipt_jwks));
  }
  if (!flags.issuer.empty()) chain.issuer = flags.issuer;
  if (!chain.token_keys.has_value()) return UsageError("no keys of tokens: give --jwks, or \"token_keys\" in the file");
  if (!chain.receipt_keys.has_value()) {
    return UsageError("no keys of receipts: give --receipt-jwks, or \"receipt_keys\" in the file");
  }
  if (chain.issuer.empty()) return UsageError("no issuer: give --issuer, or \"issuer\" in the file");
  return chain;
}

std::string PermissionsText(const oauth::Atoms& atoms) {
  std::string text;
  for (const oauth::Atom& atom : atoms) {
    absl::StrAppend(&text, text.empty() ? "" : " ", atom.tool ? "tool:" : "", atom.action,
                    atom.constraints.empty() ? "" : "*");
  }
  return text;
}

void PrintHops(Context& context, const std::vector<oauth::Receipt>& hops) {
  Table table({"DEPTH", "ACTOR", "AUDIENCE", "UNTIL", "PERMISSIONS"});
  for (const oauth::Receipt& hop : hops) {
    table.Add({absl::StrCat(hop.depth), Safe(hop.actor), Safe(hop.audience),
               TimeText(hop.expires_at, context.clock.Now()), Safe(PermissionsText(hop.bounds))});
  }
  if (table.size() > 0) table.Print(context.out);
}

absl::Status Verify(Context& context, const Flags& flags) {
  SIGNET_ASSIGN_OR_RETURN(const oauth::ChainFile chain, ReadChain(context, flags));
  const oauth::ChainFinding finding = chain.Verify();
  if (context.json()) {
    context.out << oauth::FindingJson(finding) << "\n";
  } else {
    PrintHops(context, finding.hops);
    if (finding.proven) context.out << "proven\n";
  }
  return finding.proven ? absl::OkStatus() : absl::DataLossError(absl::StrCat("not proven: ", Safe(finding.problem)));
}

absl::Status Show(Context& context, const std::string& txn) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  token_v1::Chain chain;
  SIGNET_RETURN_IF_ERROR(client.Call("GetChain", ById(txn), chain));
  if (context.json()) return PrintJson(context, chain);
  Table table({"DEPTH", "ACTOR", "AUDIENCE", "UNTIL", "PERMISSIONS"});
  for (const google::protobuf::Struct& hop : chain.hops()) {
    const auto text = [&hop](const char* name) {
      const auto it = hop.fields().find(name);
      return it == hop.fields().end() ? "" : Safe(it->second.string_value());
    };
    const auto depth = hop.fields().find("depth"), bounds = hop.fields().find("bounds");
    std::vector<std::string> permissions;
    if (bounds != hop.fields().end()) {
      for (const auto& bound : bounds->second.list_value().values()) permissions.push_back(Safe(bound.string_value()));
    }
    table.Add({absl::StrCat(depth == hop.fields().end() ? 0 : depth->second.number_value()), text("actor"), text("audience"),
               text("expires_at"), absl::StrJoin(permissions, ", ")});
  }
  table.Print(context.out);
  if (!chain.problem().empty()) context.out << Safe(chain.problem()) << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddChainCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("chain", "who passed authority to whom, from the first token to the last");
  noun.require_subcommand(1);
  auto txn = std::make_shared<std::string>();
  CLI::App& show = AddVerb(noun, context, "show", "the receipts of a chain, as the server keeps them",
                           "signet chain show 01J... --output json > chain.json", Target::kServer);
  show.add_option("txn,--txn", *txn, "claim \"txn\" of any of its tokens")->required();
  show.callback([&context, txn] { context.action = [&context, txn] { return Show(context, *txn); }; });

  auto flags = std::make_shared<Flags>();
  CLI::App& verify = AddVerb(noun, context, "verify", "prove a chain offline, with public keys alone",
                             "signet chain verify chain.json --token token.jwt --issuer https://id.example.org "
                             "--jwks jwks.json --receipt-jwks receipt-jwks.json",
                             Target::kNothing);
  verify.add_option("file", flags->file, kFileHelp)->required();
  verify.add_option("--token", flags->token, "file with the last token; without a token a chain is incomplete");
  verify.add_option("--jwks", flags->jwks, "file with the keys of tokens: the issuer's /jwks");
  verify.add_option("--receipt-jwks", flags->receipt_jwks,
                    "file with the keys of receipts: the issuer's /receipt-jwks");
  verify.add_option("--issuer", flags->issuer, "URL that the token must name");
  verify.callback([&context, flags] { context.action = [&context, flags] { return Verify(context, *flags); }; });
}

}  // namespace signet::cli
