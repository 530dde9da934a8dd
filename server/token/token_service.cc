#include "server/token/token_service.h"

#include <utility>

#include "server/token/endpoint_answers.h"
#include "server/token/grants.h"

namespace signet::server {
namespace {

class OAuthTokenService final : public TokenService {
 public:
  explicit OAuthTokenService(TokenServiceDeps deps) : deps_(std::move(deps)) {}

  void Token(TokenRequest request, AnswerDone done) override {
    TokenCallPtr call = Begin(kTokenEvent, std::move(request), std::move(done));
    call->grant_type = call->request.Get("grant_type");
    if (!Admit(deps_, call)) return;
    if (call->client.method == ClientAuthMethod::kJwtSvid && call->proven.jkt.empty()) {
      // A JWT-SVID may be presented again while it is valid: what it buys must be of no use to who stole it.
      return Refuse(deps_, call, InvalidRequest("a JWT-SVID assertion needs a DPoP proof beside it"));
    }
    if (call->grant_type == "client_credentials") return ClientCredentials(deps_, std::move(call));
    if (call->grant_type == kTokenExchangeGrant) return ExchangeToken(deps_, std::move(call));
    if (call->grant_type == "refresh_token") return RefreshToken(deps_, std::move(call));
    if (call->grant_type.empty()) return Refuse(deps_, call, InvalidRequest("grant_type is missing"));
    Refuse(deps_, call, {400, "unsupported_grant_type", "", "", ""});
  }

  void Introspect(TokenRequest request, AnswerDone done) override {
    TokenCallPtr call = Begin("introspect", std::move(request), std::move(done));
    if (Admit(deps_, call)) introspection_.Answer(std::move(call));
  }

  void Revoke(TokenRequest request, AnswerDone done) override {
    TokenCallPtr call = Begin("revoke", std::move(request), std::move(done));
    if (Admit(deps_, call)) RevokeToken(deps_, std::move(call));
  }

  void Explain(token::v1::ExplainRequest request,
               absl::AnyInvocable<void(absl::StatusOr<token::v1::ExplainResponse>)> done) override {
    ExplainExchange(deps_, std::move(request), std::move(done));
  }

 private:
  TokenCallPtr Begin(const char* event, TokenRequest request, AnswerDone done) {
    auto call = std::make_shared<TokenCall>();
    call->request = std::move(request);
    call->done = std::move(done);
    call->now = deps_.clock.Now();
    call->event = event;
    return call;
  }

  const TokenServiceDeps deps_;
  Introspection introspection_{deps_};
};

}  // namespace

std::unique_ptr<TokenService> MakeTokenService(TokenServiceDeps deps) {
  return std::make_unique<OAuthTokenService>(std::move(deps));
}

}  // namespace signet::server
