// A TempDir in memory where that can be had: for tests that write thousands of files and do not ask what a disk keeps.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include "tests/testing/temp_dir.h"

namespace signet::testing {

class MemoryDir {
 public:
  const std::string& path() const { return dir_.path(); }
  std::string file(const std::string& name) const { return dir_.file(name); }

 private:
  const bool placed_ = access("/dev/shm", W_OK) == 0 && setenv("TMPDIR", "/dev/shm", 1) == 0;  // before it is made
  const TempDir dir_;
};

}  // namespace signet::testing
