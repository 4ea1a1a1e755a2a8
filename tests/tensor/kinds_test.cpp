// SPDX-License-Identifier: Apache-2.0
// Kinds of factors beyond pass, reduce and whole: what is fetched, carried and combined, and that nothing else moves.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "dtensor/debug.h"
#include "dtensor/dtensor.h"
#include "dtensor/verify.h"
#include "ops/candidates.h"
#include "ops/split_scan.h"

using namespace dtensor;

namespace {

DTensor counting(const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 37) % 101);
  return distribute(Tensor::of(values, shape), mesh, placements, {.source = Source::every_rank});
}
std::vector<float> whole(const DTensor& t) {
  const Tensor local = t.full_tensor().local();
  const auto v = local.values<const float>();
  return {v.begin(), v.end()};
}

struct Seen {
  std::vector<std::int64_t> bytes;  // received by each rank
  std::string placements;
};
// What `f` receives on each of 4 ranks, twice: as planned, and from the cache.
Seen seen(const std::function<DTensor(const DeviceMesh&)>& f, std::vector<float>* values = nullptr) {
  Seen result{std::vector<std::int64_t>(4), {}};
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 4}});
    std::int64_t first = 0;
    for (int round = 0; round < 2; ++round) {
      CommCounter counter;
      const DTensor out = f(mesh);
      if (round == 0) first = counter.bytes_received();
      CHECK(counter.bytes_received() == first);
      if (world.rank() == 0) result.placements = to_string(out);
    }
    result.bytes[static_cast<std::size_t>(world.rank())] = first;
    const DTensor out = f(mesh);
    const auto all = whole(out);
    if (world.rank() == 0 && values != nullptr) *values = all;
  });
  return result;
}
using ByRank = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("ops of every kind agree with one rank for all placements") {
  const char* which = std::getenv("DTENSOR_KINDS");
  std::vector<std::string> names{"slice", "slice_backward", "cat", "in_parts", "cumsum", "scan_totals", "argmax", "argmin", "embedding_backward"};
  if (which != nullptr) names = {which};
  for (const std::string& name : names) {
    const VerifyReport report = verify(find_op(name), {.limit = which != nullptr ? 0 : 16});
    MESSAGE(to_string(report));
    CHECK(report.checked > 0);
    CHECK(report.wrong == 0);
    CHECK(report.missing == 0);
  }
}

TEST_CASE("a slice of a split dimension fetches the rows that each part lacks, and no others") {
  // [16, 3] over 4 ranks: 4 rows each. Rows 2 to 13 in parts of 3: 2 3 4 | 5 6 7 | 8 9 10 | 11 12 13.
  std::vector<float> values;
  const Seen s = seen([](const DeviceMesh& mesh) { return slice(counting({16, 3}, mesh, {Shard(0)}), 0, 2, 14); }, &values);
  CHECK(s.bytes == ByRank{1 * 12, 0, 0, 1 * 12});
  CHECK(s.placements == "f32[12, 3]{x: S(0)}");
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == static_cast<float>(((i + 6) * 37) % 101));
  // A gather brings 12 rows to every rank.
  const Seen gather = seen([](const DeviceMesh& mesh) { return counting({16, 3}, mesh, {Shard(0)}).redistribute({Replicate()}); });
  CHECK(gather.bytes == ByRank(4, 12 * 12));
}

TEST_CASE("a slice with a step fetches from its first to its last row, and one that aligns fetches nothing") {
  // Rows 0 2 .. 14 in parts of 2: 0 2 | 4 6 | 8 10 | 12 14 are where the operand has them.
  CHECK(seen([](const DeviceMesh& mesh) { return slice(counting({16, 3}, mesh, {Shard(0)}), 0, 0, 16, 2); }).bytes == ByRank(4, 0));
  // 1 4 | 7 10 | 13 | nothing: rank 0 lacks 4; rank 1 (4..7) lacks 8 to 10; rank 2 (8..11) lacks 13.
  CHECK(seen([](const DeviceMesh& mesh) { return slice(counting({16, 1}, mesh, {Shard(0)}), 0, 1, 16, 3); }).bytes == ByRank{4, 3 * 4, 4, 0});
}

