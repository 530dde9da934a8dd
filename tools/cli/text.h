// Text a person likes to read: aligned columns, times with how far away they are.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace spire::api::types {
class Selector;
class SPIFFEID;
}  // namespace spire::api::types

namespace signet::cli {

// Columns as wide as their widest cell; the last one is not padded.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  size_t size() const { return rows_.size() - 1; }
  void Print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "name   value" lines, values aligned; empty values are left out.
class Facts {
 public:
  void Add(absl::string_view name, absl::string_view value);
  void Print(std::ostream& out) const;

 private:
  std::vector<std::pair<std::string, std::string>> lines_;
};

// What came from a peer goes to a terminal only through this: control characters are escaped.
std::string Safe(absl::string_view text);

std::string DurationText(absl::Duration d);  // two units at most: "59m12s", "3d4h"
// "2026-11-24 11:00:00 UTC (in 59m12s)" or "(5m ago)".
std::string TimeText(absl::Time t, absl::Time now);
std::string CountText(size_t n, absl::string_view singular, absl::string_view plural);  // "1 entry", "2 entries"

std::string IdText(const spire::api::types::SPIFFEID& id);  // spiffe://td/path; empty for an empty message
std::string SelectorText(const spire::api::types::Selector& selector);

}  // namespace signet::cli
