// SPDX-License-Identifier: Apache-2.0
// Launches of the functors of block.h. Under nvcc they are queued on the stream, elsewhere on what stands for one in tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#if !defined(__CUDACC__)
#include <functional>
#include <vector>
#endif

#include "local/cuda/block.h"
#include "local/cuda/driver.h"
#include "local/cuda/launched.h"

namespace dtensor::local::cuda {

/// Threads of a block of an elementwise launch, and its most blocks: beyond them a thread takes several elements.
inline constexpr int kElementThreads = 256;
inline constexpr std::int64_t kMostBlocks = std::int64_t{1} << 20;
/// Shared memory that every launch may have. A kernel that may need more asks the device how much there is (DeviceFacts) and has a form that fits: devices
/// of compute capability 8.6 have 99 KiB, those of 9.0 have 227.
inline constexpr std::size_t kPlainShared = 48 << 10;

#if defined(__CUDACC__)

template <class F>
__global__ void __launch_bounds__(kElementThreads) run_elements(F f, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kElementThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kElementThreads + threadIdx.x; i < count; i += step) f(i);
}
// Registers are limited to what so many threads of a block have: as many as F::kMostThreads says, otherwise any.
template <class F>
constexpr int most_threads() {
  if constexpr (requires { F::kMostThreads; }) return F::kMostThreads;
  else return 0;
}
template <class F>
__device__ void run_block(const F& f) {
  extern __shared__ int4 shared[];
  f(Block{blockIdx.x, gridDim.x, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), reinterpret_cast<std::byte*>(shared)});
}
template <class F>
__global__ void run_blocks(F f) {
  run_block(f);
}
template <class F>
__global__ void __launch_bounds__(most_threads<F>()) run_bounded_blocks(F f) {
  run_block(f);
}

/// f(i) for i in [0, count), in any order.
template <class F>
void launch_elements(const char* name, std::int64_t count, Stream stream, const F& f) {
  if (count <= 0) return;
  const std::int64_t blocks = std::min(kMostBlocks, (count + kElementThreads - 1) / kElementThreads);
  run_elements<<<static_cast<unsigned>(blocks), kElementThreads, 0, static_cast<cudaStream_t>(stream)>>>(f, count);
  check_launch(name);
}
/// f(block) for every thread of `blocks` blocks of `threads` threads with `bytes` of shared memory (fewer blocks run at once where it is much).
/// A functor that is launched with more than 256 threads says with how many at most: `static constexpr int kMostThreads`; one that is launched
/// with fewer bounds its registers by it, so that several blocks run at once.
template <class F>
void launch_blocks(const char* name, std::int64_t blocks, int threads, std::size_t bytes, Stream stream, const F& f) {
  if (blocks <= 0) return;
  void (*kernel)(F);
  if constexpr (most_threads<F>() == 0) kernel = run_blocks<F>;
  else kernel = run_bounded_blocks<F>;
  if (bytes > kPlainShared) {
    check_shared(name, bytes, stream);
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  }
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), bytes, static_cast<cudaStream_t>(stream)>>>(f);
  check_launch(name);
}

#else

namespace emulated {
/// Queues work on the stream; it runs when something waits for it.
void queue(const char* name, Stream stream, std::function<void()> work);
using ThreadBody = void (*)(const void* functor, const Block& block);
void run_block(std::int64_t index, std::int64_t blocks, int threads, std::size_t bytes, const void* functor, ThreadBody body);
/// In which order a device that has one runs `count` threads or blocks, which no result may show: the k-th that runs.
class Sequence {
 public:
  explicit Sequence(std::int64_t count);
  std::int64_t operator[](std::int64_t k) const { return mixed_.empty() ? first_ + step_ * k : mixed_[static_cast<std::size_t>(k)]; }

 private:
  std::int64_t first_ = 0, step_ = 1;
  std::vector<std::int64_t> mixed_;
};
}  // namespace emulated

template <class F>
void launch_elements(const char* name, std::int64_t count, Stream stream, const F& f) {
  if (count <= 0) return;
  emulated::queue(name, stream, [f, count] {
    const emulated::Sequence sequence(count);
    for (std::int64_t k = 0; k < count; ++k) f(sequence[k]);
  });
  check_launch(name);
}
template <class F>
void launch_blocks(const char* name, std::int64_t blocks, int threads, std::size_t bytes, Stream stream, const F& f) {
  if (blocks <= 0) return;
  if (bytes > kPlainShared) check_shared(name, bytes, stream);
  emulated::queue(name, stream, [f, blocks, threads, bytes] {
    const emulated::Sequence sequence(blocks);
    for (std::int64_t k = 0; k < blocks; ++k)
      emulated::run_block(sequence[k], blocks, threads, bytes, &f,
                          [](const void* functor, const Block& block) { (*static_cast<const F*>(functor))(block); });
  });
  check_launch(name);
}

#endif

}  // namespace dtensor::local::cuda
