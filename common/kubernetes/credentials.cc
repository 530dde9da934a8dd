#include "common/kubernetes/credentials.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/config/load.h"
#include "common/config/yaml_tree.h"
#include "common/crypto/key.h"
#include "common/fs/atomic_file.h"
#include "common/status/macros.h"

namespace signet::kubernetes {
namespace {

using config::YamlNode;

constexpr size_t kMaxKubeConfigBytes = 1 << 20;
constexpr size_t kMaxPemBytes = 1 << 20;
constexpr size_t kMaxTokenBytes = 64 << 10;  // what fits a header of the API server by far

absl::StatusOr<std::string> ReadFile(absl::string_view what, const std::string& path, size_t max_bytes) {
  absl::StatusOr<std::string> content = fs::ReadFile(path, max_bytes);
  if (!content.ok()) return absl::FailedPreconditionError(absl::StrCat(what, ": ", content.status().message()));
  if (absl::StripAsciiWhitespace(*content).empty()) {
    return absl::FailedPreconditionError(absl::StrCat(what, ": ", path, " is empty"));
  }
  return content;
}

// A bearer token goes into a header: white space around it is not part of it, and inside there is none.
absl::StatusOr<std::string> UsableToken(absl::string_view what, std::string text) {
  std::string token(absl::StripAsciiWhitespace(text));
  crypto::Cleanse(text);
  if (!std::all_of(token.begin(), token.end(),
                   [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); })) {
    return absl::FailedPreconditionError(absl::StrCat(what, ": is no bearer token"));
  }
  return token;
}

absl::StatusOr<std::string> ReadToken(absl::string_view what, const std::string& path) {
  SIGNET_ASSIGN_OR_RETURN(std::string text, ReadFile(what, path, kMaxTokenBytes));
  return UsableToken(absl::StrCat(what, ": ", path), std::move(text));
}

absl::Status CheckServer(absl::string_view what, absl::string_view server) {
  if (!absl::StartsWith(server, "https://") || server.size() > 2048 ||
      !std::all_of(server.begin(), server.end(),
                   [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); }) ||
      absl::StrContains(server, "@") || absl::StrContains(server, "?") || absl::StrContains(server, "#")) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": \"", absl::CHexEscape(server), "\" is no https URL"));
  }
  return absl::OkStatus();
}

// One kubeconfig file: access by key, errors that say where.
class KubeConfig {
 public:
  KubeConfig(const std::string& path, const YamlNode& root) : path_(path), root_(root) {}

  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", what));
  }

  static const YamlNode* Member(const YamlNode& node, absl::string_view key) {
    if (node.kind != YamlNode::Kind::kMapping) return nullptr;
    for (const config::YamlMember& member : node.members) {
      if (member.first.scalar == key) return member.second.kind == YamlNode::Kind::kNull ? nullptr : &member.second;
    }
    return nullptr;
  }
  static std::string Text(const YamlNode& node, absl::string_view key) {
    const YamlNode* member = Member(node, key);
    return member != nullptr && member->kind == YamlNode::Kind::kScalar ? member->scalar : std::string();
  }

  // Of the list `list`, the `kind` member of the item with that name.
  absl::StatusOr<const YamlNode*> Named(absl::string_view list, absl::string_view kind, const std::string& name) const {
    if (const YamlNode* items = Member(root_, list); items != nullptr && !name.empty()) {
      for (const YamlNode& item : items->items) {
        if (Text(item, "name") != name) continue;
        if (const YamlNode* found = Member(item, kind)) return found;
      }
    }
    return Error(absl::StrCat(list, ": there is no ", kind, " \"", absl::CHexEscape(name), "\""));
  }

  std::string Resolve(const std::string& path) const {
    const size_t slash = path_.rfind('/');
    return config::ResolvePath(slash == std::string::npos ? "." : path_.substr(0, slash), path);
  }

 private:
  const std::string& path_;
  const YamlNode& root_;
};

