#include "server/token/ca_token_signer.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "absl/strings/str_cat.h"
#include "common/jose/jws.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

class CaTokenSigner final : public TokenSigner {
 public:
  CaTokenSigner(KeyManager& keys, const LatestValue<ActiveAuthorities>& authorities, Clock& clock)
      : keys_(keys), authorities_(authorities), clock_(clock) {}

  absl::StatusOr<std::string> SignToken(const oauth::AccessToken& token) override {
    const auto active = authorities_.Get();
    SIGNET_ASSIGN_OR_RETURN(const ActiveJwt* key, Usable(active, &ActiveAuthorities::token, "token"));
    return oauth::Sign(token, key->kid, key->type, SignerOf(*key));
  }

  absl::StatusOr<std::string> SignReceipt(const oauth::Receipt& receipt) override {
    const auto active = authorities_.Get();
    SIGNET_ASSIGN_OR_RETURN(const ActiveJwt* key, Usable(active, &ActiveAuthorities::receipt, "receipt"));
    return oauth::SignReceipt(receipt, key->kid, key->type, SignerOf(*key));
  }

  absl::StatusOr<std::string> SignRecord(absl::string_view type, absl::string_view payload_json) override {
    const auto active = authorities_.Get();
    SIGNET_ASSIGN_OR_RETURN(const ActiveJwt* key, Usable(active, &ActiveAuthorities::receipt, "receipt"));
    SIGNET_ASSIGN_OR_RETURN(const absl::string_view algorithm, jose::AlgorithmFor(key->type));
    boost::json::object header;
    header["alg"] = boost::json::string_view(algorithm.data(), algorithm.size());
    header["kid"] = key->kid;
    header["typ"] = boost::json::string_view(type.data(), type.size());
    return jose::SignCompact(boost::json::serialize(header), payload_json, key->type, SignerOf(*key));
  }

  std::shared_ptr<const oauth::Keys> token_keys() const override { return KeysOf(&ActiveAuthorities::token_keys); }
  std::shared_ptr<const oauth::Keys> receipt_keys() const override { return KeysOf(&ActiveAuthorities::receipt_keys); }
  std::string active_kid() const override {
    const auto active = authorities_.Get();
    return active != nullptr && active->token.has_value() ? active->token->kid : std::string();
  }
  absl::Time active_not_after() const override {
    const auto active = authorities_.Get();
    return active != nullptr && active->token.has_value() ? active->token->not_after : absl::InfinitePast();
  }

 private:
  using Snapshot = std::shared_ptr<const ActiveAuthorities>;

  absl::StatusOr<const ActiveJwt*> Usable(const Snapshot& active, std::optional<ActiveJwt> ActiveAuthorities::*kind,
                                          absl::string_view name) const {
    if (active == nullptr || !((*active).*kind).has_value()) {
      return absl::UnavailableError(absl::StrCat("no ", name, " authority is active yet: retry"));
    }
    const ActiveJwt& key = *((*active).*kind);
    if (key.not_after <= clock_.Now()) {
      return absl::UnavailableError(
          absl::StrCat("the active ", name, " authority has ended and there is no next one: see the server's health"));
    }
    return &key;
  }

  crypto::MessageSigner SignerOf(const ActiveJwt& key) const {
    return [this, &key](crypto::HashAlgorithm hash, absl::string_view message) {
      return keys_.Sign(key.key_manager_id, hash, message);
    };
  }

  std::shared_ptr<const oauth::Keys> KeysOf(std::shared_ptr<const oauth::Keys> ActiveAuthorities::*keys) const {
    const auto active = authorities_.Get();
    if (active != nullptr && (*active).*keys != nullptr) return (*active).*keys;
    static const auto none = std::make_shared<const oauth::Keys>();
    return none;
  }

  KeyManager& keys_;
  const LatestValue<ActiveAuthorities>& authorities_;
  Clock& clock_;
};

}  // namespace

std::unique_ptr<TokenSigner> MakeTokenSigner(KeyManager& keys, const LatestValue<ActiveAuthorities>& authorities,
                                             Clock& clock) {
  return std::make_unique<CaTokenSigner>(keys, authorities, clock);
}

}  // namespace signet::server
