// `signet dev`: a whole throw-away system in the foreground. Server and agent are the programs beside this one, with
// configurations as an operator would write them; nothing is special about the result but its folder.
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <ostream>
#include <system_error>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "common/config/load.h"
#include "common/daemon/daemon.h"
#include "common/fs/atomic_file.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/trust_domain.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "tools/cli/child.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

namespace agent_api = ::spire::api::server::agent::v1;
namespace bundle_api = ::spire::api::server::bundle::v1;

constexpr absl::Duration kPatience = absl::Seconds(30);

struct Flags {
  std::string trust_domain = "example.org", x509_ttl = "1h", dir;
};

// The folder of one run: new or empty at the start, gone at the end. One that a killed run has left behind, known by
// its marker, is emptied.
class DevFolder {
 public:
  static absl::StatusOr<std::unique_ptr<DevFolder>> Create(const std::string& wanted) {
    std::string path = wanted;
    std::error_code error;
    if (path.empty()) {
      path = "/tmp/signet-dev-XXXXXX";
      if (mkdtemp(path.data()) == nullptr) return absl::InternalError("no temporary folder can be made under /tmp");
    } else {
      path = std::filesystem::absolute(path, error).string();
      SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(path, 0755));
      if (!std::filesystem::is_empty(path, error) && access(absl::StrCat(path, "/", kMarker).c_str(), F_OK) != 0) {
        return UsageError(absl::StrCat(path, " is not empty; give a new folder by --dir, or none for a temporary one"));
      }
    }
    if (path.size() > 80) return UsageError(absl::StrCat(path, ": too long for the sockets in it; 80 bytes at most"));
    chmod(path.c_str(), 0755);  // workloads of every user may reach the Workload API below it
    SIGNET_ASSIGN_OR_RETURN(fs::DirectoryLock lock, fs::DirectoryLock::Acquire(path));  // not from under a living run
    SIGNET_RETURN_IF_ERROR(
        fs::WriteFileAtomically(absl::StrCat(path, "/", kMarker), "of signet dev; removed at its end\n"));
    std::unique_ptr<DevFolder> folder(new DevFolder(path, std::move(lock)));
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      const std::string name = entry.path().filename().string();
      if (name != kMarker && name != "lock") std::filesystem::remove_all(entry, error);
    }
    return folder;
  }
  ~DevFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string file(absl::string_view name) const { return absl::StrCat(path_, "/", name); }

 private:
  static constexpr char kMarker[] = ".signet-dev";
  DevFolder(std::string path, fs::DirectoryLock lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  const std::string path_;
  fs::DirectoryLock lock_;
};

// The last lines of a daemon's log: why it did not start.
std::string Tail(const std::string& log) {
  const absl::StatusOr<std::string> text = fs::ReadFile(log, 64 << 20);
  if (!text.ok()) return "";
  const size_t keep = std::min<size_t>(text->size(), 2000);
  return text->substr(text->size() - keep);
}

absl::StatusOr<std::string> AddressOf(const std::string& file, const std::string& name) {
  SIGNET_ASSIGN_OR_RETURN(const std::string json, fs::ReadFile(file, 1 << 16));
  google::protobuf::Struct addresses;
  if (!google::protobuf::util::JsonStringToMessage(json, &addresses).ok() || addresses.fields().count(name) == 0) {
    return absl::InternalError(absl::StrCat(file, " names no address \"", name, "\""));
  }
  return addresses.fields().at(name).string_value();
}

// A port that nobody listens on now: the issuer's URL has to name it before the server can choose one.
absl::StatusOr<int> FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool found = fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (fd >= 0) close(fd);
  if (!found) return absl::UnavailableError("no free port on 127.0.0.1");
  return ntohs(address.sin_port);
}

class DevSystem {
 public:
  DevSystem(Context& context, Flags flags, DevFolder& folder)
      : context_(context), flags_(std::move(flags)), folder_(folder) {}

