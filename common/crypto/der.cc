#include "common/crypto/der.h"

namespace signet::crypto {

size_t DerWriter::Open(uint8_t tag) {
  out_.push_back(static_cast<char>(tag));
  out_.push_back(0);  // the length, once it is known
  return out_.size();
}

void DerWriter::Close(size_t content_start) {
  const size_t length = out_.size() - content_start;
  if (length < 0x80) {
    out_[content_start - 1] = static_cast<char>(length);
    return;
  }
  char bytes[sizeof(size_t)];
  size_t count = 0;
  for (size_t rest = length; rest != 0; rest >>= 8) bytes[sizeof(bytes) - ++count] = static_cast<char>(rest & 0xff);
  out_[content_start - 1] = static_cast<char>(0x80 | count);
  out_.insert(content_start, bytes + sizeof(bytes) - count, count);
}

void DerWriter::Put(uint8_t tag, absl::string_view content) {
  const size_t start = Open(tag);
  PutRaw(content);
  Close(start);
}

void DerWriter::PutUnsigned(absl::string_view magnitude) {
  while (!magnitude.empty() && magnitude.front() == 0) magnitude.remove_prefix(1);
  const size_t start = Open(kDerInteger);
  if (magnitude.empty() || (magnitude.front() & 0x80) != 0) out_.push_back(0);
  PutRaw(magnitude);
  Close(start);
}

void DerWriter::PutBitString(absl::string_view bytes) {
  const size_t start = Open(kDerBitString);
  out_.push_back(0);
  PutRaw(bytes);
  Close(start);
}

bool DerReader::ReadAny(uint8_t* tag, absl::string_view* content, absl::string_view* whole) {
  if (in_.size() < 2) return false;
  const auto byte = [this](size_t i) { return static_cast<uint8_t>(in_[i]); };
  if ((byte(0) & 0x1f) == 0x1f) return false;  // high tag numbers: nothing we read has them
  size_t header = 2, length = byte(1);
  if (length >= 0x80) {
    const size_t count = length & 0x7f;
    if (count == 0 || count > 4 || in_.size() < 2 + count) return false;
    length = 0;
    for (size_t i = 0; i < count; ++i) length = length << 8 | byte(2 + i);
    if (length < 0x80 || byte(2) == 0) return false;  // a shorter form exists
    header += count;
  }
  if (length > in_.size() - header) return false;
  *tag = byte(0);
  *content = in_.substr(header, length);
  if (whole != nullptr) *whole = in_.substr(0, header + length);
  in_.remove_prefix(header + length);
  return true;
}

bool DerReader::Read(uint8_t tag, absl::string_view* content, absl::string_view* whole) {
  uint8_t actual;
  return PeekTag() == tag && ReadAny(&actual, content, whole);
}

bool DerReader::ReadUnsigned(absl::string_view* magnitude) {
  const absl::string_view before = in_;
  absl::string_view content;
  if (!Read(kDerInteger, &content)) return false;
  const auto first = content.empty() ? 0x80 : static_cast<uint8_t>(content[0]);
  const bool minimal = content.size() < 2 || first != 0 || (content[1] & 0x80) != 0;
  if ((first & 0x80) != 0 || !minimal) {
    in_ = before;
    return false;
  }
  if (first == 0) content.remove_prefix(1);
  *magnitude = content;
  return true;
}

bool DerReader::ReadBoolean(bool* value) {
  const absl::string_view before = in_;
  absl::string_view content;
  if (!Read(kDerBoolean, &content)) return false;
  if (content != "\xff" && content != absl::string_view("\0", 1)) {
    in_ = before;
    return false;
  }
  *value = content[0] != 0;
  return true;
}

bool DerReader::ReadOid(absl::string_view* oid) {
  const absl::string_view before = in_;
  absl::string_view content;
  if (!Read(kDerOid, &content)) return false;
  bool at_arc_start = true, well_formed = !content.empty();
  for (const char c : content) {  // base 128, the highest bit says that more follows (X.690 8.19.2)
    if (at_arc_start && static_cast<uint8_t>(c) == 0x80) well_formed = false;
    at_arc_start = (c & 0x80) == 0;
  }
  if (!well_formed || !at_arc_start) {
    in_ = before;
    return false;
  }
  *oid = content;
  return true;
}

bool DerReader::ReadBitString(absl::string_view* bytes) {
  const absl::string_view before = in_;
  absl::string_view content;
  if (!Read(kDerBitString, &content)) return false;
  if (content.empty() || content[0] != 0) {
    in_ = before;
    return false;
  }
  *bytes = content.substr(1);
  return true;
}

}  // namespace signet::crypto
