// The wire is what others published, so it is checked against a table of its own and not against our .proto files:
// every row of tests/data/wire.tsv must be compiled in exactly, and nothing else may stand in those packages. What we
// add belongs into packages signet.* (see ForeignFiles).
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/descriptor_database.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace signet {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::DescriptorPool;
using ::google::protobuf::DescriptorProto;
using ::google::protobuf::EnumDescriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::FieldDescriptorProto;
using ::google::protobuf::FileDescriptor;
using ::google::protobuf::FileDescriptorProto;
using ::google::protobuf::MethodDescriptor;
using ::google::protobuf::ServiceDescriptor;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// "<message, enum or service> <number>" or "<service> rpc <method>" -> "<name>: <type>". An empty message or service
// has the one row "<name> -" -> "-: -".
using Table = std::map<std::string, std::string>;

// Adds one row; a second one for the same key is a fault of the table or of the descriptors.
void AddRow(const std::string& scope, const std::string& number, const std::string& name, const std::string& type,
            Table& table) {
  const std::string key = number == "rpc" ? absl::StrCat(scope, " rpc ", name) : absl::StrCat(scope, " ", number);
  const bool fresh = table.emplace(key, absl::StrCat(name, ": ", type)).second;
  EXPECT_TRUE(fresh) << key << " stands twice";
}

std::string ElementType(const FieldDescriptor& field) {
  if (field.message_type() != nullptr) return field.message_type()->full_name();
  if (field.enum_type() != nullptr) return field.enum_type()->full_name();
  return field.type_name();
}

std::string FieldType(const FieldDescriptor& field) {
  if (field.is_map()) {
    return absl::StrCat("map<", ElementType(*field.message_type()->map_key()), ",",
                        ElementType(*field.message_type()->map_value()), ">");
  }
  std::string type = ElementType(field);
  if (field.is_repeated()) type = absl::StrCat("repeated ", type);
  if (field.is_required()) type = absl::StrCat("required ", type);
  if (field.has_optional_keyword()) type = absl::StrCat("optional ", type);
  if (const auto* oneof = field.real_containing_oneof(); oneof != nullptr) {
    absl::StrAppend(&type, " oneof ", oneof->name());
  }
  return type;
}

void Describe(const EnumDescriptor& type, Table& table) {
  for (int i = 0; i < type.value_count(); ++i) {
    AddRow(type.full_name(), absl::StrCat(type.value(i)->number()), type.value(i)->name(), "enum", table);
  }
}

void Describe(const Descriptor& message, Table& table) {
  if (message.options().map_entry()) return;  // part of the map field, described there
  if (message.field_count() == 0) AddRow(message.full_name(), "-", "-", "-", table);
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    AddRow(message.full_name(), absl::StrCat(field.number()), field.name(), FieldType(field), table);
  }
  for (int i = 0; i < message.enum_type_count(); ++i) Describe(*message.enum_type(i), table);
  for (int i = 0; i < message.nested_type_count(); ++i) Describe(*message.nested_type(i), table);
}

void Describe(const ServiceDescriptor& service, Table& table) {
  if (service.method_count() == 0) AddRow(service.full_name(), "-", "-", "-", table);
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    AddRow(service.full_name(), "rpc", method.name(),
           absl::StrCat(method.client_streaming() ? "stream " : "", method.input_type()->full_name(), " -> ",
                        method.server_streaming() ? "stream " : "", method.output_type()->full_name()),
           table);
  }
}

void Describe(const FileDescriptor& file, Table& table) {
  for (int i = 0; i < file.message_type_count(); ++i) Describe(*file.message_type(i), table);
  for (int i = 0; i < file.enum_type_count(); ++i) Describe(*file.enum_type(i), table);
  for (int i = 0; i < file.service_count(); ++i) Describe(*file.service(i), table);
}

// One line for each difference, in the order of the keys; empty when both tables are equal.
std::vector<std::string> Differences(const Table& published, const Table& compiled) {
  std::vector<std::string> lines;
  for (const auto& [key, text] : published) {
    const auto ours = compiled.find(key);
    if (ours == compiled.end()) {
      lines.push_back(absl::StrCat(key, ": published as \"", text, "\", not compiled in"));
    } else if (ours->second != text) {
      lines.push_back(absl::StrCat(key, ": published as \"", text, "\", compiled as \"", ours->second, "\""));
    }
  }
  for (const auto& [key, text] : compiled) {
    if (!published.contains(key)) {
      lines.push_back(absl::StrCat(key, ": compiled as \"", text, "\", not published; ours goes into signet.*"));
    }
  }
  return lines;
}

