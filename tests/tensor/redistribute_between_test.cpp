// SPDX-License-Identifier: Apache-2.0
// redistribute to another mesh of the same world: values, bytes, gradients, ranks outside, value semantics, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <numeric>
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
#include "local/storage.h"
#include "mesh/mesh_data.h"
#include "tensor/impl.h"
#include "tensor/plan.h"

using namespace dtensor;
using debug::Part;
using debug::Whole;

namespace {

using List = std::vector<Placement>;
struct Grid {
  std::vector<int> sizes, ranks;
};

constexpr int kRanks = 7;  // rank 6 is in no mesh of two ends
const std::vector<std::pair<Grid, Grid>> kEnds{
    {{{4}, {0, 1, 2, 3}}, {{2, 2}, {0, 1, 2, 3}}},           // other shape
    {{{2, 2}, {0, 1, 2, 3}}, {{4}, {2, 0, 3, 1}}},           // and other order
    {{{2}, {0, 1}}, {{4}, {0, 1, 2, 3}}},                    // grow
    {{{3, 2}, {0, 1, 2, 3, 4, 5}}, {{2}, {1, 4}}},           // shrink
    {{{3}, {4, 0, 2}}, {{2}, {1, 5}}},                       // disjoint
    {{{2, 2}, {3, 1, 2, 0}}, {{3, 2}, {5, 4, 3, 2, 1, 0}}},  // overlapping, source out of order
    {{{2, 3}, {0, 1, 2, 3, 4, 5}}, {{3}, {5, 3, 1}}},
    {{{1}, {2}}, {{1}, {3}}},
};

DeviceMesh mesh_of(const Grid& grid, const char* prefix = "") {
  const base::RankContext& rank = *base::current_rank();
  std::vector<std::string> names;
  for (std::size_t a = 0; a < grid.sizes.size(); ++a) names.push_back(*prefix == '\0' ? "" : prefix + std::to_string(a));
  std::vector<MeshAxis> axes;
  for (std::size_t a = 0; a < grid.sizes.size(); ++a) axes.push_back({names[a], grid.sizes[a]});
  return mesh::make_mesh(rank.world_id, rank.world_size, axes, grid.ranks);
}
Placements of(const List& list) { return Placements(std::span<const Placement>(list)); }

DTensor make(const Whole& whole, const DeviceMesh& mesh, const List& placements) {
  const auto layout = placements::make_layout(mesh, whole.shape, whole.dtype, of(placements), "test");
  const auto spec = tensor::intern_spec(mesh, layout, whole.shape, whole.dtype, {});
  return tensor::make_dtensor(spec, spec->inside ? debug::make_part(whole, *layout, spec->coordinates, 3) : Tensor::empty({0}, whole.dtype));
}

// The parts of all ranks, by index in the mesh.
class Collected {
 public:
  void put(const DTensor& y) {
    const tensor::Spec& spec = *y.impl()->spec;
    const auto ranks = spec.mesh.ranks();
    const std::lock_guard lock(mutex_);
    parts_.resize(ranks.size());
    layout_ = spec.layout;
    const auto it = std::find(ranks.begin(), ranks.end(), base::current_rank()->rank);
    if (it == ranks.end()) {
      outside_empty_ = outside_empty_ && y.local().numel() == 0;
      return;
    }
    parts_[static_cast<std::size_t>(it - ranks.begin())] = {spec.coordinates, y.local().shape(), debug::numbers(y.local())};
  }
  void check(const Whole& expected) const {
    std::string fault;
    const auto whole = debug::assemble(expected.shape, expected.dtype, *layout_, parts_, fault);
    CHECK(fault == "");
    REQUIRE(whole.has_value());
    CHECK(debug::difference(*whole, expected) == "");
    CHECK(outside_empty_);
  }
  std::vector<double> values(const Whole& like) const {
    std::string fault;
    const auto whole = debug::assemble(like.shape, like.dtype, *layout_, parts_, fault);
    CHECK(fault == "");
    REQUIRE(whole.has_value());
    return whole->values;
  }

