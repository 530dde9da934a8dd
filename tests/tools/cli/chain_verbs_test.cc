#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/oauth/chain_file.h"
#include "tests/common/oauth/sample_chain.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/cli/cli_kit.h"

namespace signet::cli {
namespace {

using ::testing::HasSubstr;

class ChainVerbsTest : public ::testing::Test {
 protected:
  testing::TempDir dir;
  oauth::sample::Chain chain = oauth::sample::MakeChain();
  std::vector<std::string> receipts = chain.SignReceipts();
  std::string token = chain.SignToken();

  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = absl::StrCat(dir.path(), "/", name);
    std::ofstream(path) << text;
    return path;
  }
  std::string Receipts() const { return absl::StrCat("[\"", absl::StrJoin(receipts, "\",\""), "\"]"); }
  std::string Whole() const {
    return absl::StrCat(R"({"issuer":")", oauth::sample::kIssuer, R"(","token":")", token, R"(","receipts":)",
                        Receipts(), R"(,"token_keys":)", oauth::KeysJson(chain.token_keys()), R"(,"receipt_keys":)",
                        oauth::KeysJson(chain.receipt_keys()), "}");
  }
};

TEST_F(ChainVerbsTest, T10ProvesAChainOffline) {
  const Result result = RunCli({"chain", "verify", Write("chain.json", Whole())});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr(oauth::sample::kPlannerId));
  EXPECT_THAT(result.out, HasSubstr("proven\n"));
  const Result json = RunCli({"chain", "verify", "-", "--output", "json"}, Whole());
  EXPECT_EQ(json.code, 0) << json.err;
  EXPECT_THAT(json.out, HasSubstr(R"("proven":true)"));
}

TEST_F(ChainVerbsTest, TakesTokenAndKeysFromFilesOfTheirOwn) {
  // As `chain show --output json` prints it.
  const std::string file =
      Write("chain.json", absl::StrCat(R"({"txn":"txn-1","receipts":)", Receipts(), R"(,"hops":[],"problem":""})"));
  std::vector<std::string> arguments = {"chain", "verify", file};
  EXPECT_EQ(RunCli(arguments).code, 2);
  arguments.insert(arguments.end(), {"--jwks", Write("jwks.json", oauth::KeysJson(chain.token_keys()))});
  EXPECT_THAT(RunCli(arguments).err, HasSubstr("--receipt-jwks"));
  arguments.insert(arguments.end(),
                   {"--receipt-jwks", Write("receipt-jwks.json", oauth::KeysJson(chain.receipt_keys()))});
  EXPECT_THAT(RunCli(arguments).err, HasSubstr("--issuer"));
  arguments.insert(arguments.end(), {"--issuer", oauth::sample::kIssuer});
  const Result without_token = RunCli(arguments);
  EXPECT_EQ(without_token.code, 1);
  EXPECT_THAT(without_token.err, HasSubstr("incomplete"));
  arguments.insert(arguments.end(), {"--token", Write("token.jwt", token + "\n")});
  EXPECT_EQ(RunCli(arguments).code, 0);
}

TEST_F(ChainVerbsTest, KeysOfTheCommandLineStandBeforeThoseInTheFile) {
  const oauth::sample::Chain other = oauth::sample::MakeChain();
  const Result result = RunCli({"chain", "verify", Write("chain.json", Whole()), "--jwks",
                                Write("jwks.json", oauth::KeysJson(other.token_keys()))});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("not proven"));
}

TEST_F(ChainVerbsTest, NamesTheHopThatIsWrong) {
  receipts.erase(receipts.begin() + 1);
  const Result result = RunCli({"chain", "verify", Write("chain.json", Whole())});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("receipt 2: incomplete"));
  EXPECT_EQ(RunCli({"chain", "verify", Write("no.json", "[]")}).code, 1);
  EXPECT_EQ(RunCli({"chain", "verify", dir.path() + "/absent"}).code, 1);
}

}  // namespace
}  // namespace signet::cli
