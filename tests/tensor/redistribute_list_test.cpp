// SPDX-License-Identifier: Apache-2.0
// A list of tensors redistributed in one call, against the same tensors one by one: bits, launches, gradients, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <string>

#include "debug/verify_cases.h"
#include "debug/verify_values.h"
#include "dtensor/autograd.h"
#include "dtensor/debug.h"
#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/inplace.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/world.h"
#include "mesh/mesh_data.h"
#include "tensor/impl.h"

using namespace dtensor;
using debug::Whole;

namespace {

using List = std::vector<Placement>;

DeviceMesh mesh_of(const std::vector<int>& sizes) {
  std::vector<MeshAxis> axes;
  for (int n : sizes) axes.push_back({"", n});
  const base::RankContext& rank = *base::current_rank();
  return mesh::make_mesh(rank.world_id, rank.world_size, axes, {});
}
Placements of(const List& list) { return Placements(std::span<const Placement>(list)); }

DTensor make(const Shape& shape, Dtype dtype, const DeviceMesh& mesh, const Placements& placements, std::uint64_t seed = 1) {
  const Whole whole = debug::random_whole(shape, dtype, -2, 2, 0, seed);
  const auto layout = placements::make_layout(mesh, shape, dtype, placements, "test");
  const auto spec = tensor::intern_spec(mesh, layout, shape, dtype, {});
  if (!spec->inside) return tensor::make_dtensor(spec, Tensor::empty(spec->local_shape, dtype));
  return tensor::make_dtensor(spec, debug::make_part(whole, *layout, spec->coordinates, 3));
}

bool same_bits(const DTensor& a, const DTensor& b) {
  if (a.impl()->spec != b.impl()->spec) return false;
  const Tensor x = a.local().contiguous(), y = b.local().contiguous();
  return x.shape() == y.shape() && (x.bytes() == 0 || std::memcmp(x.data(), y.data(), static_cast<std::size_t>(x.bytes())) == 0);
}

std::vector<DTensor> one_by_one(const std::vector<DTensor>& tensors, const std::vector<Placements>& placements,
                                const RedistributeOptions& options = {}) {
  std::vector<DTensor> results;
  for (std::size_t i = 0; i < tensors.size(); ++i) results.push_back(tensors[i].redistribute(placements[i], options));
  return results;
}

void check_same(const std::vector<DTensor>& together, const std::vector<DTensor>& alone) {
  REQUIRE(together.size() == alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    INFO(i << ": " << to_string(together[i]));
    CHECK(same_bits(together[i], alone[i]));
  }
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "nothing thrown";
}

// A random tensor of the sample and where it goes.
struct Trip {
  DTensor tensor;
  Placements to;
};
Trip trip(const DeviceMesh& mesh, const std::vector<int>& sizes, std::uint64_t k) {
  static const std::vector<Shape> shapes{{5, 3}, {7}, {1, 4}, {0}, {8, 2}, {3000}};
  static const std::vector<Dtype> dtypes{Dtype::f32, Dtype::bf16, Dtype::i64, Dtype::f64, Dtype::boolean};
  const Shape& shape = shapes[debug::random_bits(1, k) % shapes.size()];
  const Dtype dtype = dtypes[debug::random_bits(2, k) % dtypes.size()];
  const auto cases = debug::make_cases({{shape, dtype}}, {true}, sizes, 0, 1);
  const auto pick = [&](std::uint64_t seed) { return of(cases[debug::random_bits(seed, k) % cases.size()][0]); };
  return {make(shape, dtype, mesh, pick(3), k), pick(4)};
}

}  // namespace

