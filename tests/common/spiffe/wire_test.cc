#include "common/spiffe/wire.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "spire/api/types/bundle.pb.h"
#include "spire/api/types/entry.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::spiffe {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::signet::testing::CaTemplate;
using ::signet::testing::IsOk;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

wire::Entry FullEntry() {
  wire::Entry e;
  e.set_id("entry-1");
  e.mutable_spiffe_id()->set_trust_domain("td");
  e.mutable_spiffe_id()->set_path("/w");
  e.mutable_parent_id()->set_trust_domain("td");
  e.mutable_parent_id()->set_path("/spire/agent/join_token/t");
  for (const char* value : {"uid:1", "uid:2"}) {
    auto* s = e.add_selectors();
    s->set_type("unix");
    s->set_value(value);
  }
  e.set_x509_svid_ttl(60);
  e.set_jwt_svid_ttl(30);
  e.add_federates_with("a.example");
  e.add_federates_with("b.example");
  e.set_admin(true);
  e.set_downstream(true);
  e.set_store_svid(true);
  e.set_expires_at(1'900'000'000);
  e.add_dns_names("z.example");
  e.add_dns_names("a.example");
  e.set_revision_number(7);
  e.set_hint("internal");
  e.set_created_at(1'700'000'000);
  e.mutable_additional_attributes()->set_disable_x509_svid_prefetch(true);
  e.mutable_additional_attributes()->set_jwt_svid_include_jti(true);
  return e;
}

TEST(EntryWireTest, FullEntryNamesEveryField) {  // guards the tests below against a field added to the schema
  const wire::Entry e = FullEntry();
  std::vector<const google::protobuf::FieldDescriptor*> set;
  e.GetReflection()->ListFields(e, &set);
  EXPECT_EQ(static_cast<int>(set.size()), e.GetDescriptor()->field_count());
}

TEST(EntryWireTest, EveryFieldSurvivesTheRoundTrip) {  // N21
  SIGNET_ASSERT_OK_AND_ASSIGN(const Entry entry, EntryFromWire(FullEntry()));
  wire::Entry again;
  ToWire(entry, &again);
  EXPECT_TRUE(MessageDifferencer::Equals(again, FullEntry())) << again.DebugString();
}

TEST(EntryWireTest, EachFlagStandsForItselfAlone) {  // N21: SPIRE once copied admin into downstream
  for (const char* name : {"admin", "downstream", "store_svid"}) {
    wire::Entry e = FullEntry();
    e.clear_admin();
    e.clear_downstream();
    e.clear_store_svid();
    e.GetReflection()->SetBool(&e, e.GetDescriptor()->FindFieldByName(name), true);
    wire::Entry again;
    ToWire(*EntryFromWire(e), &again);
    EXPECT_TRUE(MessageDifferencer::Equals(again, e)) << name;
  }
  for (bool prefetch : {false, true}) {
    wire::Entry e = FullEntry();
    e.mutable_additional_attributes()->set_disable_x509_svid_prefetch(prefetch);
    e.mutable_additional_attributes()->set_jwt_svid_include_jti(!prefetch);
    wire::Entry again;
    ToWire(*EntryFromWire(e), &again);
    EXPECT_TRUE(MessageDifferencer::Equals(again, e));
  }
}

TEST(EntryWireTest, NormalisesSetsAndKeepsTheOrderOfDnsNames) {
  wire::Entry e = FullEntry();
  *e.add_selectors() = e.selectors(0);
  e.add_federates_with("spiffe://a.example");
  e.add_dns_names("z.example");
  SIGNET_ASSERT_OK_AND_ASSIGN(const Entry entry, EntryFromWire(e));
  EXPECT_EQ(entry.selectors.size(), 2u);
  EXPECT_THAT(entry.federates_with, ElementsAre("a.example", "b.example"));
  EXPECT_THAT(entry.dns_names, ElementsAre("z.example", "a.example"));
}

struct BadEntry {
  const char* field;
  std::function<void(wire::Entry&)> change;
};

TEST(EntryWireTest, NamesTheFieldItRefuses) {
  const std::vector<BadEntry> rows = {
      {"id", [](auto& e) { e.set_id("a/b"); }},
      {"id", [](auto& e) { e.set_id("a b"); }},
      {"id", [](auto& e) { e.set_id(std::string(256, 'a')); }},
      {"id", [](auto& e) { e.set_id("a\xc3\xa9"); }},
      {"spiffe_id", [](auto& e) { e.clear_spiffe_id(); }},
      {"spiffe_id", [](auto& e) { e.mutable_spiffe_id()->set_trust_domain("TD"); }},
      {"spiffe_id", [](auto& e) { e.mutable_spiffe_id()->set_trust_domain("spiffe://td"); }},
      {"spiffe_id", [](auto& e) { e.mutable_spiffe_id()->set_path("w"); }},
      {"spiffe_id", [](auto& e) { e.mutable_spiffe_id()->set_path("/a/../w"); }},
      {"spiffe_id", [](auto& e) { e.mutable_spiffe_id()->set_path("/a/"); }},
      {"parent_id", [](auto& e) { e.clear_parent_id(); }},
      {"parent_id", [](auto& e) { e.mutable_parent_id()->set_path("/%61"); }},
      {"selectors", [](auto& e) { e.clear_selectors(); }},
      {"selectors[1]", [](auto& e) { e.mutable_selectors(1)->set_type("a:b"); }},
      {"selectors[0]", [](auto& e) { e.mutable_selectors(0)->set_value(""); }},
      {"selectors",
       [](auto& e) {
         for (int i = 0; i < 99; ++i) *e.add_selectors() = e.selectors(0);
       }},
      {"x509_svid_ttl", [](auto& e) { e.set_x509_svid_ttl(-1); }},
      {"jwt_svid_ttl", [](auto& e) { e.set_jwt_svid_ttl(INT32_MIN); }},
      {"federates_with[1]", [](auto& e) { e.set_federates_with(1, "UPPER"); }},
      {"federates_with",
       [](auto& e) {
         for (int i = 0; i < 99; ++i) e.add_federates_with("a");
       }},
      {"dns_names[0]", [](auto& e) { e.set_dns_names(0, ""); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, "a..b"); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, "-a"); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, "a."); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, "a b"); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, "a.*.b"); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, std::string(64, 'a')); }},
      {"dns_names[1]", [](auto& e) { e.set_dns_names(1, std::string("a\0b", 3)); }},
      {"dns_names",
       [](auto& e) {
         for (int i = 0; i < 63; ++i) e.add_dns_names("a");
       }},
      {"hint", [](auto& e) { e.set_hint(std::string(1025, 'h')); }},  // WL-25
      {"expires_at", [](auto& e) { e.set_expires_at(-1); }},
      {"expires_at", [](auto& e) { e.set_expires_at(253402300800); }},
      {"created_at", [](auto& e) { e.set_created_at(-1); }},
      {"revision_number", [](auto& e) { e.set_revision_number(-1); }},
  };
  for (const BadEntry& row : rows) {
    wire::Entry e = FullEntry();
    row.change(e);
    EXPECT_THAT(EntryFromWire(e),
                StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(absl::StrCat(row.field, ":"))));
  }
}

