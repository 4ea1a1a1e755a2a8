// SPDX-License-Identifier: Apache-2.0
// Ranks of one process with a GPU each: over NCCL, and over the memory that they all see.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "comm/expected.h"
#include "comm/nccl/process.h"
#include "comm/nccl/recorder.h"
#include "cuda/emulator.h"
#include "dtensor/comm.h"
#include "dtensor/error.h"
#include "dtensor/mesh.h"
#include "dtensor/tensor.h"
#include "dtensor/world.h"

using namespace dtensor;
using namespace dtensor::testing;
namespace recorded = comm::nccl::recorded;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }
void set_devices(int count) { local::cuda::emulated::set_devices(count, std::int64_t{1} << 30); }

// run() as a program of its own would call it; what it prints, then its code.
std::string program(std::vector<std::string> words, RankBody body, const RunOptions& defaults = {}) {
  const Ended ended = in_process([&] {
    words.insert(words.begin(), "program");
    std::vector<char*> arguments;
    for (std::string& w : words) arguments.push_back(w.data());
    return run(static_cast<int>(arguments.size()), arguments.data(), body, defaults);
  });
  return ended.text + std::to_string(ended.code);
}

// Every rank gives its number; the sum of all, where they lie, and what the body threw.
void add_up(World& world) {
  const Tensor x = Tensor::zeros({3}, Dtype::f32, world.device());
  x.fill_(world.rank() + 1);
  const int n = world.size();
  CHECK(doubles_of(all(world).all_reduce(x).to(Device::cpu()))[2] == n * (n + 1) / 2);
  const int next = (world.rank() + 1) % n, before = (world.rank() + n - 1) % n;
  const Tensor theirs = Tensor::zeros({3}, Dtype::f32, world.device());
  Work sent = all(world).send(x, next), got = all(world).recv(theirs, before);
  got.wait();
  sent.wait();
  CHECK(doubles_of(theirs.to(Device::cpu()))[0] == before + 1);
}

}  // namespace

TEST_CASE("threads of one process drive a GPU each with NCCL between them, run after run") {
  for (int ranks : {2, 4}) {
    set_devices(ranks);
    for (int turn = 0; turn < 2; ++turn) {
      recorded::taken_calls();
      recorded::taken_mismatches();
      const auto devices = collect({.ranks = ranks, .time_limit_s = 20, .backend = Backend::nccl}, [](World& world) {
        add_up(world);
        return static_cast<int>(world.device().index);
      });
      for (int r = 0; r < ranks; ++r) CHECK(devices[static_cast<std::size_t>(r)] == r);
      CHECK(recorded::taken_mismatches().empty());
      int sums = 0;
      for (const recorded::Call& c : recorded::taken_calls()) sums += c.verb == "AllReduce" ? 1 : 0;
      CHECK(sums == ranks);
    }
  }
}

TEST_CASE("more ranks than GPUs is an error that says what shares a GPU") {
  set_devices(2);
  const char* text =
      "run: NCCL needs a GPU per rank (4 ranks, 2 GPUs); ranks that share a device use the thread communicator, without --backend nccl\n1";
  CHECK(program({"--ranks", "4", "--backend", "nccl"}, [](World&) {}) == text);
  set_devices(1);
  CHECK(contains(program({"--ranks=2", "--backend=nccl"}, [](World&) {}), "(2 ranks, 1 GPU)"));
  set_devices(0);
  CHECK(contains(program({"--ranks=2", "--backend=nccl"}, [](World&) {}), "there is no driver"));
  set_devices(2);
}

TEST_CASE("a device that contradicts NCCL's is refused") {
  set_devices(2);
  CHECK(program({"--ranks", "2", "--backend", "nccl", "--device", "cpu"}, [](World&) {}) ==
        "run: NCCL joins ranks by their GPUs, and this program asks for cpu; leave the device or --backend nccl out\n1");
  CHECK(program({"--ranks", "2", "--backend", "nccl", "--device", "cuda:1"}, [](World&) {}) ==
        "run: over NCCL rank i has GPU i, and this program puts all ranks on cuda:1; leave the device out\n1");
  CHECK(program({"--backend", "mpi"}, [](World&) {}) == "run: --backend takes threads or nccl (got 'mpi'); for example --backend nccl\n1");
  CHECK_THROWS_WITH_AS(ThreadGroup({.ranks = 2, .backend = Backend::nccl}),
                       "ThreadGroup: threads of an application use the thread communicator; over NCCL each gives its communicator to adopt()",
                       Unsupported);
}

TEST_CASE("the error of one rank ends all, and it is the one that the run throws") {
  set_devices(3);
  CHECK_THROWS_WITH_AS(run_ranks({.ranks = 3, .time_limit_s = 20, .backend = Backend::nccl},
                                 [](World& world) {
                                   add_up(world);
                                   world.barrier();
                                   if (world.rank() == 1) throw std::runtime_error("no bread");
                                   for (;;) all(world).all_reduce(Tensor::zeros({3}, Dtype::f32, world.device())).to(Device::cpu());
                                 }),
                       "no bread", std::runtime_error);
  CHECK(program({"--ranks", "3", "--backend", "nccl"}, [](World& world) {
          if (world.rank() == 2) throw std::runtime_error("no bread");
          world.barrier();
        }) == "no bread\n1");
}

TEST_CASE("a rank that goes on after the error of another is named, and the process leaves") {
  set_devices(2);
  const std::string text = program({"--ranks", "2", "--backend", "nccl"},
                                   [](World& world) {
                                     if (world.rank() == 0) throw std::runtime_error("no bread");
                                     for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
                                   },
                                   {.grace_s = 0.3});
  CHECK(text == "no bread\nrank 1 goes on without a library call 0.3 s after this error; the process leaves\n1");
}

TEST_CASE("--device cuda gives each rank a GPU of its own as long as there are some, and cuda:N is of all ranks") {
  set_devices(2);
  const auto says = [](World& world) {
    add_up(world);
    std::fprintf(stderr, "%s", std::string(static_cast<std::size_t>(1 + world.device().index), '.').c_str());
    world.barrier();
  };
  // One point for GPU 0, two for GPU 1.
  CHECK(program({"--ranks", "4", "--device", "cuda"}, says) == "......0");
  CHECK(program({"--ranks", "4", "--device", "cuda:1"}, says) == "........0");
  CHECK(program({"--ranks", "4", "--device", "cuda:0"}, says) == "....0");
  set_devices(4);
  const auto devices = collect({.ranks = 6, .device = kOwnCuda}, [](World& world) {
    add_up(world);
    return static_cast<int>(world.device().index);
  });
  CHECK(devices == std::vector<int>{0, 1, 2, 3, 0, 1});
  ThreadGroup group({.ranks = 2, .device = kOwnCuda});
  const World world = World::join(group, 1);
  CHECK(world.device() == Device::cuda(1));
  set_devices(2);
}
