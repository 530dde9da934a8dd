// What scope strings and tool names of a resource stand for.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/token/decision.h"

namespace signet::server {
namespace {

using oauth::Atom;
using oauth::Atoms;

Atom ActionOf(const ResourceRecord& resource, const std::string& action) {
  return {.resource = resource.uri, .action = action, .tool_hash = {}, .constraints = {}};
}
Atom ToolOf(const ResourceRecord& resource, const ToolRecord& tool) {
  return {.resource = resource.uri, .action = tool.name, .tool = true, .tool_hash = tool.hash, .constraints = {}};
}

bool Has(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

// Repeats are equal here, so only the cap can be broken; a set over the cap is no authority at all.
Atoms Normalized(Atoms atoms) {
  absl::StatusOr<Atoms> normal = oauth::Normalize(std::move(atoms));
  return normal.ok() ? *std::move(normal) : Atoms();
}

}  // namespace

Atoms ExpandScopes(const ResourceRecord& resource, const std::vector<std::string>& scopes,
                   std::vector<std::string>* unknown) {
  Atoms atoms;
  for (const std::string& scope : scopes) {
    const size_t before = atoms.size();
    for (const auto& [name, actions] : resource.scopes) {
      if (name != scope) continue;
      for (const std::string& action : actions) atoms.push_back(ActionOf(resource, action));
    }
    for (const ToolRecord& tool : resource.tools) {
      if (!tool.tombstone && Has(tool.needs, scope)) atoms.push_back(ToolOf(resource, tool));
    }
    if (atoms.size() == before && unknown != nullptr) unknown->push_back(scope);
  }
  return Normalized(std::move(atoms));
}

Atoms ExpandDetails(const ResourceRecord& resource, const std::vector<oauth::ToolCallDetails>& details,
                    std::vector<std::string>* unknown) {
  Atoms atoms;
  for (const oauth::ToolCallDetails& item : details) {
    if (item.resource != resource.uri) continue;
    for (const std::string& name : item.tools) {
      const auto tool = std::find_if(resource.tools.begin(), resource.tools.end(),
                                     [&](const ToolRecord& t) { return t.name == name && !t.tombstone; });
      const auto hash = item.tool_hashes.find(name);  // the client may say which version of the tool it means
      if (tool == resource.tools.end() || (hash != item.tool_hashes.end() && hash->second != tool->hash)) {
        if (unknown != nullptr) unknown->push_back(name);
        continue;
      }
      atoms.push_back(ToolOf(resource, *tool));
      atoms.back().constraints = item.constraints;
    }
  }
  // One tool asked for in two ways stays twice: Requested() refuses it.
  std::sort(atoms.begin(), atoms.end(), [](const Atom& a, const Atom& b) { return a.action < b.action; });
  return atoms;
}

Atoms Catalogue(const ResourceRecord& resource) {
  Atoms atoms;
  if (resource.tombstone) return atoms;
  for (const auto& [name, actions] : resource.scopes) {
    for (const std::string& action : actions) atoms.push_back(ActionOf(resource, action));
  }
  for (const ToolRecord& tool : resource.tools) {
    if (!tool.tombstone) atoms.push_back(ToolOf(resource, tool));
  }
  return Normalized(std::move(atoms));
}

absl::StatusOr<Atoms> Requested(const Atoms& by_scope, const Atoms& by_details) {
  Atoms all = by_details;
  for (const Atom& atom : by_scope) {
    const bool named = std::any_of(by_details.begin(), by_details.end(), [&](const Atom& other) {
      return other.resource == atom.resource && other.tool == atom.tool && other.action == atom.action;
    });
    if (!named) all.push_back(atom);
  }
  return oauth::Normalize(std::move(all));
}

}  // namespace signet::server
