// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "local/cpu/binary.h"
#include "local/cpu/map.h"
#include "local/cpu/optimizer.h"
#include "local/cpu/pointwise.h"

using namespace dtensor;
using namespace dtensor::local::cpu;

namespace {

std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Dtype::f64);
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}
Tensor random_tensor(const Shape& shape, Dtype dtype, double low, double high, unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> draw(low, high);
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& v : values) v = info(dtype).floating ? draw(engine) : std::floor(draw(engine));
  return Tensor::of<double>(values, shape).to(dtype);
}
// Distance in units of the last place of the f32 nearest to `want`.
double ulps(float got, double want) {
  const auto rounded = static_cast<float>(want);
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e9;
  if (std::isinf(rounded)) return got == rounded ? 0 : 1e9;
  const double step =
      static_cast<double>(std::nextafter(std::fabs(rounded), std::numeric_limits<float>::infinity())) - std::fabs(static_cast<double>(rounded));
  return std::fabs(static_cast<double>(got) - want) / step;
}
double erf_gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double tanh_gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

struct UnaryCase {
  Unary op;
  std::string name;
  std::function<double(double)> f;
  double low, high, ulp;
};
const std::vector<UnaryCase>& unary_cases() {
  static const std::vector<UnaryCase> cases{
      {Unary::neg, "neg", [](double x) { return -x; }, -5, 5, 0.5},
      {Unary::abs, "abs", [](double x) { return std::fabs(x); }, -5, 5, 0.5},
      {Unary::sign, "sign", [](double x) { return x > 0   ? 1.0
                                                  : x < 0 ? -1.0
                                                          : 0.0; }, -5, 5, 0},
      {Unary::exp, "exp", [](double x) { return std::exp(x); }, -110, 95, 2},
      {Unary::log, "log", [](double x) { return std::log(x); }, 1e-30, 40, 2},
      {Unary::log2, "log2", [](double x) { return std::log2(x); }, 1e-30, 40, 2},
      {Unary::log1p, "log1p", [](double x) { return std::log1p(x); }, -0.999, 20, 2.5},
      {Unary::expm1, "expm1", [](double x) { return std::expm1(x); }, -20, 20, 2},
      {Unary::sqrt, "sqrt", [](double x) { return std::sqrt(x); }, 0, 100, 0.5},
      {Unary::rsqrt, "rsqrt", [](double x) { return 1 / std::sqrt(x); }, 1e-3, 100, 1.5},
      {Unary::square, "square", [](double x) { return x * x; }, -5, 5, 0.5},
      {Unary::reciprocal, "reciprocal", [](double x) { return 1 / x; }, -5, 5, 0.5},
      {Unary::sin, "sin", [](double x) { return std::sin(x); }, -1000, 1000, 1},
      {Unary::cos, "cos", [](double x) { return std::cos(x); }, -1000, 1000, 1},
      {Unary::tan, "tan", [](double x) { return std::tan(x); }, -1.5, 1.5, 1},
      {Unary::tanh, "tanh", [](double x) { return std::tanh(x); }, -12, 12, 2.5},
      {Unary::sigmoid, "sigmoid", sigmoid_of, -80, 30, 2.5},
      {Unary::erf, "erf", [](double x) { return std::erf(x); }, -5, 5, 2},
      {Unary::floor, "floor", [](double x) { return std::floor(x); }, -5, 5, 0},
      {Unary::ceil, "ceil", [](double x) { return std::ceil(x); }, -5, 5, 0},
      {Unary::trunc, "trunc", [](double x) { return std::trunc(x); }, -5, 5, 0},
      {Unary::round, "round", [](double x) { return std::nearbyint(x); }, -5, 5, 0},
      {Unary::relu, "relu", [](double x) { return x > 0 ? x : 0.0; }, -5, 5, 0},
      {Unary::silu, "silu", [](double x) { return x * sigmoid_of(x); }, -60, 60, 4},
      {Unary::gelu, "gelu", erf_gelu, -0.5, 10, 4},
      {Unary::gelu_tanh, "gelu_tanh", tanh_gelu, -0.5, 10, 6},
  };
  return cases;
}

}  // namespace

TEST_CASE("f32 functions are within their bound of units in the last place, at every position of a row") {
  for (const UnaryCase& c : unary_cases()) {
    CAPTURE(c.name);
    const Tensor x = random_tensor({20011}, Dtype::f32, c.low, c.high);
    const Tensor out = Tensor::empty(x.shape(), Dtype::f32);
    unary(c.op, x, out);
    double worst = 0;
    float at = 0;
    for (int i = 0; i < 20011; ++i) {
      const float v = x.values<const float>()[static_cast<std::size_t>(i)];
      const double u = ulps(out.values<const float>()[static_cast<std::size_t>(i)], c.f(static_cast<double>(v)));
      if (u > worst) worst = u, at = v;
    }
    CAPTURE(at);
    CHECK(worst <= c.ulp);
  }
}

