// SPDX-License-Identifier: Apache-2.0
// The tape: where gradients go, in which placements, what they cost, and what it refuses.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

DTensor counting(const Shape& shape, const DeviceMesh& mesh, const Placements& placements, Dtype dtype = Dtype::f64) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.25 * static_cast<double>(i) - 0.8;
  const Tensor t = Tensor::of(values, shape);
  return distribute(dtype == Dtype::f64 ? t : t.to(dtype), mesh, placements, {.source = Source::every_rank});
}
DTensor leaf(const Shape& shape, const DeviceMesh& mesh, const Placements& placements) {
  DTensor t = counting(shape, mesh, placements);
  t.set_requires_grad();
  return t;
}
std::vector<double> whole(const DTensor& t) {
  REQUIRE(t);
  const Tensor local = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
bool close(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::abs(a[i] - b[i]) > 1e-9) return false;
  return true;
}
void on(int ranks, const std::function<void(World&, const DeviceMesh&)>& body) {
  run_ranks({.ranks = ranks}, [&](World& world) { body(world, world.mesh({{"tp", ranks}})); });
}
// The gradient of sum(x * x * w) is 2 x w; here w counts too.
std::vector<double> expected_square(std::size_t n, double scale = 2) {
  std::vector<double> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = scale * (0.25 * static_cast<double>(i) - 0.8);
  return v;
}
std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "nothing thrown";
}

// x^3, beside x^2, which its callers do not get and its gradient reads.
std::vector<DTensor> cube_gradient(const GradientCall& g) {
  const DTensor of_cube = g.grad_output(0) ? mul(mul(g.output(1), g.grad_output(0)), 3) : DTensor();
  const DTensor of_square = g.grad_output(1) ? mul(mul(g.input(0), g.grad_output(1)), 2) : DTensor();
  return {of_cube && of_square ? add(of_cube, of_square) : of_cube ? of_cube : of_square};
}
constexpr OpDef kCube{
    .name = "test::cube",
    .signature = "input -> out, square",
    .rule = "... -> ..., ...",
    .saves = "input, square",
    .dtypes = "f64",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          s.output(0) = s.input(0);
          s.output(1) = s.input(0);
        },
    .cpu =
        [](const KernelCall& c) {
          for (std::int64_t i = 0; i < c.input(0).numel(); ++i) {
            const double x = c.input(0).raw_as<double>()[i];
            c.output(0).raw_as<double>()[i] = x * x * x;
            c.output(1).raw_as<double>()[i] = x * x;
          }
        },
    .gradient = cube_gradient,
};

}  // namespace

TEST_CASE("a gradient through redistribute comes back in the source's placements, Partial turned into Replicate") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const std::vector<Placement> all{Shard(0), Shard(1), Replicate(), Partial(), StridedShard(0, 2), RaggedShard{0, {1, 3}}};
    for (const Placement& from : all) {
      for (const Placement& to : all) {
        INFO(to_string(from) << " -> " << to_string(to));
        const DTensor x = leaf({4, 3}, mesh, {from});
        const DTensor y = x.redistribute({to});
        sum(square(y.redistribute({Replicate()}))).backward();
        REQUIRE(x.grad());
        CHECK(to_string(x.grad()) == "f64[4, 3]{tp: " + to_string(from.is_partial() ? Placement(Replicate()) : from) + "}");
        CHECK(close(whole(x.grad()), expected_square(12)));
      }
    }
  });
}

TEST_CASE("full_tensor and to_local give gradients to every rank's part once") {
  on(3, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({5}, mesh, {Shard(0)});
    sum(square(x.to_local())).backward();
    CHECK(to_string(x.grad()) == "f64[5]{tp: S(0)}");
    CHECK(close(whole(x.grad()), expected_square(5)));
    // full_tensor is a copy per rank: each rank's use is the same function of the one value.
    const DTensor z = leaf({5}, mesh, {Shard(0)});
    sum(square(z.full_tensor())).backward();
    CHECK(close(whole(z.grad()), expected_square(5)));
  });
}

TEST_CASE("a replica that each rank uses differently asks for Partial gradients") {
  on(2, [](World& world, const DeviceMesh& mesh) {
    const DTensor x = leaf({2}, mesh, {Replicate()});
    const DTensor mine = x.to_local({.grad_placements = Placements{Partial()}});
    sum(mul(mine, world.rank() + 1)).backward();
    CHECK(close(whole(x.grad()), {3, 3}));
  });
}

