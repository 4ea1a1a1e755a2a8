// SPDX-License-Identifier: Apache-2.0
// Redistribution among ranks that are threads and share a device, against the same on the CPU: equal bits on every rank, and no wait of the host.
#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"
#include "tensor/placed_values.h"
#include "tensor/placement_pairs.h"
#include "under_test.h"

using namespace dtensor;
using placed::Pair;
using test::kGpu;
using test::queued;

namespace {

constexpr std::uint64_t kSeed = 911;

DeviceMesh mesh_of(const World& world, const std::vector<int>& sizes) {
  std::vector<MeshAxis> axes;
  for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back({covering::axis_names()[a], sizes[a]});
  return world.mesh(axes);
}

std::string bytes(const Tensor& t) {
  const Tensor here = t.to(Device::cpu()).contiguous();
  return to_string(here.dtype()) + to_string(here.shape()) +
         std::string(static_cast<const char*>(here.read()), static_cast<std::size_t>(here.bytes()));
}

std::string host_waits() {
  std::string waits;
  for (const auto& e : queued())
    if (e.what.starts_with("host waits") || e.what.starts_with("copy to")) waits += e.what + "; ";
  return waits;
}

std::vector<Pair> pairs_of(const std::vector<int>& mesh, int ndim) {
  constexpr std::array<std::int64_t, 5> kSizes{0, 1, 3, 8, 17};
  return placed::covering_pairs(mesh, ndim, kSizes, kSeed).pairs;
}

// What a rank finds wrong with one pair.
std::string fault_of(const Pair& pair, const DeviceMesh& mesh, int rank) {
  // Sums and averages that round: whatever each rank holds is a contribution.
  const placed::Whole whole = placed::make_whole(pair.shape, pair.dtype, kSeed + static_cast<std::uint64_t>(rank));
  const Tensor shape_of = placed::part(whole, mesh, pair.from, testing::positions(mesh)[static_cast<std::size_t>(rank)]);
  const Tensor local = shape_of.clone();
  if (info(pair.dtype).floating) {
    const Tensor wide = local.to(Dtype::f64);
    for (double& v : wide.values<double>()) v = v / 3 + 0.01;
    local.copy_(wide);
  }
  const FromLocalOptions options{.shape = pair.shape};
  const Placements from(pair.from), to(pair.to);
  const DTensor x = from_local(local, mesh, from, options), y = from_local(local.to(kGpu), mesh, from, options);
  const std::string expected = bytes(x.redistribute(to).local());
  queued();
  DTensor result = y.redistribute(to);
  result.wait();
  const std::string waits = host_waits();
  if (!waits.empty()) return "the host waits: " + waits;
  if (!(result.local().device() == kGpu)) return "the result is elsewhere";
  if (bytes(result.local()) != expected) return "other bits than on the CPU";
  result.local().fill_(1);
  if (bytes(y.local()) != bytes(local)) return "the source changed";
  result = y.redistribute(to);
  y.local().fill_(1);
  if (bytes(result.local()) != expected) return "a write to the source shows in the result";
  return {};
}

}  // namespace

TEST_CASE("pairs of placements on one axis and two have the CPU's bits on a device, and the host does not wait") {
  std::size_t count = 0;
  for (const std::vector<int>& sizes : {std::vector{1}, std::vector{2}, std::vector{3}, std::vector{4}, std::vector{2, 2}, std::vector{1, 3}})
    for (int ndim : {1, 2, 3}) {
      const auto pairs = pairs_of(sizes, ndim);
      count += pairs.size();
      run_ranks({.ranks = std::accumulate(sizes.begin(), sizes.end(), 1, std::multiplies<>()), .threads_per_rank = 1}, [&](World& world) {
        const DeviceMesh mesh = mesh_of(world, sizes);
        for (const Pair& pair : pairs) {
          const std::string fault = fault_of(pair, mesh, world.rank());
          CHECK_MESSAGE(fault.empty(), text(pair) << " on rank " << world.rank() << ": " << fault);
        }
      });
    }
  MESSAGE(count << " pairs");
  CHECK(count > 1000);
}

TEST_CASE("a list of tensors moves in launches of their own kind, with the CPU's bits") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    std::vector<DTensor> here, there;
    std::vector<Placements> to;
    int i = 0;
    for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64})
      for (const Placements& from : {Placements{Shard(0), Replicate()}, Placements{Partial(), Shard(1)}, Placements{Shard(0), Shard(1)}}) {
        const Placements targets[] = {{Replicate(), Replicate()}, {Shard(1), Replicate()}, {Replicate(), Shard(0)}};
        to.push_back(targets[i++ % 3]);
        const Tensor whole = placed::part(placed::make_whole({5, 6}, dtype, kSeed + static_cast<std::uint64_t>(world.rank())), mesh, {}, {0, 0});
        const DTensor shaped = empty({5, 6}, mesh, from, {.dtype = dtype});
        const Tensor local = whole.narrow(0, 0, shaped.local().shape()[0]).narrow(1, 0, shaped.local().shape()[1]).contiguous();
        here.push_back(from_local(local, mesh, from, {.shape = {5, 6}}));
        there.push_back(from_local(local.to(kGpu), mesh, from, {.shape = {5, 6}}));
      }
    const auto a = redistribute_all(here, to);
    queued();
    const auto b = redistribute_all(there, to);
    for (const DTensor& t : b) t.wait();
    CHECK(host_waits() == "");
    for (std::size_t k = 0; k < a.size(); ++k) CHECK(bytes(a[k].local()) == bytes(b[k].local()));
  });
}

TEST_CASE("tensors go from one mesh to another, a part to each rank, and numbers to the host") {
  run_ranks({.ranks = 4, .device = kGpu}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 4}}), low = world.mesh({{"x", 2}}), square = world.mesh({{"a", 2}, {"b", 2}});
    const placed::Whole whole = placed::make_whole({7, 5}, Dtype::f32, kSeed);
    const Tensor values = placed::part(whole, mesh, {}, {0});
    for (Source source : {Source::first_rank, Source::every_rank}) {
      const DTensor x = distribute(values, mesh, {Shard(0)}, {.source = source});
      CHECK(x.device() == kGpu);
      CHECK(bytes(x.full_tensor().local()) == bytes(values));
      CHECK(bytes(x.redistribute({Shard(1), Replicate()}, {.mesh = square}).full_tensor().local()) == bytes(values));
      const DTensor part = x.redistribute({Shard(1)}, {.mesh = low});
      if (world.rank() < 2) CHECK(bytes(part.full_tensor().local()) == bytes(values));
    }
    const Tensor one = Tensor::of<double>(std::vector<double>{1.5 + world.rank()}, {});
    CHECK(from_local(one.to(kGpu), mesh, {Partial()}).item() == 12.0);
    CHECK(from_local(one.to(Dtype::i64).to(kGpu), mesh, {Partial(ReduceOp::max)}).item<std::int64_t>() == 4);
    CHECK(to_string(one.to(kGpu)).ends_with(" on cuda:0"));
  });
}
