// JWT-SVIDs with a true signature (Z4): the input is a header, a newline, and claims; the target signs them. Oracle:
// what validates satisfies the standard's rules by a second reading of the same JSON.
#include <stdint.h>

#include <boost/json.hpp>
#include <memory>
#include <string>

#include "common/jose/jws.h"
#include "common/spiffe/jwt_svid.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/jwt_keys.h"

namespace signet::spiffe {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::shared_ptr<const Bundle> OwnBundle() {
  static const auto bundle = std::make_shared<const Bundle>(Bundle{
      .trust_domain = *TrustDomain::Parse("td"),
      .x509_authorities = {},
      .jwt_authorities = {{.key_id = "k1", .key = fuzz::Key().public_key()}},
  });
  return bundle;
}

boost::json::value ParseLeniently(absl::string_view text) {
  boost::json::error_code ec;
  boost::json::value value = boost::json::parse(boost::json::string_view(text.data(), text.size()), ec);
  FUZZ_CHECK(!ec);
  return value;
}

bool HasAudience(const boost::json::value& aud, absl::string_view wanted) {
  const auto is_wanted = [&](const boost::json::value& v) {
    return v.is_string() && absl::string_view(v.get_string().data(), v.get_string().size()) == wanted;
  };
  if (!aud.is_array()) return is_wanted(aud);
  for (const auto& item : aud.get_array()) {
    if (is_wanted(item)) return true;
  }
  return false;
}

void CheckHeader(const boost::json::object& header) {
  FUZZ_CHECK(header.at("alg") == "ES256");
  FUZZ_CHECK(header.at("kid") == "k1");
  const auto* typ = header.if_contains("typ");
  FUZZ_CHECK(typ == nullptr || *typ == "JWT" || *typ == "JOSE");
  for (const char* name : {"crit", "jwk", "jku", "x5u", "x5c", "b64"}) FUZZ_CHECK(!header.contains(name));
}

void CheckClaims(const boost::json::object& claims, const ValidatedJwtSvid& svid) {
  FUZZ_CHECK(HasAudience(claims.at("aud"), "a"));
  FUZZ_CHECK(claims.at("exp").is_int64() && claims.at("exp").get_int64() >= absl::ToUnixSeconds(kNow) - 60);
  for (const char* name : {"nbf", "iat"}) {
    const auto* time = claims.if_contains(name);
    FUZZ_CHECK(time == nullptr || (time->is_int64() && time->get_int64() <= absl::ToUnixSeconds(kNow) + 60));
  }
  const auto& sub = claims.at("sub").as_string();
  FUZZ_CHECK(svid.id.string() == std::string(sub.data(), sub.size()));
  FUZZ_CHECK(svid.id.trust_domain_name() == "td");
}

}  // namespace
}  // namespace signet::spiffe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet;
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t newline = input.find('\n');
  if (newline == absl::string_view::npos) return 0;
  const absl::string_view header = input.substr(0, newline), claims = input.substr(newline + 1);
  const auto token = jose::SignCompact(header, claims, fuzz::Key().type(), [](auto hash, absl::string_view message) {
    return fuzz::Key().Sign(hash, message);
  });
  FUZZ_CHECK(token.ok());
  const auto bundle_of = [](const spiffe::TrustDomain& td) {
    return td.name() == "td" ? spiffe::OwnBundle() : nullptr;
  };
  const auto svid = spiffe::ValidateJwtSvid(*token, "a", bundle_of, spiffe::kNow);
  if (!svid.ok()) return 0;
  spiffe::CheckHeader(spiffe::ParseLeniently(header).as_object());
  spiffe::CheckClaims(spiffe::ParseLeniently(claims).as_object(), *svid);
  return 0;
}
