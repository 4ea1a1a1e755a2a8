// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/group_boxes.h"

#include <algorithm>
#include <type_traits>

#include "dtensor/error.h"
#include "local/cuda/launch.h"
#include "local/formulas/combine.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

// Units that a thread copies, kElementThreads apart, so that several loads are in flight.
constexpr int kUnrolled = 4;
constexpr std::int64_t kUnitsPerBlock = std::int64_t{kElementThreads} * kUnrolled;

template <int N>
struct Offsets {
  std::int64_t at[N] = {};
};

// A box whose rows are cut into units of `width` bytes; strides in bytes, the last dimension's in units.
struct UnitBox {
  std::byte* dst;
  const std::byte* src;
  std::int64_t first;  // thread of the launch
  std::int64_t units;
  std::int32_t ndim, width;
  std::int64_t sizes[kMaxDims], dst_strides[kMaxDims], src_strides[kMaxDims];
};

template <class Index>
DTENSOR_DEVICE Offsets<2> offsets_of(const UnitBox& b, std::int64_t unit) {
  Offsets<2> o;
  auto i = static_cast<Index>(unit);
  for (int d = b.ndim - 1; d >= 0; --d) {
    const auto size = static_cast<Index>(b.sizes[d]);
    const Index k = d == 0 ? i : i % size;
    if (d != 0) i /= size;
    o.at[0] += static_cast<std::int64_t>(k) * b.dst_strides[d];
    o.at[1] += static_cast<std::int64_t>(k) * b.src_strides[d];
  }
  return o;
}

struct alignas(16) Sixteen {
  std::uint64_t low, high;
};

// Boxes that one launch copies: thread i belongs to the last box that begins at or before it.
template <int kMost>
struct CopyBoxes {
  int count;
  UnitBox boxes[kMost];

  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    int n = 0;
    while (n + 1 < count && boxes[n + 1].first <= i) ++n;
    const UnitBox& b = boxes[n];
    switch (b.width) {
      case 16:
        return copy<Sixteen>(b, i - b.first);
      case 8:
        return copy<std::uint64_t>(b, i - b.first);
      case 4:
        return copy<std::uint32_t>(b, i - b.first);
      case 2:
        return copy<std::uint16_t>(b, i - b.first);
      default:
        return copy<std::uint8_t>(b, i - b.first);
    }
  }
  template <class Unit>
  DTENSOR_DEVICE static void copy(const UnitBox& b, std::int64_t thread) {
    const std::int64_t begin = thread / kElementThreads * kUnitsPerBlock + thread % kElementThreads;
    Unit values[kUnrolled];
    std::int64_t to[kUnrolled];
    for (int k = 0; k < kUnrolled; ++k) {
      const std::int64_t unit = begin + k * kElementThreads;
      if (unit >= b.units) break;
      const Offsets<2> o = b.units <= 0xffffffff ? offsets_of<std::uint32_t>(b, unit) : offsets_of<std::uint64_t>(b, unit);
      to[k] = o.at[0];
      if constexpr (sizeof(Unit) == 16) as_vector(2 * sizeof(Unit));
      values[k] = *reinterpret_cast<const Unit*>(b.src + o.at[1]);
    }
    for (int k = 0; k < kUnrolled; ++k)
      if (begin + k * kElementThreads < b.units) *reinterpret_cast<Unit*>(b.dst + to[k]) = values[k];
  }
};

UnitBox unit_box(const BoxCopy& box, std::int64_t element_bytes) {
  const auto loop = strided_loop<2>(box.sizes, {box.dst_strides, box.src_strides});
  UnitBox u{static_cast<std::byte*>(box.dst), static_cast<const std::byte*>(box.src), 0, loop.numel, loop.ndim, 0, {}, {}, {}};
  const auto last = static_cast<std::size_t>(loop.ndim - 1);
  const int bytes = static_cast<int>(element_bytes);
  u.width = bytes;
  if (loop.unit()) {
    const auto a = load_bytes(reinterpret_cast<std::uintptr_t>(box.dst), loop.inner(), bytes, std::span(loop.strides[0].data(), last));
    const auto b = load_bytes(reinterpret_cast<std::uintptr_t>(box.src), loop.inner(), bytes, std::span(loop.strides[1].data(), last));
    u.width = std::min(a, b);
  }
  for (std::size_t d = 0; d <= last; ++d) {
    u.sizes[d] = loop.sizes[d];
    u.dst_strides[d] = loop.strides[0][d] * bytes;
    u.src_strides[d] = loop.strides[1][d] * bytes;
  }
  const std::int64_t elements = u.width / bytes;
  u.sizes[last] /= elements;
  u.dst_strides[last] *= elements;
  u.src_strides[last] *= elements;
  u.units = loop.numel / elements;
  return u;
}

