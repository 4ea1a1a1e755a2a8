// SPDX-License-Identifier: Apache-2.0
// What device code is written with. A kernel is a functor: `f(i)` for every element of a range, or `f(block)` for every thread of every block. The same
// source is compiled by nvcc for the device, and by a C++ compiler for tests, which run it on the host thread by thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "local/device_code.h"

namespace dtensor::local::cuda {

/// Threads that exchange values without shared memory.
inline constexpr int kWarp = 32;

/// The block of the calling thread. One-dimensional; the number of threads is a multiple of kWarp, so that whole warps meet.
struct Block {
  std::int64_t index = 0;       ///< of this block
  std::int64_t blocks = 1;      ///< in the launch
  int thread = 0;               ///< within the block
  int threads = kWarp;          ///< of the block
  std::byte* memory = nullptr;  ///< shared by the block's threads, 16-byte aligned, as many bytes as the launch asked for

  DTENSOR_DEVICE int lane() const { return thread % kWarp; }
  DTENSOR_DEVICE int warp() const { return thread / kWarp; }
  DTENSOR_DEVICE int warps() const { return threads / kWarp; }
  template <class T>
  DTENSOR_DEVICE T* shared() const {
    return reinterpret_cast<T*>(memory);
  }
  /// All threads of the block meet; what they wrote to shared memory before is seen after.
  DTENSOR_DEVICE void sync() const;
  /// The value of lane() ^ mask. All threads of the warp call it. T: 4 or 8 bytes.
  template <class T>
  DTENSOR_DEVICE T from_lane_xor(T value, int mask) const;
  /// The value of a lane.
  template <class T>
  DTENSOR_DEVICE T from_lane(T value, int lane) const;
  /// The value of lane() - distance; the own one where that is below 0.
  template <class T>
  DTENSOR_DEVICE T from_lane_below(T value, int distance) const;
};

#if defined(__CUDACC__)

__host__ __device__ inline void Block::sync() const {
#if defined(__CUDA_ARCH__)
  __syncthreads();
#endif
}
template <class T>
__host__ __device__ T Block::from_lane_xor(T value, int mask) const {
#if defined(__CUDA_ARCH__)
  return __shfl_xor_sync(0xffffffffu, value, mask);
#else
  return value;
#endif
}
template <class T>
__host__ __device__ T Block::from_lane(T value, int lane) const {
#if defined(__CUDA_ARCH__)
  return __shfl_sync(0xffffffffu, value, lane);
#else
  return value;
#endif
}
template <class T>
__host__ __device__ T Block::from_lane_below(T value, int distance) const {
#if defined(__CUDA_ARCH__)
  return __shfl_up_sync(0xffffffffu, value, distance);
#else
  return value;
#endif
}

#else

/// Of the program that runs kernels on the host.
namespace emulated {
void sync();
void exchange(const void* mine, void* theirs, std::size_t bytes, int from_lane);
/// What every lane of the warp offers, one after the other. At most 32 bytes.
void gather(const void* mine, void* all, std::size_t bytes);
void count_vector(std::size_t bytes);
}  // namespace emulated

inline void Block::sync() const { emulated::sync(); }
template <class T>
T Block::from_lane_xor(T value, int mask) const {
  T other;
  emulated::exchange(&value, &other, sizeof(T), lane() ^ mask);
  return other;
}
template <class T>
T Block::from_lane(T value, int lane) const {
  T other;
  emulated::exchange(&value, &other, sizeof(T), lane);
  return other;
}
template <class T>
T Block::from_lane_below(T value, int distance) const {
  T other;
  emulated::exchange(&value, &other, sizeof(T), lane() >= distance ? lane() - distance : lane());
  return other;
}

#endif

/// Said by device code that reads or writes a vector of so many bytes of the device's memory at once: emulated devices count them.
DTENSOR_DEVICE_INLINE void as_vector([[maybe_unused]] std::size_t bytes) {
#if !defined(__CUDACC__)
  emulated::count_vector(bytes);
#endif
}

/// combine(combine(x of thread 0, thread 1, ...)) in a fixed order, known to every thread of the block. `memory` is used: kWarp elements of T.
template <class T, class Combine>
DTENSOR_DEVICE T reduce_block(const Block& block, T value, T neutral, Combine combine) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = combine(value, block.from_lane_xor(value, mask));
  if (block.warps() == 1) return value;
  T* of_warps = block.shared<T>();
  block.sync();
  if (block.lane() == 0) of_warps[block.warp()] = value;
  block.sync();
  value = block.lane() < block.warps() ? of_warps[block.lane()] : neutral;
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = combine(value, block.from_lane_xor(value, mask));
  return value;
}

}  // namespace dtensor::local::cuda
