// SPDX-License-Identifier: Apache-2.0
// Values of activations, elementary functions and scans against the C library, constants of the literature and loops.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;
using Values = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

DTensor f64(const Values& values) { return from_local(Tensor::of(values, {static_cast<std::int64_t>(values.size())}), DeviceMesh::self(), {}); }
Values values_of(const DTensor& t) {
  const Tensor local = t.detach().local().to(Dtype::f64).contiguous();
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
void check_close(const Values& got, const Values& want, double tolerance = 1e-13) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO(i << ": " << got[i] << ", expected " << want[i]);
    CHECK((got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])) || std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i]))));
  }
}
/// Gradient of the sum of y by x.
DTensor gradient(const DTensor& y, const DTensor& x, bool again = false) {
  const std::vector<DTensor> outputs{y}, inputs{x}, weights{ones_like(y)};
  return grad(outputs, inputs, weights, {.retain_graph = again, .create_graph = again, .allow_unused = false})[0];
}
void alone(const std::function<void()>& body) {
  run_ranks({.ranks = 1}, [&](World&) { body(); });
}
std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const InvalidArgument& e) { return e.what(); }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("special functions give the constants of the literature") {
  alone([] {
    constexpr double kEuler = 0.57721566490153286061, kPi = 3.14159265358979323846, kZeta3 = 1.20205690315959428540;
    check_close(values_of(digamma(f64({1, 0.5, 10, -0.5}))), {-kEuler, -kEuler - 2 * std::log(2.0), 2.2517525890667211076, 0.03648997397857652056});
    check_close(values_of(polygamma(1, f64({1, 0.5, 2}))), {kPi * kPi / 6, kPi * kPi / 2, kPi * kPi / 6 - 1});
    check_close(values_of(polygamma(2, f64({1, 0.5}))), {-2 * kZeta3, -14 * kZeta3}, 1e-12);
    check_close(values_of(lgamma(f64({1, 0.5, 5, -0.5}))), {0, std::log(std::sqrt(kPi)), std::log(24.0), std::log(2 * std::sqrt(kPi))});
    check_close(values_of(sinc(f64({0, 0.5, 1}))), {1, 2 / kPi, 0});
  });
}

TEST_CASE("erfinv undoes erf and erfc, far out too, and is infinite at the ends") {
  alone([] {
    for (const double x : {-4.0, -1.0, -0.01, 0.0, 1e-8, 0.3, 2.0, 3.5}) check_close(values_of(erfinv(f64({std::erf(x)}))), {x}, 1e-9);
    const Values ends = values_of(erfinv(f64({-1, 1, 1.5})));
    CHECK(ends[0] == -kInfinity);
    CHECK(ends[1] == kInfinity);
    CHECK(std::isnan(ends[2]));
  });
}

