// Writes chain files for the two verifiers to judge: `make_cases DIR` makes DIR/good-NAME.json and DIR/bad-NAME.json.
// Keys are fresh each time.
#include <stdio.h>
#include <stdlib.h>

#include <boost/json.hpp>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/jose/jws.h"
#include "common/oauth/access_token.h"
#include "common/oauth/receipt.h"
#include "tests/common/oauth/chain_lies.h"

namespace signet::oauth::sample {
namespace {

struct File {
  std::string issuer = kIssuer;
  std::string token;
  std::vector<std::string> receipts;
  Keys token_keys, receipt_keys;
};

class Writer {
 public:
  explicit Writer(std::string folder) : folder_(std::move(folder)) {}
  void Good(absl::string_view name, const File& file) const { Write("good", name, file); }
  void Bad(absl::string_view name, const File& file) const { Write("bad", name, file); }

 private:
  void Write(absl::string_view expected, absl::string_view name, const File& file) const {
    boost::json::object object;
    object["issuer"] = file.issuer;
    object["token"] = file.token;
    object["receipts"] = boost::json::value_from(file.receipts);
    object["token_keys"] = boost::json::parse(KeysJson(file.token_keys));
    object["receipt_keys"] = boost::json::parse(KeysJson(file.receipt_keys));
    std::ofstream out(
        absl::StrCat(folder_, "/", expected, "-", absl::StrReplaceAll(name, {{" ", "_"}, {",", ""}}), ".json"));
    out << boost::json::serialize(object);
    if (!out.flush()) {
      std::cerr << "cannot write to " << folder_ << "\n";
      exit(1);
    }
  }
  const std::string folder_;
};

File FileOf(Chain& chain) {
  File file;
  file.receipts = chain.SignReceipts();
  file.token = chain.SignToken();
  file.token_keys = chain.token_keys();
  file.receipt_keys = chain.receipt_keys();
  return file;
}

// The JWT with another header or payload, signed by the rightful key.
std::string Resigned(const std::string& jws, const crypto::PrivateKey& key, absl::string_view header,
                     absl::string_view payload) {
  const std::vector<std::string> parts = absl::StrSplit(jws, '.');
  const std::string old_header = *jose::Base64UrlDecode(parts[0]);
  const std::string old_payload = *jose::Base64UrlDecode(parts[1]);
  return *jose::SignCompact(header.empty() ? old_header : header, payload.empty() ? old_payload : payload, key.type(),
                            ::signet::testing::SignerOf(key));
}
// One of our payloads with `more` put in front of its members.
std::string With(const std::string& jws, absl::string_view more) {
  const std::vector<std::string> parts = absl::StrSplit(jws, '.');
  return absl::StrCat("{", more, ",", jose::Base64UrlDecode(parts[1])->substr(1));
}
std::string Flipped(std::string jws, size_t at) {
  jws[at] = jws[at] == 'A' ? 'B' : 'A';
  return jws;
}

void WriteGood(const Writer& writer) {
  Chain chain = MakeChain();
  writer.Good("four receipts", FileOf(chain));

  File inside = FileOf(chain);
  Chain with = chain;
  with.token.receipts = inside.receipts;
  inside.token = with.SignToken();
  writer.Good("receipts given and inside", inside);
  inside.receipts.clear();
  writer.Good("receipts only inside", inside);

  Chain rsa = MakeChain(*crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048),
                        *crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048));
  writer.Good("RSA keys", FileOf(rsa));

  Chain refreshed = MakeChain();
  refreshed.hops[0].token_hash = Hash("jti-1-renewed");
  refreshed.hops[1].subject_token = Hash("jti-1-renewed");
  writer.Good("the root was refreshed", FileOf(refreshed));

  Chain tighter = MakeChain();
  tighter.token.atoms[0].constraints["rows"].max = 3;
  tighter.token.expires_at -= absl::Seconds(5);
  writer.Good("a token narrower than its receipt", FileOf(tighter));

