// SPDX-License-Identifier: Apache-2.0
// softmax, norms and losses against double-precision formulas.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "local/cpu/losses.h"
#include "local/cpu/norms.h"
#include "local/cpu/softmax.h"

using namespace dtensor;
namespace cpu = dtensor::local::cpu;

namespace {

Tensor random_tensor(const Shape& shape, Dtype dtype, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> value(0, 2);
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& v : values) v = value(random);
  return Tensor::of(values, shape).to(dtype);
}
std::vector<double> numbers(const Tensor& t) {
  const Tensor wide = t.to(Dtype::f64);
  const auto v = wide.values<const double>();
  return {v.begin(), v.end()};
}
double tolerance(Dtype dtype) { return dtype == Dtype::f64 ? 1e-12 : dtype == Dtype::f32 ? 3e-6 : dtype == Dtype::f16 ? 2e-3 : 1e-2; }
void check_close(const Tensor& got, const std::vector<double>& wanted, double tol) {
  const auto g = numbers(got);
  REQUIRE(g.size() == wanted.size());
  for (std::size_t i = 0; i < g.size(); ++i) REQUIRE(std::fabs(g[i] - wanted[i]) <= tol * (1 + std::fabs(wanted[i])));
}
constexpr Dtype kFloating[]{Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16};

}  // namespace

TEST_CASE("softmax, log_softmax and their gradients equal the formulas along every dim in every dtype") {
  for (Dtype dtype : kFloating) {
    for (int dim = 0; dim < 3; ++dim) {
      const Shape shape{3, 67, 5};
      const Tensor x = random_tensor(shape, dtype, 1), g = random_tensor(shape, dtype, 2), y = Tensor::empty(shape, dtype),
                   gx = Tensor::empty(shape, dtype);
      const auto xs = numbers(x), gs = numbers(g);
      std::int64_t inner = 1;
      for (int d = dim + 1; d < 3; ++d) inner *= shape[d];
      for (const bool logarithm : {false, true}) {
        std::vector<double> wanted(xs.size()), wanted_grad(xs.size());
        cpu::softmax(x, dim, logarithm, y);
        for (std::int64_t r = 0; r < shape.numel() / shape[dim]; ++r) {
          const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(r / inner * inner * shape[dim] + r % inner + i * inner); };
          double sum = 0;
          for (std::int64_t i = 0; i < shape[dim]; ++i) sum += std::exp(xs[at(i)]);
          for (std::int64_t i = 0; i < shape[dim]; ++i) wanted[at(i)] = logarithm ? xs[at(i)] - std::log(sum) : std::exp(xs[at(i)]) / sum;
        }
        check_close(y, wanted, tolerance(dtype));
        const auto ys = numbers(y);
        for (std::int64_t r = 0; r < shape.numel() / shape[dim]; ++r) {
          const auto at = [&](std::int64_t i) { return static_cast<std::size_t>(r / inner * inner * shape[dim] + r % inner + i * inner); };
          double dot = 0;
          for (std::int64_t i = 0; i < shape[dim]; ++i) dot += logarithm ? gs[at(i)] : gs[at(i)] * ys[at(i)];
          for (std::int64_t i = 0; i < shape[dim]; ++i)
            wanted_grad[at(i)] = logarithm ? gs[at(i)] - std::exp(ys[at(i)]) * dot : ys[at(i)] * (gs[at(i)] - dot);
        }
        cpu::softmax_backward(g, y, dim, logarithm, gx);
        check_close(gx, wanted_grad, 4 * tolerance(dtype));
      }
    }
  }
}

TEST_CASE("logsumexp survives large numbers, is -inf for no element and for rows of -inf") {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::of(std::vector<float>{1000, 1000, -inf, -inf, inf, 0}, {3, 2}), out = Tensor::empty({3}, Dtype::f32);
  cpu::log_sum_exp(x, {1}, out);
  const auto v = out.values<const float>();
  CHECK(v[0] == doctest::Approx(1000 + std::log(2.0)));
  CHECK(v[1] == -inf);
  CHECK(v[2] == inf);
  const Tensor none = Tensor::empty({3}, Dtype::f32);
  cpu::log_sum_exp(Tensor::empty({3, 0}, Dtype::f32), {1}, none);
  CHECK(none.values<const float>()[2] == -inf);
}

