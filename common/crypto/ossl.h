// OpenSSL objects with owners, and the error queue as a status. Included by common/crypto/*.cc alone.
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/crypto/key.h"

namespace signet::crypto {

template <auto kFree>
struct OsslDeleter {
  template <class T>
  void operator()(T* p) const {
    kFree(p);
  }
};
using X509Ptr = std::unique_ptr<X509, OsslDeleter<X509_free>>;
using X509NamePtr = std::unique_ptr<X509_NAME, OsslDeleter<X509_NAME_free>>;
using X509StorePtr = std::unique_ptr<X509_STORE, OsslDeleter<X509_STORE_free>>;
using X509StoreCtxPtr = std::unique_ptr<X509_STORE_CTX, OsslDeleter<X509_STORE_CTX_free>>;
using EvpPkeyPtr = std::unique_ptr<EVP_PKEY, OsslDeleter<EVP_PKEY_free>>;
using EvpPkeyCtxPtr = std::unique_ptr<EVP_PKEY_CTX, OsslDeleter<EVP_PKEY_CTX_free>>;
using EvpMdCtxPtr = std::unique_ptr<EVP_MD_CTX, OsslDeleter<EVP_MD_CTX_free>>;
using EvpCipherCtxPtr = std::unique_ptr<EVP_CIPHER_CTX, OsslDeleter<EVP_CIPHER_CTX_free>>;
using BioPtr = std::unique_ptr<BIO, OsslDeleter<BIO_free_all>>;
using Pkcs8Ptr = std::unique_ptr<PKCS8_PRIV_KEY_INFO, OsslDeleter<PKCS8_PRIV_KEY_INFO_free>>;
using GeneralNamesPtr = std::unique_ptr<GENERAL_NAMES, OsslDeleter<GENERAL_NAMES_free>>;
using NameConstraintsPtr = std::unique_ptr<NAME_CONSTRAINTS, OsslDeleter<NAME_CONSTRAINTS_free>>;
using BignumPtr = std::unique_ptr<BIGNUM, OsslDeleter<BN_free>>;

// What PublicKey and PrivateKey hold.
struct KeyHandle {
  EvpPkeyPtr pkey;
  std::string spki_der;
  KeyType type = KeyType::kEcP256;
  int bits = 0;
};
struct KeyAccess {  // common/crypto's own way to the OpenSSL object
  static EVP_PKEY* Get(const PublicKey& key) { return key.handle_->pkey.get(); }
  static EVP_PKEY* Get(const PrivateKey& key) { return key.handle_->pkey.get(); }
};

// Drains the whole error queue into one kInternal message: "X509_sign: reason; reason".
absl::Status OpenSslError(absl::string_view call);
// The same as the peer's fault: kInvalidArgument, and the queue's text after `what`.
absl::Status OpenSslRefusal(absl::string_view what);

const EVP_MD* Md(HashAlgorithm hash);

}  // namespace signet::crypto
