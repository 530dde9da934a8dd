#include "common/nodeattestor/x509_pop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::x509pop {
namespace {

using ::signet::testing::CaTemplate;
using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
const crypto::KeyType kKinds[] = {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kEcP521,
                                  crypto::KeyType::kRsa2048};

TEST(X509PopMessagesTest, EvidenceIsAListOfCertificates) {
  const auto one = SelfSigned(CaTemplate("one", kNow)), two = SelfSigned(CaTemplate("two", kNow));
  const std::vector<crypto::Certificate> chain = {one.certificate, two.certificate};
  EXPECT_EQ(EncodeEvidence(chain), absl::StrCat(R"({"certificates":[")", absl::Base64Escape(one.certificate.der()),
                                                "\",\"", absl::Base64Escape(two.certificate.der()), "\"]}"));
  EXPECT_THAT(ParseEvidence(EncodeEvidence(chain)), IsOkAndHolds(ElementsAre(one.certificate, two.certificate)));
}

TEST(X509PopMessagesTest, EvidenceIsCapped) {  // N6
  const auto cert = SelfSigned(CaTemplate("one", kNow));
  EXPECT_THAT(ParseEvidence(EncodeEvidence(std::vector(5, cert.certificate))), IsOk());
  EXPECT_THAT(ParseEvidence(EncodeEvidence(std::vector(6, cert.certificate))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 5")));
  EXPECT_THAT(ParseEvidence(absl::StrCat(EncodeEvidence({{cert.certificate}}), std::string(128 * 1024, ' '))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
  const auto der_of_17k = absl::Base64Escape(std::string(17 * 1024, '0'));
  EXPECT_THAT(ParseEvidence(absl::StrCat(R"({"certificates":[")", der_of_17k, "\"]}")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("certificates[0]")));
}

TEST(X509PopMessagesTest, RefusesMalformedEvidence) {
  for (absl::string_view json :
       {"", "[]", "{}", R"({"certificates":null})", R"({"certificates":[]})", R"({"certificates":["!"]})",
        R"({"certificates":[1]})", R"({"certificates":["AAAA"]})", R"({"certificates":"AAAA"})"}) {
    EXPECT_THAT(ParseEvidence(json), StatusIs(absl::StatusCode::kInvalidArgument)) << json;
  }
}

TEST(X509PopMessagesTest, TheChallengeHasGosShape) {
  EXPECT_THAT(MakeChallenge(crypto::PrivateKey::Generate(crypto::KeyType::kEcP256)->public_key())->json,
              MatchesRegex(R"re(\{"rsa_signature":null,"ecdsa_signature":\{"nonce":"[A-Za-z0-9+/]{43}="\}\})re"));
  EXPECT_THAT(MakeChallenge(crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048)->public_key())->json,
              MatchesRegex(R"re(\{"rsa_signature":\{"nonce":"[A-Za-z0-9+/]{43}="\},"ecdsa_signature":null\})re"));
  EXPECT_THAT(MakeChallenge(crypto::PrivateKey::Generate(crypto::KeyType::kEd25519)->public_key()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(X509PopMessagesTest, TheHolderOfTheKeyAnswersAndNobodyElse) {
  for (crypto::KeyType kind : kKinds) {
    const crypto::PrivateKey key = *crypto::PrivateKey::Generate(kind), other = *crypto::PrivateKey::Generate(kind);
    const Challenge challenge = *MakeChallenge(key.public_key());
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string response, Respond(key, challenge.json));
    EXPECT_THAT(CheckResponse(key.public_key(), challenge.nonce, response), IsOk()) << crypto::KeyTypeName(kind);
    EXPECT_THAT(CheckResponse(key.public_key(), MakeChallenge(key.public_key())->nonce, response),
                StatusIs(absl::StatusCode::kPermissionDenied));  // an answer to another challenge
    EXPECT_THAT(CheckResponse(key.public_key(), challenge.nonce, *Respond(other, challenge.json)),
                StatusIs(absl::StatusCode::kPermissionDenied));
    // The responder's nonce is signed too.
    boost::json::object changed = boost::json::parse(response).as_object();
    for (auto& member : changed) {
      if (member.value().is_object()) member.value().as_object()["nonce"] = absl::Base64Escape(std::string(32, 'n'));
    }
    EXPECT_THAT(CheckResponse(key.public_key(), challenge.nonce, boost::json::serialize(changed)),
                StatusIs(absl::StatusCode::kPermissionDenied));
  }
}

TEST(X509PopMessagesTest, TheKeyDecidesWhichResponseCounts) {
  const crypto::PrivateKey rsa = *crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048);
  const crypto::PrivateKey ec = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  const Challenge challenge = *MakeChallenge(ec.public_key());
  EXPECT_THAT(Respond(rsa, challenge.json), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rsa_signature")));
  const std::string by_ec = *Respond(ec, challenge.json);
  EXPECT_THAT(CheckResponse(rsa.public_key(), challenge.nonce, by_ec), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(X509PopMessagesTest, RefusesMalformedChallengesAndResponses) {
  const crypto::PrivateKey ec = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  const std::string nonce(32, 'n');
  const std::string b64 = absl::Base64Escape(nonce), short_nonce = absl::Base64Escape(std::string(31, 'n'));
  for (const std::string& json :
       {std::string(), std::string("{}"), std::string("[]"), std::string(R"({"ecdsa_signature":null})"),
        std::string(R"({"ecdsa_signature":{}})"), absl::StrCat(R"({"ecdsa_signature":{"nonce":")", short_nonce, "\"}}"),
        std::string(R"({"ecdsa_signature":{"nonce":"!"}})"), std::string(9000, ' ')}) {
    EXPECT_THAT(Respond(ec, json), StatusIs(absl::StatusCode::kInvalidArgument)) << json;
    EXPECT_THAT(CheckResponse(ec.public_key(), nonce, json), StatusIs(absl::StatusCode::kInvalidArgument)) << json;
  }
  for (absl::string_view numbers : {R"("r":"","s":"AQ==")", R"("r":"AQ==","s":"")", R"("r":"AQ==")"}) {
    EXPECT_THAT(CheckResponse(ec.public_key(), nonce,
                              absl::StrCat(R"({"ecdsa_signature":{"nonce":")", b64, "\",", numbers, "}}")),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << numbers;
  }
  for (absl::string_view numbers : {R"("r":"AA==","s":"AA==")", R"("r":"AQ==","s":"AQ==")"}) {
    EXPECT_THAT(CheckResponse(ec.public_key(), nonce,
                              absl::StrCat(R"({"ecdsa_signature":{"nonce":")", b64, "\",", numbers, "}}")),
                StatusIs(absl::StatusCode::kPermissionDenied))
        << numbers;
  }
}

// Signed by `openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-2`: the longest salt that fits,
// which is also what Go's rsa.SignPSS chooses by default and SPIRE's agents therefore send.
constexpr absl::string_view kSpki =
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA24aii1tNCbLPJpHHf2EGO8wmzxbFG3Ocplf1FRjc2tzHIbGwLeZTgDLNC5kF6xaU"
    "m/Q+OzfPvb3GSo2UI4dlAV2WS5rah+AWEhdZn+ym7gm2OWT5MwSo4ynWu9SO7uLCYjPm+3btBHZ3glBnom+FiUbPQ/pq//419BRtlMbqh2Dj"
    "NGeCEnY5UBFMpM34r4OtBdDoF5P2zOC3BpCCj9YiWjb4v1TB+DOaRJ2OqQSB7GOdjergYaGsabEYyo9S6G4wiYK0zNkQIyCnB/tV6qUuHR+x"
    "MfCdpOqEEbOboMxj/5sgSzjuzFOGFG2xU2TK5Y1Ait4Dn7o8XrPfW4RPV6P8ZQIDAQAB";
constexpr absl::string_view kSignature =
    "B7Z+gXzi1ObHPCOkTdCsuIfxa7xxTyf32YYSiHNnCE04ZIPKzytzoSN4bT8zBCNkYlXQiYr04Ky6qRVJ9UZbrpTqkNEXsnq1iGOL+bfnasPQ"
    "CbF38CuivBoKveKjAVVUS4mt6bwLEXkmUW2pttxCUuFb0Qch7TJC8gvJyCdSVOSTHiTf2ElEQ8Z1DSrNx+dliTDEV4PQZyMqcHDxjo61XEJo"
    "Ul49KWOU3qDCKKAs90shxkXUYMqdgZM3/RLKafNftZTEjkAD/iaMTJVoBPhdtfS1PQl1YWH1x7li2ZAxJlLxdr5RAYHZVW5v4TmtVq4/qzfy"
    "86IJjv1BtDSuRjb2Aw==";

TEST(X509PopMessagesTest, TakesTheLongSaltOfSpiresAgents) {
  std::string spki;
  ASSERT_TRUE(absl::Base64Unescape(kSpki, &spki));
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey key, crypto::PublicKey::ParseSpki(spki));
  const std::string response = absl::StrCat(R"({"rsa_signature":{"nonce":")", absl::Base64Escape(std::string(32, 'r')),
                                            R"(","signature":")", kSignature, "\"},\"ecdsa_signature\":null}");
  EXPECT_THAT(CheckResponse(key, std::string(32, 'c'), response), IsOk());
  EXPECT_THAT(CheckResponse(key, std::string(32, 'd'), response), StatusIs(absl::StatusCode::kPermissionDenied));
}

}  // namespace
}  // namespace signet::x509pop
