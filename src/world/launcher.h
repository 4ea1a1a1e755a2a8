// SPDX-License-Identifier: Apache-2.0
// What launchers say in the environment: which process this is of how many, and where they meet.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "comm/store/store.h"

namespace dtensor::world {

/// A launcher that started several processes.
struct Launcher {
  std::string variable;  ///< that holds the size: "WORLD_SIZE"
  std::string rank_variable;
  int size = 0, rank = 0;
  int local_rank = 0, local_size = 0;  ///< among the processes of this machine; size 0: not known
};
/// RANK, WORLD_SIZE and LOCAL_RANK (torchrun and others), OMPI_COMM_WORLD_*, or a Slurm step of several tasks; none for one process.
/// @throws InvalidArgument naming the variable: a rank that is no number, or not below the size; one of the two without the other.
std::optional<Launcher> find_launcher();

/// Where the processes meet: DTENSOR_STORE=file:FOLDER, or rank 0's TCP store at MASTER_ADDR and MASTER_PORT. Slurm's own variables stand in for these.
struct Meeting {
  std::string folder;  ///< of a file store; empty: TCP
  std::string host;
  int port = 0;
};
/// @throws InvalidArgument naming the variable that is missing or wrong.
Meeting find_meeting();
/// What all processes of one job say alike and those of another do not: its size, and the job's number where the launcher gives one.
std::string job_name(const Launcher& launcher);
/// The store of the job's run-th world, counted from 1. @throws CommError as the stores.
std::shared_ptr<comm::Store> meet(const Meeting& meeting, const Launcher& launcher, int run, double time_limit_s);

/// The first host of Slurm's list: "gpu[03-07,9],x" is "gpu03".
std::string first_host(const std::string& list);

}  // namespace dtensor::world
