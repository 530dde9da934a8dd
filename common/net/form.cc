#include "common/net/form.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status/macros.h"

namespace signet::net {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Well-formed UTF-8 as Unicode's table 3-7 has it: no overlong form, no surrogate, nothing above U+10FFFF.
bool IsUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
    const unsigned lead = byte(i);
    const auto continues = [&](size_t at, unsigned low = 0x80, unsigned high = 0xbf) {
      return byte(at) >= low && byte(at) <= high;
    };
    if (lead < 0x80) {
      i += 1;
    } else if (lead >= 0xc2 && lead <= 0xdf && continues(i + 1)) {
      i += 2;
    } else if (lead >= 0xe0 && lead <= 0xef &&
               continues(i + 1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && continues(i + 2)) {
      i += 3;
    } else if (lead >= 0xf0 && lead <= 0xf4 &&
               continues(i + 1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && continues(i + 2) &&
               continues(i + 3)) {
      i += 4;
    } else {
      return false;
    }
  }
  return true;
}

absl::StatusOr<std::string> Decode(absl::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '+') {
      decoded.push_back(' ');
    } else if (c == '%') {
      const int high = i + 1 < text.size() ? HexValue(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? HexValue(text[i + 2]) : -1;
      if (high < 0 || low < 0) return absl::InvalidArgumentError("form: '%' without two hex digits");
      decoded.push_back(static_cast<char>(high << 4 | low));
      i += 2;
    } else if (c > ' ' && c < '\x7f') {
      decoded.push_back(c);
    } else {
      return absl::InvalidArgumentError("form: a byte that must be percent-encoded is not");
    }
  }
  if (decoded.find('\0') != std::string::npos || !IsUtf8(decoded)) {
    return absl::InvalidArgumentError("form: not UTF-8 text");
  }
  return decoded;
}

std::string Encode(absl::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded.push_back(c);
    } else {
      const unsigned byte = static_cast<unsigned char>(c);
      encoded.push_back('%');
      encoded.push_back(kHex[byte >> 4]);
      encoded.push_back(kHex[byte & 15]);
    }
  }
  return encoded;
}

}  // namespace

absl::StatusOr<Form> ParseForm(absl::string_view body) {
  Form form;
  if (body.empty()) return form;
  for (const absl::string_view field : absl::StrSplit(body, '&')) {
    if (form.size() == kMaxFormFields) {
      return absl::InvalidArgumentError(absl::StrCat("form: more than ", kMaxFormFields, " fields"));
    }
    const size_t equals = field.find('=');
    if (equals == absl::string_view::npos || equals == 0) {
      return absl::InvalidArgumentError("form: a field is not name=value");
    }
    SIGNET_ASSIGN_OR_RETURN(std::string name, Decode(field.substr(0, equals)));
    SIGNET_ASSIGN_OR_RETURN(std::string value, Decode(field.substr(equals + 1)));
    form.emplace_back(std::move(name), std::move(value));
  }
  return form;
}

std::string FormatForm(const Form& form) {
  std::string body;
  for (const auto& [name, value] : form) {
    absl::StrAppend(&body, body.empty() ? "" : "&", Encode(name), "=", Encode(value));
  }
  return body;
}

}  // namespace signet::net
