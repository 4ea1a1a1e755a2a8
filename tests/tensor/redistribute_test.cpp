// SPDX-License-Identifier: Apache-2.0
// redistribute between every pair of placements, against parts that are cut element by element; value semantics.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <numeric>
#include <string>

#include "debug/verify_cases.h"
#include "debug/verify_values.h"
#include "dtensor/debug.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/inplace.h"
#include "dtensor/ops/views.h"
#include "dtensor/world.h"
#include "mesh/mesh_data.h"
#include "tensor/impl.h"

using namespace dtensor;
using debug::Part;
using debug::Whole;

namespace {

using List = std::vector<Placement>;

DeviceMesh mesh_of(const World& world, const std::vector<int>& sizes) {
  std::vector<MeshAxis> axes;
  for (int n : sizes) axes.push_back({"", n});
  (void)world;
  const base::RankContext& rank = *base::current_rank();
  return mesh::make_mesh(rank.world_id, rank.world_size, axes, {});
}
Placements of(const List& list) { return Placements(std::span<const Placement>(list)); }

DTensor make(const Whole& whole, const DeviceMesh& mesh, const List& placements) {
  const auto layout = placements::make_layout(mesh, whole.shape, whole.dtype, of(placements), "test");
  const auto spec = tensor::intern_spec(mesh, layout, whole.shape, whole.dtype, {});
  return tensor::make_dtensor(spec, debug::make_part(whole, *layout, spec->coordinates, 3));
}

struct Pair {
  Whole whole;
  List from, to;
};

int product(const std::vector<int>& sizes) { return std::accumulate(sizes.begin(), sizes.end(), 1, std::multiplies<>()); }

// Runs all pairs; every rank's parts of the results, put together, are the source's value.
void check_pairs(const std::vector<int>& sizes, const std::vector<Pair>& pairs) {
  const int ranks = product(sizes);
  std::vector<std::vector<Part>> parts(pairs.size(), std::vector<Part>(static_cast<std::size_t>(ranks)));
  std::vector<placements::LayoutRef> layouts(pairs.size());
  run_ranks({.ranks = ranks}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, sizes);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const DTensor x = make(pairs[i].whole, mesh, pairs[i].from);
      const DTensor y = x.redistribute(of(pairs[i].to));
      const tensor::Spec& spec = *y.impl()->spec;
      parts[i][static_cast<std::size_t>(world.rank())] = {spec.coordinates, y.local().shape(), debug::numbers(y.local())};
      if (world.rank() == 0) layouts[i] = placements::make_layout(mesh, spec.shape, spec.dtype, of(pairs[i].to), "test");
    }
  });
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    INFO(to_string(pairs[i].whole.dtype) << to_string(pairs[i].whole.shape) << " " << debug::to_string(pairs[i].from) << " -> "
                                         << debug::to_string(pairs[i].to));
    std::string fault;
    const auto whole = debug::assemble(pairs[i].whole.shape, pairs[i].whole.dtype, *layouts[i], parts[i], fault);
    CHECK(fault == "");
    REQUIRE(whole.has_value());
    CHECK(debug::difference(*whole, pairs[i].whole) == "");
  }
}

std::vector<Pair> all_pairs(const Whole& whole, int ranks) {
  std::vector<Pair> pairs;
  const auto list = debug::placements_of({whole.shape, whole.dtype}, ranks);
  for (const Placement& from : list)
    for (const Placement& to : list) pairs.push_back({whole, {from}, {to}});
  return pairs;
}

// Every element by its address, whatever the strides.
void overwrite(const Tensor& t) {
  auto* at = static_cast<float*>(t.data());
  for (std::int64_t i = 0; i < t.shape()[0]; ++i)
    for (std::int64_t j = 0; j < t.shape()[1]; ++j) at[i * t.strides()[0] + j * t.strides()[1]] = 100;
}

// Every scalar of the local part of R -> P on the ranks.
std::vector<double> contributions(ReduceOp op, Dtype dtype, double value) {
  std::vector<double> seen(3);
  run_ranks({.ranks = 3}, [&](World& world) {
    const DTensor x = make({{1}, dtype, {value}}, mesh_of(world, {3}), {Replicate()});
    seen[static_cast<std::size_t>(world.rank())] = debug::numbers(x.redistribute({Partial(op)}).local())[0];
  });
  return seen;
}

}  // namespace

TEST_CASE("every ordered pair of placements on one axis keeps the value, for sizes 0 1 2 3 5 7 8") {
  for (int ranks : {2, 3, 4}) {
    std::vector<Pair> pairs;
    for (std::int64_t n : {0, 1, 2, 3, 5, 7, 8}) {
      const auto more = all_pairs(debug::random_whole({n}, Dtype::f32, -2, 2, 0, 1), ranks);
      pairs.insert(pairs.end(), more.begin(), more.end());
    }
    check_pairs({ranks}, pairs);
  }
}

