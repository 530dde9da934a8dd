#include "common/config/yaml_tree.h"

#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "absl/strings/str_cat.h"

namespace signet::config {
namespace {

constexpr size_t kMaxDepth = 32;

struct Refusal {  // thrown inside yaml-cpp, caught in ParseYaml
  int line;
  std::string what;
};

// Builds the tree from the parser's events. `stack_` holds the open collections, the key of a pair before its value.
class TreeBuilder final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Add(Leaf(mark, "", anchor)); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refusal{mark.line + 1, "aliases (*name) are not accepted; write the value out"};
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = Leaf(mark, tag, anchor);
    node.quoted = tag == "!";
    node.kind = !node.quoted && (value == "~" || value == "null" || value.empty()) ? YamlNode::Kind::kNull
                                                                                   : YamlNode::Kind::kScalar;
    node.scalar = value;
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kMapping);
  }
  void OnMapEnd() override { Close(); }

  YamlNode Take() && { return std::move(root_); }

 private:
  struct Opened {
    YamlNode node;
    YamlNode key;
    bool has_key = false;
  };

  static YamlNode Leaf(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor)
      throw Refusal{mark.line + 1, "anchors (&name) are not accepted; write the value out"};
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refusal{mark.line + 1, absl::StrCat("the tag ", tag, " is not accepted; remove it")};
    }
    YamlNode node;
    node.line = mark.line + 1;
    return node;
  }
  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (stack_.size() >= kMaxDepth) throw Refusal{mark.line + 1, absl::StrCat("nested more than ", kMaxDepth, " deep")};
    Opened opened{Leaf(mark, tag, anchor), {}};
    opened.node.kind = kind;
    stack_.push_back(std::move(opened));
  }
  void Close() {
    YamlNode node = std::move(stack_.back().node);
    stack_.pop_back();
    Add(std::move(node));
  }
  void Add(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Opened& top = stack_.back();
    if (top.node.kind == YamlNode::Kind::kSequence) {
      top.node.items.push_back(std::move(node));
    } else if (!top.has_key) {
      if (node.kind == YamlNode::Kind::kSequence || node.kind == YamlNode::Kind::kMapping) {
        throw Refusal{node.line, "a key must be plain text"};
      }
      top.key = std::move(node);
      top.has_key = true;
    } else {
      if (node.kind == YamlNode::Kind::kNull) node.line = top.key.line;  // "key:" with nothing after it
      top.node.members.push_back({std::move(top.key), std::move(node)});
      top.has_key = false;
    }
  }

  std::vector<Opened> stack_;
  YamlNode root_;
};

}  // namespace

absl::StatusOr<YamlNode> ParseYaml(absl::string_view text, absl::string_view name, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": larger than ", max_bytes, " bytes"));
  }
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    TreeBuilder builder;
    if (parser.HandleNextDocument(builder)) {
      TreeBuilder second;
      if (parser.HandleNextDocument(second)) {
        const int line = std::move(second).Take().line;
        return absl::InvalidArgumentError(absl::StrCat(name, ":", line, ": a second document (---) is not accepted"));
      }
    }
    return std::move(builder).Take();
  } catch (const Refusal& refusal) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":", refusal.line, ": ", refusal.what));
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":", e.mark.is_null() ? 1 : e.mark.line + 1, ": no valid YAML: ", e.msg));
  }
}

}  // namespace signet::config
