#include "agent/bootstrap.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/net/http_client.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr size_t kMaxBundleBytes = 4 << 20;
constexpr absl::string_view kWait =
    "; if the server publishes it (bundle_publishers), it comes by itself: see whether the server says that it cannot";
constexpr absl::Duration kFetchTimeout = absl::Seconds(20);

absl::StatusOr<spiffe::Bundle> Usable(absl::StatusOr<spiffe::Bundle> bundle, absl::string_view where) {
  SIGNET_RETURN_IF_ERROR(bundle.status(), where);
  if (bundle->x509_authorities.empty())
    return absl::InvalidArgumentError(absl::StrCat(where, ": no X.509 authority in it"));
  return bundle;
}

}  // namespace

absl::StatusOr<spiffe::Bundle> FirstTrust(const TrustSource& source, const spiffe::TrustDomain& trust_domain,
                                          const std::function<absl::StatusOr<spiffe::Bundle>()>& ask_server) {
  if (!source.path.empty()) {
    absl::StatusOr<std::string> text = fs::ReadFile(source.path, kMaxBundleBytes);
    if (absl::IsNotFound(text.status())) {
      return absl::FailedPreconditionError(absl::StrCat(
          text.status().message(), "; write the server's bundle there (`signet bundle show --format pem`)", kWait));
    }
    SIGNET_RETURN_IF_ERROR(text.status());
    if (absl::StripAsciiWhitespace(*text).empty()) {
      return absl::FailedPreconditionError(absl::StrCat(source.path, ": is empty", kWait));
    }
    return Usable(spiffe::Bundle::ParsePemOrJson(trust_domain, *text), source.path);
  }
  if (!source.url.empty()) {
    SIGNET_ASSIGN_OR_RETURN(const std::string text, net::HttpsGet(source.url, kMaxBundleBytes, kFetchTimeout),
                            source.url);
    return Usable(spiffe::Bundle::ParsePemOrJson(trust_domain, text), source.url);
  }
  if (source.insecure) {
    SIGNET_LOG(warn, "INSECURE BOOTSTRAP: trusting whatever server answers; anybody on the way can take this node over",
               {{"trust_domain", trust_domain.name()}, {"instead", "bootstrap: {trust_bundle_path: ...}"}});
    return Usable(ask_server(), "bundle of the server");
  }
  return absl::FailedPreconditionError(
      "there is no trust bundle yet; configure bootstrap (trust_bundle_path, trust_bundle_url)");
}

}  // namespace signet::agent
