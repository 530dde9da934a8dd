// A fixed key, so that a crashing input crashes again. It protects nothing.
#pragma once

#include "common/crypto/key.h"

namespace signet::fuzz {

inline const crypto::PrivateKey& Key() {
  static const crypto::PrivateKey key = *crypto::PrivateKey::ParsePem(R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQPSlMjhzVf6GIzxp
HHTWSYCBvjY1UTcMz3bLoocKHhmhRANCAAR7DxsQFfm51poDPnbV93x2ggi5ACga
e8PBwtAbTdHFV3P42BY71G4Go0MtdOCCMFNwHRqtMKL/mzU/tYbwOFt/
-----END PRIVATE KEY-----
)");
  return key;
}

}  // namespace signet::fuzz
