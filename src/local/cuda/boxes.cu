// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/boxes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>

#include "local/cpu/map.h"
#include "local/cuda/group_boxes.h"
#include "local/cuda/launch.h"
#include "local/cuda/map.h"
#include "local/cuda/map_plan.h"
#include "local/cuda/numbers.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

struct alignas(16) Word16 {
  std::uint64_t low, high;
};
/// f(std::type_identity<Word>) with the type of `bytes` bytes.
template <class F>
void visit_word(int bytes, const F& f) {
  switch (bytes) {
    case 1:
      return f(std::type_identity<std::uint8_t>());
    case 2:
      return f(std::type_identity<std::uint16_t>());
    case 4:
      return f(std::type_identity<std::uint32_t>());
    case 8:
      return f(std::type_identity<std::uint64_t>());
    default:
      return f(std::type_identity<Word16>());
  }
}

// A thread has several words in flight.
constexpr int kWordsPerThread = 4;

template <class Word>
struct CopyWords {
  MapWalk<2> walk;
  DTENSOR_DEVICE void operator()(std::int64_t thread) const {
    std::uint32_t at[2][kWordsPerThread] = {};
    const std::uint32_t there = detail::single_offsets<kWordsPerThread>(walk, static_cast<std::uint32_t>(thread), at);
    Word words[kWordsPerThread];
    DTENSOR_UNROLL
    for (int n = 0; n < kWordsPerThread; ++n) words[n] = reinterpret_cast<const Word*>(walk.data[1])[static_cast<std::int32_t>(at[1][n])];
    DTENSOR_UNROLL
    for (int n = 0; n < kWordsPerThread; ++n)
      if ((there >> n & 1) != 0) {
        if constexpr (sizeof(Word) == 16) as_vector(2 * sizeof(Word));
        reinterpret_cast<Word*>(walk.data[0])[static_cast<std::int32_t>(at[0][n])] = words[n];
      }
  }
};
template <class Word>
struct FillWords {
  MapWalk<1> walk;
  Word word;
  DTENSOR_DEVICE void operator()(std::int64_t thread) const {
    std::uint32_t at[1][kWordsPerThread] = {};
    const std::uint32_t there = detail::single_offsets<kWordsPerThread>(walk, static_cast<std::uint32_t>(thread), at);
    DTENSOR_UNROLL
    for (int n = 0; n < kWordsPerThread; ++n)
      if ((there >> n & 1) != 0) {
        if constexpr (sizeof(Word) == 16) as_vector(sizeof(Word));
        reinterpret_cast<Word*>(walk.data[0])[static_cast<std::int32_t>(at[0][n])] = word;
      }
  }
};

// The loop over elements of `bytes` bytes becomes one over the largest words that all operands allow. @return bytes of a word
template <std::size_t N>
int widen(StridedLoop<N>& loop, const std::array<const void*, N>& data, int bytes) {
  if (!loop.unit()) return bytes;
  const auto inner = static_cast<std::size_t>(loop.ndim - 1);
  int word = 16;
  for (std::size_t n = 0; n < N; ++n)
    word = std::min(word, load_bytes(reinterpret_cast<std::uintptr_t>(data[n]), loop.inner(), bytes, {loop.strides[n].data(), inner}));
  loop.sizes[inner] /= word / bytes;
  loop.numel /= word / bytes;
  for (std::size_t n = 0; n < N; ++n)
    for (std::size_t d = 0; d < inner; ++d) loop.strides[n][d] /= word / bytes;
  return word;
}
template <std::size_t N>
std::array<MapOperand, N> operands(const StridedLoop<N>& loop, const std::array<void*, N>& data, int bytes) {
  std::array<MapOperand, N> result;
  for (std::size_t n = 0; n < N; ++n) {
    result[n].data = static_cast<std::byte*>(data[n]);
    result[n].bytes = bytes;
    result[n].strides = {loop.strides[n].data(), static_cast<std::size_t>(loop.ndim)};
  }
  return result;
}

// ---- transposes