absl::Status RefuseUnsupported(const KubeConfig& file, const YamlNode& cluster, const YamlNode& user) {
  if (KubeConfig::Text(cluster, "insecure-skip-tls-verify") == "true") {
    return file.Error("insecure-skip-tls-verify is not accepted; give the cluster's certificate-authority");
  }
  struct Unsupported {
    const YamlNode& node;
    absl::string_view key, instead;
  };
  const Unsupported unsupported[] = {
      {cluster, "proxy-url", "the API server must be reached directly"},
      {user, "exec", "no program is run; use tokenFile or a client certificate"},
      {user, "auth-provider", "use tokenFile or a client certificate"},
      {user, "username", "use tokenFile or a client certificate"},
      {user, "password", "use tokenFile or a client certificate"},
      {user, "as", "give the rights to the user itself"},
      {user, "as-uid", "give the rights to the user itself"},
      {user, "as-groups", "give the rights to the user itself"},
      {user, "as-user-extra", "give the rights to the user itself"},
  };
  for (const Unsupported& item : unsupported) {
    if (KubeConfig::Member(item.node, item.key) != nullptr) {
      return file.Error(absl::StrCat(item.key, " is not supported; ", item.instead));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Credentials::~Credentials() {
  crypto::Cleanse(token);
  crypto::Cleanse(private_key_pem);
}

CredentialSource::Stamp CredentialSource::StampOf(const std::string& path) {
  Stamp stamp{.path = path};
  struct stat st = {};
  if (stat(path.c_str(), &st) != 0) return stamp;
  stamp.device = st.st_dev;
  stamp.inode = st.st_ino;
  stamp.size = static_cast<uint64_t>(st.st_size);
  stamp.modified_ns = st.st_mtim.tv_sec * int64_t{1'000'000'000} + st.st_mtim.tv_nsec;
  return stamp;
}

absl::StatusOr<std::shared_ptr<const Credentials>> CredentialSource::Current() {
  MutexLock lock(mutex_);
  const bool same = current_ != nullptr && std::all_of(stamps_.begin(), stamps_.end(),
                                                       [](const Stamp& stamp) { return StampOf(stamp.path) == stamp; });
  if (same) return current_;
  // The stamps are taken before the files are read: what changes meanwhile is seen next time.
  std::vector<Stamp> stamps;
  SIGNET_ASSIGN_OR_RETURN(current_, Read(stamps));
  stamps_ = std::move(stamps);
  return current_;
}

absl::StatusOr<std::shared_ptr<const Credentials>> CredentialSource::Read(std::vector<Stamp>& stamps) const {
  return options_.kube_config_file.empty() ? ReadInCluster(stamps) : ReadKubeConfig(stamps);
}

absl::StatusOr<std::shared_ptr<const Credentials>> CredentialSource::ReadInCluster(std::vector<Stamp>& stamps) const {
  auto credentials = std::make_shared<Credentials>();
  credentials->server = options_.in_cluster_server;
  if (credentials->server.empty()) {
    const char* host = getenv("KUBERNETES_SERVICE_HOST");
    const char* port = getenv("KUBERNETES_SERVICE_PORT");
    if (host == nullptr || port == nullptr || *host == '\0' || *port == '\0') {
      return absl::FailedPreconditionError(
          "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod; set kube_config_file");
    }
    const bool v6 = absl::StrContains(host, ":");
    credentials->server = absl::StrCat("https://", v6 ? "[" : "", host, v6 ? "]" : "", ":", port);
  }
  SIGNET_RETURN_IF_ERROR(CheckServer("KUBERNETES_SERVICE_HOST", credentials->server));
  const auto or_else = [this](const std::string& file, absl::string_view name) {
    return file.empty() ? absl::StrCat(options_.service_account_folder, "/", name) : file;
  };
  credentials->server_name = options_.server_name;
  const std::string token = or_else(options_.token_file, "token");
  const std::string ca = or_else(options_.ca_file, "ca.crt");
  stamps = {StampOf(token), StampOf(ca)};
  SIGNET_ASSIGN_OR_RETURN(credentials->token,
                          ReadToken("the pod's service account (is automountServiceAccountToken off?)", token));
  SIGNET_ASSIGN_OR_RETURN(credentials->ca_pem, ReadFile("the pod's service account", ca, kMaxPemBytes));
  return std::shared_ptr<const Credentials>(std::move(credentials));
}

absl::StatusOr<std::shared_ptr<const Credentials>> CredentialSource::ReadKubeConfig(std::vector<Stamp>& stamps) const {
  const std::string& path = options_.kube_config_file;
  stamps = {StampOf(path)};
  SIGNET_ASSIGN_OR_RETURN(std::string text, ReadFile("kube_config_file", path, kMaxKubeConfigBytes));
  absl::StatusOr<YamlNode> root = config::ParseYaml(text, path, kMaxKubeConfigBytes);
  crypto::Cleanse(text);
  SIGNET_RETURN_IF_ERROR(root.status());
  const KubeConfig file(path, *root);
  SIGNET_ASSIGN_OR_RETURN(const YamlNode* context,
                          file.Named("contexts", "context", KubeConfig::Text(*root, "current-context")));
  SIGNET_ASSIGN_OR_RETURN(const YamlNode* cluster,
                          file.Named("clusters", "cluster", KubeConfig::Text(*context, "cluster")));
  SIGNET_ASSIGN_OR_RETURN(const YamlNode* user, file.Named("users", "user", KubeConfig::Text(*context, "user")));
  SIGNET_RETURN_IF_ERROR(RefuseUnsupported(file, *cluster, *user));

  // Inline base64 wins over the file, as with kubectl.
  const auto pem = [&](const YamlNode& node, const std::string& key) -> absl::StatusOr<std::string> {
    if (const std::string data = KubeConfig::Text(node, key + "-data"); !data.empty()) {
      std::string decoded;
      if (!absl::Base64Unescape(data, &decoded)) return file.Error(key + "-data: is not base64");
      return decoded;
    }
    const std::string name = KubeConfig::Text(node, key);
    if (name.empty()) return std::string();
    const std::string resolved = file.Resolve(name);
    stamps.push_back(StampOf(resolved));
    return ReadFile(absl::StrCat(path, ": ", key), resolved, kMaxPemBytes);
  };

  auto credentials = std::make_shared<Credentials>();
  credentials->server = std::string(absl::StripSuffix(KubeConfig::Text(*cluster, "server"), "/"));
  SIGNET_RETURN_IF_ERROR(CheckServer(absl::StrCat(path, ": server"), credentials->server));
  credentials->server_name = KubeConfig::Text(*cluster, "tls-server-name");
  if (!std::all_of(credentials->server_name.begin(), credentials->server_name.end(),
                   [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.'; })) {
    return file.Error("tls-server-name: is no DNS name");
  }
  SIGNET_ASSIGN_OR_RETURN(credentials->ca_pem, pem(*cluster, "certificate-authority"));
  if (credentials->ca_pem.empty()) {
    return file.Error("certificate-authority: missing; the system's roots are not trusted for an API server");
  }
  SIGNET_ASSIGN_OR_RETURN(credentials->certificate_pem, pem(*user, "client-certificate"));
  SIGNET_ASSIGN_OR_RETURN(credentials->private_key_pem, pem(*user, "client-key"));
  if (credentials->certificate_pem.empty() != credentials->private_key_pem.empty()) {
    return file.Error("client-certificate and client-key: one without the other");
  }
  if (const std::string token_file = KubeConfig::Text(*user, "tokenFile"); !token_file.empty()) {
    const std::string resolved = file.Resolve(token_file);
    stamps.push_back(StampOf(resolved));
    SIGNET_ASSIGN_OR_RETURN(credentials->token, ReadToken(absl::StrCat(path, ": tokenFile"), resolved));
  } else {
    SIGNET_ASSIGN_OR_RETURN(credentials->token,
                            UsableToken(absl::StrCat(path, ": token"), KubeConfig::Text(*user, "token")));
  }
  if (credentials->token.empty() && credentials->certificate_pem.empty()) {
    return file.Error("the user has neither a token nor a client certificate");
  }
  return std::shared_ptr<const Credentials>(std::move(credentials));
}

}  // namespace signet::kubernetes