TEST_CASE("from_local gives the gradient of its part, of P(sum) the whole one") {
  on(2, [](World& world, const DeviceMesh& mesh) {
    const DTensor part = counting({2}, DeviceMesh::self(), {});
    part.set_requires_grad();
    const DTensor x = from_local(part, mesh, {Shard(0)});
    CHECK(x.shape() == Shape{4});
    const DTensor weights = counting({4}, mesh, {Replicate()});
    sum(mul(x, weights)).backward();
    const auto w = expected_square(4, 1);
    const std::size_t first = world.rank() == 0 ? 0 : 2;
    CHECK(close(whole(part.grad()), {w[first], w[first + 1]}));
    const DTensor piece = counting({2}, DeviceMesh::self(), {});
    piece.set_requires_grad();
    sum(mul(from_local(piece, mesh, {Partial()}), 3)).backward();
    CHECK(close(whole(piece.grad()), {3, 3}));
  });
}

TEST_CASE("gradients accumulate over backwards, and set_grad starts anew") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {Shard(0)});
    sum(square(x)).backward();
    sum(square(x)).backward();
    CHECK(close(whole(x.grad()), expected_square(4, 4)));
    x.set_grad({});
    CHECK_FALSE(x.grad());
    sum(square(x)).backward();
    CHECK(close(whole(x.grad()), expected_square(4)));
  });
}

TEST_CASE("a tensor used several times gets the sum, contributions Partial and Replicate alike") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4, 4}, mesh, {Shard(1)});
    // sum over dim 1 is Partial; x itself is not.
    add(sum(square(sum(x, 1))), sum(square(x))).backward();
    std::vector<double> v = expected_square(16);
    for (std::size_t r = 0; r < 4; ++r) {
      double row = 0;
      for (std::size_t c = 0; c < 4; ++c) row += 0.25 * static_cast<double>(4 * r + c) - 0.8;
      for (std::size_t c = 0; c < 4; ++c) v[4 * r + c] += 2 * row;
    }
    CHECK(close(whole(x.grad()), v));
  });
}

TEST_CASE("column-parallel q, k and v of one input cost one all_reduce backward") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4, 6}, mesh, {Replicate()});
    const DTensor q = leaf({6, 4}, mesh, {Shard(1)}), k = leaf({6, 4}, mesh, {Shard(1)}), v = leaf({6, 4}, mesh, {Shard(1)});
    const DTensor loss = sum(add(add(square(matmul(x, q)), matmul(x, k)), mul(matmul(x, v), 3)));
    const CommCounter counter;
    loss.backward();
    INFO(to_string(counter));
    CHECK(counter.launches("all_reduce") == 1);
    CHECK(counter.launches() == 1);
    CHECK(to_string(x.grad()) == "f64[4, 6]{tp: R}");
    CHECK(to_string(q.grad()) == "f64[6, 4]{tp: S(1)}");
  });
}

TEST_CASE("a second backward over a freed graph is refused, and retain_graph allows it") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {Shard(0)});
    const DTensor once = sum(square(x));
    once.backward();
    const std::string text = error_of([&] { once.backward(); });
    CHECK(text.find("backward: the values that ") == 0);
    CHECK(text.find("were freed by an earlier backward; pass retain_graph = true to the first one") != std::string::npos);
    x.set_grad({});
    const DTensor twice = sum(square(x));
    twice.backward({.retain_graph = true});
    twice.backward();
    CHECK(close(whole(x.grad()), expected_square(4, 4)));
  });
}

TEST_CASE("a saved tensor that was changed in place is refused with both versions") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {Shard(0)}), w = counting({4}, mesh, {Shard(0)});
    const DTensor loss = sum(mul(x, w));
    mul_(w, 2);
    const std::string text = error_of([&] { loss.backward(); });
    CHECK(text.find("backward: an input of mul was modified in place after it was saved (f64[4]{tp: S(0)}, version ") == 0);
    CHECK(text.find("clone it before, or use the form that returns a result") != std::string::npos);
    CHECK(sum(w).item<double>() == doctest::Approx(2 * (0.25 * 6 - 3.2)));
  });
}

TEST_CASE("a leaf that asks for a gradient may not be written in place while it is recorded") {
  on(1, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {});
    CHECK(error_of([&] { mul_(x, 2); }).find(": a leaf that requires a gradient is written in place (f64[4]{tp: R}); do it under NoGrad") !=
          std::string::npos);
    const NoGrad off;
    CHECK_NOTHROW(mul_(x, 2));
  });
}

