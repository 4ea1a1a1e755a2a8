// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/error_text.h"
#include "dtensor/nccl.h"
#include "dtensor/world.h"
#include "local/device.h"
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
  std::vector<int> codes;

  Job(const RankBody& b, const RunOptions& o, const std::vector<std::string>& a)
      : body(b), options(o), args(a), codes(static_cast<std::size_t>(std::max(1, o.ranks)), 0) {}
  Job(const Job&) = delete;
  virtual ~Job() = default;
  int size() const noexcept { return static_cast<int>(codes.size()); }
  int& code(int rank) { return codes[static_cast<std::size_t>(rank)]; }
  virtual void run_rank(int rank) noexcept = 0;
  /// Ranks from `rank` on have no thread.
  virtual void lack(int rank, const std::string& text) = 0;
  /// The ranks that have a thread are about to be waited for.
  virtual void ending() {}
  virtual std::exception_ptr first_error() = 0;
};

struct HubJob final : Job {
  std::shared_ptr<comm::Hub> hub;

  HubJob(const RankBody& b, const RunOptions& o, const std::vector<std::string>& a, const char* op)
      : Job(b, o, a), hub(std::make_shared<comm::Hub>(hub_options(o, op))) {}
  void run_rank(int rank) noexcept override {
    {
      std::unique_ptr<WorldData> data;
      try {
        data = WorldData::of_thread(hub, rank, options);
        data->args = args;
        base::bind_rank(&data->context);
        WorldData& kept = *data;
        World world = WorldData::make(std::move(data));
        try {
          code(rank) = body(world);
        } catch (...) {
          kept.failed = true;
          const std::exception_ptr error = std::current_exception();
          hub->fail(rank, error, text_of(error), false);
        }
      } catch (...) {
        const std::exception_ptr error = std::current_exception();
        hub->fail(rank, error, text_of(error), false);
        hub->leave(rank, true);
      }
    }
    if (hub->over().load(std::memory_order_acquire)) hub->wait_for_end(rank);
  }
  void lack(int rank, const std::string& text) override {
    hub->fail(rank, std::make_exception_ptr(DeviceError(text)), text, false);
    for (int missing = rank; missing < size(); ++missing) hub->leave(missing, true);
  }
  std::exception_ptr first_error() override { return hub->first_error(); }
};

// Each rank is as a process would be, in one process: they meet in its memory.
class NcclThreads final : public Job {
 public:
  NcclThreads(const RankBody& b, const RunOptions& o, const std::vector<std::string>& a, const char* op)
      : Job(b, o, a), job_(job_options(o, op)), grace_s_(o.grace_s < 0 ? job_.time_limit_s : o.grace_s), running_(size()) {
    if (o.device && o.device->kind != DeviceKind::cuda)
      base::fail<Unsupported>("{}: NCCL joins ranks by their GPUs, and this program asks for {}; leave the device or --backend nccl out", op,
                              to_string(*o.device));
    if (o.device && o.device->index > 0)
      base::fail<InvalidArgument>("{}: over NCCL rank i has GPU i, and this program puts all ranks on {}; leave the device out", op,
                                  to_string(*o.device));
    if (const NcclInfo info = nccl_info(); !info.built) base::fail<Unsupported>("{}: {}", op, info.why_none);
    else if (!info.why_none.empty()) base::fail<CommError>("nccl: {}", info.why_none);
    local::DeviceBackend& devices = local::require_cuda(Device::cuda(0), op);
    devices.check(Device::cuda(0));
    if (const int count = devices.device_count(); count < size())
      base::fail<DeviceError>(
          "{}: NCCL needs a GPU per rank ({} ranks, {} GPU{}); ranks that share a device use the thread communicator, without --backend nccl", op,
          size(), count, count == 1 ? "" : "s");
    job_.size = size();
    job_.store = comm::memory_store();
  }

