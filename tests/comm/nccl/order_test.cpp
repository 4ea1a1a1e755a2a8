// SPDX-License-Identifier: Apache-2.0
// In which order a rank gives the calls of its communicators to its device.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
namespace recorded = comm::nccl::recorded;

namespace {

Communicator of(World& world, const char* axis, std::vector<int> ranks) {
  return world.communicator(world.mesh({{axis, static_cast<int>(ranks.size())}}, ranks), axis);
}
Tensor ones(World& world) {
  const Tensor t = Tensor::zeros({4}, Dtype::i64, world.device());
  t.fill_(1);
  return t;
}
std::int64_t first_of(const Tensor& t) { return t.to(Device::cpu()).values<const std::int64_t>()[0]; }
void wait_for(const std::atomic<int>& count, int least) {
  const auto begin = std::chrono::steady_clock::now();
  while (count.load() < least && std::chrono::steady_clock::now() - begin < std::chrono::seconds(30)) std::this_thread::yield();
}

// The communicators that a device was given calls of, in order; of the devices 0 and 1.
std::vector<std::vector<std::string>> names_by_device(const std::vector<recorded::Call>& calls) {
  std::vector<std::vector<std::string>> names(2);
  for (const recorded::Call& c : calls)
    if (const int device = local::cuda::device_of(c.stream); device < 2) names[static_cast<std::size_t>(device)].push_back(c.comm);
  return names;
}

}  // namespace

TEST_CASE("a communicator that is ready does not overtake one that is not") {
  for (const bool connects : {false, true}) {
    recorded::set({.connects = connects});
    recorded::taken_calls();
    std::atomic<int> called{0};
    CHECK(runs_over_nccl(3, [&](World& world) {
      const Communicator three = of(world, "three", {0, 1, 2});
      if (world.rank() == 2) {
        wait_for(called, 2);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        CHECK(first_of(three.all_reduce(ones(world))) == 3);
        CHECK(first_of(three.all_reduce(ones(world))) == 3);
        return;
      }
      const Communicator two = of(world, "two", {0, 1});
      const Tensor a = three.all_reduce(ones(world)), b = two.all_reduce(ones(world)), c = three.all_reduce(ones(world)),
                   d = two.all_reduce(ones(world));
      ++called;
      CHECK(first_of(a) == 3);
      CHECK(first_of(b) == 2);
      CHECK(first_of(c) == 3);
      CHECK(first_of(d) == 2);
    }));
    recorded::set({});
    for (const auto& names : names_by_device(recorded::taken_calls()))
      CHECK(names == std::vector<std::string>{"group/user/0.1.2", "group/user/0.1", "group/user/0.1.2", "group/user/0.1"});
  }
}

TEST_CASE("a message waits for no collective that others have not come to, and holds none up") {
  std::atomic<int> arrived{0};
  CHECK(runs_over_nccl(3, [&](World& world) {
    const Communicator three = of(world, "three", {0, 1, 2});
    if (world.rank() == 2) wait_for(arrived, 1);  // comes to the collective when the message has come that was sent after it
    const Tensor sum = three.all_reduce(ones(world)), message = ones(world);
    Work work = world.rank() == 0 ? three.send(message, 1) : world.rank() == 1 ? three.recv(message, 0) : Work();
    if (world.rank() == 1) {
      CHECK(first_of(message) == 1);
      ++arrived;
    }
    CHECK(first_of(sum) == 3);
    // Nobody has come to this message yet when the next collective ends.
    const Tensor late = ones(world);
    Work sent = world.rank() == 0 ? three.send(late, 2) : Work();
    CHECK(first_of(three.all_reduce(sum)) == 9);
    if (world.rank() == 2) three.recv(late, 0).wait();
    world.barrier();
  }));
}

TEST_CASE("launches that wait for their turn are queued when what they wait for ends, and ranks end with some of them unread") {
  CHECK(runs_over_nccl(4, [](World& world) {
    const Communicator everyone = of(world, "all", {0, 1, 2, 3});
    std::vector<Communicator> pairs;
    const int mine = world.rank() / 2;
    for (int i = 0; i < 5; ++i) pairs.push_back(of(world, "pair", {2 * mine, 2 * mine + 1}));
    Tensor x = ones(world);
    if (world.rank() == 3) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    for (int step = 0; step < 8; ++step) x = step % 2 == 0 ? everyone.all_reduce(x) : pairs[0].all_reduce(x);
    if (world.rank() % 2 == 0) CHECK(first_of(x) == 4096);
  }));
}
