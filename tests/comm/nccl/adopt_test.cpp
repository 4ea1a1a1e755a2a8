// SPDX-License-Identifier: Apache-2.0
// A world over a communicator that the application owns.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "comm/communicator.h"
#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/adopt.h"
#include "dtensor/comm.h"
#include "dtensor/cuda_graph.h"
#include "dtensor/error.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
namespace nccl = comm::nccl;
namespace recorded = comm::nccl::recorded;

namespace {

// Each thread is a process of an application with a communicator of its own.
template <class F>
std::vector<std::string> with_communicators(int ranks, const F& f) {
  local::cuda::emulated::set_devices(1, std::int64_t{1} << 30);
  nccl::UniqueId id{};
  static_cast<void>(nccl::make_unique_id(id));
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      nccl::Comm comm = nullptr;
      CHECK(nccl::init(comm, ranks, id, rank, "theirs") == nccl::Result::in_progress);
      while (nccl::state(comm) == nccl::Result::in_progress) std::this_thread::yield();
      errors[static_cast<std::size_t>(rank)] = error_of([&] { f(comm); });
    });
  for (std::thread& t : threads) t.join();
  return errors;
}

int rank_of(void* comm) {
  int rank = -1, size = 0, device = 0;
  CHECK(nccl::membership(comm, rank, size, device) == nccl::Result::success);
  return rank;
}

void use(void* comm, const AdoptOptions& options) {
  World world = adopt_nccl(comm, options);
  CHECK(world.size() == 3);
  CHECK(world.device() == Device::cuda(0));
  const Tensor x = input_of(world.rank(), {4}, Dtype::f32).to(world.device()), y = Tensor::zeros({4}, Dtype::f32, world.device());
  const std::vector<int> everyone{0, 1, 2};
  comm::group(everyone).all_reduce({"all_reduce"}, x, y, {ReduceOp::sum, 1});
  CHECK(doubles_of(y.to(Device::cpu()))[0] == input_value(0, 0, Dtype::f32) + input_value(1, 0, Dtype::f32) + input_value(2, 0, Dtype::f32));
  if (world.rank() != 1) {
    const std::vector<int> two{0, 2};
    comm::group(two).all_reduce({"all_reduce"}, x, y, {ReduceOp::sum, 1});
    CHECK(doubles_of(y.to(Device::cpu()))[1] == input_value(0, 1, Dtype::f32) + input_value(2, 1, Dtype::f32));
  }
  world.barrier();
}

}  // namespace

