// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/error.h"
#include "local/kernels/reduce.h"
#include "local/kernels/scan_parts.h"
#include "local/kernels/scans.h"

using namespace dtensor;
namespace kernels = local::kernels;
using local::cpu::ScanOp;
using test::kGpu;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

struct Case {
  Shape shape;
  int dim;
};
// Lines for threads and for warps, of one chunk and of several.
const std::vector<Case> kCases{{{}, 0},           {{0}, 0},       {{1}, 0},         {{31}, 0},         {{33}, 0},      {{257}, 0},
                               {{2500}, 0},       {{3, 0}, 1},    {{0, 3}, 1},      {{5, 7}, 0},       {{5, 7}, 1},    {{3, 200}, 1},
                               {{2, 300, 17}, 1}, {{400, 33}, 0}, {{2, 3, 129}, 2}, {{2, 2100, 2}, 1}, {{2, 9, 20}, 1}};

// Factors near 1, so that long products neither vanish nor explode.
Tensor factors(const Shape& shape, Dtype dtype, std::uint32_t seed) {
  std::vector<double> values = test::doubles(test::random_tensor(shape, Dtype::f64, seed));
  for (double& v : values) v = info(dtype).floating ? std::copysign(1 + v / 200, v) : std::round(v);
  return Tensor::of(values, shape).to(dtype);
}
// Of long lines the error grows with their length.
double limit(Dtype dtype, std::int64_t n) { return dtype == Dtype::f64 ? 1e-12 * static_cast<double>(n + 1) : test::tolerance(dtype); }

template <class Run>
void compare(const Case& c, Dtype from, Dtype to, const std::string& what, const Run& run, const Tensor& x) {
  const Tensor host = Tensor::empty(c.shape, to), device = Tensor::empty(c.shape, to, kGpu);
  run(x, host);
  run(x.to(kGpu), device);
  INFO(what << " " << to_string(from) << " " << to_string(to) << " " << to_string(c.shape) << " " << c.dim);
  CHECK(test::worst(host, device) <= limit(to, c.shape.numel()));
}

}  // namespace

TEST_CASE("running sums and products are those of the CPU") {
  if (test::no_device()) return;
  for (const Case& c : kCases)
    for (Dtype from : {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::i64, Dtype::u8, Dtype::boolean}) {
      const Dtype to = info(from).floating ? from : Dtype::i64;
      const Tensor x = test::random_tensor(c.shape, from, 1);
      for (bool reverse : {false, true})
        compare(
            c, from, to, "sum", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_sum(in, c.dim, reverse, out); }, x);
      compare(
          c, from, to, "product", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_product(in, c.dim, out); },
          factors(c.shape, from, 2));
    }
}

TEST_CASE("a running sum into another dtype is rounded as on the CPU") {
  if (test::no_device()) return;
  const Case c{{3, 40}, 1};
  const Tensor x = test::random_tensor(c.shape, Dtype::f32, 3), whole = test::random_tensor(c.shape, Dtype::i32, 3);
  compare(
      c, Dtype::f32, Dtype::i32, "sum", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_sum(in, 1, false, out); }, x);
  compare(
      c, Dtype::i32, Dtype::f32, "sum", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_sum(in, 1, false, out); }, whole);
}

TEST_CASE("running log-sums and gradients are those of the CPU") {
  if (test::no_device()) return;
  for (const Case& c : kCases)
    for (Dtype dtype : {Dtype::f64, Dtype::bf16}) {
      const Tensor x = test::random_tensor(c.shape, dtype, 4), g = test::random_tensor(c.shape, dtype, 5), f = factors(c.shape, dtype, 6);
      compare(
          c, dtype, dtype, "log sum", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_log_sum(in, c.dim, out); }, x);
      const Tensor y = Tensor::empty(c.shape, dtype);
      kernels::cumulative_log_sum(x, c.dim, y);
      const auto there = [](const Tensor& like, const Tensor& t) { return t.to(like.device()); };
      compare(
          c, dtype, dtype, "log sum gradient",
          [&](const Tensor& in, const Tensor& out) { kernels::cumulative_log_sum_backward(there(out, g), in, there(out, y), c.dim, out); }, x);
      if (c.shape.numel() == 0) continue;
      compare(
          c, dtype, dtype, "product gradient",
          [&](const Tensor& in, const Tensor& out) { kernels::cumulative_product_backward(there(out, g), in, c.dim, out); }, f);
    }
}

