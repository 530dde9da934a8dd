// DER (X.690) in two small pieces: a writer that appends to one buffer, a reader that accepts nothing but DER.
// Not thread-safe. For secrets only with room for all of it reserved: growing leaves copies behind. The reader never
// copies: what it returns points into its input.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace signet::crypto {

inline constexpr uint8_t kDerBoolean = 0x01, kDerInteger = 0x02, kDerBitString = 0x03, kDerOctetString = 0x04,
                         kDerNull = 0x05, kDerOid = 0x06, kDerUtf8String = 0x0c, kDerPrintableString = 0x13,
                         kDerIa5String = 0x16, kDerUtcTime = 0x17, kDerGeneralizedTime = 0x18, kDerSequence = 0x30,
                         kDerSet = 0x31;
constexpr uint8_t DerContext(int number) { return static_cast<uint8_t>(0x80 | number); }             // [n] IMPLICIT
constexpr uint8_t DerContextConstructed(int number) { return static_cast<uint8_t>(0xa0 | number); }  // [n] EXPLICIT

class DerWriter final {
 public:
  explicit DerWriter(size_t expected_bytes = 0) { out_.reserve(expected_bytes); }

  // What `body` appends becomes the content of one element.
  template <typename Body>
  void Nest(uint8_t tag, Body&& body) {
    const size_t start = Open(tag);
    body();
    Close(start);
  }
  void Put(uint8_t tag, absl::string_view content);
  void PutRaw(absl::string_view encoded) { out_.append(encoded.data(), encoded.size()); }
  // A non-negative INTEGER from its big-endian magnitude: leading zeros go, a sign byte comes where it must.
  void PutUnsigned(absl::string_view magnitude);
  void PutSmall(uint8_t value) { PutUnsigned(absl::string_view(reinterpret_cast<const char*>(&value), 1)); }
  void PutTrue() { Put(kDerBoolean, "\xff"); }
  void PutBitString(absl::string_view bytes);  // no unused bits

  std::string Take() { return std::move(out_); }

 private:
  size_t Open(uint8_t tag);
  void Close(size_t content_start);
  std::string out_;
};

class DerReader final {
 public:
  explicit DerReader(absl::string_view der) : in_(der) {}

  bool done() const { return in_.empty(); }
  // Tag of the next element; 0 at the end of the input.
  uint8_t PeekTag() const { return in_.empty() ? uint8_t{0} : static_cast<uint8_t>(in_.front()); }
  // Reads one element: its tag, its content and, when asked for, the whole encoding. False, and nothing consumed, for
  // what is not DER: lengths that are indefinite, not minimal or beyond the input; tag numbers above 30.
  bool ReadAny(uint8_t* tag, absl::string_view* content, absl::string_view* whole = nullptr);
  bool Read(uint8_t tag, absl::string_view* content, absl::string_view* whole = nullptr);
  // A non-negative INTEGER in its minimal form; `magnitude` has no leading zero (empty: the number 0).
  bool ReadUnsigned(absl::string_view* magnitude);
  // The content of an OBJECT IDENTIFIER, refused when an arc is cut off or not in its shortest form.
  bool ReadOid(absl::string_view* oid);
  // TRUE and FALSE, also where DER would leave a default FALSE out: some issuers write it.
  bool ReadBoolean(bool* value);
  bool ReadBitString(absl::string_view* bytes);  // refuses unused bits

 private:
  absl::string_view in_;
};

}  // namespace signet::crypto
