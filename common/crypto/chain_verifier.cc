#include "common/crypto/chain_verifier.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/ossl.h"
#include "common/crypto/uri_constraints.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

constexpr size_t kMaxChain = 6, kMaxAnchors = 256;

using X509StackPtr = std::unique_ptr<STACK_OF(X509), OsslDeleter<[](STACK_OF(X509) * stack) { sk_X509_free(stack); }>>;

absl::Status Refused(absl::string_view subject, absl::string_view why) {
  return absl::UnauthenticatedError(absl::StrCat("certificate chain: ", why, " (", subject, ")"));
}

// How a message names a certificate: its SPIFFE ID when it has one, else its subject.
std::string Label(const Certificate& certificate) {
  if (certificate.uri_sans().size() == 1) return absl::CHexEscape(certificate.uri_sans().front());
  const std::string subject = certificate.subject();
  return subject.empty() ? absl::StrCat("serial ", certificate.SerialDecimal()) : absl::StrCat("subject ", subject);
}

X509Ptr ToX509(const Certificate& certificate) {
  const auto* in = reinterpret_cast<const unsigned char*>(certificate.der().data());
  return X509Ptr(d2i_X509(nullptr, &in, static_cast<long>(certificate.der().size())));
}

}  // namespace

struct TrustAnchors::Store {
  X509StorePtr store;
  std::vector<Certificate> anchors;
  std::vector<X509Ptr> x509s;  // beside `anchors`
  // Anchors that share their name with another: OpenSSL tries only one of them unless key identifiers tell them apart.
  absl::flat_hash_map<std::string, std::vector<size_t>> by_subject;
};

namespace {

absl::Status SetParameters(X509_STORE_CTX* ctx, absl::Time now) {
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(ctx);
  // PARTIAL_CHAIN: an anchor need not be self-signed. Not X509_STRICT: it refuses roots without key identifiers. No
  // purpose: extended key usage is not checked. Level 2: 112 bits, so no SHA-1 and no RSA under 2048 bits.
  if (X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) != 1) {
    return OpenSslError("X509_VERIFY_PARAM_set_flags");
  }
  X509_VERIFY_PARAM_set_time(param, absl::ToTimeT(now));
  X509_VERIFY_PARAM_set_depth(param, static_cast<int>(kMaxChain));
  X509_VERIFY_PARAM_set_auth_level(param, 2);
  return absl::OkStatus();
}

// RFC 5280 6.1.4 (k), (n) for every issuer of the path found, the anchor included. OpenSSL alone would let a
// certificate pass that has keyCertSign and no basicConstraints (X509_check_ca() == 4), and old version 1 roots.
absl::Status CheckIssuers(const std::vector<Certificate>& path) {
  if (path.size() < 2) return Refused(Label(path.front()), "a trust anchor is no leaf");
  for (size_t i = 1; i < path.size(); ++i) {
    if (!path[i].is_ca()) return Refused(Label(path[i]), "an issuer is not a CA");
    if (path[i].has_key_usage() && (path[i].key_usage() & kKeyCertSign) == 0) {
      return Refused(Label(path[i]), "an issuer may not sign certificates");
    }
  }
  return absl::OkStatus();
}

// The certificates a run deals with: OpenSSL's objects and our values of the same bytes, side by side.
struct Known {
  const std::vector<X509Ptr>& x509s;
  absl::Span<const Certificate> certificates;

  const Certificate* Find(const X509* x509) const {
    for (size_t i = 0; i < x509s.size(); ++i) {
      if (x509s[i].get() == x509) return &certificates[i];
    }
    return nullptr;
  }
};

std::string LabelOf(const X509* x509, const Known& chain, const Known& anchors) {
  const Certificate* certificate = chain.Find(x509);
  if (certificate == nullptr) certificate = anchors.Find(x509);
  return Label(certificate != nullptr ? *certificate : chain.certificates.front());
}

absl::StatusOr<std::vector<Certificate>> FoundPath(X509_STORE_CTX* ctx, const Known& chain, const Known& anchors) {
  STACK_OF(X509)* found = X509_STORE_CTX_get0_chain(ctx);
  std::vector<Certificate> path;
  for (int i = 0; i < sk_X509_num(found); ++i) {
    const X509* x509 = sk_X509_value(found, i);
    const Certificate* certificate = chain.Find(x509);
    if (certificate == nullptr) certificate = anchors.Find(x509);
    if (certificate == nullptr) return absl::InternalError("X509_verify_cert found a path over a foreign certificate");
    path.push_back(*certificate);
  }
  if (path.empty()) return absl::InternalError("X509_verify_cert found no path and no error");
  return path;
}

