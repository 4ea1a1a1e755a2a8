// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "local/cpu/gemm.h"

using namespace dtensor;
using local::cpu::gemm;
using local::cpu::GemmCall;
using local::cpu::MatrixOperand;

namespace {

// A [batch, rows, columns] operand in memory of type T with chosen strides, and its values in double.
template <class T>
struct Matrices {
  std::vector<T> memory;
  MatrixOperand operand;
  std::int64_t batch_stride;
  double at(std::int64_t b, std::int64_t i, std::int64_t j) const {
    const T& x = memory[static_cast<std::size_t>(b * batch_stride + i * operand.row + j * operand.column)];
    if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>) return static_cast<double>(static_cast<float>(x));
    else return static_cast<double>(x);
  }
};
enum class Form { plain, transposed, padded, every_second, repeated };

template <class T>
Matrices<T> make(std::int64_t batch, std::int64_t rows, std::int64_t columns, Form form, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::int64_t row = columns, column = 1;
  if (form == Form::transposed) row = 1, column = rows;
  if (form == Form::padded) row = columns + 3;
  if (form == Form::every_second) row = 2 * columns + 1, column = 2;
  if (form == Form::repeated) row = 0, column = 1;
  const std::int64_t one = (rows > 0 && columns > 0) ? (rows - 1) * row + (columns - 1) * column + 1 : 0;
  Matrices<T> m{std::vector<T>(static_cast<std::size_t>(batch * one)), {}, one};
  for (T& x : m.memory) {
    if constexpr (std::is_integral_v<T>) x = static_cast<T>(random() % 7);
    else x = static_cast<T>(static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 512.0f);
  }
  m.operand = {m.memory.data(), row, column, Shape{one}};
  return m;
}

// The greatest error in units of what the sums' type allows.
template <class T>
double error(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, Form form_a, Form form_b, bool with_addend = false) {
  const auto a = make<T>(batch, m, k, form_a, 1), b = make<T>(batch, k, n, form_b, 2), more = make<T>(batch, m, n, Form::repeated, 3);
  std::vector<T> out(static_cast<std::size_t>(batch * m * n));
  GemmCall call{
      .dtype = dtype_of<T>(), .batch = Shape{batch}, .m = m, .n = n, .k = k, .a = a.operand, .b = b.operand, .addend = {}, .out = out.data()};
  if (with_addend) {
    call.addend = more.operand;
    call.alpha = 2;
    call.beta = 3;
  }
  gemm(call);
  double worst = 0;
  const double unit = std::is_same_v<T, double>     ? 1e-15
                      : std::is_same_v<T, float>    ? 1.2e-7
                      : std::is_same_v<T, BFloat16> ? 8e-3
                      : std::is_same_v<T, Half>     ? 1e-3
                                                    : 1e-30;
  for (std::int64_t x = 0; x < batch; ++x)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0, size = 1e-30;
        for (std::int64_t p = 0; p < k; ++p) {
          sum += a.at(x, i, p) * b.at(x, p, j);
          size += std::abs(a.at(x, i, p) * b.at(x, p, j));
        }
        if (with_addend) sum = 2 * sum + 3 * more.at(x, i, j), size = 2 * size + std::abs(3 * more.at(x, i, j));
        const T& got = out[static_cast<std::size_t>((x * m + i) * n + j)];
        double value;
        if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>) value = static_cast<float>(got);
        else value = static_cast<double>(got);
        const bool half = std::is_same_v<T, BFloat16> || std::is_same_v<T, Half>;
        const double allowed = half ? unit * std::abs(sum) + 1e-6 * size : unit * size;  // one rounding of the result
        worst = std::max(worst, std::abs(value - sum) / (allowed + 1e-30));
      }
  return worst;
}

constexpr Form kForms[] = {Form::plain, Form::transposed, Form::padded, Form::every_second, Form::repeated};
struct Size {
  std::int64_t batch, m, n, k;
};
constexpr Size kSizes[] = {{1, 1, 1, 1},    {1, 5, 7, 3},       {2, 8, 8, 8},     {3, 4, 9, 17},
                           {2, 33, 65, 40}, {1, 130, 300, 300}, {1, 1, 700, 500}, {2, 600, 1, 300}};

}  // namespace

