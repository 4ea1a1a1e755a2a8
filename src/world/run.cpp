// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "base/error_text.h"
#include "dtensor/world.h"
#include "world/command_line.h"
#include "world/processes.h"
#include "world/world_data.h"

namespace dtensor {

namespace world {
namespace {

struct Job {
  const RankBody& body;
  const RunOptions& options;
  const std::vector<std::string>& args;
  std::shared_ptr<comm::Hub> hub;
  std::vector<int> codes;
};

std::string text_of(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) { return e.what(); } catch (...) {
    return "an exception that is no std::exception";
  }
}

void run_rank(Job& job, int rank) noexcept {
  {
    std::unique_ptr<WorldData> data;
    try {
      data = WorldData::of_thread(job.hub, rank, job.options);
      data->args = job.args;
      base::bind_rank(&data->context);
      WorldData& kept = *data;
      World world = WorldData::make(std::move(data));
      try {
        job.codes[static_cast<std::size_t>(rank)] = job.body(world);
      } catch (...) {
        kept.failed = true;
        const std::exception_ptr error = std::current_exception();
        job.hub->fail(rank, error, text_of(error), false);
      }
    } catch (...) {
      const std::exception_ptr error = std::current_exception();
      job.hub->fail(rank, error, text_of(error), false);
      job.hub->leave(rank, true);
    }
  }
  if (job.hub->over().load(std::memory_order_acquire)) job.hub->wait_for_end(rank);
}

struct Start {
  Job* job;
  int rank;
};

void* thread_main(void* argument) {
  const Start& start = *static_cast<const Start*>(argument);
  const std::string name = "rank " + std::to_string(start.rank);
  pthread_setname_np(pthread_self(), name.c_str());
  run_rank(*start.job, start.rank);
  return nullptr;
}

// The main thread's limit, so that a program that runs on one rank runs on all.
void set_stack(pthread_attr_t& attributes) {
  rlimit limit{};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  pthread_attr_setstacksize(&attributes, static_cast<std::size_t>(std::max<rlim_t>(limit.rlim_cur, 1 << 20)));
}

class Threads {
 public:
  explicit Threads(Job& job) {
    const int ranks = job.hub->size();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    set_stack(attributes);
    starts_.reserve(static_cast<std::size_t>(ranks));
    for (int rank = 1; rank < ranks; ++rank) {
      starts_.push_back({&job, rank});
      pthread_t thread{};
      const int code = pthread_create(&thread, &attributes, thread_main, &starts_.back());
      if (code == 0) {
        threads_.push_back(thread);
        continue;
      }
      const std::string text =
          fmt::format("run: the system gives no thread for rank {} of {} (error {}); use fewer ranks or a smaller stack limit", rank, ranks, code);
      job.hub->fail(rank, std::make_exception_ptr(DeviceError(text)), text, false);
      for (int missing = rank; missing < ranks; ++missing) job.hub->leave(missing, true);
      break;
    }
    pthread_attr_destroy(&attributes);
  }
  Threads(const Threads&) = delete;
  ~Threads() {
    for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  }

 private:
  std::vector<Start> starts_;
  std::vector<pthread_t> threads_;
};

int run_all(const RankBody& body, const RunOptions& options, const std::vector<std::string>& args, const char* op) {
  if (const base::RankContext* here = base::current_rank())
    base::fail<InvalidArgument>("{}: called on rank {} of {}; a rank starts no ranks, use World::mesh for a part of them", op, here->rank,
                                here->world_size);
  Job job{body, options, args, std::make_shared<comm::Hub>(hub_options(options, op)), {}};
  job.codes.resize(static_cast<std::size_t>(job.hub->size()), 0);
  {
    const Threads threads(job);
    run_rank(job, 0);
  }
  if (const std::exception_ptr error = job.hub->first_error()) std::rethrow_exception(error);
  return *std::max_element(job.codes.begin(), job.codes.end());
}

}  // namespace
}  // namespace world

int run(int argc, char** argv, RankBody body, const RunOptions& defaults) noexcept {
  try {
    const world::CommandLine line = world::read_command_line({argv, static_cast<std::size_t>(std::max(argc, 0))}, defaults);
    if (const auto launcher = world::find_launcher()) return world::run_launched(body, *launcher, line);
    return world::run_all(body, line.options, line.rest, "run");
  } catch (const std::exception& e) { std::fprintf(stderr, "%s\n", e.what()); } catch (...) {
    std::fprintf(stderr, "an exception that is no std::exception\n");
  }
  return 1;
}

void run_ranks(const RunOptions& options, RankBody body) { world::run_all(body, options, {}, "run_ranks"); }

}  // namespace dtensor
