#include "tests/fakes/fake_token_signer.h"

#include "absl/strings/str_cat.h"
#include "common/jose/jws.h"
#include "tests/testing/test_ca.h"

namespace signet::fakes {
namespace {

constexpr char kTokenKid[] = "token-key";
constexpr char kReceiptKid[] = "receipt-key";

crypto::PrivateKey NewKey() { return crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value(); }

std::shared_ptr<const oauth::Keys> KeysOf(const char* kid, const crypto::PrivateKey& key) {
  return std::make_shared<const oauth::Keys>(oauth::Keys{{kid, key.public_key()}});
}

}  // namespace

FakeTokenSigner::FakeTokenSigner()
    : token_key_(NewKey()),
      receipt_key_(NewKey()),
      token_keys_(KeysOf(kTokenKid, token_key_)),
      receipt_keys_(KeysOf(kReceiptKid, receipt_key_)) {}

absl::StatusOr<std::string> FakeTokenSigner::SignToken(const oauth::AccessToken& token) {
  return oauth::Sign(token, kTokenKid, token_key_.type(), testing::SignerOf(token_key_));
}

absl::StatusOr<std::string> FakeTokenSigner::SignReceipt(const oauth::Receipt& receipt) {
  return oauth::SignReceipt(receipt, kReceiptKid, receipt_key_.type(), testing::SignerOf(receipt_key_));
}

absl::StatusOr<std::string> FakeTokenSigner::SignRecord(absl::string_view type, absl::string_view payload_json) {
  return jose::SignCompact(absl::StrCat(R"({"alg":"ES256","kid":")", kReceiptKid, R"(","typ":")", type, R"("})"),
                           payload_json, receipt_key_.type(), testing::SignerOf(receipt_key_));
}

}  // namespace signet::fakes