 private:
  std::mutex mutex_;
  std::vector<Part> parts_;
  placements::LayoutRef layout_;
  bool outside_empty_ = true;
};

struct Case {
  Whole whole;
  List from, to;
};
std::string text(const Case& c) {
  return to_string(c.whole.dtype) + to_string(c.whole.shape) + " " + debug::to_string(c.from) + " -> " + debug::to_string(c.to);
}

// A sample of pairs of placement lists for a pair of meshes.
std::vector<Case> cases_of(const Grid& a, const Grid& b, const Whole& whole, std::size_t count, std::uint64_t seed) {
  const auto from = debug::make_cases({{whole.shape, whole.dtype}}, {true}, a.sizes, 0, 1),
             to = debug::make_cases({{whole.shape, whole.dtype}}, {true}, b.sizes, 0, 1);
  std::vector<Case> cases;
  for (std::size_t k = 0; k < count; ++k)
    cases.push_back({whole, from[debug::random_bits(seed, k, 1) % from.size()][0], to[debug::random_bits(seed, k, 2) % to.size()][0]});
  return cases;
}

void overwrite(const Tensor& t) {
  for (float& x : t.values<float>()) x = 100;
}

}  // namespace

TEST_CASE("a tensor has the same value on any other mesh, and the ranks receive what the plan says") {
  for (const auto& [a, b] : kEnds) {
    std::vector<Case> cases;
    std::uint64_t seed = 1;
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{5}, Shape{13}, Shape{8, 3}, Shape{2, 3, 5}})
      for (const Case& c : cases_of(a, b, debug::random_whole(shape, Dtype::f32, -2, 2, 0, 4), 24, seed++)) cases.push_back(c);
    for (Dtype dtype : {Dtype::i64, Dtype::bf16, Dtype::boolean, Dtype::f64})
      for (const Case& c : cases_of(a, b, debug::random_whole({7, 4}, dtype, -2, 2, 0, 5), 12, seed++)) cases.push_back(c);
    std::vector<Collected> results(cases.size());
    std::vector<std::vector<std::int64_t>> received(cases.size(), std::vector<std::int64_t>(kRanks));
    std::vector<Bytes> planned(cases.size());
    run_ranks({.ranks = kRanks}, [&, &a = a, &b = b](World& world) {
      const DeviceMesh source = mesh_of(a), target = mesh_of(b, "t");
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const DTensor x = make(cases[i].whole, source, cases[i].from);
        const CommCounter counter;
        const DTensor y = x.redistribute(of(cases[i].to), {.mesh = target});
        CHECK(y.mesh() == target);
        CHECK(y.shape() == cases[i].whole.shape);
        results[i].put(y);
        received[i][static_cast<std::size_t>(world.rank())] = counter.bytes_received();
        if (world.rank() == 0) planned[i] = explain(x, target, of(cases[i].to)).bytes_received();
      }
    });
    for (std::size_t i = 0; i < cases.size(); ++i) {
      INFO(text(cases[i]) << " " << a.sizes.size() << " axes to " << b.sizes.size());
      results[i].check(cases[i].whole);
      CHECK(planned[i].total == std::accumulate(received[i].begin(), received[i].end(), std::int64_t{0}));
      CHECK(planned[i].max == *std::max_element(received[i].begin(), received[i].end()));
    }
  }
}

TEST_CASE("a change of mesh takes the memory that its plan says") {
  int direct = 0;
  for (const auto& [a, b] : kEnds) {
    std::vector<Case> cases = cases_of(a, b, debug::random_whole({12, 10}, Dtype::f64, -2, 2, 0, 4), 40, 21);
    std::vector<std::vector<std::int64_t>> peaks(cases.size(), std::vector<std::int64_t>(kRanks));
    std::vector<std::int64_t> planned(cases.size());
    std::vector<std::size_t> moves(cases.size());
    run_ranks({.ranks = kRanks}, [&, &a = a, &b = b](World& world) {
      const DeviceMesh source = mesh_of(a), target = mesh_of(b);
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const DTensor x = make(cases[i].whole, source, cases[i].from);
        world.barrier();
        const std::int64_t others = memory_stats().current - x.local().bytes();
        reset_peak_memory();
        const DTensor y = x.redistribute(of(cases[i].to), {.mesh = target});
        y.wait();
        peaks[i][static_cast<std::size_t>(world.rank())] = memory_stats().peak - others;
        if (world.rank() != 0) continue;
        const Plan plan = explain(x, target, of(cases[i].to));
        planned[i] = plan.peak_bytes();
        moves[i] = plan.moves().size();
      }
    });
    for (std::size_t i = 0; i < cases.size(); ++i) {
      INFO(text(cases[i]));
      const std::int64_t peak = *std::max_element(peaks[i].begin(), peaks[i].end());
      CHECK_LE(peak, planned[i]);
      if (moves[i] > 1) continue;
      CHECK_EQ(peak, planned[i]);
      ++direct;
    }
  }
  CHECK_GT(direct, 150);
}

