// The Workload API's verbs, against a small Workload API on a Unix socket.
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "common/rpc/tls_setup.h"
#include "common/spiffe/x509_svid.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"
#include "tests/tools/cli/cli_kit.h"
#include "tools/cli/identity_dir.h"

namespace signet::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Serves what the test puts in; refuses calls without the security header (SPIFFE Workload API 2.2.1).
class FakeWorkloadApi final : public SpiffeWorkloadAPI::Service {
 public:
  std::vector<X509SVIDResponse> updates;  // one after the other, then the stream stays open; none: PERMISSION_DENIED
  JWTSVIDResponse jwts;

  grpc::Status FetchX509SVID(grpc::ServerContext* context, const X509SVIDRequest*,
                             grpc::ServerWriter<X509SVIDResponse>* writer) override {
    if (!HasHeader(*context)) return {grpc::StatusCode::INVALID_ARGUMENT, "security header missing"};
    if (updates.empty()) return {grpc::StatusCode::PERMISSION_DENIED, "no identity issued"};
    for (const X509SVIDResponse& update : updates) writer->Write(update);
    return grpc::Status::OK;
  }
  grpc::Status FetchJWTSVID(grpc::ServerContext* context, const JWTSVIDRequest* request,
                            JWTSVIDResponse* response) override {
    if (!HasHeader(*context)) return {grpc::StatusCode::INVALID_ARGUMENT, "security header missing"};
    audience.assign(request->audience().begin(), request->audience().end());
    *response = jwts;
    return grpc::Status::OK;
  }
  grpc::Status ValidateJWTSVID(grpc::ServerContext* context, const ValidateJWTSVIDRequest* request,
                               ValidateJWTSVIDResponse* response) override {
    if (!HasHeader(*context)) return {grpc::StatusCode::INVALID_ARGUMENT, "security header missing"};
    if (request->svid() != "good.token.here") return {grpc::StatusCode::INVALID_ARGUMENT, "audience does not match"};
    response->set_spiffe_id("spiffe://example.org/app");
    (*response->mutable_claims()->mutable_fields())["sub"].set_string_value("spiffe://example.org/app");
    return grpc::Status::OK;
  }
  std::vector<std::string> audience;

 private:
  static bool HasHeader(const grpc::ServerContext& context) {
    const auto it = context.client_metadata().find("workload.spiffe.io");
    return it != context.client_metadata().end() && it->second == "true";
  }
};

class WorkloadVerbsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { rpc::PrepareProcess(); }

  WorkloadVerbsTest() : root_(testing::SelfSigned(testing::CaTemplate("root", absl::Now()))) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
    builder.RegisterService(&api_);
    server_ = builder.BuildAndStart();
  }
  ~WorkloadVerbsTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  X509SVIDResponse Update(absl::string_view id) {
    const testing::TestCert leaf = testing::IssuedBy(root_, testing::LeafTemplate(id, absl::Now()));
    X509SVIDResponse response;
    X509SVID& svid = *response.add_svids();
    svid.set_spiffe_id(std::string(id));
    svid.set_x509_svid(leaf.certificate.der());
    svid.set_x509_svid_key(leaf.key.Pkcs8Der());
    svid.set_bundle(root_.certificate.der());
    svid.set_hint("main");
    (*response.mutable_federated_bundles())["spiffe://other.org"] = root_.certificate.der();
    return response;
  }
  Result Cli(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.end(), {"--socket", socket_});
    return RunCli(std::move(arguments), input);
  }

  testing::TempDir dir_;
  const std::string socket_ = dir_.file("api.sock");
  testing::TestCert root_;
  FakeWorkloadApi api_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(WorkloadVerbsTest, FetchesAndShows) {
  api_.updates = {Update("spiffe://example.org/app")};
  const Result text = Cli({"svid", "fetch"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("spiffe id     spiffe://example.org/app\n"), HasSubstr("hint          main\n"),
                              HasSubstr("federated  spiffe://other.org\n"), Not(HasSubstr("PRIVATE"))));
  X509SVIDResponse json;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(Cli({"svid", "fetch", "--output", "json"}).out, &json).ok());
  EXPECT_EQ(json.svids(0).x509_svid(), api_.updates[0].svids(0).x509_svid());
}

TEST_F(WorkloadVerbsTest, WritesFilesThatBelongTogether) {
  api_.updates = {Update("spiffe://example.org/app")};
  const std::string out = dir_.file("out");
  ASSERT_EQ(Cli({"svid", "fetch", "--write", out}).code, 0);
  SIGNET_ASSERT_OK_AND_ASSIGN(const IdentityDir identity, ReadIdentityDir(out));
  EXPECT_EQ(identity.svid.id.string(), "spiffe://example.org/app");
  struct stat info {};
  ASSERT_EQ(stat((out + "/svid.0.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(stat((out + "/federated_bundle.0.pem").c_str(), &info), 0);
}

TEST_F(WorkloadVerbsTest, SaysWhatToDoWithoutAnIdentity) {  // EP-12
  const Result refused = Cli({"svid", "fetch"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("no identity issued"), HasSubstr("next: no entry matches this process")));
}

TEST_F(WorkloadVerbsTest, WatchesUpdates) {
  api_.updates = {Update("spiffe://example.org/app"), Update("spiffe://example.org/app")};
  const Result text = Cli({"svid", "watch", "--updates", "2"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr(" update 1\n"), HasSubstr(" update 2\n")));
  const std::string json = Cli({"svid", "watch", "--updates", "2", "--output", "json"}).out;
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 2);  // a line each, for programs
}

TEST_F(WorkloadVerbsTest, FetchesJwts) {
  JWTSVID& svid = *api_.jwts.add_svids();
  svid.set_spiffe_id("spiffe://example.org/app");
  svid.set_svid("a.b.c");
  const Result one = Cli({"svid", "fetch-jwt", "--audience", "db", "--audience", "cache"});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(one.out, "a.b.c\n");  // nothing but the token: TOKEN=$(...)
  EXPECT_THAT(one.err, HasSubstr("spiffe://example.org/app"));
  EXPECT_THAT(api_.audience, ::testing::ElementsAre("db", "cache"));
  ASSERT_EQ(Cli({"svid", "fetch-jwt", "--audience", "db", "--write", dir_.file("token")}).code, 0);
  struct stat info {};
  ASSERT_EQ(stat(dir_.file("token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  *api_.jwts.add_svids() = svid;
  EXPECT_EQ(Cli({"svid", "fetch-jwt", "--audience", "db", "--write", dir_.file("token")}).code, 2);
}

TEST_F(WorkloadVerbsTest, ValidatesAndNeverRepeatsTheToken) {  // N13
  const Result valid = Cli({"svid", "validate", "--audience", "db", "--svid", "-"}, "good.token.here\n");
  EXPECT_EQ(valid.code, 0) << valid.err;
  EXPECT_THAT(valid.out, HasSubstr("valid: spiffe://example.org/app"));
  const Result wrong = Cli({"svid", "validate", "--audience", "db", "bad.token.here"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err, AllOf(HasSubstr("audience does not match"), Not(HasSubstr("bad.token.here"))));
}

}  // namespace
}  // namespace signet::cli
