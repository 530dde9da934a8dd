// Access tokens as they arrive, and what stands in them: any bytes as a JWT, and as its payload. Oracles: only our own
// seed verifies; claims that are read are written and read again alike; nothing lives whose chain is revoked.
#include <stdint.h>

#include "common/jose/jws.h"
#include "common/oauth/access_token.h"
#include "common/oauth/revocation.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/jwt_keys.h"

namespace signet::oauth {
namespace {

constexpr absl::string_view kIssuer = "https://id.example.org";
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

void CheckToken(absl::string_view text) {
  static const Keys keys = {{"k1", fuzz::Key().public_key()}};
  const auto token = Verify(text, keys, kIssuer, kNow);
  if (!token.ok()) return;
  FUZZ_CHECK(text.size() <= kMaxJwtBytes);
  FUZZ_CHECK(token->key_id == "k1" && token->issuer == kIssuer && token->expires_at > kNow);
  // ECDSA has more than one signature of each token, so what was signed tells ours from forgeries: all seeds are
  // written canonically and have this chain.
  FUZZ_CHECK(jose::CompactJws::Parse(text)->payload == ClaimsJson(*token));
  FUZZ_CHECK(token->txn == "txn-1");
}

void CheckClaims(absl::string_view text) {
  const auto token = ParseClaims(text);
  if (!token.ok()) return;
  FUZZ_CHECK(static_cast<int>(token->actors.size()) <= kMaxDepth);
  FUZZ_CHECK(IsOwnAuthority(*token) == token->actors.empty());
  const auto again = ParseClaims(ClaimsJson(*token));
  if (ClaimsJson(*token).size() <= kMaxJwtBytes) FUZZ_CHECK(again.ok() && *again == *token);
  FUZZ_CHECK(RevocationSet().Kills(*token) == nullptr);
  const RevocationSet revoked(
      {{.kind = EntityKind::kChain, .entity = token->context.root, .seq = 1, .not_before = kNow}});
  FUZZ_CHECK(revoked.Kills(*token) != nullptr);
}

}  // namespace
}  // namespace signet::oauth

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  signet::oauth::CheckToken(text);
  signet::oauth::CheckClaims(text);
  return 0;
}
