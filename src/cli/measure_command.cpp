// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "cli/commands.h"
#include "dtensor/topology.h"
#include "dtensor/world.h"

namespace dtensor::cli {
namespace {

struct MeasureCommand {
  std::string output;
  int ranks = 0;
  std::uint64_t bytes = 8 << 20;
};

void measure(const MeasureCommand& o) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int ranks = o.ranks > 0 ? o.ranks : std::clamp(cores, 2, 8);
  std::string json;
  run_ranks({.ranks = ranks}, [&](World& world) {
    MeasureOptions options;
    options.bytes = static_cast<std::int64_t>(o.bytes);
    options.progress = [](std::string_view line) { std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data()); };
    const Topology topology = measure_topology(world, options);
    if (world.rank() == 0) json = topology.json();
  });
  if (o.output.empty()) print(json);
  else write_file(o.output, json + "\n");
}

}  // namespace

void add_measure(CLI::App& app) {
  CLI::App* command = app.add_subcommand("measure", "Time the links and copies of this machine; the JSON is for plan --topology");
  const auto o = std::make_shared<MeasureCommand>();
  command->add_option("--ranks", o->ranks, "Threads to time between (default: the cores, 2 to 8)")->check(CLI::Range(1, 4096));
  command->add_option("--bytes", o->bytes, "Of a large exchange, per rank, e.g. 64MiB (default 8MiB)")->transform(CLI::AsSizeValue(false));
  command->add_option("--output", o->output, "Write into this file instead of standard output");
  command->footer(
      "Examples:\n"
      "  dtensor measure --output here.json\n"
      "  dtensor measure --ranks 4 --bytes 64MiB");
  command->callback([o] { measure(*o); });
}

}  // namespace dtensor::cli