TEST_CASE("explain of a list tells the launches and bytes of redistribute_all on every rank") {
  std::atomic<int> fused{0};
  for (const auto& sizes : std::vector<std::vector<int>>{{3}, {2, 2}}) {
    const int ranks = sizes.size() == 1 ? sizes[0] : 4;
    std::vector<std::int64_t> received(40 * 4, 0), planned(40, 0);
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = mesh_of(sizes);
      for (std::uint64_t k = 0; k < 40; ++k) {
        std::vector<DTensor> tensors;
        std::vector<Placements> placements;
        for (std::uint64_t i = 0; i <= debug::random_bits(5, k) % 9; ++i) {
          const Trip t = trip(mesh, sizes, 100 * k + i);
          tensors.push_back(t.tensor);
          placements.push_back(t.to);
        }
        const ListPlan plan = explain(tensors, placements);
        const CommCounter counter;
        (void)redistribute_all(tensors, placements);
        CHECK_EQ(counter.launches(), static_cast<std::int64_t>(plan.launches.size()));
        for (const CommCount& c : counter.counts())
          CHECK_EQ(c.launches, std::count_if(plan.launches.begin(), plan.launches.end(), [&](const auto& l) { return l.kind == c.kind; }));
        received[4 * k + static_cast<std::size_t>(world.rank())] = counter.bytes_received();
        for (const auto& l : plan.launches) fused += l.tensors.size() > 1 ? 1 : 0;
        if (world.rank() == 0)
          for (const auto& l : plan.launches) planned[k] += l.bytes_received;
      }
    });
    for (std::size_t k = 0; k < planned.size(); ++k)
      CHECK_EQ(planned[k], received[4 * k] + received[4 * k + 1] + received[4 * k + 2] + received[4 * k + 3]);
  }
  CHECK_GT(fused.load(), 50);
}

TEST_CASE("explain of a list prints its launches before the plans, and refuses counts that differ") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    const std::vector<DTensor> tensors{make({8}, Dtype::f32, mesh, {Shard(0)}), make({4, 2}, Dtype::f32, mesh, {Replicate()}),
                                       make({6}, Dtype::f32, mesh, {Shard(0)})};
    const std::vector<Placements> targets{{Replicate()}, {Shard(0)}, {Replicate()}};
    const std::string text = to_string(explain(tensors, targets));
    CHECK(text.find("3 tensors, 1 launch\n  all_gather[dp] of tensors 0 2: 56 B on all ranks\n0: f32[8]{dp: S(0)} -> {dp: R}") == 0);
    CHECK(text.find("\n1: f32[4, 2]{dp: R} -> {dp: S(0)}") != std::string::npos);
    CHECK_THROWS_WITH_AS(explain(tensors, std::span(targets).first(2)),
                         "explain: the counts differ (3 tensors, 2 placements); give one per tensor, or one for all", InvalidArgument);
  });
}

TEST_CASE("a list within a memory limit moves to the bits of one by one, and tensors in chunks launch alone") {
  run_ranks({.ranks = 2}, [](World&) {
    const DeviceMesh mesh = mesh_of({2});
    const Placements to{Partial(ReduceOp::sum)};
    const std::vector<DTensor> tensors{make({16, 8}, Dtype::f32, mesh, {Partial(ReduceOp::max)}), make({16, 8}, Dtype::f32, mesh, {Shard(0)}, 2),
                                       make({16, 8}, Dtype::f32, mesh, {Partial(ReduceOp::max)}, 3)};
    const std::vector<Placements> targets{to, {Shard(1)}, to};
    const RedistributeOptions limited{.memory_limit = 2 * 512 + 128};
    const std::int64_t alone = make_plan(mesh, {16, 8}, Dtype::f32, {Partial(ReduceOp::max)}, to, limited.memory_limit).launches();
    CHECK_GT(alone, 2);
    const CommCounter counter;
    const auto together = redistribute_all(tensors, targets, limited);
    CHECK_EQ(counter.launches(), 2 * alone + 1);
    check_same(together, one_by_one(tensors, targets, limited));
  });
}

