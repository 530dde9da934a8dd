// What token.sock reads and says, apart from what it is about: forms in, JSON out. Pure.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/net/form.h"
#include "common/net/web_server.h"

namespace signet::agent {

// RFC 6749 5.2.
net::WebResponse OAuthRefusal(int status, absl::string_view error, absl::string_view description);
// For a caller that could not be served: kInvalidArgument 400 invalid_request, kUnauthenticated 401 invalid_client,
// kPermissionDenied 403 access_denied, all else 503 temporarily_unavailable with Retry-After.
net::WebResponse CallerRefusal(const absl::Status& status);
net::WebResponse JsonAnswer(std::string body);

// The form of a POST (T6). Refused: credentials and what a proxy would have said of the caller (Authorization,
// Forwarded, X-Forwarded-*, Client-Cert), since the caller is who the kernel says; parameters in the query; another
// content type; client_assertion and client_secret; a parameter that is not `resource` or `audience` more than once.
std::optional<net::WebResponse> ReadForm(const net::WebRequest& request, net::Form& form);
// The value, or empty.
const std::string& FieldOf(const net::Form& form, absl::string_view name);
// Its only value is `value`; it is taken out first.
void SetField(net::Form& form, absl::string_view name, std::string value);
void DropField(net::Form& form, absl::string_view name);

}  // namespace signet::agent
