// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "local/cpu/binary.h"
#include "local/cpu/map.h"
#include "local/cpu/optimizer.h"

using namespace dtensor;
using namespace dtensor::local::cpu;

namespace {

std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Dtype::f64);
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}
Tensor random_tensor(const Shape& shape, Dtype dtype, double low, double high, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> draw(low, high);
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& v : values) v = info(dtype).floating ? draw(engine) : std::floor(draw(engine));
  return Tensor::of<double>(values, shape).to(dtype);
}
std::vector<std::int64_t> integers(const Tensor& t) {
  const Tensor d = t.to(Dtype::i64);
  const auto v = d.values<const std::int64_t>();
  return {v.begin(), v.end()};
}
std::vector<std::int64_t> integer_op(Binary op, const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b, Dtype dtype = Dtype::i64,
                                     Scalar alpha = 1) {
  const Shape shape{static_cast<std::int64_t>(a.size())};
  const Tensor x = Tensor::of<std::int64_t>(a, shape).to(dtype), y = Tensor::of<std::int64_t>(b, shape).to(dtype), out = Tensor::empty(shape, dtype);
  binary(op, x, y, out, &alpha);
  return integers(out);
}

}  // namespace

TEST_CASE("sums broadcast every pattern of shapes and strides like an index loop") {
  struct Case {
    Shape a, b, out;
  };
  for (const Case& c : {Case{{5, 7}, {5, 7}, {5, 7}}, Case{{5, 7}, {7}, {5, 7}}, Case{{5, 1}, {1, 300}, {5, 300}}, Case{{4, 1, 3}, {2, 1}, {4, 2, 3}},
                        Case{{200, 3}, {3}, {200, 3}}, Case{{}, {}, {}}, Case{{1}, {}, {1}}, Case{{3, 1, 1}, {1, 4, 1}, {3, 4, 1}},
                        Case{{0, 3}, {3}, {0, 3}}, Case{{2, 2, 2, 2, 70}, {2, 1, 2, 1, 70}, {2, 2, 2, 2, 70}}}) {
    for (const bool transposed : {false, true}) {
      CAPTURE(to_string(c.out));
      Tensor a = random_tensor(c.a, Dtype::f32, -2, 2, 1), b = random_tensor(c.b, Dtype::bf16, -2, 2, 2);
      Tensor out = Tensor::zeros(c.out, Dtype::f64);
      if (transposed && c.out.ndim() >= 2 && c.a.ndim() == c.out.ndim()) {  // the same values behind other strides
        a = a.transpose(0, c.out.ndim() - 1).contiguous().transpose(0, c.out.ndim() - 1);
        out = out.transpose(0, 1).contiguous().transpose(0, 1);
      }
      const Scalar alpha = 0.5;
      binary(Binary::add, a, b, out, &alpha);
      const auto x = doubles(a.expand(c.out)), y = doubles(b.expand(c.out)), got = doubles(out);
      for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == x[i] + 0.5 * y[i]);
    }
  }
}

TEST_CASE("arithmetic of every dtype pair computes in the results' type") {
  for (Dtype a : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean})
    for (Dtype b : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean}) {
      const Dtype type = promote(a, b);
      const Tensor x = random_tensor({83}, a, 0, 9, 1), y = random_tensor({83}, b, 1, 9, 2), out = Tensor::empty({83}, type);
      binary(Binary::mul, x, y, out);
      const auto p = doubles(x), q = doubles(y), got = doubles(out);
      const double relative = type == Dtype::bf16 ? 0.004 : type == Dtype::f16 ? 0.0005 : 1e-7;
      for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::fabs(got[i] - p[i] * q[i]) <= relative * std::fabs(p[i] * q[i]));
    }
}

TEST_CASE("a number stands for a tensor filled with it, on either side") {
  const Tensor x = random_tensor({3, 100}, Dtype::f32, 1, 3, 1), out = Tensor::empty({3, 100}, Dtype::f32);
  const Scalar one = 1;
  binary(Binary::sub, Scalar(10), x, out, &one);
  for (std::size_t i = 0; i < 300; ++i) CHECK(out.values<const float>()[i] == 10.0f - x.values<const float>()[i]);
  binary(Binary::div, x, Scalar(4), out);
  for (std::size_t i = 0; i < 300; ++i) CHECK(out.values<const float>()[i] == x.values<const float>()[i] / 4.0f);
}

