// SPDX-License-Identifier: Apache-2.0
#include "local/reduce_boxes.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "base/error_text.h"
#include "local/formulas/combine.h"
#include "local/stream.h"
#include "local/strided.h"

namespace dtensor::local {

namespace {

using namespace combine;

// The boxes with dimensions of size 1 dropped and neighbours merged where they are one run in every operand. Offsets are computed per row from the
// operands' own strides, so the number of operands is open and nothing is allocated.
class Rows {
 public:
  Rows(std::span<const std::int64_t> sizes, std::span<const std::int64_t> dst_strides, std::span<const Shape> source_strides) {
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      numel_ *= sizes[d];
      if (sizes[d] == 1) continue;
      bool one_run = ndim_ > 0;
      if (one_run) {
        const std::size_t before = dims_[ndim_ - 1];
        one_run = dst_strides[before] == dst_strides[d] * sizes[d];
        for (const Shape& s : source_strides) one_run = one_run && s[before] == s[d] * sizes[d];
      }
      if (!one_run) sizes_[ndim_++] = 1;
      sizes_[ndim_ - 1] *= sizes[d];
      dims_[ndim_ - 1] = d;
    }
  }
  std::int64_t numel() const noexcept { return numel_; }
  std::int64_t inner() const noexcept { return ndim_ == 0 ? 1 : sizes_[ndim_ - 1]; }
  std::int64_t inner_stride(std::span<const std::int64_t> strides) const noexcept { return ndim_ == 0 ? 1 : strides[dims_[ndim_ - 1]]; }
  std::int64_t offset(std::span<const std::int64_t> strides) const noexcept {
    std::int64_t sum = 0;
    for (std::size_t k = 0; k + 1 < ndim_; ++k) sum += at_[k] * strides[dims_[k]];
    return sum;
  }
  bool next() noexcept {
    for (std::size_t k = ndim_; k-- > 1;) {
      if (++at_[k - 1] < sizes_[k - 1]) return true;
      at_[k - 1] = 0;
    }
    return false;
  }

 private:
  std::size_t ndim_ = 0;
  std::int64_t numel_ = 1;
  std::array<std::size_t, kMaxDims> dims_{};  // the last original dimension of each merged one
  std::array<std::int64_t, kMaxDims> sizes_{}, at_{};
};

// Accumulators of one tile: with one source's part they fit the first-level cache.
constexpr std::int64_t kTile = 1024;

struct Job {
  Rows rows;
  void* dst;
  std::span<const std::int64_t> dst_strides;
  std::span<const void* const> sources;
  std::span<const Shape> source_strides;
  std::int64_t divisor;

  const Shape& strides_of(std::size_t source) const { return source_strides.size() == 1 ? source_strides[0] : source_strides[source]; }
};

// The loops stand out of line: inlined into their caller they lose what __restrict__ says, and with it their vectors.
template <class T, class A>
[[gnu::noinline]] void load_tile(A* __restrict__ acc, const T* __restrict__ src, std::int64_t stride, std::int64_t count) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) acc[i] = load(src[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) acc[i] = load(src[i * stride]);
  }
}

template <class Op, class T, class A>
[[gnu::noinline]] void combine_tile(A* __restrict__ acc, const T* __restrict__ src, std::int64_t stride, std::int64_t count) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) acc[i] = Op::template apply<A>(acc[i], load(src[i]));
  } else {
    for (std::int64_t i = 0; i < count; ++i) acc[i] = Op::template apply<A>(acc[i], load(src[i * stride]));
  }
}

// The first two sources in one pass: the usual case of two ranks.
template <class Op, class T, class A>
[[gnu::noinline]] void start_tile(A* __restrict__ acc, const T* __restrict__ a, const T* __restrict__ b, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) acc[i] = Op::template apply<A>(load(a[i]), load(b[i]));
}

template <class T, class A>
[[gnu::noinline]] void store_tile(T* __restrict__ dst, const A* __restrict__ acc, std::int64_t stride, std::int64_t count, std::int64_t divisor) {
  if constexpr (std::is_floating_point_v<A>) {
    if (divisor != 1) {
      const A by = static_cast<A>(divisor);
      for (std::int64_t i = 0; i < count; ++i) dst[i * stride] = store<T>(acc[i] / by);
      return;
    }
  }
  if (stride == 1) {
    for (std::int64_t i = 0; i < count; ++i) dst[i] = store<T>(acc[i]);
  } else {
    for (std::int64_t i = 0; i < count; ++i) dst[i * stride] = store<T>(acc[i]);
  }
}

// The last source and the rounding in one pass past the caches, line by line: what is read and what is written overlap.
template <class Op, class T, class From, class Finish>
[[gnu::noinline]] void stream_tile(T* __restrict__ dst, const From* __restrict__ a, const T* __restrict__ b, std::int64_t count, Finish finish) {
  constexpr std::int64_t kLine = kLineBytes / static_cast<std::int64_t>(sizeof(T));
  const auto one = [&](std::int64_t i) { return store<T>(finish(Op::template apply<Accumulate<T>>(load(a[i]), load(b[i])))); };
  std::int64_t i = 0;
  for (; i < count && reinterpret_cast<std::uintptr_t>(dst + i) % kLineBytes != 0; ++i) dst[i] = one(i);
  for (; i + kLine <= count; i += kLine) {
    alignas(kLineBytes) T line[kLine];
    for (std::int64_t k = 0; k < kLine; ++k) line[k] = one(i + k);
    stream_line(reinterpret_cast<std::byte*>(dst + i), reinterpret_cast<const std::byte*>(line));
  }
  for (; i < count; ++i) dst[i] = one(i);
}