TEST_CASE("activations follow their formulas on both sides of every kink, and keep NaN") {
  alone([] {
    const Values x{-7, -3, -1.5, -0.5, -0.1, 0, 0.1, 0.5, 1.5, 3, 7};
    const auto each = [&](const std::function<DTensor(const DTensor&)>& op, const std::function<double(double)>& formula) {
      Values want;
      for (double v : x) want.push_back(formula(v));
      check_close(values_of(op(f64(x))), want);
      CHECK(std::isnan(values_of(op(f64({std::nan("")})))[0]));
    };
    const auto soft = [](double v) { return std::log1p(std::exp(v)); };
    each([](const DTensor& t) { return elu(t, {.alpha = 0.7}); }, [](double v) { return v > 0 ? v : 0.7 * (std::exp(v) - 1); });
    each([](const DTensor& t) { return celu(t, {.alpha = 0.7}); }, [](double v) { return v > 0 ? v : 0.7 * (std::exp(v / 0.7) - 1); });
    each(selu, [](double v) { return 1.0507009873554804934 * (v > 0 ? v : 1.6732632423543772848 * (std::exp(v) - 1)); });
    each([](const DTensor& t) { return leaky_relu(t, {.negative_slope = 0.3}); }, [](double v) { return v > 0 ? v : 0.3 * v; });
    each([](const DTensor& t) { return hardtanh(t, {.min_val = -0.5, .max_val = 2}); }, [](double v) { return std::min(std::max(v, -0.5), 2.0); });
    each(relu6, [](double v) { return std::min(std::max(v, 0.0), 6.0); });
    each(mish, [&](double v) { return v * std::tanh(soft(v)); });
    each(hardswish, [](double v) { return v * std::min(std::max(v + 3, 0.0), 6.0) / 6; });
    each(hardsigmoid, [](double v) { return std::min(std::max(v + 3, 0.0), 6.0) / 6; });
    each(logsigmoid, [&](double v) { return -soft(-v); });
    each(softsign, [](double v) { return v / (1 + std::abs(v)); });
    each(tanhshrink, [](double v) { return v - std::tanh(v); });
    each([](const DTensor& t) { return softshrink(t, {.lambd = 0.5}); }, [](double v) { return v > 0.5 ? v - 0.5 : v < -0.5 ? v + 0.5 : 0; });
    each([](const DTensor& t) { return hardshrink(t, {.lambd = 0.5}); }, [](double v) { return std::abs(v) > 0.5 ? v : 0; });
    each([](const DTensor& t) { return threshold(t, 0.3, -2); }, [](double v) { return v > 0.3 ? v : -2; });
    CHECK(values_of(logsigmoid(f64({-800, 800}))) == Values{-800, 0});
  });
}

TEST_CASE("second derivatives of activations equal central differences of the first") {
  alone([] {
    const Values x{-3.7, -1.3, -0.4, 0.3, 1.1, 2.6, 5.1};
    const auto slope = [](const std::function<DTensor(const DTensor&)>& op, const Values& at) {
      const DTensor t = f64(at);
      t.set_requires_grad();
      return values_of(gradient(op(t), t));
    };
    for (const std::function<DTensor(const DTensor&)>& op :
         {std::function<DTensor(const DTensor&)>([](const DTensor& t) { return elu(t); }), std::function<DTensor(const DTensor&)>(mish),
          std::function<DTensor(const DTensor&)>(hardswish), std::function<DTensor(const DTensor&)>(logsigmoid),
          std::function<DTensor(const DTensor&)>(softsign), std::function<DTensor(const DTensor&)>(tanhshrink)}) {
      const DTensor t = f64(x);
      t.set_requires_grad();
      const DTensor first = gradient(op(t), t, true);
      const Values second = values_of(gradient(first, t));
      constexpr double kStep = 1e-6;
      Values above = x, below = x;
      for (double& v : above) v += kStep;
      for (double& v : below) v -= kStep;
      const Values high = slope(op, above), low = slope(op, below);
      for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::abs(second[i] - (high[i] - low[i]) / (2 * kStep)) < 1e-7);
    }
  });
}

TEST_CASE("functions of two numbers treat NaN, zero and infinity as PyTorch does") {
  alone([] {
    const double nan = std::nan("");
    check_close(values_of(xlogy(f64({0, 0, 2, 0}), f64({0, -1, 3, nan}))), {0, 0, 2 * std::log(3.0), nan});
    check_close(values_of(logaddexp(f64({1, -kInfinity, kInfinity, 800}), f64({2, -kInfinity, kInfinity, 801}))),
                {std::log(std::exp(1.0) + std::exp(2.0)), -kInfinity, kInfinity, 801 + std::log1p(std::exp(-1.0))});
    check_close(values_of(fmax(f64({1, nan, 3, nan}), f64({2, 2, nan, nan}))), {2, 2, 3, nan});
    check_close(values_of(fmin(f64({1, nan, 3, nan}), f64({2, 2, nan, nan}))), {1, 2, 3, nan});
    check_close(values_of(copysign(f64({1, -2, 3}), f64({-0.0, 1, -5}))), {-1, 2, -3});
    check_close(values_of(hypot(f64({3e200, 5}), f64({4e200, 12}))), {5e200, 13});
    check_close(values_of(nan_to_num(f64({nan, kInfinity, -kInfinity, 2}), {.nan = 7, .posinf = 8, .neginf = {}})),
                {7, 8, std::numeric_limits<double>::lowest(), 2});
    check_close(values_of(round(f64({0.125, -1.375, 2.5}), 2)), {0.12, -1.38, 2.5});
    check_close(values_of(round(f64({1250, -1750, 499}), -3)), {1000, -2000, 0});
  });
}

