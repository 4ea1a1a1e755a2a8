// SPDX-License-Identifier: Apache-2.0
// The plans that docs/redistribution.md prints are the plans that are made.
#include <doctest/doctest.h>

#include <fstream>
#include <list>
#include <sstream>
#include <string>
#include <vector>

#include "dtensor/plan.h"
#include "dtensor/topology.h"
#include "mesh/mesh_data.h"
#include "placements/layout.h"

using namespace dtensor;

namespace {

std::vector<std::string> page() {
  std::ifstream file(std::string(DTENSOR_SOURCE_DIR) + "/docs/redistribution.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The one block of the page that is JSON.
std::string json_block(const std::vector<std::string>& lines) {
  std::string block;
  bool inside = false;
  for (const std::string& line : lines) {
    if (inside && line == "```") return block;
    if (inside) block += line + "\n";
    inside = inside || line == "```json";
  }
  return "";
}

// Words of a shell, quoted ones whole.
std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words{""};
  bool quoted = false;
  for (char c : line) {
    if (c == '\'') quoted = !quoted;
    else if (c == ' ' && !quoted) words.emplace_back();
    else words.back() += c;
  }
  std::erase(words, "");
  return words;
}

DeviceMesh mesh_of(const std::string& text) {
  std::vector<MeshAxis> axes;
  int ranks = 1;
  std::list<std::string> names;  // axes refer to them
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const std::size_t equals = part.find('=');
    axes.push_back({names.emplace_back(part.substr(0, equals)), std::stoi(part.substr(equals + 1))});
    ranks *= axes.back().size;
  }
  return mesh::make_mesh(1, ranks, axes, {});
}

Plan plan_of(const std::string& command, const std::vector<std::string>& lines) {
  std::string mesh, tensor, target;
  std::int64_t limit = 0;
  Topology topology;
  const auto words = words_of(command);
  for (std::size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "--mesh") mesh = words[++i];
    else if (words[i] == "--memory-limit") limit = std::stoll(words[++i]);
    else if (words[i] == "--topology") topology = Topology::parse(json_block(lines)), ++i;
    else (tensor.empty() ? tensor : target) = words[i];
  }
  const auto source = placements::parse_described(tensor);
  return make_plan(mesh_of(mesh), source.shape, source.dtype, source.placements, Placements::parse(target), limit, topology);
}

}  // namespace

TEST_CASE("the plans printed in docs/redistribution.md are those that are made") {
  const auto lines = page();
  REQUIRE_GT(lines.size(), 100);
  int plans = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::size_t indent = lines[i].find_first_not_of(' ');
    if (indent == std::string::npos || lines[i].compare(indent, 15, "$ dtensor plan ") != 0) continue;
    const std::string command = lines[i].substr(indent + 2);
    CAPTURE(command);
    const std::string made = to_string(plan_of(command, lines)) + "\n", margin(indent, ' ');
    // The page may leave out the ends and the totals, nothing between.
    std::string printed;
    for (; i + 1 < lines.size() && lines[i + 1].rfind(margin, 0) == 0; ++i) printed += lines[i + 1].substr(indent) + "\n";
    CAPTURE(made);
    CHECK_FALSE(printed.empty());
    CHECK(made.find(printed) != std::string::npos);
    ++plans;
  }
  CHECK_EQ(plans, 4);
}

TEST_CASE("every plan that docs/redistribution.md names in a sentence can be made") {
  int plans = 0;
  const auto lines = page();
  for (const std::string& line : lines) {
    const std::string mark = "`dtensor plan --mesh";
    const std::size_t at = line.find(mark), end = at == std::string::npos ? at : line.find('`', at + 1);
    if (end == std::string::npos) continue;
    CAPTURE(line);
    CHECK_GT(plan_of(line.substr(at + 1, end - at - 1), lines).launches(), 0);
    ++plans;
  }
  CHECK_GT(plans, 0);
}
