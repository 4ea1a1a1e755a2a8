// SPDX-License-Identifier: Apache-2.0
#include "world/processes.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string_view>
#include <utility>

#include "base/environment.h"
#include "base/error_text.h"
#include "comm/thread/bell.h"
#include "dtensor/adopt.h"
#include "local/device.h"
#include "world/world_data.h"

namespace dtensor {
namespace world {
namespace {

constexpr std::int64_t kWindowBytes = 8 << 20;

void throw_over_of(base::RankContext& context) {
  const char* call = context.last_call.load(std::memory_order_relaxed);
  base::rank_state<comm::JobOfRank>(context).job->throw_over(call != nullptr ? call : "call");
}

void refuse(const Launcher& launcher, const CommandLine& line) {
  if (line.ranks_given)
    base::fail<InvalidArgument>("run: a launcher and --ranks together ({}={}, --ranks {}); use one of them", launcher.variable, launcher.size,
                                line.options.ranks);
  if (line.backend_given && line.options.backend != Backend::nccl)
    base::fail<InvalidArgument>("run: a launcher and --backend threads together ({}={}); threads are ranks of one process, start it with --ranks {}",
                                launcher.variable, launcher.size, launcher.size);
  if (!comm::has_nccl())
    base::fail<Unsupported>(
        "run: a launcher has started {} processes ({}={}) and this build joins none; build with DTENSOR_MPI or DTENSOR_NCCL, or start one process "
        "with "
        "--ranks {}",
        launcher.size, launcher.variable, launcher.size, launcher.size);
  if (const auto& device = line.options.device; device && device->kind != DeviceKind::cuda)
    base::fail<Unsupported>("run: NCCL joins processes by their GPUs, and this program asks for {}; start one process with --ranks {}",
                            to_string(*device), launcher.size);
}

// "cuda" is the GPU of the process's number on its machine, or the only one that it sees.
Device device_of(const Launcher& launcher, const RunOptions& options) {
  if (options.device && options.device->index > 0) return *options.device;
  const int count = local::require_cuda(Device::cuda(0), "run").device_count();
  if (count <= 1) return Device::cuda(0);
  if (launcher.local_rank >= count)
    base::fail<DeviceError>("run: rank {} is number {} on its machine, which has {} GPUs; start as many processes per machine as there are GPUs",
                            launcher.rank, launcher.local_rank, count);
  return Device::cuda(launcher.local_rank);
}

}  // namespace

std::string text_of(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) { return e.what(); } catch (...) {
    return "an exception that is no std::exception";
  }
}

comm::JobOptions job_options(const RunOptions& options, const char* op) {
  comm::JobOptions job{.time_limit_s = hub_options(options, op).time_limit_s};
  job.in_rank_order = base::env_bool("DTENSOR_REPRODUCIBLE").value_or(false);
  job.check = base::env_bool("DTENSOR_CHECK").value_or(false);
  job.window_bytes = base::env_int("DTENSOR_NCCL_WINDOW", 0).value_or(kWindowBytes);
  if (const auto policy = base::env("DTENSOR_NCCL_CTA_POLICY")) {
    constexpr std::array<std::string_view, 3> kPolicies{"default", "efficiency", "zero"};
    const auto at = std::find(kPolicies.begin(), kPolicies.end(), *policy);
    if (at == kPolicies.end())
      base::fail<InvalidArgument>("{}: DTENSOR_NCCL_CTA_POLICY is default, efficiency or zero (got '{}'); leave it out for NCCL's choice", op,
                                  *policy);
    job.cta_policy = static_cast<comm::CtaPolicy>(at - kPolicies.begin());
  }
  return job;
}

World join_job(const comm::JobOptions& options, int threads) {
  if (const base::RankContext* here = base::current_rank())
    base::fail<InvalidArgument>("run: the calling thread is rank {} already; join on another thread", here->rank);
  static std::atomic<std::uint64_t> next{1};
  auto data = std::make_unique<WorldData>();
  base::RankContext& context = data->context;
  context.rank = options.rank;
  context.world_size = options.size;
  // Apart from the worlds of threads and the fake ones.
  context.world_id = (std::uint64_t{2} << 32) + next.fetch_add(1);
  context.device = options.device;
  context.threads = threads;
  base::bind_rank(&context);
  try {
    data->job = comm::nccl_job(options);
  } catch (...) {
    base::bind_rank(nullptr);
    throw;
  }
  context.over = &data->job->over();
  context.throw_over = throw_over_of;
  base::rank_state<comm::JobOfRank>(context).job = data->job;
  base::rank_state<comm::RankComm>(context).transport = data->job->transport();
  data->exceptions = std::uncaught_exceptions();
  return WorldData::make(std::move(data));
}

int run_launched(const RankBody& body, const Launcher& launcher, const CommandLine& line) {
  refuse(launcher, line);
  RunOptions options = line.options;
  options.ranks = 1;
  options.device = device_of(launcher, options);
  comm::JobOptions job = job_options(options, "run");
  job.rank = launcher.rank;
  job.size = launcher.size;
  job.device = *options.device;
  static std::atomic<int> runs{0};
  job.store = meet(find_meeting(), launcher, ++runs, job.time_limit_s);
  options.ranks = std::max(1, launcher.local_size);
  World world = join_job(job, threads_of(options));
  WorldData& data = WorldData::of(world);
  data.args = line.rest;
  try {
    return body(world);
  } catch (...) {
    const std::string text = text_of(std::current_exception());
    data.failed = true;
    data.job->fail(text);
    if (!data.job->printed_elsewhere()) std::fprintf(stderr, "%s\n", text.c_str());
    return 1;
  }
}

}  // namespace world

