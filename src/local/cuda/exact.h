// SPDX-License-Identifier: Apache-2.0
// Double arithmetic that rounds after every operation: what the host computes without fused multiply-add, bit for bit.
#pragma once

#include <cmath>

#include "local/cuda/block.h"

namespace dtensor::local::cuda {

struct Exact {
  double value = 0;
  DTENSOR_DEVICE Exact(double v = 0) : value(v) {}  // NOLINT: numbers are meant
  DTENSOR_DEVICE explicit operator double() const { return value; }
  DTENSOR_DEVICE Exact operator-() const { return -value; }
#if defined(__CUDA_ARCH__)
  friend __device__ Exact operator+(Exact a, Exact b) { return __dadd_rn(a.value, b.value); }
  friend __device__ Exact operator-(Exact a, Exact b) { return __dsub_rn(a.value, b.value); }
  friend __device__ Exact operator*(Exact a, Exact b) { return __dmul_rn(a.value, b.value); }
  friend __device__ Exact operator/(Exact a, Exact b) { return __ddiv_rn(a.value, b.value); }
  static __device__ Exact root(Exact a) { return __dsqrt_rn(a.value); }
#else
  // The host compiles this with -ffp-contract=off.
  friend DTENSOR_DEVICE Exact operator+(Exact a, Exact b) { return a.value + b.value; }
  friend DTENSOR_DEVICE Exact operator-(Exact a, Exact b) { return a.value - b.value; }
  friend DTENSOR_DEVICE Exact operator*(Exact a, Exact b) { return a.value * b.value; }
  friend DTENSOR_DEVICE Exact operator/(Exact a, Exact b) { return a.value / b.value; }
  static DTENSOR_DEVICE Exact root(Exact a) { return std::sqrt(a.value); }
#endif
};

}  // namespace dtensor::local::cuda
