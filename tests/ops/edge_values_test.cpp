// SPDX-License-Identifier: Apache-2.0
// Values at the edge: what is not finite stays in its row, empty shards hold the ends of narrow integers.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

// Rows 0 and 2 of the result, where row 1 of the input is `bad`; gradient of the same, with a gradient of ones that is `bad` in row 1 too.
using Op = std::function<DTensor(const DTensor&)>;
std::vector<float> rows_beside(const Op& op, float bad, bool backward) {
  std::vector<float> result;
  for (const Placements& placements : {Placements{Replicate()}, Placements{Shard(1)}}) {
    run_ranks({.ranks = placements[std::string_view("0")].is_replicate() ? 1 : 2}, [&](World& world) {
      std::vector<float> values(15), up(15, 1);
      for (std::size_t i = 0; i < 15; ++i) values[i] = static_cast<float>(i % 5), up[i] = static_cast<float>(i % 3);
      values[5] = bad, up[7] = bad;
      const DeviceMesh mesh = world.mesh({{"0", world.size()}});
      const DTensor x = distribute(Tensor::of(values, {3, 5}), mesh, placements).set_requires_grad();
      DTensor y = op(x);
      if (backward) {
        y.backward(distribute(Tensor::of(up, {3, 5}), mesh, placements));
        y = x.grad();
      }
      const Tensor all = y.redistribute({Replicate()}).local();
      if (world.rank() != 0) return;
      const auto v = all.values<const float>();
      for (const std::size_t i : {0, 1, 2, 3, 4, 10, 11, 12, 13, 14}) result.push_back(v[i]);
    });
  }
  return result;
}

}  // namespace

TEST_CASE("a row with NaN or infinity changes no other row of softmax and norms, forward and backward") {
  const std::vector<std::pair<std::string, Op>> ops{
      {"softmax", [](const DTensor& x) { return softmax(x, 1); }},
      {"log_softmax", [](const DTensor& x) { return log_softmax(x, 1); }},
      {"rms_norm", [](const DTensor& x) { return rms_norm(x, {5}); }},
      {"layer_norm", [](const DTensor& x) { return layer_norm(x, {5}); }},
  };
  for (const auto& [name, op] : ops) {
    for (const bool backward : {false, true}) {
      const std::vector<float> clean = rows_beside(op, 1, backward);
      for (const float bad : {kNan, kInf, -kInf}) {
        const std::vector<float> beside = rows_beside(op, bad, backward);
        INFO(name << (backward ? " backward, " : ", ") << bad);
        CHECK(beside == clean);
      }
    }
  }
}

TEST_CASE("softmax of a row with infinity is NaN, whole or split") {
  for (const int ranks : {1, 2}) {
    run_ranks({.ranks = ranks}, [](World& world) {
      const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
      const DTensor x = distribute(Tensor::of(std::vector<float>{0, kInf, 1, 2}, {1, 4}), mesh, {Shard(1)});
      for (const DTensor& y : {softmax(x, 1), log_softmax(x, 1)}) {
        const Tensor all = y.redistribute({Replicate()}).local();
        for (const float v : all.values<const float>()) CHECK(std::isnan(v));
      }
    });
  }
}

TEST_CASE("the cross entropy of a row with infinity is NaN, whole or split, beside rows without") {
  for (const int ranks : {1, 2}) {
    run_ranks({.ranks = ranks}, [](World& world) {
      const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
      const DTensor x = distribute(Tensor::of(std::vector<float>{0, kInf, 1, 2, 0, 0, 0, 0}, {2, 4}), mesh, {Shard(1)});
      const DTensor target = distribute(Tensor::of(std::vector<std::int64_t>{2, 3}, {2}), mesh, {Replicate()});
      const Tensor all = cross_entropy(x, target, {.reduction = "none"}).redistribute({Replicate()}).local();
      CHECK(std::isnan(all.values<const float>()[0]));
      CHECK(all.values<const float>()[1] == doctest::Approx(std::log(4.0)));
    });
  }
}

