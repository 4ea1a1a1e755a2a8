// SPDX-License-Identifier: Apache-2.0
// What is in flight: locks of inputs, lazy waits, order of waits, and the errors of ranks that disagree.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "comm/communicator.h"
#include "comm/expected.h"
#include "dtensor/comm.h"
#include "dtensor/error.h"
#include "dtensor/world.h"

using namespace dtensor;
using namespace dtensor::testing;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

}  // namespace

TEST_CASE("posting returns before the others have come, and the first use waits") {
  std::atomic<bool> posted{false};
  run_ranks({.ranks = 2}, [&](World& world) {
    const Communicator c = all(world);
    if (world.rank() == 1)
      while (!posted) std::this_thread::yield();
    const Tensor out = c.all_gather(input_of(world.rank(), {3}, Dtype::f32));
    posted = true;
    CHECK(doubles_of(out.narrow(0, 3, 3)) == doubles_of(input_of(1, {3}, Dtype::f32)));
  });
}

TEST_CASE("a write to an input waits until others have taken it") {
  for (int ranks : {2, 4}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (int repeat = 0; repeat < 20; ++repeat) {
        const Tensor in = Tensor::of<float>(std::vector<float>(3000, static_cast<float>(world.rank() + repeat)), {3000});
        const Tensor gathered = c.all_gather(in), summed = c.all_reduce(in);
        in.fill_(-1);
        const auto g = gathered.values<const float>(), s = summed.values<const float>();
        for (int r = 0; r < ranks; ++r) {
          CHECK(g[static_cast<std::size_t>(r) * 3000] == static_cast<float>(r + repeat));
          CHECK(g[static_cast<std::size_t>(r) * 3000 + 2999] == static_cast<float>(r + repeat));
        }
        CHECK(s[17] == static_cast<float>(ranks * (ranks - 1) / 2 + ranks * repeat));
      }
    });
  }
}

TEST_CASE("once all have posted, a rank needs nobody: others sleep until it has its result") {
  std::atomic<bool> got{false};
  run_ranks({.ranks = 3}, [&](World& world) {
    const Communicator c = all(world);
    const Tensor in = input_of(world.rank(), {40000}, Dtype::f32);
    const Tensor out = c.all_reduce(in), gathered = c.all_gather(in);
    world.barrier();
    if (world.rank() == 1) {
      CHECK(doubles_of(out)[1] == input_value(0, 1, Dtype::f32) + input_value(1, 1, Dtype::f32) + input_value(2, 1, Dtype::f32));
      in.fill_(0);
      got = true;
    } else {
      while (!got) std::this_thread::yield();
    }
    CHECK(doubles_of(gathered)[40001] == input_value(1, 1, Dtype::f32));
  });
}

TEST_CASE("works of several groups may be waited for in any order") {
  for (int ranks : {2, 4, 6}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", -1}});
      const Communicator groups[] = {Communicator::of(mesh, "dp"), Communicator::of(mesh, "tp"), Communicator::of(mesh)};
      std::mt19937 shuffle(static_cast<unsigned>(world.rank() + 1));
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<Tensor> in, out;
        for (int k = 0; k < 9; ++k) {
          const Communicator& c = groups[k % 3];
          in.push_back(
              Tensor::of<std::int64_t>(std::vector<std::int64_t>(static_cast<std::size_t>(1) << k, world.rank() * 100 + k), {std::int64_t{1} << k}));
          out.push_back(k < 5 ? c.all_reduce(in.back()) : c.all_gather(in.back()));
        }
        std::vector<int> order{0, 1, 2, 3, 4, 5, 6, 7, 8};
        std::shuffle(order.begin(), order.end(), shuffle);
        for (int k : order) {
          const Communicator& c = groups[k % 3];
          const auto values = doubles_of(out[static_cast<std::size_t>(k)]);
          double expected = 0;
          for (int r : c.ranks()) expected += r * 100 + k;
          if (k >= 5) expected = c.ranks().back() * 100 + k;
          CHECK(values.back() == expected);
        }
      }
    });
  }
}