  Chain unknown = MakeChain();
  for (size_t i = 1; i < unknown.hops.size(); ++i) {
    for (Atom& atom : unknown.hops[i].bounds) atom.constraints["region"].other["like"] = "\"eu-*\"";
  }
  unknown.token.atoms = unknown.hops.back().bounds;
  writer.Good("an operator nobody knows", FileOf(unknown));

  Chain own = MakeChain();
  own.hops.resize(1);
  own.hops[0].user = own.hops[0].grant = own.hops[0].task = own.hops[0].subject_token = "";
  AccessToken& t = own.token;
  t.subject = t.client_id = kPlannerId;
  t.subject_profile = "ai_agent";
  t.actors.clear();
  t.audience = own.hops[0].audience;
  t.jwt_id = "jti-1";
  t.atoms = own.hops[0].bounds;
  t.binding = own.hops[0].binding;
  t.context = {.depth = 1, .max_depth = 1, .root = "jti-1", .calls = 10};
  writer.Good("own authority", FileOf(own));

  // A tree: another branch grows from the first receipt.
  Chain branch = chain;
  branch.hops.resize(2);
  branch.hops[1].token_hash = Hash("jti-other");
  File tree = FileOf(chain);
  const std::vector<std::string> others =
      branch.SignReceipts();  // ECDSA: its root has another signature, so another hash
  tree.receipts.insert(tree.receipts.begin(), others.begin(), others.end());
  writer.Good("picked from a tree", tree);
}

