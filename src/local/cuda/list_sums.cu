// SPDX-License-Identifier: Apache-2.0
// Sums of squares of many tensors in two launches: of every chunk, then of the chunks of every tensor, both in a fixed order.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "local/cuda/table.h"
#include "local/cuda/tensor_lists.h"
#include "local/kernels/optimizer.h"

namespace dtensor::local::cuda {
namespace {

using cpu::SquareSumCall;

// A list is as long as a kernel's argument allows; a short one costs less to launch.
constexpr int kShort = 8, kLong = 1024, kNumbers = 2048;

struct Source {
  const std::byte* data;
  std::int64_t count;
  std::uint32_t first;  // chunk
  Dtype dtype;
  bool aligned;
};
struct Sum {
  std::byte* data;
  std::uint32_t first, chunks;
  Dtype dtype;
};
struct Add {
  template <class T>
  DTENSOR_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};

template <class T>
DTENSOR_DEVICE void put(std::byte* data, Dtype dtype, T value) {
  switch (dtype) {
    case Dtype::f64:
      *reinterpret_cast<double*>(data) = cast<double>(value);
      break;
    case Dtype::bf16:
      *reinterpret_cast<BFloat16*>(data) = cast<BFloat16>(value);
      break;
    case Dtype::f16:
      *reinterpret_cast<Half*>(data) = cast<Half>(value);
      break;
    default:
      *reinterpret_cast<float*>(data) = cast<float>(value);
  }
}

template <class T, int room>
struct ChunkKernel {
  static constexpr int kMostThreads = kElementThreads;
  T* sums = nullptr;  // of every chunk
  int sources = 0;
  Source source[room];

  DTENSOR_DEVICE void operator()(const Block& block) const {
    constexpr int width = kLanes<T>;
    const Source& s = part_of(source, sources, block.index);
    const std::int64_t begin = (block.index - s.first) * kChunk;
    const int count = static_cast<int>(s.count - begin < kChunk ? s.count - begin : kChunk);
    T sum[width] = {};
    for (int done = 0; done < count; done += block.threads * width) {
      const Lanes<width> lanes(true, s.aligned, count - done, block);  // the order of the sum must not depend on the address
      if (!lanes.any) break;
      Words words;
      T x[width];
      read_floating<T>(s.dtype, s.data, begin + done, lanes.whole, lanes.at, words);
      convert_floating(s.dtype, words, x);
      DTENSOR_UNROLL
      for (int n = 0; n < width; ++n)
        if ((lanes.there >> n & 1) != 0) sum[n] += x[n] * x[n];
    }
    DTENSOR_UNROLL
    for (int half = width / 2; half > 0; half /= 2)
      for (int n = 0; n < half; ++n) sum[n] += sum[n + half];
    const T all = reduce_block(block, sum[0], T(0), Add());
    if (block.thread == 0) sums[block.index] = all;
  }
};
template <class T, int room>
struct SumKernel {
  const T* chunks = nullptr;
  Sum sum[room];

