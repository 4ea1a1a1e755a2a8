// SPDX-License-Identifier: Apache-2.0
// Errors of NCCL, of ranks and of the environment: each is one sentence on every rank, and nobody hangs.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <stdexcept>

#include "comm/expected.h"
#include "comm/nccl/nccl_job.h"
#include "comm/nccl/process.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/error.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
namespace recorded = comm::nccl::recorded;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }
Tensor ones(World& world) { return input_of(0, {4}, Dtype::f32).to(world.device()); }
void pause(double s) { std::this_thread::sleep_for(std::chrono::duration<double>(s)); }

// One that the system has just given, and that nobody has.
std::string free_port() {
  return std::to_string(comm::tcp_port(*comm::tcp_store({.host = {}, .port = 0, .serve = true, .time_limit_s = 5, .who = "test"})));
}

// What a process of its own writes when it runs a program under an environment; its code comes last.
std::string process(
    const std::vector<std::pair<const char*, const char*>>& variables, const std::function<void(World&)>& body = [](World&) {}, int runs = 1) {
  const Ended ended = in_process([&] {
    for (const auto& [name, value] : variables) setenv(name, value, 1);
    char name[] = "program";
    char* arguments[] = {name, nullptr};
    int code = 0;
    for (int i = 0; i < runs; ++i) code = std::max(code, run(1, arguments, body));
    return code;
  });
  return ended.text + std::to_string(ended.code);
}

}  // namespace

TEST_CASE("a rank that never makes a communicator is named within the limit, on every rank that waits") {
  const auto errors = errors_over_nccl(3,
                                       [](World& world) {
                                         if (world.rank() == 1) return pause(1.5);
                                         all(world).all_reduce(ones(world)).to(Device::cpu());
                                       },
                                       {.time_limit_s = 0.4});
  CHECK(contains(errors[0], "all_reduce: no sign of rank 1 within 0.4 s (rank "));
  CHECK(contains(errors[0], "of group {0, 1, 2}); every rank must make the same calls"));
  CHECK(contains(errors[2], "all_reduce: no sign of rank 1 within 0.4 s (rank "));
  CHECK(errors[1].empty());
}

TEST_CASE("a rank that does not come to a collective is found by the time limit, and its next call throws") {
  recorded::taken_lives();
  const auto errors = errors_over_nccl(2,
                                       [](World& world) {
                                         const Communicator c = all(world);
                                         c.all_reduce(ones(world)).to(Device::cpu());
                                         if (world.rank() == 1) pause(1.5);
                                         const Tensor y = c.reduce_scatter(ones(world), ReduceOp::sum);
                                         if (world.rank() == 0) y.to(Device::cpu());
                                       },
                                       {.time_limit_s = 0.4});
  CHECK(contains(errors[0], "reduce_scatter: not all ranks have come within 0.4 s (rank 0 waits in collective 1 of group {0, 1}: f32[4])"));
  CHECK(contains(errors[0], "\n  rank 0: last collective reduce_scatter 1 of group {0, 1}: f32[4], fingerprint "));
  CHECK(contains(errors[0], "\n  rank 1: "));
  CHECK(errors[1] == errors[0]);
  CHECK(recorded::taken_lives().aborted == 2);
  CHECK(recorded::taken_mismatches().empty());
}

TEST_CASE("a rank that does not come is found although what it would have sent is to be unpacked") {
  recorded::taken_lives();
  const auto errors = errors_over_nccl(2,
                                       [](World& world) {
                                         const Communicator c = all(world);
                                         const Tensor x = input_of(0, {4, 3}, Dtype::f32).to(world.device());
                                         c.all_gather(x, 1).to(Device::cpu());
                                         if (world.rank() == 1) return pause(1.5);
                                         c.all_gather(x, 1).to(Device::cpu());
                                       },
                                       {.time_limit_s = 0.4});
  CHECK(contains(errors[0], "all_gather: not all ranks have come within 0.4 s (rank 0 waits in collective 1 of group {0, 1}: f32[4, 3])"));
  CHECK(recorded::taken_lives().aborted == 2);
}

