// SPDX-License-Identifier: Apache-2.0
// Attention over keys that are split along the sequence: values and gradients are those of one rank, and no rank holds all keys.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

#include "local/cpu/attention.h"
#include "placements/layout.h"

using namespace dtensor;

namespace {

struct Problem {
  std::int64_t b = 2, h = 4, kv = 4, t = 7, s = 7, d = 3, e = 2;
  AttentionOptions options = {};
};

Tensor numbers(const Shape& shape, Dtype dtype, std::uint32_t seed) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& x : values) {
    seed = seed * 1664525u + 1013904223u;
    x = static_cast<double>(seed >> 16) / 32768.0 - 1.0;
  }
  return Tensor::of<double>(values, shape).to(dtype);
}

struct Placed {
  Placements query, key, value;
};

// out, and the gradients of query, key and value, of all ranks' operands whole.
std::array<Tensor, 4> attend(const Problem& p, Dtype dtype, const DeviceMesh& mesh, const Placed& at) {
  const auto operand = [&](const Shape& shape, std::uint32_t seed, const Placements& placements, bool grad) {
    return distribute(numbers(shape, dtype, seed), mesh, placements, {.source = Source::every_rank, .requires_grad = grad});
  };
  const DTensor q = operand({p.b, p.h, p.t, p.d}, 1, at.query, true), k = operand({p.b, p.kv, p.s, p.d}, 2, at.key, true),
                v = operand({p.b, p.kv, p.s, p.e}, 3, at.value, true);
  const DTensor out = scaled_dot_product_attention(q, k, v, p.options);
  out.backward(operand({p.b, p.h, p.t, p.e}, 4, {}, false));
  const auto whole = [](const DTensor& t) { return t.detach().full_tensor().local().to(Dtype::f64); };
  return {whole(out), whole(q.grad()), whole(k.grad()), whole(v.grad())};
}

double worst(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return 1e9;
  const Tensor x = a.contiguous(), y = b.contiguous();
  const auto u = x.values<const double>();
  const auto w = y.values<const double>();
  double most = 0;
  for (std::size_t i = 0; i < u.size(); ++i) most = std::max(most, std::isnan(u[i]) || std::isnan(w[i]) ? 1e9 : std::abs(u[i] - w[i]));
  return most;
}

struct Grid {
  std::vector<MeshAxis> axes;
  int ranks;
};
const Grid kTwo{{{"x", 2}}, 2}, kThree{{{"x", 3}}, 3}, kFour{{{"x", 4}}, 4}, kSquare{{{"x", 2}, {"y", 2}}, 4};

DeviceMesh mesh_of(World& world, const Grid& grid) {
  return grid.axes.size() == 1 ? world.mesh({grid.axes[0]}) : world.mesh({grid.axes[0], grid.axes[1]});
}

// Every problem under every placement gives on the grid what one rank gives.
void agree(const Grid& grid, const std::vector<Problem>& problems, const std::vector<Placed>& placements, Dtype dtype, double allowed) {
  run_ranks({.ranks = grid.ranks}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, grid);
    for (const Problem& p : problems) {
      const auto wanted = attend(p, dtype, DeviceMesh::self(), {});
      for (const Placed& at : placements) {
        const auto got = attend(p, dtype, mesh, at);
        for (std::size_t i = 0; i < 4; ++i) {
          const double off = worst(got[i], wanted[i]);
          if (off < allowed) continue;
          const std::string text = to_string(at.query) + " " + to_string(at.key) + " " + to_string(at.value) + ", t " + std::to_string(p.t) + ", s " +
                                   std::to_string(p.s) + ", kv " + std::to_string(p.kv) + ", result " + std::to_string(i) + " off by " +
                                   std::to_string(off);
          FAIL_CHECK(text);
        }
      }
    }
  });
}

