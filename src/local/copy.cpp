// SPDX-License-Identifier: Apache-2.0
#include "local/copy.h"

#include <algorithm>
#include <cstring>

#include "local/parallel.h"
#include "local/stream.h"
#include "local/strided.h"

namespace dtensor::local {

namespace {

using Loop = StridedLoop<2>;

// Rows with stride 1 on both sides. memcpy goes past the caches by itself where one row is large.
void copy_rows(const Loop& loop, std::byte* dst, const std::byte* src, std::size_t bytes) {
  const auto b = static_cast<std::int64_t>(bytes);
  const bool past_caches = loop.ndim > 1 && loop.numel * b >= kStreamBytes;
  for_rows(loop, 0, loop.numel, [&](const auto& at, std::int64_t count) {
    if (past_caches) stream(dst + at[0] * b, src + at[1] * b, static_cast<std::size_t>(count) * bytes);
    else std::memcpy(dst + at[0] * b, src + at[1] * b, static_cast<std::size_t>(count) * bytes);
  });
  if (past_caches) end_stream();
}

template <std::size_t Bytes>
void copy_cells(const Loop& loop, std::byte* dst, const std::byte* src) {
  constexpr auto b = static_cast<std::int64_t>(Bytes);
  const std::int64_t ds = loop.inner_stride(0) * b, ss = loop.inner_stride(1) * b;
  for_rows(loop, 0, loop.numel, [&](const auto& at, std::int64_t count) {
    std::byte* d = dst + at[0] * b;
    const std::byte* s = src + at[1] * b;
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(d + i * ds, s + i * ss, Bytes);
  });
}

// The dimension along which the source runs, when that is not the innermost: then rows would touch one element per cache line.
int source_dim(const Loop& loop) {
  if (loop.ndim < 2 || loop.inner_stride(1) == 1) return -1;
  for (int d = 0; d < loop.ndim - 1; ++d)
    if (loop.strides[1][static_cast<std::size_t>(d)] == 1 && loop.sizes[static_cast<std::size_t>(d)] >= 4) return d;
  return -1;
}

// One cache line square: each line of source and destination is touched once, so that equal cache sets of their rows do not matter.
template <std::size_t Bytes>
void transpose_tile(std::byte* dst, std::int64_t dst_row, const std::byte* src, std::int64_t src_column) {
  constexpr std::int64_t n = 64 / Bytes, b = static_cast<std::int64_t>(Bytes);
  alignas(64) std::byte tile[n * 64];
  for (std::int64_t c = 0; c < n; ++c) std::memcpy(tile + c * 64, src + c * src_column * b, 64);
  for (std::int64_t r = 0; r < n; ++r) {
    alignas(64) std::byte line[64];
    for (std::int64_t c = 0; c < n; ++c) std::memcpy(line + c * b, tile + c * 64 + r * b, Bytes);
    std::memcpy(dst + r * dst_row * b, line, 64);
  }
}

template <std::size_t Bytes>
void transpose_plane(std::byte* dst, std::int64_t dst_row, const std::byte* src, std::int64_t src_column, std::int64_t rows, std::int64_t columns,
                     std::int64_t dst_column) {
  // As many columns at a time as the address translation of most CPUs keeps, each in its own page.
  constexpr std::int64_t n = 64 / Bytes, b = static_cast<std::int64_t>(Bytes), kBand = 64;
  for (std::int64_t band = 0; band < columns; band += kBand) {
    const std::int64_t band_end = std::min(columns, band + kBand);
    for (std::int64_t r0 = 0; r0 < rows; r0 += n)
      for (std::int64_t c0 = band; c0 < band_end; c0 += n) {
        const std::int64_t r1 = std::min(rows, r0 + n), c1 = std::min(band_end, c0 + n);
        if (dst_column == 1 && r1 - r0 == n && c1 - c0 == n) {
          transpose_tile<Bytes>(dst + (r0 * dst_row + c0) * b, dst_row, src + (r0 + c0 * src_column) * b, src_column);
          continue;
        }
        for (std::int64_t r = r0; r < r1; ++r)
          for (std::int64_t c = c0; c < c1; ++c) std::memcpy(dst + (r * dst_row + c * dst_column) * b, src + (r + c * src_column) * b, Bytes);
      }
  }
}

template <std::size_t Bytes>
void copy_transposed(const Loop& loop, int dim, std::byte* dst, const std::byte* src) {
  constexpr auto b = static_cast<std::int64_t>(Bytes);
  const auto d = static_cast<std::size_t>(dim), last = static_cast<std::size_t>(loop.ndim - 1);
  Loop outer = loop;
  outer.sizes[d] = outer.sizes[last] = 1;
  outer.numel = loop.numel / (loop.sizes[d] * loop.sizes[last]);
  for_rows(outer, 0, outer.numel, [&](const auto& at, std::int64_t) {
    transpose_plane<Bytes>(dst + at[0] * b, loop.strides[0][d], src + at[1] * b, loop.strides[1][last], loop.sizes[d], loop.sizes[last],
                           loop.strides[0][last]);
  });
}

template <std::size_t Bytes>
void copy_strided(const Loop& loop, std::byte* dst, const std::byte* src) {
  const int dim = source_dim(loop);
  if (dim >= 0) copy_transposed<Bytes>(loop, dim, dst, src);
  else copy_cells<Bytes>(loop, dst, src);
}

void copy_any_bytes(const Loop& loop, std::byte* dst, const std::byte* src, std::size_t bytes) {
  const auto b = static_cast<std::int64_t>(bytes);
  const std::int64_t ds = loop.inner_stride(0) * b, ss = loop.inner_stride(1) * b;
  for_rows(loop, 0, loop.numel, [&](const auto& at, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(dst + at[0] * b + i * ds, src + at[1] * b + i * ss, bytes);
  });
}

// Out of line, so that __restrict__ is not lost by inlining.
template <class To, class From>
[[gnu::noinline]] void convert_run(To* __restrict__ d, const From* __restrict__ s, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) d[i] = convert<To>(s[i]);
}

template <class To, class From>
void convert_rows(const Loop& loop, To* dst, const From* src) {
  const std::int64_t ds = loop.inner_stride(0), ss = loop.inner_stride(1);
  for_rows(loop, 0, loop.numel, [&](const auto& at, std::int64_t count) {
    To* d = dst + at[0];
    const From* s = src + at[1];
    if (ds == 1 && ss == 1) return convert_run(d, s, count);
    for (std::int64_t i = 0; i < count; ++i) d[i * ds] = convert<To>(s[i * ss]);
  });
}

template <class T>
void fill_rows(const StridedLoop<1>& loop, T* dst, T value, std::int64_t begin, std::int64_t end) {
  const std::int64_t stride = loop.inner_stride(0);
  for_rows(loop, begin, end, [&](const auto& at, std::int64_t count) {
    T* d = dst + at[0];
    if (stride == 1) {
      std::fill_n(d, count, value);
    } else {
      for (std::int64_t i = 0; i < count; ++i) d[i * stride] = value;
    }
  });
}

}  // namespace

