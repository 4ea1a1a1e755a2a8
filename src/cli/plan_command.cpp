// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <memory>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "dtensor/debug.h"
#include "dtensor/plan.h"
#include "dtensor/topology.h"

namespace dtensor::cli {
namespace {

struct PlanOptions {
  std::string mesh, to_mesh, tensor, target, topology, svg;
  bool json = false;
  std::uint64_t memory_limit = 0;
};

void show(const PlanOptions& o) {
  const DeviceMesh mesh = read_word([&] { return planning_mesh(o.mesh); });
  const DescribedTensor tensor = read_word([&] { return parse_tensor(o.tensor); });
  const Placements target = read_word([&] { return Placements::parse(o.target); });
  const DeviceMesh to_mesh = o.to_mesh.empty() ? mesh : read_word([&] { return planning_mesh(o.to_mesh); });
  const Topology topology = o.topology.empty() ? Topology() : Topology::read(o.topology);
  const auto start = std::chrono::steady_clock::now();
  const auto limit = static_cast<std::int64_t>(o.memory_limit);
  const Plan plan = make_plan(mesh, tensor.shape, tensor.dtype, tensor.placements, to_mesh, target, limit, topology);
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  if (!o.svg.empty()) write_file(o.svg, plan.svg());
  if (o.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::parse(plan.json());
    json["planning_us"] = took.count();
    print(json.dump(2));
  } else {
    print(to_string(plan));
  }
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "How a tensor goes from one list of placements to another: moves, bytes, time");
  const auto o = std::make_shared<PlanOptions>();
  command->add_option("tensor", o->tensor, "dtype[shape]{axis: placement, ...}; R, S(dim), SS(dim, factor), Ragged(dim, sizes), P(sum)")->required();
  command->add_option("target", o->target, "{axis: placement, ...}")->required();
  command->add_option("--mesh", o->mesh, "dp=2,tp=4, or 2x4 with axes 0 and 1")->required();
  command->add_option("--to-mesh", o->to_mesh, "Another mesh for the target: the first ranks of the same world; as --mesh if not given");
  command->add_flag("--json", o->json, "For programs: moves, bytes_received, lower_bound, predicted_us, peak_bytes, chunks, planning_us");
  command->add_option("--svg", o->svg, "Draw the plan into this file");
  command->add_option("--topology", o->topology, "Links and copies, as dtensor measure writes them")->check(CLI::ExistingFile);
  command->add_option("--memory-limit", o->memory_limit, "Most bytes that a rank may hold, e.g. 64MiB")->transform(CLI::AsSizeValue(false));
  command->footer(
      "Examples:\n"
      "  dtensor plan --mesh dp=32,cp=64,tp=8 'f32[4096, 8192, 64, 128]{dp: S(0), cp: S(1), tp: P(sum)}' '{dp: S(1), cp: R, tp: S(2)}'\n"
      "  dtensor plan --mesh 4 'bf16[1024, 1024]{0: S(0)}' '{0: S(1)}' --json\n"
      "  dtensor plan --mesh 4 --to-mesh dp=2,tp=3 'f32[12, 8]{0: S(0)}' '{dp: S(0), tp: S(1)}'\n"
      "  dtensor plan --mesh dp=2,tp=2 --topology here.json 'f32[8, 8]{dp: S(0)}' '{tp: S(1)}'\n"
      "  dtensor plan --mesh dp=2,tp=2 'f32[8, 8]{dp: S(0)}' '{tp: S(1)}' --svg plan.svg");
  command->callback([o] { show(*o); });
}

}  // namespace dtensor::cli
