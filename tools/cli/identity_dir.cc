#include "tools/cli/identity_dir.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/status/macros.h"

namespace signet::cli {
namespace {

constexpr size_t kMaxBytes = 1 << 20;

}  // namespace

absl::StatusOr<IdentityDir> ReadIdentityDir(const std::string& directory) {
  const auto file = [&](absl::string_view name) { return absl::StrCat(directory, "/", name); };
  SIGNET_ASSIGN_OR_RETURN(const std::string chain_pem, fs::ReadFile(file("svid.0.pem"), kMaxBytes));
  SIGNET_ASSIGN_OR_RETURN(std::string key_pem, fs::ReadSecretFile(file("svid.0.key"), kMaxBytes));
  SIGNET_ASSIGN_OR_RETURN(const std::string bundle_pem, fs::ReadFile(file("bundle.0.pem"), kMaxBytes));
  SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> chain, crypto::Certificate::ParsePemChain(chain_pem),
                          file("svid.0.pem"));
  absl::StatusOr<crypto::PrivateKey> key = crypto::PrivateKey::ParsePem(key_pem);
  crypto::Cleanse(key_pem);
  SIGNET_RETURN_IF_ERROR(key.status(), file("svid.0.key"));
  SIGNET_ASSIGN_OR_RETURN(spiffe::X509Svid svid, spiffe::X509Svid::Create(std::move(chain), *std::move(key)),
                          directory);
  SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle bundle, spiffe::Bundle::ParsePem(svid.id.trust_domain(), bundle_pem),
                          file("bundle.0.pem"));
  return IdentityDir{std::move(svid), std::move(bundle)};
}

absl::Status WriteIdentity(const std::string& directory, size_t n, absl::string_view chain_pem,
                           absl::string_view key_pem, absl::string_view bundle_pem) {
  SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(directory, 0700));
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(absl::StrCat(directory, "/svid.", n, ".key"), key_pem, 0600));
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(absl::StrCat(directory, "/bundle.", n, ".pem"), bundle_pem, 0644));
  return fs::WriteFileAtomically(absl::StrCat(directory, "/svid.", n, ".pem"), chain_pem, 0644);
}

}  // namespace signet::cli