TEST_CASE("infinities, NaN and zeros show in scans and their gradients where they show on the CPU") {
  if (test::no_device()) return;
  for (const std::vector<double>& special :
       {std::vector<double>{kInf}, {-kInf}, {kNan}, {0, 0}, {kInf, -kInf}, {kNan, kInf, 0}, {-kInf, -kInf, -kInf}})
    for (const Case& c : {Case{{3, 400}, 1}, Case{{300, 20}, 0}})
      for (std::size_t at : {std::size_t{0}, std::size_t{170}}) {
        std::vector<double> values = test::doubles(factors(c.shape, Dtype::f64, 7));
        for (std::size_t k = 0; k < special.size(); ++k) values[at + k * 37] = special[k];
        const Tensor x = Tensor::of(values, c.shape), g = test::random_tensor(c.shape, Dtype::f64, 8);
        const auto there = [](const Tensor& like, const Tensor& t) { return t.to(like.device()); };
        compare(
            c, Dtype::f64, Dtype::f64, "product", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_product(in, c.dim, out); }, x);
        compare(
            c, Dtype::f64, Dtype::f64, "log sum", [&](const Tensor& in, const Tensor& out) { kernels::cumulative_log_sum(in, c.dim, out); }, x);
        compare(
            c, Dtype::f64, Dtype::f64, "product gradient",
            [&](const Tensor& in, const Tensor& out) { kernels::cumulative_product_backward(there(out, g), in, c.dim, out); }, x);
        const Tensor y = Tensor::empty(c.shape, Dtype::f64);
        kernels::cumulative_log_sum(x, c.dim, y);
        compare(
            c, Dtype::f64, Dtype::f64, "log sum gradient",
            [&](const Tensor& in, const Tensor& out) { kernels::cumulative_log_sum_backward(there(out, g), in, there(out, y), c.dim, out); }, x);
      }
}

TEST_CASE("running extremes and their places are those of the CPU, ties, NaN and gradients too") {
  if (test::no_device()) return;
  for (const Case& c : kCases)
    for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64})
      for (bool largest : {false, true})
        for (bool nan : {false, true}) {
          if (nan && (!info(dtype).floating || c.shape.numel() < 30)) continue;
          std::vector<double> values = test::doubles(test::random_tensor(c.shape, Dtype::f64, 9));
          for (double& v : values) v = std::round(v * 2) / 2;
          if (nan) values[values.size() / 2] = values[values.size() / 3] = kNan;
          const Tensor x = Tensor::of(values, c.shape).to(dtype), g = test::random_tensor(c.shape, Dtype::f64, 10);
          const Tensor v = Tensor::empty(c.shape, dtype), i = Tensor::empty(c.shape, Dtype::i64), grad = Tensor::empty(c.shape, Dtype::f64);
          const Tensor v2 = Tensor::empty(c.shape, dtype, kGpu), i2 = Tensor::empty(c.shape, Dtype::i64, kGpu),
                       grad2 = Tensor::empty(c.shape, Dtype::f64, kGpu);
          kernels::cumulative_extreme(x, c.dim, largest, v, i);
          kernels::cumulative_extreme(x.to(kGpu), c.dim, largest, v2, i2);
          CHECK(test::worst(v, v2) == 0);
          CHECK(test::worst(i, i2) == 0);
          kernels::cumulative_extreme_backward(g, i, c.dim, grad);
          kernels::cumulative_extreme_backward(g.to(kGpu), i2, c.dim, grad2);
          CHECK(test::worst(grad, grad2) <= 1e-11);
        }
  const Tensor wrong = Tensor::of(std::vector<std::int64_t>{0, 3}, {2}).to(kGpu), out = Tensor::empty({2}, Dtype::f32, kGpu);
  kernels::cumulative_extreme_backward(Tensor::zeros({2}, Dtype::f32, kGpu), wrong, 0, out);
  CHECK_THROWS_AS(out.to(Device::cpu()), Error);
}

TEST_CASE("parts of a dimension are scanned as on the CPU") {
  if (test::no_device()) return;
  const std::vector<std::int64_t> bounds{2, 40, 41, 3000}, starts{0, 50, 3100};
  for (const Case& c : {Case{{3150}, 0}, Case{{3, 3150, 2}, 1}, Case{{3150, 20}, 0}})
    for (ScanOp op : {ScanOp::sum, ScanOp::product, ScanOp::min, ScanOp::max, ScanOp::log_sum})
      for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::i64}) {
        if (op == ScanOp::log_sum && !info(dtype).floating) continue;
        INFO(static_cast<int>(op) << " " << to_string(dtype) << " " << to_string(c.shape));
        const Tensor x = op == ScanOp::product ? factors(c.shape, dtype, 11) : test::random_tensor(c.shape, dtype, 11);
        const Tensor turned = x.ndim() > 1 ? x.transpose(0, 1).contiguous().transpose(0, 1) : x;
        Shape shape = c.shape;
        shape[c.dim] = 4;
        const local::cpu::ScanCall totals_of{op, c.dim, false, bounds, 4000, {{3000, 1000}, {30, 20}, {100, 2130}}};
        const Tensor totals = Tensor::empty(shape, dtype), totals_there = Tensor::empty(shape, dtype, kGpu);
        kernels::scan_totals(totals_of, turned, totals);
        kernels::scan_totals(totals_of, turned.to(kGpu), totals_there);
        CHECK(test::worst(totals, totals_there) <= limit(dtype, 4000));
        for (bool reverse : {false, true}) {
          shape[c.dim] = 3;
          const std::vector<local::cpu::ScanCall> calls{{op, c.dim, reverse, starts, 3150, {{50, 3050}, {0, 50}, {3100, 50}}}};
          const Tensor before = op == ScanOp::product ? factors(shape, dtype, 12) : test::random_tensor(shape, dtype, 12);
          compare(
              c, dtype, dtype, "scan from",
              [&](const Tensor& in, const Tensor& out) { kernels::scan_from(calls[0], in, before.to(out.device()), out); }, turned);
        }
      }
}
