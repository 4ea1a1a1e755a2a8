// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads and share a device move every byte once: what a collective or a redistribution reads and writes, staging included.
#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "under_test.h"

using namespace dtensor;
using test::kGpu;
namespace emulated = local::cuda::emulated;

namespace {

constexpr int kRanks = 4;
constexpr std::int64_t kSide = 64, kElements = kSide * kSide, kBytes = kElements * 4;  // of f32; every box in vectors

// What all ranks together had their devices do.
struct Moved {
  std::int64_t bytes = 0;   ///< read and written by kernels and by the driver's copies
  std::int64_t others = 0;  ///< launches of anything but copies of boxes and reductions
};
Moved moved(World& world, const std::function<void()>& call) {
  const Communicator all = world.communicator(world.mesh({{"all", world.size()}}), "all");
  const auto settle = [&] {
    Stream::current(kGpu).synchronize();
    world.barrier();
  };
  call();  // what is made once is there
  settle();
  emulated::taken_vectors();
  world.barrier();
  test::queued();
  call();
  std::int64_t bytes = 0, others = 0;
  for (const auto& e : test::queued()) {
    constexpr std::string_view kCopy = "copy on device ";
    if (e.what.starts_with(kCopy)) {
      bytes += 2 * std::stoll(e.what.substr(kCopy.size()));
    } else if (e.what.starts_with("copy ") || (e.what.starts_with("launch ") && e.what != "launch copy boxes" && e.what != "launch reduce")) {
      ++others;
    }
  }
  settle();
  if (world.rank() == 0) bytes += emulated::taken_vectors().bytes;
  world.barrier();
  const Tensor sums = all.all_reduce(Tensor::of(std::vector<std::int64_t>{bytes, others}, {2}));
  const auto v = sums.values<const std::int64_t>();
  return {v[0], v[1]};
}

Tensor numbers(int rank, const Shape& shape) {
  const Tensor t = Tensor::empty(shape, Dtype::f32, kGpu);
  t.fill_(rank + 0.25);
  return t;
}

}  // namespace

TEST_CASE("collectives read every byte that moves once and write it once") {
  run_ranks({.ranks = kRanks}, [](World& world) {
    const Communicator c = world.communicator(world.mesh({{"x", kRanks}}), "x");
    const Tensor in = numbers(world.rank(), {kSide, kSide});
    Tensor kept;  // results stay, or their memory would be that of the next
    const auto expect = [&](const char* what, std::int64_t reads, std::int64_t writes, const std::function<Tensor()>& call) {
      const Moved m = moved(world, [&] { kept = call(); });
      INFO(std::string(what));
      CHECK(m.bytes == (reads + writes) * kBytes);
      CHECK(m.others == 0);
    };
    // In units of what one rank holds.
    expect("all_gather", kRanks * kRanks, kRanks * kRanks, [&] { return c.all_gather(in, 0); });
    expect("all_gather along the last dim", kRanks * kRanks, kRanks * kRanks, [&] { return c.all_gather(in, 1); });
    expect("all_to_all", kRanks, kRanks, [&] { return c.all_to_all(in, 0, 0); });
    expect("all_to_all, another dim", kRanks, kRanks, [&] { return c.all_to_all(in, 1, 0); });
    expect("broadcast", kRanks, kRanks, [&] { return c.broadcast(in, 1); });
    expect("scatter", 1, 1, [&] { return c.scatter(in, 1, 0); });
    expect("reduce_scatter", kRanks, 1, [&] { return c.reduce_scatter(in); });
    expect("reduce_scatter along the last dim", kRanks, 1, [&] { return c.reduce_scatter(in, ReduceOp::sum, 1); });
    expect("all_reduce", kRanks, kRanks, [&] { return c.all_reduce(in); });
  });
}

TEST_CASE("redistributions read every byte that moves once and write it once") {
  run_ranks({.ranks = kRanks}, [](World& world) {
    const DeviceMesh line = world.mesh({{"x", kRanks}}), square = world.mesh({{"a", 2}, {"b", 2}});
    const auto expect = [&](const char* what, double reads, double writes, const DeviceMesh& mesh, const Placements& from, const Placements& to) {
      const DTensor x = zeros({kSide, kSide}, mesh, from, {.dtype = Dtype::f32, .device = kGpu});
      DTensor y;
      const Moved m = moved(world, [&] {
        y = x.redistribute(to);
        y.wait();
      });
      INFO(std::string(what));
      CHECK(m.bytes == static_cast<std::int64_t>((reads + writes) * kBytes));
      CHECK(m.others == 0);
    };
    // In units of the whole tensor.
    expect("gather", kRanks, kRanks, line, {Shard(0)}, {Replicate()});
    expect("gather along the last dim", kRanks, kRanks, line, {Shard(1)}, {Replicate()});
    expect("another dim", 1, 1, line, {Shard(0)}, {Shard(1)});
    expect("a part of what is here", 0, 0, line, {Replicate()}, {Shard(0)});
    expect("sum", kRanks, kRanks, line, {Partial()}, {Replicate()});
    expect("sum to parts", kRanks, 1, line, {Partial()}, {Shard(0)});
    expect("sum to parts of the last dim", kRanks, 1, line, {Partial()}, {Shard(1)});
    expect("gather on two axes", kRanks, kRanks, square, {Shard(0), Shard(1)}, {Replicate(), Replicate()});
    expect("axes exchanged: half of the ranks have their part", 0.5, 0.5, square, {Shard(0), Shard(1)}, {Shard(1), Shard(0)});
  });
}