TEST_CASE("the gradient of a slice brings back the rows that were taken, and no others") {
  const Seen s = seen([](const DeviceMesh& mesh) {
    DTensor x = counting({16, 3}, mesh, {Shard(0)});
    x.set_requires_grad(true);
    const DTensor y = slice(x, 0, 2, 14);
    y.backward(counting({12, 3}, mesh, {Shard(0)}));
    return x.grad();
  });
  CHECK(s.placements == "f32[16, 3]{x: S(0)}");
  // Rank 0 gets back rows 2 3 of which it has both; rank 1 (4..7) lacks 4; rank 2 (8..11) lacks 11; rank 3 has 12 13. The slice itself moved two.
  CHECK(s.bytes == ByRank{12, 12, 12, 12});
}

TEST_CASE("cat along a split dimension fetches what the parts of the result lack") {
  // a has rows 0 1 | 2 3 | 4 5 | 6 7, b likewise; of the result's 16 rows every rank keeps 4: 0-3 and 4-7 of a, 0-3 and 4-7 of b.
  const Seen s = seen([](const DeviceMesh& mesh) {
    return cat(std::vector<DTensor>{counting({8, 3}, mesh, {Shard(0)}), counting({8, 3}, mesh, {Shard(0)})}, 0);
  });
  CHECK(s.placements == "f32[16, 3]{x: S(0)}");
  CHECK(s.bytes == ByRank{2 * 12, 4 * 12, 4 * 12, 2 * 12});
}

TEST_CASE("stack along a split dimension's side moves nothing") {
  const Seen s = seen([](const DeviceMesh& mesh) {
    return stack(std::vector<DTensor>{counting({8, 3}, mesh, {Shard(0)}), counting({8, 3}, mesh, {Shard(0)})}, 0);
  });
  CHECK(s.placements == "f32[2, 8, 3]{x: S(1)}");
  CHECK(s.bytes == ByRank(4, 0));
}

TEST_CASE("select of a split dimension brings one row to all, not the tensor") {
  const Seen s = seen([](const DeviceMesh& mesh) { return select(counting({16, 3}, mesh, {Shard(0)}), 0, 5); });
  CHECK(*std::max_element(s.bytes.begin(), s.bytes.end()) <= 2 * 12);
}

TEST_CASE("a running sum along a split dimension moves one total per part, whatever the parts are") {
  // Four totals of 3 elements are reduced over 4 ranks: (4 - 2) * 3 + 12 elements come to each. A gather brings 12 rows of 3.
  std::vector<float> values;
  const Seen s = seen([](const DeviceMesh& mesh) { return cumsum(counting({16, 3}, mesh, {Shard(0)}), 0); }, &values);
  CHECK(s.placements == "f32[16, 3]{x: S(0)}");
  CHECK(s.bytes == ByRank(4, 18 * 4));
  for (std::size_t c = 0; c < 3; ++c) {
    double running = 0;
    for (std::size_t r = 0; r < 16; ++r) {
      running += static_cast<double>(((r * 3 + c) * 37) % 101);
      CHECK(static_cast<double>(values[r * 3 + c]) == running);
    }
  }
  // The longer the parts, the less it is beside a gather.
  const Seen longer = seen([](const DeviceMesh& mesh) { return cumsum(counting({1600, 3}, mesh, {Shard(0)}), 0); });
  CHECK(longer.bytes == ByRank(4, 18 * 4));
}

