#include "agent/storage/agent_store.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "signet/agent/storage.pb.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kMagic = "SGNTAGT1";
constexpr size_t kHashBytes = 32;
constexpr size_t kMaxBytes = 4 << 20;

}  // namespace

absl::StatusOr<StoredAgent> AgentStore::Load() {
  absl::StatusOr<std::string> content = fs::ReadSecretFile(path(), kMaxBytes);
  if (absl::IsNotFound(content.status())) return StoredAgent{};
  SIGNET_RETURN_IF_ERROR(content.status());
  absl::StatusOr<StoredAgent> agent = Parse(*content);
  crypto::Cleanse(*content);
  if (agent.ok()) return agent;
  SIGNET_ASSIGN_OR_RETURN(const std::string aside, fs::SetAside(path(), clock_.Now()));
  SIGNET_LOG(error, "the agent's state file is damaged; it is set aside and the agent attests anew",
             {{"path", path()}, {"set_aside", aside}, {"error", agent.status().message()}});
  return StoredAgent{};
}

absl::StatusOr<StoredAgent> AgentStore::Parse(const std::string& content) const {
  const absl::string_view view = content;
  if (view.size() < kMagic.size() + kHashBytes || !absl::StartsWith(view, kMagic)) {
    return absl::DataLossError("not a state file of signet-agent");
  }
  const absl::string_view body = view.substr(kMagic.size() + kHashBytes);
  if (crypto::Sha256(body) != view.substr(kMagic.size(), kHashBytes)) return absl::DataLossError("checksum differs");
  storage::Agent wire;
  if (!wire.ParseFromArray(body.data(), static_cast<int>(body.size()))) return absl::DataLossError("not a message");

  StoredAgent agent;
  agent.reattestable = wire.reattestable();
  if (wire.has_bundle()) {
    SIGNET_ASSIGN_OR_RETURN(agent.bundle, spiffe::BundleFromWire(wire.bundle()));
    if (agent.bundle->trust_domain != options_.trust_domain) {
      return absl::FailedPreconditionError(absl::StrCat("of trust domain ", agent.bundle->trust_domain.name()));
    }
  }
  if (!wire.chain().empty() && !wire.key().empty()) {
    std::vector<crypto::Certificate> chain;
    for (const std::string& der : wire.chain()) {
      SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der));
      chain.push_back(std::move(certificate));
    }
    SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::ParsePkcs8(wire.key()));
    crypto::Cleanse(*wire.mutable_key());
    SIGNET_ASSIGN_OR_RETURN(agent.svid, spiffe::X509Svid::Create(std::move(chain), std::move(key)));
    if (!agent.svid->id.IsMemberOf(options_.trust_domain)) {
      return absl::FailedPreconditionError(absl::StrCat("SVID of ", agent.svid->id.string()));
    }
  }
  return agent;
}

absl::Status AgentStore::Save(const StoredAgent& agent) {
  storage::Agent wire;
  wire.set_reattestable(agent.reattestable);
  if (agent.bundle.has_value()) spiffe::ToWire(*agent.bundle, wire.mutable_bundle());
  if (agent.svid.has_value() && options_.keep_key) {
    for (const crypto::Certificate& certificate : agent.svid->chain) wire.add_chain(certificate.der());
    wire.set_key(agent.svid->key.Pkcs8Der());
  }
  std::string body = wire.SerializeAsString();
  crypto::Cleanse(*wire.mutable_key());
  std::string content = absl::StrCat(kMagic, crypto::Sha256(body), body);
  crypto::Cleanse(body);
  const absl::Status status = fs::WriteFileAtomically(path(), content);
  crypto::Cleanse(content);
  return status;
}

}  // namespace signet::agent