// One run of OpenSSL, then our own rules on the path it found. With `only`, that anchor alone is trusted.
absl::StatusOr<std::vector<Certificate>> Run(X509_STORE* store, X509* only, STACK_OF(X509) * untrusted,
                                             const Known& chain, const Known& anchors, absl::Time now) {
  X509StackPtr trusted;  // outlives the context that refers to it
  X509StoreCtxPtr ctx(X509_STORE_CTX_new());
  if (ctx == nullptr || X509_STORE_CTX_init(ctx.get(), store, chain.x509s.front().get(), untrusted) != 1) {
    return OpenSslError("X509_STORE_CTX_init");
  }
  if (only != nullptr) {
    trusted.reset(sk_X509_new_null());
    if (trusted == nullptr || sk_X509_push(trusted.get(), only) <= 0) return OpenSslError("sk_X509_push");
    X509_STORE_CTX_set0_trusted_stack(ctx.get(), trusted.get());
  }
  SIGNET_RETURN_IF_ERROR(SetParameters(ctx.get(), now));
  const int result = X509_verify_cert(ctx.get());
  const int error = X509_STORE_CTX_get_error(ctx.get());
  if (result != 1 || error != X509_V_OK) {
    ERR_clear_error();
    return Refused(LabelOf(X509_STORE_CTX_get_current_cert(ctx.get()), chain, anchors),
                   X509_verify_cert_error_string(error));
  }
  SIGNET_ASSIGN_OR_RETURN(std::vector<Certificate> path, FoundPath(ctx.get(), chain, anchors));
  SIGNET_RETURN_IF_ERROR(CheckIssuers(path));
  for (size_t i = 1; i < path.size(); ++i) {
    SIGNET_RETURN_IF_ERROR(CheckUriConstraints(sk_X509_value(X509_STORE_CTX_get0_chain(ctx.get()), static_cast<int>(i)),
                                               absl::MakeConstSpan(path).first(i)));
  }
  return path;
}

}  // namespace

TrustAnchors::TrustAnchors() = default;

absl::StatusOr<TrustAnchors> TrustAnchors::Create(absl::Span<const Certificate> roots) {
  if (roots.size() > kMaxAnchors) return absl::InvalidArgumentError("more than 256 trust anchors");
  auto store = std::make_shared<Store>();
  store->store.reset(X509_STORE_new());
  if (store->store == nullptr) return OpenSslError("X509_STORE_new");
  for (const Certificate& root : roots) {
    if (std::find(store->anchors.begin(), store->anchors.end(), root) != store->anchors.end()) continue;
    X509Ptr x509 = ToX509(root);
    if (x509 == nullptr) return OpenSslRefusal("trust anchor");
    X509_check_purpose(x509.get(), -1, 0);  // reads the extensions now: verifying, in many threads, changes no anchor
    if (X509_STORE_add_cert(store->store.get(), x509.get()) != 1) return OpenSslError("X509_STORE_add_cert");
    store->by_subject[root.subject_der()].push_back(store->anchors.size());
    store->anchors.push_back(root);
    store->x509s.push_back(std::move(x509));
  }
  TrustAnchors anchors;
  anchors.store_ = std::move(store);
  return anchors;
}

absl::Status TrustAnchors::Verify(absl::Span<const Certificate> chain, absl::Time now) const {
  return FindPath(chain, now).status();
}

absl::StatusOr<std::vector<Certificate>> TrustAnchors::FindPath(absl::Span<const Certificate> chain,
                                                                absl::Time now) const {
  if (chain.empty()) return absl::UnauthenticatedError("certificate chain: it is empty");
  if (chain.size() > kMaxChain) {
    return absl::UnauthenticatedError(absl::StrCat("certificate chain: more than ", kMaxChain, " certificates"));
  }
  if (store_ == nullptr || store_->anchors.empty()) {
    return Refused(Label(chain.front()), "there is no trust anchor to verify it against");
  }
  for (const Certificate& certificate : chain) {
    for (const std::string& uri : certificate.uri_sans()) {
      // Before the library sees them: what is not plain text has hidden names from verifiers before (N10).
      if (!IsPlainUri(uri))
        return Refused(Label(certificate), "a URI name is not printable ASCII of at most 2048 bytes");
    }
  }
  std::vector<X509Ptr> x509s;
  X509StackPtr untrusted(sk_X509_new_null());
  for (const Certificate& certificate : chain) {
    x509s.push_back(ToX509(certificate));
    if (x509s.back() == nullptr) {
      ERR_clear_error();
      return Refused(Label(certificate), "a certificate is malformed");
    }
    if (x509s.size() > 1 && sk_X509_push(untrusted.get(), x509s.back().get()) <= 0) return OpenSslError("sk_X509_push");
  }
  const Known given{x509s, chain}, anchors{store_->x509s, store_->anchors};
  absl::StatusOr<std::vector<Certificate>> path =
      Run(store_->store.get(), nullptr, untrusted.get(), given, anchors, now);
  if (path.ok()) return path;
  // Anchors of one name and no key identifier to choose by: each of them may be the issuer.
  for (const Certificate& certificate : chain) {
    const auto same_name = store_->by_subject.find(certificate.issuer_der());
    if (same_name == store_->by_subject.end() || same_name->second.size() < 2) continue;
    for (const size_t i : same_name->second) {
      auto other = Run(store_->store.get(), store_->x509s[i].get(), untrusted.get(), given, anchors, now);
      if (other.ok()) return other;
    }
  }
  return path;
}

}  // namespace signet::crypto
