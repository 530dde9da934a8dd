#include "tools/cli/workload_commands.h"

#include <iterator>
#include <memory>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/concurrency/worker.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"
#include "common/fs/atomic_file.h"
#include "common/spiffe/jwt_svid.h"
#include "common/status/macros.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "tools/cli/connect.h"
#include "tools/cli/identity_dir.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

using Stub = SpiffeWorkloadAPI::Stub;

// SPIFFE Workload API 2.2.1: the header without which every call is refused.
void AddSecurityHeader(grpc::ClientContext& context) { context.AddMetadata("workload.spiffe.io", "true"); }

absl::Status Advise(const absl::Status& status) {
  if (absl::IsPermissionDenied(status)) {
    return WithNextStep(status,
                        "no entry matches this process: signet entry create --selector unix:uid:$(id -u) ..., or look "
                        "at signet entry list");
  }
  return status;
}

absl::StatusOr<std::unique_ptr<Stub>> Connect(const Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const std::string path, WorkloadSocketPath(context.socket));
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, SocketChannel(path, "signet-agent"));
  return SpiffeWorkloadAPI::NewStub(channel);
}

// The first message of the stream, which is all that a single fetch wants.
absl::Status FetchOnce(Stub& stub, X509SVIDResponse& response) {
  grpc::ClientContext call;
  SetDeadline(call);
  AddSecurityHeader(call);
  const auto stream = stub.FetchX509SVID(&call, X509SVIDRequest());
  if (!stream->Read(&response)) return Advise(rpc::FromTlsCall(stream->Finish()));
  call.TryCancel();
  (void)stream->Finish();  // CANCELLED: by us, with what we came for
  return absl::OkStatus();
}

absl::StatusOr<std::string> PemChain(absl::string_view der) {
  SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> chain, crypto::Certificate::ParseChain(der, 64));
  std::string pem;
  for (const crypto::Certificate& certificate : chain) pem.append(certificate.Pem());
  return pem;
}

absl::Status Write(const std::string& directory, const X509SVIDResponse& response) {
  for (int i = 0; i < response.svids_size(); ++i) {
    const X509SVID& svid = response.svids(i);
    SIGNET_ASSIGN_OR_RETURN(const std::string chain, PemChain(svid.x509_svid()), svid.spiffe_id());
    SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, crypto::PrivateKey::ParsePkcs8(svid.x509_svid_key()));
    SIGNET_ASSIGN_OR_RETURN(const std::string bundle, PemChain(svid.bundle()), "bundle");
    SIGNET_RETURN_IF_ERROR(WriteIdentity(directory, static_cast<size_t>(i), chain, key.Pkcs8Pem(), bundle));
  }
  int n = 0;
  for (const auto& [domain, der] : response.federated_bundles()) {
    SIGNET_ASSIGN_OR_RETURN(const std::string bundle, PemChain(der), domain);
    SIGNET_RETURN_IF_ERROR(
        fs::WriteFileAtomically(absl::StrCat(directory, "/federated_bundle.", n++, ".pem"), bundle, 0644));
  }
  return absl::OkStatus();
}

absl::Status PrintSvids(Context& context, const X509SVIDResponse& response) {
  const absl::Time now = context.clock.Now();
  bool first = true;
  for (const X509SVID& svid : response.svids()) {
    SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> chain,
                            crypto::Certificate::ParseChain(svid.x509_svid()));
    SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> roots,
                            crypto::Certificate::ParseChain(svid.bundle(), 64));
    const crypto::Certificate& leaf = chain.front();
    if (!first) context.out << "\n";
    first = false;
    Facts facts;
    facts.Add("spiffe id", Safe(svid.spiffe_id()));
    facts.Add("hint", Safe(svid.hint()));
    facts.Add("serial", leaf.SerialDecimal());
    facts.Add("valid from", TimeText(leaf.not_before(), now));
    facts.Add("valid until", TimeText(leaf.not_after(), now));
    facts.Add("key", KeyTypeName(leaf.public_key().type()));
    facts.Add("dns names", Safe(absl::StrJoin(leaf.dns_sans(), " ")));
    facts.Add("chain", CountText(chain.size(), "certificate", "certificates"));
    facts.Add("trust bundle", CountText(roots.size(), "authority", "authorities"));
    facts.Print(context.out);
  }
  for (const auto& [domain, der] : response.federated_bundles()) context.out << "federated  " << Safe(domain) << "\n";
  return absl::OkStatus();
}