TEST_CASE_TEMPLATE("products of any strides agree with sums in double", T, double, float, BFloat16, Half) {
  for (const Size& s : kSizes)
    for (Form a : kForms)
      for (Form b : kForms) {
        if (s.m * s.n * s.k > 100000 && a != b && a != Form::plain) continue;
        CAPTURE(s.m);
        CAPTURE(s.n);
        CAPTURE(s.k);
        CAPTURE(static_cast<int>(a));
        CAPTURE(static_cast<int>(b));
        CHECK(error<T>(s.batch, s.m, s.n, s.k, a, b) < 20);
        CHECK(error<T>(s.batch, s.m, s.n, s.k, a, b, true) < 20);
      }
}

TEST_CASE_TEMPLATE("integer products are exact", T, std::int64_t, std::int32_t) {
  for (const Size& s : kSizes) {
    CHECK(error<T>(s.batch, s.m, s.n, s.k, Form::plain, Form::transposed) == 0);
    CHECK(error<T>(s.batch, s.m, s.n, s.k, Form::every_second, Form::plain, true) == 0);
  }
}

TEST_CASE("a product over no elements is zero, and the addend with one") {
  for (std::int64_t m : {1, 3, 40000}) {
    std::vector<float> out(static_cast<std::size_t>(m * 2), 7.0f), more{5.0f, 6.0f};
    GemmCall call{.dtype = Dtype::f32,
                  .batch = {},
                  .m = m,
                  .n = 2,
                  .k = 0,
                  .a = {nullptr, 0, 1, {}},
                  .b = {nullptr, 2, 1, {}},
                  .addend = {},
                  .out = out.data()};
    gemm(call);
    CHECK(std::all_of(out.begin(), out.end(), [](float x) { return x == 0.0f; }));
    call.addend = {more.data(), 0, 1, {}};
    gemm(call);
    CHECK(out[0] == 5.0f);
    CHECK(out.back() == 6.0f);
  }
}

TEST_CASE("beta 0 does not read the addend") {
  const std::vector<float> a{1, 2}, b{3, 4}, more{std::nanf("")};
  std::vector<float> out(1);
  GemmCall call{.dtype = Dtype::f32,
                .batch = {},
                .m = 1,
                .n = 1,
                .k = 2,
                .a = {a.data(), 2, 1, {}},
                .b = {b.data(), 1, 1, {}},
                .addend = {more.data(), 0, 0, {}},
                .out = out.data(),
                .alpha = 1,
                .beta = 0};
  gemm(call);
  CHECK(out[0] == 11.0f);
}

TEST_CASE("a batch that only repeats b is one product with the bits of the long matrix") {
  const auto a = make<float>(1, 6 * 40, 90, Form::plain, 1), b = make<float>(1, 90, 70, Form::transposed, 2);
  std::vector<float> whole(6 * 40 * 70), parts(whole.size());
  gemm({.dtype = Dtype::f32,
        .batch = {},
        .m = 240,
        .n = 70,
        .k = 90,
        .a = {a.memory.data(), 90, 1, {}},
        .b = {b.memory.data(), 1, 90, {}},
        .addend = {},
        .out = whole.data()});
  gemm({.dtype = Dtype::f32,
        .batch = {2, 3},
        .m = 40,
        .n = 70,
        .k = 90,
        .a = {a.memory.data(), 90, 1, {3 * 40 * 90, 40 * 90}},
        .b = {b.memory.data(), 1, 90, {0, 0}},
        .addend = {},
        .out = parts.data()});
  CHECK(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)) == 0);
}

TEST_CASE("products on several threads at once give the bits of one alone") {
  const auto a = make<float>(1, 200, 300, Form::plain, 1), b = make<float>(1, 300, 150, Form::transposed, 2);
  const auto product = [&](std::vector<float>& out) {
    gemm({.dtype = Dtype::f32,
          .batch = {},
          .m = 200,
          .n = 150,
          .k = 300,
          .a = {a.memory.data(), 300, 1, {}},
          .b = {b.memory.data(), 1, 300, {}},
          .addend = {},
          .out = out.data()});
  };
  std::vector<float> alone(200 * 150);
  product(alone);
  std::vector<int> wrong(8);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      std::vector<float> out(alone.size());
      for (int round = 0; round < 50; ++round) {
        product(out);
        wrong[static_cast<std::size_t>(t)] += std::memcmp(out.data(), alone.data(), out.size() * sizeof(float)) != 0;
      }
    });
  for (std::thread& t : threads) t.join();
  for (int count : wrong) CHECK(count == 0);
}
