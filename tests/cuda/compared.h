// SPDX-License-Identifier: Apache-2.0
// Inputs and comparisons of tests that run a local function on a device and on the CPU.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/tensor.h"

namespace compared {

using dtensor::Device;
using dtensor::Dtype;
using dtensor::Shape;
using dtensor::Tensor;

inline const Device kGpu = Device::cuda(0);
inline constexpr Dtype kFloating[] = {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16};

/// Numbers in [low, high), the same for the same seed.
inline Tensor random(const Shape& shape, Dtype dtype, std::uint64_t seed, double low = -1, double high = 1) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (double& v : t.values<double>()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = low + (high - low) * static_cast<double>(state >> 11) * 0x1p-53;
  }
  return t.to(dtype);
}

/// A copy on the device whose first element lies `offset` elements behind an aligned address.
inline Tensor there(const Tensor& t, std::int64_t offset = 0) {
  const Tensor memory = Tensor::empty({t.numel() + offset}, t.dtype(), kGpu), part = memory.narrow(0, offset, t.numel()).view(t.shape());
  part.copy_(t.to(kGpu));
  return part;
}
inline std::vector<double> numbers(const Tensor& t) {
  const Tensor wide = t.to(Device::cpu()).to(Dtype::f64);
  const auto v = wide.values<const double>();
  return {v.begin(), v.end()};
}
inline double tolerance(Dtype dtype) {
  return dtype == Dtype::f64 ? 1e-11 : dtype == Dtype::bf16 ? 1.0 / 100 : dtype == Dtype::f16 ? 1.0 / 800 : 2e-5;
}

/// Elements agree to `limit` times the larger of 1 and their size; integers exactly.
inline void check_close(const Tensor& device, const Tensor& cpu, const std::string& what, double limit = 0) {
  const std::vector<double> a = numbers(device), b = numbers(cpu);
  REQUIRE(a.size() == b.size());
  if (limit == 0 && dtensor::info(cpu.dtype()).floating) limit = tolerance(cpu.dtype());
  std::string wrong;
  for (std::size_t i = 0; i < a.size() && wrong.empty(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    if (!(std::abs(a[i] - b[i]) <= limit * std::max(1.0, std::abs(b[i]))))
      wrong = "element " + std::to_string(i) + ": " + std::to_string(a[i]) + ", on the CPU " + std::to_string(b[i]);
  }
  INFO(what);
  CHECK(wrong == "");
}

}  // namespace compared
