#include "agent/storage/sealed_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/key.h"
#include "common/crypto/seal.h"
#include "common/failpoint/failpoint.h"
#include "common/fs/atomic_file.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kMagic = "SGNTCHG1";
constexpr size_t kHeaderBytes = 16, kLengthBytes = 8, kTagBytes = 16;
constexpr size_t kMaxBytes = 512 << 20;

std::string BigEndian(uint64_t value, int bytes) {
  std::string text;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) text += static_cast<char>(value >> shift);
  return text;
}

uint64_t ReadBigEndian(absl::string_view bytes) {
  uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

std::string Header(uint64_t first) { return absl::StrCat(kMagic, BigEndian(first, 8)); }

bool AllZero(absl::string_view bytes) { return bytes.find_first_not_of('\0') == absl::string_view::npos; }

}  // namespace

SealedLog::SealedLog(std::string path, std::string key, std::string context)
    : path_(std::move(path)), key_(std::move(key)), context_(std::move(context)) {}

SealedLog::~SealedLog() {
  if (fd_ >= 0) close(fd_);
  crypto::Cleanse(key_);
}

void SealedLog::Reset(uint64_t first) {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
  first_ = first;
  sizes_.clear();
  bytes_ = 0;
  whole_ = false;
}

absl::StatusOr<std::vector<std::string>> SealedLog::Read() {
  Reset();
  std::vector<std::string> records;
  absl::StatusOr<std::string> content = fs::ReadSecretFile(path_, kMaxBytes);
  if (absl::IsNotFound(content.status())) return records;
  SIGNET_RETURN_IF_ERROR(content.status());
  absl::string_view rest = *content;
  if (rest.size() < kHeaderBytes && absl::StartsWith(kMagic, rest.substr(0, kMagic.size()))) return records;
  if (!absl::StartsWith(rest, kMagic)) return absl::DataLossError("no log of changes of this version");
  first_ = ReadBigEndian(rest.substr(kMagic.size(), 8));
  rest.remove_prefix(kHeaderBytes);
  // A crash leaves too little at the end, or zeros that were never filled in.
  while (rest.size() > kLengthBytes && !AllZero(rest.substr(kLengthBytes))) {
    const uint64_t length = ReadBigEndian(rest.substr(0, 4)), check = ReadBigEndian(rest.substr(4, 4));
    if ((length ^ check) != 0xffffffff || length < kTagBytes) return absl::DataLossError("damaged log of changes");
    const size_t size = kLengthBytes + length;
    if (rest.size() < size || (rest.size() == size && AllZero(rest.substr(size - kTagBytes)))) break;
    SIGNET_ASSIGN_OR_RETURN(std::string record, crypto::Unseal(key_, rest.substr(kLengthBytes, length),
                                                               absl::StrCat(context_, " ", next())));
    records.push_back(std::move(record));
    sizes_.push_back(size);
    bytes_ += size;
    rest.remove_prefix(size);
  }
  whole_ = rest.empty();
  return records;
}

absl::StatusOr<std::string> SealedLog::Frame(absl::string_view record) const {
  SIGNET_ASSIGN_OR_RETURN(const std::string sealed, crypto::Seal(key_, record, absl::StrCat(context_, " ", next())));
  const uint64_t length = sealed.size();
  if (kHeaderBytes + bytes_ + kLengthBytes + length > kMaxBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(path_, " would be larger than ", kMaxBytes, " bytes"));
  }
  return absl::StrCat(BigEndian(length, 4), BigEndian(~length, 4), sealed);
}

absl::Status SealedLog::Append(absl::string_view record) {
  SIGNET_FAILPOINT_STATUS("sealed_log.before_append");
  SIGNET_ASSIGN_OR_RETURN(const std::string frame, Frame(record));
  if (!whole_) SIGNET_RETURN_IF_ERROR(Rewrite(first_));
  if (fd_ < 0) fd_ = open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
  if (fd_ < 0) return absl::InternalError(absl::StrCat("open ", path_, ": ", strerror(errno)));
  whole_ = false;  // until it is known to be
  const ssize_t written = write(fd_, frame.data(), frame.size());
  if (written != static_cast<ssize_t>(frame.size())) {
    return absl::InternalError(absl::StrCat("write ", path_, ": ", written < 0 ? strerror(errno) : "cut short"));
  }
  SIGNET_FAILPOINT_STATUS("sealed_log.after_write");
  if (fdatasync(fd_) != 0) return absl::InternalError(absl::StrCat("fdatasync ", path_, ": ", strerror(errno)));
  whole_ = true;
  sizes_.push_back(frame.size());
  bytes_ += frame.size();
  SIGNET_FAILPOINT("sealed_log.after_fsync");
  return absl::OkStatus();
}

absl::Status SealedLog::DropBefore(uint64_t number) {
  if (number == first_ && (whole_ || sizes_.empty())) return absl::OkStatus();  // Append() mends what is there
  return Rewrite(number);
}

absl::Status SealedLog::Rewrite(uint64_t first) {
  const auto kept_from = sizes_.begin() + static_cast<ptrdiff_t>(first - first_);
  const size_t skipped = std::accumulate(sizes_.begin(), kept_from, size_t{0}), kept = bytes_ - skipped;
  std::string content = Header(first);
  if (kept > 0) {
    SIGNET_ASSIGN_OR_RETURN(const std::string before, fs::ReadSecretFile(path_, kMaxBytes));
    if (before.size() < kHeaderBytes + skipped + kept) return absl::DataLossError(absl::StrCat(path_, " was cut"));
    content.append(before, kHeaderBytes + skipped, kept);
  }
  if (fd_ >= 0) close(std::exchange(fd_, -1));  // it names the file before
  whole_ = false;
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(path_, content));
  sizes_.erase(sizes_.begin(), kept_from);
  bytes_ = kept;
  first_ = first;
  whole_ = true;
  return absl::OkStatus();
}

}  // namespace signet::agent