TEST_CASE("results that nobody reads keep nobody waiting") {
  run_ranks({.ranks = 3}, [](World& world) {
    const Communicator c = all(world);
    for (int i = 0; i < 500; ++i) {
      const Tensor in = input_of(world.rank(), {2000}, Dtype::f32);
      const Tensor dropped = c.all_gather(in);
    }
    CHECK(doubles_of(c.all_reduce(input_of(world.rank(), {1}, Dtype::i64)))[0] ==
          input_value(0, 0, Dtype::i64) + input_value(1, 0, Dtype::i64) + input_value(2, 0, Dtype::i64));
  });
}

TEST_CASE("a work that is asked in a loop is done at last") {
  run_ranks({.ranks = 4}, [](World& world) {
    const Communicator c = all(world);
    const Tensor t = input_of(world.rank(), {100000}, Dtype::f32);
    Work work = c.all_reduce_(t);
    while (!work.done()) std::this_thread::yield();
    CHECK(doubles_of(t)[0] ==
          input_value(0, 0, Dtype::f32) + input_value(1, 0, Dtype::f32) + input_value(2, 0, Dtype::f32) + input_value(3, 0, Dtype::f32));
  });
}

TEST_CASE("memory may be freed while peers still read it") {
  run_ranks({.ranks = 2}, [](World& world) {
    const Communicator c = all(world);
    std::vector<Tensor> results;
    for (int i = 0; i < 50; ++i) results.push_back(c.all_gather(input_of(world.rank() + i, {5000}, Dtype::f32)));
    for (int i = 0; i < 50; ++i) CHECK(doubles_of(results[static_cast<std::size_t>(i)])[5001] == input_value(1 + i, 1, Dtype::f32));
  });
}

TEST_CASE("shared copies are written apart from a move in flight") {
  run_ranks({.ranks = 2}, [](World& world) {
    const Communicator c = all(world);
    const Tensor in = input_of(world.rank(), {4}, Dtype::f32), copy = in.shared_copy();
    const Tensor out = c.all_gather(in);
    in.fill_(9);
    copy.fill_(8);
    CHECK(doubles_of(out.narrow(0, 0, 4)) == doubles_of(input_of(0, {4}, Dtype::f32)));
    CHECK(doubles_of(in) == std::vector<double>(4, 9));
  });
}

TEST_CASE("ranks that call different collectives are named with both calls") {
  std::atomic<int> seen{0};
  const std::string text = error_of([&] {
    run_ranks({.ranks = 3}, [&](World& world) {
      const Communicator c = all(world);
      const Tensor t = input_of(world.rank(), {6}, Dtype::f32);
      try {
        (world.rank() == 2 ? c.all_gather(t) : c.all_reduce(t)).wait();
      } catch (const CommError&) {
        ++seen;
        throw;
      }
    });
  });
  CHECK(seen == 3);
  CHECK(contains(text, ": ranks disagree (rank "));
  CHECK(contains(text, "rank 2: all_gather f32[6]; collective 0 of group {0, 1, 2}); every rank must make the same calls in the same order"));
  CHECK(contains(text, ": all_reduce f32[6], rank 2"));
}

