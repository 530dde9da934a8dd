// The names that rules compare: resources and definitions.
#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/oauth/access_token.h"
#include "common/spiffe/id.h"
#include "common/status/macros.h"

namespace signet::oauth {
namespace {

constexpr size_t kMaxUriBytes = 2048;

absl::Status Bad(absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("resource URI: ", problem));
}

bool IsHostChar(char c) {
  const auto u = static_cast<unsigned char>(c);
  return absl::ascii_isalnum(u) || c == '-' || c == '.' || c == '_';
}

// RFC 3986 3.2.2 and 3.2.3: name, IPv4 or bracketed IPv6, then a port.
absl::StatusOr<std::string> CanonicalAuthority(absl::string_view authority, absl::string_view default_port) {
  if (absl::StrContains(authority, '@')) return Bad("user information is refused");
  absl::string_view host = authority;
  absl::string_view port;
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  if (colon != absl::string_view::npos && (bracket == absl::string_view::npos || colon > bracket)) {
    host = authority.substr(0, colon);
    port = authority.substr(colon + 1);
  }
  if (absl::StartsWith(host, "[")) {
    const absl::string_view inside = host.size() > 2 && host.back() == ']' ? host.substr(1, host.size() - 2) : "";
    if (inside.empty() || !std::all_of(inside.begin(), inside.end(), [](char c) {
          return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == ':' || c == '.';
        })) {
      return Bad("the host is malformed");
    }
  } else if (host.empty() || !std::all_of(host.begin(), host.end(), IsHostChar)) {
    return Bad("the host is missing or malformed");
  }
  std::string out = absl::AsciiStrToLower(host);
  if (port.empty()) return out;
  int number = 0;
  if (!std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
      !absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return Bad("the port is malformed");
  }
  if (absl::StrCat(number) != default_port) absl::StrAppend(&out, ":", number);
  return out;
}

// Path and query as they are, escapes in capitals (RFC 3986 6.2.2.1). Only characters a URI may hold.
absl::StatusOr<std::string> CanonicalPath(absl::string_view text) {
  constexpr absl::string_view kAllowed = "-._~!$&'()*+,;=:@/?";
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '%') {
      if (i + 2 >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) ||
          !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
        return Bad("a percent sign without two digits");
      }
      out.push_back('%');
      out.push_back(absl::ascii_toupper(static_cast<unsigned char>(text[++i])));
      out.push_back(absl::ascii_toupper(static_cast<unsigned char>(text[++i])));
    } else if (absl::ascii_isalnum(c) || absl::StrContains(kAllowed, text[i])) {
      out.push_back(text[i]);
    } else {
      return Bad("a character that must be escaped");
    }
  }
  const absl::string_view path = absl::string_view(out).substr(0, out.find('?'));
  for (absl::string_view segment : absl::StrSplit(path, '/')) {
    const std::string plain = absl::StrReplaceAll(segment, {{"%2E", "."}});
    if (plain == "." || plain == "..") return Bad("dot segments are refused");
  }
  return out == "/" ? std::string() : out;
}

}  // namespace

absl::StatusOr<std::string> CanonicalResource(absl::string_view uri) {
  if (uri.size() > kMaxUriBytes) return Bad("longer than 2048 bytes");
  const size_t colon = uri.find("://");
  if (colon == absl::string_view::npos) return Bad("not absolute");
  const std::string scheme = absl::AsciiStrToLower(uri.substr(0, colon));
  if (scheme != "https" && scheme != "http") return Bad("the scheme is not https or http");
  if (absl::StrContains(uri, '#')) return Bad("a fragment is refused");
  const absl::string_view rest = uri.substr(colon + 3);
  const size_t end = std::min(rest.find_first_of("/?"), rest.size());
  SIGNET_ASSIGN_OR_RETURN(const std::string authority,
                          CanonicalAuthority(rest.substr(0, end), scheme == "https" ? "443" : "80"));
  SIGNET_ASSIGN_OR_RETURN(const std::string path, CanonicalPath(rest.substr(end)));
  return absl::StrCat(scheme, "://", authority, path);
}

std::string DefinitionOf(absl::string_view spiffe_id) {
  const auto id = spiffe::Id::Parse(spiffe_id);
  if (!id.ok()) return std::string(spiffe_id);
  // "/agent/<name>/.../<instance>": at least one segment below the name.
  const std::vector<absl::string_view> segments = absl::StrSplit(id->path(), '/');
  if (segments.size() < 4 || segments[1] != "agent") return std::string(spiffe_id);
  return std::string(spiffe_id.substr(0, spiffe_id.rfind('/')));
}

}  // namespace signet::oauth
