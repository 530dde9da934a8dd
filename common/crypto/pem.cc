#include "common/crypto/pem.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace signet::crypto {
namespace {

constexpr size_t kMaxBytes = 1 << 20, kMaxBlocks = 256, kLineLength = 64;  // line length: RFC 7468 2
constexpr absl::string_view kBegin = "-----BEGIN ", kEnd = "-----END ", kDashes = "-----";

bool AtLineStart(absl::string_view text, size_t position) { return position == 0 || text[position - 1] == '\n'; }

// The next BEGIN that stands at the start of a line.
size_t FindBegin(absl::string_view text, size_t from) {
  size_t at = text.find(kBegin, from);
  while (at != absl::string_view::npos && !AtLineStart(text, at)) at = text.find(kBegin, at + 1);
  return at;
}

bool IsLabel(absl::string_view label) {
  return !label.empty() && label.size() <= 64 &&
         std::all_of(label.begin(), label.end(), [](char c) { return c >= 0x20 && c <= 0x7e && c != '-'; });
}

}  // namespace

absl::StatusOr<std::vector<PemBlock>> ParsePem(absl::string_view text) {
  if (text.size() > kMaxBytes) return absl::InvalidArgumentError("PEM text is larger than 1 MiB");
  std::vector<PemBlock> blocks;
  for (size_t at = FindBegin(text, 0); at != absl::string_view::npos; at = FindBegin(text, at)) {
    const auto damaged = [&](absl::string_view how) {
      return absl::InvalidArgumentError(absl::StrCat("PEM block ", blocks.size() + 1, " ", how));
    };
    if (blocks.size() == kMaxBlocks) return absl::InvalidArgumentError("more than 256 PEM blocks");
    at += kBegin.size();
    const size_t label_end = text.find(kDashes, at);
    const absl::string_view label = text.substr(at, label_end == absl::string_view::npos ? 0 : label_end - at);
    if (!IsLabel(label)) return damaged("has no proper BEGIN line");
    const size_t body = label_end + kDashes.size();
    const std::string end_line = absl::StrCat(kEnd, label, kDashes);
    const size_t end = text.find(end_line, body);
    if (end == absl::string_view::npos || !AtLineStart(text, end)) return damaged("has no END line that fits");
    PemBlock block{std::string(label), {}};
    // Encapsulated headers (RFC 1421, OpenSSL's encrypted keys) have a colon, which is no base64: refused.
    if (!absl::Base64Unescape(text.substr(body, end - body), &block.der) || block.der.empty()) {
      return damaged("is not base64");
    }
    blocks.push_back(std::move(block));
    at = end + end_line.size();
  }
  if (blocks.empty()) return absl::InvalidArgumentError("no PEM block found");
  return blocks;
}

std::string ToPem(absl::string_view label, absl::string_view der) {
  std::string base64;
  absl::Base64Escape(der, &base64);
  std::string pem = absl::StrCat(kBegin, label, kDashes, "\n");
  for (size_t i = 0; i < base64.size(); i += kLineLength) {
    absl::StrAppend(&pem, absl::string_view(base64).substr(i, kLineLength), "\n");
  }
  return absl::StrCat(pem, kEnd, label, kDashes, "\n");
}

}  // namespace signet::crypto