absl::Status Show(Context& context, const X509SVIDResponse& response, const std::string& directory, bool on_one_line) {
  if (!directory.empty()) SIGNET_RETURN_IF_ERROR(Write(directory, response));
  if (context.json()) return PrintJson(context, response, on_one_line);
  SIGNET_RETURN_IF_ERROR(PrintSvids(context, response));
  if (!directory.empty()) context.out << "written to " << directory << ": svid.N.pem, svid.N.key, bundle.N.pem\n";
  context.out << std::flush;
  return absl::OkStatus();
}

absl::Status Fetch(Context& context, const std::string& directory) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  X509SVIDResponse response;
  SIGNET_RETURN_IF_ERROR(FetchOnce(*stub, response));
  return Show(context, response, directory, false);
}

// Follows the stream as a workload should: a lost agent or a withdrawn identity is waited for, with backoff.
absl::Status Watch(Context& context, const std::string& directory, int updates) {
  Backoff backoff(absl::Milliseconds(500), absl::Seconds(15));
  int seen = 0;
  for (;;) {
    absl::Status ended;
    absl::StatusOr<std::unique_ptr<Stub>> stub = Connect(context);
    if (stub.ok()) {
      grpc::ClientContext call;  // no deadline: it lasts
      AddSecurityHeader(call);
      const auto stream = (*stub)->FetchX509SVID(&call, X509SVIDRequest());
      X509SVIDResponse response;
      while (stream->Read(&response)) {
        backoff.Reset();
        if (!context.json()) {
          context.out << (seen == 0 ? "" : "\n") << "-- "
                      << absl::FormatTime("%H:%M:%S", context.clock.Now(), absl::UTCTimeZone()) << " update "
                      << seen + 1 << "\n";
        }
        const absl::Status shown = Show(context, response, directory, true);
        if (!shown.ok() || ++seen == updates) {
          call.TryCancel();
          (void)stream->Finish();
          return shown;
        }
      }
      ended = rpc::FromTlsCall(stream->Finish());
      if (absl::IsInvalidArgument(ended)) return ended;  // the standard says: do not retry
    } else {
      ended = stub.status();
    }
    const absl::Duration pause = backoff.Next();
    context.err << "signet: " << ended.message() << "; trying again in "
                << absl::FormatDuration(absl::Trunc(pause, absl::Milliseconds(100))) << "\n";
    absl::SleepFor(pause);
  }
}

absl::Status FetchJwt(Context& context, const std::vector<std::string>& audience, const std::string& spiffe_id,
                      const std::string& file) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  JWTSVIDRequest request;
  *request.mutable_audience() = {audience.begin(), audience.end()};
  request.set_spiffe_id(spiffe_id);
  grpc::ClientContext call;
  SetDeadline(call);
  AddSecurityHeader(call);
  JWTSVIDResponse response;
  SIGNET_RETURN_IF_ERROR(Advise(rpc::FromTlsCall(stub->FetchJWTSVID(&call, request, &response))));
  if (!file.empty()) {
    if (response.svids_size() != 1) {
      return UsageError(
          absl::StrCat("--write takes one token and there are ", response.svids_size(), "; say which by --spiffe-id"));
    }
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(file, response.svids(0).svid()));
  }
  if (context.json()) return PrintJson(context, response);
  for (const JWTSVID& svid : response.svids()) {
    std::string about = Safe(svid.spiffe_id());
    if (!svid.hint().empty()) absl::StrAppend(&about, "  hint ", Safe(svid.hint()));
    if (const auto parsed = spiffe::ParseUnverifiedJwtSvid(svid.svid()); parsed.ok()) {
      absl::StrAppend(&about, "  until ", TimeText(parsed->expires_at, context.clock.Now()));
    }
    (file.empty() ? context.err : context.out) << about << "\n";  // standard output holds the token and nothing else
    if (file.empty()) context.out << Safe(svid.svid()) << "\n";
  }
  return absl::OkStatus();
}

