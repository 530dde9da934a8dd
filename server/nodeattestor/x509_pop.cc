#include "server/nodeattestor/x509_pop.h"

#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "common/fs/atomic_file.h"
#include "common/nodeattestor/x509_pop.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kMaxRootsFileBytes = 1 << 20;

absl::StatusOr<spiffe::Id> AgentId(const spiffe::TrustDomain& trust_domain, absl::string_view prefix,
                                   absl::string_view fingerprint) {
  return spiffe::Id::FromPath(trust_domain, absl::StrCat("/spire/agent/", prefix, "/", fingerprint));
}

// SPIRE's form: lower case, an even number of digits.
std::string SerialHex(const crypto::Certificate& certificate) {
  return certificate.serial().empty() ? "00" : absl::BytesToHexString(certificate.serial());
}

// What names a key and value literally. A URI with an escape, a query or a fragment yields no selector: two spellings
// of one value must not differ between the certificate and the entry.
bool IsLiteral(absl::string_view text) {
  for (char c : text) {
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c)) || c == '%' || c == '?' || c == '#') return false;
  }
  return true;
}

// key -> value of the URI SANs that are meant for this trust domain; of one key the last counts, as in SPIRE.
std::map<std::string, std::string> SanValues(const crypto::Certificate& leaf, const spiffe::TrustDomain& trust_domain) {
  std::map<std::string, std::string> values;
  for (absl::string_view uri : leaf.uri_sans()) {
    if (!absl::ConsumePrefix(&uri, absl::StrCat("x509pop://", trust_domain.name(), "/")) || !IsLiteral(uri)) continue;
    while (absl::ConsumePrefix(&uri, "/")) {
    }
    while (absl::ConsumeSuffix(&uri, "/")) {
    }
    const size_t slash = uri.find('/');
    if (slash == absl::string_view::npos) continue;
    values[std::string(uri.substr(0, slash))] = std::string(uri.substr(slash + 1));
  }
  return values;
}

// `path`: leaf first, every certificate of it verified.
absl::StatusOr<spiffe::Selectors> SelectorsOf(absl::Span<const crypto::Certificate> path,
                                              const spiffe::TrustDomain& trust_domain) {
  const crypto::Certificate& leaf = path.front();
  std::vector<std::string> values = {absl::StrCat("serialnumber:", SerialHex(leaf))};
  if (!leaf.common_name().empty()) values.push_back(absl::StrCat("subject:cn:", leaf.common_name()));
  for (const crypto::Certificate& issuer : path.subspan(1)) {
    values.push_back(absl::StrCat("ca:fingerprint:", x509pop::Fingerprint(issuer)));
  }
  for (const auto& [key, value] : SanValues(leaf, trust_domain))
    values.push_back(absl::StrCat("san:", key, ":", value));
  spiffe::Selectors selectors;
  for (const std::string& value : values) {
    SIGNET_ASSIGN_OR_RETURN(spiffe::Selector selector, spiffe::Selector::FromParts(x509pop::kType, value),
                            x509pop::kType);
    selectors.push_back(std::move(selector));
  }
  spiffe::Normalize(selectors);
  return selectors;
}

class X509PopAttestation final : public NodeAttestation {
 public:
  X509PopAttestation(const X509Pop::Options& options, const crypto::TrustAnchors& roots, Clock& clock)
      : options_(options), roots_(roots), clock_(clock) {}

  void Start(std::string payload, Done done) override { done(Challenge(payload)); }
  void Respond(std::string response, Done done) override { done(Decide(response)); }

