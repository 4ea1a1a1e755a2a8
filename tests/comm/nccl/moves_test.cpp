// SPDX-License-Identifier: Apache-2.0
// Redistribution over NCCL against ranks that are threads, and what each move asks of NCCL.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>

#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/dtensor.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::taken_calls;

namespace {

struct Pair {
  std::vector<Placement> from, to;
};

std::vector<std::vector<Placement>> all_of(const std::vector<Placement>& choices, int axes) {
  std::vector<std::vector<Placement>> lists{{}};
  for (int a = 0; a < axes; ++a) {
    std::vector<std::vector<Placement>> longer;
    for (const auto& list : lists)
      for (const Placement& p : choices) {
        longer.push_back(list);
        longer.back().push_back(p);
      }
    lists = std::move(longer);
  }
  return lists;
}

// Every `step`-th pair.
std::vector<Pair> pairs(int axes, std::size_t step) {
  std::vector<Placement> choices{Shard(0), Shard(1), Replicate(), Partial()};
  if (axes == 1) choices.insert(choices.end(), {StridedShard(0, 2), Partial(ReduceOp::avg), Partial(ReduceOp::max)});
  std::vector<Pair> all;
  for (const auto& from : all_of(choices, axes))
    for (const auto& to : all_of(choices, axes)) all.push_back({from, to});
  std::vector<Pair> sample;
  for (std::size_t i = 0; i < all.size(); i += step) sample.push_back(all[i]);
  return sample;
}

bool kinds_agree(const std::vector<Placement>& list) {
  try {
    static_cast<void>(to_string(Placements(std::span<const Placement>(list))));
    return true;
  } catch (const Error&) { return false; }
}

// Another value on every coordinate of a Partial axis, the same on all replicas.
DTensor source(World& world, const DeviceMesh& mesh, const std::vector<Placement>& from, const Shape& shape, Dtype dtype, Device device) {
  std::vector<Placement> whole = from;
  double extra = 1;
  for (std::size_t a = 0; a < from.size(); ++a)
    if (contains(to_string(from[a]), "P(")) {
      whole[a] = Replicate();
      extra += static_cast<double>((a + 2) * static_cast<std::size_t>(*mesh.coordinate(mesh.names()[a])));
    }
  static_cast<void>(world);
  const Tensor full = input_of(3, shape, dtype);
  const DTensor x = distribute(full, mesh, Placements(std::span<const Placement>(whole)), {.source = Source::every_rank});
  std::vector<double> values = doubles_of(x.local().to(Device::cpu()));
  for (double& v : values) v = v * extra;
  const Tensor local = from_doubles(values, x.local().shape(), dtype).to(device);
  return from_local(local, mesh, Placements(std::span<const Placement>(from)), {.shape = shape});
}

using Results = std::vector<Tensor>;

void check(const std::vector<int>& sizes, const Shape& shape, Dtype dtype, const std::vector<Pair>& sample, const NcclOptions& options = {}) {
  int ranks = 1;
  std::vector<MeshAxis> axes;
  constexpr std::string_view kNames[] = {"x", "y", "z"};
  for (std::size_t a = 0; a < sizes.size(); ++a) {
    axes.push_back({kNames[a], sizes[a]});
    ranks *= sizes[a];
  }
  const auto moved = [&](World& world, Device device, const Pair& pair) {
    const DeviceMesh mesh = world.mesh(axes);
    const DTensor x = source(world, mesh, pair.from, shape, dtype, device);
    host_waits();
    const DTensor y = x.redistribute(Placements(std::span<const Placement>(pair.to)));
    y.wait();
    CHECK(host_waits() == 0);
    return y.local().to(Device::cpu()).contiguous();
  };
  const std::vector<Results> expected = collect({.ranks = ranks}, [&](World& world) {
    Results results;
    for (const Pair& pair : sample) results.push_back(moved(world, Device::cpu(), pair));
    return results;
  });
  CHECK(runs_over_nccl(
      ranks,
      [&](World& world) {
        for (std::size_t i = 0; i < sample.size(); ++i) {
          CAPTURE(i);
          const Tensor here = moved(world, world.device(), sample[i]), &there = expected[static_cast<std::size_t>(world.rank())][i];
          CHECK(here.shape() == there.shape());
          CHECK((here.numel() == 0 || std::memcmp(here.read(), there.read(), static_cast<std::size_t>(here.bytes())) == 0));
        }
      },
      options));
}

std::vector<Pair> legal(std::vector<Pair> list) {
  std::erase_if(list, [](const Pair& p) { return !kinds_agree(p.from) || !kinds_agree(p.to); });
  return list;
}

std::vector<std::string> asked(int ranks, const Shape& shape, const Placement& from, const Placement& to) {
  taken_calls();
  CHECK(runs_over_nccl(ranks, [&](World& world) {
    source(world, world.mesh({{"x", ranks}}), {from}, shape, Dtype::f32, world.device()).redistribute({to}).wait();
  }));
  return texts_by_member(taken_calls(), ranks)[0];
}

}  // namespace

TEST_CASE("every pair of placements on an axis of 2 and of 3, even and uneven, gives the bits of ranks that are threads") {
  for (int ranks : {2, 3})
    for (const Shape& shape : {Shape{12, 6}, Shape{5, 7}, Shape{1, 2}, Shape{0, 4}}) check({ranks}, shape, Dtype::f32, legal(pairs(1, 1)));
}

TEST_CASE("pairs of placements on two axes give the bits of ranks that are threads") {
  for (const Shape& shape : {Shape{8, 12}, Shape{5, 3}}) check({2, 2}, shape, Dtype::f32, legal(pairs(2, 3)));
  check({2, 2}, {8, 4}, Dtype::bf16, legal(pairs(2, 7)), {.in_rank_order = true});
}

TEST_CASE("pairs of placements on three axes give the bits of ranks that are threads") {
  for (const Shape& shape : {Shape{8, 8}, Shape{7, 9}}) check({2, 2, 2}, shape, Dtype::f32, legal(pairs(3, 61)));
}

TEST_CASE("moves ask NCCL for what the table of docs/nccl.md says") {
  using Texts = std::vector<std::string>;
  CHECK(asked(2, {4, 8}, Shard(0), Replicate()) == Texts{"AllGather 16 f32"});
  CHECK(asked(2, {4, 8}, Shard(1), Replicate()) == Texts{"AllGather 16 f32"});
  CHECK(asked(2, {5, 8}, Shard(0), Replicate()) == Texts{"AllGather 24 f32"});
  CHECK(asked(2, {3, 8}, Shard(0), Replicate()) == Texts{"Send 16 f32 to 1", "Recv 8 f32 from 1"});
  CHECK(asked(2, {4, 8}, Partial(), Shard(1)) == Texts{"ReduceScatter 16 f32 sum"});
  CHECK(asked(2, {4, 8}, Partial(ReduceOp::avg), Shard(0)) == Texts{"ReduceScatter 16 f32 avg"});
  CHECK(asked(2, {4, 8}, Partial(ReduceOp::max), Shard(0)) == Texts{"Send 16 f32 to 1", "Recv 16 f32 from 1"});
  CHECK(asked(2, {4, 8}, Partial(), Replicate()) == Texts{"AllReduce 32 f32 sum"});
  CHECK(asked(2, {4, 8}, Shard(0), Shard(1)) == Texts{"AlltoAll 8 f32"});
  CHECK(asked(2, {5, 8}, Shard(0), Shard(1)) == Texts{"Send 12 f32 to 1", "Recv 8 f32 from 1"});
  CHECK(asked(2, {4, 8}, Replicate(), Shard(0)).empty());
}