TEST_CASE("parts of exp_sum add up to the whole and an empty part gives 0") {
  const Tensor x = random_tensor({4, 9}, Dtype::f32, 3), shift = Tensor::zeros({4}, Dtype::f32);
  const Tensor whole = Tensor::empty({4}, Dtype::f32), a = Tensor::empty({4}, Dtype::f32), b = Tensor::empty({4}, Dtype::f32),
               c = Tensor::empty({4}, Dtype::f32);
  cpu::exp_sum(x, shift, {1}, whole);
  cpu::exp_sum(x.narrow(1, 0, 5), shift, {1}, a);
  cpu::exp_sum(x.narrow(1, 5, 4), shift, {1}, b);
  cpu::exp_sum(x.narrow(1, 9, 0), shift, {1}, c);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(c.values<const float>()[i] == 0);
    CHECK(whole.values<const float>()[i] == doctest::Approx(a.values<const float>()[i] + b.values<const float>()[i]));
  }
}

TEST_CASE("layer_norm and rms_norm equal the formulas and their gradients equal central differences") {
  for (const bool rms : {false, true}) {
    const std::int64_t rows = 70, n = 37;
    const double eps = 1e-5;
    const Tensor x = random_tensor({rows, n}, Dtype::f64, 4), w = random_tensor({n}, Dtype::f64, 5), b = random_tensor({n}, Dtype::f64, 6),
                 g = random_tensor({rows, n}, Dtype::f64, 7);
    const auto bs = numbers(b), gs = numbers(g);
    const auto forward = [&](const std::vector<double>& xs, const std::vector<double>& ws) {
      std::vector<double> y(xs.size());
      for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
        const std::size_t at = r * static_cast<std::size_t>(n);
        double mean = 0, squares = 0;
        if (!rms)
          for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) mean += xs[at + i] / static_cast<double>(n);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) squares += (xs[at + i] - mean) * (xs[at + i] - mean) / static_cast<double>(n);
        for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
          y[at + i] = (xs[at + i] - mean) / std::sqrt(squares + eps) * ws[i] + (rms ? 0 : bs[i]);
      }
      return y;
    };
    const Tensor y = Tensor::empty({rows, n}, Dtype::f64), mean = Tensor::empty({rows, 1}, Dtype::f64), rstd = Tensor::empty({rows, 1}, Dtype::f64);
    const Tensor gx = Tensor::empty({rows, n}, Dtype::f64), gw = Tensor::empty({n}, Dtype::f64), gb = Tensor::empty({n}, Dtype::f64);
    if (rms) {
      cpu::rms_norm(x, n, &w, eps, y, rstd);
      cpu::rms_norm_backward(g, x, n, &w, rstd, gx, gw);
    } else {
      cpu::layer_norm(x, n, &w, &b, eps, y, mean, rstd);
      cpu::layer_norm_backward(g, x, n, &w, mean, rstd, gx, gw, gb);
      std::vector<double> wanted(static_cast<std::size_t>(n));
      for (std::size_t i = 0; i < gs.size(); ++i) wanted[i % static_cast<std::size_t>(n)] += gs[i];
      check_close(gb, wanted, 1e-10);
    }
    check_close(y, forward(numbers(x), numbers(w)), 1e-10);
    const auto loss = [&](const std::vector<double>& xs, const std::vector<double>& ws) {
      const auto ys = forward(xs, ws);
      double sum = 0;
      for (std::size_t i = 0; i < ys.size(); ++i) sum += ys[i] * gs[i];
      return sum;
    };
    const double h = 1e-5;
    for (std::size_t i : {0U, 36U, 37U, 1500U, 2589U}) {
      auto up = numbers(x), down = up;
      up[i] += h;
      down[i] -= h;
      CHECK(numbers(gx)[i] == doctest::Approx((loss(up, numbers(w)) - loss(down, numbers(w))) / (2 * h)).epsilon(1e-5));
    }
    for (std::size_t i : {0U, 17U, 36U}) {
      auto up = numbers(w), down = up;
      up[i] += h;
      down[i] -= h;
      CHECK(numbers(gw)[i] == doctest::Approx((loss(numbers(x), up) - loss(numbers(x), down)) / (2 * h)).epsilon(1e-5));
    }
    for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
      const Tensor low = x.to(dtype), out = Tensor::empty({rows, n}, dtype), m = Tensor::empty({rows, 1}, Dtype::f32),
                   s = Tensor::empty({rows, 1}, Dtype::f32);
      if (rms) cpu::rms_norm(low, n, &w, eps, out, s);
      else cpu::layer_norm(low, n, &w, &b, eps, out, m, s);
      check_close(out, forward(numbers(low), numbers(w)), tolerance(dtype));
    }
  }
}

