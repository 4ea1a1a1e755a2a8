// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "cli/commands.h"
#include "dtensor/debug.h"
#include "dtensor/op.h"

namespace dtensor::cli {
namespace {

struct OpsOptions {
  std::string name, mesh;
  std::vector<std::string> inputs, attributes;
  int limit = 10;
};

void list() {
  std::size_t width = 0;
  for (const OpDef* op : all_ops()) width = std::max(width, op->name.size());
  for (const OpDef* op : all_ops()) print(fmt::format("{:<{}}  {}", op->name, width, op->signature));
}

std::vector<std::pair<std::string, std::string>> read_attributes(const std::vector<std::string>& words) {
  std::vector<std::pair<std::string, std::string>> attributes;
  for (const std::string& word : words) {
    const std::size_t equal = word.find('=');
    if (equal == 0 || equal == std::string::npos) throw UsageError(fmt::format("--attr: cannot read '{}'; write name=value, e.g. dim=1", word));
    attributes.emplace_back(word.substr(0, equal), word.substr(equal + 1));
  }
  return attributes;
}

void show(const OpsOptions& o) {
  if (o.name.empty()) {
    if (!o.inputs.empty() || !o.mesh.empty()) throw UsageError("ops: --inputs and --mesh need the name of an op");
    list();
    return;
  }
  const OpDef& op = *read_word([&] { return &find_op(o.name); });
  std::string text = explain_op(op);
  if (!o.inputs.empty()) {
    if (o.mesh.empty()) throw UsageError("ops: --inputs needs --mesh");
    const DeviceMesh mesh = read_word([&] { return planning_mesh(o.mesh); });
    std::vector<DescribedTensor> inputs;
    for (const std::string& word : o.inputs) inputs.push_back(read_word([&] { return parse_tensor(word); }));
    text += "\n" + explain_op(op, mesh, inputs, read_attributes(o.attributes), o.limit);
  }
  print(text);
}

}  // namespace

void add_ops(CLI::App& app) {
  CLI::App* command = app.add_subcommand("ops", "All ops, or one: signature, sharding rule, and what it would do with given inputs");
  const auto o = std::make_shared<OpsOptions>();
  command->add_option("name", o->name, "An op, e.g. matmul; none: list all");
  command->add_option("--inputs", o->inputs, "Described tensors: show the candidate placements, cheapest first");
  command->add_option("--mesh", o->mesh, "dp=2,tp=4, or 2x4 with axes 0 and 1");
  command->add_option("--attr", o->attributes, "Attributes as name=value");
  command->add_option("--limit", o->limit, "Most candidates to show")->check(CLI::PositiveNumber)->capture_default_str();
  command->footer(
      "Examples:\n"
      "  dtensor ops\n"
      "  dtensor ops matmul --mesh tp=4 --inputs 'f32[64, 128]{tp: S(1)}' 'f32[128, 32]{tp: S(0)}'\n"
      "  dtensor ops softmax --mesh tp=2 --inputs 'f32[8, 16]{tp: S(0)}' --attr dim=1");
  command->callback([o] { show(*o); });
}

}  // namespace dtensor::cli