TEST_CASE("every ordered pair of placements of a matrix on one axis keeps the value, in f32, i64, bf16 and bool") {
  for (Dtype dtype : {Dtype::f32, Dtype::i64, Dtype::bf16, Dtype::boolean}) {
    check_pairs({3}, all_pairs(debug::random_whole({5, 4}, dtype, -2, 2, 0, 2), 3));
    check_pairs({2}, all_pairs(debug::random_whole({3, 7}, dtype, -2, 2, 0, 2), 2));
  }
}

TEST_CASE("a sample of pairs on two axes keeps the value, uneven and empty shards included") {
  for (const auto& sizes : std::vector<std::vector<int>>{{2, 2}, {2, 3}}) {
    std::vector<Pair> pairs;
    for (const Shape& shape : {Shape{5, 3}, Shape{7}, Shape{1, 4}, Shape{0}}) {
      const Whole whole = debug::random_whole(shape, Dtype::f32, -2, 2, 0, 4);
      const auto cases = debug::make_cases({{shape, Dtype::f32}}, {true}, sizes, 0, 1);
      for (std::size_t k = 0; k < 80; ++k)
        pairs.push_back({whole, cases[debug::random_bits(9, k) % cases.size()][0], cases[debug::random_bits(10, k) % cases.size()][0]});
    }
    check_pairs(sizes, pairs);
  }
}

TEST_CASE("a shard becomes Partial while another axis cuts its dimension: no byte moves, and each rank keeps what both parts share") {
  for (const auto& sizes : std::vector<std::vector<int>>{{2, 2}, {3, 2}, {2, 3}}) {
    std::vector<Pair> pairs;
    for (const Shape& shape : {Shape{5, 3}, Shape{8}, Shape{1, 4}, Shape{13}})
      for (ReduceOp op : {ReduceOp::sum, ReduceOp::product, ReduceOp::max})
        for (const Placement& whole : List{Shard(0), StridedShard(0, 2)}) {
          const Whole value = debug::random_whole(shape, Dtype::f32, -2, 2, 0, 5);
          pairs.push_back({value, {whole, Replicate()}, {Partial(op), Shard(0)}});
          pairs.push_back({value, {Replicate(), whole}, {Shard(0), Partial(op)}});
        }
    check_pairs(sizes, pairs);
  }
  run_ranks({.ranks = 4}, [](World& world) {
    const DTensor x = make(debug::random_whole({8, 8}, Dtype::f32, -2, 2, 0, 6), mesh_of(world, {2, 2}), {Shard(0), Replicate()});
    CHECK_EQ(explain(x, {Partial(), Shard(0)}).launches(), 0);
  });
}

TEST_CASE("moves compose: a to b to c has the value of a to c") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, {2, 2});
    const Whole whole = debug::random_whole({5, 6}, Dtype::f32, -2, 2, 0, 6);
    const auto cases = debug::make_cases({{whole.shape, Dtype::f32}}, {true}, {2, 2}, 0, 1);
    for (std::size_t k = 0; k < 60; ++k) {
      const List a = cases[debug::random_bits(1, k) % cases.size()][0], b = cases[debug::random_bits(2, k) % cases.size()][0],
                 c = cases[debug::random_bits(3, k) % cases.size()][0];
      const DTensor x = make(whole, mesh, a);
      const auto two = debug::numbers(x.redistribute(of(b)).redistribute(of(c)).full_tensor().local()),
                 one = debug::numbers(x.redistribute(of(c)).full_tensor().local());
      INFO(debug::to_string(a) << " -> " << debug::to_string(b) << " -> " << debug::to_string(c));
      for (std::size_t i = 0; i < one.size(); ++i) CHECK(std::abs(two[i] - one[i]) < 1e-5);
    }
  });
}

TEST_CASE("Replicate to Partial keeps the value on the first rank and the neutral element elsewhere; min, max and avg keep it everywhere") {
  CHECK(contributions(ReduceOp::sum, Dtype::f32, 3.5) == std::vector<double>{3.5, 0, 0});
  CHECK(std::signbit(contributions(ReduceOp::sum, Dtype::f32, 3.5)[1]));
  CHECK(contributions(ReduceOp::sum, Dtype::i64, 3) == std::vector<double>{3, 0, 0});
  CHECK(contributions(ReduceOp::product, Dtype::f32, 3.5) == std::vector<double>{3.5, 1, 1});
  CHECK(contributions(ReduceOp::avg, Dtype::f32, 3.5) == std::vector<double>{3.5, 3.5, 3.5});
  CHECK(contributions(ReduceOp::min, Dtype::f32, 3.5) == std::vector<double>{3.5, 3.5, 3.5});
  CHECK(contributions(ReduceOp::max, Dtype::i32, -7) == std::vector<double>{-7, -7, -7});
}