TEST_CASE("cross entropy rows, their gradient and the target logit equal the formulas with smoothing and ignored targets") {
  const std::int64_t n = 6, c = 67;
  for (const double smoothing : {0.0, 0.25}) {
    for (Dtype dtype : kFloating) {
      const Tensor x = random_tensor({n, c, 2}, dtype, 8);
      const Tensor target = Tensor::of(std::vector<std::int64_t>{0, 66, 3, -100, 9, 9, 1, -100, 65, 2, 5, 4}, {n, 2});
      const Dtype computed = dtype == Dtype::f64 ? dtype : Dtype::f32;
      const Tensor loss = Tensor::empty({n, 2}, computed), lse = Tensor::empty({n, 2}, computed), grad = random_tensor({n, 2}, computed, 9),
                   gx = Tensor::empty({n, c, 2}, dtype);
      const Tensor picked = Tensor::empty({n, 2}, computed);
      const cpu::LossOptions options{.dim = 1, .ignore_index = -100, .label_smoothing = smoothing};
      const cpu::Classes classes{.count = c, .runs = {{0, c, 0}}};
      CHECK(!cpu::cross_entropy_rows(x, target, options, loss, lse));
      CHECK(!cpu::target_logit(x, target, classes, options, 1, picked));
      cpu::cross_entropy_backward(grad, x, target, &lse, classes, options, gx);
      const auto xs = numbers(x), gs = numbers(grad);
      const auto ts = target.values<const std::int64_t>();
      std::vector<double> wanted, wanted_pick, wanted_grad(xs.size());
      for (std::size_t r = 0; r < ts.size(); ++r) {
        const auto at = [&](std::int64_t k) {
          return static_cast<std::size_t>(static_cast<std::int64_t>(r) / 2 * 2 * c + static_cast<std::int64_t>(r) % 2 + k * 2);
        };
        double sum = 0, total = 0;
        for (std::int64_t k = 0; k < c; ++k) sum += std::exp(xs[at(k)]), total += xs[at(k)];
        const bool ignored = ts[r] == -100;
        const double pick = ignored ? 0 : (1 - smoothing) * xs[at(ts[r])] + smoothing * total / static_cast<double>(c);
        wanted.push_back(ignored ? 0 : std::log(sum) - pick);
        wanted_pick.push_back(pick);
        for (std::int64_t k = 0; k < c; ++k)
          wanted_grad[at(k)] =
              ignored ? 0 : gs[r] * (std::exp(xs[at(k)]) / sum - (k == ts[r] ? 1 - smoothing : 0) - smoothing / static_cast<double>(c));
      }
      check_close(loss, wanted, tolerance(computed));
      check_close(picked, wanted_pick, tolerance(computed));
      check_close(gx, wanted_grad, tolerance(dtype));
    }
  }
}

TEST_CASE("a target that is no class is reported, one that is elsewhere gives 0") {
  const Tensor x = random_tensor({2, 3}, Dtype::f32, 10), out = Tensor::empty({2}, Dtype::f32), lse = Tensor::empty({2}, Dtype::f32);
  CHECK(cpu::cross_entropy_rows(x, Tensor::of(std::vector<std::int64_t>{1, 3}, {2}), {}, out, lse) == 3);
  CHECK(cpu::cross_entropy_rows(x, Tensor::of(std::vector<std::int64_t>{-1, 2}, {2}), {}, out, lse) == -1);
  const cpu::Classes second_half{.count = 6, .runs = {{3, 3, 0}}};
  CHECK(!cpu::target_logit(x, Tensor::of(std::vector<std::int64_t>{1, 4}, {2}), second_half, {}, 1, out));
  CHECK(numbers(out)[0] == 0);
  CHECK(numbers(out)[1] == numbers(x)[4]);
}