TEST_CASE("an adopted communicator carries the moves of all ranks and is neither freed nor aborted") {
  std::string folder = (std::filesystem::temp_directory_path() / "dtensor-adopt-XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  for (const std::string& store : {std::string(), folder}) {
    recorded::taken_calls();
    recorded::taken_lives();
    for (const std::string& e : with_communicators(3, [&](void* comm) { use(comm, {.time_limit_s = 20, .store_folder = store}); }))
      CHECK(e == "no error");
    const recorded::Lives lives = recorded::taken_lives();
    CHECK(lives.made == 3 + 2 + 3);  // the application's, those of {0, 2}, those of the barrier
    CHECK(lives.destroyed == 2 + 3);
    CHECK(lives.aborted == 0);
    int carried = 0;
    for (const recorded::Call& c : recorded::taken_calls()) carried += c.comm == "theirs" && c.verb == "AllReduce" ? 1 : 0;
    CHECK(carried == 3);
    CHECK(recorded::taken_mismatches().empty());
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("after an error in one program the adopted communicator is left to the application") {
  recorded::taken_lives();
  const auto errors = with_communicators(2, [&](void* comm) {
    World world = adopt_nccl(comm, {.time_limit_s = 20});
    world.barrier();
    if (world.rank() == 1) throw std::runtime_error("no bread");
    for (;;) world.barrier();
  });
  CHECK(errors[1] == "no bread");
  CHECK(contains(errors[0], "barrier: rank 1 ended with an error (an exception has left its scope); the world is over"));
  CHECK(recorded::taken_lives().aborted == 2);  // the barrier's
}

TEST_CASE("the environment's time limit holds for an adopted communicator") {
  setenv("DTENSOR_TIME_LIMIT", "1", 1);
  const auto errors = with_communicators(2, [&](void* comm) {
    World world = adopt_nccl(comm, {});
    world.barrier();
    if (world.rank() == 1) return std::this_thread::sleep_for(std::chrono::seconds(3));
    world.barrier();
  });
  unsetenv("DTENSOR_TIME_LIMIT");
  CHECK(contains(errors[0], "barrier: not all ranks have come within 1 s (rank 0 "));
}

TEST_CASE("a rank that does not call adopt is found by the time limit") {
  const auto errors = with_communicators(2, [](void* comm) {
    if (rank_of(comm) == 1) return std::this_thread::sleep_for(std::chrono::seconds(1));
    adopt_nccl(comm, {.time_limit_s = 0.3});
  });
  CHECK(errors[0] ==
        "adopt: not all ranks have come within 0.3 s (rank 0 of 2 waits for the address of rank 0); every rank of the communicator must call adopt; "
        "raise the limit with DTENSOR_TIME_LIMIT, 0 for none");
}

TEST_CASE("a world ends although a collective on its adopted communicator never does") {
  const auto begin = std::chrono::steady_clock::now();
  const auto errors = with_communicators(2, [&](void* comm) {
    World world = adopt_nccl(comm, {.time_limit_s = 0.5});
    const std::vector<int> everyone{0, 1};
    const Tensor x = input_of(world.rank(), {4}, Dtype::f32).to(world.device()), y = Tensor::zeros({4}, Dtype::f32, world.device());
    comm::group(everyone).all_reduce({"all_reduce"}, x, y, {ReduceOp::sum, 1});
    y.to(Device::cpu());
    if (world.rank() == 1) return std::this_thread::sleep_for(std::chrono::seconds(2));
    comm::group(everyone).all_reduce({"all_reduce"}, x, y, {ReduceOp::sum, 1});
    std::this_thread::sleep_for(std::chrono::seconds(1));
    comm::group(everyone).all_reduce({"all_reduce"}, x, y, {ReduceOp::sum, 1});
  });
  CHECK(contains(errors[0], "all_reduce: not all ranks have come within 0.5 s (rank 0 waits in collective 1 of group {0, 1}"));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("a world ends although a replay on its adopted communicator waits for a rank that is gone") {
  const auto begin = std::chrono::steady_clock::now();
  const auto errors = with_communicators(2, [&](void* comm) {
    CudaGraph outside;
    World world = adopt_nccl(comm, {.time_limit_s = 20});
    const std::vector<int> everyone{0, 1};
    const Tensor x = input_of(world.rank(), {4}, Dtype::f32).to(world.device());
    const auto body = [&] { comm::group(everyone).all_reduce({"all_reduce"}, x, x, {ReduceOp::sum, 1}); };
    body();
    outside = CudaGraph::record(world.device(), body);
    CudaGraph graph = CudaGraph::record(world.device(), body);
    world.barrier();
    if (world.rank() == 1) throw std::runtime_error("no bread");
    graph.replay();
    outside.replay();
    world.barrier();
  });
  CHECK(errors[1] == "no bread");
  CHECK(contains(errors[0], "barrier: rank 1 ended with an error"));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}

TEST_CASE("what cannot be adopted is refused") {
  CHECK_THROWS_WITH_AS(adopt_nccl(nullptr, {}), "adopt: the communicator is null; give one that ncclCommInitRank has made", InvalidArgument);
  const auto errors = with_communicators(1, [](void* comm) { adopt_nccl(comm, {.device = Device::cuda(3)}); });
  CHECK(errors[0] == "adopt: the communicator is on cuda:0 and AdoptOptions.device is cuda:3; give the same");
}