TEST_CASE("what cannot be differentiated says so") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = counting({4}, mesh, {Shard(0)});
    CHECK(error_of([&] { sum(x).backward(); }).find("backward: the tensor asks for no gradient") == 0);
    CHECK(error_of([&] {
            leaf({4}, mesh, {Shard(0)}).backward();
          }).find("backward: the tensor has 4 elements (f64[4]{tp: S(0)}); reduce it to one") == 0);
    CHECK(error_of([&] { counting({4}, mesh, {}, Dtype::i64).set_requires_grad(); }).find("set_requires_grad: i64[4]{tp: R} is not floating") == 0);
    const DTensor y = leaf({4}, mesh, {}), unused = leaf({4}, mesh, {});
    const std::array<DTensor, 1> outputs{sum(square(y))}, inputs{unused};
    CHECK(error_of([&] { grad(outputs, inputs); }).find("grad: no output depends on input 0 (f64[4]{tp: R}); pass allow_unused = true") == 0);
  });
}

TEST_CASE("nothing is recorded under NoGrad, and detach cuts the history") {
  on(1, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {});
    {
      const NoGrad off;
      CHECK_FALSE(square(x).requires_grad());
      const EnableGrad again;
      CHECK(square(x).requires_grad());
    }
    CHECK(square(x).requires_grad());
    CHECK_FALSE(square(x).detach().requires_grad());
    sum(mul(square(x).detach(), x)).backward();
    const auto v = expected_square(4, 1);
    CHECK(close(whole(x.grad()), {v[0] * v[0], v[1] * v[1], v[2] * v[2], v[3] * v[3]}));
  });
}

TEST_CASE("hooks of leaves and results see the complete gradient and may replace it") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {Shard(0)});
    int ready = 0;
    x.add_hook([](const DTensor& g) { return mul(g, 10); });
    add_gradient_ready_hook(x, [&](const DTensor& t) {
      ++ready;
      CHECK(t.grad());
    });
    const DTensor y = square(x);
    std::vector<double> seen;
    y.add_hook([&](const DTensor& g) {
      seen = whole(g);
      return DTensor();
    });
    bool ended = false;
    y.add_hook([&](const DTensor&) {
      at_backward_end([&] { ended = true; });
      return DTensor();
    });
    sum(add(y, mul(y, 2))).backward();
    CHECK(close(seen, {3, 3, 3, 3}));
    CHECK(ready == 1);
    CHECK(ended);
    CHECK(close(whole(x.grad()), expected_square(4, 60)));
  });
}

TEST_CASE("grad(outputs, inputs) gives gradients of leaves and of results and leaves grad() alone") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({4}, mesh, {Shard(0)});
    const DTensor y = square(x);
    const std::array<DTensor, 1> outputs{sum(mul(y, 3))};
    const std::array<DTensor, 2> inputs{x, y};
    const auto g = grad(outputs, inputs);
    CHECK(close(whole(g[0]), expected_square(4, 6)));
    CHECK(close(whole(g[1]), {3, 3, 3, 3}));
    CHECK_FALSE(x.grad());
  });
}

TEST_CASE("input and weight gradients can be run apart") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor x = leaf({3, 4}, mesh, {Replicate()}), w = leaf({4, 2}, mesh, {Shard(1)});
    const std::array<DTensor, 1> outputs{sum(square(matmul(x, w)))}, of_x{x}, of_w{w};
    const auto first = grad(outputs, of_x, {}, {.retain_graph = true});
    const auto second = grad(outputs, of_w);
    const DTensor loss = sum(square(matmul(x, w)));
    loss.backward();
    CHECK(close(whole(first[0]), whole(x.grad())));
    CHECK(close(whole(second[0]), whole(w.grad())));
  });
}

TEST_CASE("a gradient is an expression: the second derivative of x^3 is 6 x, on every placement") {
  on(2, [](World&, const DeviceMesh& mesh) {
    for (const Placement& p : {Placement(Shard(0)), Placement(Replicate()), Placement(Partial())}) {
      INFO(to_string(p));
      const DTensor x = leaf({4}, mesh, {p});
      const std::array<DTensor, 1> outputs{sum(mul(mul(x, x), x))}, inputs{x};
      const auto first = grad(outputs, inputs, {}, {.create_graph = true});
      sum(first[0]).backward();
      CHECK(close(whole(x.grad()), expected_square(4, 6)));
    }
  });
}

