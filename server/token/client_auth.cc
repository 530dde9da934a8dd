#include "server/token/client_auth.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include <boost/json/object.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/chain_verifier.h"
#include "common/crypto/digest.h"
#include "common/jose/jws.h"
#include "common/jose/jwt.h"
#include "common/spiffe/issued_to.h"
#include "common/spiffe/jwt_svid.h"
#include "common/spiffe/x509_svid.h"
#include "common/status/macros.h"
#include "server/ca/svid_template.h"

namespace signet::server {
namespace {

// draft-ietf-oauth-spiffe-client-auth-02; RFC 7523 2.2 with 7523bis-07.
constexpr absl::string_view kJwtSpiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
constexpr absl::string_view kJwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
constexpr absl::Duration kProofLasts = absl::Minutes(1);  // of a chain; what the end of a root can go unnoticed
constexpr size_t kMaxProofs = 4096;                       // of a generation
constexpr absl::Duration kSkew = absl::Seconds(60);       // of private_key_jwt: another's clock
// Of private_key_jwt: what the clients of the field send (Authlib: an hour). Its jti is good once for as long.
constexpr absl::Duration kMaxProgramAssertionLife = absl::Hours(1);
constexpr size_t kMaxJwtId = 256;

absl::Status Refused(absl::string_view why) { return absl::UnauthenticatedError(why); }

// What a proven chain says, apart from what must be asked anew each time.
struct Proof {
  BundlePtr bundle;  // proven against this one
  absl::Time from, until;
  spiffe::Id id;
  std::optional<spiffe::IssuedTo> issued_to;
  std::string x5t_s256, serial;
  absl::Time not_before, not_after;
};
using ProofPtr = std::shared_ptr<const Proof>;

class SvidAuthenticator final : public ClientAuthenticator {
 public:
  explicit SvidAuthenticator(ClientAuthDeps deps) : d_(std::move(deps)) {
    const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
    if (!key.ok()) return;  // refusals then cost less than proofs; nothing else is lost
    nobody_ = key->public_key();
    signature_ = key->Sign(crypto::HashAlgorithm::kSha256, "nobody").value_or("");
  }

  absl::StatusOr<Client> Authenticate(const TokenRequest& request, absl::Time now) override {
    bool verified = false;
    absl::StatusOr<Client> client = Judge(request, now, verified);
    if (client.ok()) return client;
    // A refusal takes a signature's time, whatever came first.
    if (!verified) {
      ++verifications_;
      (void)nobody_.Verify(crypto::HashAlgorithm::kSha256, "somebody", signature_);
    }
    return Refused(client.status().message());
  }

  uint64_t verifications() const override { return verifications_; }

 private:
  absl::StatusOr<Client> Judge(const TokenRequest& request, absl::Time now, bool& verified) {
    const bool certificate = !request.client_chain.empty(), assertion = !request.client_assertion.empty();
    if (certificate && assertion) return Refused("more than one method of authentication");
    if (certificate) return ByX509Svid(request, now, verified);
    if (!assertion) return Refused("no client certificate and no assertion");
    if (request.client_assertion_type == kJwtSpiffe) return ByJwtSvid(request, now, verified);
    if (request.client_assertion_type == kJwtBearer) return ByPrivateKeyJwt(request, now, verified);
    return Refused("unknown client_assertion_type");
  }

  // --- X.509-SVID --------------------------------------------------------------------------------------------------
  absl::StatusOr<Client> ByX509Svid(const TokenRequest& request, absl::Time now, bool& verified) {
    SIGNET_ASSIGN_OR_RETURN(const ProofPtr proof, Prove(request.client_chain, now, verified));
    if (request.Get("client_id") != proof->id.string()) {
      return Refused(request.Get("client_id").empty() ? "no client_id beside the client certificate"
                                                      : "client_id is not the URI SAN of the client certificate");
    }
    Client client;
    client.method = ClientAuthMethod::kX509Svid;
    client.x5t_s256 = proof->x5t_s256;
    client.credential = proof->serial;
    client.issued_at = proof->not_before;
    client.not_after = proof->not_after;
    client.planned_rotation = proof->not_before + (proof->not_after - proof->not_before) / 2;
    SIGNET_RETURN_IF_ERROR(Identify(proof->id, proof->issued_to, client));
    return client;
  }

