// SPDX-License-Identifier: Apache-2.0
// Faults that gave wrong numbers without an error in other libraries of sharded tensors, one test for each.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

using Numbers = std::vector<double>;
Numbers whole(const DTensor& t) {
  const Tensor local = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
Numbers range(std::int64_t count, double from = 1) {
  Numbers v;
  for (std::int64_t i = 0; i < count; ++i) v.push_back(static_cast<double>(i) + from);
  return v;
}
DTensor placed(const Numbers& values, const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
void on(int ranks, const std::function<void(const DeviceMesh&)>& body) {
  run_ranks({.ranks = ranks}, [&](World& world) { body(world.mesh({{"x", ranks}})); });
}
void on_2x2(const std::function<void(const DeviceMesh&)>& body) {
  run_ranks({.ranks = 4}, [&](World& world) { body(world.mesh({{"dp", 2}, {"tp", 2}})); });
}
bool close(const Numbers& a, const Numbers& b, double tolerance = 1e-12) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i])))) return false;
  return true;
}

}  // namespace

TEST_CASE("the mean over uneven and empty shards is that of the elements, not of the shards' means") {
  for (const int ranks : {2, 3, 4})
    on(ranks, [](const DeviceMesh& mesh) {
      CHECK(whole(mean(placed({1, 2, 6, 7, 10}, {5}, mesh, {Shard(0)}))) == Numbers{5.2});
      CHECK(whole(mean(placed({3, 5}, {2}, mesh, {Shard(0)}))) == Numbers{4});
      CHECK(close(whole(mean(placed({1, 2, 6, 4, 5, 7}, {3, 2}, mesh, {Shard(0)}), 0)), {4, 13.0 / 3}));
    });
}

TEST_CASE("a number is added to a Partial tensor once, in add, sub and rsub alike") {
  on(3, [](const DeviceMesh& mesh) {
    const DTensor p = sum(placed(range(6), {6}, mesh, {Shard(0)}));
    REQUIRE(p.placements()[std::string_view("x")].is_partial());
    CHECK(whole(add(p, 5)) == Numbers{26});
    CHECK(whole(sub(p, 5)) == Numbers{16});
    CHECK(whole(rsub(p, 5)) == Numbers{-16});
    CHECK(whole(add(p, p)) == Numbers{42});
    CHECK(whole(add(p, full({}, 5, mesh, {}, {.dtype = Dtype::f64}))) == Numbers{26});
  });
}

TEST_CASE("a factor of a Partial tensor is not taken from an earlier call") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor p = sum(placed(range(4), {4}, mesh, {Shard(0)}));
    for (const double k : {2.0, -5.0, 0.5, 2.0}) {
      CHECK(whole(mul(p, k)) == Numbers{10 * k});
      CHECK(whole(div(p, k)) == Numbers{10 / k});
    }
  });
}

TEST_CASE("the norm of a Partial tensor is that of the sum, not the sum of norms") {
  on(2, [](const DeviceMesh& mesh) {
    // Columns add to 3 and 4; parts (1, 6) and (2, -2).
    const DTensor p = sum(placed({1, 6, 2, -2}, {2, 2}, mesh, {Shard(0)}), 0);
    REQUIRE(p.placements()[std::string_view("x")].is_partial());
    CHECK(whole(norm(p)) == Numbers{5});
    CHECK(whole(vector_norm(p, {.ord = 1})) == Numbers{7});
    CHECK(whole(abs(p)) == Numbers{3, 4});
  });
}

TEST_CASE("attention after a call without gradient, or with another mask, has its own plan and its own gradient") {
  on(2, [](const DeviceMesh& mesh) {
    const auto gradient = [&](bool causal, const Placements& at) {
      const auto input = [&](double from) {
        Numbers v = range(2 * 2 * 3 * 2, from);
        for (double& x : v) x = std::sin(x);
        return placed(v, {2, 2, 3, 2}, mesh, at);
      };
      const DTensor q = input(1).set_requires_grad(), k = input(30).set_requires_grad(), v = input(60).set_requires_grad();
      sum(square(scaled_dot_product_attention(q, k, v, {.is_causal = causal}))).backward();
      Numbers all = whole(q.grad());
      for (const DTensor& t : {k, v})
        for (const double g : whole(t.grad())) all.push_back(g);
      return all;
    };
    const Placements split{Shard(1)};
    const Numbers plain = gradient(false, {}), causal = gradient(true, {});
    CHECK(!close(plain, causal));
    const DTensor x = placed(range(24), {2, 2, 3, 2}, mesh, split);
    scaled_dot_product_attention(x, x, x);
    CHECK(close(gradient(false, split), plain));
    CHECK(close(gradient(true, split), causal));
    {
      const NoGrad off;
      scaled_dot_product_attention(x, x, x, {.is_causal = true});
    }
    CHECK(close(gradient(false, split), plain));
    CHECK(close(gradient(true, split), causal));
  });
}

