#include "tools/cli/text.h"

#include <algorithm>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "spire/api/types/selector.pb.h"
#include "spire/api/types/spiffeid.pb.h"

namespace signet::cli {

void Table::Print(std::ostream& out) const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line.append(row[i]);
      if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << "\n";
  }
}

void Facts::Add(absl::string_view name, absl::string_view value) {
  if (!value.empty()) lines_.emplace_back(name, value);
}

void Facts::Print(std::ostream& out) const {
  size_t width = 0;
  for (const auto& [name, value] : lines_) width = std::max(width, name.size());
  for (const auto& [name, value] : lines_) out << name << std::string(width - name.size() + 2, ' ') << value << "\n";
}

std::string Safe(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {  // what a terminal would act upon
      absl::StrAppend(&out, "\\x", absl::Hex(byte, absl::kZeroPad2));
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string DurationText(absl::Duration d) {
  if (d < absl::ZeroDuration()) return absl::StrCat("-", DurationText(-d));
  static constexpr struct {
    int64_t seconds;
    absl::string_view name;
  } kUnits[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
  int64_t left = absl::ToInt64Seconds(d);
  std::string text;
  int parts = 0;
  for (const auto& unit : kUnits) {
    const int64_t n = left / unit.seconds;
    left -= n * unit.seconds;
    if (n == 0 && parts == 0) continue;
    if (n != 0) absl::StrAppend(&text, n, unit.name);
    if (++parts == 2) break;
  }
  return text.empty() ? "0s" : text;
}

std::string TimeText(absl::Time t, absl::Time now) {
  const std::string when = absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", t, absl::UTCTimeZone());
  if (t >= now) return absl::StrCat(when, " (in ", DurationText(t - now), ")");
  return absl::StrCat(when, " (", DurationText(now - t), " ago)");
}

std::string CountText(size_t n, absl::string_view singular, absl::string_view plural) {
  return absl::StrCat(n, " ", n == 1 ? singular : plural);
}

std::string IdText(const spire::api::types::SPIFFEID& id) {
  if (id.trust_domain().empty()) return "";
  return Safe(absl::StrCat("spiffe://", id.trust_domain(), id.path()));
}

std::string SelectorText(const spire::api::types::Selector& selector) {
  return Safe(absl::StrCat(selector.type(), ":", selector.value()));
}

}  // namespace signet::cli
