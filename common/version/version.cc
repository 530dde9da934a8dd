#include "common/version/version.h"

namespace signet {

absl::string_view Version() { return SIGNET_VERSION; }

}  // namespace signet