  absl::Status StartServer() {
    SIGNET_ASSIGN_OR_RETURN(const int token_port, FreePort());
    issuer_ = absl::StrCat("https://localhost:", token_port);
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(
        folder_.file("server.yaml"),
        absl::StrCat("trust_domain: ", flags_.trust_domain, "\ndata_dir: ", folder_.file("server/data"),
                     "\nlisten: 127.0.0.1:0\nadmin_socket: ", AdminSocket(), "\nhttp: {listen: 127.0.0.1:0}\n",
                     "token_service: {listen: 127.0.0.1:", token_port, ", issuer: ", issuer_, "}\n",
                     "svid: {x509_ttl: ", flags_.x509_ttl, ", agent_ttl: 1h}\n")));
    SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(folder_.file("server"), 0700));
    SIGNET_ASSIGN_OR_RETURN(const std::string program, Sibling("signet-server"));
    SIGNET_ASSIGN_OR_RETURN(Child child,
                            Child::Start({program, "run", "--config", folder_.file("server.yaml")}, ServerLog()));
    server_ = std::make_unique<Child>(std::move(child));
    return Await("signet-server", ServerLog(), [this]() -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(server_address_, AddressOf(folder_.file("server/data/addresses.json"), "grpc"));
      SIGNET_ASSIGN_OR_RETURN(channel_, SocketChannel(AdminSocket(), "signet-server"));
      const auto stub = bundle_api::Bundle::NewStub(channel_);
      return Call(*stub, &bundle_api::Bundle::Stub::GetBundle, bundle_api::GetBundleRequest(), bundle_);
    });
  }

  // As an operator would: the bundle and a join token are handed to the node.
  absl::Status StartAgent() {
    SIGNET_ASSIGN_OR_RETURN(const spiffe::Bundle bundle, spiffe::BundleFromWire(bundle_));
    const auto stub = agent_api::Agent::NewStub(channel_);
    agent_api::CreateJoinTokenRequest request;
    request.set_ttl(600);
    ::spire::api::types::JoinToken token;
    SIGNET_RETURN_IF_ERROR(Call(*stub, &agent_api::Agent::Stub::CreateJoinToken, request, token));
    SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(folder_.file("agent"), 0700));
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(folder_.file("bundle.pem"), bundle.ToPem(), 0644));
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(folder_.file("agent/token"), token.value()));
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(
        folder_.file("agent.yaml"),
        absl::StrCat("trust_domain: ", flags_.trust_domain, "\ndata_dir: ", folder_.file("agent/data"),
                     "\nserver_address: ", server_address_, "\nworkload_socket: ", WorkloadSocket(),
                     "\nadmin_socket: ", folder_.file("agent/admin.sock"), "\nhttp: {listen: 127.0.0.1:0}\n",
                     "bootstrap: {trust_bundle_path: ", folder_.file("bundle.pem"), "}\n",
                     "node_attestor: {join_token: {token_file: ", folder_.file("agent/token"), "}}\n",
                     "token_service: {socket: ", TokenSocket(), "}\n",
                     "workload_attestors: {unix: {discover_path: true}}\n")));
    SIGNET_ASSIGN_OR_RETURN(const std::string program, Sibling("signet-agent"));
    SIGNET_ASSIGN_OR_RETURN(Child child,
                            Child::Start({program, "run", "--config", folder_.file("agent.yaml")}, AgentLog()));
    agent_ = std::make_unique<Child>(std::move(child));
    return Await("signet-agent", AgentLog(), [&]() -> absl::Status {
      SIGNET_RETURN_IF_ERROR(SocketChannel(WorkloadSocket(), "signet-agent").status());
      agent_api::ListAgentsResponse agents;
      SIGNET_RETURN_IF_ERROR(Call(*stub, &agent_api::Agent::Stub::ListAgents, agent_api::ListAgentsRequest(), agents));
      if (agents.agents().empty()) return absl::UnavailableError("it has not attested");
      agent_id_ = IdText(agents.agents(0).id());
      return absl::OkStatus();
    });
  }

  void Tell(absl::Duration took) {
    absl::StatusOr<std::string> own = Sibling("signet");
    const std::string signet = own.ok() ? *own : "signet";
    Facts facts;
    facts.Add("server", absl::StrCat(server_address_, ", pid ", server_->pid(), ", log ", ServerLog()));
    facts.Add("tokens", absl::StrCat(issuer_, ", and for workloads ", TokenSocket()));
    facts.Add("agent", absl::StrCat(agent_id_, ", pid ", agent_->pid(), ", log ", AgentLog()));
    context_.out << "trust domain " << flags_.trust_domain << " under " << folder_.path() << ", ready in "
                 << absl::FormatDuration(absl::Trunc(took, absl::Milliseconds(10))) << "\n";
    facts.Print(context_.out);
    context_.out << "\nIn another terminal:\n  export PATH=" << signet.substr(0, signet.rfind('/'))
                 << ":$PATH\n  export SIGNET_SERVER_SOCKET=" << AdminSocket()
                 << "\n  export SPIFFE_ENDPOINT_SOCKET=unix://" << WorkloadSocket()
                 << "\n  signet entry create --parent-id " << agent_id_ << " --spiffe-id spiffe://"
                 << flags_.trust_domain
                 << "/me --selector unix:uid:$(id -u) --x509-ttl 60s\n  signet svid fetch\n  signet svid watch\n\n"
                 << "Ctrl-C stops both and removes the folder.\n"
                 << std::flush;
  }

  // Until the user ends it, or one of the two ends by itself.
  absl::Status Wait() {
    for (;;) {
      if (daemon::WaitForEvent(absl::Milliseconds(200)) == daemon::Event::kStop) return absl::OkStatus();
      SIGNET_RETURN_IF_ERROR(BothRun());
    }
  }

 private:
  absl::Status BothRun() {
    if (server_ != nullptr && !server_->Running()) {
      return absl::UnavailableError(absl::StrCat("signet-server ended:\n", Tail(ServerLog())));
    }
    if (agent_ != nullptr && !agent_->Running()) {
      return absl::UnavailableError(absl::StrCat("signet-agent ended:\n", Tail(AgentLog())));
    }
    return absl::OkStatus();
  }

  // Asks `ready` again and again until it says OK, a daemon ends, patience ends, or the user stops it all.
  template <typename Ready>
  absl::Status Await(absl::string_view name, const std::string& log, Ready ready) {
    const absl::Time end = absl::Now() + kPatience;
    absl::Status last;
    while (absl::Now() < end) {
      SIGNET_RETURN_IF_ERROR(BothRun());
      last = ready();
      if (last.ok()) return last;
      if (daemon::WaitForEvent(absl::Milliseconds(20)) == daemon::Event::kStop) return absl::CancelledError("stopped");
    }
    return absl::DeadlineExceededError(absl::StrCat(name, " is not ready: ", last.message(), "\n", Tail(log)));
  }

  std::string AdminSocket() const { return folder_.file("server/admin.sock"); }
  std::string WorkloadSocket() const { return folder_.file("workload/api.sock"); }
  std::string TokenSocket() const { return folder_.file("workload/token.sock"); }
  std::string ServerLog() const { return folder_.file("server.log"); }
  std::string AgentLog() const { return folder_.file("agent.log"); }

  Context& context_;
  const Flags flags_;
  DevFolder& folder_;
  std::string server_address_, agent_id_, issuer_;
  ::spire::api::types::Bundle bundle_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Child> server_, agent_;  // the agent goes first
};