TEST_CASE("the gradient comes back to the source's mesh and placements, Partial turned into Replicate, on every rank") {
  for (const auto& [a, b] : kEnds) {
    const Whole value = debug::random_whole({5, 3}, Dtype::f32, -2, 2, 0, 4), weight = debug::random_whole({5, 3}, Dtype::f32, -2, 2, 0, 9);
    const auto cases = cases_of(a, b, value, 30, 77);
    std::vector<Collected> results(cases.size());
    run_ranks({.ranks = kRanks}, [&, &a = a, &b = b](World&) {
      const DeviceMesh source = mesh_of(a), target = mesh_of(b);
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const DTensor x = make(value, source, cases[i].from);
        x.set_requires_grad();
        const DTensor w = make(weight, target, List(b.sizes.size(), Placement(Replicate())));
        const DTensor y = x.redistribute(of(cases[i].to), {.mesh = target});
        sum(mul(y, w)).backward();
        REQUIRE(x.grad());
        CHECK(x.grad().mesh() == source);
        const tensor::Spec& spec = *x.impl()->spec;
        for (std::size_t axis = 0; axis < spec.layout->partial.size(); ++axis) {
          const auto& gradient = *x.grad().impl()->spec->layout;
          CHECK_FALSE(gradient.partial[axis].has_value());
          CHECK(gradient.dims == spec.layout->dims);
        }
        results[i].put(x.grad());
      }
    });
    for (std::size_t i = 0; i < cases.size(); ++i) {
      INFO(text(cases[i]));
      results[i].check(weight);
    }
  }
}