TEST_CASE("the median of nothing is NaN or the least integer, and a number in a loss promotes as a tensor does") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    CHECK(std::isnan(median(zeros({0, 3}, mesh, {Shard(1)})).item()));
    CHECK(median(zeros({0, 3}, mesh, {Shard(1)}, {.dtype = Dtype::i32})).item<int>() == std::numeric_limits<int>::min());
    const DTensor x = zeros({4}, mesh, {Shard(0)}), y = full({}, 0.1, mesh, {}, {.dtype = Dtype::f64});
    for (const DTensor& loss : {l1_loss(x, y), smooth_l1_loss(x, y, {.beta = 0}), huber_loss(x, y, {.delta = 0.1}) / 0.05})
      CHECK(loss.item() == doctest::Approx(0.1).epsilon(1e-14));
  });
}

TEST_CASE("the extremes of i32 over shards of which one is empty are those of the values") {
  run_ranks({.ranks = 3}, [](World& world) {
    const DTensor x = distribute(Tensor::of(std::vector<std::int32_t>{3, 1, 2, 5}, {4}), world.mesh({{"tp", 3}}), {Shard(0)});
    CHECK(amin(x).item<int>() == 1);
    CHECK(amax(neg(x)).item<int>() == -1);
  });
}

namespace {

// `op` of a tensor that is whole on one rank, or split on two.
void each_split(const Shape& shape, const std::vector<float>& values, const std::function<void(const DTensor&)>& body) {
  for (const int ranks : {1, 2, 3}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"tp", world.size()}});
      for (int d = 0; d < shape.ndim(); ++d) body(distribute(Tensor::of(values, shape), mesh, {Shard(d)}).set_requires_grad());
    });
  }
}
std::vector<double> gathered(const DTensor& t) {
  const Tensor all = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = all.values<const double>();
  return {v.begin(), v.end()};
}
std::vector<double> gradient_of(const DTensor& y, const DTensor& x) {
  x.set_grad({});
  sum(y).backward();
  return gathered(x.grad());
}

}  // namespace

TEST_CASE("of equal extremes the one that the index names has the gradient of max(dim), all share that of max()") {
  each_split({2, 3}, {1, 4, 4, 7, 7, 7}, [](const DTensor& x) {
    const ValuesIndices top = max(x, 1);
    CHECK(gathered(top.values) == std::vector<double>{4, 7});
    CHECK(gathered(top.indices) == std::vector<double>{1, 0});
    CHECK(gradient_of(top.values, x) == std::vector<double>{0, 1, 0, 1, 0, 0});
    CHECK(gradient_of(min(x, 0, {.keepdim = true}).values, x) == std::vector<double>{1, 1, 1, 0, 0, 0});
    CHECK(gradient_of(max(x) * 6, x) == std::vector<double>{0, 0, 0, 2, 2, 2});
  });
}

TEST_CASE("NaN takes the gradient of an extreme, and nothing else does") {
  each_split({2, 2}, {1, kNan, 5, 3}, [](const DTensor& x) {
    CHECK(gradient_of(max(x), x) == std::vector<double>{0, 1, 0, 0});
    CHECK(gradient_of(min(x), x) == std::vector<double>{0, 1, 0, 0});
    CHECK(gradient_of(max(x, 1).values, x) == std::vector<double>{0, 1, 1, 0});
  });
}

