// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;

double distance(const DTensor& a, const std::vector<float>& b) {
  const Tensor local = a.detach().full_tensor().local().contiguous();
  const auto v = local.values<const float>();
  double worst = v.size() == b.size() ? 0 : 1e9;
  for (std::size_t i = 0; i < b.size() && i < v.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(v[i]) - static_cast<double>(b[i])));
  return worst;
}

// Attention, then Mlp, with 6 heads over 2 kv heads; sharded over tp when asked.
DTensor run_block(const DeviceMesh& mesh, bool sharded) {
  nn::Attention attention(24, 6, mesh, {.kv_heads = 2, .bias = true});
  nn::Mlp mlp(24, 40, mesh);
  if (sharded) {
    using namespace parallel;
    parallelize_module(attention, "tp", {{"[qkv]_proj", colwise()}, {"o_proj", rowwise()}});
    parallelize_module(mlp, "tp", {{"gate_proj", colwise()}, {"up_proj", colwise()}, {"down_proj", rowwise()}});
  }
  attention.materialize();
  mlp.materialize();
  manual_seed(7);
  const DTensor x = randn({2, 5, 24}, mesh);
  const RotaryTables tables = rotary_tables({.length = 5, .head_dim = 4}, mesh);
  return mlp(attention(x, tables)) + attention(x);
}

}  // namespace

TEST_CASE("an attention and a feed-forward block give the same on one rank and split over tp 2, 3 and 4") {
  std::vector<float> whole;
  run_ranks({.ranks = 1}, [&whole](World& world) {
    const Tensor t = run_block(world.mesh({{"tp", 1}}), false).local().contiguous();
    const auto v = t.values<const float>();
    whole.assign(v.begin(), v.end());
  });
  REQUIRE(whole.size() == 2 * 5 * 24);
  for (const int n : {2, 3, 4})
    run_ranks({.ranks = n}, [&whole, n](World& world) { CHECK(distance(run_block(world.mesh({{"tp", n}}), true), whole) < 1e-5); });
}

TEST_CASE("heads that do not fit are refused") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 1}});
    CHECK_THROWS_WITH_AS(nn::Attention(24, 6, mesh, {.kv_heads = 4}), "attention: 4 kv heads do not divide 6 heads; give a divisor", InvalidArgument);
    CHECK_THROWS_WITH_AS(nn::Attention(25, 6, mesh), "attention: 6 heads do not divide 25 features; give head_dim", InvalidArgument);
  });
}
