// SPDX-License-Identifier: Apache-2.0
// Tensors for tests that hold a kernel of a device beside the CPU's.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "dtensor/cuda.h"
#include "dtensor/tensor.h"
#if !defined(DTENSOR_REAL_DEVICE)
#include "emulator.h"
#endif

namespace dtensor::test {

inline const Device kGpu = Device::cuda(0);
/// Says so, once.
inline bool no_device() {
  static const bool none = [] {
    const CudaInfo here = cuda_info();
    if (here.devices.empty()) MESSAGE("SKIPPED: " << here.why_none);
    return here.devices.empty();
  }();
  return none;
}
/// Of a kernel's launch: on emulated devices the host must not wait in it.
template <class F>
void without_waits(const F& kernel) {
#if defined(DTENSOR_REAL_DEVICE)
  kernel();
#else
  local::cuda::emulated::taken_entries();
  kernel();
  for (const auto& entry : local::cuda::emulated::taken_entries()) CHECK(entry.what.find("waits") == std::string::npos);
#endif
}

/// Multiples of 1 / 64 in (-4, 4); of 1 for integers.
inline Tensor random_tensor(const Shape& shape, Dtype dtype, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (double& x : values) x = static_cast<double>(static_cast<int>(random() % 511) - 255) / 64;
  return Tensor::of<double>(values, shape).to(dtype);
}

/// How a tensor lies in memory.
enum class Lie { row_major, shifted, padded, transposed };
inline constexpr Lie kLies[] = {Lie::row_major, Lie::shifted, Lie::padded, Lie::transposed};

/// A tensor of the shape on a device: one element behind an aligned address, rows apart by an odd number, the last two dimensions the other way round.
inline Tensor lying(const Shape& shape, Dtype dtype, Device device, Lie lie) {
  const int n = shape.ndim();
  if (lie == Lie::shifted) return Tensor::empty({shape.numel() + 1}, dtype, device).narrow(0, 1, shape.numel()).view(shape);
  if (n < 2 || lie == Lie::row_major) return Tensor::empty(shape, dtype, device);
  Shape memory = shape;
  if (lie == Lie::padded) {
    memory[n - 1] += 3;
    return Tensor::empty(memory, dtype, device).narrow(n - 1, 0, shape[n - 1]);
  }
  std::swap(memory[n - 1], memory[n - 2]);
  return Tensor::empty(memory, dtype, device).transpose(n - 2, n - 1);
}
inline Tensor laid(const Tensor& t, Device device, Lie lie) {
  const Tensor result = lying(t.shape(), t.dtype(), device, lie);
  result.copy_(t.to(device));
  return result;
}

inline std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Device::cpu()).to(Dtype::f64).contiguous();
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}
/// The greatest difference, of elements above `least` as a part of them, of others as a part of it; 1e9 where one is NaN or infinite and the other not so.
inline double worst(const Tensor& a, const Tensor& b, double least = 1) {
  const auto x = doubles(a), y = doubles(b);
  if (x.size() != y.size() || a.dtype() != b.dtype()) return 1e9;
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const double difference = std::abs(x[i] - y[i]) / std::max(least, std::abs(x[i]));
    most = std::max(most, std::isfinite(difference) ? difference : 1e9);
  }
  return most;
}
inline double tolerance(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return 1e-11;
    case Dtype::f32:
      return 1e-5;
    case Dtype::bf16:
      return 1.0 / 128;
    case Dtype::f16:
      return 1.0 / 1024;
    default:
      return 0;
  }
}
inline constexpr Dtype kFloating[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16};

}  // namespace dtensor::test