TEST_CASE("a change of mesh keeps to every limit between the least and the cheapest, with the value and figures of its plan") {
  int limits = 0, chunked = 0;
  for (const auto& [a, b] : kEnds) {
    auto cases = cases_of(a, b, debug::random_whole({6, 5}, Dtype::f64, -2, 2, 0, 4), 24, 93);
    // Where bytes count a reduction goes by way of a split; within less memory that is one of slabs.
    const Whole large = debug::random_whole({2048, 32}, Dtype::f64, -2, 2, 0, 4);
    const List sums(a.sizes.size(), Placement(Partial())), whole(b.sizes.size(), Placement(Replicate()));
    List first = whole;
    first[0] = Shard(0);
    for (const List& to : {whole, first}) cases.push_back({large, sums, to});
    std::vector<std::vector<Collected>> results(cases.size());
    for (auto& r : results) r = std::vector<Collected>(3);
    struct Figures {
      std::int64_t limit = 0, launches = 0, max = 0, total = 0, peak = 0, chunks = 0;
    };
    std::vector<std::array<Figures, 3>> planned(cases.size());
    std::vector<std::array<std::array<Figures, kRanks>, 3>> seen(cases.size());
    run_ranks({.ranks = kRanks}, [&, &a = a, &b = b](World& world) {
      const DeviceMesh source = mesh_of(a), target = mesh_of(b);
      const auto rank = static_cast<std::size_t>(world.rank());
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const Whole& value = cases[i].whole;
        const auto plan_within = [&](std::int64_t limit) {
          return make_plan(source, value.shape, value.dtype, of(cases[i].from), target, of(cases[i].to), limit);
        };
        std::int64_t least = 0;
        try {
          (void)plan_within(1);
        } catch (const InvalidArgument& e) {
          const std::string words = "the least peak is ", given = e.what();
          least = std::stoll(given.substr(given.find(words) + words.size()));
        }
        const std::int64_t most = plan_within(0).peak_bytes();
        if (least == most) continue;
        const DTensor x = make(value, source, cases[i].from);
        for (std::size_t k = 0; k < 3; ++k) {
          const std::int64_t limit = k == 0 ? least : k == 1 ? (least + most) / 2 : most - 1;
          const Plan plan = plan_within(limit);
          if (rank == 0)
            planned[i][k] = {limit, plan.launches(), plan.bytes_received().max, plan.bytes_received().total, plan.peak_bytes(), plan.chunks()};
          world.barrier();
          const std::int64_t others = memory_stats().current - x.local().bytes();
          reset_peak_memory();
          const CommCounter counter;
          const DTensor y = x.redistribute(of(cases[i].to), {.mesh = target, .memory_limit = limit});
          y.wait();
          seen[i][k][rank] = {limit, counter.launches(), counter.bytes_received(), 0, memory_stats().peak - others, 0};
          results[i][k].put(y);
        }
      }
    });
    for (std::size_t i = 0; i < cases.size(); ++i)
      for (std::size_t k = 0; k < 3; ++k) {
        const Figures& plan = planned[i][k];
        if (plan.limit == 0) continue;
        INFO(text(cases[i]) << " within " << plan.limit << " in " << plan.chunks);
        CHECK_LE(plan.peak, plan.limit);
        std::int64_t worst = 0, total = 0, peak = 0, launches = 0;
        for (const Figures& f : seen[i][k]) {
          worst = std::max(worst, f.max), total += f.max, peak = std::max(peak, f.peak), launches = std::max(launches, f.launches);
        }
        CHECK_LE(peak, plan.peak);
        CHECK_EQ(worst, plan.max);
        CHECK_EQ(total, plan.total);
        CHECK_LE(launches, plan.launches);
        results[i][k].check(cases[i].whole);
        ++limits, chunked += plan.chunks > 1 ? 1 : 0;
      }
  }
  MESSAGE(limits << " limits, " << chunked << " in chunks");
  CHECK_GT(limits, 30);
  CHECK_GT(chunked, 5);
}

TEST_CASE("the gradient of a change of mesh is the central difference of the global value") {
  int partial = 0;
  for (const auto& [a, b] : kEnds) {
    const Whole value = debug::random_whole({3, 2}, Dtype::f64, -2, 2, 0, 4), weight = debug::random_whole({3, 2}, Dtype::f64, -2, 2, 0, 9);
    const auto cases = cases_of(a, b, value, 12, 401);
    const std::size_t n = value.values.size();
    const double step = 1.0 / 1024;
    std::vector<Collected> gradients(cases.size());
    std::vector<std::vector<double>> losses(cases.size(), std::vector<double>(2 * n));
    run_ranks({.ranks = kRanks}, [&, &a = a, &b = b](World& world) {
      const DeviceMesh source = mesh_of(a), target = mesh_of(b);
      const DTensor w = make(weight, target, List(b.sizes.size(), Placement(Replicate())));
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const auto loss = [&](const DTensor& x) {
          const DTensor y = x.redistribute(of(cases[i].to), {.mesh = target});
          return sum(mul(mul(y, y), w));
        };
        const DTensor x = make(value, source, cases[i].from);
        x.set_requires_grad();
        loss(x).backward();
        gradients[i].put(x.grad());
        for (std::size_t k = 0; k < 2 * n; ++k) {
          Whole moved = value;
          moved.values[k / 2] += k % 2 == 0 ? -step : step;
          const DTensor at = loss(make(moved, source, cases[i].from)).redistribute({});
          if (world.rank() == b.ranks[0]) losses[i][k] = at.item();
        }
      }
    });
    for (std::size_t i = 0; i < cases.size(); ++i) {
      INFO(text(cases[i]));
      partial += std::any_of(cases[i].from.begin(), cases[i].from.end(), [](const Placement& p) { return p.is_partial(); }) ? 1 : 0;
      const auto given = gradients[i].values(value);
      for (std::size_t k = 0; k < n; ++k) CHECK(given[k] == doctest::Approx((losses[i][2 * k + 1] - losses[i][2 * k]) / (2 * step)).epsilon(1e-6));
    }
  }
  CHECK_GT(partial, 20);
}