Table PublishedTable() {
  const std::string path = absl::StrCat(SIGNET_TEST_DATA_DIR, "/wire.tsv");
  std::ifstream in(path);
  EXPECT_TRUE(in.is_open()) << path << " cannot be read";
  Table table;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    const std::vector<std::string> columns = absl::StrSplit(line, '\t');
    if (columns.size() != 4) {
      ADD_FAILURE() << path << ":" << number << ": " << columns.size() << " columns, not 4";
      continue;
    }
    AddRow(columns[0], columns[1], columns[2], columns[3], table);
  }
  return table;
}

// Every file compiled into this test (which links all of signet_proto) whose names others have published: all but
// our own packages and those of Protobuf itself.
std::vector<const FileDescriptor*> ForeignFiles() {
  std::vector<std::string> names;
  EXPECT_TRUE(DescriptorPool::internal_generated_database()->FindAllFileNames(&names));
  std::vector<const FileDescriptor*> files;
  for (const std::string& name : names) {
    const FileDescriptor* file = DescriptorPool::generated_pool()->FindFileByName(name);
    if (file == nullptr) {
      ADD_FAILURE() << name << " does not load";
    } else if (!absl::StartsWith(file->package(), "signet.") && file->package() != "google.protobuf") {
      files.push_back(file);
    }
  }
  return files;
}

TEST(WireTest, IsAsPublishedAndNothingElse) {
  Table compiled;
  for (const FileDescriptor* file : ForeignFiles()) Describe(*file, compiled);
  EXPECT_THAT(Differences(PublishedTable(), compiled), IsEmpty());
}

// Proto2 would change presence, enums and packing without changing a single row.
TEST(WireTest, IsProto3) {
  const std::vector<const FileDescriptor*> files = ForeignFiles();
  EXPECT_GE(files.size(), 30u) << "files of the wire are not linked in";
  for (const FileDescriptor* file : files) EXPECT_EQ(file->syntax(), FileDescriptor::SYNTAX_PROTO3) << file->name();
}

// The counts of the published server API, so that a table cut short cannot agree with schemas cut short.
TEST(WireTest, HasEveryMethodOfTheServerApi) {
  const std::vector<std::pair<std::string, int>> counts = {
      {"spire.api.server.agent.v1.Agent", 9},
      {"spire.api.server.bundle.v1.Bundle", 11},
      {"spire.api.server.entry.v1.Entry", 8},
      {"spire.api.server.svid.v1.SVID", 7},
      {"spire.api.server.trustdomain.v1.TrustDomain", 6},
      {"spire.api.server.localauthority.v1.LocalAuthority", 17},
      {"spire.api.server.debug.v1.Debug", 1},
      {"spire.api.server.logger.v1.Logger", 3},
  };
  for (const auto& [name, count] : counts) {
    const ServiceDescriptor* service = DescriptorPool::generated_pool()->FindServiceByName(name);
    ASSERT_NE(service, nullptr) << name;
    EXPECT_EQ(service->method_count(), count) << name;
  }
}

// WL-2, BRK-2: nothing is added to the services of the standards. The paths are what clients dial.
TEST(WireTest, WorkloadApiHasNoPackage) {
  const ServiceDescriptor* service = DescriptorPool::generated_pool()->FindServiceByName("SpiffeWorkloadAPI");
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(service->file()->package(), "");
  EXPECT_EQ(service->method_count(), 7);
}

// The comparison itself: each kind of slip, made on purpose in a small schema, is told apart.
class WireDifferenceTest : public ::testing::Test {
 protected:
  WireDifferenceTest() {
    schema_.set_name("slip.proto");
    schema_.set_package("slip");
    schema_.set_syntax("proto3");
    DescriptorProto* empty = schema_.add_message_type();
    empty->set_name("Empty");
    DescriptorProto* message = schema_.add_message_type();
    message->set_name("Entry");
    message->add_oneof_decl()->set_name("step");
    AddField("id", 1, FieldDescriptorProto::TYPE_STRING);
    AddField("names", 2, FieldDescriptorProto::TYPE_STRING)->set_label(FieldDescriptorProto::LABEL_REPEATED);
    AddField("first", 3, FieldDescriptorProto::TYPE_BYTES)->set_oneof_index(0);
    auto* kind = schema_.add_enum_type();
    kind->set_name("Kind");
    kind->add_value()->set_name("NONE");
    kind->mutable_value(0)->set_number(0);
    auto* service = schema_.add_service();
    service->set_name("Entries");
    auto* method = service->add_method();
    method->set_name("Sync");
    method->set_input_type(".slip.Empty");
    method->set_output_type(".slip.Entry");
    method->set_server_streaming(true);
    published_ = Compile();
  }

