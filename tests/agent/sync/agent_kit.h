// Entries, SVIDs and bundles of example.org for the agent's tests.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/sync/memory_svid_cache.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/x509_svid.h"
#include "tests/testing/test_ca.h"

namespace signet::agent {

inline spiffe::TrustDomain Td(absl::string_view name = "example.org") {
  return spiffe::TrustDomain::Parse(name).value();
}
inline spiffe::Id IdOf(absl::string_view path) { return spiffe::Id::FromPath(Td(), path).value(); }

inline spiffe::Selectors Sel(const std::vector<std::string>& texts) {
  spiffe::Selectors selectors;
  for (const std::string& text : texts) selectors.push_back(spiffe::Selector::Parse(text).value());
  spiffe::Normalize(selectors);
  return selectors;
}

inline spiffe::Entry EntryOf(const std::string& id, const std::vector<std::string>& selectors,
                             int64_t created_at = 100) {
  spiffe::Entry entry{.id = id, .spiffe_id = IdOf("/" + id), .parent_id = IdOf("/spire/agent/test/node")};
  entry.selectors = Sel(selectors);
  entry.created_at = absl::FromUnixSeconds(created_at);
  return entry;
}

// A root that signs, and what the agent is told of it.
class TestAuthority {
 public:
  explicit TestAuthority(absl::Time now, absl::string_view trust_domain = "example.org")
      : trust_domain_(Td(trust_domain)), root_(testing::SelfSigned(testing::CaTemplate("root", now))) {}

  spiffe::Bundle bundle(bool tainted = false) const {
    return {.trust_domain = trust_domain_, .x509_authorities = {{root_.certificate, tainted}}, .jwt_authorities = {}};
  }
  std::string key_id() const { return root_.certificate.subject_key_id(); }

  std::vector<crypto::Certificate> Sign(const crypto::PublicKey& key, const spiffe::Id& id, absl::Time now,
                                        absl::Duration ttl = absl::Hours(1)) const {
    crypto::CertificateTemplate t = testing::LeafTemplate(id.string(), now);
    t.not_after = now + ttl;
    return {crypto::IssueCertificate(t, key, root_.certificate.subject_der(), root_.certificate.subject_key_id(),
                                     root_.key.type(), testing::SignerOf(root_.key))
                .value()};
  }

  HeldSvid Mint(EntryPtr entry, Instant now, absl::Duration ttl = absl::Hours(1)) const {
    crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
    auto chain = Sign(key.public_key(), entry->spiffe_id, now.wall, ttl);
    auto svid =
        std::make_shared<const spiffe::X509Svid>(spiffe::X509Svid::Create(std::move(chain), std::move(key)).value());
    const crypto::Certificate& leaf = svid->leaf();
    return {std::move(entry), svid,
            SvidLife::Received(leaf.not_before(), leaf.not_after(), RenewalJitter("x", leaf.serial()), now)};
  }

 private:
  const spiffe::TrustDomain trust_domain_;
  const testing::TestCert root_;
};

}  // namespace signet::agent