template <int kMost>
void launch_copies(std::span<const UnitBox> boxes, Stream stream) {
  CopyBoxes<kMost> copies{};
  std::int64_t threads = 0;
  for (UnitBox b : boxes) {
    b.first = threads;
    threads += (b.units + kUnitsPerBlock - 1) / kUnitsPerBlock * kElementThreads;
    copies.boxes[copies.count++] = b;
  }
  launch_elements("copy boxes", threads, stream, copies);
}

// How a box lies in all of its operands: dimensions of size 1 dropped, neighbours merged where they are one run everywhere.
struct Joint {
  int ndim = 0;
  std::int64_t numel = 1;
  int kept[kMaxDims] = {};  // the last original dimension of each merged one
  std::int64_t sizes[kMaxDims] = {};
};
Joint joint(const Shape& sizes, const Shape& dst_strides, std::span<const Shape> source_strides) {
  Joint j;
  for (int d = 0; d < sizes.ndim(); ++d) {
    j.numel *= sizes[d];
    if (sizes[d] == 1) continue;
    bool one_run = j.ndim > 0;
    if (one_run) {
      const int before = j.kept[j.ndim - 1];
      one_run = dst_strides[before] == dst_strides[d] * sizes[d];
      for (const Shape& s : source_strides) one_run = one_run && s[before] == s[d] * sizes[d];
    }
    if (!one_run) j.sizes[j.ndim++] = 1;
    j.sizes[j.ndim - 1] *= sizes[d];
    j.kept[j.ndim - 1] = d;
  }
  return j;
}

enum class Combination : std::int32_t { sum, product, min, max, bits_and, bits_or, bits_xor };
Combination combination(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::avg:
      return Combination::sum;
    case ReduceOp::product:
      return Combination::product;
    case ReduceOp::min:
      return Combination::min;
    case ReduceOp::max:
      return Combination::max;
    case ReduceOp::band:
      return Combination::bits_and;
    case ReduceOp::bor:
      return Combination::bits_or;
    case ReduceOp::bxor:
      return Combination::bits_xor;
  }
  return Combination::sum;
}

template <class T, int kMost>
struct Reduce {
  std::int32_t sources, dsts, ndim, wide;  // wide: units of 16 bytes
  Combination op;
  std::int64_t units, divisor;
  std::int64_t sizes[kMaxDims];
  std::int64_t dst_strides[kMaxDims];  // in elements, the last dimension's in units
  std::int64_t src_strides[kMost][kMaxDims];
  const T* src[kMost];
  T* dst[kMost];

  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    if (wide != 0) run<static_cast<int>(16 / sizeof(T))>(i);
    else run<1>(i);
  }
  template <int V>
  DTENSOR_DEVICE void run(std::int64_t i) const {
    switch (op) {
      case Combination::sum:
        return combine_all<V, combine::Sum>(i);
      case Combination::product:
        return combine_all<V, combine::Product>(i);
      case Combination::min:
        return combine_all<V, combine::Min>(i);
      case Combination::max:
        return combine_all<V, combine::Max>(i);
      default:
        break;
    }
    if constexpr (std::is_integral_v<T>) {
      if (op == Combination::bits_and) return combine_all<V, combine::And>(i);
      if (op == Combination::bits_or) return combine_all<V, combine::Or>(i);
      return combine_all<V, combine::Xor>(i);
    }
  }
  DTENSOR_DEVICE static std::int64_t offset(const std::int64_t (&at)[kMaxDims], const std::int64_t (&strides)[kMaxDims], int ndim) {
    std::int64_t sum = 0;
    for (int d = 0; d < ndim; ++d) sum += at[d] * strides[d];
    return sum;
  }
  template <int V, class Op>
  DTENSOR_DEVICE void combine_all(std::int64_t unit) const {
    struct alignas(sizeof(T) * V) Pack {
      T values[V];
    };
    using A = Accumulate<T>;
    std::int64_t at[kMaxDims];
    for (int d = ndim - 1; d >= 0; --d) {
      at[d] = d == 0 ? unit : unit % sizes[d];
      unit /= sizes[d];
    }
    if constexpr (V > 1) as_vector(static_cast<std::size_t>(sources + dsts) * sizeof(Pack));
    const auto pack_of = [&](int s) { return *reinterpret_cast<const Pack*>(src[s] + offset(at, src_strides[s], ndim)); };
    A sum[V];
    const Pack first = pack_of(0);
    for (int v = 0; v < V; ++v) sum[v] = load(first.values[v]);
    for (int s = 1; s < sources; ++s) {
      const Pack p = pack_of(s);
      for (int v = 0; v < V; ++v) sum[v] = Op::template apply<A>(sum[v], load(p.values[v]));
    }
    Pack result;
    for (int v = 0; v < V; ++v) {
      if constexpr (std::is_floating_point_v<A>) {
        if (divisor != 1) sum[v] = sum[v] / static_cast<A>(divisor);
      }
      result.values[v] = store<T>(sum[v]);
    }
    const std::int64_t to = offset(at, dst_strides, ndim);
    for (int n = 0; n < dsts; ++n) *reinterpret_cast<Pack*>(dst[n] + to) = result;
  }
};

