// Random bytes from OpenSSL's CSPRNG. Aborts the process if it fails: nothing sensible can go on without.
#pragma once

#include <string>

namespace signet::crypto {

std::string RandomBytes(size_t count);
std::string RandomUuid();          // version 4, lower case, as SPIRE's join tokens and entry ids
std::string RandomSerialNumber();  // 20 big-endian bytes, positive, 159 random bits, never 0 (RFC 5280 4.1.2.2)

}  // namespace signet::crypto