  void run_rank(int rank) noexcept override {
    comm::JobOptions own = job_;
    own.rank = rank;
    own.device = Device::cuda(rank);
    try {
      World world = join_job(own, threads_of(options));
      WorldData& data = WorldData::of(world);
      data.args = args;
      try {
        code(rank) = body(world);
      } catch (...) {
        data.failed = true;
        data.job->fail(text_of(std::current_exception()));
        keep(std::current_exception(), data.job->printed_elsewhere());
      }
    } catch (...) {
      keep(std::current_exception(), false);
      comm::end_job(*job_.store, text_of(std::current_exception()));
    }
    const std::lock_guard lock(mutex_);
    ended_.push_back(rank);
    changed_.notify_all();
  }
  void lack(int rank, const std::string& text) override {
    keep(std::make_exception_ptr(DeviceError(text)), false);
    comm::end_job(*job_.store, text);
    const std::lock_guard lock(mutex_);
    running_ = rank;
  }
  // A rank that goes on after an error of another is not waited for without end.
  void ending() override {
    std::unique_lock lock(mutex_);
    const auto all = [&] { return static_cast<int>(ended_.size()) >= running_; };
    changed_.wait(lock, [&] { return all() || error_; });
    if (all() || grace_s_ == 0 || changed_.wait_for(lock, std::chrono::duration<double>(grace_s_), all)) return;
    std::string who;
    for (int r = 0; r < running_; ++r)
      if (std::find(ended_.begin(), ended_.end(), r) == ended_.end()) who += fmt::format("{}{}", who.empty() ? "" : ", ", r);
    std::fprintf(stderr, "%s\nrank %s goes on without a library call %s s after this error; the process leaves\n", text_of(error_).c_str(),
                 who.c_str(), fmt::format("{}", grace_s_).c_str());
    std::_Exit(1);
  }
  std::exception_ptr first_error() override { return error_; }

 private:
  // Of all the first that is a rank's own.
  void keep(std::exception_ptr error, bool of_another) {
    const std::lock_guard lock(mutex_);
    if (!error_ || (another_ && !of_another)) {
      error_ = std::move(error);
      another_ = of_another;
    }
    changed_.notify_all();
  }

  comm::JobOptions job_;
  double grace_s_;
  std::mutex mutex_;  // of all below
  int running_;       // ranks that have a thread
  std::condition_variable changed_;
  std::exception_ptr error_;
  bool another_ = false;
  std::vector<int> ended_;
};

struct Start {
  Job* job;
  int rank;
};

void* thread_main(void* argument) {
  const Start& start = *static_cast<const Start*>(argument);
  const std::string name = "rank " + std::to_string(start.rank);
  pthread_setname_np(pthread_self(), name.c_str());
  start.job->run_rank(start.rank);
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
  explicit Threads(Job& job) : job_(job) {
    const int ranks = job.size();
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
      job.lack(rank, text);
      break;
    }
    pthread_attr_destroy(&attributes);
  }
  Threads(const Threads&) = delete;
  ~Threads() {
    job_.ending();
    for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  }

 private:
  Job& job_;
  std::vector<Start> starts_;
  std::vector<pthread_t> threads_;
};

int run_all(const RankBody& body, const RunOptions& options, const std::vector<std::string>& args, const char* op) {
  if (const base::RankContext* here = base::current_rank())
    base::fail<InvalidArgument>("{}: called on rank {} of {}; a rank starts no ranks, use World::mesh for a part of them", op, here->rank,
                                here->world_size);
  std::unique_ptr<Job> job;
  if (options.backend == Backend::nccl) job = std::make_unique<NcclThreads>(body, options, args, op);
  else job = std::make_unique<HubJob>(body, options, args, op);
  {
    const Threads threads(*job);
    job->run_rank(0);
  }
  if (const std::exception_ptr error = job->first_error()) std::rethrow_exception(error);
  return *std::max_element(job->codes.begin(), job->codes.end());
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