absl::Status Validate(Context& context, const std::string& audience, std::string token) {
  if (token == "-") token.assign(std::istreambuf_iterator<char>(context.in), {});
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  ValidateJWTSVIDRequest request;
  request.set_audience(audience);
  request.set_svid(std::string(absl::StripAsciiWhitespace(token)));
  grpc::ClientContext call;
  SetDeadline(call);
  AddSecurityHeader(call);
  ValidateJWTSVIDResponse response;
  SIGNET_RETURN_IF_ERROR(Advise(rpc::FromTlsCall(stub->ValidateJWTSVID(&call, request, &response))));
  if (context.json()) return PrintJson(context, response);
  context.out << "valid: " << Safe(response.spiffe_id()) << "\n";
  SIGNET_RETURN_IF_ERROR(PrintJson(context, response.claims()));
  return absl::OkStatus();
}

struct Flags {
  std::string write, spiffe_id, svid;
  std::vector<std::string> audience;
  std::string one_audience;
  int updates = 0;
};

}  // namespace

absl::StatusOr<WorkloadProbe> ProbeWorkloadApi(const std::string& socket) {
  SIGNET_ASSIGN_OR_RETURN(const std::string path, WorkloadSocketPath(socket));
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, SocketChannel(path, "signet-agent"));
  WorkloadProbe probe;
  X509SVIDResponse response;
  probe.refusal = FetchOnce(*SpiffeWorkloadAPI::NewStub(channel), response);
  for (const X509SVID& svid : response.svids()) {
    SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> chain,
                            crypto::Certificate::ParseChain(svid.x509_svid()));
    probe.svids.emplace_back(svid.spiffe_id(), chain.front().not_after());
  }
  return probe;
}

void AddWorkloadCommands(CLI::App& svid, Context& context) {
  auto flags = std::make_shared<Flags>();

  CLI::App& fetch = AddVerb(svid, context, "fetch", "the X509-SVIDs of this process",
                            "signet svid fetch --write /run/me/svid", Target::kWorkloadApi);
  fetch.add_option("--write", flags->write, "folder for svid.N.pem, svid.N.key (0600) and bundle.N.pem");
  fetch.callback([&context, flags] { context.action = [&context, flags] { return Fetch(context, flags->write); }; });

  CLI::App& jwt = AddVerb(svid, context, "fetch-jwt", "JWT-SVIDs of this process",
                          "TOKEN=$(signet svid fetch-jwt --audience db)", Target::kWorkloadApi);
  AddList(jwt, "--audience", flags->audience, "who shall accept it; repeatable")->required();
  jwt.add_option("--spiffe-id", flags->spiffe_id, "only the one for this ID");
  jwt.add_option("--write", flags->write, "file (0600) for the token");
  jwt.callback([&context, flags] {
    context.action = [&context, flags] { return FetchJwt(context, flags->audience, flags->spiffe_id, flags->write); };
  });

  CLI::App& validate = AddVerb(svid, context, "validate", "check a JWT-SVID against the bundles the agent holds",
                               "signet svid validate --audience db --svid - < token", Target::kWorkloadApi);
  validate.add_option("--audience", flags->one_audience, "who accepts it")->required();
  validate.add_option("svid,--svid", flags->svid, "the token; - reads standard input, where no other process sees it")
      ->required();
  validate.callback([&context, flags] {
    context.action = [&context, flags] { return Validate(context, flags->one_audience, flags->svid); };
  });

  CLI::App& watch = AddVerb(svid, context, "watch", "follow the X509-SVIDs of this process as they rotate",
                            "signet svid watch --write /run/me/svid", Target::kWorkloadApi);
  watch.add_option("--write", flags->write, "folder whose files are replaced at each update");
  watch.add_option("--updates", flags->updates, "end after so many; 0: never")->check(CLI::NonNegativeNumber);
  watch.callback([&context, flags] {
    context.action = [&context, flags] { return Watch(context, flags->write, flags->updates); };
  });
}

}  // namespace signet::cli
