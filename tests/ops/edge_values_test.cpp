// SPDX-License-Identifier: Apache-2.0
// Values at the edge: what is not finite stays in its row, empty shards hold the ends of narrow integers.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

// Rows 0 and 2 of the result, where row 1 of the input is `bad`; gradient of the same, with a gradient of ones that is `bad` in row 1 too.
using Op = std::function<DTensor(const DTensor&)>;
std::vector<float> rows_beside(const Op& op, float bad, bool backward) {
  std::vector<float> result;
  for (const Placements& placements : {Placements{Replicate()}, Placements{Shard(1)}}) {
    run_ranks({.ranks = placements[std::string_view("0")].is_replicate() ? 1 : 2}, [&](World& world) {
      std::vector<float> values(15), up(15, 1);
      for (std::size_t i = 0; i < 15; ++i) values[i] = static_cast<float>(i % 5), up[i] = static_cast<float>(i % 3);
      values[5] = bad, up[7] = bad;
      const DeviceMesh mesh = world.mesh({{"0", world.size()}});
      const DTensor x = distribute(Tensor::of(values, {3, 5}), mesh, placements).set_requires_grad();
      DTensor y = op(x);
      if (backward) {
        y.backward(distribute(Tensor::of(up, {3, 5}), mesh, placements));
        y = x.grad();
      }
      const Tensor all = y.redistribute({Replicate()}).local();
      if (world.rank() != 0) return;
      const auto v = all.values<const float>();
      for (const std::size_t i : {0, 1, 2, 3, 4, 10, 11, 12, 13, 14}) result.push_back(v[i]);
    });
  }
  return result;
}

}  // namespace

TEST_CASE("a row with NaN or infinity changes no other row of softmax and norms, forward and backward") {
  const std::vector<std::pair<std::string, Op>> ops{
      {"softmax", [](const DTensor& x) { return softmax(x, 1); }},
      {"log_softmax", [](const DTensor& x) { return log_softmax(x, 1); }},
      {"rms_norm", [](const DTensor& x) { return rms_norm(x, {5}); }},
      {"layer_norm", [](const DTensor& x) { return layer_norm(x, {5}); }},
  };
  for (const auto& [name, op] : ops) {
    for (const bool backward : {false, true}) {
      const std::vector<float> clean = rows_beside(op, 1, backward);
      for (const float bad : {kNan, kInf, -kInf}) {
        const std::vector<float> beside = rows_beside(op, bad, backward);
        INFO(name << (backward ? " backward, " : ", ") << bad);
        CHECK(beside == clean);
      }
    }
  }
}

TEST_CASE("softmax of a row with infinity is NaN, whole or split") {
  for (const int ranks : {1, 2}) {
    run_ranks({.ranks = ranks}, [](World& world) {
      const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
      const DTensor x = distribute(Tensor::of(std::vector<float>{0, kInf, 1, 2}, {1, 4}), mesh, {Shard(1)});
      for (const DTensor& y : {softmax(x, 1), log_softmax(x, 1)}) {
        const Tensor all = y.redistribute({Replicate()}).local();
        for (const float v : all.values<const float>()) CHECK(std::isnan(v));
      }
    });
  }
}

TEST_CASE("the extremes of i32 over shards of which one is empty are those of the values") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DTensor x = distribute(Tensor::of(std::vector<std::int32_t>{3, 1, 2, 5}, {4}), world.mesh({{"tp", 3}}), {Shard(0)});
    CHECK(amin(x).item<int>() == 1);
    CHECK(amax(neg(x)).item<int>() == -1);
  });
}