void WriteBadFiles(const Writer& writer) {
  Chain chain = MakeChain();
  const File good = FileOf(chain);
  const auto bad = [&](absl::string_view name, const std::function<void(File&)>& change) {
    File file = good;
    change(file);
    writer.Bad(name, file);
  };
  for (size_t i = 0; i < good.receipts.size(); ++i) {
    bad(absl::StrCat("dropped ", i),
        [&](File& f) { f.receipts.erase(f.receipts.begin() + static_cast<std::ptrdiff_t>(i)); });
    bad(absl::StrCat("flipped signature ", i),
        [&](File& f) { f.receipts[i] = Flipped(f.receipts[i], f.receipts[i].size() - 9); });
    bad(absl::StrCat("flipped payload ", i),
        [&](File& f) { f.receipts[i] = Flipped(f.receipts[i], f.receipts[i].find('.') + 9); });
    if (i > 0) bad(absl::StrCat("swapped ", i), [&](File& f) { std::swap(f.receipts[i - 1], f.receipts[i]); });
  }
  bad("reversed", [](File& f) { std::reverse(f.receipts.begin(), f.receipts.end()); });
  bad("truncated at the tail", [](File& f) { f.receipts.resize(2); });
  bad("no receipts", [](File& f) { f.receipts.clear(); });
  bad("no token", [](File& f) { f.token.clear(); });
  bad("token flipped", [](File& f) { f.token = Flipped(f.token, f.token.size() - 9); });
  bad("token is a receipt", [](File& f) { f.token = f.receipts.back(); });
  bad("receipt is the token", [](File& f) { f.receipts.back() = f.token; });
  bad("key sets exchanged", [](File& f) { std::swap(f.token_keys, f.receipt_keys); });
  bad("one key set for both", [](File& f) { f.receipt_keys = f.token_keys; });
  bad("no keys", [](File& f) { f.receipt_keys.clear(); });
  bad("key of that name is another", [](File& f) { f.token_keys = {{"t1", f.receipt_keys.at("r1")}}; });
  bad("other issuer", [](File& f) { f.issuer = "https://id.example.org/"; });
  Chain other = MakeChain(chain.receipt_key, chain.token_key);
  other.token.txn = "txn-2";
  for (Receipt& hop : other.hops) hop.txn = "txn-2";
  const File others = FileOf(other);
  bad("token of another chain", [&](File& f) { f.token = others.token; });
  bad("receipts of another chain", [&](File& f) { f.receipts = others.receipts; });
  bad("last receipt of another chain", [&](File& f) { f.receipts.back() = others.receipts.back(); });
  // Rightful signatures over the wrong form.
  const auto receipt = [&](absl::string_view name, absl::string_view header, absl::string_view payload) {
    File file = good;
    file.receipts.back() = Resigned(file.receipts.back(), chain.receipt_key, header, payload);
    Chain fitting = chain;
    fitting.token.context.receipt_hash = ReceiptHash(file.receipts.back());
    file.token = fitting.SignToken();
    writer.Bad(absl::StrCat("receipt with ", name), file);
  };
  receipt("typ JWT", R"({"alg":"ES256","kid":"r1","typ":"JWT"})", "");
  receipt("typ of a token", R"({"alg":"ES256","kid":"r1","typ":"at+jwt"})", "");
  receipt("no kid", R"({"alg":"ES256","typ":"signet-receipt+jwt"})", "");
  receipt("crit", R"({"alg":"ES256","crit":["x"],"kid":"r1","typ":"signet-receipt+jwt"})", "");
  receipt("alg none", R"({"alg":"none","kid":"r1","typ":"signet-receipt+jwt"})", "");
  receipt("alg HS256", R"({"alg":"HS256","kid":"r1","typ":"signet-receipt+jwt"})", "");
  receipt("alg of another key", R"({"alg":"RS256","kid":"r1","typ":"signet-receipt+jwt"})", "");
  for (const char* claim : {"iss", "aud", "sub", "scope", "note"}) {
    receipt(claim, "", With(good.receipts.back(), absl::StrCat("\"", claim, "\":\"x\"")));
  }
  receipt("a key twice", "", With(good.receipts.back(), R"("depth":3)"));
  receipt("a number that is none", "",
          absl::StrReplaceAll(With(good.receipts.back(), R"("x":1)"),
                              {{"\"x\":1,", ""}, {"\"depth\":3", "\"depth\":3.0"}}));
  const auto token = [&](absl::string_view name, absl::string_view header, absl::string_view payload) {
    File file = good;
    file.token = Resigned(file.token, chain.token_key, header, payload);
    writer.Bad(absl::StrCat("token with ", name), file);
  };
  token("typ JWT", R"({"alg":"ES256","kid":"t1","typ":"JWT"})", "");
  token("no kid", R"({"alg":"ES256","typ":"at+jwt"})", "");
  token("jwk", R"({"alg":"ES256","jwk":{},"kid":"t1","typ":"at+jwt"})", "");
  token("a key twice", "", With(good.token, R"("aud":"https://mcp.example.org/orders")"));
  const std::string payload = *jose::Base64UrlDecode(std::vector<std::string>(absl::StrSplit(good.token, '.'))[1]);
  token("a bound nobody knows", "",
        absl::StrReplaceAll(payload, {{"\"agent_ctx\":{", "\"agent_ctx\":{\"only_on\":\"monday\","}}));
  token("other depth", "", absl::StrReplaceAll(payload, {{"\"depth\":3", "\"depth\":2"}}));
  token("two audiences", "",
        absl::StrReplaceAll(
            payload, {{"\"aud\":\"https://mcp.example.org/orders\"", "\"aud\":[\"https://mcp.example.org/orders\"]"}}));
  // An actor without a place.
  Chain deep = chain;
  while (deep.token.actors.size() <= kMaxDepth)
    deep.token.actors.push_back({.subject = kPlannerId, .issuer = "spiffe://example.org"});
  writer.Bad("six nested acts", FileOf(deep));
  const auto lie = [&](absl::string_view where, const std::vector<Lie>& lies) {
    for (const auto& [name, change] : lies) {
      Chain lying = MakeChain(chain.receipt_key, chain.token_key);
      change(lying);
      writer.Bad(absl::StrCat("lie ", where, " ", name), FileOf(lying));
    }
  };
  lie("link", LinkLies());
  lie("token", TokenLies());
}

}  // namespace
}  // namespace signet::oauth::sample

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_cases DIR\n";
    return 2;
  }
  const signet::oauth::sample::Writer writer(argv[1]);
  signet::oauth::sample::WriteGood(writer);
  signet::oauth::sample::WriteBadFiles(writer);
  return 0;
}
