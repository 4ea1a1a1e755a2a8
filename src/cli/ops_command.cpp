// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "cli/commands.h"
#include "dtensor/debug.h"
#include "dtensor/op.h"
#include "dtensor/op_table.h"

namespace dtensor::cli {
namespace {

struct OpsOptions {
  std::string name, mesh;
  std::vector<std::string> inputs, attributes;
  int limit = 0;
  bool markdown = false;
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

// The axes that the inputs name, of two ranks each.
DeviceMesh named_mesh(const std::vector<DescribedTensor>& inputs) {
  std::vector<std::string> names;
  for (const DescribedTensor& input : inputs)
    for (const AxisPlacement& entry : input.placements.entries())
      if (std::find(names.begin(), names.end(), entry.axis) == names.end()) names.push_back(entry.axis);
  if (names.empty()) throw UsageError("ops: the inputs name no axis; give --mesh, e.g. --mesh tp=4");
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name + "=2";
  return planning_mesh(text);
}

void show(const OpsOptions& o) {
  if (o.markdown) {
    const std::vector<const OpDef*> ops = o.name.empty() ? all_ops() : std::vector<const OpDef*>{read_word([&] { return &find_op(o.name); })};
    print(ops_markdown(ops));
    return;
  }
  if (o.name.empty()) {
    if (!o.inputs.empty() || !o.mesh.empty()) throw UsageError("ops: --inputs and --mesh need the name of an op");
    list();
    return;
  }
  const OpDef& op = *read_word([&] { return &find_op(o.name); });
  std::string text = explain_op(op);
  if (!o.inputs.empty()) {
    std::vector<DescribedTensor> inputs;
    for (const std::string& word : o.inputs) inputs.push_back(read_word([&] { return parse_tensor(word); }));
    const DeviceMesh mesh = o.mesh.empty() ? named_mesh(inputs) : read_word([&] { return planning_mesh(o.mesh); });
    text += "\nmesh      " + to_string(mesh) + "\n" + explain_op(op, mesh, inputs, read_attributes(o.attributes), o.limit);
  }
  print(text);
}

}  // namespace

void add_ops(CLI::App& app) {
  CLI::App* command = app.add_subcommand("ops", "All ops, or one: signature, sharding rule, and what it would do with given inputs");
  const auto o = std::make_shared<OpsOptions>();
  command->add_option("name", o->name, "An op, e.g. matmul; none: list all");
  command->add_option("inputs,--inputs", o->inputs, "Described tensors: show the candidate placements with their costs, cheapest first");
  command->add_option("--mesh", o->mesh, "dp=2,tp=4, or 2x4 with axes 0 and 1; none: two ranks for each axis that the inputs name");
  command->add_option("--attr", o->attributes, "Attributes as name=value");
  command->add_option("--limit", o->limit, "Most candidates to show; none: all")->check(CLI::PositiveNumber);
  command->add_flag("--markdown", o->markdown,
                    "A page of all ops (or one): signature, rule, distributed form, and the bytes moved for each sharding of one input");
  command->footer(
      "Examples:\n"
      "  dtensor ops\n"
      "  dtensor ops --markdown > ops.md\n"
      "  dtensor ops matmul 'f32[8, 4]{tp: S(0)}' 'f32[4, 8]{tp: R}'\n"
      "  dtensor ops matmul --mesh tp=4 --inputs 'f32[64, 128]{tp: S(1)}' 'f32[128, 32]{tp: S(0)}'\n"
      "  dtensor ops softmax --mesh tp=2 --inputs 'f32[8, 16]{tp: S(0)}' --attr dim=1");
  command->callback([o] { show(*o); });
}

}  // namespace dtensor::cli
