#include "common/config/load.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/stubs/common.h>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/config/yaml_tree.h"
#include "common/fs/atomic_file.h"
#include "common/status/macros.h"

namespace signet::config {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;
using Kind = YamlNode::Kind;

// Levenshtein's distance: how many letters two keys differ by.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// Where below `type` a key of this very name stands: "svid.x509_ttl". Empty when nowhere.
std::string FindDeeper(const Descriptor& type, const std::string& key, int depth) {
  if (depth == 0) return "";
  for (int i = 0; i < type.field_count(); ++i) {
    const Descriptor* inner = type.field(i)->message_type();
    if (inner == nullptr) continue;
    if (inner->FindFieldByName(key) != nullptr) return absl::StrCat(type.field(i)->name(), ".", key);
    if (std::string deeper = FindDeeper(*inner, key, depth - 1); !deeper.empty()) {
      return absl::StrCat(type.field(i)->name(), ".", deeper);
    }
  }
  return "";
}

std::string Advice(const Descriptor& type, const std::string& key) {
  if (type.field_count() == 0) return "nothing can be set here: write {}";
  const FieldDescriptor* nearest = nullptr;
  size_t best = std::max<size_t>(2, key.size() / 3) + 1;
  std::vector<std::string> known;
  for (int i = 0; i < type.field_count(); ++i) {
    known.push_back(type.field(i)->name());
    const bool begins = key.size() >= 3 && type.field(i)->name().compare(0, key.size(), key) == 0;
    if (const size_t distance = begins ? 1 : Distance(key, type.field(i)->name()); distance < best) {
      best = distance;
      nearest = type.field(i);
    }
  }
  if (std::string deeper = FindDeeper(type, key, 4); !deeper.empty()) return absl::StrCat("did you mean ", deeper, "?");
  if (nearest != nullptr) return absl::StrCat("did you mean ", nearest->name(), "?");
  return absl::StrCat("known here: ", absl::StrJoin(known, ", "));
}

class Loader {
 public:
  explicit Loader(absl::string_view name, Places* places = nullptr) : name_(name), places_(places) {
    if (places_ != nullptr) places_->Add("", name_);
  }

  void Fill(const YamlNode& node, absl::string_view path, Message& message) {
    if (node.kind == Kind::kNull) return;  // "key:" alone: all its defaults
    if (message.GetDescriptor() == google::protobuf::Struct::descriptor()) {
      return FillFree(node, std::string(path), static_cast<google::protobuf::Struct&>(message));
    }
    if (node.kind != Kind::kMapping) {
      Complain(node, path, "expects keys and values (a mapping)");
      return;
    }
    std::map<std::string, int> seen;
    std::map<const OneofDescriptor*, std::string> chosen;
    for (const auto& [key, value] : node.members) {
      const std::string inner = path.empty() ? key.scalar : absl::StrCat(path, ".", key.scalar);
      if (const auto [it, fresh] = seen.emplace(key.scalar, key.line); !fresh) {
        Complain(key, inner, absl::StrCat("given twice, first in line ", it->second, "; keep one"));
        continue;
      }
      if (places_ != nullptr) places_->Add(inner, absl::StrCat(name_, ":", key.line));
      const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key.scalar);
      if (field == nullptr) {
        Complain(key, inner, absl::StrCat("unknown key; ", Advice(*message.GetDescriptor(), key.scalar)));
        continue;
      }
      if (const OneofDescriptor* oneof = field->real_containing_oneof(); oneof != nullptr) {
        if (const auto [it, fresh] = chosen.emplace(oneof, key.scalar); !fresh) {
          Complain(key, inner, absl::StrCat("only one of these may be given, and ", it->second, " already is"));
          continue;
        }
      }
      FillField(value, inner, *field, message);
    }
  }

  absl::Status ToStatus() const {
    if (lines_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrJoin(lines_, "\n"));
  }