TEST_CASE("a rank that never lets NCCL queue a collective is found by the time limit") {
  recorded::taken_lives();
  recorded::set({.connects = true});
  const auto errors = errors_over_nccl(2,
                                       [](World& world) {
                                         const Communicator c = all(world);
                                         c.all_reduce(ones(world)).to(Device::cpu());
                                         if (world.rank() == 1) return pause(1.5);
                                         c.reduce_scatter(ones(world), ReduceOp::sum).to(Device::cpu());
                                       },
                                       {.time_limit_s = 0.4});
  recorded::set({});
  CHECK(contains(errors[0], "reduce_scatter: not all ranks have come within 0.4 s (rank 0 waits in collective 1 of group {0, 1}: f32[4])"));
  CHECK(recorded::taken_lives().aborted == 2);
}

TEST_CASE("an asynchronous error aborts each communicator once and is thrown by every later call") {
  recorded::taken_lives();
  const auto broken = [](World& world) {
    const Communicator c = all(world), other = world.communicator(world.mesh({{"y", 2}}, std::vector<int>{1, 0}), "y");
    c.all_reduce(ones(world)).to(Device::cpu());
    other.all_reduce(ones(world)).to(Device::cpu());
    world.barrier();
    if (world.rank() == 0) recorded::break_comm("group/user/0.1", comm::nccl::Result::remote_error);
    pause(1.5);
    CHECK(contains(error_of([&] { c.all_reduce(ones(world)); }), "remote process exited or there was a network error"));
    c.all_reduce(ones(world));
  };
  for (const int version : {22809, 22105}) {
    recorded::set({.version = version});
    for (const std::string& e : errors_over_nccl(2, broken)) CHECK(contains(e, "remote process exited or there was a network error (rank "));
    const recorded::Lives lives = recorded::taken_lives();
    CHECK(lives.aborted == 6);  // the world's, two of the user's; on both ranks
    CHECK(lives.aborted_together == (version >= 22200 ? 6 : 0));
    CHECK(recorded::taken_mismatches().empty());
  }
  recorded::set({});
}

TEST_CASE("a rank that is lost is named by those who wait for it, also when NCCL finds the loss first") {
  for (const bool found_by_nccl : {false, true}) {
    const auto errors = errors_over_nccl(3, [&](World& world) {
      const Communicator c = all(world);
      c.all_reduce(ones(world)).to(Device::cpu());
      world.barrier();
      if (world.rank() != 1) {
        if (found_by_nccl && world.rank() == 0) recorded::break_comm("group/user/0.1.2", comm::nccl::Result::remote_error);
        c.all_reduce(ones(world)).to(Device::cpu());
      } else {  // what the store says of one that is killed
        pause(0.3);
        auto& job = dynamic_cast<comm::nccl::NcclJob&>(*world::WorldData::of(world).job);
        CHECK(job.options().store->set_new("error", "s rank 1 is gone without a word (killed, or its machine is lost); the world is over"));
      }
    });
    for (const int rank : {0, 2})
      CHECK(errors[static_cast<std::size_t>(rank)] == "rank 1 is gone without a word (killed, or its machine is lost); the world is over");
  }
}

TEST_CASE("a rank that has returned waits for what an error of others aborts") {
  recorded::taken_lives();
  recorded::set({.abort_ms = 300});
  const auto errors = errors_over_nccl(2, [](World& world) {
    const Communicator c = all(world), other = world.communicator(world.mesh({{"y", 2}}, std::vector<int>{1, 0}), "y");
    c.all_reduce(ones(world)).to(Device::cpu());
    if (world.rank() == 1) {
      static_cast<void>(other.all_reduce(ones(world)));  // rank 0 never joins
      return;
    }
    pause(0.3);
    throw std::runtime_error("no bread");
  });
  recorded::set({});
  CHECK(errors[0] == "no bread");
  const recorded::Lives lives = recorded::taken_lives();
  CHECK(lives.aborted == 2);
  CHECK(lives.aborts_ended == lives.aborted);
}

TEST_CASE("memory that only a launch keeps is not waited for under what ends the world") {
  const auto errors = errors_over_nccl(2,
                                       [](World& world) {
                                         const Communicator c = all(world);
                                         const Tensor x = ones(world), y = ones(world);
                                         if (world.rank() == 1) pause(0.3);
                                         static_cast<void>(c.all_reduce_(x));
                                         if (world.rank() == 1) throw std::runtime_error("no bread");
                                         static_cast<void>(c.all_reduce_(y));  // returns while the communicator is being made
                                       },
                                       {.time_limit_s = 60});
  CHECK(errors[0].empty());
  CHECK(errors[1] == "no bread");
}

