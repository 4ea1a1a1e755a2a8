// SPDX-License-Identifier: Apache-2.0
// Order along lines of which ranks hold parts, against sorting all of the line: ties, NaN, empty and uneven parts, several axes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

using Values = std::vector<double>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();

Values gathered(const DTensor& t) {
  const Tensor all = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = all.values<const double>();
  return {v.begin(), v.end()};
}
bool less(double a, double b) { return a < b || (std::isnan(b) && !std::isnan(a)); }
std::vector<std::size_t> order_of(const Values& v, bool descending) {
  std::vector<std::size_t> at(v.size());
  std::iota(at.begin(), at.end(), std::size_t{0});
  std::stable_sort(at.begin(), at.end(), [&](std::size_t a, std::size_t b) { return descending ? less(v[b], v[a]) : less(v[a], v[b]); });
  return at;
}
bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// What lines may hold: distinct, many ties, all equal, sorted, sorted the wrong way, not finite.
std::vector<Values> contents(std::size_t n) {
  std::vector<Values> list(7, Values(n));
  for (std::size_t i = 0; i < n; ++i) {
    const auto mixed = static_cast<double>((i * 7919 + 13) % 3079);
    list[0][i] = mixed - 1500;
    list[1][i] = std::fmod(mixed, 5);
    list[2][i] = 4;
    list[3][i] = static_cast<double>(i);
    list[4][i] = -static_cast<double>(i / 3);
    list[5][i] = i % 7 == 0 ? kNan : i % 5 == 0 ? -kInf : i % 11 == 0 ? kInf : i % 2 == 0 ? -0.0 : 0.0;
    list[6][i] = i < n / 2 ? 1000 : mixed;
  }
  return list;
}
struct Setting {
  std::vector<MeshAxis> axes;
  Placements placements;
};
std::vector<Setting> settings(std::int64_t n) {
  return {{{{"x", 2}}, {Shard(0)}},
          {{{"x", 3}}, {Shard(0)}},
          {{{"x", 4}}, {{"x", RaggedShard(0, {0, n - 5, 0, 5})}}},
          {{{"x", 2}, {"y", 2}}, {{"x", Shard(0)}, {"y", Shard(0)}}},
          {{{"x", 2}, {"y", 2}}, {{"y", Shard(0)}, {"x", Shard(0)}}},
          {{{"x", 2}, {"y", 2}}, {{"x", Replicate()}, {"y", Shard(0)}}},
          {{{"x", 2}, {"y", 2}}, {{"x", Partial()}, {"y", Shard(0)}}},
          {{{"x", 2}, {"y", 2}}, {{"y", StridedShard(0, 2)}, {"x", Replicate()}}}};
}
template <class F>
void on_each(std::int64_t n, const F& body) {
  for (const Setting& s : settings(n)) {
    int ranks = 1;
    for (const MeshAxis& a : s.axes) ranks *= a.size;
    run_ranks({.ranks = ranks}, [&](World& world) { body(world.mesh(s.axes), s.placements); });
  }
}
DTensor line(const Values& v, const DeviceMesh& mesh, const Placements& placements, Dtype dtype) {
  const Tensor all = Tensor::of(v, {static_cast<std::int64_t>(v.size())}).to(dtype);
  return distribute(all, mesh, {}, {.source = Source::every_rank}).redistribute(placements);
}

}  // namespace

TEST_CASE("a line of which ranks hold parts is sorted as a whole one, stable, whatever it holds and however it is split") {
  for (const std::int64_t n : {257, 1000})
    on_each(n, [&](const DeviceMesh& mesh, const Placements& placements) {
      const std::vector<Values> lists = contents(static_cast<std::size_t>(n));
      for (std::size_t c = 0; c < lists.size(); ++c)
        for (const Dtype dtype : {Dtype::f32, Dtype::i32, Dtype::bf16}) {
          if (dtype == Dtype::i32 && c == 5) continue;
          const bool descending = (c + static_cast<std::size_t>(dtype)) % 2 == 0;
          INFO("content " << c << " of " << n << " as " << to_string(dtype) << " in " << to_string(placements));
          const DTensor x = line(lists[c], mesh, placements, dtype);
          const Values all = gathered(x);
          const ValuesAndIndices sorted = sort(x, 0, {.descending = descending});
          const Values values = gathered(sorted.values), indices = gathered(sorted.indices);
          const std::vector<std::size_t> want = order_of(all, descending);
          bool right = values.size() == want.size();
          for (std::size_t i = 0; right && i < want.size(); ++i) right = same(values[i], all[want[i]]) && indices[i] == static_cast<double>(want[i]);
          CHECK(right);
          CHECK(sorted.values.local().numel() < n);
          for (const std::int64_t k : {n - 3, n / 2}) {
            const ValuesAndIndices top = topk(x, k, 0, {.largest = descending});
            const Values first = gathered(top.indices);
            CHECK(std::equal(first.begin(), first.end(), indices.begin()));
            CHECK(first.size() == static_cast<std::size_t>(k));
          }
        }
    });
}