template <class Op, class T, class From>
void stream_tile(T* dst, const From* a, const T* b, std::int64_t count, std::int64_t divisor) {
  using A = Accumulate<T>;
  if constexpr (std::is_floating_point_v<A>)
    if (divisor != 1) return stream_tile<Op>(dst, a, b, count, [by = static_cast<A>(divisor)](A sum) { return sum / by; });
  stream_tile<Op>(dst, a, b, count, [](A sum) { return sum; });
}

template <class Op, class T>
void reduce_rows(Job& job) {
  alignas(64) Accumulate<T> acc[kTile];
  const std::int64_t inner = job.rows.inner(), dst_stride = job.rows.inner_stride(job.dst_strides);
  const std::size_t n = job.sources.size();
  const auto source = [&](std::size_t s) { return static_cast<const T*>(job.sources[s]) + job.rows.offset(job.strides_of(s)); };
  const auto stride = [&](std::size_t s) { return job.rows.inner_stride(job.strides_of(s)); };
  const bool past_caches = n > 1 && dst_stride == 1 && stride(n - 1) == 1 && job.rows.numel() * static_cast<std::int64_t>(sizeof(T)) >= kStreamBytes;
  do {
    T* dst = static_cast<T*>(job.dst) + job.rows.offset(job.dst_strides);
    for (std::int64_t begin = 0; begin < inner; begin += kTile) {
      const std::int64_t count = std::min(kTile, inner - begin);
      if (past_caches && n == 2 && stride(0) == 1) {
        stream_tile<Op, T>(dst + begin, source(0) + begin, source(1) + begin, count, job.divisor);
        continue;
      }
      std::size_t s = 1;
      if (n > 1 && stride(0) == 1 && stride(1) == 1) {
        start_tile<Op, T>(acc, source(0) + begin, source(1) + begin, count);
        s = 2;
      } else {
        load_tile<T>(acc, source(0) + begin * stride(0), stride(0), count);
      }
      for (const std::size_t end = past_caches ? n - 1 : n; s < end; ++s) combine_tile<Op, T>(acc, source(s) + begin * stride(s), stride(s), count);
      if (s < n) stream_tile<Op, T>(dst + begin, acc, source(s) + begin, count, job.divisor);
      else store_tile<T>(dst + begin * dst_stride, acc, dst_stride, count, job.divisor);
    }
  } while (job.rows.next());
  if (past_caches) end_stream();
}

template <class Op>
void reduce_arithmetic(Dtype dtype, Job& job) {
  visit_arithmetic(dtype, [&]<class T>(std::type_identity<T>) { reduce_rows<Op, T>(job); });
}
// bool is 0 or 1 in a byte, on which the integer forms of min, max, and, or, xor are the logical ones.
template <class Op>
void reduce_any(Dtype dtype, Job& job) {
  if (dtype == Dtype::boolean) reduce_rows<Op, std::uint8_t>(job);
  else reduce_arithmetic<Op>(dtype, job);
}
template <class Op>
void reduce_bits(Dtype dtype, Job& job) {
  visit_integral(dtype == Dtype::boolean ? Dtype::u8 : dtype, [&]<class T>(std::type_identity<T>) { reduce_rows<Op, T>(job); });
}

}  // namespace

bool is_reducible(ReduceOp op, Dtype dtype) noexcept {
  switch (op) {
    case ReduceOp::avg:
      return info(dtype).floating;
    case ReduceOp::sum:
    case ReduceOp::product:
      return dtype != Dtype::boolean;
    case ReduceOp::min:
    case ReduceOp::max:
      return true;
    case ReduceOp::band:
    case ReduceOp::bor:
    case ReduceOp::bxor:
      return !info(dtype).floating;
  }
  return false;
}

void reduce_box(void* dst, std::span<const std::int64_t> dst_strides, std::span<const void* const> sources, std::span<const Shape> source_strides,
                std::span<const std::int64_t> sizes, Dtype dtype, ReduceOp op, std::int64_t divisor) {
  if (!is_reducible(op, dtype))
    base::fail<InvalidArgument>("reduce: {} of {} does not exist; convert the tensor with to() first", to_string(op), to_string(dtype));
  Job job{Rows(sizes, dst_strides, source_strides), dst, dst_strides, sources, source_strides, divisor};
  if (job.rows.numel() == 0 || sources.empty()) return;
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::avg:
      return reduce_arithmetic<Sum>(dtype, job);
    case ReduceOp::product:
      return reduce_arithmetic<Product>(dtype, job);
    case ReduceOp::min:
      return reduce_any<Min>(dtype, job);
    case ReduceOp::max:
      return reduce_any<Max>(dtype, job);
    case ReduceOp::band:
      return reduce_bits<And>(dtype, job);
    case ReduceOp::bor:
      return reduce_bits<Or>(dtype, job);
    case ReduceOp::bxor:
      return reduce_bits<Xor>(dtype, job);
  }
}

}  // namespace dtensor::local