World adopt_nccl(void* comm, const AdoptOptions& options) {
  if (comm == nullptr) base::fail<InvalidArgument>("adopt: the communicator is null; give one that ncclCommInitRank has made");
  const comm::Membership m = comm::nccl_membership(comm);
  if (options.device && !(*options.device == Device::cuda(m.device)))
    base::fail<InvalidArgument>("adopt: the communicator is on cuda:{} and AdoptOptions.device is {}; give the same", m.device,
                                to_string(*options.device));
  comm::JobOptions job = world::job_options({.time_limit_s = options.time_limit_s}, "adopt");
  job.rank = m.rank;
  job.size = m.size;
  job.device = Device::cuda(m.device);
  job.adopted = comm;
  if (!options.store_folder.empty()) {
    job.store = comm::file_store(options.store_folder);
  } else {
    comm::TcpOptions tcp{.host = comm::host_name(),
                         .port = 0,
                         .serve = m.rank == 0,
                         .time_limit_s = job.time_limit_s,
                         .who = fmt::format("rank {} of {}", m.rank, m.size),
                         .job = fmt::format("adopted-{}-{}", getpid(), std::chrono::system_clock::now().time_since_epoch().count())};
    constexpr std::size_t kAddressBytes = 512;
    std::string address;
    std::exception_ptr bad;
    if (m.rank == 0) try {
        job.store = comm::tcp_store(tcp);
        address = fmt::format("{} {} {}", tcp.host, comm::tcp_port(*job.store), tcp.job);
      } catch (...) { bad = std::current_exception(); }
    // The others wait for an address: none says that rank 0 has failed.
    address.resize(kAddressBytes, '\0');
    if (m.size > 1) address = comm::nccl_broadcast(comm, m, address, job.time_limit_s);
    if (bad) std::rethrow_exception(bad);
    if (address[0] == '\0') base::fail<CommError>("adopt: rank 0 could not serve a store (it says why); or give AdoptOptions.store_folder");
    if (m.rank != 0) {
      const std::size_t port = address.find(' ') + 1, name = address.find(' ', port) + 1;
      tcp.host = address.substr(0, port - 1) == tcp.host ? "localhost" : address.substr(0, port - 1);
      tcp.port = std::stoi(address.substr(port));
      tcp.job = address.substr(name, address.find('\0', name) - name);
      job.store = comm::tcp_store(tcp);
    }
  }
  RunOptions threads;
  threads.threads_per_rank = options.threads;
  return world::join_job(job, world::threads_of(threads));
}

}  // namespace dtensor
