#include "server/datastore/row_codec.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

void Append(std::string& out, absl::string_view text) {
  size_t size = text.size();
  while (size >= 0x80) {
    out.push_back(static_cast<char>(size | 0x80));
    size >>= 7;
  }
  out.push_back(static_cast<char>(size));
  out.append(text.data(), text.size());
}

bool Take(absl::string_view& blob, absl::string_view& text) {
  size_t size = 0;
  for (int shift = 0;; shift += 7) {
    if (blob.empty() || shift > 28) return false;
    const auto byte = static_cast<unsigned char>(blob.front());
    blob.remove_prefix(1);
    size |= static_cast<size_t>(byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  if (size > blob.size()) return false;
  text = blob.substr(0, size);
  blob.remove_prefix(size);
  return true;
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("stored ", what, " is damaged"));
}

}  // namespace

std::string EncodeStrings(const std::vector<std::string>& strings) {
  std::string out;
  for (const std::string& text : strings) Append(out, text);
  return out;
}

absl::StatusOr<std::vector<std::string>> DecodeStrings(absl::string_view blob) {
  std::vector<std::string> out;
  absl::string_view text;
  while (!blob.empty()) {
    if (!Take(blob, text)) return Damaged("list");
    out.emplace_back(text);
  }
  return out;
}

std::string EncodeSelectors(const spiffe::Selectors& selectors) {
  std::string out;
  for (const spiffe::Selector& selector : selectors) {
    Append(out, selector.type);
    Append(out, selector.value);
  }
  return out;
}

absl::StatusOr<spiffe::Selectors> DecodeSelectors(absl::string_view blob) {
  spiffe::Selectors out;
  absl::string_view type, value;
  while (!blob.empty()) {
    if (!Take(blob, type) || !Take(blob, value)) return Damaged("list of selectors");
    out.push_back({std::string(type), std::string(value)});
  }
  return out;
}

absl::StatusOr<spiffe::Id> DecodeId(absl::string_view text) {
  absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
  if (!id.ok()) return Damaged(absl::StrCat("SPIFFE ID \"", text, "\""));
  return id;
}

std::string EntryIdentity(const spiffe::Entry& entry) {
  std::string text;
  Append(text, entry.parent_id.string());
  Append(text, entry.spiffe_id.string());
  text += EncodeSelectors(entry.selectors);
  return crypto::Sha256(text);
}

}  // namespace signet::server