TEST_CASE("a list of tensors of mixed shapes, dtypes and placements moves to the bits of one by one, in no more launches and the same bytes") {
  std::atomic<int> fewer{0};
  for (const auto& sizes : std::vector<std::vector<int>>{{2}, {3}, {2, 2}}) {
    const int ranks = sizes.size() == 1 ? sizes[0] : 4;
    run_ranks({.ranks = ranks}, [&](World&) {
      const DeviceMesh mesh = mesh_of(sizes);
      for (std::uint64_t k = 0; k < 60; ++k) {
        std::vector<DTensor> tensors;
        std::vector<Placements> placements;
        for (std::uint64_t i = 0; i <= debug::random_bits(5, k) % 15; ++i) {
          const Trip t = trip(mesh, sizes, 100 * k + i);
          tensors.push_back(t.tensor);
          placements.push_back(t.to);
        }
        const CommCounter first;
        const auto together = redistribute_all(tensors, placements);
        const std::int64_t launches = first.launches(), bytes = first.bytes_received();
        const CommCounter second;
        check_same(together, one_by_one(tensors, placements));
        CHECK(launches <= second.launches());
        CHECK(bytes == second.bytes_received());
        if (launches < second.launches()) ++fewer;
      }
    });
  }
  CHECK(fewer > 100);
}

TEST_CASE("copies of one tensor on one way take the launches of one tensor, for every number of launches that there is") {
  std::atomic<int> most{0};
  for (const auto& sizes : std::vector<std::vector<int>>{{3}, {2, 2}}) {
    run_ranks({.ranks = sizes.size() == 1 ? 3 : 4}, [&](World&) {
      const DeviceMesh mesh = mesh_of(sizes);
      for (std::uint64_t k = 0; k < 60; ++k) {
        const Trip t = trip(mesh, sizes, 7000 + k);
        const CommCounter one;
        const DTensor alone = t.tensor.redistribute(t.to);
        const auto counts = one.counts();
        const CommCounter three;
        const auto together = redistribute_all(std::vector<DTensor>{t.tensor, t.tensor, t.tensor}, t.to);
        REQUIRE(three.counts().size() == counts.size());
        for (std::size_t i = 0; i < counts.size(); ++i) {
          CHECK(three.counts()[i].kind == counts[i].kind);
          CHECK(three.counts()[i].launches == counts[i].launches);
          CHECK(three.counts()[i].bytes_received == 3 * counts[i].bytes_received);
        }
        for (const DTensor& r : together) CHECK(same_bits(r, alone));
        most = std::max(most.load(), static_cast<int>(one.launches()));
      }
    });
  }
  CHECK(most >= 2);
}

TEST_CASE("each kind of move is one launch over each group of ranks, and moves that do not communicate are none") {
  run_ranks({.ranks = 4}, [](World&) {
    const DeviceMesh mesh = mesh_of({2, 2});
    const Placements split0{Shard(0), Replicate()}, split1{Replicate(), Shard(0)}, partial0{Partial(), Replicate()}, whole{Replicate(), Replicate()};
    const std::vector<DTensor> tensors{make({8, 4}, Dtype::f32, mesh, split0), make({5}, Dtype::i64, mesh, split0),
                                       make({6}, Dtype::f32, mesh, split1),    make({4, 4}, Dtype::f64, mesh, partial0),
                                       make({2}, Dtype::bf16, mesh, split0),   make({3, 3}, Dtype::f32, mesh, partial0),
                                       make({8}, Dtype::f32, mesh, whole),     make({6, 2}, Dtype::f64, mesh, split1),
                                       make({4}, Dtype::f32, mesh, partial0),  make({4}, Dtype::f32, mesh, whole)};
    const std::vector<Placements> placements{whole, whole, whole, whole, whole, split0, split0, whole, split0, whole};
    const CommCounter counter;
    const Trace trace;
    const auto results = redistribute_all(tensors, placements);
    CHECK(counter.launches("all_gather") == 2);
    CHECK(counter.launches("all_reduce") == 1);
    CHECK(counter.launches("reduce_scatter") == 1);
    CHECK(counter.launches() == 4);
    CHECK(counter.implicit_launches() == 0);
    // 16 of 32 f32, 3 (first rank 2) of 5 i64, 1 of 2 bf16.
    const int own = mesh.coordinate("0") == 0 ? 3 : 2;
    const auto lines_with = [&](const std::string& text) {
      return std::count_if(trace.lines().begin(), trace.lines().end(), [&](const std::string& l) { return l.find(text) != std::string::npos; });
    };
    CHECK(lines_with("redistribute_all: all_gather of 3 tensors, " + std::to_string(16 * 4 + (5 - own) * 8 + 2) + " bytes received") == 1);
    CHECK(lines_with("redistribute_all: all_gather of 2 tensors, ") == 1);
    CHECK(lines_with("redistribute_all: reduce_scatter of 2 tensors, ") == 1);
    CHECK(lines_with("redistribute_all: all_reduce f64[4, 4]") == 1);
    check_same(results, one_by_one(tensors, placements));
  });
}