  // The chain under today's bundle of its trust domain; remembered for a minute.
  absl::StatusOr<ProofPtr> Prove(const std::vector<crypto::Certificate>& chain, absl::Time now, bool& verified) {
    std::string key;
    for (const crypto::Certificate& certificate : chain) key += crypto::Sha256(certificate.der());
    if (ProofPtr known = FindProof(key); known != nullptr && now >= known->from && now < known->until &&
                                         known->bundle == d_.index.FindBundle(known->id.trust_domain())) {
      return known;
    }
    const crypto::Certificate& leaf = chain.front();
    SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, spiffe::IdFromLeaf(leaf));
    // X509-SVID 4.3, RFC 5280 4.2.1.12: it signs the handshake, as a client.
    if (!leaf.has_key_usage() || (leaf.key_usage() & crypto::kDigitalSignature) == 0) {
      return Refused("the client certificate has no digitalSignature");
    }
    if (!leaf.may_authenticate_clients()) return Refused("the client certificate is not for clientAuth");
    const BundlePtr bundle = d_.index.FindBundle(id.trust_domain());
    if (bundle == nullptr) return Refused(absl::StrCat("no bundle of trust domain ", id.trust_domain().name()));
    SIGNET_ASSIGN_OR_RETURN(const auto anchors, AnchorsOf(bundle));
    verified = true;
    ++verifications_;
    SIGNET_RETURN_IF_ERROR(spiffe::VerifyX509Svid(
                               chain, [&](const spiffe::TrustDomain&) { return anchors; }, now)
                               .status());
    auto proof = std::make_shared<Proof>(Proof{.bundle = bundle,
                                               .from = now,
                                               .until = now + kProofLasts,
                                               .id = std::move(id),
                                               .issued_to = std::nullopt,
                                               .x5t_s256 = jose::Base64UrlEncode(key.substr(0, 32)),
                                               .serial = leaf.SerialDecimal(),
                                               .not_before = leaf.not_before(),
                                               .not_after = leaf.not_after()});
    for (const crypto::Certificate& certificate : chain) {
      proof->until = std::min(proof->until, certificate.not_after());
    }
    if (auto issued_to = spiffe::ParseIssuedToDer(leaf.issued_to()); issued_to.ok()) {
      proof->issued_to = *std::move(issued_to);
    }
    MutexLock lock(mutex_);
    if (young_.size() >= kMaxProofs) {
      old_ = std::move(young_);
      young_.clear();
    }
    young_.insert_or_assign(std::move(key), proof);
    return proof;
  }

  ProofPtr FindProof(const std::string& key) {
    MutexLock lock(mutex_);
    if (auto it = young_.find(key); it != young_.end()) return it->second;
    auto it = old_.find(key);
    if (it == old_.end()) return nullptr;
    ProofPtr proof = it->second;
    young_.insert(old_.extract(it));
    return proof;
  }

  absl::StatusOr<std::shared_ptr<const crypto::TrustAnchors>> AnchorsOf(const BundlePtr& bundle) {
    const std::string& name = bundle->trust_domain.name();
    {
      MutexLock lock(mutex_);
      auto it = anchors_.find(name);
      if (it != anchors_.end() && it->second.first == bundle) return it->second.second;
    }
    SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors made, bundle->Anchors());
    auto anchors = std::make_shared<const crypto::TrustAnchors>(std::move(made));
    MutexLock lock(mutex_);
    anchors_[name] = {bundle, anchors};
    return anchors;
  }

  // --- JWT-SVID ----------------------------------------------------------------------------------------------------
  absl::StatusOr<Client> ByJwtSvid(const TokenRequest& request, absl::Time now, bool& verified) {
    // A bearer assertion can be stolen, what it is exchanged for must not.
    if (request.dpop.empty()) return Refused("a JWT-SVID needs a DPoP proof beside it");
    const auto bundles = [&](const spiffe::TrustDomain& trust_domain) {
      BundlePtr bundle = d_.index.FindBundle(trust_domain);
      if (bundle != nullptr && !verified) {  // from here on there is a key to verify with
        verified = true;
        ++verifications_;
      }
      return bundle;
    };
    SIGNET_ASSIGN_OR_RETURN(const spiffe::ValidatedJwtSvid svid,
                            spiffe::ValidateJwtSvid(request.client_assertion, d_.issuer, bundles, now));
    if (svid.audience.size() != 1) return Refused("the JWT-SVID has more audiences than the issuer");
    if (svid.expires_at <= now) return Refused("the JWT-SVID has expired");
    if (!svid.claims.issued_at.has_value() || svid.expires_at - *svid.claims.issued_at > kMaxAssertionLife) {
      return Refused("the JWT-SVID lives longer than 5 minutes, or has no iat");
    }
    if (const std::string& id = request.Get("client_id"); !id.empty() && id != svid.id.string()) {
      return Refused("client_id is not the subject of the JWT-SVID");
    }
    Client client;
    client.method = ClientAuthMethod::kJwtSvid;
    client.credential = svid.claims.jwt_id.value_or("");
    client.issued_at = *svid.claims.issued_at;
    std::optional<spiffe::IssuedTo> issued_to;
    if (auto claim = spiffe::ParseIssuedToClaim(*svid.claims.all); claim.ok()) issued_to = *std::move(claim);
    SIGNET_RETURN_IF_ERROR(Identify(svid.id, issued_to, client));
    return client;
  }