std::vector<Problem> lengths() {
  std::vector<Problem> problems;
  for (const std::int64_t n : {13, 7, 5, 1}) problems.push_back({.t = n, .s = n, .options = {.is_causal = true}});
  problems.push_back({.t = 5, .s = 13});
  problems.push_back({.t = 13, .s = 1});
  problems.push_back({.t = 3, .s = 7, .options = {.is_causal = true, .causal_offset = 4}});
  problems.push_back({.t = 7, .s = 7, .options = {.is_causal = true, .causal_offset = -3}});
  problems.push_back({.t = 5, .s = 0});
  problems.push_back({.t = 0, .s = 5});
  problems.push_back({.kv = 2, .t = 7, .s = 5, .options = {.scale = 0.3, .enable_gqa = true}});
  problems.push_back({.kv = 1, .t = 5, .s = 5, .options = {.is_causal = true, .enable_gqa = true}});
  return problems;
}

const Placements kRows{Shard(2)}, kWhole{Replicate()};

std::vector<Placed> line_placements() {
  return {{kRows, kRows, kRows},
          {kWhole, kRows, kRows},
          {kRows, kRows, kWhole},
          {kRows, kWhole, kRows},
          {{StridedShard(2, 2)}, {StridedShard(2, 2)}, {StridedShard(2, 2)}},
          {kRows, {StridedShard(2, 3)}, kRows},
          {{Shard(0)}, kRows, kRows},
          {{Shard(1)}, kRows, kRows},
          {kRows, {Shard(1)}, {Shard(1)}},
          {kRows, {Shard(0)}, kRows},
          {{Shard(3)}, kRows, {Shard(3)}},
          {{Partial()}, kRows, {Partial()}}};
}

// Placements of an unsplit batch, on four ranks along one axis.
struct Cost {
  std::array<std::int64_t, 4> bytes{}, peak{};
  std::int64_t launches = 0;
};
Cost cost(const Problem& p, bool gathered, bool backward) {
  Cost cost;
  std::mutex mutex;
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, kFour);
    const auto operand = [&](const Shape& shape, std::uint32_t seed) {
      return distribute(numbers(shape, Dtype::f32, seed), mesh, kRows, {.source = Source::every_rank, .requires_grad = backward});
    };
    const DTensor q = operand({p.b, p.h, p.t, p.d}, 1), k = operand({p.b, p.kv, p.s, p.d}, 2), v = operand({p.b, p.kv, p.s, p.e}, 3);
    const DTensor up = operand({p.b, p.h, p.t, p.e}, 4).detach();
    reset_peak_memory();
    const std::int64_t before = memory_stats().current;
    const CommCounter counter;
    {
      const DTensor out = gathered ? scaled_dot_product_attention(q, k.redistribute(kWhole), v.redistribute(kWhole), p.options)
                                   : scaled_dot_product_attention(q, k, v, p.options);
      if (backward) out.backward(up);
      else out.wait();
    }
    const std::lock_guard lock(mutex);
    cost.bytes[static_cast<std::size_t>(world.rank())] = counter.bytes_received();
    cost.peak[static_cast<std::size_t>(world.rank())] = memory_stats().peak - before;
    cost.launches = counter.launches();
  });
  return cost;
}

}  // namespace

TEST_CASE("keys split along the sequence give what one rank gives, on 2, 3 and 4 ranks") {
  for (const Grid& grid : {kTwo, kThree, kFour}) {
    CAPTURE(grid.ranks);
    agree(grid, lengths(), line_placements(), Dtype::f64, 1e-12);
  }
  agree(kThree, lengths(), line_placements(), Dtype::f32, 2e-5);
  agree(kThree, lengths(), {line_placements()[0], line_placements()[1]}, Dtype::bf16, 6e-2);
}

TEST_CASE("keys split along two axes, or along one beside batch, heads and queries, give what one rank gives") {
  const Placements both{Shard(2), Shard(2)}, first{Shard(2), Replicate()}, second{Replicate(), Shard(2)}, heads{Shard(1), Shard(2)},
      batch{Shard(0), Shard(2)};
  const Placements order({AxisPlacement("y", Shard(2)), AxisPlacement("x", Shard(2))});
  agree(kSquare, lengths(),
        {{both, both, both},
         {first, both, both},
         {second, both, both},
         {{}, both, both},
         {both, first, first},
         {both, order, both},
         {first, second, second},
         {heads, heads, heads},
         {heads, second, second},
         {heads, both, both},
         {batch, batch, second},
         {batch, both, both}},
        Dtype::f64, 1e-12);
}