TEST_CASE("a chain over three meshes and back is differentiated on every rank") {
  const Whole value = debug::random_whole({6, 4}, Dtype::f32, -2, 2, 0, 4);
  Collected gradient;
  run_ranks({.ranks = 6}, [&](World&) {
    const DeviceMesh a = mesh_of({{2}, {0, 1}}), b = mesh_of({{2}, {2, 3}}), c = mesh_of({{3}, {1, 3, 5}});
    const DTensor x = make(value, a, {Shard(0)});
    x.set_requires_grad();
    const DTensor y = mul(x.redistribute({Shard(1)}, {.mesh = b}), 3.0);
    const DTensor z = mul(y.redistribute({Shard(0)}, {.mesh = c}), 2.0);
    const DTensor back = z.redistribute({Replicate()}, {.mesh = a});
    sum(mul(back, x)).backward();  // 6 x * x
    gradient.put(x.grad());
  });
  Whole expected = value;
  for (double& v : expected.values) v *= 12;
  gradient.check(expected);
}

TEST_CASE("a mesh of the same ownership costs no byte and shares memory until a write") {
  run_ranks({.ranks = 4}, [](World&) {
    const DeviceMesh flat = mesh_of({{4}, {0, 1, 2, 3}}), square = mesh_of({{2, 2}, {0, 1, 2, 3}});
    const Whole whole = debug::random_whole({8, 3}, Dtype::f32, -2, 2, 0, 8);
    struct Pair {
      List from, to;
    };
    for (const Pair& p : {Pair{{Shard(0)}, {Shard(0), Shard(0)}}, Pair{{Replicate()}, {Replicate(), Replicate()}},
                          Pair{{Partial()}, {Partial(), Partial()}}, Pair{{Replicate()}, {Shard(0), Replicate()}}}) {
      const DTensor x = make(whole, flat, p.from);
      const CommCounter counter;
      const DTensor y = x.redistribute(of(p.to), {.mesh = square});
      CHECK_EQ(counter.launches(), 0);
      CHECK_EQ(&y.impl()->local.storage()->buffer(), &x.impl()->local.storage()->buffer());
      const auto value = debug::numbers(x.local()), kept = debug::numbers(y.local());
      overwrite(y.local());
      CHECK(debug::numbers(x.local()) == value);
      const DTensor z = x.redistribute(of(p.to), {.mesh = square});
      overwrite(x.local());
      CHECK(debug::numbers(z.local()) == kept);
    }
  });
}

TEST_CASE("no write to source or result of a change of mesh is seen in the other") {
  for (const auto& [a, b] : kEnds) {
    const auto cases = cases_of(a, b, debug::random_whole({6, 4}, Dtype::f32, -2, 2, 0, 4), 12, 5);
    run_ranks({.ranks = kRanks}, [&, &a = a, &b = b](World&) {
      const DeviceMesh source = mesh_of(a), target = mesh_of(b);
      for (const Case& c : cases) {
        INFO(text(c));
        const DTensor x = make(c.whole, source, c.from);
        const DTensor y = x.redistribute(of(c.to), {.mesh = target}), z = x.redistribute(of(c.to), {.mesh = target});
        const auto before = debug::numbers(y.local()), value = debug::numbers(x.local());
        overwrite(z.local().contiguous());
        if (z.local().is_contiguous()) overwrite(z.local());
        CHECK(debug::numbers(x.local()) == value);
        if (x.local().is_contiguous()) overwrite(x.local());
        CHECK(debug::numbers(y.local()) == before);
      }
    });
  }
}

