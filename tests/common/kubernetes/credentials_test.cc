#include "common/kubernetes/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::kubernetes {
namespace {

using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A kubeconfig with the given cluster and user, in YAML's flow style.
std::string Config(const std::string& cluster, const std::string& user) {
  return absl::StrCat("current-context: a\ncontexts: [{name: b}, {name: a, context: {cluster: c, user: u}}]\n",
                      "clusters: [{name: c, cluster: {", cluster, "}}]\nusers: [{name: u, user: {", user, "}}]\n");
}
constexpr char kCluster[] = "server: \"https://k8s:6443/\", certificate-authority-data: cGVt";

class CredentialsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<const Credentials>> Read(const std::string& text) {
    EXPECT_THAT(fs::WriteFileAtomically(dir_.file("config"), text), testing::IsOk());
    return CredentialSource({.kube_config_file = dir_.file("config")}).Current();
  }

  testing::TempDir dir_;
};

TEST_F(CredentialsTest, ReadsTheCurrentContext) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto read, Read(Config(kCluster, "token: abc")));
  EXPECT_EQ(read->server, "https://k8s:6443");
  EXPECT_EQ(read->ca_pem, "pem");
  EXPECT_EQ(read->token, "abc");
}

TEST_F(CredentialsTest, FilesAreBesideTheConfig) {
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("ca"), "the roots"));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("crt"), "a certificate"));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("key"), "a key"));
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto read, Read(Config("server: \"https://k\", certificate-authority: ca",
                                                           "client-certificate: crt, client-key: key")));
  EXPECT_EQ(read->ca_pem, "the roots");
  EXPECT_EQ(read->certificate_pem, "a certificate");
  EXPECT_EQ(read->private_key_pem, "a key");
}

TEST_F(CredentialsTest, KeepsWhatItReadUntilAFileChanges) {
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("t"), "one"));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("config"), Config(kCluster, "tokenFile: t")));
  CredentialSource source({.kube_config_file = dir_.file("config")});
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto first, source.Current());
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto again, source.Current());
  EXPECT_EQ(first, again);
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("t"), "two"));  // same size, another inode
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto second, source.Current());
  EXPECT_EQ(second->token, "two");
  SIGNET_ASSERT_OK(fs::RemoveFile(dir_.file("t")));
  EXPECT_THAT(source.Current(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CredentialsTest, RefusesWhatItDoesNotDo) {
  const std::tuple<std::string, std::string, std::string> cases[] = {
      {absl::StrCat(kCluster, ", insecure-skip-tls-verify: true"), "token: sekret", "insecure-skip-tls-verify"},
      {absl::StrCat(kCluster, ", proxy-url: \"http://p\""), "token: sekret", "proxy-url"},
      {kCluster, "exec: {command: aws}", "exec is not supported"},
      {kCluster, "auth-provider: {name: gcp}", "auth-provider is not supported"},
      {kCluster, "username: me, password: sekret", "username is not supported"},
      {kCluster, "token: sekret, as: admin", "as is not supported"},
      {kCluster, "", "neither a token nor a client certificate"},
      {kCluster, "client-certificate-data: cGVt", "one without the other"},
      {"server: \"https://k\"", "token: sekret", "certificate-authority: missing"},
      {"server: \"http://k\", certificate-authority-data: cGVt", "token: sekret", "no https URL"},
      {"server: \"https://user:sekret2@k\", certificate-authority-data: cGVt", "token: x", "no https URL"},
      {"server: \"https://k\", certificate-authority-data: \"%%\"", "token: sekret", "not base64"},
      {absl::StrCat(kCluster, ", tls-server-name: \"a/b\""), "token: sekret", "no DNS name"},
  };
  for (const auto& [cluster, user, told] : cases) {
    EXPECT_THAT(Read(Config(cluster, user)),
                StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr(told), Not(HasSubstr("sekret\"")))));
  }
  EXPECT_THAT(
      Read(Config(kCluster, "token: \"two lines\\nX-Injected: 1\"")),
      StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("no bearer token"), Not(HasSubstr("X-")))));
  EXPECT_THAT(Read("current-context: none\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no context")));
}

TEST_F(CredentialsTest, OutsideAPodItSaysWhatToSet) {
  unsetenv("KUBERNETES_SERVICE_HOST");
  EXPECT_THAT(CredentialSource({}).Current(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("set kube_config_file")));
}

}  // namespace
}  // namespace signet::kubernetes
