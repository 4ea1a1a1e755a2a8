// SPDX-License-Identifier: Apache-2.0
// Ranks that are processes.
#pragma once

#include <exception>
#include <string>

#include "comm/job.h"
#include "world/command_line.h"
#include "world/launcher.h"

namespace dtensor::world {

/// Runs the body as the rank that the launcher says, and prints the error that ended it. @throws what keeps it from starting.
int run_launched(const RankBody& body, const Launcher& launcher, const CommandLine& line);
/// What the options and the environment say of time limits and orders.
comm::JobOptions job_options(const RunOptions& options, const char* op);
std::string text_of(const std::exception_ptr& error) noexcept;
/// The calling thread becomes a rank of a world of processes; `threads` of kernels.
World join_job(const comm::JobOptions& options, int threads);

}  // namespace dtensor::world