  // Who a proven SPIFFE ID is here, and that it may still say so (T6).
  absl::Status Identify(const spiffe::Id& id, const std::optional<spiffe::IssuedTo>& issued_to, Client& client) const {
    client.id = id.string();
    client.own_trust_domain = id.trust_domain() == d_.trust_domain;
    if (!client.own_trust_domain) {
      client.identity = d_.registry.FindIdentity(client.id);  // T7: by the full SPIFFE ID
      if (client.identity != nullptr) client.definition = client.identity->spiffe_id;
      return absl::OkStatus();
    }
    if (!issued_to.has_value()) return Refused("the SVID does not say to whom it was issued");
    const AgentPtr agent = d_.index.FindAgentByHash(issued_to->agent_hash);
    if (agent == nullptr) return Refused("the agent of the SVID is gone");
    if (agent->banned) return Refused("the agent of the SVID is banned");
    const EntryPtr entry = d_.index.FindAuthorized(agent->id, issued_to->entry_id);
    if (entry == nullptr || entry->spiffe_id != id) return Refused("the entry of the SVID is not its agent's any more");
    client.node = absl::StrCat("sha-256:", absl::BytesToHexString(issued_to->agent_hash));
    client.instance = InstanceHash(client.id, client.node);
    client.identity = d_.registry.IdentityOf(client.id);
    if (client.identity != nullptr) client.definition = client.identity->spiffe_id;
    return absl::OkStatus();
  }

  // --- private_key_jwt ---------------------------------------------------------------------------------------------
  absl::StatusOr<Client> ByPrivateKeyJwt(const TokenRequest& request, absl::Time now, bool& verified) {
    SIGNET_ASSIGN_OR_RETURN(const jose::CompactJws jws, jose::CompactJws::Parse(request.client_assertion));
    // 7523bis: another kind of JWT is none of these.
    if (const auto& type = jws.header.type;
        type.has_value() && *type != "JWT" && *type != "client-authentication+jwt") {
      return Refused("the assertion is a JWT of another kind");
    }
    SIGNET_ASSIGN_OR_RETURN(const jose::Claims claims, jose::Claims::Parse(jws.payload));
    if (!claims.subject.has_value() || claims.issuer != claims.subject)
      return Refused("iss and sub must be the client");
    const auto known = d_.clients.find(*claims.subject);
    if (known == d_.clients.end()) return Refused("no such client");
    if (const std::string& id = request.Get("client_id"); !id.empty() && id != *claims.subject) {
      return Refused("client_id is not the subject of the assertion");
    }
    const oauth::Keys& keys = known->second;
    const auto key = jws.header.key_id.has_value() ? keys.find(*jws.header.key_id)
                     : keys.size() == 1            ? keys.begin()
                                                   : keys.end();
    if (key == keys.end()) return Refused("no key of the client has the assertion's kid");
    verified = true;
    ++verifications_;
    SIGNET_RETURN_IF_ERROR(jws.Verify(key->second));
    // The issuer alone: a URL of an endpoint, or one more audience, would let another server use it here.
    if (claims.audience.size() != 1 || claims.audience[0] != d_.issuer) return Refused("aud is not the issuer alone");
    if (!claims.expires_at.has_value() || *claims.expires_at <= now) return Refused("the assertion has expired");
    if (*claims.expires_at > now + kMaxProgramAssertionLife + kSkew) return Refused("the assertion lives longer than 1 hour");
    if (claims.not_before.has_value() && *claims.not_before > now + kSkew) return Refused("not valid yet");
    if (claims.issued_at.has_value() && *claims.issued_at > now + kSkew) return Refused("issued in the future");
    if (!claims.jwt_id.has_value() || claims.jwt_id->empty() || claims.jwt_id->size() > kMaxJwtId) {
      return Refused("no jti");
    }
    Client client;
    client.method = ClientAuthMethod::kPrivateKeyJwt;
    client.id = *claims.subject;
    client.credential = *claims.jwt_id;
    client.issued_at = claims.issued_at.value_or(*claims.expires_at - kMaxProgramAssertionLife);
    client.identity = d_.registry.IdentityOf(client.id);  // a client_id below an identity is an instance of it
    if (client.identity != nullptr) client.definition = client.identity->spiffe_id;
    client.once.emplace_back(oauth::Hash(absl::StrCat("private_key_jwt ", client.id, " ", *claims.jwt_id)),
                             *claims.expires_at + absl::Seconds(1));
    return client;
  }

  const ClientAuthDeps d_;
  crypto::PublicKey nobody_;
  std::string signature_;
  std::atomic<uint64_t> verifications_ = 0;

  Mutex mutex_;
  // By the hashes of the chain. Two generations: when the young one is full, what the old one held is forgotten.
  absl::flat_hash_map<std::string, ProofPtr> young_ ABSL_GUARDED_BY(mutex_), old_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::pair<BundlePtr, std::shared_ptr<const crypto::TrustAnchors>>> anchors_
      ABSL_GUARDED_BY(mutex_);  // by trust domain
};

}  // namespace

std::string InstanceHash(absl::string_view spiffe_id, absl::string_view node) {
  return oauth::Hash(absl::StrCat(spiffe_id, "\n", node));
}

std::unique_ptr<ClientAuthenticator> MakeClientAuthenticator(ClientAuthDeps deps) {
  return std::make_unique<SvidAuthenticator>(std::move(deps));
}

}  // namespace signet::server
