// Registered JWT claims read strictly (RFC 7519): times are integers within int64, aud a string or an array of strings.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::jose {

struct Claims {
  std::optional<std::string> subject, issuer, jwt_id;
  std::vector<std::string> audience;  // empty: absent or []
  std::optional<absl::Time> expires_at, not_before, issued_at;
  std::shared_ptr<const boost::json::object> all;  // every claim as received

  static absl::StatusOr<Claims> Parse(absl::string_view payload_json);
};

}  // namespace signet::jose