TEST(EntryWireTest, TakesTheLargestAllowed) {  // ID-11, WL-25
  wire::Entry e = FullEntry();
  e.mutable_spiffe_id()->set_path(absl::StrCat("/", std::string(2036, 'a')));
  e.set_id(std::string(255, 'a'));
  e.set_hint(std::string(1024, 'h'));
  e.set_x509_svid_ttl(INT32_MAX);
  e.set_dns_names(0, "*.example.org");
  e.set_dns_names(1, absl::StrCat(std::string(63, 'a'), ".", std::string(63, 'b')));
  while (e.selectors_size() < 100) {
    auto* s = e.add_selectors();
    s->set_type("t");
    s->set_value(absl::StrCat(e.selectors_size()));
  }
  SIGNET_ASSERT_OK_AND_ASSIGN(const Entry entry, EntryFromWire(e));
  EXPECT_EQ(entry.spiffe_id.string().size(), 2048u);
  wire::Entry again;
  ToWire(entry, &again);
  EXPECT_EQ(again.x509_svid_ttl(), INT32_MAX);
  e.mutable_spiffe_id()->set_path(absl::StrCat("/", std::string(2037, 'a')));  // ID-12
  EXPECT_THAT(EntryFromWire(e), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(EntryWireTest, AnUpdateReplacesWhatTheMaskNames) {
  const Entry before = *EntryFromWire(FullEntry());
  wire::Entry change;
  change.set_x509_svid_ttl(99);
  change.mutable_spiffe_id()->set_trust_domain("td");
  change.mutable_spiffe_id()->set_path("/new");

  Entry entry = before;
  wire::EntryMask nothing;
  SIGNET_ASSERT_OK(UpdateFromWire(change, nothing, entry));
  EXPECT_EQ(entry, before);

  wire::EntryMask mask;
  mask.set_x509_svid_ttl(true);
  mask.set_spiffe_id(true);
  mask.set_admin(true);
  mask.set_dns_names(true);
  mask.set_created_at(true);
  mask.set_revision_number(true);
  SIGNET_ASSERT_OK(UpdateFromWire(change, mask, entry));
  Entry expected = before;
  expected.x509_svid_ttl = absl::Seconds(99);
  expected.spiffe_id = *Id::Parse("spiffe://td/new");
  expected.admin = false;
  expected.dns_names.clear();
  EXPECT_EQ(entry, expected);

  mask.set_selectors(true);  // none given
  EXPECT_THAT(UpdateFromWire(change, mask, entry),
              StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("selectors:")));
  EXPECT_EQ(entry, expected);
}

// Each switch of a mask keeps the field of its own name and no other.
template <typename Message, typename Mask>
void CheckMask(const Message& full) {
  const auto* mask_type = Mask::descriptor();
  for (int i = 0; i < mask_type->field_count(); ++i) {
    Mask mask;
    mask.GetReflection()->SetBool(&mask, mask_type->field(i), true);
    Message masked = full;
    ApplyMask(mask, &masked);
    for (int f = 0; f < Message::descriptor()->field_count(); ++f) {
      const auto* field = Message::descriptor()->field(f);
      const bool is_key = field->number() == 1;
      const bool present = field->is_repeated() ? masked.GetReflection()->FieldSize(masked, field) > 0
                                                : masked.GetReflection()->HasField(masked, field);
      EXPECT_EQ(present, is_key || field->name() == mask_type->field(i)->name())
          << mask_type->field(i)->name() << " " << field->name();
    }
  }
}

TEST(EntryWireTest, AMaskKeepsWhatItNames) { CheckMask<wire::Entry, wire::EntryMask>(FullEntry()); }

class BundleWireTest : public ::testing::Test {
 protected:
  wire::Bundle Full() {
    wire::Bundle b;
    b.set_trust_domain("td");
    b.add_x509_authorities()->set_asn1(root_.certificate.der());
    b.mutable_x509_authorities(0)->set_tainted(true);
    auto* key = b.add_jwt_authorities();
    key->set_public_key(key_.public_key().spki_der());
    key->set_key_id("k1");
    key->set_expires_at(1'900'000'000);
    key->set_tainted(true);
    b.set_refresh_hint(300);
    b.set_sequence_number(UINT64_MAX);
    return b;
  }
  testing::TestCert root_ = SelfSigned(CaTemplate("root", absl::FromUnixSeconds(1'800'000'000)));
  crypto::PrivateKey key_ = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
};

TEST_F(BundleWireTest, EveryFieldSurvivesTheRoundTrip) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const Bundle bundle, BundleFromWire(Full()));
  wire::Bundle again;
  ToWire(bundle, &again);
  EXPECT_TRUE(MessageDifferencer::Equals(again, Full())) << again.DebugString();
}

TEST_F(BundleWireTest, OneAuthorityMayHoldSeveralCertificates) {
  const auto second = SelfSigned(CaTemplate("second", absl::FromUnixSeconds(1'800'000'000)));
  wire::Bundle b = Full();
  b.mutable_x509_authorities(0)->set_asn1(root_.certificate.der() + second.certificate.der());
  SIGNET_ASSERT_OK_AND_ASSIGN(const Bundle bundle, BundleFromWire(b));
  ASSERT_EQ(bundle.x509_authorities.size(), 2u);
  EXPECT_TRUE(bundle.x509_authorities[1].tainted);
}

TEST_F(BundleWireTest, NamesTheFieldItRefuses) {
  struct Row {
    const char* field;
    std::function<void(wire::Bundle&)> change;
  };
  const std::vector<Row> rows = {
      {"trust_domain", [](auto& b) { b.clear_trust_domain(); }},
      {"trust_domain", [](auto& b) { b.set_trust_domain("TD"); }},
      {"x509_authorities[0]", [](auto& b) { b.mutable_x509_authorities(0)->clear_asn1(); }},
      {"x509_authorities[0]", [](auto& b) { b.mutable_x509_authorities(0)->set_asn1("x"); }},
      {"x509_authorities[0]", [](auto& b) { b.mutable_x509_authorities(0)->mutable_asn1()->append("x"); }},
      {"jwt_authorities[0]: public_key", [](auto& b) { b.mutable_jwt_authorities(0)->set_public_key("x"); }},
      {"jwt_authorities[0]: key_id", [](auto& b) { b.mutable_jwt_authorities(0)->clear_key_id(); }},
      {"jwt_authorities[0]: key_id", [](auto& b) { b.mutable_jwt_authorities(0)->set_key_id(std::string(256, 'k')); }},
      {"jwt_authorities[0]: expires_at", [](auto& b) { b.mutable_jwt_authorities(0)->set_expires_at(-1); }},
      {"jwt_authorities[1]", [](auto& b) { *b.add_jwt_authorities() = b.jwt_authorities(0); }},
      {"refresh_hint", [](auto& b) { b.set_refresh_hint(-1); }},
  };
  for (const Row& row : rows) {
    wire::Bundle b = Full();
    row.change(b);
    EXPECT_THAT(BundleFromWire(b),
                StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(absl::StrCat(row.field, ":"))));
  }
}

TEST_F(BundleWireTest, AMaskKeepsWhatItNames) {
  wire::Bundle full = Full();
  full.add_wit_authorities()->set_key_id("w");
  CheckMask<wire::Bundle, wire::BundleMask>(full);
}

TEST(SelectorsWireTest, MayBeEmpty) {
  wire::Entry e;
  EXPECT_THAT(SelectorsFromWire(e.selectors()), IsOk());
}

}  // namespace
}  // namespace signet::spiffe