void copy_box(void* dst, std::span<const std::int64_t> dst_strides, const void* src, std::span<const std::int64_t> src_strides,
              std::span<const std::int64_t> sizes, std::size_t element_bytes) {
  const Loop loop = strided_loop<2>(sizes, {dst_strides, src_strides});
  if (loop.numel == 0) return;
  auto* d = static_cast<std::byte*>(dst);
  const auto* s = static_cast<const std::byte*>(src);
  if (loop.unit()) return copy_rows(loop, d, s, element_bytes);
  switch (element_bytes) {
    case 1:
      return copy_strided<1>(loop, d, s);
    case 2:
      return copy_strided<2>(loop, d, s);
    case 4:
      return copy_strided<4>(loop, d, s);
    case 8:
      return copy_strided<8>(loop, d, s);
    default:
      return copy_any_bytes(loop, d, s, element_bytes);
  }
}

void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                 std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes) {
  if (dst_dtype == src_dtype) return copy_box(dst, dst_strides, src, src_strides, sizes, static_cast<std::size_t>(info(dst_dtype).bytes));
  const Loop loop = strided_loop<2>(sizes, {dst_strides, src_strides});
  visit_dtype(dst_dtype, [&]<class To>(std::type_identity<To>) {
    visit_dtype(src_dtype, [&]<class From>(std::type_identity<From>) { convert_rows(loop, static_cast<To*>(dst), static_cast<const From*>(src)); });
  });
}

void convert_box_parallel(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                          std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes) {
  std::int64_t numel = 1;
  for (const std::int64_t n : sizes) numel *= n;
  if (numel < 2 * kPointwiseGrain || parallel_threads() == 1) return convert_box(dst, dst_dtype, dst_strides, src, src_dtype, src_strides, sizes);
  const auto widest = static_cast<std::size_t>(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
  const std::int64_t across = numel / sizes[widest];
  parallel_for(sizes[widest], std::max<std::int64_t>(1, kPointwiseGrain / across), [&](std::int64_t begin, std::int64_t end) {
    Shape piece(sizes);
    piece[widest] = end - begin;
    const std::span<const std::int64_t> part(piece.begin(), piece.size());
    auto* d = static_cast<std::byte*>(dst) + begin * dst_strides[widest] * info(dst_dtype).bytes;
    const auto* s = static_cast<const std::byte*>(src) + begin * src_strides[widest] * info(src_dtype).bytes;
    convert_box(d, dst_dtype, dst_strides, s, src_dtype, src_strides, part);
  });
}

void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value) {
  const auto loop = strided_loop<1>(sizes, {strides});
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    const T element = convert<T>(value);
    parallel_for(loop.numel, kPointwiseGrain,
                 [&](std::int64_t begin, std::int64_t end) { fill_rows(loop, static_cast<T*>(dst), element, begin, end); });
  });
}

}  // namespace dtensor::local