TEST_CASE("scans of every op and direction agree with one rank on uneven, strided, ragged and empty parts") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}, {"y", 2}});
    const std::vector<Placements> all{{Shard(0), Shard(0)},           {Shard(0), Shard(1)},
                                      {StridedShard(0, 2), Shard(0)}, {RaggedShard(0, {5, 2}), Replicate()},
                                      {Replicate(), Shard(0)},        {Shard(0), StridedShard(0, 3)}};
    for (const std::string_view op : {"sum", "product", "max", "min"}) {
      for (const bool reverse : {false, true}) {
        for (const std::int64_t n : {7, 1}) {
          const Shape shape{n, 3};
          std::vector<double> x(static_cast<std::size_t>(shape.numel()));
          for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>((i * 37) % 11) - 4.5;
          std::vector<double> expected(x.size());
          for (std::size_t c = 0; c < 3; ++c) {
            double running = 0;
            for (std::int64_t step = 0; step < n; ++step) {
              const auto i = static_cast<std::size_t>(reverse ? n - 1 - step : step) * 3 + c;
              const double v = x[i];
              running = step == 0         ? v
                        : op == "sum"     ? running + v
                        : op == "product" ? running * v
                        : op == "max"     ? std::max(running, v)
                                          : std::min(running, v);
              expected[i] = running;
            }
          }
          for (const Placements& p : all) {
            if (n == 1 && to_string(p).find("Ragged") != std::string::npos) continue;
            const DTensor t = distribute(Tensor::of(x, shape), mesh, p, {.source = Source::every_rank});
            const Tensor out = ops::split_scan(t, 0, op, reverse, Dtype::f64).full_tensor().local();
            INFO(std::string(op), " ", reverse, " ", to_string(t));
            for (std::size_t i = 0; i < expected.size(); ++i) CHECK(out.values<const double>()[i] == doctest::Approx(expected[i]).epsilon(1e-12));
          }
        }
      }
    }
  });
}

TEST_CASE("argmax along a split dimension moves values and indices of the result alone, and ties go to the lowest index") {
  const Seen s = seen([](const DeviceMesh& mesh) { return argmax(counting({16, 3}, mesh, {Shard(0)}), 0).to(Dtype::f32); });
  // Three values and three indices, each reduced over 4 ranks; a gather is 12 rows of 12 bytes.
  CHECK(*std::max_element(s.bytes.begin(), s.bytes.end()) <= 2 * 3 * (4 + 8));
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 4}});
    const DTensor x = distribute(Tensor::of(std::vector<double>{1, 3, 2, 3, 3}, {5}), mesh, {Shard(0)}, {.source = Source::every_rank});
    CHECK(argmax(x, 0).item<std::int64_t>() == 1);
    CHECK(argmin(x, 0).item<std::int64_t>() == 0);
  });
}

TEST_CASE("the largest of a split dimension are chosen among the largest of each part") {
  // One row of maxima and one of indices per part are brought together.
  static const auto largest = [](const DTensor& x, std::int64_t k, int dim) {
    CHECK(k == 1);
    return std::pair(amax(x, dim, {.keepdim = true}), argmax(x, dim, {.keepdim = true}));
  };
  for (const std::int64_t n : {16, 13, 3}) {
    std::vector<float> values;
    const Seen s = seen(
        [n](const DeviceMesh& mesh) {
          return ops::first_of_parts(counting({n, 3}, mesh, {Shard(0)}), 1, 0, -1.0,
                                     [](const DTensor& x, std::int64_t k, int dim) { return largest(x, k, dim); })
              .second.to(Dtype::f32);
        },
        &values);
    CHECK(s.bytes == ByRank(4, 3 * 3 * (4 + 8)));
    for (std::size_t c = 0; c < 3; ++c) {
      std::size_t best = 0;
      const auto at = [c](std::size_t r) { return ((r * 3 + c) * 37) % 101; };
      for (std::size_t r = 1; r < static_cast<std::size_t>(n); ++r) best = at(r) > at(best) ? r : best;
      CHECK(values[c] == static_cast<float>(best));
    }
  }
}

TEST_CASE("rows added at indices stay where the rows are: nothing moves but what the index reads") {
  // The gradient of an embedding whose rows are split: each rank keeps what falls into its rows.
  const Seen s = seen([](const DeviceMesh& mesh) {
    const DTensor weight = counting({8, 3}, mesh, {Shard(0)});
    weight.set_requires_grad();
    const DTensor index =
        distribute(Tensor::of(std::vector<double>{1, 7, 1, 4}, {4}).to(Dtype::i64), mesh, {Replicate()}, {.source = Source::every_rank});
    const DTensor out = embedding(index, weight);
    out.redistribute({Replicate()}).backward(counting({4, 3}, mesh, {Replicate()}));
    return weight.grad();
  });
  CHECK(s.placements == "f32[8, 3]{x: S(0)}");
  // The reduction of the 4 rows that were read, and nothing backward: (4 - 2) * 3 + 12 elements.
  CHECK(s.bytes == ByRank(4, 18 * 4));
}
