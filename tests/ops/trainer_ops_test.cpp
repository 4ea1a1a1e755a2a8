// SPDX-License-Identifier: Apache-2.0
// Ops of training programs against the ops that they stand for.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
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
DTensor indices(const std::vector<std::int64_t>& values, const Shape& shape, const DeviceMesh& mesh) {
  return distribute(Tensor::of(values, shape), mesh, {}, {.source = Source::every_rank});
}
std::vector<std::int64_t> integers(const DTensor& t) {
  const Tensor local = t.full_tensor().local();
  const auto v = local.values<const std::int64_t>();
  return {v.begin(), v.end()};
}
bool near(const DTensor& a, const DTensor& b) { return allclose(a, b, {.rtol = 1e-4, .atol = 1e-5}); }

}  // namespace

TEST_CASE("cross-entropy from hidden states is that of the logits, with its gradients, and moves numbers per row over split classes") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor target = indices({3, 0, -100, 100, 41}, {5}, mesh);
    for (const Placements& of_weight : {Placements(), Placements{Shard(0)}}) {
      DTensor hidden = counting({5, 4}, mesh, {}), weight = counting({101, 4}, mesh, of_weight);
      hidden.set_requires_grad(true);
      weight.set_requires_grad(true);
      const DTensor want = cross_entropy(linear(hidden, weight), target);
      const std::vector<DTensor> wanted = grad(std::vector<DTensor>{want}, std::vector<DTensor>{hidden, weight});
      CommCounter counter;
      const DTensor loss = linear_cross_entropy(hidden, weight, target);
      CHECK(counter.bytes_received() <= 3 * 5 * 4 * 2);
      CHECK(near(loss, want));
      const std::vector<DTensor> got = grad(std::vector<DTensor>{loss}, std::vector<DTensor>{hidden, weight});
      CHECK(near(got[0], wanted[0]));
      CHECK(near(got[1], wanted[1]));
    }
  });
}

TEST_CASE("bias_gelu, linear_gelu, embedding_bag and grouped_mm are the expressions that they replace") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor x = counting({5, 6}, mesh, {Shard(0)}), bias = counting({6}, mesh, {});
    CHECK(near(bias_gelu(x, bias), gelu(x + bias)));
    CHECK(near(bias_gelu(x, bias, "tanh"), gelu(x + bias, {.approximate = "tanh"})));

    const DTensor weight = counting({4, 6}, mesh, {Shard(1)}), more = counting({4}, mesh, {});
    const DTensor expected = gelu(linear(x, weight, more).redistribute({Replicate()}), {.approximate = "tanh"});
    for (const Placement& way : {Placement(Shard(0)), Placement(Shard(1)), Placement(Replicate())}) {
      const DTensor rows = x.redistribute({way});
      CHECK(near(linear_gelu(rows, weight, more), expected));
      CHECK(near(linear_gelu(rows, weight.redistribute({Shard(0)}), more), expected));
      CHECK_FALSE(linear_gelu(rows, weight, more).placements()["x"].is_partial());
      // What a recorded call keeps does not change what it gives.
      const DTensor watched = rows.detach().set_requires_grad();
      CHECK(near(linear_gelu(watched, weight, more), expected));
    }

    const DTensor bags = indices({0, 3, 6, 2, 2, 5}, {2, 3}, mesh), rows = counting({7, 4}, mesh, {Shard(0)});
    const DTensor looked_up = embedding(bags, rows), shares = counting({2, 3}, mesh, {});
    CHECK(near(embedding_bag(bags, rows, {.mode = "sum"}), sum(looked_up, 1)));
    CHECK(near(embedding_bag(bags, rows), mean(looked_up, 1)));
    CHECK(near(embedding_bag(bags, rows, {.mode = "max"}), amax(looked_up, 1)));
    CHECK(near(embedding_bag(bags, rows, {.mode = "sum"}, shares), sum(looked_up * unsqueeze(shares, 2), 1)));

    const DTensor experts = counting({3, 6, 4}, mesh, {Shard(2)});
    const DTensor mixed = grouped_mm(x, experts, indices({2, 2, 4}, {3}, mesh));
    CHECK(near(narrow(mixed, 0, 0, 2), matmul(narrow(x, 0, 0, 2), select(experts, 0, 0))));
    CHECK(near(narrow(mixed, 0, 2, 2), matmul(narrow(x, 0, 2, 2), select(experts, 0, 2))));
    CHECK(near(narrow(mixed, 0, 4, 1), zeros({1, 4}, mesh)));
  });
}

