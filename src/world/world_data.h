// SPDX-License-Identifier: Apache-2.0
// What a World refers to.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/rank.h"
#include "comm/job.h"
#include "comm/thread/hub.h"
#include "dtensor/world.h"

namespace dtensor::world {

struct WorldData {
  base::RankContext context;
  std::shared_ptr<comm::Hub> hub;  // of a rank that is a thread
  std::shared_ptr<comm::Job> job;  // of one that is a process; neither: fake
  std::vector<std::string> args;
  std::atomic<std::thread::id> inside{};  // the thread that has entered
  int depth = 0;                          // of entries; of that thread
  int exceptions = 0;                     // in flight when the world was made
  bool failed = false;                    // by an error that the hub knows
  bool watches_signals = false;

  WorldData() = default;
  WorldData(const WorldData&) = delete;
  /// Does what is undone, tells the others, destroys the rank's state and unbinds the thread.
  ~WorldData();

  /// A rank of a world of threads, not yet bound.
  static std::unique_ptr<WorldData> of_thread(std::shared_ptr<comm::Hub> hub, int rank, const RunOptions& options);
  static World make(std::unique_ptr<WorldData> data) { return World(std::move(data)); }
  static WorldData& of(World& world) { return *world.data_; }
};

/// Of a rank that is a thread.
Device device_of(const RunOptions& options, int rank);
/// Threads per rank that options ask for.
int threads_of(const RunOptions& options);
/// Checks ranks and times; applies DTENSOR_TIME_LIMIT.
comm::HubOptions hub_options(const RunOptions& options, const char* op);

}  // namespace dtensor::world