TEST_CASE("second derivatives of exp, matmul and softmax equal differences of the first") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const auto second = [&](const std::function<DTensor(const DTensor&)>& f, const Placement& p, double step) {
      const DTensor x = add(counting({2, 3}, mesh, {p}), step).detach();
      x.set_requires_grad();
      const std::array<DTensor, 1> outputs{f(x)}, inputs{x};
      const auto first = grad(outputs, inputs, {}, {.create_graph = true});
      const DTensor total = sum(mul(first[0], counting({2, 3}, mesh, {Replicate()})));
      if (step != 0) return std::pair(total.item<double>(), std::vector<double>());
      const double value = total.item<double>();
      total.backward();
      return std::pair(value, whole(x.grad()));
    };
    const std::vector<std::function<DTensor(const DTensor&)>> functions{
        [](const DTensor& x) { return sum(exp(x)); }, [](const DTensor& x) { return sum(square(matmul(x, transpose(x, 0, 1)))); },
        [](const DTensor& x) { return sum(square(softmax(x, 1))); }, [](const DTensor& x) { return sum(square(mean(x, 0))); }};
    for (std::size_t k = 0; k < functions.size(); ++k) {
      for (const Placement& p : {Placement(Shard(0)), Placement(Shard(1)), Placement(Replicate())}) {
        INFO(k << " " << to_string(p));
        const auto [value, gradient] = second(functions[k], p, 0);
        double along = 0;
        for (double g : gradient) along += g;
        const double h = 1e-5;
        CHECK(along == doctest::Approx((second(functions[k], p, h).first - second(functions[k], p, -h).first) / (2 * h)).epsilon(1e-5));
        (void)value;
      }
    }
  });
}

TEST_CASE("a result that only the gradient reads is a part of the second derivative, and goes with the result that the caller has") {
  on(2, [](World&, const DeviceMesh& mesh) {
    for (const Placement& p : {Placement(Shard(0)), Placement(Replicate())}) {
      INFO(to_string(p));
      const DTensor x = leaf({400}, mesh, {p});
      const auto before = memory_stats().current;
      {
        const DTensor cube = call(kCube, {x});
        const std::int64_t bytes = x.local().bytes();
        CHECK(memory_stats().current - before == 2 * bytes);
        const std::array<DTensor, 1> outputs{sum(cube)}, inputs{x};
        const auto first = grad(outputs, inputs, {}, {.create_graph = true});
        std::vector<double> expected = expected_square(400, 1);
        for (double& v : expected) v *= 3 * v;
        CHECK(close(whole(first[0]), expected));
        const std::array<DTensor, 1> again{sum(first[0])};
        CHECK(close(whole(grad(again, inputs)[0]), expected_square(400, 6)));
      }
      CHECK(memory_stats().current == before);
    }
  });
}

TEST_CASE("a checkpointed region gives the same numbers, gradients and random numbers") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor w = leaf({4, 4}, mesh, {Shard(1)});
    const auto body = [&](std::span<const DTensor> in) { return dropout(relu(matmul(in[0], w)), 0.5); };
    const auto run = [&](bool checkpointed) {
      manual_seed(7);
      w.set_grad({});
      const DTensor x = leaf({4, 4}, mesh, {Replicate()});
      const std::array<DTensor, 1> inputs{x};
      const DTensor y = checkpointed ? checkpoint(body, inputs) : body(inputs);
      const DTensor loss = sum(square(mul(y, randn({4, 4}, mesh, {Shard(1)}, {.dtype = Dtype::f64}))));
      loss.backward();
      return std::array{whole(loss), whole(x.grad()), whole(w.grad()), std::vector<double>{static_cast<double>(default_generator().calls())}};
    };
    const auto plain = run(false), again = run(true);
    CHECK(plain == again);
  });
}

TEST_CASE("gradients of sums over ranks are summed, never averaged") {
  for (int ranks : {1, 2, 3}) {
    on(ranks, [](World&, const DeviceMesh& mesh) {
      const DTensor w = leaf({2}, mesh, {Replicate()});
      const DTensor x = counting({6, 2}, mesh, {Shard(0)});
      sum(mul(x, w)).backward();
      const auto v = expected_square(12, 1);
      CHECK(close(whole(w.grad()), {v[0] + v[2] + v[4] + v[6] + v[8] + v[10], v[1] + v[3] + v[5] + v[7] + v[9] + v[11]}));
    });
  }
}

TEST_CASE("set_grad_placements brings the gradient there in one reduce_scatter, keep_grad_placements leaves it Partial") {
  on(2, [](World&, const DeviceMesh& mesh) {
    const DTensor w = leaf({4, 2}, mesh, {Replicate()}), x = counting({6, 4}, mesh, {Shard(0)});
    set_grad_placements(w, {Shard(0)});
    const DTensor loss = sum(matmul(x, w));
    const CommCounter counter;
    loss.backward();
    INFO(to_string(counter));
    CHECK(to_string(w.grad()) == "f64[4, 2]{tp: S(0)}");
    CHECK(counter.launches("reduce_scatter") == 1);
    CHECK(counter.launches() == 1);
    const DTensor k = leaf({4, 2}, mesh, {Replicate()});
    keep_grad_placements(k);
    sum(matmul(x, k)).backward();
    CHECK(to_string(k.grad()) == "f64[4, 2]{tp: P(sum)}");
    CHECK(close(whole(k.grad()), whole(w.grad())));
  });
}