TEST_CASE("ranks in neither mesh do nothing and get an empty tensor") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh a = mesh_of({{2}, {0, 1}}), b = mesh_of({{1}, {2}});
    const DTensor x = make(debug::random_whole({6}, Dtype::f32, -2, 2, 0, 4), a, {Shard(0)});
    const Trace trace;
    const DTensor y = x.redistribute({}, {.mesh = b, .forward_dtype = Dtype::f64});
    CHECK(y.dtype() == Dtype::f64);
    CHECK_EQ(to_string(y), "f64[6]{0: R}");
    CHECK_EQ(y.local().numel(), world.rank() == 2 ? 6 : 0);
    CHECK(y.local().dtype() == Dtype::f64);
    if (world.rank() == 3) CHECK(trace.lines().empty());
    if (world.rank() == 2)
      CHECK_EQ(to_string(trace), "redistribute_between: convert\nredistribute_between: transfer f64[6]{0: S(0)} -> {0: R}, 48 bytes received");
  });
}

TEST_CASE("contributions of replicas in another order of ranks add to the same bits everywhere") {
  // Three numbers whose sum depends on the order of addition.
  std::vector<std::vector<double>> seen(6);
  run_ranks({.ranks = 6}, [&](World& world) {
    const DeviceMesh a = mesh_of({{2, 3}, {0, 4, 2, 5, 1, 3}}), b = mesh_of({{6}, {0, 1, 2, 3, 4, 5}});
    const auto layout = placements::make_layout(a, {1}, Dtype::f32, {Replicate(), Partial()}, "test");
    const auto spec = tensor::intern_spec(a, layout, {1}, Dtype::f32, {});
    const std::array<float, 3> values{1e8F, 1, -1e8F};
    const DTensor x = tensor::make_dtensor(spec, Tensor::of(std::vector<float>{values[static_cast<std::size_t>(spec->coordinates[1])]}, {1}));
    seen[static_cast<std::size_t>(world.rank())] = debug::numbers(x.redistribute({}, {.mesh = b}).local());
  });
  for (const auto& s : seen) CHECK(s == std::vector<double>{(1e8F + 1.0F) - 1e8F});
}

TEST_CASE("bad targets on other meshes are errors by text, and the world stays usable") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DeviceMesh a = world.mesh({{"x", 2}}), b = world.mesh({{"y", 3}});
    const DTensor x = make(debug::random_whole({6}, Dtype::f32, -2, 2, 0, 4), a, {Shard(0)});
    const auto other = mesh::make_mesh(base::current_rank()->world_id + 1000, 3, std::vector<MeshAxis>{{"y", 3}}, {});
    CHECK_THROWS_WITH_AS(x.redistribute({}, {.mesh = other}),
                         "redistribute: meshes of different worlds (Mesh(x=2) and Mesh(y=3)); make both meshes from one World", InvalidArgument);
    CHECK_THROWS_WITH_AS(x.redistribute({Shard(0), Replicate()}, {.mesh = b}),
                         "redistribute: 2 placements for 1 axes ({0: S(0), 1: R} on Mesh(y=3)); give one per mesh axis, or name the axes",
                         InvalidArgument);
    CHECK_THROWS_WITH_AS(x.redistribute({Shard(1)}, {.mesh = b}),
                         "redistribute: S(1) names dim 1 of a tensor with 1 dims ([6]); use a dim of the tensor", InvalidArgument);
    CHECK_THROWS_WITH_AS(x.redistribute({RaggedShard{0, {3, 2, 2}}}, {.mesh = b}),
                         "redistribute: sizes of Ragged(0, 3 2 2) add up to 7, the dim has 6 ([6]); make the sum equal", InvalidArgument);
    CHECK_THROWS_WITH_AS(x.redistribute({}, {.mesh = DeviceMesh::self()}),
                         doctest::Contains("redistribute: the target is another mesh on every rank"), InvalidArgument);
    CHECK_THROWS_WITH_AS(x.redistribute({}, {.mesh = b, .memory_limit = 8}),
                         "redistribute: the memory limit cannot be met (8 bytes, the least peak is 36); raise it to 36", InvalidArgument);
    CHECK_THROWS_WITH_AS(explain(x, other, {}), doctest::Contains("meshes of different worlds"), InvalidArgument);
    CHECK_EQ(x.redistribute({}, {.mesh = b}).local().numel(), 6);
  });
}