TEST_CASE("f64, bf16 and f16 follow the same functions to their precision, strided and empty inputs included") {
  for (const UnaryCase& c : unary_cases()) {
    CAPTURE(c.name);
    for (const auto& [dtype, relative] : std::vector<std::pair<Dtype, double>>{{Dtype::f64, 1e-14}, {Dtype::bf16, 0.0045}, {Dtype::f16, 0.0011}}) {
      CAPTURE(to_string(dtype));
      const Tensor x = random_tensor({9, 5, 7}, dtype, std::max(c.low, -8.0), std::min(c.high, 8.0)).transpose(0, 2);
      const Tensor out = Tensor::empty(x.shape(), dtype);
      unary(c.op, x, out);
      const auto in = doubles(x.contiguous()), got = doubles(out);
      for (std::size_t i = 0; i < in.size(); ++i) {
        const double want = c.f(in[i]);
        CHECK_MESSAGE(std::fabs(got[i] - want) <= relative * std::fabs(want) + (dtype == Dtype::f16 ? 1e-7 : 1e-15), in[i]);
      }
    }
    const Tensor none = Tensor::empty({0, 3}, Dtype::f32);
    CHECK_NOTHROW(unary(c.op, none, none));
  }
}

TEST_CASE("special values come out as in the C library") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const auto at = [](Unary op, float v) {
    const Tensor x = Tensor::of<float>(std::vector<float>{v}, {1}), out = Tensor::empty({1}, Dtype::f32);
    unary(op, x, out);
    return out.values<const float>()[0];
  };
  for (Unary op : {Unary::exp, Unary::log, Unary::log1p, Unary::tanh, Unary::sigmoid, Unary::erf, Unary::relu, Unary::sqrt, Unary::gelu, Unary::silu,
                   Unary::floor})
    CHECK(std::isnan(at(op, nan)));
  CHECK(at(Unary::exp, inf) == inf);
  CHECK(at(Unary::exp, -inf) == 0.0f);
  CHECK(at(Unary::exp, 0) == 1.0f);
  CHECK(at(Unary::exp, -100) == doctest::Approx(std::exp(-100.0)).epsilon(0.05));  // subnormal
  CHECK(at(Unary::log, 0) == -inf);
  CHECK(at(Unary::log, inf) == inf);
  CHECK(at(Unary::log, 1) == 0.0f);
  CHECK(std::isnan(at(Unary::log, -1)));
  CHECK(at(Unary::log, 1e-40f) == doctest::Approx(std::log(static_cast<double>(1e-40f))));
  CHECK(at(Unary::log1p, 1e-20f) == 1e-20f);
  CHECK(at(Unary::log1p, -1) == -inf);
  CHECK(at(Unary::log1p, inf) == inf);
  CHECK(at(Unary::tanh, inf) == 1.0f);
  CHECK(at(Unary::tanh, -inf) == -1.0f);
  CHECK(at(Unary::erf, -inf) == -1.0f);
  for (const float far : {100.0f, 1e30f, std::numeric_limits<float>::max()}) {
    CAPTURE(far);
    CHECK(at(Unary::exp, far) == inf);
    CHECK(at(Unary::exp, -2 * far) == 0.0f);
    CHECK(at(Unary::erf, far) == 1.0f);
    CHECK(at(Unary::erf, -far) == -1.0f);
    CHECK(at(Unary::gelu, far) == far);
    CHECK(at(Unary::silu, far) == far);
    CHECK(std::fabs(at(Unary::silu, -far)) <= 1e-38f);
  }
  CHECK(at(Unary::sigmoid, inf) == 1.0f);
  CHECK(at(Unary::sigmoid, -inf) == 0.0f);
  CHECK(std::signbit(at(Unary::tanh, -0.0f)));
  CHECK(std::signbit(at(Unary::neg, 0.0f)));
  CHECK(at(Unary::round, 2.5f) == 2.0f);
}

TEST_CASE("an element has the same bits wherever it stands in a tensor") {
  const Tensor x = random_tensor({300}, Dtype::f32, -3, 3);
  for (const UnaryCase& c : unary_cases()) {
    CAPTURE(c.name);
    const Tensor whole = Tensor::empty({300}, Dtype::f32);
    unary(c.op, x, whole);
    for (std::int64_t start : {1, 7, 64, 131})
      for (std::int64_t length : {1, 5, 63, 65}) {
        const Tensor part = Tensor::empty({length}, Dtype::f32);
        unary(c.op, x.narrow(0, start, length), part);
        bool same = true;
        for (std::int64_t i = 0; i < length; ++i) {
          const float a = part.values<const float>()[static_cast<std::size_t>(i)],
                      b = whole.values<const float>()[static_cast<std::size_t>(start + i)];
          same = same && (a == b || (std::isnan(a) && std::isnan(b)));
        }
        CHECK(same);
      }
  }
}

