#include "agent/sync/wire.h"

#include "absl/strings/str_cat.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr int kMaxChain = 16;

}  // namespace

absl::StatusOr<spiffe::Entry> EntryFromWire(const spire::api::types::Entry& wire,
                                            const spiffe::TrustDomain& trust_domain) {
  const std::string context = absl::StrCat("entry \"", wire.id().substr(0, 255), "\"");
  SIGNET_ASSIGN_OR_RETURN(spiffe::Entry entry, spiffe::EntryFromWire(wire), context);
  if (entry.id.empty()) return absl::InvalidArgumentError("entry without an id");
  if (!entry.spiffe_id.IsMemberOf(trust_domain) || entry.spiffe_id.is_root()) {
    return absl::InvalidArgumentError(
        absl::StrCat(context, ": ", entry.spiffe_id.string(), " is no workload of ", trust_domain.name()));
  }
  return entry;
}

absl::StatusOr<std::vector<crypto::Certificate>> ChainFromWire(const spire::api::types::X509SVID& wire) {
  if (wire.cert_chain().empty() || wire.cert_chain_size() > kMaxChain) {
    return absl::InvalidArgumentError(absl::StrCat("X.509-SVID of ", wire.cert_chain_size(), " certificates"));
  }
  std::vector<crypto::Certificate> chain;
  for (const std::string& der : wire.cert_chain()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der), "X.509-SVID");
    chain.push_back(std::move(certificate));
  }
  return chain;
}

}  // namespace signet::agent