TEST_CASE("bool and integers give what their numbers give, in a dtype that holds it") {
  each_split({4}, {1, 0, 3, 1}, [](const DTensor& x) {
    const DTensor flags = x.detach().to(Dtype::boolean), counts = x.detach().to(Dtype::i32);
    CHECK(square(flags).dtype() == Dtype::i64);
    CHECK(gathered(square(flags)) == std::vector<double>{1, 0, 1, 1});
    CHECK(gathered(remainder(flags, 2)) == std::vector<double>{1, 0, 1, 1});
    CHECK(gathered(clamp(flags, {.min = 1, .max = {}})) == std::vector<double>{1, 1, 1, 1});
    CHECK(gathered(masked_fill(flags, eq(flags, false), 0.5)) == std::vector<double>{1, 1, 1, 1});
    CHECK(gathered(max(flags, 0).indices) == std::vector<double>{0});
    CHECK(max(flags, 0).values.dtype() == Dtype::boolean);
    CHECK(outer(flags, flags).dtype() == Dtype::boolean);
    CHECK(gathered(sum(outer(flags, flags))) == std::vector<double>{9});
    CHECK(gathered(hardtanh(counts)) == std::vector<double>{1, 0, 1, 1});
    CHECK(hardtanh(counts).dtype() == Dtype::i32);
    CHECK(std::abs(gathered(logsumexp(counts, 0))[0] - std::log(2 * std::exp(1.0) + 1 + std::exp(3.0))) < 1e-5);
    CHECK(gathered(pow(counts * 0, counts - 4)) == std::vector<double>{0, 0, 0, 0});
    for (const double v : gathered(clamp(x, {.min = {}, .max = std::nan("")}))) CHECK(std::isnan(v));
  });
}

TEST_CASE("clamp between tensors shares the gradient of an input on a bound with it, between numbers it is 0 there") {
  each_split({4}, {1, 2, 3, 5}, [](const DTensor& x) {
    const DTensor two = full({4}, 2, x.mesh(), {}).set_requires_grad(), four = full({4}, 4, x.mesh(), {}).set_requires_grad();
    CHECK(gathered(clamp(x, two, four)) == std::vector<double>{2, 2, 3, 4});
    CHECK(gradient_of(clamp(x, two, four), x) == std::vector<double>{0, 0.5, 1, 0});
    CHECK(gathered(two.grad()) == std::vector<double>{1, 0.5, 0, 0});
    CHECK(gathered(four.grad()) == std::vector<double>{0, 0, 0, 1});
    CHECK(gradient_of(clamp(x, two, DTensor()), x) == std::vector<double>{0, 0.5, 1, 1});
    CHECK(gradient_of(clamp(x, two, two), x) == std::vector<double>{0, 1, 0, 0});
    CHECK(gradient_of(clamp(x, {.min = 2, .max = 5}), x) == std::vector<double>{0, 0, 1, 0});
    CHECK(gradient_of(clamp(x, {.min = 2, .max = {}}), x) == std::vector<double>{0, 0, 1, 1});
  });
}

TEST_CASE("the angle of the origin has the gradient 0") {
  each_split({2}, {0, 3}, [](const DTensor& x) {
    const DTensor y = full({2}, 0, x.mesh(), {}).set_requires_grad();
    CHECK(gradient_of(atan2(x, y), x) == std::vector<double>{0, 0});
    CHECK(gathered(y.grad())[0] == 0);
  });
}

TEST_CASE("a weight of one dimension makes linear a product of vectors, with its gradients") {
  each_split({2, 3}, {1, 2, 3, 4, 5, 6}, [](const DTensor& x) {
    const DTensor w = distribute(Tensor::of(std::vector<float>{2, 0, -1}, {3}), x.mesh(), {Shard(0)}).set_requires_grad();
    const DTensor b = full({}, 10, x.mesh(), {}).set_requires_grad();
    CHECK(gathered(linear(x, w)) == std::vector<double>{-1, 2});
    CHECK(gathered(linear(x, w, b)) == std::vector<double>{9, 12});
    CHECK(gradient_of(linear(x, w, b), x) == std::vector<double>{2, 0, -1, 2, 0, -1});
    CHECK(gathered(w.grad()) == std::vector<double>{5, 7, 9});
    CHECK(gathered(b.grad()) == std::vector<double>{2});
  });
}

TEST_CASE("a list without dims reduces none in all and any, all in sum and norms") {
  each_split({2, 3}, {1, 0, 4, 0, -2, 3}, [](const DTensor& x) {
    const std::initializer_list<int> none{};
    CHECK(gathered(all(x, none)) == std::vector<double>{1, 0, 1, 0, 1, 1});
    CHECK(gathered(any(x, none, {.keepdim = true})) == std::vector<double>{1, 0, 1, 0, 1, 1});
    CHECK(all(x).item() == 0);
    CHECK(any(x, {.keepdim = true}).shape() == Shape{1, 1});
    CHECK(sum(x, none).item() == 6);
    CHECK(vector_norm(x, none, {.ord = 1}).item() == 10);
    CHECK(gradient_of(var(x, none, {.correction = 0}), x)[2] == doctest::Approx(1));
  });
}