TEST_CASE("tensors of several meshes go in one call, those on the same ranks in one launch, ranks outside with empty parts") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh few = world.mesh({{"x", 2}}, std::vector<int>{0, 1}), again = world.mesh({{"y", 2}}, std::vector<int>{0, 1}),
                     all = world.mesh({{"z", 3}});
    const std::vector<DTensor> tensors{make({6}, Dtype::f32, few, {Shard(0)}), make({7, 2}, Dtype::f32, all, {Shard(0)}),
                                       make({5}, Dtype::i64, again, {Shard(0)}), make({2}, Dtype::f64, few, {Replicate()})};
    const CommCounter counter;
    const auto results = redistribute_all(tensors, {Replicate()});
    CHECK(counter.launches() == (world.rank() == 2 ? 1 : 2));
    check_same(results, one_by_one(tensors, std::vector<Placements>(4, {Replicate()})));
    const auto cast = redistribute_all(tensors, {Replicate()}, {.forward_dtype = Dtype::bf16});
    check_same(cast, one_by_one(tensors, std::vector<Placements>(4, {Replicate()}), {.forward_dtype = Dtype::bf16}));
    CHECK(cast[2].local().dtype() == Dtype::bf16);
  });
}

TEST_CASE("no write to a source or a result of a list is seen in the other") {
  run_ranks({.ranks = 2}, [](World&) {
    const DeviceMesh mesh = mesh_of({2});
    for (const Placements& to : {Placements{Replicate()}, Placements{Shard(0)}, Placements{Shard(1)}}) {
      const std::vector<DTensor> tensors{make({4, 6}, Dtype::f32, mesh, {Replicate()}), make({4, 6}, Dtype::f32, mesh, {Shard(0)}),
                                         make({4, 6}, Dtype::f32, mesh, {Shard(1)})};
      const auto results = redistribute_all(tensors, to), kept = one_by_one(tensors, std::vector<Placements>(3, to));
      for (const DTensor& t : tensors) fill_(t, 7);
      check_same(results, kept);
      for (const DTensor& r : results) fill_(r, 8);
      for (const DTensor& t : tensors)
        for (double v : debug::numbers(t.local())) CHECK(v == 7);
    }
  });
}

TEST_CASE("the gradients of a list come back in one launch per kind, and those that are missing stay missing") {
  run_ranks({.ranks = 2}, [](World&) {
    const DeviceMesh mesh = mesh_of({2});
    const auto leaves = [&] {
      std::vector<DTensor> list{make({5, 3}, Dtype::f32, mesh, {Shard(0)}), make({8}, Dtype::f64, mesh, {Shard(0)}),
                                make({4, 4}, Dtype::f32, mesh, {Shard(1)}), make({6}, Dtype::f32, mesh, {Shard(0)}),
                                make({3}, Dtype::i64, mesh, {Shard(0)}),    make({4}, Dtype::f32, mesh, {Replicate()})};
      for (int i : {0, 1, 2, 5}) list[static_cast<std::size_t>(i)].set_requires_grad();
      return list;
    };
    // Each rank holds other contributions to the gradients, so that they come back by reduce_scatter.
    const auto backward = [&](const std::vector<DTensor>& moved) {
      for (std::size_t i : {std::size_t{0}, std::size_t{2}, std::size_t{5}}) CHECK(moved[i].requires_grad());
      for (std::size_t i : {std::size_t{3}, std::size_t{4}}) CHECK(!moved[i].requires_grad());
      std::vector<DTensor> outputs, gradients;
      for (std::size_t i : {std::size_t{0}, std::size_t{2}}) {
        outputs.push_back(moved[i]);
        gradients.push_back(make(moved[i].shape(), Dtype::f32, mesh, {Partial()}, 77 + i));
      }
      return std::pair(outputs, gradients);
    };
    for (const RedistributeOptions& options : {RedistributeOptions{}, RedistributeOptions{.backward_dtype = Dtype::bf16}}) {
      const auto a = leaves(), b = leaves();
      const auto together = redistribute_all(a, {Replicate()}, options);
      const auto alone = one_by_one(b, std::vector<Placements>(6, {Replicate()}), options);
      const auto [outputs, gradients] = backward(together);
      const CommCounter counter;
      const auto got = grad(outputs, std::vector<DTensor>{a[0], a[1], a[2], a[5]}, gradients, {.allow_unused = true});
      CHECK(to_string(counter).starts_with("reduce_scatter 1 ("));
      CHECK(counter.launches() == 1);
      const auto expected = grad(backward(alone).first, std::vector<DTensor>{b[0], b[1], b[2], b[5]}, gradients, {.allow_unused = true});
      for (std::size_t i : {std::size_t{0}, std::size_t{2}}) CHECK(same_bits(got[i], expected[i]));
      for (std::size_t i : {std::size_t{1}, std::size_t{3}}) CHECK(!got[i]);
    }
  });
}

