#include "agent/workloadattestor/unix.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::Duration kNamesLast = absl::Minutes(1);
constexpr size_t kMaxNames = 4096;
// What the name service may need for one record; a group with very many members needs much.
constexpr size_t kFirstBuffer = 1024, kLastBuffer = 1 << 20;

// getpwuid_r and getgrgid_r alike: grows the buffer until the record fits.
template <typename Record, typename Call>
bool LookUp(Call call, Record* record, std::vector<char>* buffer) {
  for (size_t size = kFirstBuffer; size <= kLastBuffer; size *= 4) {
    buffer->resize(size);
    Record* found = nullptr;
    int error = call(record, buffer->data(), buffer->size(), &found);
    if (error != ERANGE) return error == 0 && found != nullptr;
  }
  return false;
}

}  // namespace

UnixAttestor::UnixAttestor(Options options, Clock& clock) : options_(options), clock_(clock) {}

template <typename LookUpName>
std::string UnixAttestor::Remembered(Names UnixAttestor::*names, uint32_t id, LookUpName look_up) {
  const absl::Duration now = clock_.Steady();
  {
    MutexLock lock(mutex_);
    auto it = (this->*names).find(id);
    if (it != (this->*names).end() && now - it->second.looked_up < kNamesLast) return it->second.name;
  }
  std::string name = look_up();  // without the lock: a directory service may take its time
  MutexLock lock(mutex_);
  if ((this->*names).size() >= kMaxNames) (this->*names).clear();
  (this->*names)[id] = {name, now};
  return name;
}

std::string UnixAttestor::UserName(uid_t uid) {
  return Remembered(&UnixAttestor::users_, uid, [uid]() -> std::string {
    passwd record;
    std::vector<char> buffer;
    bool found = LookUp<passwd>([uid](auto... a) { return getpwuid_r(uid, a...); }, &record, &buffer);
    return found ? record.pw_name : "";
  });
}

std::string UnixAttestor::GroupName(gid_t gid) {
  return Remembered(&UnixAttestor::groups_, gid, [gid]() -> std::string {
    group record;
    std::vector<char> buffer;
    bool found = LookUp<group>([gid](auto... a) { return getgrgid_r(gid, a...); }, &record, &buffer);
    return found ? record.gr_name : "";
  });
}

void UnixAttestor::Attest(std::shared_ptr<const PeerProcess> process, const PeerProcess::Facts& facts, absl::Duration,
                          Done done) {
  done(Select(*process, facts));
}

absl::StatusOr<spiffe::Selectors> UnixAttestor::Select(const PeerProcess& process, const PeerProcess::Facts& facts) {
  spiffe::Selectors selectors;
  auto add = [&](absl::string_view key, absl::string_view value) {
    if (!value.empty()) selectors.push_back({"unix", absl::StrCat(key, ":", value)});
  };
  add("uid", absl::StrCat(facts.uid));
  add("user", UserName(facts.uid));
  add("gid", absl::StrCat(facts.gid));
  add("group", GroupName(facts.gid));
  for (gid_t gid : facts.supplementary_gids) {
    add("supplementary_gid", absl::StrCat(gid));
    add("supplementary_group", GroupName(gid));
  }
  if (!options_.discover_path) return selectors;

  add("path", facts.executable);
  if (!options_.hash) return selectors;
  SIGNET_ASSIGN_OR_RETURN(const int fd, process.OpenExecutable());
  absl::Cleanup closer = [fd] { close(fd); };
  struct stat st;
  if (fstat(fd, &st) != 0 || st.st_dev != facts.executable_device || st.st_ino != facts.executable_inode) {
    return absl::PermissionDeniedError(absl::StrCat("process ", process.pid(), ": runs another executable by now"));
  }
  SIGNET_ASSIGN_OR_RETURN(std::optional<std::string> hash, hashes_.HexSha256(fd, options_.hash_size_limit),
                          absl::StrCat("process ", process.pid()));
  add("sha256", hash.value_or(""));
  return selectors;
}

}  // namespace signet::agent