 private:
  absl::StatusOr<Step> Challenge(absl::string_view payload) {
    if (node_.has_value()) return absl::FailedPreconditionError("x509pop: the evidence was given already");
    SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> chain, x509pop::ParseEvidence(payload));
    const crypto::Certificate& leaf = chain.front();
    if ((leaf.key_usage() & crypto::kDigitalSignature) == 0) {
      return absl::InvalidArgumentError("x509pop: the certificate lacks the key usage digitalSignature");
    }
    const auto path = roots_.FindPath(chain, clock_.Now());
    if (!path.ok()) return absl::PermissionDeniedError(absl::StrCat("x509pop: ", path.status().message()));
    // Everything is taken from the path that was verified, not from what was sent (SPIRE's azure_imds, 1.14.7).
    SIGNET_ASSIGN_OR_RETURN(spiffe::Selectors selectors, SelectorsOf(*path, options_.trust_domain));
    SIGNET_ASSIGN_OR_RETURN(spiffe::Id agent_id, AgentId(options_.trust_domain, options_.agent_path_prefix,
                                                         x509pop::Fingerprint(path->front())));
    SIGNET_ASSIGN_OR_RETURN(x509pop::Challenge challenge, x509pop::MakeChallenge(path->front().public_key()));
    node_ = AttestedNode{.agent_id = std::move(agent_id),
                         .selectors = std::move(selectors),
                         .can_reattest = true,
                         .consume_token_sha256 = std::nullopt,
                         .token_spent_by = {},
                         .alias_id = std::nullopt};
    key_ = path->front().public_key();
    nonce_ = std::move(challenge.nonce);
    Step step;
    step.challenge = std::move(challenge.json);
    return step;
  }

  absl::StatusOr<Step> Decide(absl::string_view response) {
    // One nonce, one try.
    const std::string nonce = std::exchange(nonce_, {});
    if (nonce.empty()) return absl::FailedPreconditionError("x509pop: there is no challenge to respond to");
    SIGNET_RETURN_IF_ERROR(x509pop::CheckResponse(key_, nonce, response));
    Step step;
    step.node = *node_;
    return step;
  }

  const X509Pop::Options& options_;
  const crypto::TrustAnchors& roots_;
  Clock& clock_;
  std::optional<AttestedNode> node_;  // what the response will prove
  crypto::PublicKey key_;
  std::string nonce_;
};

absl::StatusOr<crypto::TrustAnchors> LoadRoots(const std::vector<std::string>& paths) {
  if (paths.empty()) {
    return absl::InvalidArgumentError(
        "node_attestors.x509_pop.ca_bundle_paths: missing; name the PEM files of the roots");
  }
  std::vector<crypto::Certificate> roots;
  for (const std::string& path : paths) {
    absl::StatusOr<std::string> pem = fs::ReadFile(path, kMaxRootsFileBytes);
    if (!pem.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("node_attestors.x509_pop.ca_bundle_paths: ", pem.status().message()));
    }
    SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> found, crypto::Certificate::ParsePemChain(*pem),
                            absl::StrCat("node_attestors.x509_pop.ca_bundle_paths: ", path));
    roots.insert(roots.end(), found.begin(), found.end());
  }
  return crypto::TrustAnchors::Create(roots);
}

absl::Status CheckPrefix(const X509Pop::Options& options) {
  // The prefix of another attestor would let a certificate stand for an agent that this attestor never saw.
  bool foreign = false;
  for (const absl::string_view other : {"join_token", "k8s_psat"}) {
    foreign = foreign || options.agent_path_prefix == other ||
              absl::StartsWith(options.agent_path_prefix, absl::StrCat(other, "/"));
  }
  if (foreign || !AgentId(options.trust_domain, options.agent_path_prefix, std::string(40, '0')).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("node_attestors.x509_pop.agent_path_prefix: \"",
                                                   absl::CHexEscape(options.agent_path_prefix),
                                                   "\" cannot stand in an agent's SPIFFE ID"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<X509Pop>> X509Pop::Create(Options options, Clock& clock) {
  SIGNET_RETURN_IF_ERROR(CheckPrefix(options));
  SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors roots, LoadRoots(options.ca_bundle_paths));
  return std::unique_ptr<X509Pop>(new X509Pop(std::move(options), std::move(roots), clock));
}

X509Pop::X509Pop(Options options, crypto::TrustAnchors roots, Clock& clock)
    : options_(std::move(options)), roots_(std::move(roots)), clock_(clock) {}

absl::string_view X509Pop::type() const { return x509pop::kType; }

std::unique_ptr<NodeAttestation> X509Pop::Begin() {
  return std::make_unique<X509PopAttestation>(options_, roots_, clock_);
}

}  // namespace signet::server