TEST_CASE("an error in one rank's program reaches the others with its text") {
  const auto errors = errors_over_nccl(3, [](World& world) {
    const Communicator c = all(world);
    c.all_reduce(ones(world)).to(Device::cpu());
    if (world.rank() == 2) throw std::runtime_error("no bread");
    for (;;) c.all_reduce(ones(world)).to(Device::cpu());
  });
  CHECK(errors[2] == "no bread");
  CHECK(contains(errors[0], "rank 2 ended with an error (no bread); the world is over"));
  CHECK(contains(errors[1], "rank 2 ended with an error (no bread); the world is over"));
}

TEST_CASE("an error that comes second gives way to the first") {
  const auto errors = errors_over_nccl(2, [](World& world) {
    all(world).all_reduce(ones(world)).to(Device::cpu());
    world.barrier();
    if (world.rank() == 0) {
      auto& job = dynamic_cast<comm::nccl::NcclJob&>(*world::WorldData::of(world).job);
      CHECK(job.options().store->set_new("error", "e1 no bread"));
      const std::lock_guard lock(job.mutex());
      job.end("remote process exited");
    }
    for (;;) all(world).all_reduce(ones(world)).to(Device::cpu());
  });
  for (const std::string& e : errors) CHECK(contains(e, "rank 1 ended with an error (no bread); the world is over"));
}

TEST_CASE("NCCL's own failures come with its words") {
  recorded::set({.init = comm::nccl::Result::system_error});
  auto errors = errors_over_nccl(2, [](World& world) { all(world).all_reduce(ones(world)).to(Device::cpu()); });
  CHECK(contains(errors[0], "ncclCommInitRankConfig: unhandled system error (rank "));
  CHECK(contains(errors[1], "ncclCommInitRankConfig: unhandled system error (rank "));
  recorded::set({.version = 21403});
  errors = errors_over_nccl(1, [](World&) {});
  CHECK(errors[0] == "nccl: recorder is NCCL 2.14.3, older than 2.20.0; install NCCL 2.20 or newer, or set DTENSOR_NCCL_LIBRARY");
  recorded::set({});
}

