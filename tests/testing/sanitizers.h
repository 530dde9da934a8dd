// Whether this build runs under a sanitizer: they keep freed memory in quarantine and are several times slower, so that
// what measures memory says nothing there.
#pragma once

namespace signet::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace signet::testing