TEST_CASE("a negative zero survives a sum") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = make({{1}, Dtype::f32, {-0.0}}, mesh_of(world, {2}), {Replicate()});
    const DTensor back = x.redistribute({Partial()}).redistribute({Replicate()});
    CHECK(std::signbit(back.local().values<const float>()[0]));
  });
}

TEST_CASE("a write to source or result of a redistribution is never seen in the other") {
  for (int ranks : {1, 2, 4}) {
    run_ranks({.ranks = ranks}, [ranks](World& world) {
      const DeviceMesh mesh = mesh_of(world, {ranks});
      const Whole whole = debug::random_whole({4, 6}, Dtype::f32, -2, 2, 0, 8);
      for (const Placement& from : {Placement(Shard(0)), Placement(Shard(1)), Placement(Replicate()), Placement(Partial())}) {
        for (const Placement& to : {Placement(Shard(0)), Placement(Shard(1)), Placement(Replicate()), Placement(Partial())}) {
          INFO(to_string(from) << " -> " << to_string(to) << " on " << ranks);
          const DTensor x = make(whole, mesh, {from});
          DTensor y = x.redistribute({to});
          const auto before = debug::numbers(y.local());
          overwrite(x.local());
          CHECK(debug::numbers(y.local()) == before);
          const DTensor z = make(whole, mesh, {from});
          const auto source = debug::numbers(z.local());
          y = z.redistribute({to});
          overwrite(y.local());
          CHECK(debug::numbers(z.local()) == source);
          if (from.is_partial() || to.is_partial()) continue;
          y = z.redistribute({to});
          const auto kept = debug::numbers(y.local());
          fill_(z, 7);
          CHECK(debug::numbers(y.local()) == kept);
          mul_(y, 2);
          CHECK(debug::numbers(z.local()) == std::vector<double>(source.size(), 7.0));
        }
      }
    });
  }
}

TEST_CASE("distribute then full_tensor is the identity, bit for bit") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh mesh = mesh_of(world, {3});
    for (std::int64_t n : {0, 1, 2, 7, 9}) {
      std::vector<float> values(static_cast<std::size_t>(n) * 2);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.1F * static_cast<float>(i + 1);
      for (const Placement& p : debug::placements_of({{n, 2}, Dtype::f32}, 3)) {
        if (const auto* partial = p.as<Partial>(); partial != nullptr && partial->op == ReduceOp::avg) continue;
        for (Source source : {Source::first_rank, Source::every_rank}) {
          INFO(n << " " << to_string(p));
          const Tensor whole = distribute(Tensor::of(values, {n, 2}), mesh, {p}, {.source = source}).full_tensor().local();
          const auto back = whole.values<const float>();
          CHECK(std::equal(back.begin(), back.end(), values.begin(), values.end(),
                           [](float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }));
        }
      }
    }
  });
}

TEST_CASE("a rank that keeps its whole part in an exchange of others shares memory until either side is written") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"a", 2}, {"b", 2}});
    const Tensor part = Tensor::empty({2, 3}, Dtype::f32);
    for (float& v : part.values<float>()) v = static_cast<float>(1 + world.rank());
    const DTensor x = from_local(part, mesh, {Shard(0), Shard(1)});
    const DTensor y = x.redistribute({Shard(1), Shard(0)});
    const bool stays = world.rank() == 0 || world.rank() == 3;
    CHECK((x.local().read() == y.local().read()) == stays);
    const float expected = stays ? static_cast<float>(1 + world.rank()) : static_cast<float>(4 - world.rank());
    mul_(x, 10);
    const Tensor y_kept = y.local().clone();
    for (float v : y_kept.values<float>()) CHECK(v == expected);
    mul_(y, 100);
    const Tensor x_kept = x.local().clone();
    for (float v : x_kept.values<float>()) CHECK(v == static_cast<float>(10 * (1 + world.rank())));
  });
}

TEST_CASE("what a rank keeps is not written through where only dims of size 1 have other strides") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"a", 2}, {"b", 2}});
    const Tensor part = Tensor::zeros({1, 2}, Dtype::f32);
    const DTensor x = from_local(part, mesh, {Shard(0), Shard(1)}), turned = transpose(x, 0, 1);  // local [2, 1] of strides [1, 2]
    const DTensor y = turned.redistribute({Shard(0), Shard(1)});
    add_(y, 1);
    const Tensor kept = x.local().clone();
    for (float v : kept.values<float>()) CHECK(v == 0);
  });
}
