// SPDX-License-Identifier: Apache-2.0
// Ops on images whose sizes, batch or channels are split: what moves, and that nothing else does.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "dtensor/debug.h"
#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

DTensor counting(const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 37) % 101) / 50 - 1;
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
// Bytes that each of 4 ranks receives; the result is compared with that of tensors that are not split.
std::vector<std::int64_t> received(const std::function<DTensor(const DeviceMesh&, const Placements&)>& f, const Placements& placements) {
  std::vector<std::int64_t> bytes(4);
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 4}});
    const DTensor whole = f(mesh, {});
    CommCounter counter;
    const DTensor split = f(mesh, placements);
    bytes[static_cast<std::size_t>(world.rank())] = counter.bytes_received();
    CHECK(allclose(split, whole, {.rtol = 1e-4, .atol = 1e-5}));
  });
  return bytes;
}
using ByRank = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("a convolution over a split height fetches one row from each neighbour") {
  const ByRank bytes = received(
      [](const DeviceMesh& mesh, const Placements& p) {
        return conv2d(counting({1, 2, 16, 5}, mesh, p), counting({3, 2, 3, 3}, mesh, {}), {}, {.padding = 1});
      },
      {Shard(2)});
  const std::int64_t row = 2 * 5 * 4;
  CHECK(bytes == ByRank{row, 2 * row, 2 * row, row});
}

TEST_CASE("patches that tile a split height move nothing") {
  const auto patches = [](const DeviceMesh& mesh, const Placements& p) {
    return conv2d(counting({2, 3, 16, 4}, mesh, p), counting({5, 3, 2, 2}, mesh, {}), counting({5}, mesh, {}), {.stride = {2}});
  };
  CHECK(received(patches, {Shard(2)}) == ByRank(4, 0));
  CHECK(received(
            [](const DeviceMesh& mesh, const Placements& p) {
              return avg_pool2d(counting({2, 3, 16, 4}, mesh, p), {2});
            },
            {Shard(2)}) == ByRank(4, 0));
  CHECK(received(
            [](const DeviceMesh& mesh, const Placements& p) {
              return interpolate(counting({1, 3, 8, 4}, mesh, p), {.scale_factor = {2}});
            },
            {Shard(2)}) == ByRank(4, 0));
}

TEST_CASE("max pooling over a split width gives indices of the whole image") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 3}});
    const auto pooled = [&](const Placements& p) {
      return max_pool2d_with_indices(counting({2, 7, 8}, mesh, p), {3, 2}, {.stride = {1}, .padding = {1}});
    };
    const MaxPooled whole = pooled({}), split = pooled({Shard(2)});
    CHECK(equal(split.values, whole.values));
    CHECK(equal(split.indices, whole.indices));
  });
}

TEST_CASE("pooling and convolution of integers are exact, and quotients are cut towards 0") {
  const std::vector<std::int64_t> big{-7, -(std::int64_t{1} << 53) - 1, 2, 3, 4, 9, 1, 0, 5};
  for (const int ranks : {1, 2}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DTensor x = distribute(Tensor::of(big, {1, 3, 3}), world.mesh({{"x", ranks}}), {Shard(1)});
      const auto all = [](const DTensor& t) {
        const Tensor local = t.full_tensor().local();
        const auto v = local.values<const std::int64_t>();
        return std::vector<std::int64_t>(v.begin(), v.end());
      };
      CHECK(all(max_pool2d(x, {1, 2}, {.stride = {1}})) == std::vector<std::int64_t>{-7, 2, 4, 9, 1, 5});
      CHECK(all(avg_pool2d(x, {2, 1}, {.stride = {1}})) == std::vector<std::int64_t>{-2, (big[1] + 4) / 2, 5, 2, 2, 7});
      const DTensor two = ones({1, 1, 1, 1}, x.mesh(), {Replicate()}, {.dtype = Dtype::i64});
      CHECK(all(conv2d(x, add(two, two))) == std::vector<std::int64_t>{-14, 2 * big[1], 4, 6, 8, 18, 2, 0, 10});
    });
  }
}

TEST_CASE("a factor that gives twice the size still reads at its own steps") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DTensor x = distribute(Tensor::of(std::vector<float>{1, 2, 3}, {1, 1, 3}), world.mesh({{"x", 1}}), {});
    const Tensor y = interpolate(x, {.scale_factor = {2.3}}).local();
    const auto v = y.values<const float>();
    CHECK(std::vector<float>(v.begin(), v.end()) == std::vector<float>{1, 1, 1, 2, 2, 3});
  });
}

TEST_CASE("batch_norm of a split batch moves statistics, not the batch") {
  const ByRank bytes = received(
      [](const DeviceMesh& mesh, const Placements& p) {
        return batch_norm(counting({64, 3, 8, 8}, mesh, p), {}, {}, {}, {}, {.training = true}).out;
      },
      {Shard(0)});
  for (const std::int64_t b : bytes) CHECK(b < 512);  // the batch has 49,152 bytes
}

TEST_CASE("groups of channels are normalised where they lie") {
  CHECK(received(
            [](const DeviceMesh& mesh, const Placements& p) {
              return group_norm(counting({2, 8, 5}, mesh, p), 4);
            },
            {Shard(1)}) == ByRank(4, 0));
  CHECK(received(
            [](const DeviceMesh& mesh, const Placements& p) {
              return instance_norm(counting({2, 8, 5}, mesh, p));
            },
            {Shard(1)}) == ByRank(4, 0));
}
