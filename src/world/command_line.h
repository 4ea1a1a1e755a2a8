// SPDX-License-Identifier: Apache-2.0
// What run() reads: its own options, and the variables of launchers.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dtensor/world.h"

namespace dtensor::world {

struct CommandLine {
  RunOptions options;
  bool ranks_given = false;
  std::vector<std::string> rest;  ///< the program's name and what run() does not take
};
/// Takes --ranks N, --threads N, --time-limit S, --device cpu|cuda|cuda:N (also --ranks=N) up to "--". @throws InvalidArgument naming the option and its text.
CommandLine read_command_line(std::span<char* const> argv, const RunOptions& defaults);

/// A launcher that started several processes: the variables that say so.
struct Launcher {
  std::string variable;  ///< "WORLD_SIZE"
  int size = 0;
};
/// RANK and WORLD_SIZE, OMPI_COMM_WORLD_*, or a Slurm step of several tasks; none for one process.
std::optional<Launcher> find_launcher();
/// This build has no backend for processes. @throws InvalidArgument for a launcher together with --ranks, else Unsupported.
[[noreturn]] void refuse_launcher(const Launcher& launcher, const CommandLine& line);

}  // namespace dtensor::world
