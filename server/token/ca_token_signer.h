// The TokenSigner over the authorities of the kinds `token` and `receipt`. Thread-safe.
#pragma once

#include <memory>

#include "common/concurrency/latest_value.h"
#include "common/keymanager/key_manager.h"
#include "common/time/clock.h"
#include "server/ca/certificate_authority.h"
#include "server/token/token_signer.h"

namespace signet::server {

// All references must outlive it.
std::unique_ptr<TokenSigner> MakeTokenSigner(KeyManager& keys, const LatestValue<ActiveAuthorities>& authorities,
                                             Clock& clock);

}  // namespace signet::server