TEST_CASE("ranks that disagree on shape, dtype, reduction or root are named") {
  const auto disagreement = [](auto&& call) {
    return error_of([&] { run_ranks({.ranks = 2}, [&](World& world) { call(all(world), world.rank()); }); });
  };
  CHECK(disagreement([](const Communicator& c, int r) { c.all_reduce(input_of(r, {r + 2}, Dtype::f32)).wait(); }) ==
        "all_reduce: ranks disagree (rank 0: all_reduce f32[2], rank 1: all_reduce f32[3]; collective 0 of group {0, 1}); every rank must make the "
        "same calls in the same order");
  CHECK(contains(disagreement([](const Communicator& c, int r) { c.all_gather(input_of(r, {2}, r == 0 ? Dtype::f32 : Dtype::i32)).wait(); }),
                 "all_gather: ranks disagree (rank 0: all_gather f32[2], rank 1: all_gather i32[2]; "));
  CHECK(contains(
      disagreement([](const Communicator& c, int r) { c.all_reduce(input_of(r, {2}, Dtype::f32), r == 0 ? ReduceOp::sum : ReduceOp::max).wait(); }),
      "all_reduce: ranks disagree (rank 0: all_reduce f32[2], f32 of 2 to 2 elements on cpu, sum / 1, fingerprint "));
  CHECK(contains(disagreement([](const Communicator& c, int r) { c.broadcast(input_of(r, {2}, Dtype::f32), r).wait(); }),
                 "broadcast: ranks disagree (rank 0: broadcast f32[2]"));
  CHECK(disagreement([](const Communicator& c, int r) {
          c.all_to_all(input_of(r, {4}, Dtype::f32), 0, 0,
                       {.send_sizes = {2, 2}, .receive_sizes = r == 0 ? std::vector<std::int64_t>{2, 1} : std::vector<std::int64_t>{2, 2}})
              .wait();
        }) ==
        "all_to_all: ranks disagree (rank 1 sends [2] to rank 0, rank 0 receives [1] from rank 1; collective 0 of group {0, 1}); give both the same "
        "sizes");
}

TEST_CASE("a pair that sends too much is named") {
  const std::string text = error_of([] {
    run_ranks({.ranks = 2}, [](World& world) {
      const auto transfer = std::make_shared<redistribute::Transfer>();
      if (world.rank() == 0) transfer->sends.push_back({.peer = 1, .offset = 0, .sizes = {2}, .strides = {1}});
      const Tensor in = Tensor::zeros({2}, Dtype::f32), out = Tensor::zeros({2}, Dtype::f32);
      const int ranks[] = {0, 1};
      comm::group(ranks).exchange({"move", 1, "f32[2]"}, in, out, transfer);
      out.wait();
    });
  });
  CHECK(text ==
        "move: ranks disagree (rank 0 sends [2] to rank 1, rank 1 receives nothing more from rank 0; collective 0 of group {0, 1}); give both the "
        "same sizes");
}

TEST_CASE("an exception on one rank ends a wait on another at once, and every later call") {
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> later{0}, posted{0};
  const std::string text = error_of([&] {
    run_ranks({.ranks = 3}, [&](World& world) {
      const Communicator c = all(world);
      if (world.rank() == 0) {
        while (posted < 2) std::this_thread::yield();
        throw InvalidArgument("matmul: contracting sizes differ");
      }
      const Tensor out = c.all_gather(input_of(world.rank(), {2}, Dtype::f32));
      ++posted;
      for (int again = 0; again < 2; ++again) {
        try {
          out.wait();
        } catch (const CommError& e) {
          CHECK(std::string(e.what()) == "all_gather: rank 0 ended with an error (matmul: contracting sizes differ); the world is over");
          ++later;
        }
      }
    });
  });
  CHECK(text == "matmul: contracting sizes differ");
  CHECK(later == 4);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
}

TEST_CASE("a rank outside the group or the mesh is refused") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}}, std::vector<int>{0, 1});
    if (world.rank() == 2)
      CHECK(error_of([&] { Communicator::of(mesh, "x"); }) ==
            "Communicator::of: this rank is outside the mesh (Mesh(x=2)); call it on the mesh's ranks");
    const int ranks[] = {0, 1};
    if (world.rank() == 2)
      CHECK(error_of([&] { comm::group(ranks); }) == "group: rank 2 is no member of the group {0, 1}; call it on the group's ranks only");
  });
  const int ranks[] = {0};
  CHECK(error_of([&] { comm::group(ranks); }) == "group: this thread is no rank; call it inside run(), or bind the thread with World::enter");
}
