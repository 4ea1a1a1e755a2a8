// SPDX-License-Identifier: Apache-2.0
#include "dtensor/world.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <type_traits>

#include "dtensor/comm.h"
#include "dtensor/error.h"
#include "dtensor/tensor.h"

using namespace dtensor;

namespace {

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) { return e.what(); }
  return "no error";
}

bool starts_with(const std::string& text, const std::string& front) { return text.rfind(front, 0) == 0; }
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

int code_function(World& world) { return world.rank() * 2; }

struct Arguments {
  std::vector<std::string> words;
  std::vector<char*> pointers;
  explicit Arguments(std::vector<std::string> w) : words(std::move(w)) {
    for (std::string& word : words) pointers.push_back(word.data());
  }
  int argc() { return static_cast<int>(pointers.size()); }
  char** argv() { return pointers.data(); }
};

struct MutableBody {
  int n = 0;
  void operator()(World&) { ++n; }
};
struct ConstBody {
  void operator()(World&) const {}
};
struct TextBody {
  std::string operator()(World&) const { return ""; }
};
static_assert(!std::is_constructible_v<RankBody, MutableBody>, "a body that changes itself would be shared by all ranks");
static_assert(std::is_constructible_v<RankBody, ConstBody>);
static_assert(!std::is_constructible_v<RankBody, TextBody>, "a body gives an int or nothing");

}  // namespace

TEST_CASE("each rank runs the body once and sees its rank, the size and its own mesh coordinates") {
  for (int ranks : {1, 2, 3, 4, 8}) {
    const auto seen = collect({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"dp", 1}, {"tp", -1}});
      CHECK(world.size() == ranks);
      CHECK(mesh.size("tp") == ranks);
      return std::pair(world.rank(), *mesh.coordinate("tp"));
    });
    REQUIRE(static_cast<int>(seen.size()) == ranks);
    for (int r = 0; r < ranks; ++r) CHECK(seen[static_cast<std::size_t>(r)] == std::pair(r, r));
  }
}

TEST_CASE("rank 0 is the calling thread and others are named after their rank") {
  const std::thread::id caller = std::this_thread::get_id();
  const auto names = collect({.ranks = 3}, [&](World& world) {
    CHECK((std::this_thread::get_id() == caller) == (world.rank() == 0));
    char name[16] = {};
    pthread_getname_np(pthread_self(), name, sizeof name);
    return std::string(name);
  });
  CHECK(names[1] == "rank 1");
  CHECK(names[2] == "rank 2");
}

TEST_CASE("run returns the largest code of the ranks") {
  Arguments arguments({"program", "--ranks", "3"});
  CHECK(run(arguments.argc(), arguments.argv(), code_function) == 4);
}

TEST_CASE("run takes its own options up to a double dash and leaves the others") {
  Arguments arguments({"program", "--steps", "5", "--ranks=2", "--threads", "1", "--time-limit", "12.5", "--", "--ranks", "7"});
  const int code = run(arguments.argc(), arguments.argv(), [](World& world) {
    const auto args = world.args();
    const std::vector<std::string> got(args.begin(), args.end());
    return world.size() == 2 && got == std::vector<std::string>{"program", "--steps", "5", "--", "--ranks", "7"} ? 0 : 9;
  });
  CHECK(code == 0);
}

TEST_CASE("run gives every rank the device of --device and refuses a word that is none") {
  Arguments cpu({"program", "--device", "cpu", "--ranks", "2"});
  CHECK(run(cpu.argc(), cpu.argv(), [](World& world) { return world.device() == Device::cpu() && world.args().size() == 1 ? 0 : 9; }) == 0);
  for (const char* bad : {"gpu", "cuda:", "cuda:x", "cuda:-1", ""}) {
    Arguments arguments({"program", "--device", bad});
    CHECK(run(arguments.argc(), arguments.argv(), code_function) == 1);
  }
}

TEST_CASE("run refuses a number of ranks that is none") {
  for (const char* bad : {"x", "0", "-1", "2x", ""}) {
    Arguments arguments({"program", "--ranks", bad});
    CHECK(run(arguments.argc(), arguments.argv(), code_function) == 1);
  }
}