TEST_CASE("a matmul whose operands split the contraction in different orders contracts equal indices") {
  on_2x2([](const DeviceMesh& mesh) {
    const Numbers av = range(24), bv = range(24, -7);
    Numbers expected(9);
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t j = 0; j < 3; ++j)
        for (std::size_t k = 0; k < 8; ++k) expected[i * 3 + j] += av[i * 8 + k] * bv[k * 3 + j];
    const Placements orders[] = {
        {{"dp", Shard(1)}, {"tp", Shard(1)}}, {{"tp", Shard(1)}, {"dp", Shard(1)}}, {{"dp", StridedShard(1, 2)}, {"tp", Shard(1)}}};
    const Placements others[] = {
        {{"dp", Shard(0)}, {"tp", Shard(0)}}, {{"tp", Shard(0)}, {"dp", Shard(0)}}, {{"dp", StridedShard(0, 2)}, {"tp", Shard(0)}}};
    for (const Placements& a : orders)
      for (const Placements& b : others) CHECK(whole(matmul(placed(av, {3, 8}, mesh, a), placed(bv, {8, 3}, mesh, b))) == expected);
  });
}

TEST_CASE("a view of a split tensor to sizes that cut its shards keeps the order of elements") {
  for (const int ranks : {2, 3, 4})
    on(ranks, [](const DeviceMesh& mesh) {
      for (const Placement& at : {Placement(Shard(0)), Placement(Shard(1))})
        for (const Shape& to : {Shape{16, 6}, Shape{96}, Shape{2, 48}, Shape{12, 2, 4}, Shape{3, 4, 8}})
          CHECK(whole(reshape(placed(range(96), {12, 8}, mesh, {at}), to)) == range(96));
    });
}

TEST_CASE("a size of -1 in a view of an uneven tensor is the global one on every rank") {
  on(4, [](const DeviceMesh& mesh) {
    const DTensor y = view(placed(range(18), {9, 2}, mesh, {Shard(0)}), {-1, 6});
    CHECK(y.shape() == Shape{3, 6});
    CHECK(whole(y) == range(18));
  });
}

TEST_CASE("a write through a view of a redistributed copy reaches the copy and not its source") {
  on(2, [](const DeviceMesh& mesh) {
    for (const Placements& to : {Placements{Replicate()}, Placements{Shard(1)}, Placements{Shard(0)}}) {
      const DTensor source = placed(range(8), {4, 2}, mesh, {Shard(0)}), copy = source.redistribute(to);
      mul_(transpose(copy, 0, 1), 0);
      CHECK(whole(copy) == Numbers(8, 0));
      CHECK(whole(source) == range(8));
    }
  });
}

TEST_CASE("filling a slice of a split tensor changes the tensor, or is refused") {
  on(2, [](const DeviceMesh& mesh) {
    for (const Placements& at : {Placements{Replicate()}, Placements{Shard(1)}, Placements{Shard(0)}}) {
      const DTensor w = placed(range(8), {4, 2}, mesh, at);
      bool refused = false;
      try {
        fill_(slice(w, 0, 0, 2), 0);
      } catch (const InvalidArgument&) { refused = true; }
      INFO(to_string(w));
      CHECK(whole(w) == (refused ? range(8) : Numbers{0, 0, 0, 0, 5, 6, 7, 8}));
      CHECK(refused == (to_string(w).find("S(0)") != std::string::npos));
      fill_(clone(slice(w, 0, 0, 2)), 0);
    }
    const DTensor w = placed(range(8), {4, 2}, mesh, {Shard(0)});
    CHECK_THROWS_WITH_AS(
        fill_(transpose(slice(w, 0, 0, 2), 0, 1), 0),
        "fill_: 'self' is a view whose rows had to move (f64[2, 2]{x: S(1)}), so that a write would not reach the tensor it views; clone() it "
        "to write to the copy, or redistribute the tensor before the view",
        InvalidArgument);
  });
}