  DTENSOR_DEVICE void operator()(const Block& block) const {
    const Sum& s = sum[block.index];
    T value = T(0);
    for (std::uint32_t i = static_cast<std::uint32_t>(block.thread); i < s.chunks; i += static_cast<std::uint32_t>(block.threads))
      value += chunks[s.first + i];
    const T all = reduce_block(block, value, T(0), Add());
    if (block.thread == 0) put(s.data, s.dtype, all);
  }
};

template <class T, int room>
void launch_sums(RankDevice& device, std::span<const Source> sources, std::span<const Sum> sums, std::int64_t chunks) {
  constexpr std::size_t kShared = kWarp * sizeof(T);
  static_assert(sizeof(ChunkKernel<T, room>) <= kMostArgument && sizeof(SumKernel<T, room>) <= kMostArgument);
  const Scratch scratch(device, static_cast<std::size_t>(std::max<std::int64_t>(1, chunks)) * sizeof(T));
  ChunkKernel<T, room> of_chunks;
  of_chunks.sums = scratch.as<T>();
  of_chunks.sources = static_cast<int>(sources.size());
  std::copy(sources.begin(), sources.end(), of_chunks.source);
  launch_blocks("square_sum", chunks, kElementThreads, kShared, device.current, of_chunks);
  SumKernel<T, room> of_sums;
  of_sums.chunks = scratch.as<T>();
  std::copy(sums.begin(), sums.end(), of_sums.sum);
  launch_blocks("square_sum", static_cast<std::int64_t>(sums.size()), kElementThreads, kShared, device.current, of_sums);
}

template <class T>
void square_sums_in(std::span<const SquareSumCall> calls) {
  std::vector<Source> sources;
  std::vector<Sum> sums;
  std::vector<Tensor> copies;
  std::int64_t chunks = 0;
  const auto launch = [&] {
    if (sums.empty()) return;
    RankDevice& device = rank_device(calls[0].output);
    if (sums.size() <= static_cast<std::size_t>(kShort)) launch_sums<T, kShort>(device, sources, sums, chunks);
    else launch_sums<T, kLong>(device, sources, sums, chunks);
    sources.clear(), sums.clear(), copies.clear();
    chunks = 0;
  };
  for (const SquareSumCall& c : calls) {
    if ((c.output.dtype() == Dtype::f64) != std::is_same_v<T, double>) continue;
    const Tensor* input = &c.input;
    if (const Tensor * given[] = {input}; !is_flat(given)) input = &copies.emplace_back(input->contiguous());
    const std::int64_t of_this = chunks_of(input->numel());
    sums.push_back(
        {static_cast<std::byte*>(c.output.raw()), static_cast<std::uint32_t>(chunks), static_cast<std::uint32_t>(of_this), c.output.dtype()});
    const Tensor* read[] = {input};
    if (of_this > 0)
      sources.push_back(
          {static_cast<const std::byte*>(input->raw()), input->numel(), static_cast<std::uint32_t>(chunks), input->dtype(), is_aligned(read)});
    chunks += of_this;
    if (sums.size() == static_cast<std::size_t>(kLong)) launch();
  }
  launch();
}
void square_sums(std::span<const SquareSumCall> calls) {
  square_sums_in<float>(calls);
  square_sums_in<double>(calls);
}

template <class T>
struct NumbersKernel {
  static constexpr int kMostThreads = kElementThreads;
  T* output = nullptr;
  int count = 0;
  bool adds = false;  // to what is there
  const T* number[kNumbers];

  DTENSOR_DEVICE void operator()(const Block& block) const {
    double sum = 0;
    for (int i = block.thread; i < count; i += block.threads) sum += static_cast<double>(*number[i]);
    sum = reduce_block(block, sum, 0.0, Add());
    if (block.thread == 0) *output = static_cast<T>(adds ? static_cast<double>(*output) + sum : sum);
  }
};
template <class T>
void sum_numbers_in(std::span<const Tensor* const> numbers, const Tensor& output) {
  RankDevice& device = rank_device(output);
  bool adds = false;
  do {
    const std::size_t count = std::min<std::size_t>(numbers.size(), kNumbers);
    NumbersKernel<T> kernel;
    kernel.output = output.raw_as<T>();
    kernel.count = static_cast<int>(count);
    kernel.adds = adds;
    for (std::size_t i = 0; i < count; ++i) kernel.number[i] = numbers[i]->raw_as<T>();
    launch_blocks("sum_numbers", 1, kElementThreads, kWarp * sizeof(double), device.current, kernel);
    numbers = numbers.subspan(count);
    adds = true;
  } while (!numbers.empty());
}
void sum_numbers(std::span<const Tensor* const> numbers, const Tensor& output) {
  if (output.dtype() == Dtype::f64) sum_numbers_in<double>(numbers, output);
  else sum_numbers_in<float>(numbers, output);
}

}  // namespace

void install_list_sums() {
  kernels::square_sums.cuda = square_sums;
  kernels::sum_numbers.cuda = sum_numbers;
}

}  // namespace dtensor::local::cuda