/// Source and destination are dense along different dimensions: squares of both go through shared memory, so that reads and writes are of neighbours.
template <class Word>
struct Transpose {
  static constexpr int kSide = sizeof(Word) <= 4 ? 64 : 32, kThreads = 256;
  static constexpr int kPitch = kSide + (sizeof(Word) < 4 ? 4 / static_cast<int>(sizeof(Word)) : 1);  // an odd number of banks
  static constexpr std::size_t kBytes = sizeof(Word) * kSide * kPitch;
  Word* dst;
  const Word* src;
  std::int64_t rows, columns;        ///< rows: where the source is dense, columns: where the destination is
  std::int64_t dst_row, src_column;  ///< strides
  std::int64_t row_squares, column_squares;
  int dims = 0;  ///< the others
  std::int64_t sizes[kMaxDims] = {}, dst_strides[kMaxDims] = {}, src_strides[kMaxDims] = {};

  DTENSOR_DEVICE void operator()(const Block& b) const {
    Word* square = b.shared<Word>();
    std::int64_t rest = b.index;
    const std::int64_t row = cut_last(rest, row_squares) * kSide, column = cut_last(rest, column_squares) * kSide;
    Word* to = dst + row * dst_row + column;
    const Word* from = src + row + column * src_column;
    for (int d = dims - 1; d >= 0; --d) {
      const std::int64_t i = cut_last(rest, sizes[d]);
      to += i * dst_strides[d];
      from += i * src_strides[d];
    }
    const int near_rows = static_cast<int>(rows - row < kSide ? rows - row : kSide);
    const int near_columns = static_cast<int>(columns - column < kSide ? columns - column : kSide);
    const int fast = b.thread % kSide, slow = b.thread / kSide;
    constexpr int kStep = kThreads / kSide;
    Word words[kSide / kStep];
    DTENSOR_UNROLL
    for (int k = 0; k < kSide / kStep; ++k)
      if (fast < near_rows && slow + k * kStep < near_columns) words[k] = from[fast + (slow + k * kStep) * src_column];
    DTENSOR_UNROLL
    for (int k = 0; k < kSide / kStep; ++k)
      if (fast < near_rows && slow + k * kStep < near_columns) square[(slow + k * kStep) * kPitch + fast] = words[k];
    b.sync();
    DTENSOR_UNROLL
    for (int k = 0; k < kSide / kStep; ++k)
      if (fast < near_columns && slow + k * kStep < near_rows) to[(slow + k * kStep) * dst_row + fast] = square[fast * kPitch + slow + k * kStep];
  }
};

// The dimension along which the source is dense, where tiles pay off; -1: none.
int source_rows(const StridedLoop<2>& loop) {
  constexpr std::int64_t kLeast = 8;
  if (loop.inner_stride(0) != 1 || loop.inner_stride(1) <= 1 || loop.inner() < kLeast) return -1;
  for (int d = 0; d < loop.ndim - 1; ++d)
    if (loop.strides[1][static_cast<std::size_t>(d)] == 1 && loop.sizes[static_cast<std::size_t>(d)] >= kLeast) return d;
  return -1;
}

template <class Word>
void launch_transpose(void* dst, const void* src, const StridedLoop<2>& loop, int row_dim, Stream stream) {
  using T = Transpose<Word>;
  const auto r = static_cast<std::size_t>(row_dim);
  T t{.dst = static_cast<Word*>(dst),
      .src = static_cast<const Word*>(src),
      .rows = loop.sizes[r],
      .columns = loop.inner(),
      .dst_row = loop.strides[0][r],
      .src_column = loop.inner_stride(1),
      .row_squares = (loop.sizes[r] + T::kSide - 1) / T::kSide,
      .column_squares = (loop.inner() + T::kSide - 1) / T::kSide};
  std::int64_t blocks = t.row_squares * t.column_squares;
  for (std::size_t d = 0; d + 1 < static_cast<std::size_t>(loop.ndim); ++d) {
    if (d == r) continue;
    t.sizes[t.dims] = loop.sizes[d];
    t.dst_strides[t.dims] = loop.strides[0][d];
    t.src_strides[t.dims] = loop.strides[1][d];
    ++t.dims;
    blocks *= loop.sizes[d];
  }
  launch_blocks("transpose", blocks, T::kThreads, T::kBytes, stream, t);
}

// ---- copies