TEST_CASE("tokens that are dispatched, multiplied by their experts and combined are the weighted sum of their experts, with its gradient") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const std::vector<std::int64_t> chosen{2, 0, 1, 2, 2, 1, 0, 2, 1, 0};
    const DTensor expert = indices(chosen, {5, 2}, mesh);
    for (const Placements& of_tokens : {Placements(), Placements{Shard(0)}, Placements{Shard(1)}}) {
      DTensor x = counting({5, 4}, mesh, of_tokens);
      x.set_requires_grad(true);
      const DTensor weights = counting({5, 2}, mesh, {}), experts = counting({3, 4, 6}, mesh, {});
      const Dispatched d = moe_dispatch(x, expert, 3);
      CHECK(integers(d.offs) == std::vector<std::int64_t>{3, 6, 10});
      const DTensor out = moe_combine(grouped_mm(d.tokens, experts, d.offs), d.order, weights);
      const DTensor all = matmul(unsqueeze(x, 0), experts);  // [expert, token, 6]
      DTensor want = zeros({5, 6}, mesh);
      for (int e = 0; e < 3; ++e) want = want + select(all, 0, e) * sum(weights * eq(expert, e).to(Dtype::f32), 1, {.keepdim = true});
      CHECK(near(out, want));
      const std::vector<DTensor> got = grad(std::vector<DTensor>{sum(out)}, std::vector<DTensor>{x});
      const std::vector<DTensor> wanted = grad(std::vector<DTensor>{sum(want)}, std::vector<DTensor>{x});
      CHECK(near(got[0], wanted[0]));
    }
  });
}

TEST_CASE("alibi slopes are those of the paper, the diagonal is zero, and split heads have their own") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor whole = alibi_bias(6, 3, 5, mesh), split = alibi_bias(6, 3, 5, mesh, {Shard(0)});
    CHECK(equal(whole, split));
    const Tensor local = whole.local();
    const auto v = local.values<const float>();
    const std::vector<double> slopes{1.0 / 4, 1.0 / 16, 1.0 / 64, 1.0 / 256, 1.0 / 2, 1.0 / 8};
    for (std::size_t h = 0; h < 6; ++h) {
      CHECK(v[h * 15 + 2] == 0);  // query 0 is key 2
      CHECK(v[h * 15] == doctest::Approx(-2 * slopes[h]));
    }
  });
}

TEST_CASE("drawn numbers are the same on every mesh, and of the distribution that was asked for") {
  std::vector<std::vector<std::int64_t>> seen;
  for (const int ranks : {1, 2, 3}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", ranks}});
      manual_seed(7);
      std::vector<std::int64_t> all = integers(randperm(50, mesh, {Shard(0)}));
      std::vector<std::int64_t> sorted = all;
      std::sort(sorted.begin(), sorted.end());
      for (std::size_t i = 0; i < sorted.size(); ++i) CHECK(sorted[i] == static_cast<std::int64_t>(i));
      CHECK(sorted != all);
      const DTensor weights = counting({400, 4}, mesh, {Shard(0)}) * 0 + 1;
      const auto drawn = integers(multinomial(weights, 3));
      for (std::size_t row = 0; row < 400; ++row) {
        CHECK(drawn[row * 3] != drawn[row * 3 + 1]);
        CHECK(drawn[row * 3 + 1] != drawn[row * 3 + 2]);
        CHECK(drawn[row * 3] != drawn[row * 3 + 2]);
      }
      const auto ones = std::count(drawn.begin(), drawn.end(), 1);
      CHECK(ones > 240);
      CHECK(ones < 360);
      all.insert(all.end(), drawn.begin(), drawn.end());
      const auto again = integers(multinomial(weights, 5, true));
      all.insert(all.end(), again.begin(), again.end());
      const auto coins = integers(bernoulli(weights * 0.25).to(Dtype::i64));
      const auto heads = std::count(coins.begin(), coins.end(), 1);
      CHECK(heads > 320);
      CHECK(heads < 480);
      all.insert(all.end(), coins.begin(), coins.end());
      if (world.rank() == 0) seen.push_back(all);
    });
  }
  CHECK(seen[1] == seen[0]);
  CHECK(seen[2] == seen[0]);
}
