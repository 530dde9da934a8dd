// TokenSigner with one key of each kind, made at construction. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "server/token/token_signer.h"

namespace signet::fakes {

class FakeTokenSigner final : public server::TokenSigner {
 public:
  FakeTokenSigner();
  absl::StatusOr<std::string> SignToken(const oauth::AccessToken& token) override;
  absl::StatusOr<std::string> SignReceipt(const oauth::Receipt& receipt) override;
  absl::StatusOr<std::string> SignRecord(absl::string_view type, absl::string_view payload_json) override;
  std::shared_ptr<const oauth::Keys> token_keys() const override { return token_keys_; }
  std::shared_ptr<const oauth::Keys> receipt_keys() const override { return receipt_keys_; }
  std::string active_kid() const override { return "token-key"; }
  absl::Time active_not_after() const override { return absl::InfiniteFuture(); }

 private:
  const crypto::PrivateKey token_key_, receipt_key_;
  std::shared_ptr<const oauth::Keys> token_keys_, receipt_keys_;
};

}  // namespace signet::fakes
