// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "cli/commands.h"
#include "dtensor/debug.h"

namespace dtensor::cli {
namespace {

struct ShardsOptions {
  std::string mesh, tensor, svg;
};

void show(const ShardsOptions& o) {
  const DeviceMesh mesh = read_word([&] { return planning_mesh(o.mesh); });
  const DescribedTensor tensor = read_word([&] { return parse_tensor(o.tensor); });
  print(visualize(mesh, tensor));
  if (!o.svg.empty()) write_file(o.svg, visualize_svg(mesh, tensor));
}

}  // namespace

void add_shards(CLI::App& app) {
  CLI::App* command = app.add_subcommand("shards", "Who owns what: a drawing of a tensor's pieces");
  const auto o = std::make_shared<ShardsOptions>();
  command->add_option("tensor", o->tensor, "dtype[shape]{axis: placement, ...}")->required();
  command->add_option("--mesh", o->mesh, "dp=2,tp=4, or 2x4 with axes 0 and 1")->required();
  command->add_option("--svg", o->svg, "Also draw into this file");
  command->footer(
      "Examples:\n"
      "  dtensor shards --mesh dp=2,tp=2 'f32[5, 7]{dp: S(0), tp: S(1)}'\n"
      "  dtensor shards --mesh 4 'f32[16]{0: SS(0, 2)}' --svg shards.svg");
  command->callback([o] { show(*o); });
}

}  // namespace dtensor::cli
