#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "absl/strings/str_cat.h"
#include "common/oauth/atom.h"
#include "common/oauth/members.h"

namespace signet::oauth {
namespace {

// RFC 8785 3.2.3: keys are sorted as UTF-16 code units. UTF-8 sorts the same way but for one case: characters beyond
// the basic plane (lead byte F0 and up) come, as surrogates, before U+E000 to U+FFFF (lead bytes EE and EF).
bool KeyBefore(absl::string_view a, absl::string_view b) {
  const size_t common = std::min(a.size(), b.size());
  for (size_t i = 0; i < common; ++i) {
    const auto x = static_cast<unsigned char>(a[i]);
    const auto y = static_cast<unsigned char>(b[i]);
    if (x == y) continue;
    if (x >= 0xf0 && (y == 0xee || y == 0xef)) return true;
    if (y >= 0xf0 && (x == 0xee || x == 0xef)) return false;
    return x < y;
  }
  return a.size() < b.size();
}

// The two characters of a short escape; 0: there is none.
constexpr char ShortEscape(char c) {
  switch (c) {
    case '"':
    case '\\':
      return c;
    case '\b':
      return 'b';
    case '\t':
      return 't';
    case '\n':
      return 'n';
    case '\f':
      return 'f';
    case '\r':
      return 'r';
    default:
      return 0;
  }
}

void AppendText(absl::string_view text, std::string& out) {  // RFC 8785 3.2.2.2
  out.push_back('"');
  size_t plain = 0;  // from here on nothing needed an escape
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text.data() + plain, i - plain);
    plain = i + 1;
    out.push_back('\\');
    if (const char escape = ShortEscape(c); escape != 0) {
      out.push_back(escape);
    } else {
      constexpr char kHex[] = "0123456789abcdef";
      out.append("u00");
      out.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
      out.push_back(kHex[c & 15]);
    }
  }
  out.append(text.data() + plain, text.size() - plain);
  out.push_back('"');
}

// RFC 8785 3.2.2.3: as ECMAScript writes numbers (ECMA-262, Number::toString), from the shortest digits that read back.
void AppendDouble(double number, std::string& out) {
  if (number == 0) {
    out.push_back('0');
    return;
  }
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number, std::chars_format::scientific);
  absl::string_view text(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  if (text.front() == '-') {
    out.push_back('-');
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) absl::StrAppend(&digits, text.substr(2, e - 2));
  const int point = std::atoi(std::string(text.substr(e + 1)).c_str()) + 1;  // digits before the decimal point
  const int count = static_cast<int>(digits.size());
  if (count <= point && point <= 21) {
    out.append(digits);
    out.append(static_cast<size_t>(point - count), '0');
  } else if (0 < point && point <= 21) {
    absl::StrAppend(&out, digits.substr(0, static_cast<size_t>(point)), ".", digits.substr(static_cast<size_t>(point)));
  } else if (-6 < point && point <= 0) {
    out.append("0.");
    out.append(static_cast<size_t>(-point), '0');
    out.append(digits);
  } else {
    out.push_back(digits[0]);
    if (count > 1) absl::StrAppend(&out, ".", digits.substr(1));
    absl::StrAppend(&out, "e", point > 0 ? "+" : "", point - 1);
  }
}

void Append(const boost::json::value& value, std::string& out) {
  switch (value.kind()) {
    case boost::json::kind::null:
      out.append("null");
      break;
    case boost::json::kind::bool_:
      out.append(value.get_bool() ? "true" : "false");
      break;
    case boost::json::kind::int64:
      absl::StrAppend(&out, value.get_int64());
      break;
    case boost::json::kind::uint64:
      absl::StrAppend(&out, value.get_uint64());
      break;
    case boost::json::kind::double_:
      AppendDouble(value.get_double(), out);
      break;
    case boost::json::kind::string:
      AppendText(View(value.get_string()), out);
      break;
    case boost::json::kind::array: {
      out.push_back('[');
      bool first = true;
      for (const boost::json::value& item : value.get_array()) {
        if (!first) out.push_back(',');
        first = false;
        Append(item, out);
      }
      out.push_back(']');
      break;
    }
    case boost::json::kind::object: {
      std::vector<const boost::json::key_value_pair*> members;
      members.reserve(value.get_object().size());
      for (const boost::json::key_value_pair& member : value.get_object()) members.push_back(&member);
      std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) {
        return KeyBefore({a->key().data(), a->key().size()}, {b->key().data(), b->key().size()});
      });
      out.push_back('{');
      for (const boost::json::key_value_pair* member : members) {
        if (member != members.front()) out.push_back(',');
        AppendText({member->key().data(), member->key().size()}, out);
        out.push_back(':');
        Append(member->value(), out);
      }
      out.push_back('}');
      break;
    }
  }
}

}  // namespace

std::string Canonical(const boost::json::value& value) {
  std::string out;
  Append(value, out);
  return out;
}

}  // namespace signet::oauth
