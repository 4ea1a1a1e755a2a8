// SPDX-License-Identifier: Apache-2.0
// What run() reads of its arguments.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "dtensor/world.h"

namespace dtensor::world {

struct CommandLine {
  RunOptions options;
  bool ranks_given = false, backend_given = false;
  std::vector<std::string> rest;  ///< the program's name and what run() does not take
};
/// Takes --ranks N, --threads N, --time-limit S, --device cpu|cuda|cuda:N, --backend threads|nccl (also --ranks=N) up to "--". @throws InvalidArgument naming the option and its text.
CommandLine read_command_line(std::span<char* const> argv, const RunOptions& defaults);

}  // namespace dtensor::world
