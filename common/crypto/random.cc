#include "common/crypto/random.h"

#include <openssl/rand.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace signet::crypto {

std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  if (count != 0 && RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) != 1) {
    std::fputs("the random number generator of OpenSSL failed: no key or serial number can be made\n", stderr);
    std::abort();
  }
  return bytes;
}

std::string RandomUuid() {
  std::string bytes = RandomBytes(16);
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);  // version 4 (RFC 4122 4.4)
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);  // variant
  const std::string hex = absl::BytesToHexString(bytes);
  const absl::string_view h = hex;
  return absl::StrCat(h.substr(0, 8), "-", h.substr(8, 4), "-", h.substr(12, 4), "-", h.substr(16, 4), "-",
                      h.substr(20));
}

std::string RandomSerialNumber() {
  for (;;) {
    std::string bytes = RandomBytes(20);
    bytes[0] = static_cast<char>(bytes[0] & 0x7f);
    if (bytes.find_first_not_of('\0') != std::string::npos) return bytes;
  }
}

}  // namespace signet::crypto
