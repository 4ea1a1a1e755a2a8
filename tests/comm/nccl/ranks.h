// SPDX-License-Identifier: Apache-2.0
// Worlds over the NCCL that stands in for tests: ranks are threads with a device each.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/nccl/recorder.h"
#include "comm/store/store.h"
#include "cuda/emulator.h"
#include "dtensor/world.h"
#include "world/processes.h"
#include "world/world_data.h"

namespace dtensor::testing {

struct NcclOptions {
  double time_limit_s = 20;
  bool in_rank_order = false, all_to_all = true, check = false;
  std::int64_t window_bytes = 0;
  int without_window = -1;  ///< a rank
  comm::CtaPolicy cta_policy = comm::CtaPolicy::standard;
};

/// The text of what each rank threw, empty for none.
template <class F>
std::vector<std::string> errors_over_nccl(int ranks, const F& body, const NcclOptions& options = {}) {
  local::cuda::emulated::set_devices(ranks, std::int64_t{1} << 30);
  const std::shared_ptr<comm::Store> store = comm::memory_store();
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      comm::JobOptions job{.store = store, .rank = rank, .size = ranks, .device = Device::cuda(rank), .time_limit_s = options.time_limit_s};
      job.in_rank_order = options.in_rank_order;
      job.all_to_all = options.all_to_all;
      job.check = options.check;
      job.window_bytes = rank == options.without_window ? 0 : options.window_bytes;
      job.cta_policy = options.cta_policy;
      std::string& text = errors[static_cast<std::size_t>(rank)];
      try {
        World world = world::join_job(job, 1);
        try {
          body(world);
        } catch (const std::exception& e) {
          text = e.what();
          world::WorldData::of(world).failed = true;
          world::WorldData::of(world).job->fail(text);
        }
      } catch (const std::exception& e) { text = e.what(); }
    });
  for (std::thread& t : threads) t.join();
  return errors;
}

/// Nobody throws, and what the ranks asked of NCCL matched.
template <class F>
bool runs_over_nccl(int ranks, const F& body, const NcclOptions& options = {}) {
  bool good = true;
  const auto say = [&](const std::string& text) {
    if (good) std::fprintf(stderr, "%s\n", text.c_str());
    good = false;
  };
  comm::nccl::recorded::taken_mismatches();
  comm::nccl::recorded::taken_lives();
  for (const std::string& error : errors_over_nccl(ranks, body, options))
    if (!error.empty()) say(error);
  for (const std::string& text : comm::nccl::recorded::taken_mismatches()) say(text);
  if (comm::nccl::recorded::taken_lives().aborted != 0) say("a communicator was aborted");
  return good;
}

/// What the calling thread made the host wait for since the last call; copies from and to memory of the host that is not pinned are waits.
inline int host_waits() {
  int count = 0;
  for (const auto& e : local::cuda::emulated::taken_entries())
    count += e.what.starts_with("host waits") || e.what.starts_with("copy to host") ? 1 : 0;
  return count;
}

/// What each member of a group asked, in order: "AllGather 4 f32".
inline std::vector<std::vector<std::string>> texts_by_member(const std::vector<comm::nccl::recorded::Call>& calls, int members) {
  std::vector<std::vector<std::string>> texts(static_cast<std::size_t>(members));
  for (const auto& c : calls) texts[static_cast<std::size_t>(c.member)].push_back(c.text());
  return texts;
}

}  // namespace dtensor::testing