TEST_CASE("a call that NCCL refuses within a group leaves no group open") {
  recorded::set({.fails_at = 1});
  const auto errors = errors_over_nccl(
      2, [](World& world) { all(world).all_reduce(input_of(0, {20'000}, Dtype::f32).to(world.device()), ReduceOp::max).to(Device::cpu()); });
  recorded::set({});
  for (const std::string& e : errors) CHECK(contains(e, ": unhandled system error (rank "));
  CHECK(recorded::open_groups() == 0);
}

TEST_CASE("a tensor of another device is refused before anything moves") {
  const auto errors = errors_over_nccl(2, [](World& world) {
    const Tensor wrong = ones(world).to(Device::cpu()).to(Device::cuda(1 - world.rank()));
    CHECK_THROWS_WITH_AS(all(world).all_reduce(wrong),
                         (world.rank() == 0 ? "all_reduce: a tensor is on cuda:1 and this rank communicates from cuda:0; move it with to(cuda:0)"
                                            : "all_reduce: a tensor is on cuda:0 and this rank communicates from cuda:1; move it with to(cuda:1)"),
                         InvalidArgument);
    world.barrier();
  });
  CHECK(errors == std::vector<std::string>(2));
}

TEST_CASE("a number that two processes have is refused") {
  const std::shared_ptr<comm::Store> store = comm::memory_store();
  World first = world::join_job({.store = store, .rank = 0, .size = 2}, 1);
  std::thread([&] {
    CHECK_THROWS_WITH_AS(world::join_job({.store = store, .rank = 0, .size = 2}, 1),
                         "nccl: there is a rank 0 of 2 already; give every process a rank of its own, and every job a store of its own", CommError);
  }).join();
}

TEST_CASE("processes of a launcher become ranks, and one that is killed is known to the other before any time limit") {
  const std::string port = free_port();
  const auto both = [&](const std::function<void(World&)>& body) {
    std::vector<std::string> texts(2);
    std::vector<std::thread> threads;
    for (const char* rank : {"0", "1"})
      threads.emplace_back([&, rank] {
        texts[rank[0] == '0' ? 0 : 1] =
            process({{"RANK", rank}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", rank}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", port.c_str()}}, body);
      });
    for (std::thread& t : threads) t.join();
    return texts;
  };
  const auto good =
      both([](World& world) { std::fprintf(stderr, "%d of %d on %s, ", world.rank(), world.size(), to_string(world.device()).c_str()); });
  CHECK(good[0] == "0 of 2 on cuda:0, 0");
  CHECK(good[1] == "1 of 2 on cuda:1, 0");
  const auto begin = std::chrono::steady_clock::now();
  const auto lost = both([](World& world) {
    if (world.rank() == 1) _exit(9);
    all(world).all_reduce(ones(world)).to(Device::cpu());
  });
  CHECK(lost[0] == "rank 1 is gone without a word (killed, or its machine is lost); the world is over\n1");
  CHECK(lost[1] == "9");
  const auto failed = both([](World& world) {
    if (world.rank() == 1) throw std::runtime_error("no bread");
    all(world).all_reduce(ones(world)).to(Device::cpu());
  });
  CHECK(failed[0] == "1");  // the rank that failed has said it
  CHECK(failed[1] == "no bread\n1");
  const auto failed_both = both([](World& world) {
    if (world.rank() == 1) throw std::runtime_error("no bread");
    pause(0.6);
    throw std::runtime_error("no wine");
  });
  CHECK(failed_both == std::vector<std::string>{"no wine\n1", "no bread\n1"});
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));
}

TEST_CASE("a program runs twice, over TCP and over files") {
  const std::string port = free_port();
  std::string folder = (std::filesystem::temp_directory_path() / "dtensor-twice-XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  const std::string store = "file:" + folder;
  for (const bool files : {false, true}) {
    std::vector<std::string> texts(2);
    std::vector<std::thread> threads;
    for (const char* rank : {"0", "1"})
      threads.emplace_back([&, rank] {
        std::vector<std::pair<const char*, const char*>> variables{{"RANK", rank}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", rank}};
        if (files) variables.emplace_back("DTENSOR_STORE", store.c_str());
        else variables.insert(variables.end(), {{"MASTER_ADDR", "localhost"}, {"MASTER_PORT", port.c_str()}});
        const auto body = [](World& world) {
          if (world.rank() == 0) pause(0.3);  // the other is in its second run meanwhile
          std::fprintf(stderr, "%d ", world.rank());
        };
        texts[rank[0] == '0' ? 0 : 1] = process(variables, body, 2);
      });
    for (std::thread& t : threads) t.join();
    CHECK(texts == std::vector<std::string>{"0 0 0", "1 1 0"});
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("the thread that watches a world ends with it, although a tensor of the world lives on") {
  const auto threads = [] {
    const auto all = std::filesystem::directory_iterator("/proc/self/task");
    return std::distance(begin(all), end(all));
  };
  const auto before = threads();
  Tensor kept[2];
  const auto errors = errors_over_nccl(2, [&](World& world) { kept[world.rank()] = all(world).all_reduce(ones(world)); });
  CHECK(errors == std::vector<std::string>(2));
  CHECK(threads() == before);
}

TEST_CASE("a wrong environment is one sentence") {
  CHECK(process({{"WORLD_SIZE", "4"}}) == "run: WORLD_SIZE=4 without RANK; a launcher sets both, and a program of one process needs neither\n1");

  CHECK(process({{"RANK", "4"}, {"WORLD_SIZE", "4"}}) == "run: RANK=4 is no rank of WORLD_SIZE=4; ranks are 0 to 3\n1");
  CHECK(process({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "9"}}) ==
        "run: rank 1 is number 9 on its machine, which has 2 GPUs; start as many processes per machine as there are GPUs\n1");
  CHECK(contains(process({{"RANK", "1"}, {"WORLD_SIZE", "4"}}), "run: MASTER_ADDR is missing; set it to the host of rank 0"));
  CHECK(process({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "localhost"}}) ==
        "run: MASTER_PORT is missing; set it to a free port of localhost\n1");
  CHECK(contains(process({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "70000"}}), "MASTER_PORT"));
  CHECK(contains(process({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"DTENSOR_STORE", "redis://x"}}),
                 "run: DTENSOR_STORE is 'redis://x'; write file:FOLDER"));
  CHECK(contains(process({{"OMPI_COMM_WORLD_RANK", "7"}, {"OMPI_COMM_WORLD_SIZE", "2"}}),
                 "run: OMPI_COMM_WORLD_RANK=7 is no rank of OMPI_COMM_WORLD_SIZE=2"));
  CHECK(contains(process({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "1"}, {"DTENSOR_TIME_LIMIT", "0.3"}}),
                 "store: rank 1 of 2 finds nobody at localhost:1 within 0.3 s (Connection refused); is rank 0 running there?"));
}
