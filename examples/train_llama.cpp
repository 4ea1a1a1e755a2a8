// SPDX-License-Identifier: Apache-2.0
// Trains a byte-level Llama on any mesh, saves it, and goes on from a checkpoint of any other mesh. See --help.
#include <dtensor/dtensor.h>

#include <cstdio>
#include <fstream>

#include "train/report.h"
#include "train/trainer.h"
using namespace dtensor;

namespace {

void write_curve(World& world, const std::string& file, const std::vector<train::Point>& points, double validation) {
  if (world.rank() != 0) return;
  std::ofstream out(file);
  out << train::loss_svg(points, validation);
  if (!out.flush()) world.print({"train_llama: cannot write ", file});
}

DeviceMesh mesh_of(World& world, const std::string& text) {
  const std::vector<train::Axis> named = train::parse_mesh(text, world.size());
  std::vector<MeshAxis> axes;
  for (const train::Axis& a : named) axes.push_back({a.name, a.size});
  return world.mesh(std::span<const MeshAxis>(axes));
}

/// Steps up to options.steps, or until someone asks to stop; the losses on the way.
std::vector<train::Point> train_on(World& world, const train::Options& options, train::Trainer& trainer, const train::Corpus& corpus) {
  std::vector<train::Point> points;
  if (trainer.step() >= options.steps) return points;
  train::Progress progress(world, trainer.step(), options.steps, options.batch * options.sequence);
  CommCounter counter;
  while (trainer.step() < options.steps && !world.stop_requested()) {
    counter.reset();
    const double loss = trainer.train_step(corpus);
    points.push_back({trainer.step(), loss});
    progress.show(trainer.step(), loss, counter.bytes_received());
    if (options.save_every > 0 && !options.save.empty() && trainer.step() % options.save_every == 0) trainer.save(options.save);
  }
  const double speed = progress.finish();
  world.print({trainer.step() < options.steps ? "stopped after step " : "trained to step ", trainer.step(), ", ", static_cast<std::int64_t>(speed),
               " tokens/s; last step: ", counter});
  return points;
}

int program(World& world) {
  train::Parsed parsed = train::parse(world.args().subspan(world.args().empty() ? 0 : 1));
  if (parsed.stop) {
    world.print({parsed.text});
    return parsed.code;
  }
  train::Options& options = parsed.options;
  const DeviceMesh mesh = mesh_of(world, options.mesh);
  if (!options.resume.empty()) train::read_sizes(options);
  const train::Corpus corpus(options.data, options.batch, options.sequence, options.seed);
  train::Trainer trainer(options, mesh);
  world.print({mesh, ": ", trainer.parameters(), " parameters, ", corpus.bytes(), " bytes of text, ",
               options.resume.empty() ? std::string("from the beginning") : "resumed at step " + std::to_string(trainer.step())});
  std::vector<train::Point> points;
  if (!options.eval_only) {
    points = train_on(world, options, trainer, corpus);
    if (!options.save.empty()) {
      trainer.save(options.save);
      world.print({"saved ", options.save});
    }
  }
  const double validation = trainer.validate(corpus);
  char text[64];
  std::snprintf(text, sizeof text, "validation loss %.6f", validation);
  world.print({text});
  if (!options.svg.empty()) write_curve(world, options.svg, points, validation);
  if (!options.save.empty() && !options.eval_only) write_curve(world, options.save + ".svg", points, validation);
  if (options.sample > 0) world.print({"--- sample ---\n", trainer.sample(), "\n--------------"});
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program); }