TEST_CASE("batches and heads of size 1, or absent, broadcast") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor q = reshape(arange(24, mesh, {}, {.dtype = Dtype::f64}), {2, 3, 2, 2}) / 10, k = slice(q, 0, 1, 2) - 1, v = slice(q, 1, 0, 1);
    const DTensor want = scaled_dot_product_attention(q, expand(k, q.shape()), expand(v, q.shape()));
    CHECK(equal(scaled_dot_product_attention(q, k, v), want));
    CHECK(equal(scaled_dot_product_attention(q, select(k, 0, 0), v), want));
  });
}

TEST_CASE("a part of its own size, or none at all, is right") {
  agree(kThree, {{.t = 7, .s = 7, .options = {.is_causal = true}}, {.t = 7, .s = 7}},
        {{{RaggedShard(2, {1, 6, 0})}, {RaggedShard(2, {0, 2, 5})}, kRows}, {{RaggedShard(2, {0, 0, 7})}, {RaggedShard(2, {7, 0, 0})}, kWhole}},
        Dtype::f64, 1e-12);
}

TEST_CASE("each rank receives the other ranks' keys and values once, and under a causal mask only those that its queries see") {
  const Problem full{.b = 1, .h = 2, .kv = 2, .t = 64, .s = 64, .d = 16, .e = 8};
  constexpr std::int64_t kPart = 16 * 2 * (16 + 8) * 4;  // bytes of one rank's keys and values
  CHECK(cost(full, false, false).bytes == std::array<std::int64_t, 4>{3 * kPart, 3 * kPart, 3 * kPart, 3 * kPart});
  CHECK(cost(full, false, false).launches == 3);
  Problem causal = full;
  causal.options.is_causal = true;
  CHECK(cost(causal, false, false).bytes == std::array<std::int64_t, 4>{0, kPart, 2 * kPart, 3 * kPart});
  // Backward: the keys again, and what each rank adds to the gradients of its visitors.
  CHECK(cost(full, false, true).bytes == std::array<std::int64_t, 4>{9 * kPart, 9 * kPart, 9 * kPart, 9 * kPart});
}

TEST_CASE("memory stays below that of gathered keys") {
  const Problem p{.b = 1, .h = 2, .kv = 2, .t = 512, .s = 512, .d = 32, .e = 32};
  for (const bool backward : {false, true}) {
    const Cost ring = cost(p, false, backward), gathered = cost(p, true, backward);
    for (std::size_t r = 0; r < 4; ++r) {
      CAPTURE(backward);
      CHECK(ring.peak[r] < gathered.peak[r]);
    }
  }
}

TEST_CASE("a query that all ranks have takes one reduction instead of a visit of keys") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, kFour);
    const DTensor q = distribute(numbers({1, 2, 1, 16}, Dtype::f32, 1), mesh, {}, {.source = Source::every_rank});
    const DTensor k = distribute(numbers({1, 2, 4096, 16}, Dtype::f32, 2), mesh, kRows, {.source = Source::every_rank});
    const CommCounter counter;
    const DTensor out = scaled_dot_product_attention(q, k, k);
    CHECK(counter.bytes_received() <= 3 * 4 * (2 * 16 + 2 * 2 * 4));
    CHECK(to_string(out) == "f32[1, 2, 1, 16]{x: R}");
  });
}