TEST_CASE("a list can be differentiated twice") {
  run_ranks({.ranks = 2}, [](World&) {
    const DeviceMesh mesh = mesh_of({2});
    const DTensor x = make({6}, Dtype::f64, mesh, {Shard(0)}).set_requires_grad(), y = make({4}, Dtype::f64, mesh, {Shard(0)}).set_requires_grad();
    const auto moved = redistribute_all(std::vector<DTensor>{x, y}, {Replicate()});
    const DTensor value = sum(moved[0] * moved[0] * moved[0]) + sum(moved[1] * moved[1]);
    const auto first = grad(std::vector<DTensor>{value}, std::vector<DTensor>{x}, {}, {.create_graph = true});
    const auto second = grad(std::vector<DTensor>{sum(first[0])}, std::vector<DTensor>{x});
    const auto v = debug::numbers(x.local()), twice = debug::numbers(second[0].redistribute({Shard(0)}).local());
    REQUIRE(twice.size() == v.size());
    for (std::size_t i = 0; i < v.size(); ++i) CHECK(twice[i] == doctest::Approx(6 * v[i]));
  });
}

TEST_CASE("a bad list is an error with the same text on all ranks before a byte moves") {
  std::atomic<int> seen{0};
  run_ranks({.ranks = 3}, [&](World&) {
    const DeviceMesh mesh = mesh_of({3});
    const std::vector<DTensor> tensors{make({4}, Dtype::f32, mesh, {Shard(0)}), DTensor(), make({6, 2}, Dtype::f32, mesh, {Shard(0)})};
    const CommCounter counter;
    CHECK(error_of([&] { redistribute_all(tensors, std::vector<Placements>(2, {Replicate()})); }) ==
          "redistribute_all: the counts differ (3 tensors, 2 placements); give one per tensor, or one for all");
    CHECK(error_of([&] { redistribute_all(tensors, {Replicate()}); }) ==
          "redistribute_all: tensor 2 of 3 is empty (a default-constructed DTensor); make or assign it first");
    const std::vector<DTensor> full{tensors[0], tensors[2]};
    CHECK(error_of([&] { redistribute_all(full, {Shard(1)}); }).starts_with("redistribute_all: "));
    CHECK(error_of([&] { redistribute_all(full, {Replicate()}, {.memory_limit = 8}); }) ==
          error_of([&] { (void)full[0].redistribute({Replicate()}, {.memory_limit = 8}); }));
    CHECK(counter.launches() == 0);
    CHECK(redistribute_all({}, std::vector<Placements>{}).empty());
    CHECK(redistribute_all({}, {Replicate()}).empty());
    check_same(redistribute_all(full, {Replicate()}), one_by_one(full, std::vector<Placements>(2, {Replicate()})));
    ++seen;
  });
  CHECK(seen == 3);
}