TEST_CASE("a launcher's environment of several processes is refused with the option that is missing") {
  setenv("RANK", "0", 1);
  setenv("WORLD_SIZE", "4", 1);
  Arguments plain({"program"});
  bool ran = false;
  CHECK(run(plain.argc(), plain.argv(), [&](World&) { ran = true; }) == 1);
  Arguments both({"program", "--ranks", "2"});
  CHECK(run(both.argc(), both.argv(), [&](World&) { ran = true; }) == 1);
  CHECK(!ran);
  setenv("WORLD_SIZE", "1", 1);
  CHECK(run(plain.argc(), plain.argv(), code_function) == 0);
  unsetenv("RANK");
  unsetenv("WORLD_SIZE");
}

TEST_CASE("an exception on one rank ends the others, and run_ranks throws that exception") {
  std::atomic<int> others{0};
  const std::string text = error_of([&] {
    run_ranks({.ranks = 4}, [&](World& world) {
      if (world.rank() == 2) throw std::runtime_error("disk is full");
      try {
        world.barrier();
        world.barrier();
      } catch (const CommError& e) {
        CHECK(std::string(e.what()) == "barrier: rank 2 ended with an error (disk is full); the world is over");
        ++others;
        CHECK_THROWS_AS(world.barrier(), CommError);
        throw;
      }
    });
  });
  CHECK(text == "disk is full");
  CHECK(others == 3);
}

TEST_CASE("a rank that returns while others wait for it is lost") {
  const std::string text = error_of([] {
    run_ranks({.ranks = 3}, [](World& world) {
      if (world.rank() != 1) world.barrier();
    });
  });
  CHECK(starts_with(text, "barrier: rank 1 has returned from its program while rank "));
  CHECK(contains(text, "rank 1: returned, last call none, no collective"));
}

TEST_CASE("a rank that does not come within the time limit is named with the last call of each") {
  std::atomic<bool> go{false};
  std::atomic<int> here{0};
  const std::string text = error_of([&] {
    run_ranks({.ranks = 3, .time_limit_s = 0.3, .grace_s = 20}, [&](World& world) {
      ++here;
      while (here < 3) std::this_thread::yield();
      world.any(false);
      if (world.rank() == 1) {
        while (!go) std::this_thread::yield();
        world.barrier();
        return;
      }
      try {
        world.barrier();
      } catch (...) {
        go = true;
        throw;
      }
    });
  });
  CHECK(starts_with(text, "barrier: no sign of rank 1 within 0.3 s (collective 1 of group {0, 1, 2})"));
  CHECK(contains(text, "\n  rank 0: last call barrier, last collective barrier 1 of group {0, 1, 2}"));
  CHECK(contains(text, "\n  rank 1: last call any, last collective any 0 of group {0, 1, 2}"));
}

TEST_CASE("a run on a rank is refused, and the world stays usable") {
  run_ranks({.ranks = 2}, [](World& world) {
    CHECK(error_of([] { run_ranks({.ranks = 2}, [](World&) {}); }) ==
          "run_ranks: called on rank " + std::to_string(world.rank()) + " of 2; a rank starts no ranks, use World::mesh for a part of them");
    CHECK(world.any(world.rank() == 1));
  });
}

TEST_CASE("any is true everywhere when it is true somewhere") {
  run_ranks({.ranks = 4}, [](World& world) {
    CHECK(world.any(world.rank() == 3));
    CHECK(!world.any(false));
  });
}

TEST_CASE("in_turn runs one rank after the other") {
  std::vector<int> order;
  run_ranks({.ranks = 4}, [&](World& world) {
    for (int i = 0; i < 5; ++i) world.in_turn([&] { order.push_back(world.rank()); });
  });
  REQUIRE(order.size() == 20);
  for (std::size_t i = 0; i < order.size(); ++i) CHECK(order[i] == static_cast<int>(i % 4));
}