TEST_CASE("integers wrap around, divide with the sign conventions and refuse zero") {
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  CHECK(integer_op(Binary::add, {kMin, 1}, {-1, 2}) == std::vector<std::int64_t>{std::numeric_limits<std::int64_t>::max(), 3});
  CHECK(integer_op(Binary::sub, {200}, {250}, Dtype::u8) == std::vector<std::int64_t>{206});
  CHECK(integer_op(Binary::div_floor, {7, -7, 7, -7, 6, kMin}, {2, 2, -2, -2, 3, -1}) == std::vector<std::int64_t>{3, -4, -4, 3, 2, kMin});
  CHECK(integer_op(Binary::div_trunc, {7, -7, 7, -7}, {2, 2, -2, -2}) == std::vector<std::int64_t>{3, -3, -3, 3});
  CHECK(integer_op(Binary::remainder, {7, -7, 7, -7, kMin}, {3, 3, -3, -3, -1}) == std::vector<std::int64_t>{1, 2, -2, -1, 0});
  CHECK(integer_op(Binary::fmod, {7, -7, 7, -7}, {3, 3, -3, -3}) == std::vector<std::int64_t>{1, -1, 1, -1});
  CHECK(integer_op(Binary::pow, {3, -2, 7, 1, 2}, {4, 3, 0, -5, -1}) == std::vector<std::int64_t>{81, -8, 1, 1, 0});
  CHECK(integer_op(Binary::add, {1, 2}, {10, 20}, Dtype::i32, -3) == std::vector<std::int64_t>{-29, -58});
  CHECK(integer_op(Binary::bitwise_xor, {6, 1}, {3, 1}) == std::vector<std::int64_t>{5, 0});
  CHECK(integer_op(Binary::add, {1, 1, 0}, {1, 0, 0}, Dtype::boolean) == std::vector<std::int64_t>{1, 1, 0});
  CHECK_THROWS_AS(integer_op(Binary::div_floor, {1}, {0}), std::domain_error);
  CHECK_THROWS_AS(integer_op(Binary::remainder, {1}, {0}), std::domain_error);
}

TEST_CASE("floating quotients round down or towards zero and remainders take the sign of the divisor") {
  struct Case {
    Binary op;
    std::function<double(double, double)> f;
  };
  for (Dtype dtype : {Dtype::f32, Dtype::f64})
    for (const Case& c : {Case{Binary::div_floor, [](double a, double b) { return std::floor(a / b); }},
                          Case{Binary::div_trunc, [](double a, double b) { return std::trunc(a / b); }},
                          Case{Binary::remainder, [](double a, double b) { return a - b * std::floor(a / b); }},
                          Case{Binary::fmod, [](double a, double b) { return std::fmod(a, b); }},
                          Case{Binary::atan2, [](double a, double b) { return std::atan2(a, b); }},
                          Case{Binary::maximum, [](double a, double b) { return std::max(a, b); }},
                          Case{Binary::minimum, [](double a, double b) { return std::min(a, b); }},
                          Case{Binary::pow, [](double a, double b) { return std::pow(std::fabs(a), b); }}}) {
      const bool pow = c.op == Binary::pow;
      const Tensor a = random_tensor({101}, dtype, pow ? 0.1 : -9, 9, 1), b = random_tensor({101}, dtype, pow ? -2 : 0.3, 3, 2),
                   out = Tensor::empty({101}, dtype);
      binary(c.op, a, b, out);
      for (std::size_t i = 0; i < 101; ++i) CHECK(doubles(out)[i] == doctest::Approx(c.f(doubles(a)[i], doubles(b)[i])).epsilon(1e-5));
    }
}

TEST_CASE("comparisons give bool, with NaN unequal to all and not less than any") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor a = Tensor::of<float>(std::vector<float>{1, 2, 3, nan}, {4}), b = Tensor::of<float>(std::vector<float>{2, 2, 2, nan}, {4});
  const auto run = [&](Compare op) {
    const Tensor out = Tensor::empty({4}, Dtype::boolean);
    compare(op, a, b, Dtype::f32, out);
    return integers(out);
  };
  using V = std::vector<std::int64_t>;
  CHECK(run(Compare::eq) == V{0, 1, 0, 0});
  CHECK(run(Compare::ne) == V{1, 0, 1, 1});
  CHECK(run(Compare::lt) == V{1, 0, 0, 0});
  CHECK(run(Compare::le) == V{1, 1, 0, 0});
  CHECK(run(Compare::gt) == V{0, 0, 1, 0});
  CHECK(run(Compare::ge) == V{0, 1, 1, 0});
  const Scalar tolerances[3] = {0.5, 0.1, 1.0};
  const Tensor out = Tensor::empty({4}, Dtype::boolean);
  compare(Compare::isclose, a, b, Dtype::f32, out, tolerances);
  CHECK(integers(out) == V{1, 1, 1, 1});
  const Tensor big = Tensor::of<std::int64_t>(std::vector<std::int64_t>{(std::int64_t{1} << 53) + 1}, {1}), o = Tensor::empty({1}, Dtype::boolean);
  compare(Compare::eq, big, Scalar(std::int64_t{1} << 53), Dtype::i64, o);
  CHECK(integers(o) == V{0});
}

