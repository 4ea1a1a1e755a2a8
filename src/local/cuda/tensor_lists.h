// SPDX-License-Identifier: Apache-2.0
// Kernels over lists of tensors of any floating dtypes: the list is the kernel's argument, every block takes a chunk of one tensor. Dtypes are branches that
// all threads of a block take alike.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "dtensor/half.h"
#include "dtensor/tensor.h"
#include "local/cuda/map.h"

namespace dtensor::local::cuda {

/// Bytes that a kernel's arguments may have.
inline constexpr std::size_t kMostArgument = 32764;
/// Elements of one block: enough for its search of the list to cost nothing, few enough for the last blocks to end together.
inline constexpr std::int64_t kChunk = 1 << 14;
inline std::int64_t chunks_of(std::int64_t count) { return (count + kChunk - 1) / kChunk; }
/// Elements of a thread at a time: two vectors of 16 bytes of what it computes in, one of a 16-bit type.
template <class T>
inline constexpr int kLanes = 32 / static_cast<int>(sizeof(T));

/// The last of the parts that begin (`first`, in chunks) at or before a block.
template <class P>
DTENSOR_DEVICE_INLINE const P& part_of(const P* parts, int count, std::int64_t block) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (parts[middle].first <= block) low = middle;
    else high = middle;
  }
  return parts[low];
}

/// Of `count` elements (kChunk at most) those of a thread: neighbours, which may be read as vectors where `aligned`, or as far apart as there are threads.
/// The places of those that are not there stand for the first one.
template <int width>
struct Lanes {
  std::uint32_t at[width], there = 0;
  bool any, whole;
  DTENSOR_DEVICE_INLINE Lanes(bool neighbours, bool aligned, int count, const Block& block) {
    const int first = neighbours ? block.thread * width : block.thread, apart = neighbours ? 1 : block.threads;
    any = first < count;
    whole = neighbours && aligned && first + width <= count;
    DTENSOR_UNROLL
    for (int n = 0; n < width; ++n) {
      const bool is_there = first + n * apart < count;
      at[n] = static_cast<std::uint32_t>(is_there ? first + n * apart : first);
      if (is_there) there |= 1u << n;
    }
  }
};

/// A thread's elements of one tensor as memory has them: all tensors are read before the first is looked at, or every read would wait for the one before.
using Words = std::uint32_t[8];
template <class M, int width>
DTENSOR_DEVICE_INLINE void read_words(const std::byte* data, bool whole, const std::uint32_t (&at)[width], Words& words) {
  constexpr int kAll = static_cast<int>(sizeof(M)) * width / 4, kPack = kAll < 4 ? kAll : 4;
  if (whole) {
    const auto* vectors = reinterpret_cast<const detail::Pack<std::uint32_t, kPack>*>(data + at[0] * sizeof(M));
    DTENSOR_UNROLL
    for (int v = 0; v < kAll / kPack; ++v) {
      as_vector(sizeof vectors[v]);
      const auto vector = vectors[v];
      DTENSOR_UNROLL
      for (int i = 0; i < kPack; ++i) words[v * kPack + i] = vector.at[i];
    }
    return;
  }
  const M* memory = reinterpret_cast<const M*>(data);
  DTENSOR_UNROLL
  for (int n = 0; n < width; ++n) {
    if constexpr (sizeof(M) == 2) {
      const std::uint32_t bits = std::bit_cast<std::uint16_t>(memory[at[n]]);
      words[n / 2] = n % 2 == 0 ? bits : words[n / 2] | bits << 16;
    } else if constexpr (sizeof(M) == 4) {
      words[n] = std::bit_cast<std::uint32_t>(memory[at[n]]);
    } else {
      const auto bits = std::bit_cast<std::uint64_t>(memory[at[n]]);
      words[2 * n] = static_cast<std::uint32_t>(bits);
      words[2 * n + 1] = static_cast<std::uint32_t>(bits >> 32);
    }
  }
}
template <class M, int width, class T>
DTENSOR_DEVICE_INLINE void from_words(const Words& words, T (&to)[width]) {
  DTENSOR_UNROLL
  for (int n = 0; n < width; ++n) {
    M value;
    if constexpr (sizeof(M) == 2) value = std::bit_cast<M>(static_cast<std::uint16_t>(words[n / 2] >> 16 * (n % 2)));
    else if constexpr (sizeof(M) == 4) value = std::bit_cast<M>(words[n]);
    else value = std::bit_cast<M>(words[2 * n] | std::uint64_t{words[2 * n + 1]} << 32);
    to[n] = cast<T>(value);
  }
}
template <class T, int width>
DTENSOR_DEVICE_INLINE void read_floating(Dtype dtype, const std::byte* data, std::int64_t from, bool whole, const std::uint32_t (&at)[width],
                                         Words& words) {
  switch (dtype) {
    case Dtype::f64:
      if constexpr (std::is_same_v<T, double>) {
        read_words<double>(data + from * 8, whole, at, words);
      } else {  // as many as that have no room as they are
        T values[width];
        detail::load_as<width, double>(data + from * 8, whole, at, values);
        DTENSOR_UNROLL
        for (int n = 0; n < width; ++n) words[n] = std::bit_cast<std::uint32_t>(values[n]);
      }
      return;
    case Dtype::bf16:
      return read_words<BFloat16>(data + from * 2, whole, at, words);
    case Dtype::f16:
      return read_words<Half>(data + from * 2, whole, at, words);
    default:
      return read_words<float>(data + from * 4, whole, at, words);
  }
}
template <int width, class T>
DTENSOR_DEVICE_INLINE void convert_floating(Dtype dtype, const Words& words, T (&to)[width]) {
  switch (dtype) {
    case Dtype::f64:
      return from_words<T>(words, to);  // T is double, or the words have been made float
    case Dtype::bf16:
      return from_words<BFloat16>(words, to);
    case Dtype::f16:
      return from_words<Half>(words, to);
    default:
      return from_words<float>(words, to);
  }
}
template <int width, class T>
DTENSOR_DEVICE_INLINE void store_floating(Dtype dtype, std::byte* data, std::int64_t from, bool whole, const std::uint32_t (&at)[width],
                                          std::uint32_t there, const T (&values)[width]) {
  switch (dtype) {
    case Dtype::f64:
      return detail::store_as<width, double>(data + from * 8, whole, at, there, values);
    case Dtype::bf16:
      return detail::store_as<width, BFloat16>(data + from * 2, whole, at, there, values);
    case Dtype::f16:
      return detail::store_as<width, Half>(data + from * 2, whole, at, there, values);
    default:
      return detail::store_as<width, float>(data + from * 4, whole, at, there, values);
  }
}

/// One run of memory in the same order for all.
inline bool is_flat(std::span<const Tensor* const> tensors) {
  const Tensor& first = *tensors[0];
  if (std::all_of(tensors.begin(), tensors.end(), [](const Tensor* t) { return t->is_contiguous(); })) return true;
  if (std::any_of(tensors.begin(), tensors.end(), [&](const Tensor* t) { return !(t->strides() == first.strides()); })) return false;
  const std::array<std::span<const std::int64_t>, 1> strides{first.strides()};
  const auto loop = strided_loop<1>(first.shape(), strides);
  return loop.ndim == 1 && loop.unit();
}
inline bool is_aligned(std::span<const Tensor* const> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const Tensor* t) { return reinterpret_cast<std::uintptr_t>(t->raw()) % 16 == 0; });
}

}  // namespace dtensor::local::cuda
