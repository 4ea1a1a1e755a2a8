// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/linear_cross_entropy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/error.h"
#include "emulator.h"

using namespace dtensor;
using namespace dtensor::local;

namespace {

const Device kDevice = Device::cuda(0);

Tensor numbers(const Shape& shape, Dtype dtype, int seed, double scale) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  for (std::int64_t i = 0; i < t.numel(); ++i) t.raw_as<double>()[i] = scale * (static_cast<double>((i * 37 + seed) % 101) - 50);
  return t.to(dtype);
}
Dtype computed(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

void same(const Tensor& device, const Tensor& host, double tolerance) {
  const Tensor a = device.to(Device::cpu()).to(Dtype::f64), b = host.to(Dtype::f64);
  REQUIRE(a.shape() == b.shape());
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.raw_as<double>()[i], y = b.raw_as<double>()[i];
    REQUIRE((x == y || std::abs(x - y) <= tolerance * std::max(1.0, std::abs(y))));
  }
}

struct Results {
  Tensor top, sums, logit, loss, lse, grad_input, grad_weight;
};

Results run(Device device, Dtype dtype, std::int64_t rows, std::int64_t classes, std::int64_t width, const cpu::LinearClasses& c) {
  const Tensor x = numbers({rows, width}, dtype, 1, 0.02).to(device), w = numbers({classes, width}, dtype, 2, 0.01).to(device),
               up = numbers({rows}, computed(dtype), 3, 0.1).to(device), host = Tensor::empty({rows}, Dtype::i64);
  for (std::int64_t i = 0; i < rows; ++i) host.raw_as<std::int64_t>()[i] = i % 5 == 4 ? c.ignore_index : i * 13 % c.classes.count;
  const Tensor target = host.to(device);
  const auto numbers_of_rows = [&] { return Tensor::empty({rows}, computed(dtype), device); };
  Results r{numbers_of_rows(),
            numbers_of_rows(),
            numbers_of_rows(),
            numbers_of_rows(),
            numbers_of_rows(),
            Tensor::empty({rows, width}, dtype, device),
            Tensor::empty({classes, width}, dtype, device)};
  kernels::linear_row_max(x, w, r.top);
  kernels::linear_exp_sum(c, x, w, target, r.top, r.sums, r.logit);
  kernels::linear_cross_entropy(c, x, w, target, r.loss, r.lse);
  kernels::linear_cross_entropy_backward(c, up, x, w, target, r.lse, r.grad_input, r.grad_weight);
  return r;
}

void compare(Dtype dtype, std::int64_t rows, std::int64_t classes, std::int64_t width, const cpu::LinearClasses& c) {
  CAPTURE(to_string(dtype));
  CAPTURE(rows);
  CAPTURE(classes);
  CAPTURE(width);
  const Results host = run(Device::cpu(), dtype, rows, classes, width, c), device = run(kDevice, dtype, rows, classes, width, c);
  const double wide = dtype == Dtype::f64 ? 1e-12 : dtype == Dtype::f32 ? 1e-5 : dtype == Dtype::bf16 ? 0.02 : 2e-3;
  same(device.top, host.top, wide);
  same(device.sums, host.sums, wide);
  same(device.logit, host.logit, wide);
  same(device.loss, host.loss, wide);
  same(device.lse, host.lse, wide);
  same(device.grad_input, host.grad_input, wide);
  same(device.grad_weight, host.grad_weight, wide * 4);
}

}  // namespace

TEST_CASE("losses of linear classes are those of the CPU, in chunks too") {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16})
    for (std::int64_t classes : {1, 7, 33, 256, 1001})
      for (std::int64_t rows : {0, 1, 6}) compare(dtype, rows, classes, 9, {.classes = {.count = classes, .runs = {{0, classes, 0}}}});
  compare(Dtype::f32, 0, 5, 3, {.classes = {.count = 5, .runs = {{0, 5, 0}}}});
  compare(Dtype::f32, 8200, 3, 2, {.classes = {.count = 3, .runs = {{0, 3, 0}}}});
}

TEST_CASE("of classes on several ranks those that are here count") {
  compare(Dtype::f32, 9, 4, 3, {.classes = {.count = 11, .runs = {{3, 2, 0}, {7, 2, 2}}}, .ignore_index = 5});
  compare(Dtype::f32, 9, 0, 3, {.classes = {.count = 11, .runs = {}}});
}

TEST_CASE("a target that is no class is said at the next call, without a wait before") {
  const cpu::LinearClasses c{.classes = {.count = 3, .runs = {{0, 3, 0}}}};
  const Tensor x = numbers({2, 2}, Dtype::f32, 1, 1).to(kDevice), w = numbers({3, 2}, Dtype::f32, 1, 1).to(kDevice),
               target = Tensor::of<std::int64_t>(std::vector<std::int64_t>{1, 3}, Shape{2}).to(kDevice),
               loss = Tensor::empty({2}, Dtype::f32, kDevice), lse = Tensor::empty({2}, Dtype::f32, kDevice);
  cuda::emulated::taken_entries();
  kernels::linear_cross_entropy(c, x, w, target, loss, lse);
  for (const auto& e : cuda::emulated::taken_entries()) CHECK(e.what.find("host waits") == std::string::npos);
  CHECK_THROWS_WITH_AS(loss.to(Device::cpu()), "linear_cross_entropy: target 3 is out of range (3 classes); give 0 .. 2 or ignore_index", Error);
}