TEST_CASE("derivatives agree with central differences in double precision") {
  struct Case {
    UnaryBackward op;
    std::function<double(double)> f;
    bool of_result;
  };
  const double h = 1e-6;
  for (const Case& c :
       {Case{UnaryBackward::tanh, [](double x) { return std::tanh(x); }, true}, Case{UnaryBackward::sigmoid, sigmoid_of, true},
        Case{UnaryBackward::relu, [](double x) { return x > 0 ? x : 0; }, true}, Case{UnaryBackward::gelu, erf_gelu, false},
        Case{UnaryBackward::gelu_tanh, tanh_gelu, false}, Case{UnaryBackward::silu, [](double x) { return x * sigmoid_of(x); }, false},
        Case{UnaryBackward::softplus, [](double x) { return std::log1p(std::exp(2 * x)) / 2; }, false},
        Case{UnaryBackward::clamp, [](double x) { return std::min(std::max(x, 0.5), 2.0); }, false}}) {
    const Tensor x = random_tensor({77}, Dtype::f64, -4, 4), g = random_tensor({77}, Dtype::f64, -1, 1, 2);
    std::vector<double> results;
    for (double v : doubles(x)) results.push_back(c.of_result ? c.f(v) : v);
    const Tensor second = Tensor::of<double>(results, {77}), out = Tensor::empty({77}, Dtype::f64), out32 = Tensor::empty({77}, Dtype::f32);
    const bool soft = c.op == UnaryBackward::softplus;
    const Scalar numbers[2] = {soft ? 2.0 : 0.5, soft ? 20.0 : 2.0};
    unary_backward(c.op, g, second, out, numbers);
    unary_backward(c.op, g.to(Dtype::f32), second.to(Dtype::f32), out32, numbers);
    for (std::size_t i = 0; i < 77; ++i) {
      const double v = doubles(x)[i], want = doubles(g)[i] * (c.f(v + h) - c.f(v - h)) / (2 * h);
      CHECK(doubles(out)[i] == doctest::Approx(want).epsilon(1e-6));
      CHECK(std::fabs(doubles(out32)[i] - doubles(out)[i]) <= 2e-6);
    }
  }
}

TEST_CASE("softplus follows its definition below the threshold and is the input above it") {
  for (Dtype dtype : {Dtype::f32, Dtype::f64})
    for (const auto& [beta, threshold] : std::vector<std::pair<double, double>>{{1, 20}, {0.5, 3}, {2, -1}}) {
      const Tensor x = random_tensor({501}, dtype, -30, 30), out = Tensor::empty({501}, dtype);
      const Scalar numbers[2] = {beta, threshold};
      unary(Unary::softplus, x, out, numbers);
      for (std::size_t i = 0; i < 501; ++i) {
        const double v = doubles(x)[i], want = v * beta > threshold ? v : std::log1p(std::exp(v * beta)) / beta;
        CHECK(std::fabs(doubles(out)[i] - want) <= (dtype == Dtype::f32 ? 5e-7 : 1e-14) * std::fabs(want));
      }
    }
}

TEST_CASE("swiglu multiplies silu of the gate, and its derivatives agree with differences") {
  const Tensor gate = random_tensor({6, 11}, Dtype::f64, -4, 4), up = random_tensor({6, 11}, Dtype::f64, -2, 2, 2),
               g = random_tensor({6, 11}, Dtype::f64, -1, 1, 3);
  const Tensor out = Tensor::empty({6, 11}, Dtype::f64), gg = Tensor::empty({6, 11}, Dtype::f64), gu = Tensor::empty({6, 11}, Dtype::f64);
  swiglu(gate, up, out);
  swiglu_backward(g, gate, up, gg, gu);
  const auto f = [](double a, double b) { return a * sigmoid_of(a) * b; };
  for (std::size_t i = 0; i < 66; ++i) {
    const double a = doubles(gate)[i], b = doubles(up)[i], u = doubles(g)[i], h = 1e-6;
    CHECK(doubles(out)[i] == doctest::Approx(f(a, b)));
    CHECK(doubles(gg)[i] == doctest::Approx(u * (f(a + h, b) - f(a - h, b)) / (2 * h)).epsilon(1e-6));
    CHECK(doubles(gu)[i] == doctest::Approx(u * f(a, 1)).epsilon(1e-9));
  }
}