TEST_CASE("clamping a Partial tensor in place is refused, and out of place clamps the sum") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor p = sum(placed({-4, 3, 5, 6}, {4}, mesh, {Shard(0)}));
    CHECK_THROWS_AS(clamp_(p, {.min = 0, .max = 8}), InvalidArgument);
    CHECK(whole(clamp(p, {.min = 0, .max = 8})) == Numbers{8});
    CHECK(whole(p) == Numbers{10});
  });
}

TEST_CASE("index_put writes at global indices, however input, indices and values are split") {
  on(2, [](const DeviceMesh& mesh) {
    for (const Placement& x : {Placement(Replicate()), Placement(Shard(0)), Placement(Shard(1))})
      for (const Placement& i : {Placement(Replicate()), Placement(Shard(0))})
        for (const Placement& v : {Placement(Replicate()), Placement(Shard(0)), Placement(Shard(1))}) {
          const DTensor at = placed({4, 0, 2}, {3}, mesh, {i}).to(Dtype::i64);
          const DTensor values = placed({-1, -2, -3, -4, -5, -6}, {3, 2}, mesh, {v}), input = placed(range(10), {5, 2}, mesh, {x});
          CHECK(whole(index_put(input, {at}, values)) == Numbers{-3, -4, 3, 4, -5, -6, 7, 8, -1, -2});
          CHECK(whole(index_put(input, {at}, values, {.accumulate = true})) == Numbers{-2, -2, 3, 4, 0, 0, 7, 8, 8, 8});
        }
  });
}

TEST_CASE("replicas hold the same bits after one reduction after another") {
  std::vector<std::vector<float>> held(4);
  on_2x2([&](const DeviceMesh& mesh) {
    Numbers v;
    for (int i = 0; i < 64; ++i) v.push_back(std::sin(i * 12.9898) * std::pow(10, i % 7));
    DTensor x = distribute(Tensor::of(v, {8, 8}).to(Dtype::f32), mesh, {{"dp", Shard(0)}, {"tp", Shard(0)}}, {.source = Source::every_rank});
    for (int round = 0; round < 4; ++round) {
      const DTensor total = sum(x, 0).redistribute({Replicate(), Replicate()});
      x = mul(x, 1.1f) + total / 7;
    }
    const Tensor total = sum(x, 0).redistribute({Replicate(), Replicate()}).local().contiguous();
    const auto mine = total.values<const float>();
    const std::int64_t rank = *mesh.coordinate("dp") * 2 + *mesh.coordinate("tp");
    held[static_cast<std::size_t>(rank)].assign(mine.begin(), mine.end());
  });
  for (const auto& other : held) CHECK(std::memcmp(other.data(), held[0].data(), held[0].size() * sizeof(float)) == 0);
}

TEST_CASE("uneven local parts make the global tensor when its shape is given, and are an error when they do not fit") {
  on(3, [](const DeviceMesh& mesh) {
    const std::int64_t sizes[] = {3, 3, 1}, starts[] = {0, 3, 6};
    const auto rank = static_cast<std::size_t>(*mesh.coordinate("x"));
    const Tensor part = Tensor::of(range(sizes[rank] * 2, static_cast<double>(starts[rank]) * 2 + 1), {sizes[rank], 2});
    const DTensor t = from_local(part, mesh, {Shard(0)}, {.shape = {7, 2}, .check = true});
    CHECK(t.shape() == Shape{7, 2});
    CHECK(whole(t) == range(14));
    const auto refused = [&](const Tensor& local, const Shape& shape) -> std::string {
      try {
        from_local(local, mesh, {Shard(0)}, {.shape = shape, .check = true});
      } catch (const InvalidArgument& e) { return e.what(); }
      return "accepted";
    };
    // Without a shape a part stands for as many of its size as there are ranks: not the same tensor everywhere.
    CHECK(refused(part, {}) ==
          "from_local: ranks disagree (rank 0: f64[9, 2]{x: S(0)}, rank 2: f64[3, 2]{x: S(0)}); give the same shape, dtype and "
          "placements on every rank");
    CHECK(refused(part, {9, 2}) ==
          "from_local: the local part does not fit ([1, 2] given, [3, 2] of f64[9, 2]{x: S(0)} expected on this rank); give the global shape or "
          "another "
          "placement (on rank 2)");
    CHECK(refused(rank == 1 ? part.to(Dtype::f32) : part, {7, 2}).find("rank 1: f32[7, 2]{x: S(0)}") != std::string::npos);
    CHECK(whole(from_local(part, mesh, {Shard(0)}, {.shape = {7, 2}, .check = true})) == range(14));
  });
}