template <class T, int kMost>
void launch_reduce(std::span<void* const> dsts, const Shape& dst_strides, std::span<const void* const> sources, std::span<const Shape> source_strides,
                   const Joint& j, ReduceOp op, std::int64_t divisor, Stream stream) {
  Reduce<T, kMost> r{};
  r.sources = static_cast<std::int32_t>(sources.size());
  r.dsts = static_cast<std::int32_t>(dsts.size());
  r.ndim = j.ndim;
  r.op = combination(op);
  r.divisor = divisor;
  constexpr int kBytes = static_cast<int>(sizeof(T)), kElements = 16 / kBytes;
  const auto last = static_cast<std::size_t>(std::max(0, j.ndim - 1));
  const auto strides_of = [&](std::size_t s) -> const Shape& { return source_strides.size() == 1 ? source_strides[0] : source_strides[s]; };
  // A scalar has one element and no dimension; else units are 16 bytes where every operand allows it.
  bool wide = j.ndim > 0;
  const auto put = [&](std::int64_t(&to)[kMaxDims], const Shape& strides, const void* address) {
    for (int d = 0; d < j.ndim; ++d) to[d] = strides[j.kept[d]];
    wide = wide && to[last] == 1 &&
           load_bytes(reinterpret_cast<std::uintptr_t>(address), j.sizes[last], kBytes, std::span<const std::int64_t>(to, last)) == 16;
  };
  for (std::size_t n = 0; n < dsts.size(); ++n) {
    r.dst[n] = static_cast<T*>(dsts[n]);
    put(r.dst_strides, dst_strides, dsts[n]);
  }
  for (std::size_t s = 0; s < sources.size(); ++s) {
    r.src[s] = static_cast<const T*>(sources[s]);
    put(r.src_strides[s], strides_of(s), sources[s]);
  }
  std::copy_n(j.sizes, kMaxDims, r.sizes);
  r.units = j.numel;
  if (wide) {
    r.wide = 1;
    r.units /= kElements;
    r.sizes[last] /= kElements;
    r.dst_strides[last] *= kElements;
    for (std::size_t s = 0; s < sources.size(); ++s) r.src_strides[s][last] *= kElements;
  }
  launch_elements("reduce", r.units, stream, r);
}

}  // namespace

void copy_boxes(std::span<const BoxCopy> boxes, std::size_t element_bytes, Stream stream) {
  constexpr int kFew = 4, kMany = 16;  // a launch takes at most 4 KiB of arguments
  UnitBox list[kMany];
  int count = 0;
  const auto flush = [&] {
    if (count > kFew) launch_copies<kMany>({list, static_cast<std::size_t>(count)}, stream);
    else if (count > 0) launch_copies<kFew>({list, static_cast<std::size_t>(count)}, stream);
    count = 0;
  };
  for (const BoxCopy& box : boxes) {
    if (box.sizes.numel() == 0 || box.dst == box.src) continue;
    list[count++] = unit_box(box, static_cast<std::int64_t>(element_bytes));
    if (count == kMany) flush();
  }
  flush();
}

void reduce_box(std::span<void* const> dsts, const Shape& dst_strides, std::span<const void* const> sources, std::span<const Shape> source_strides,
                const Shape& sizes, Dtype dtype, ReduceOp op, std::int64_t divisor, Stream stream) {
  constexpr int kFew = 8;
  const Joint j = joint(sizes, dst_strides, source_strides);
  if (j.numel == 0 || sources.empty() || dsts.empty()) return;
  const std::size_t most = std::max(sources.size(), dsts.size());
  if (most > kMostSources)
    throw Unsupported("reduce: more than " + std::to_string(kMostSources) + " ranks of one process combine memory of devices (" +
                      std::to_string(most) + "); use one process per rank with NCCL");
  // bool is 0 or 1 in a byte, on which the integer forms of min, max, and, or, xor are the logical ones.
  visit_arithmetic(dtype == Dtype::boolean ? Dtype::u8 : dtype, [&]<class T>(std::type_identity<T>) {
    if (most <= kFew) launch_reduce<T, kFew>(dsts, dst_strides, sources, source_strides, j, op, divisor, stream);
    else launch_reduce<T, kMostSources>(dsts, dst_strides, sources, source_strides, j, op, divisor, stream);
  });
}

}  // namespace dtensor::local::cuda