TEST_CASE("with fewer key heads than ranks each rank fetches the heads that its query heads read") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, kFour);
    const auto operand = [&](const Shape& shape, const Placements& p) {
      return distribute(numbers(shape, Dtype::f32, 1), mesh, p, {.source = Source::every_rank});
    };
    const Placements heads{Shard(1)};
    const DTensor q = operand({1, 8, 5, 4}, heads);
    // Key heads 0 and 1 are on ranks 0 and 1; query heads of ranks 0 and 1 read head 0, those of ranks 2 and 3 head 1.
    const CommCounter counter;
    const DTensor out = scaled_dot_product_attention(q, operand({1, 2, 6, 4}, heads), operand({1, 2, 6, 3}, heads), {.enable_gqa = true});
    CHECK(counter.bytes_received() == (world.rank() == 0 ? 0 : 6 * (4 + 3) * 4));
    CHECK(to_string(out) == "f32[1, 8, 5, 3]{x: S(1)}");
    const CommCounter none;
    scaled_dot_product_attention(q, operand({1, 2, 6, 4}, {}), operand({1, 2, 6, 3}, {}), {.enable_gqa = true});
    scaled_dot_product_attention(q, operand({1, 4, 6, 4}, heads), operand({1, 4, 6, 3}, heads), {.enable_gqa = true});
    CHECK(none.bytes_received() == 0);
  });
  const Placements heads{Shard(1)};
  const std::vector<Problem> problems{{.h = 8, .kv = 2, .options = {.is_causal = true, .enable_gqa = true}},
                                      {.h = 6, .kv = 3, .t = 5, .s = 4, .options = {.enable_gqa = true}},
                                      {.h = 5, .kv = 1, .t = 5, .s = 4, .options = {.enable_gqa = true}},
                                      {.h = 12, .kv = 4, .t = 2, .s = 3, .options = {.enable_gqa = true}}};
  for (const Grid& grid : {kTwo, kThree, kFour})
    agree(grid, problems, {{heads, heads, heads}, {heads, {}, {}}, {heads, {}, heads}, {heads, heads, {}}, {{}, heads, heads}}, Dtype::f64, 1e-12);
}

TEST_CASE("what must move to meet the queries is refused where implicit communication is") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, kTwo);
    const auto operand = [&](const Placements& p) {
      return distribute(numbers({2, 2, 6, 4}, Dtype::f32, 1), mesh, p, {.source = Source::every_rank});
    };
    const RefuseImplicit refuse;
    CHECK_NOTHROW(scaled_dot_product_attention(operand(kRows), operand(kRows), operand(kRows)));
    CHECK_THROWS_AS(scaled_dot_product_attention(operand({Shard(1)}), operand(kRows), operand(kRows)), InvalidArgument);
  });
}

TEST_CASE("a strided split of the sequence evens out causal work") {
  constexpr std::int64_t kLength = 8192;
  constexpr int kRanks = 4;
  const auto most_over_mean = [](std::int64_t pieces) {
    placements::Layout layout;
    layout.mesh_sizes = {kRanks};
    layout.dims = {{placements::Split{{0}, pieces, {}}}};
    layout.partial.resize(1);
    std::int64_t most = 0, total = 0;
    for (int rank = 0; rank < kRanks; ++rank) {
      std::int64_t blocks = 0;
      std::vector<local::GlobalRun> rows;
      for (const auto& r : placements::owned_runs(layout, 0, kLength, {rank})) rows.push_back({r.begin, r.length});
      for (int from = 0; from < kRanks; ++from) {
        std::vector<local::GlobalRun> columns;
        for (const auto& r : placements::owned_runs(layout, 0, kLength, {from})) columns.push_back({r.begin, r.length});
        local::cpu::AttentionCall call;
        call.key = Tensor::empty({1, 1, local::length_of(columns), 1}, Dtype::f32);
        call.causal = true;
        call.rows = rows;
        call.columns = columns;
        blocks += local::cpu::attention_blocks(call);
      }
      most = std::max(most, blocks);
      total += blocks;
    }
    return static_cast<double>(most) * kRanks / static_cast<double>(total);
  };
  CHECK(most_over_mean(1) > 1.7);
  for (const std::int64_t pieces : {2, 4, 8}) CHECK(most_over_mean(pieces) < static_cast<double>(pieces + 1) / static_cast<double>(pieces));
}
