// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "compared.h"
#include "dtensor/error.h"
#include "local/kernels/losses.h"

using namespace dtensor;
using namespace compared;
namespace cpu = local::cpu;
namespace kernels = local::kernels;

namespace {

struct Case {
  Shape shape;
  int dim;
};
const Case kCases[] = {{{1}, 0},       {{7}, 0},        {{0, 3}, 1},    {{5, 1}, 1},       {{40, 7}, 1},      {{3, 33}, 1},      {{9, 256}, 1},
                       {{2, 1001}, 1}, {{1, 40000}, 1}, {{4, 5, 3}, 1}, {{2, 257, 32}, 1}, {{3, 2, 5, 4}, 1}, {{1, 20000, 2}, 1}};

Shape rows_of(const Case& c) {
  Shape rows;
  for (int d = 0; d < c.shape.ndim(); ++d)
    if (d != c.dim) rows.push_back(c.shape[d]);
  return rows;
}
// Every fifth is ignored.
Tensor targets(const Shape& rows, std::int64_t classes) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(rows.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 5 == 3 ? -100 : static_cast<std::int64_t>(i * 37 + 11) % classes;
  return Tensor::of(values, rows);
}
Dtype computed(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

// loss, log_sum, gradient with and without log_sum, logit of the target among classes in two pieces.
std::vector<Tensor> results(const Tensor& x, const Tensor& target, const Tensor& grad, int dim, double smoothing) {
  const std::int64_t n = x.shape()[dim];
  const Dtype wide = computed(x.dtype());
  const auto rows = [&](Dtype dtype) { return Tensor::empty(target.shape(), dtype, x.device()); };
  const Tensor loss = rows(wide), log_sum = rows(wide), logit = rows(wide), slopes = Tensor::empty(x.shape(), x.dtype(), x.device()),
               plain = Tensor::empty(x.shape(), x.dtype(), x.device());
  const cpu::LossOptions options{.dim = dim, .label_smoothing = smoothing};
  const cpu::Classes all{.count = n, .runs = {{0, n, 0}}};
  const std::int64_t half = n / 2, count = 2 * n;
  const cpu::Classes some{.count = count, .runs = {{0, half, 0}, {count - (n - half), n - half, half}}};
  CHECK(!kernels::cross_entropy_rows(x, target, options, loss, log_sum));
  kernels::cross_entropy_backward(grad, x, target, &log_sum, all, options, slopes);
  kernels::cross_entropy_backward(grad, x, target, nullptr, some, options, plain);
  CHECK(!kernels::target_logit(x, target, some, options, -2, logit));
  return {loss, log_sum, slopes, plain, logit};
}

}  // namespace

TEST_CASE("losses per row, their gradients and the target's logit give the CPU's numbers for every length, dim, dtype and alignment") {
  for (Dtype dtype : kFloating)
    for (const Case& c : kCases)
      for (double smoothing : {0.0, 0.2}) {
        const Shape rows = rows_of(c);
        const Tensor x = random(c.shape, dtype, 1, -5, 5), target = targets(rows, c.shape[c.dim]), grad = random(rows, computed(dtype), 2);
        const std::vector<Tensor> on_host = results(x, target, grad, c.dim, smoothing);
        for (std::int64_t offset : {0, 1}) {
          const std::vector<Tensor> device = results(there(x, offset), there(target), there(grad), c.dim, smoothing);
          for (std::size_t i = 0; i < on_host.size(); ++i)
            check_close(device[i], on_host[i], to_string(dtype) + to_string(c.shape) + " result " + std::to_string(i),
                        on_host[i].dtype() == Dtype::f32 ? 1e-4 : 0);
        }
      }
}

TEST_CASE("targets that count are counted") {
  for (std::int64_t n : {0, 1, 5, 100000}) {
    const Tensor target = targets({n}, 9), a = Tensor::empty({}, Dtype::f32), b = Tensor::empty({}, Dtype::f32, kGpu);
    kernels::count_targets(target, -100, a);
    kernels::count_targets(there(target, 1), -100, b);
    CHECK(numbers(a) == numbers(b));
  }
}

TEST_CASE("a target that is no class is an error of a later call, with the text of the CPU") {
  const Tensor x = there(random({3, 4}, Dtype::f32, 1)), out = Tensor::empty({3}, Dtype::f32, kGpu), log_sum = Tensor::empty({3}, Dtype::f32, kGpu);
  const Tensor wrong = there(Tensor::of(std::vector<std::int64_t>{1, 9, -100}, {3}));
  CHECK(!kernels::cross_entropy_rows(x, wrong, {.op = "cross_entropy"}, out, log_sum));
  CHECK_THROWS_WITH_AS(out.to(Device::cpu()), "cross_entropy: target 9 is out of range (4 classes); give 0 .. 3 or ignore_index", Error);
  CHECK(!kernels::target_logit(x, wrong, {.count = 8, .runs = {{4, 4, 0}}}, {.op = "nll_loss"}, 1, out));
  CHECK_THROWS_WITH_AS(out.to(Device::cpu()), "nll_loss: target 9 is out of range (8 classes); give 0 .. 7 or ignore_index", Error);
  CHECK(numbers(out).size() == 3);
}