TEST_CASE("the element of a rank is found by counting as by sorting, and the median of all dims too") {
  for (const std::int64_t n : {5, 64, 301})
    on_each(n, [&](const DeviceMesh& mesh, const Placements& placements) {
      const std::vector<Values> lists = contents(static_cast<std::size_t>(n));
      for (std::size_t c = 0; c < lists.size(); ++c) {
        INFO("content " << c << " of " << n << " in " << to_string(placements));
        const DTensor x = line(lists[c], mesh, placements, Dtype::f32);
        const Values all = gathered(x);
        const std::vector<std::size_t> order = order_of(all, false);
        for (const std::int64_t k : {std::int64_t{1}, (n + 1) / 2, n - 1, n}) {
          const ValuesAndIndices kth = kthvalue(x, k, 0);
          CHECK(same(gathered(kth.values)[0], all[order[static_cast<std::size_t>(k - 1)]]));
          CHECK(gathered(kth.indices)[0] == static_cast<double>(order[static_cast<std::size_t>(k - 1)]));
        }
        const auto nan = std::find_if(all.begin(), all.end(), [](double v) { return std::isnan(v); });
        const std::size_t middle = nan != all.end() ? static_cast<std::size_t>(nan - all.begin()) : order[(all.size() - 1) / 2];
        const ValuesAndIndices m = median(x, 0, {.keepdim = true});
        CHECK(m.values.shape() == Shape{1});
        CHECK(same(gathered(m.values)[0], all[middle]));
        CHECK(gathered(m.indices)[0] == static_cast<double>(middle));
        CHECK(same(gathered(median(x))[0], all[middle]));
      }
    });
}

TEST_CASE("few lines are counted together, and the median of a matrix split both ways is that of its elements") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 4}}), grid = world.mesh({{"x", 2}, {"y", 2}});
    const Values all = contents(2 * 90)[0];
    const Tensor whole = Tensor::of(all, {2, 90});
    const DTensor x = distribute(whole, mesh, {Shard(1)}, {.source = Source::every_rank});
    const ValuesAndIndices kth = kthvalue(x, 40, 1), middle = median(x, 1);
    for (std::size_t row = 0; row < 2; ++row) {
      const Values part(all.begin() + static_cast<std::ptrdiff_t>(row * 90), all.begin() + static_cast<std::ptrdiff_t>(row * 90 + 90));
      const std::vector<std::size_t> order = order_of(part, false);
      CHECK(gathered(kth.values)[row] == part[order[39]]);
      CHECK(gathered(kth.indices)[row] == static_cast<double>(order[39]));
      CHECK(gathered(middle.values)[row] == part[order[44]]);
    }
    const DTensor both = distribute(whole, grid, {{"x", Shard(1)}, {"y", Shard(0)}}, {.source = Source::every_rank}).set_requires_grad();
    CHECK(gathered(median(both))[0] == all[order_of(all, false)[89]]);
    const Values g = gathered(grad(std::vector<DTensor>{median(both)}, std::vector<DTensor>{both})[0]);
    CHECK(std::accumulate(g.begin(), g.end(), 0.0) == 1);
    CHECK(g[order_of(all, false)[89]] == 1);
  });
}

TEST_CASE("equal elements share the gradient of the median of all, and a sorted line gives its gradient back") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor x = line({1, 2, 2, 3, 2}, mesh, {Shard(0)}, Dtype::f64).set_requires_grad();
    const Values g = gathered(grad(std::vector<DTensor>{median(x)}, std::vector<DTensor>{x})[0]);
    for (const std::size_t i : {1, 2, 4}) CHECK(g[i] == doctest::Approx(1.0 / 3));
    CHECK(g[0] + g[3] == 0);
    const Values v = contents(300)[0];
    const DTensor y = line(v, mesh, {Shard(0)}, Dtype::f64).set_requires_grad();
    const DTensor weights = arange(0, 300, 1, mesh, {}, {.dtype = Dtype::f64});
    const Values back = gathered(grad(std::vector<DTensor>{sum(sort(y).values * weights)}, std::vector<DTensor>{y})[0]);
    const std::vector<std::size_t> order = order_of(v, false);
    for (std::size_t i = 0; i < order.size(); ++i) CHECK(back[order[i]] == static_cast<double>(i));
  });
}

TEST_CASE("moves of a sort that the caller did not ask for can be refused") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = line(contents(400)[0], world.mesh({{"x", 2}}), {Shard(0)}, Dtype::f32);
    const RefuseImplicit refuse;
    CHECK_THROWS_AS(sort(x), InvalidArgument);
    CHECK_THROWS_AS(median(x), InvalidArgument);
  });
}

TEST_CASE("a dry run of any rank sorts, chooses and counts lines of the sizes that a run has") {
  for (const int rank : {0, 5, 7}) {
    const World world = World::fake(rank, 8);
    const DeviceMesh mesh = world.mesh({{"x", 8}});
    const DTensor x = full({1001}, 2, mesh, {Shard(0)});
    CHECK(sort(x).values.local().shape() == x.local().shape());
    CHECK(topk(x, 700).values.shape() == Shape{700});
    CHECK(kthvalue(x, 500).values.shape() == Shape{});
    CHECK(median(x).shape() == Shape{});
  }
}