absl::Status Dev(Context& context, const Flags& flags) {
  if (const auto domain = spiffe::TrustDomain::Parse(flags.trust_domain); !domain.ok()) {
    return UsageError(absl::StrCat("--trust-domain: ", domain.status().message()));
  }
  config::Errors errors;
  config::ParseDuration("--x509-ttl", flags.x509_ttl, absl::Hours(1), errors);
  if (!errors.empty()) return UsageError(errors.ToStatus().message());
  daemon::BlockSignals();  // before gRPC's first thread
  SIGNET_ASSIGN_OR_RETURN(const std::unique_ptr<DevFolder> folder, DevFolder::Create(flags.dir));
  const absl::Time began = absl::Now();
  DevSystem system(context, flags, *folder);
  absl::Status status = system.StartServer();
  if (status.ok()) status = system.StartAgent();
  if (status.ok()) {
    system.Tell(absl::Now() - began);
    status = system.Wait();
    context.out << "\nstopping" << std::endl;
  }
  return absl::IsCancelled(status) ? absl::OkStatus() : status;
}

}  // namespace

void AddDevCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App& verb = AddVerb(app, context, "dev", "run a throw-away server and agent in the foreground",
                           "signet dev --dir /tmp/signet-dev", Target::kNothing);
  verb.add_option("--trust-domain", flags->trust_domain, "its trust domain (example.org)");
  verb.add_option("--x509-ttl", flags->x509_ttl, "life of X.509-SVIDs (1h): a short one shows rotation");
  verb.add_option("--dir", flags->dir, "folder for everything; removed at the end (a temporary one)");
  verb.callback([&context, flags] { context.action = [&context, flags] { return Dev(context, *flags); }; });
}

}  // namespace signet::cli