 private:
  void FillField(const YamlNode& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    const Reflection& reflection = *message.GetReflection();
    if (field.is_map()) {
      FillMap(node, path, field, message);
    } else if (field.is_repeated()) {
      // One value may stand for a list of one: server_address: host:8081.
      const bool list = node.kind == Kind::kSequence;
      if (node.kind == Kind::kNull) return Complain(node, path, "has no value; leave the key out, or write []");
      for (size_t i = 0; i < (list ? node.items.size() : 1); ++i) {
        const YamlNode& item = list ? node.items[i] : node;
        const std::string item_path = list ? absl::StrCat(path, "[", i, "]") : path;
        if (places_ != nullptr && list) places_->Add(item_path, absl::StrCat(name_, ":", item.line));
        if (field.message_type() != nullptr) {
          Fill(item, item_path, *reflection.AddMessage(&message, &field));
        } else {
          SetScalar(item, item_path, field, message);
        }
      }
    } else if (field.message_type() != nullptr) {
      Fill(node, path, *reflection.MutableMessage(&message, &field));
    } else {
      SetScalar(node, path, field, message);
    }
  }

  void FillMap(const YamlNode& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (node.kind != Kind::kMapping) return Complain(node, path, "expects keys and values (a mapping)");
    std::map<std::string, int> seen;
    for (const auto& [key, value] : node.members) {
      const std::string inner = absl::StrCat(path, ".", key.scalar);
      if (const auto [it, fresh] = seen.emplace(key.scalar, key.line); !fresh) {
        Complain(key, inner, absl::StrCat("given twice, first in line ", it->second, "; keep one"));
        continue;
      }
      Message& pair = *message.GetReflection()->AddMessage(&message, &field);
      FillField(key, inner, *field.message_type()->map_key(), pair);
      FillField(value, inner, *field.message_type()->map_value(), pair);
    }
  }

  // A part without schema, such as the JSON schema of a tool: plain words are read as YAML reads them.
  void FillFree(const YamlNode& node, const std::string& path, google::protobuf::Struct& into) {
    if (node.kind != Kind::kMapping) return Complain(node, path, "expects keys and values (a mapping)");
    for (const auto& [key, value] : node.members) {
      const std::string inner = absl::StrCat(path, ".", key.scalar);
      const auto [it, fresh] = into.mutable_fields()->insert({key.scalar, {}});
      if (!fresh) {
        Complain(key, inner, "given twice; keep one");
      } else {
        SetFree(value, inner, it->second);
      }
    }
  }

  void SetFree(const YamlNode& node, const std::string& path, google::protobuf::Value& into) {
    double number = 0;
    switch (node.kind) {
      case Kind::kNull:
        return into.set_null_value(google::protobuf::NULL_VALUE);
      case Kind::kMapping:
        return FillFree(node, path, *into.mutable_struct_value());
      case Kind::kSequence:
        into.mutable_list_value();
        for (const YamlNode& item : node.items) SetFree(item, path, *into.mutable_list_value()->add_values());
        return;
      case Kind::kScalar:
        break;
    }
    if (!google::protobuf::internal::IsStructurallyValidUTF8(node.scalar)) {
      Complain(node, path, "is not valid UTF-8 text");
    } else if (!node.quoted && (node.scalar == "true" || node.scalar == "false")) {
      into.set_bool_value(node.scalar == "true");
    } else if (!node.quoted && absl::SimpleAtod(node.scalar, &number) && std::isfinite(number)) {
      into.set_number_value(number);
    } else {
      into.set_string_value(node.scalar);
    }
  }