TEST_CASE("where selects between tensors and numbers") {
  const Tensor condition = Tensor::of<std::int64_t>(std::vector<std::int64_t>{1, 0, 1}, {3, 1}).to(Dtype::boolean);
  const Tensor x = random_tensor({3, 70}, Dtype::f32, -1, 1, 1), out = Tensor::empty({3, 70}, Dtype::f32);
  where(condition, x, Scalar(5), out);
  for (std::size_t i = 0; i < 210; ++i) CHECK(out.values<const float>()[i] == (i / 70 == 1 ? 5.0f : x.values<const float>()[i]));
}

TEST_CASE("an in-place result may be its own input") {
  const Tensor x = random_tensor({3, 70}, Dtype::bf16, -1, 1, 1);
  const auto before = doubles(x);
  binary(Binary::mul, x, Scalar(2), x);
  ternary(Ternary::clamp, x, Scalar(-1.0), Scalar(1.0), x);
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(doubles(x)[i] == std::min(1.0, std::max(-1.0, 2 * before[i])));
}

TEST_CASE("conversion keeps values and fills in the target's terms") {
  const Tensor x = Tensor::of<double>(std::vector<double>{-2.7, 0, 3.9, 1e9}, {4}), i = Tensor::empty({4}, Dtype::i64),
               b = Tensor::empty({4}, Dtype::boolean);
  convert(x, i);
  CHECK(integers(i) == std::vector<std::int64_t>{-2, 0, 3, 1000000000});
  convert(x, b);
  CHECK(integers(b) == std::vector<std::int64_t>{1, 0, 1, 1});
  for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean}) {
    const Tensor t = Tensor::empty({3, 100}, dtype);
    fill(t.narrow(1, 0, 60), 1);
    fill(t.narrow(1, 60, 40), 0);
    const auto v = doubles(t);
    for (std::size_t k = 0; k < 300; ++k) CHECK(v[k] == (k % 100 < 60 ? 1.0 : 0.0));
  }
}

TEST_CASE("adam and sgd steps follow their definitions over several steps") {
  for (Dtype dtype : {Dtype::f64, Dtype::f32})
    for (const int variant : {0, 1, 2, 3, 4, 5, 6, 7}) {
      const bool decoupled = (variant & 1) != 0, amsgrad = (variant & 2) != 0, maximize = (variant & 4) != 0;
      const std::int64_t n = 70;
      const Tensor p = random_tensor({n}, dtype, -1, 1, 1), m = Tensor::zeros({n}, dtype), v = Tensor::zeros({n}, dtype), q = p.clone(),
                   buffer = Tensor::zeros({n}, dtype), largest = amsgrad ? Tensor::zeros({n}, dtype) : Tensor();
      auto wp = doubles(p), wq = wp;
      std::vector<double> wm(wp.size(), 0), wv(wp.size(), 0), wl(wp.size(), 0), wb(wp.size(), 0);
      for (int step = 1; step <= 4; ++step) {
        const Tensor g = random_tensor({n}, dtype, -1, 1, static_cast<unsigned>(10 + step));
        const auto dg = doubles(g);
        const AdamCall adam[] = {{p,
                                  g,
                                  m,
                                  v,
                                  largest,
                                  {.lr = 0.01,
                                   .beta1 = 0.9,
                                   .beta2 = 0.99,
                                   .eps = 1e-6,
                                   .weight_decay = 0.1,
                                   .step = static_cast<double>(step),
                                   .decoupled = decoupled,
                                   .maximize = maximize}}};
        const SgdCall sgd[] = {
            {q,
             g,
             buffer,
             {.lr = 0.1, .momentum = 0.9, .dampening = 0.2, .weight_decay = 0.01, .nesterov = true, .maximize = maximize, .first = step == 1}}};
        adam_steps(adam);
        sgd_steps(sgd);
        for (std::size_t i = 0; i < wp.size(); ++i) {
          const double towards = maximize ? -dg[i] : dg[i], grad = towards + (decoupled ? 0 : 0.1 * wp[i]);
          if (decoupled) wp[i] -= 0.01 * 0.1 * wp[i];
          wm[i] = 0.9 * wm[i] + 0.1 * grad;
          wv[i] = 0.99 * wv[i] + 0.01 * grad * grad;
          wl[i] = std::max(wl[i], wv[i]);
          wp[i] -= 0.01 * (wm[i] / (1 - std::pow(0.9, step))) / (std::sqrt((amsgrad ? wl[i] : wv[i]) / (1 - std::pow(0.99, step))) + 1e-6);
          const double sg = towards + 0.01 * wq[i];
          wb[i] = step == 1 ? sg : 0.9 * wb[i] + 0.8 * sg;
          wq[i] -= 0.1 * (sg + 0.9 * wb[i]);
        }
      }
      const double tolerance = dtype == Dtype::f64 ? 1e-13 : 2e-6;
      for (std::size_t i = 0; i < wp.size(); ++i) {
        CHECK(std::fabs(doubles(p)[i] - wp[i]) <= tolerance);
        CHECK(std::fabs(doubles(v)[i] - wv[i]) <= tolerance);
        CHECK(std::fabs(doubles(q)[i] - wq[i]) <= tolerance);
      }
    }
}
