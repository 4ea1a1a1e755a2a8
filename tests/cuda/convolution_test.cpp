// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/convolution.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>

#include "dtensor/values.h"
#include "emulator.h"

using namespace dtensor;
using namespace dtensor::local;
using cpu::Convolution;

namespace {

const Device kDevice = Device::cuda(0);

Tensor numbers(const Shape& shape, Dtype dtype, int seed) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  for (std::int64_t i = 0; i < t.numel(); ++i) t.raw_as<double>()[i] = static_cast<double>((i * 7 + seed) % 11) - (info(dtype).floating ? 5.0 : 0.0);
  return t.to(dtype);
}

void same(const Tensor& device, const Tensor& host, Dtype dtype) {
  const Tensor a = device.to(Device::cpu()).to(Dtype::f64), b = host.to(Dtype::f64);
  const double tolerance = dtype == Dtype::bf16 ? 1.0 / 128 : dtype == Dtype::f16 ? 1.0 / 1024 : dtype == Dtype::f32 ? 1e-6 : 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.raw_as<double>()[i], y = b.raw_as<double>()[i];
    REQUIRE(std::abs(x - y) <= tolerance * std::max(1.0, std::abs(y)));
  }
}

struct Case {
  int spatial;
  std::int64_t samples, groups, p, q;
  Shape in, kernel, stride, padding, dilation;
};

void compare(const Case& k, Dtype dtype, bool with_bias) {
  CAPTURE(to_string(dtype));
  CAPTURE(to_string(k.in));
  CAPTURE(to_string(k.kernel));
  CAPTURE(k.groups);
  Convolution rule{.spatial = k.spatial};
  Shape image{k.samples, k.groups * k.q}, weight{k.groups * k.p, k.q}, map{k.samples, k.groups * k.p};
  for (int d = 0; d < k.spatial; ++d) {
    const auto at = static_cast<std::size_t>(3 - k.spatial + d);
    rule.stride[at] = k.stride[d], rule.padding[at] = k.padding[d], rule.dilation[at] = k.dilation[d];
    image.push_back(k.in[d]);
    weight.push_back(k.kernel[d]);
    map.push_back((k.in[d] + 2 * k.padding[d] - k.dilation[d] * (k.kernel[d] - 1) - 1) / k.stride[d] + 1);
  }
  const Tensor x = numbers(image, dtype, 1), w = numbers(weight, dtype, 2), g = numbers(map, dtype, 3), of_map = numbers({map[1]}, dtype, 4),
               of_image = numbers({image[1]}, dtype, 5);
  const auto run = [&](Device device, Tensor(&out)[3]) {
    out[0] = Tensor::empty(map, dtype, device);
    out[1] = Tensor::empty(image, dtype, device);
    out[2] = Tensor::empty(weight, dtype, device);
    const Tensor a = x.to(device), b = w.to(device), c = g.to(device), first = of_map.to(device), second = of_image.to(device);
    kernels::convolution(rule, a, b, with_bias ? &first : nullptr, out[0]);
    kernels::convolution_input_gradient(rule, c, b, with_bias ? &second : nullptr, out[1]);
    kernels::convolution_weight_gradient(rule, c, a, out[2]);
  };
  Tensor host[3], device[3];
  run(Device::cpu(), host);
  run(kDevice, device);
  for (int i = 0; i < 3; ++i) same(device[i], host[i], dtype);
}

}  // namespace

TEST_CASE("convolutions and their gradients are those of the CPU") {
  const Case cases[] = {
      {1, 3, 1, 5, 4, {33}, {3}, {1}, {1}, {1}},
      {1, 2, 2, 3, 2, {31}, {4}, {3}, {2}, {2}},
      {2, 2, 1, 8, 3, {9, 7}, {3, 2}, {2, 1}, {1, 0}, {1, 2}},
      {2, 3, 1, 6, 5, {6, 5}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {2, 3, 2, 6, 5, {6, 5}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {2, 2, 6, 1, 1, {8, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {2, 2, 3, 2, 2, {5, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
      {2, 0, 1, 2, 2, {5, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {2, 1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {2, 2, 1, 2, 0, {4, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {3, 2, 1, 3, 2, {4, 5, 6}, {2, 3, 2}, {1, 2, 1}, {0, 1, 1}, {1, 1, 2}},
  };
  for (const Case& k : cases)
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8})
      compare(k, dtype, (k.samples + static_cast<int>(dtype)) % 2 == 0);
}

TEST_CASE("samples whose windows do not fit together are added up in their order") {
  // Windows of 34 MB per sample, of which one fits.
  constexpr std::int64_t kPoints = 65537, kTaps = 64;
  const Convolution rule{.spatial = 1};
  const Tensor x = numbers({2, 1, kPoints + kTaps - 1}, Dtype::f64, 1).to(kDevice), g = numbers({2, 1, kPoints}, Dtype::f64, 3).to(kDevice),
               w = Tensor::zeros({1, 1, kTaps}, Dtype::f64, kDevice);
  cuda::emulated::taken_entries();
  kernels::convolution_weight_gradient(rule, g, x, w);
  int products = 0;
  for (const auto& e : cuda::emulated::taken_entries()) products += e.what == "launch product";
  CHECK(products == 2);
  const Tensor host = Tensor::zeros({1, 1, kTaps}, Dtype::f64);
  cpu::convolution_weight_gradient(rule, g.to(Device::cpu()), x.to(Device::cpu()), host);
  same(w, host, Dtype::f64);
}
