// SPDX-License-Identifier: Apache-2.0
// Atomic operations on integers: those whose result does not depend on their order.
#pragma once

#include <cstdint>

#include "local/cuda/block.h"

namespace dtensor::local::cuda {

DTENSOR_DEVICE inline void atomic_add(std::int64_t* to, std::int64_t value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
#else
  *to += value;
#endif
}
DTENSOR_DEVICE inline void atomic_add(std::int32_t* to, std::int32_t value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(to, value);
#else
  *to += value;
#endif
}
DTENSOR_DEVICE inline void atomic_max(std::int64_t* to, std::int64_t value) {
#if defined(__CUDA_ARCH__)
  atomicMax(reinterpret_cast<long long*>(to), static_cast<long long>(value));
#else
  *to = *to < value ? value : *to;
#endif
}

}  // namespace dtensor::local::cuda