  DescriptorProto* entry() { return schema_.mutable_message_type(1); }

  FieldDescriptorProto* AddField(const std::string& name, int number, FieldDescriptorProto::Type type) {
    FieldDescriptorProto* field = entry()->add_field();
    field->set_name(name);
    field->set_number(number);
    field->set_type(type);
    field->set_label(FieldDescriptorProto::LABEL_OPTIONAL);
    return field;
  }

  Table Compile() {
    DescriptorPool pool;
    const FileDescriptor* file = pool.BuildFile(schema_);
    Table table;
    if (file == nullptr) {
      ADD_FAILURE() << "the schema of this test does not build";
    } else {
      Describe(*file, table);
    }
    return table;
  }

  std::vector<std::string> Slips() { return Differences(published_, Compile()); }

  FileDescriptorProto schema_;
  Table published_;
};

TEST_F(WireDifferenceTest, EqualSchemasHaveNone) { EXPECT_THAT(Slips(), IsEmpty()); }

TEST_F(WireDifferenceTest, FindsOtherNumber) {
  entry()->mutable_field(0)->set_number(9);
  EXPECT_THAT(Slips(), UnorderedElementsAre(HasSubstr("slip.Entry 1: published as \"id: string\", not compiled in"),
                                            HasSubstr("slip.Entry 9: compiled as \"id: string\", not published")));
}

TEST_F(WireDifferenceTest, FindsOtherName) {
  entry()->mutable_field(0)->set_name("entry_id");
  EXPECT_THAT(Slips(), ElementsAre("slip.Entry 1: published as \"id: string\", compiled as \"entry_id: string\""));
}

TEST_F(WireDifferenceTest, FindsOtherType) {
  entry()->mutable_field(0)->set_type(FieldDescriptorProto::TYPE_BYTES);
  EXPECT_THAT(Slips(), ElementsAre("slip.Entry 1: published as \"id: string\", compiled as \"id: bytes\""));
}

TEST_F(WireDifferenceTest, FindsOtherLabel) {
  entry()->mutable_field(1)->set_label(FieldDescriptorProto::LABEL_OPTIONAL);
  EXPECT_THAT(Slips(),
              ElementsAre(HasSubstr("published as \"names: repeated string\", compiled as \"names: string\"")));
}

TEST_F(WireDifferenceTest, FindsFieldOutsideItsOneof) {
  entry()->mutable_field(2)->clear_oneof_index();
  entry()->clear_oneof_decl();
  EXPECT_THAT(Slips(), ElementsAre(HasSubstr("\"first: bytes oneof step\", compiled as \"first: bytes\"")));
}

TEST_F(WireDifferenceTest, FindsExplicitPresence) {
  entry()->add_oneof_decl()->set_name("_id");
  entry()->mutable_field(0)->set_oneof_index(1);
  entry()->mutable_field(0)->set_proto3_optional(true);
  EXPECT_THAT(Slips(), ElementsAre(HasSubstr("\"id: string\", compiled as \"id: optional string\"")));
}

TEST_F(WireDifferenceTest, FindsFieldTooMany) {
  AddField("region", 4, FieldDescriptorProto::TYPE_STRING);
  EXPECT_THAT(Slips(), ElementsAre(AllOf(HasSubstr("slip.Entry 4"), HasSubstr("not published"))));
}

TEST_F(WireDifferenceTest, FindsMessageTooMany) {
  schema_.add_message_type()->set_name("Extra");
  EXPECT_THAT(Slips(), ElementsAre(AllOf(HasSubstr("slip.Extra -"), HasSubstr("not published"))));
}

TEST_F(WireDifferenceTest, FindsOtherEnumValue) {
  schema_.mutable_enum_type(0)->mutable_value(0)->set_name("UNKNOWN");
  EXPECT_THAT(Slips(), ElementsAre(HasSubstr("slip.Kind 0: published as \"NONE: enum\"")));
}

TEST_F(WireDifferenceTest, FindsOtherStreaming) {
  schema_.mutable_service(0)->mutable_method(0)->set_client_streaming(true);
  EXPECT_THAT(Slips(), ElementsAre(HasSubstr("compiled as \"Sync: stream slip.Empty -> stream slip.Entry\"")));
}

TEST_F(WireDifferenceTest, FindsMissingMethod) {
  schema_.mutable_service(0)->clear_method();
  EXPECT_THAT(Slips(), Contains(AllOf(HasSubstr("slip.Entries rpc Sync"), HasSubstr("not compiled in"))));
}

}  // namespace
}  // namespace signet
