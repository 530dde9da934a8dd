#include "common/spiffe/id.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::spiffe {
namespace {

constexpr absl::string_view kScheme = "spiffe://";
constexpr size_t kMaxIdBytes = 2048;  // SPIFFE-ID 2.3: receivers handle it, issuers do not exceed it
constexpr absl::string_view kReservedPath = "/spire";
constexpr absl::string_view kServerPath = "/spire/server";
constexpr absl::string_view kAgentPrefix = "/spire/agent/";

bool IsPathChar(char c) {  // SPIFFE-ID 2.2
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

absl::Status CheckSegment(absl::string_view segment) {
  if (segment.empty()) return absl::InvalidArgumentError("path has an empty segment or ends with a slash");
  if (segment == "." || segment == "..") return absl::InvalidArgumentError("path has a dot segment");
  for (char c : segment) {
    if (IsPathChar(c)) continue;
    return absl::InvalidArgumentError(absl::StrCat("path: only letters, digits, . - _ are allowed in a segment, not \"",
                                                   absl::CHexEscape(absl::string_view(&c, 1)), "\""));
  }
  return absl::OkStatus();
}

// `path` is empty or a run of "/segment".
absl::Status CheckPath(absl::string_view path) {
  while (!path.empty()) {
    if (path.front() != '/') return absl::InvalidArgumentError("path does not begin with a slash");
    path.remove_prefix(1);
    const absl::string_view segment = path.substr(0, path.find('/'));
    SIGNET_RETURN_IF_ERROR(CheckSegment(segment));
    path.remove_prefix(segment.size());
  }
  return absl::OkStatus();
}

absl::Status CheckSize(size_t bytes) {
  if (bytes <= kMaxIdBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("SPIFFE ID: ", bytes, " bytes, more than ", kMaxIdBytes));
}

std::string Quoted(absl::string_view text) { return absl::StrCat("SPIFFE ID \"", absl::CHexEscape(text), "\""); }

}  // namespace

absl::StatusOr<Id> Id::Parse(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("SPIFFE ID: empty");
  SIGNET_RETURN_IF_ERROR(CheckSize(text.size()));
  if (!absl::StartsWith(text, kScheme)) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), ": does not begin with \"spiffe://\""));
  }
  const absl::string_view rest = text.substr(kScheme.size());
  const absl::string_view name = rest.substr(0, rest.find('/'));
  SIGNET_ASSIGN_OR_RETURN(TrustDomain trust_domain, TrustDomain::Parse(name), Quoted(text));
  SIGNET_RETURN_IF_ERROR(CheckPath(rest.substr(name.size())), Quoted(text));
  return Id(std::string(text), name.size());
}

absl::StatusOr<Id> Id::FromPath(const TrustDomain& trust_domain, absl::string_view path) {
  SIGNET_RETURN_IF_ERROR(CheckSize(kScheme.size() + trust_domain.name().size() + path.size()));
  SIGNET_RETURN_IF_ERROR(CheckPath(path), Quoted(absl::StrCat(kScheme, trust_domain.name(), path)));
  return Id(absl::StrCat(kScheme, trust_domain.name(), path), trust_domain.name().size());
}

Id Id::OfTrustDomain(const TrustDomain& trust_domain) {
  return Id(trust_domain.IdString(), trust_domain.name().size());
}

Id ServerId(const TrustDomain& trust_domain) { return *Id::FromPath(trust_domain, kServerPath); }

bool IsServerId(const Id& id) { return id.path() == kServerPath; }

bool IsAgentId(const Id& id) { return absl::StartsWith(id.path(), kAgentPrefix); }

bool IsReservedId(const Id& id) {
  const absl::string_view path = id.path();
  return absl::StartsWith(path, kReservedPath) &&
         (path.size() == kReservedPath.size() || path[kReservedPath.size()] == '/');
}

}  // namespace signet::spiffe