TEST_CASE("any and all over a split dimension see every shard, empty ones included") {
  for (const int ranks : {2, 3, 4})
    on(ranks, [](const DeviceMesh& mesh) {
      const DTensor x = placed({0, 0, 1, 1, 0, 1, 0, 0, 1}, {3, 3}, mesh, {Shard(1)});
      CHECK(whole(any(x, 1)) == Numbers{1, 1, 1});
      CHECK(whole(all(x, 1)) == Numbers{0, 0, 0});
      CHECK(whole(any(x, 0)) == Numbers{1, 0, 1});
      CHECK(whole(all(x, 0)) == Numbers{0, 0, 1});
      CHECK(whole(all(any(x, 1))) == Numbers{1});
    });
}

TEST_CASE("a sum of one placement does not lend its rule to a mean, a maximum or another placement") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor s = placed(range(6), {3, 2}, mesh, {Shard(0)}), r = placed(range(6), {3, 2}, mesh, {Replicate()}), p = r.redistribute({Partial()}),
                  m = r.redistribute({Partial(ReduceOp::max)});
    for (int round = 0; round < 2; ++round)
      for (const DTensor& x : {s, r, p, m}) {
        CHECK(whole(sum(x, 0)) == Numbers{9, 12});
        CHECK(whole(mean(x, 0)) == Numbers{3, 4});
        CHECK(whole(amax(x, 0)) == Numbers{5, 6});
        CHECK(whole(amin(x, 0)) == Numbers{1, 2});
        CHECK(whole(prod(x, 0)) == Numbers{15, 48});
      }
  });
}

TEST_CASE("the gradient of a bias beside a Partial product, and of local parts, is reduced once") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor x = placed(range(6), {3, 2}, mesh, {Shard(1)}), w = placed(range(4), {2, 2}, mesh, {Shard(1)}).set_requires_grad(),
                  b = placed({1, 2}, {2}, mesh, {Replicate()}).set_requires_grad();
    const DTensor y = linear(x, w, b);
    CHECK(whole(y) == Numbers{6, 13, 12, 27, 18, 41});
    sum(y).backward();
    CHECK(whole(b.grad()) == Numbers{3, 3});
    CHECK(whole(w.grad()) == Numbers{9, 12, 9, 12});
    const DTensor t = placed(range(4), {4}, mesh, {Shard(0)}).set_requires_grad();
    sum(square(from_local(t.to_local(), mesh, {Shard(0)}))).backward();
    CHECK(whole(t.grad()) == Numbers{2, 4, 6, 8});
  });
}

TEST_CASE("a dimension split over two axes comes back in order, whichever axis was split first") {
  on_2x2([](const DeviceMesh& mesh) {
    for (const std::int64_t n : {4, 5, 7, 8, 3}) {
      const DTensor x = placed(range(n), {n}, mesh, {Replicate(), Replicate()});
      for (const Placements& to : {Placements{{"dp", Shard(0)}, {"tp", Shard(0)}}, Placements{{"tp", Shard(0)}, {"dp", Shard(0)}},
                                   Placements{{"dp", StridedShard(0, 2)}, {"tp", Shard(0)}}}) {
        CHECK(whole(x.redistribute(to)) == range(n));
        CHECK(whole(x.redistribute({{"tp", Shard(0)}}).redistribute(to)) == range(n));
      }
    }
  });
}

TEST_CASE("gate and up weights fused in one tensor of strided shards are whole again after a round trip") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor fused = placed(range(16), {8, 2}, mesh, {StridedShard(0, 2)});
    const Tensor mine = fused.local().contiguous().to(Dtype::f64);
    const bool first = *mesh.coordinate("x") == 0;
    const auto v = mine.values<const double>();
    CHECK(Numbers(v.begin(), v.end()) == (first ? Numbers{1, 2, 3, 4, 9, 10, 11, 12} : Numbers{5, 6, 7, 8, 13, 14, 15, 16}));
    CHECK(whole(fused) == range(16));
    CHECK(whole(slice(fused, 0, 0, 4)) == range(8));
    CHECK(whole(slice(fused, 0, 4, 8)) == range(8, 9));
  });
}

