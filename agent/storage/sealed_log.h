// A file of records appended durably, each sealed (AES-256-GCM) and bound to its number, so that none can be changed,
// moved, left out or taken from another file. Form: magic, number of the first record; then for each record its length,
// the length's complement and the sealed bytes, integers big-endian. What a crash has cut off of the last record is
// ignored. Records that are lost from the end whole cannot be missed: the owner's user alone can do that.
// Failpoints: sealed_log.{before_append,after_write,after_fsync}. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::agent {

class SealedLog {
 public:
  // `key` 32 bytes; `context` says what the records are, and for whom.
  SealedLog(std::string path, std::string key, std::string context);
  ~SealedLog();
  SealedLog(const SealedLog&) = delete;
  SealedLog& operator=(const SealedLog&) = delete;

  // All records, the first of them number first(). Writes nothing. kDataLoss: damaged. No file: no records.
  absl::StatusOr<std::vector<std::string>> Read();
  // Durable when it returns OK. On error the record is not in the log; a later Append() mends what is left of it.
  absl::Status Append(absl::string_view record);
  // Forgets the records before `number`, which is between first() and next().
  absl::Status DropBefore(uint64_t number);
  // The file is gone, or holds nothing of use: the next record is number `first`.
  void Reset(uint64_t first = 0);

  uint64_t first() const { return first_; }
  uint64_t next() const { return first_ + sizes_.size(); }
  size_t bytes() const { return bytes_; }  // of the records

 private:
  absl::StatusOr<std::string> Frame(absl::string_view record) const;
  absl::Status Rewrite(uint64_t first);

  const std::string path_;
  std::string key_;
  const std::string context_;
  uint64_t first_ = 0;
  std::vector<size_t> sizes_;  // of the records in the file, with their lengths
  size_t bytes_ = 0;           // their sum
  bool whole_ = false;         // the file is there, and holds these records and no more
  int fd_ = -1;                // for appending; -1: not open
};

}  // namespace signet::agent