TEST_CASE("a RankLocal is one value per rank and ends with the rank") {
  static std::atomic<int> alive{0};
  struct Counter {
    int n = 0;
    Counter() { ++alive; }
    ~Counter() { --alive; }
  };
  static RankLocal<Counter> counter;
  const auto counts = collect({.ranks = 3}, [](World& world) {
    for (int i = 0; i <= world.rank(); ++i) ++counter->n;
    return counter->n;
  });
  CHECK(counts == std::vector<int>{1, 2, 3});
  CHECK(alive == 0);
  CHECK(error_of([] { counter.get(); }) == "RankLocal: this thread is no rank; call it inside run(), or bind the thread with World::enter");
}

TEST_CASE("enter makes another thread the rank, one at a time") {
  static RankLocal<int> value;
  run_ranks({.ranks = 2}, [](World& world) {
    *value = world.rank() + 10;
    std::thread other([&] {
      const auto here = world.enter();
      CHECK(*value == world.rank() + 10);
      CHECK(world.any(true));
      std::thread third([&] {
        CHECK(error_of([&] { const auto refused = world.enter(); }) ==
              "World::enter: another thread is inside rank " + std::to_string(world.rank()) + "; a rank is one thread at a time");
      });
      third.join();
    });
    other.join();
    const auto again = world.enter();
    CHECK(*value == world.rank() + 10);
  });
}

TEST_CASE("threads of the application join as ranks") {
  ThreadGroup group({.ranks = 3});
  std::vector<std::thread> threads;
  std::atomic<int> sum{0};
  for (int r = 0; r < 3; ++r)
    threads.emplace_back([&, r] {
      World world = World::join(group, r);
      CHECK(world.any(r == 2));
      sum += world.rank();
      world.barrier();
    });
  for (std::thread& t : threads) t.join();
  CHECK(sum == 3);
  CHECK(error_of([&] { World::join(group, 1); }) == "World::join: rank 1 of 3 has joined already; give each thread a rank of its own");
  CHECK(error_of([&] { World::join(group, 3); }) == "World::join: there is no rank 3 in a group of 3; ranks are 0 to size - 1");
}

TEST_CASE("a World that an exception destroys ends the run of its group") {
  ThreadGroup group({.ranks = 2});
  std::string seen;
  std::thread one([&] {
    World world = World::join(group, 0);
    seen = error_of([&] { world.barrier(); });
  });
  std::thread two([&] {
    error_of([&] {
      World world = World::join(group, 1);
      throw std::runtime_error("lost");
    });
  });
  one.join();
  two.join();
  CHECK(seen == "barrier: rank 1 ended with an error (an exception has left its scope); the world is over");
  CHECK_THROWS_AS(group.rethrow(), CommError);
}

TEST_CASE("a fake world answers alone for any rank of any size") {
  World world = World::fake(700, 1024);
  CHECK(world.rank() == 700);
  CHECK(world.size() == 1024);
  CHECK(world.any(true));
  world.barrier();
  const DeviceMesh mesh = world.mesh({{"dp", 32}, {"tp", 32}});
  CHECK(*mesh.coordinate("dp") == 21);
  CHECK(error_of([] { World::fake(4, 4); }) == "World::fake: there is no rank 4 in a world of 4; ranks are 0 to size - 1");
}

TEST_CASE("worlds of one process do not mix") {
  std::vector<DeviceMesh> meshes;
  for (int i = 0; i < 2; ++i) meshes.push_back(collect({.ranks = 2}, [](World& world) { return world.mesh({{"x", 2}}); })[0]);
  CHECK(!(meshes[0] == meshes[1]));
}

TEST_CASE("results that are tensors outlive their ranks") {
  const auto tensors = collect({.ranks = 3}, [](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", 3}}), "x");
    return c.all_gather(Tensor::of<float>(std::vector<float>(4, static_cast<float>(world.rank())), {4}));
  });
  for (const Tensor& t : tensors) {
    const auto v = t.values<const float>();
    REQUIRE(v.size() == 12);
    CHECK(v[0] == 0.0f);
    CHECK(v[11] == 2.0f);
  }
}