TEST_CASE("random numbers do not depend on placement and number of ranks") {
  Numbers first;
  for (const int ranks : {1, 2, 3})
    on(ranks, [&](const DeviceMesh& mesh) {
      for (const Placements& at : {Placements{Replicate()}, Placements{Shard(0)}, Placements{Shard(1)}}) {
        manual_seed(7);
        Numbers drawn = whole(uniform({4, 3}, 0, 1, mesh, at));
        for (const double x : whole(dropout(ones({4, 3}, mesh, at), 0.5))) drawn.push_back(x);
        if (*mesh.coordinate("x") == 0 && first.empty()) first = drawn;
        if (*mesh.coordinate("x") == 0) CHECK(drawn == first);
      }
    });
}

TEST_CASE("a variance whose correction takes all elements is infinite or NaN as on one rank") {
  std::vector<Numbers> one;
  for (const int ranks : {1, 2, 3})
    on(ranks, [&](const DeviceMesh& mesh) {
      std::vector<Numbers> seen;
      for (const double correction : {0.5, 1.3, 3.0, 4.0}) {
        const DTensor x = placed({1, 5, 2, 2, 5, 2, 0, 5, 2}, {3, 3}, mesh, {Shard(0)});
        seen.push_back(whole(var(x, 0, {.correction = correction})));
        seen.push_back(whole(dtensor::std(x, 0, {.correction = correction})));
      }
      if (*mesh.coordinate("x") != 0) return;
      if (ranks == 1) {
        one = seen;
        CHECK(one[4][0] == std::numeric_limits<double>::infinity());
        CHECK(std::isnan(one[4][1]));
        CHECK(close(one[0], {2 / 2.5, 0, 0}));
        CHECK(close(one[2], {2 / 1.7, 0, 0}));
      }
      for (std::size_t i = 0; i < seen.size(); ++i)
        for (std::size_t j = 0; j < seen[i].size(); ++j) {
          INFO("result " << i << ", column " << j << ": " << seen[i][j] << " on " << ranks << " ranks, " << one[i][j] << " on one");
          CHECK((seen[i][j] == one[i][j] || std::abs(seen[i][j] - one[i][j]) < 1e-12 || (std::isnan(seen[i][j]) && std::isnan(one[i][j]))));
        }
    });
}

TEST_CASE("a number that an op refuses is refused by a cached plan too") {
  on(2, [](const DeviceMesh& mesh) {
    const DTensor x = placed(range(4), {4}, mesh, {Shard(0)}), i = x.to(Dtype::i64);
    CHECK_NOTHROW(dropout(x, 0.5));
    CHECK_THROWS_WITH_AS(dropout(x, 1.5), "dropout: p is 1.500000; give a probability from 0 to 1", Error);
    CHECK_NOTHROW(pow(i, 2));
    CHECK_THROWS_AS(pow(i, -1), Error);
  });
}

TEST_CASE("a Partial tensor and a tensor of bool add up: bool has no parts, so it is not brought to any") {
  const auto check = [](const DeviceMesh& mesh, const DTensor& p, const Numbers& values) {
    REQUIRE(p.placements()[mesh.names()[0]].is_partial());
    const DTensor flags = distribute(Tensor::of(Numbers{1, 0, 1}, {3}).to(Dtype::boolean), mesh, {}, {.source = Source::every_rank});
    CHECK(whole(add(p, flags)) == Numbers{values[0] + 1, values[1], values[2] + 1});
    CHECK(whole(add(flags, p)) == Numbers{values[0] + 1, values[1], values[2] + 1});
    CHECK(whole(sub(p, flags)) == Numbers{values[0] - 1, values[1], values[2] - 1});
    CHECK(whole(where(flags, p, flags)) == Numbers{values[0], 0, values[2]});
  };
  on(2, [&](const DeviceMesh& mesh) { check(mesh, sum(placed(range(6), {2, 3}, mesh, {Shard(0)}), 0), {5, 7, 9}); });
  on_2x2([&](const DeviceMesh& mesh) {
    check(mesh, sum(placed(range(6), {2, 3}, mesh, {Shard(0), Replicate()}), 0), {5, 7, 9});
    check(mesh, sum(placed(range(6), {2, 3}, mesh, {Shard(0), Shard(1)}), 0), {5, 7, 9});
    check(mesh, sum(placed(range(12), {2, 2, 3}, mesh, {Shard(0), Shard(1)}), {0, 1}), {22, 26, 30});
  });
}
