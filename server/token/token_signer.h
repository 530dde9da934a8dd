// Signs access tokens and receipts with the active authorities of the kinds `token` and `receipt` (T5: keys of their
// own, never in a SPIFFE bundle), and publishes the public halves. Thread-safe; signing is CPU work only, inline.
// Errors: kUnavailable before the first authority is active.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/oauth/access_token.h"
#include "common/oauth/receipt.h"

namespace signet::server {

class TokenSigner {
 public:
  virtual ~TokenSigner() = default;
  virtual absl::StatusOr<std::string> SignToken(const oauth::AccessToken& token) = 0;
  virtual absl::StatusOr<std::string> SignReceipt(const oauth::Receipt& receipt) = 0;
  // Compact JWS over canonical JSON by the receipt key, `typ` as given: audit heads.
  virtual absl::StatusOr<std::string> SignRecord(absl::string_view type, absl::string_view payload_json) = 0;

  virtual std::shared_ptr<const oauth::Keys> token_keys() const = 0;    // prepared, active and old: /jwks
  virtual std::shared_ptr<const oauth::Keys> receipt_keys() const = 0;  // and the retired ones: /receipt-jwks
  virtual std::string active_kid() const = 0;
  virtual absl::Time active_not_after() const = 0;
};

}  // namespace signet::server
