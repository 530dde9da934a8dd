#include "common/crypto/uri_constraints.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace signet::crypto {
namespace {

absl::Status Refused(absl::string_view why) {
  return absl::UnauthenticatedError(absl::StrCat("certificate chain: ", why));
}

std::vector<std::string> UriBases(const STACK_OF(GENERAL_SUBTREE) * subtrees) {
  std::vector<std::string> bases;
  for (int i = 0; i < sk_GENERAL_SUBTREE_num(subtrees); ++i) {
    const GENERAL_NAME* base = sk_GENERAL_SUBTREE_value(subtrees, i)->base;
    if (base->type != GEN_URI) continue;
    const ASN1_STRING* text = base->d.uniformResourceIdentifier;
    bases.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                       static_cast<size_t>(ASN1_STRING_length(text)));
  }
  return bases;
}

}  // namespace

bool IsPlainUri(absl::string_view uri) {
  return !uri.empty() && uri.size() <= 2048 &&
         std::all_of(uri.begin(), uri.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

absl::string_view UriHost(absl::string_view uri) {
  const size_t scheme = uri.find("://");
  if (scheme == absl::string_view::npos) return {};
  absl::string_view authority = uri.substr(scheme + 3);
  authority = authority.substr(0, authority.find_first_of("/?#"));
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) authority.remove_prefix(at + 1);
  return authority.substr(0, authority.find(':'));
}

bool HostMatches(absl::string_view host, absl::string_view constraint) {
  if (constraint.empty()) return true;
  if (constraint.front() != '.') return absl::EqualsIgnoreCase(host, constraint);
  return host.size() > constraint.size() && absl::EndsWithIgnoreCase(host, constraint);
}

absl::Status CheckUriConstraints(X509* issuer, absl::Span<const Certificate> below) {
  int critical = 0;
  NameConstraintsPtr constraints(
      static_cast<NAME_CONSTRAINTS*>(X509_get_ext_d2i(issuer, NID_name_constraints, &critical, nullptr)));
  if (constraints == nullptr) {
    if (critical == -1) return absl::OkStatus();  // absent
    ERR_clear_error();
    return Refused("an issuer has name constraints that are malformed or stand twice");
  }
  const std::vector<std::string> permitted = UriBases(constraints->permittedSubtrees);
  const std::vector<std::string> excluded = UriBases(constraints->excludedSubtrees);
  if (permitted.empty() && excluded.empty()) return absl::OkStatus();
  for (const Certificate& certificate : below) {
    for (const std::string& uri : certificate.uri_sans()) {
      const absl::string_view host = IsPlainUri(uri) ? UriHost(uri) : absl::string_view();
      if (host.empty()) return Refused("a URI name under a name constraint has no host");
      const auto matches = [host](const std::string& base) { return HostMatches(host, base); };
      if (std::any_of(excluded.begin(), excluded.end(), matches)) {
        return Refused(absl::StrCat("the name constraints of an issuer exclude ", uri));
      }
      if (!permitted.empty() && std::none_of(permitted.begin(), permitted.end(), matches)) {
        return Refused(absl::StrCat("the name constraints of an issuer do not permit ", uri));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace signet::crypto