  void SetScalar(const YamlNode& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (node.kind == Kind::kNull) return Complain(node, path, "has no value; leave the key out for its default");
    if (node.kind != Kind::kScalar) return Complain(node, path, "expects one value, not a list or mapping");
    const Reflection& reflection = *message.GetReflection();
    const auto set = [&](auto setter, auto adder, auto value) {
      if (field.is_repeated()) {
        (reflection.*adder)(&message, &field, std::move(value));
      } else {
        (reflection.*setter)(&message, &field, std::move(value));
      }
    };
    const auto number = [&](auto setter, auto adder, auto value, absl::string_view what) {
      if (node.quoted || !absl::SimpleAtoi(node.scalar, &value)) return Wrong(node, path, what);
      set(setter, adder, value);
    };
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (!google::protobuf::internal::IsStructurallyValidUTF8(node.scalar)) {
          return Complain(node, path, "is not valid UTF-8 text");
        }
        return set(&Reflection::SetString, &Reflection::AddString, node.scalar);
      case FieldDescriptor::CPPTYPE_BOOL:
        if (node.quoted || (node.scalar != "true" && node.scalar != "false")) return Wrong(node, path, "true or false");
        return set(&Reflection::SetBool, &Reflection::AddBool, node.scalar == "true");
      case FieldDescriptor::CPPTYPE_INT32:
        return number(&Reflection::SetInt32, &Reflection::AddInt32, int32_t{}, "a whole number");
      case FieldDescriptor::CPPTYPE_INT64:
        return number(&Reflection::SetInt64, &Reflection::AddInt64, int64_t{}, "a whole number");
      case FieldDescriptor::CPPTYPE_UINT32:
        return number(&Reflection::SetUInt32, &Reflection::AddUInt32, uint32_t{}, "a whole number, not negative");
      case FieldDescriptor::CPPTYPE_UINT64:
        return number(&Reflection::SetUInt64, &Reflection::AddUInt64, uint64_t{}, "a whole number, not negative");
      default:
        return Complain(node, path, "has a type that configuration files cannot hold");  // a fault of the schema
    }
  }

  void Wrong(const YamlNode& node, absl::string_view path, absl::string_view expected) {
    Complain(node, path,
             absl::StrCat("expects ", expected, ", not ", node.quoted ? "text " : "", "\"",
                          absl::CHexEscape(absl::string_view(node.scalar).substr(0, 60)), "\""));
  }
  void Complain(const YamlNode& node, absl::string_view path, absl::string_view what) {
    if (lines_.size() == kMaxErrors) lines_.push_back(absl::StrCat(name_, ": more errors than are shown"));
    if (lines_.size() > kMaxErrors) return;
    const absl::string_view where = path.empty() ? "the file" : path;
    lines_.push_back(absl::StrCat(name_, ":", node.line, ": ", absl::Utf8SafeCHexEscape(where), ": ", what));
  }

  static constexpr size_t kMaxErrors = 50;
  const std::string name_;
  Places* const places_;
  std::vector<std::string> lines_;
};

}  // namespace

absl::Status LoadYaml(absl::string_view text, absl::string_view name, google::protobuf::Message& into) {
  SIGNET_ASSIGN_OR_RETURN(const YamlNode root, ParseYaml(text, name));
  Loader loader(name);
  loader.Fill(root, "", into);
  return loader.ToStatus();
}

absl::Status LoadYamlList(absl::string_view text, absl::string_view name, size_t max_bytes,
                          google::protobuf::Message& into) {
  SIGNET_ASSIGN_OR_RETURN(YamlNode root, ParseYaml(text, name, max_bytes));
  const std::string& list = into.GetDescriptor()->field(0)->name();
  bool bare = root.kind == Kind::kSequence;
  if (root.kind == Kind::kMapping) {
    bare =
        std::none_of(root.members.begin(), root.members.end(), [&](const auto& m) { return m.first.scalar == list; });
  }
  if (bare) {
    YamlNode key, wrapped;
    key.kind = Kind::kScalar;
    key.scalar = list;
    key.line = wrapped.line = root.line;
    wrapped.kind = Kind::kMapping;
    wrapped.members.push_back({std::move(key), std::move(root)});
    root = std::move(wrapped);
  }
  Loader loader(name);
  loader.Fill(root, "", into);
  return loader.ToStatus();
}

absl::Status LoadFile(const std::string& path, google::protobuf::Message& into, Places* places) {
  SIGNET_ASSIGN_OR_RETURN(const std::string text, fs::ReadFile(path, 1 << 20));
  SIGNET_ASSIGN_OR_RETURN(const YamlNode root, ParseYaml(text, path));
  Loader loader(path, places);
  loader.Fill(root, "", into);
  return loader.ToStatus();
}

absl::Status Places::Locate(const absl::Status& status) const {
  if (!absl::IsInvalidArgument(status)) return status;
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(status.message(), '\n')) {
    std::string key(line.substr(0, line.find(':')));
    auto place = places_.find(key);
    while (place == places_.end() && !key.empty()) {
      const size_t end = key.find_last_of(".[");
      key.resize(end == std::string::npos ? 0 : end);
      place = places_.find(key);
    }
    lines.push_back(place == places_.end() ? std::string(line) : absl::StrCat(place->second, ": ", line));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

absl::Status AllErrors(const absl::Status& reading, const absl::Status& checking, const Places& places) {
  absl::Status located = places.Locate(checking);
  if (reading.ok()) return located;
  if (located.ok() || !absl::IsInvalidArgument(reading)) return reading;
  return absl::InvalidArgumentError(absl::StrCat(reading.message(), "\n", located.message()));
}

}  // namespace signet::config
