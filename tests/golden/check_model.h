// SPDX-License-Identifier: Apache-2.0
// One golden model on one mesh: logits, gradients, 20 training steps, gradient norms, parameters and greedy text against the values of another program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <dtensor/mesh.h>

namespace golden {

struct Case {
  std::string folder;  ///< config.json, model.safetensors, tokens.safetensors, expected.*
  bool sequence_parallel = false;
  std::int64_t steps = 0;  ///< of training, once; 0: all that are stored, twice, and what is after them
  bool replayed = false;   ///< from the second step on training is the replays of a recorded one
};
/// Deviations beyond the tolerance, as sentences; empty when all is well. Collective over the mesh; the same on every rank.
std::vector<std::string> check_model(const Case& c, const dtensor::DeviceMesh& mesh);

}  // namespace golden