TEST_CASE("the largest and the least magnitude share their gradient, which is 0 at 0 and beside NaN") {
  each_split({2, 3}, {2, -2, 1, 0, 0, 0}, [](const DTensor& x) {
    CHECK(gradient_of(vector_norm(x, {.ord = HUGE_VAL}), x) == std::vector<double>{0.5, -0.5, 0, 0, 0, 0});
    CHECK(gradient_of(vector_norm(x, 1, {.ord = HUGE_VAL}), x) == std::vector<double>{0.5, -0.5, 0, 0, 0, 0});
    CHECK(gradient_of(vector_norm(x, 1, {.ord = -HUGE_VAL}), x) == std::vector<double>{0, 0, 1, 0, 0, 0});
  });
  each_split({3}, {1, kNan, -3}, [](const DTensor& x) {
    for (const double ord : {HUGE_VAL, -HUGE_VAL}) {
      CHECK(std::isnan(vector_norm(x, {.ord = ord}).item()));
      const std::vector<double> g = gradient_of(vector_norm(x, {.ord = ord}), x);
      CHECK(g[0] == 0);
      CHECK(g[2] == 0);
    }
  });
}

TEST_CASE("a tensor without dims is the k first of itself for every k") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor x = full({}, 3, world.mesh({{"x", 2}}));
    for (const int k : {0, 1}) {
      const ValuesAndIndices top = topk(x, k);
      CHECK(top.values.item() == 3);
      CHECK(top.indices.item<int>() == 0);
    }
  });
}

TEST_CASE("attention in bf16 whose mask takes a gradient is as near to that in f64 as attention whose mask takes none") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    manual_seed(3);
    const auto draw = [&](const Shape& shape) { return (randn(shape, mesh) * 3).to(Dtype::bf16); };
    const DTensor q = draw({2, 2, 3, 8}), k = draw({2, 2, 6, 8}), v = draw({2, 2, 6, 8}), mask = draw({3, 6});
    const auto of = [&](Dtype dtype) {
      const DTensor x = q.to(dtype).detach().set_requires_grad(), m = mask.to(dtype).detach().set_requires_grad();
      return gradient_of(scaled_dot_product_attention(x, k.to(dtype), v.to(dtype), {.attn_mask = m}), x);
    };
    const std::vector<double> want = of(Dtype::f64), got = of(Dtype::bf16);
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < want.size(); ++i) largest = std::max(largest, std::abs(want[i])), worst = std::max(worst, std::abs(want[i] - got[i]));
    CHECK(worst < largest / 128);
  });
}

TEST_CASE("NaN and numbers out of range become the least integer, whole, split, and before they are added") {
  for (const int ranks : {1, 2, 3}) {
    run_ranks({.ranks = ranks}, [](World& world) {
      const DTensor x = distribute(Tensor::of(std::vector<float>{kNan, kInf, -kInf, 3e9f, -3e9f, 2.7f, -2.7f}, {7}),
                                   world.mesh({{"tp", world.size()}}), {Shard(0)});
      const double i32 = std::numeric_limits<std::int32_t>::min(), i64 = -9223372036854775808.0;
      CHECK(gathered(x.to(Dtype::i32)) == std::vector<double>{i32, i32, i32, i32, i32, 2, -2});
      CHECK(gathered(x.to(Dtype::i64)) == std::vector<double>{i64, i64, i64, 3e9, -3e9, 2, -2});
      CHECK(gathered(x.to(Dtype::boolean)) == std::vector<double>(7, 1));
      CHECK(gathered(cumsum(x, 0, {.dtype = Dtype::i32})) == std::vector<double>{i32, 0, i32, 0, i32, i32 + 2, i32});
      CHECK(gathered(sum(x, {.dtype = Dtype::i32})) == std::vector<double>{i32});
    });
  }
}