void copy_bytes(void* dst, const void* src, StridedLoop<2> loop, int bytes, Stream stream) {
  if (loop.ndim == 1 && loop.unit())
    return copy(dst, src, static_cast<std::size_t>(loop.numel) * static_cast<std::size_t>(bytes), CopyKind::on_device, stream);
  if (const int rows = source_rows(loop); rows >= 0) {
    return visit_word(bytes, [&]<class Word>(std::type_identity<Word>) {
      if constexpr (sizeof(Word) <= 8) launch_transpose<Word>(dst, src, loop, rows, stream);
    });
  }
  const int word = widen<2>(loop, {dst, src}, bytes);
  const auto list = operands<2>(loop, {dst, const_cast<void*>(src)}, word);
  for_walks({loop.sizes.data(), static_cast<std::size_t>(loop.ndim)}, list, Taken{kWordsPerThread}, [&](const MapWalk<kMostOperands>& walk) {
    visit_word(word, [&]<class Word>(std::type_identity<Word>) { launch_elements("copy", walk.threads, stream, CopyWords<Word>{walk.first<2>()}); });
  });
}

struct Same {
  template <class T>
  DTENSOR_DEVICE T operator()(T value) const {
    return value;
  }
};
template <class T>
void convert_in(const StridedLoop<2>& loop, std::array<MapOperand, 2> list, Stream stream) {
  constexpr Taken kTaken = kMapTaken<T>;
  for_walks({loop.sizes.data(), static_cast<std::size_t>(loop.ndim)}, list, kTaken, [&](const MapWalk<kMostOperands>& walk) {
    launch_elements("convert", walk.threads, stream, detail::MapKernel<kTaken.width, kTaken.pack, Same, 1, T, T>{{}, walk.first<2>(), {}});
  });
}

}  // namespace

void convert_box(void* dst, Dtype dst_dtype, std::span<const std::int64_t> dst_strides, const void* src, Dtype src_dtype,
                 std::span<const std::int64_t> src_strides, std::span<const std::int64_t> sizes, Stream stream) {
  const auto loop = strided_loop<2>(sizes, {dst_strides, src_strides});
  if (loop.numel == 0) return;
  if (dst_dtype == src_dtype) return copy_bytes(dst, src, loop, info(dst_dtype).bytes, stream);
  auto list = operands<2>(loop, {dst, const_cast<void*>(src)}, 0);
  list[0].dtype = dst_dtype;
  list[1].dtype = src_dtype;
  for (MapOperand& o : list) o.bytes = info(o.dtype).bytes;
  if (dst_dtype == Dtype::f64 || src_dtype == Dtype::f64) convert_in<double>(loop, list, stream);
  else if (info(dst_dtype).floating || info(src_dtype).floating) convert_in<float>(loop, list, stream);
  else convert_in<std::int64_t>(loop, list, stream);
}

void fill_box(void* dst, Dtype dtype, std::span<const std::int64_t> strides, std::span<const std::int64_t> sizes, const Scalar& value,
              Stream stream) {
  auto loop = strided_loop<1>(sizes, {strides});
  if (loop.numel == 0) return;
  const int bytes = info(dtype).bytes;
  std::array<std::byte, 16> pattern;
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    std::array<T, 16 / sizeof(T)> values;
    values.fill(convert<T>(value));
    pattern = std::bit_cast<std::array<std::byte, 16>>(values);
  });
  if (loop.ndim == 1 && loop.unit() && std::all_of(pattern.begin(), pattern.end(), [&](std::byte b) { return b == pattern[0]; }))
    return set_bytes(dst, static_cast<int>(pattern[0]), static_cast<std::size_t>(loop.numel) * static_cast<std::size_t>(bytes), stream);
  const int word = widen<1>(loop, {dst}, bytes);
  const auto list = operands<1>(loop, {dst}, word);
  for_walks({loop.sizes.data(), static_cast<std::size_t>(loop.ndim)}, list, Taken{kWordsPerThread}, [&](const MapWalk<kMostOperands>& walk) {
    visit_word(word, [&]<class Word>(std::type_identity<Word>) {
      std::array<Word, 16 / sizeof(Word)> words = std::bit_cast<std::array<Word, 16 / sizeof(Word)>>(pattern);
      launch_elements("fill", walk.threads, stream, FillWords<Word>{walk.first<1>(), words[0]});
    });
  });
}

}  // namespace dtensor::local::cuda
