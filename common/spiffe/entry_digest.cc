#include "common/spiffe/entry_digest.h"

#include <algorithm>

#include "common/crypto/digest.h"

namespace signet::spiffe {
namespace {

void AppendBigEndian(std::string& out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>((value >> shift) & 0xff));
}

}  // namespace

std::string EntryDigest(std::vector<EntryVersion> entries) {
  std::sort(entries.begin(), entries.end(), [](const EntryVersion& a, const EntryVersion& b) { return a.id < b.id; });
  crypto::Sha256Stream hash;
  std::string item;
  for (const EntryVersion& entry : entries) {
    item.clear();
    AppendBigEndian(item, entry.id.size(), 4);
    item.append(entry.id.data(), entry.id.size());
    AppendBigEndian(item, static_cast<uint64_t>(entry.revision), 8);
    AppendBigEndian(item, static_cast<uint64_t>(absl::ToUnixSeconds(entry.created_at)), 8);
    hash.Update(item);
  }
  return hash.Finish();
}

}  // namespace signet::spiffe