TEST_CASE("integer functions wrap, shift and divide like integers") {
  alone([] {
    const auto i64 = [](const std::vector<std::int64_t>& v) {
      return from_local(Tensor::of(v, {static_cast<std::int64_t>(v.size())}), DeviceMesh::self(), {});
    };
    CHECK(values_of(gcd(i64({12, -18, 0}), i64({18, 12, 5}))) == Values{6, 6, 5});
    CHECK(values_of(lcm(i64({4, 0, -3}), i64({6, 5, 7}))) == Values{12, 0, 21});
    CHECK(values_of(bitwise_left_shift(i64({1, 3, 1}), i64({4, 1, 64}))) == Values{16, 6, 0});
    CHECK(values_of(bitwise_right_shift(i64({16, -8, -1}), i64({2, 1, 70}))) == Values{4, -4, -1});
    CHECK(values_of(bitwise_not(i64({0, -1, 5}))) == Values{-1, 0, -6});
    CHECK(values_of(floor_divide(i64({7, -7}), i64({2, 2}))) == Values{3, -4});
    CHECK(error_of([&] { gcd(f64({1}), f64({2})); }).find("gcd") == 0);
  });
}

TEST_CASE("running products have the right gradient where factors are zero") {
  alone([] {
    const DTensor x = f64({2, 0, 3, 0, 5});
    x.set_requires_grad();
    const DTensor y = cumprod(x, 0);
    CHECK(values_of(y) == Values{2, 0, 0, 0, 0});
    // 1 + x1 + x1 x2 + x1 x2 x3 + ... by x0; x0 (1 + x2 + x2 x3 + x2 x3 x4) by x1; x0 x1 (...) by the others.
    CHECK(values_of(gradient(y, x)) == Values{1, 8, 0, 0, 0});
  });
}

TEST_CASE("running extremes keep NaN and name the last equal element") {
  alone([] {
    const ValuesIndices m = cummax(f64({1, 3, 3, 2, std::nan(""), 9}), 0);
    CHECK(values_of(m.indices) == Values{0, 1, 2, 2, 4, 4});
    check_close(values_of(m.values), {1, 3, 3, 3, std::nan(""), std::nan("")});
    check_close(values_of(logcumsumexp(f64({-kInfinity, 700, 710, -3}), 0)),
                {-kInfinity, 700, 710 + std::log1p(std::exp(-10.0)), 710 + std::log1p(std::exp(-10.0))});
  });
}

TEST_CASE("norms of every order equal their definition") {
  alone([] {
    const Values x{3, -1, 0, 2};
    const auto norm_of = [&](double p) { return values_of(vector_norm(f64(x), {.ord = p}))[0]; };
    CHECK(norm_of(0) == 3);
    CHECK(norm_of(kInfinity) == 3);
    CHECK(norm_of(-kInfinity) == 0);
    CHECK(norm_of(1) == 6);
    CHECK(norm_of(2) == doctest::Approx(std::sqrt(14.0)));
    CHECK(norm_of(3) == doctest::Approx(std::cbrt(36.0)));
    CHECK(norm_of(0.5) == doctest::Approx(std::pow(std::sqrt(3.0) + 1 + std::sqrt(2.0), 2)));
    CHECK(norm_of(-1) == 0);
    const DTensor vector = f64(x);
    const Input inputs[1] = {vector};
    const std::pair<std::string_view, Attribute> nuclear[] = {{"p", "nuc"}};
    CHECK(error_of([&] { call_named(find_op("norm"), inputs, nuclear); }) ==
          "norm: ord 'nuc' is the sum of singular values, which are not computed here; give a number, inf, -inf or fro");
  });
}
