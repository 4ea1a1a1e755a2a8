// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/reduce.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "local/cpu/lanes.h"
#include "local/neutral.h"
#include "local/parallel.h"

namespace dtensor::local::cpu {
namespace {

struct Axis {
  std::int64_t size, stride;
};
using Axes = std::vector<Axis>;

void append(Axes& axes, std::int64_t size, std::int64_t stride) {
  if (size == 1) return;
  if (!axes.empty() && axes.back().stride == stride * size) axes.back() = {axes.back().size * size, stride};
  else axes.push_back({size, stride});
}

// The input as kept and reduced axes, neighbours merged, outermost first.
struct Split {
  Axes kept, reduced;
  std::int64_t outputs = 1, terms = 1;
  Split(const Tensor& input, const Shape& dims) {
    std::array<bool, kMaxDims> is_reduced{};
    for (std::int64_t d : dims) is_reduced[static_cast<std::size_t>(d)] = true;
    for (int d = 0; d < input.ndim(); ++d) {
      const bool r = is_reduced[static_cast<std::size_t>(d)];
      append(r ? reduced : kept, input.shape()[d], input.strides()[d]);
      (r ? terms : outputs) *= input.shape()[d];
    }
  }
};

std::int64_t offset_of(std::span<const Axis> axes, std::int64_t index) {
  if (axes.empty()) return 0;
  std::int64_t offset = 0;
  for (std::size_t d = axes.size() - 1; d > 0; --d) {
    offset += index % axes[d].size * axes[d].stride;
    index /= axes[d].size;
  }
  return offset + index * axes[0].stride;
}

struct Keep {
  template <class A>
  static A of(A x) noexcept {
    return x;
  }
};
struct Magnitude {
  template <class A>
  static A of(A x) noexcept {
    if constexpr (std::is_integral_v<A>) return x < 0 ? static_cast<A>(0 - static_cast<std::uint64_t>(x)) : x;
    else return std::abs(x);
  }
};
struct Square {
  template <class A>
  static A of(A x) noexcept {
    return x * x;
  }
};
struct NonZero {
  template <class A>
  static A of(A x) noexcept {
    return x != A(0) ? A(1) : A(0);
  }
};
struct Multiply {
  template <class A>
  static A of(A a, A b) noexcept {
    if constexpr (std::is_integral_v<A>) return static_cast<A>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    else return a * b;
  }
};
struct Larger {
  template <class A>
  static A of(A a, A b) noexcept {
    return ((b > a) | (b != b)) ? b : a;
  }
};
struct Smaller {
  template <class A>
  static A of(A a, A b) noexcept {
    return ((b < a) | (b != b)) ? b : a;
  }
};

// Of the dtype of the result, which may be narrower than Acc.
template <class Acc>
Acc neutral_of(ReduceOp op, Dtype dtype) {
  const Scalar value = neutral(op, dtype);
  if constexpr (std::is_integral_v<Acc>) return static_cast<Acc>(value.as_int());
  else return static_cast<Acc>(value.as_double());
}

// Reduces what `term` makes of each element.
template <class Acc, class Map, class Combine>
class Reducer {
 public:
  Reducer(const Tensor& input, const Split& split, Acc neutral)
      : base_(input.raw()), split_(split), neutral_(neutral), load_(loader<Acc>(input.dtype())), direct_(input.dtype() == dtype_of<Acc>()) {
    const bool by_columns =
        !split.kept.empty() && !split.reduced.empty() && std::abs(split.kept.back().stride) < std::abs(split.reduced.back().stride);
    width_ = by_columns ? kChunk : 1;
  }

  // finish(outputs from, count, values), by any thread.
  template <class Finish>
  void run(const Finish& finish) const {
    if (split_.outputs == 0) return;
    if (width_ != 1) return all_columns(finish);
    if (split_.outputs < kFewOutputs && split_.terms >= 2 * kPointwiseGrain) return few_rows(finish);
    parallel_for(split_.outputs, kPointwiseGrain / std::max<std::int64_t>(1, split_.terms), [&](std::int64_t begin, std::int64_t end) {
      Scratch<Acc> buffer(kSumBlock);
      Acc values[kChunk];
      for (std::int64_t o = begin; o < end; o += kChunk) {
        const std::int64_t n = std::min(kChunk, end - o);
        for (std::int64_t i = 0; i < n; ++i) values[i] = row_total(o + i, buffer.data());
        finish(o, n, values);
      }
    });
  }

 private:
  static constexpr std::int64_t kFewOutputs = 16;

  // The reduced dims but the innermost, and the innermost, which is cut into blocks.
  std::span<const Axis> outer_reduced() const { return {split_.reduced.data(), split_.reduced.empty() ? 0 : split_.reduced.size() - 1}; }
  Axis inner_reduced() const { return split_.reduced.empty() ? Axis{1, 1} : split_.reduced.back(); }

  Acc row_total(std::int64_t output, Acc* buffer) const {
    const Axis inner = inner_reduced();
    const std::int64_t base = offset_of(split_.kept, output), runs = inner.size == 0 ? 0 : split_.terms / inner.size;
    Cascade<Acc, Combine> total{neutral_};
    for (std::int64_t r = 0; r < runs; ++r) {
      const std::int64_t offset = base + offset_of(outer_reduced(), r);
      for (std::int64_t i = 0; i < inner.size; i += kSumBlock)
        total.push(block(offset + i * inner.stride, inner.stride, std::min(kSumBlock, inner.size - i), buffer));
    }
    return total.take();
  }

  // Threads share the blocks of an output, which are then combined in the order of row_total.
  template <class Finish>
  void few_rows(const Finish& finish) const {
    const Axis inner = inner_reduced();
    const std::int64_t across = (inner.size + kSumBlock - 1) / kSumBlock, count = split_.terms / inner.size * across;
    Scratch<Acc> parts(count);
    for (std::int64_t o = 0; o < split_.outputs; ++o) {
      const std::int64_t base = offset_of(split_.kept, o);
      parallel_for(count, kPointwiseGrain / std::min(kSumBlock, inner.size), [&](std::int64_t begin, std::int64_t end) {
        Scratch<Acc> buffer(kSumBlock);
        for (std::int64_t p = begin; p < end; ++p) {
          const std::int64_t i = p % across * kSumBlock, offset = base + offset_of(outer_reduced(), p / across);
          parts.data()[p] = block(offset + i * inner.stride, inner.stride, std::min(kSumBlock, inner.size - i), buffer.data());
        }
      });
      Cascade<Acc, Combine> total{neutral_};
      for (std::int64_t p = 0; p < count; ++p) total.push(parts.data()[p]);
      Acc value = total.take();
      finish(o, 1, &value);
    }
  }

  template <class Finish>
  void all_columns(const Finish& finish) const {
    const std::span<const Axis> outer(split_.kept.data(), split_.kept.size() - 1);
    const Axis inner = split_.kept.back();
    const std::int64_t across = (inner.size + kChunk - 1) / kChunk;
    parallel_for(split_.outputs / inner.size * across, kPointwiseGrain / (kChunk * std::max<std::int64_t>(1, split_.terms)),
                 [&](std::int64_t begin, std::int64_t end) {
                   Scratch<Acc> buffer(kSumBlock);
                   for (std::int64_t t = begin; t < end; ++t) {
                     Acc values[kChunk];
                     const std::int64_t o = t / across, c = t % across * kChunk, n = std::min(kChunk, inner.size - c);
                     columns(offset_of(outer, o) + c * inner.stride, inner.stride, n, values, buffer.data());
                     finish(o * inner.size + c, n, values);
                   }
                 });
  }

  const Acc* row(std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* buffer) const {
    if (direct_ && stride == 1) return static_cast<const Acc*>(base_) + offset;
    load_(base_, offset, stride, n, buffer);
    return buffer;
  }

  Acc block(std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* buffer) const {
    const Acc* x = row(offset, stride, n, buffer);
    // g++ 12 vectorises a selection only over many lanes that stay an array, an addition over few better.
    constexpr bool kArithmetic = std::is_same_v<Combine, Add> || std::is_same_v<Combine, Multiply>;
    constexpr std::int64_t kWidth = kArithmetic ? kLanes : kChunk;
    Acc lanes[kWidth];
    std::fill(lanes, lanes + kWidth, neutral_);
    std::int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth)
      for (std::int64_t j = 0; j < kWidth; ++j) lanes[j] = Combine::of(lanes[j], Map::of(x[i + j]));
    for (std::int64_t j = 0; i < n; ++i, ++j) lanes[j] = Combine::of(lanes[j], Map::of(x[i]));
    if constexpr (kArithmetic) return fold_lanes<Combine, kWidth>(lanes);
    for (std::int64_t w = kWidth / 2; w > 0; w /= 2)
      for (std::int64_t j = 0; j < w; ++j) lanes[j] = Combine::of(lanes[j], lanes[j + w]);
    return lanes[0];
  }

  struct Tile {
    Acc values[kChunk];
  };
  struct CombineTiles {
    static Tile of(const Tile& a, const Tile& b) noexcept {
      Tile r;
      for (std::int64_t j = 0; j < kChunk; ++j) r.values[j] = Combine::of(a.values[j], b.values[j]);
      return r;
    }
  };
  Tile neutral_tile() const {
    Tile t;
    std::fill(t.values, t.values + kChunk, neutral_);
    return t;
  }

  void columns(std::int64_t offset, std::int64_t stride, std::int64_t n, Acc* out, Acc* buffer) const {
    Cascade<Tile, CombineTiles> total{neutral_tile()};
    const Axis inner = inner_reduced();
    Tile tile = neutral_tile();
    std::int64_t in_tile = 0;
    for (std::int64_t from = 0; from < split_.terms; from += inner.size) {
      std::int64_t at = offset + offset_of(outer_reduced(), from / inner.size);
      for (std::int64_t r = 0; r < inner.size; ++r, at += inner.stride) {
        const Acc* x = row(at, stride, n, buffer);
        if (n == kChunk) {
          for (std::int64_t j = 0; j < kChunk; ++j) tile.values[j] = Combine::of(tile.values[j], Map::of(x[j]));
        } else {
          for (std::int64_t j = 0; j < n; ++j) tile.values[j] = Combine::of(tile.values[j], Map::of(x[j]));
        }
        if (++in_tile == kChunk) {
          total.push(tile);
          tile = neutral_tile();
          in_tile = 0;
        }
      }
    }
    if (in_tile > 0) total.push(tile);
    const Tile result = total.take();
    std::copy(result.values, result.values + n, out);
  }

  const void* base_;
  const Split& split_;
  Acc neutral_;
  Loader<Acc> load_;
  bool direct_;
  std::int64_t width_;
};

template <class Acc, class Map, class Combine>
void reduce_with(const Tensor& input, const Shape& dims, Acc neutral, const Tensor& output, const ReduceOptions& options) {
  const Split split(input, dims);
  const Storer<Acc> put = storer<Acc>(output.dtype());
  const Reducer<Acc, Map, Combine> reducer(input, split, neutral);
  Acc count = 1;
  if (options.count != nullptr) loader<Acc>(options.count->dtype())(options.count->raw(), 0, 1, 1, &count);
  reducer.run([&](std::int64_t from, std::int64_t n, Acc* values) {
    if constexpr (!std::is_integral_v<Acc>) {
      if (options.divisor)
        for (std::int64_t i = 0; i < n; ++i) values[i] /= static_cast<Acc>(*options.divisor);
      if (options.count != nullptr)
        for (std::int64_t i = 0; i < n; ++i) values[i] /= count;
      if (options.root)
        for (std::int64_t i = 0; i < n; ++i) values[i] = std::sqrt(values[i]);
    }
    put(output.raw(), from, 1, n, values);
  });
}

template <class Acc>
void reduce_in(Reduction kind, const Tensor& input, const Shape& dims, const Tensor& output, const ReduceOptions& options) {
  switch (kind) {
    case Reduction::sum:
      return reduce_with<Acc, Keep, Add>(input, dims, Acc(0), output, options);
    case Reduction::product:
      return reduce_with<Acc, Keep, Multiply>(input, dims, Acc(1), output, options);
    case Reduction::max:
      return reduce_with<Acc, Keep, Larger>(input, dims, neutral_of<Acc>(ReduceOp::max, output.dtype()), output, options);
    case Reduction::min:
      return reduce_with<Acc, Keep, Smaller>(input, dims, neutral_of<Acc>(ReduceOp::min, output.dtype()), output, options);
    case Reduction::absolute_sum:
      return reduce_with<Acc, Magnitude, Add>(input, dims, Acc(0), output, options);
    case Reduction::absolute_max:
      return reduce_with<Acc, Magnitude, Larger>(input, dims, Acc(0), output, options);
    case Reduction::absolute_min:
      return reduce_with<Acc, Magnitude, Smaller>(input, dims, neutral_of<Acc>(ReduceOp::min, output.dtype()), output, options);
    case Reduction::square_sum:
      return reduce_with<Acc, Square, Add>(input, dims, Acc(0), output, options);
    case Reduction::all:
      return reduce_with<Acc, NonZero, Smaller>(input, dims, Acc(1), output, options);
    case Reduction::any:
      return reduce_with<Acc, NonZero, Larger>(input, dims, Acc(0), output, options);
  }
}

template <class F>
void in_accumulation_type(Dtype dtype, const F& f) {
  if (dtype == Dtype::f64) f(double{});
  else if (info(dtype).floating) f(float{});
  else f(std::int64_t{});
}

// All elements of one output's group, in row-major order of the reduced axes.
template <class Acc>
class Groups {
 public:
  Groups(const Tensor& input, const Split& split)
      : base_(input.raw()), split_(split), load_(loader<Acc>(input.dtype())), buffer_(padded(split.terms)) {}
  Acc* load(std::int64_t output) {
    const bool scalar = split_.reduced.empty();
    const Axis inner = scalar ? Axis{1, 1} : split_.reduced.back();
    const std::span<const Axis> outer(split_.reduced.data(), scalar ? 0 : split_.reduced.size() - 1);
    const std::int64_t base = offset_of(split_.kept, output);
    for (std::int64_t r = 0; inner.size > 0 && r < split_.terms / inner.size; ++r)
      load_(base_, base + offset_of(outer, r), inner.stride, inner.size, buffer_.data() + r * inner.size);
    return buffer_.data();
  }

 private:
  const void* base_;
  const Split& split_;
  Loader<Acc> load_;
  Scratch<Acc> buffer_;
};

template <class Acc>
void variance_in(const Tensor& input, const Shape& dims, double correction, bool root, const Tensor& output) {
  const Split split(input, dims);
  const std::int64_t n = split.terms, size = padded(n);
  const Storer<Acc> put = storer<Acc>(output.dtype());
  const Acc divisor = static_cast<Acc>(std::max(0.0, static_cast<double>(n) - correction));
  parallel_for(split.outputs, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
    Groups<Acc> groups(input, split);
    for (std::int64_t o = begin; o < end; ++o) {
      Acc* x = groups.load(o);
      std::fill(x + n, x + size, Acc(0));
      const Acc mean = sum_terms<Acc>(size, [x](std::int64_t i) { return x[i]; }) / static_cast<Acc>(n);
      std::fill(x + n, x + size, mean);
      const Acc squares = sum_terms<Acc>(size, [x, mean](std::int64_t i) { return (x[i] - mean) * (x[i] - mean); });
      const Acc value = squares / divisor;
      const Acc result = root ? std::sqrt(value) : value;
      put(output.raw(), o, 1, 1, &result);
    }
  });
}

}  // namespace

void reduce(Reduction kind, const Tensor& input, const Shape& dims, const Tensor& output, const ReduceOptions& options) {
  const bool logical = kind == Reduction::all || kind == Reduction::any;
  in_accumulation_type(logical ? input.dtype() : output.dtype(), [&](auto acc) { reduce_in<decltype(acc)>(kind, input, dims, output, options); });
}

void variance(const Tensor& input, const Shape& dims, double correction, bool root, const Tensor& output) {
  if (input.dtype() == Dtype::f64) variance_in<double>(input, dims, correction, root, output);
  else variance_in<float>(input, dims, correction, root, output);
}

void arg_extreme(const Tensor& input, const Shape& dims, bool largest, const Tensor& output) {
  const Split split(input, dims);
  auto* out = output.raw_as<std::int64_t>();
  in_accumulation_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    parallel_for(split.outputs, row_grain(split.terms), [&](std::int64_t begin, std::int64_t end) {
      Groups<Acc> groups(input, split);
      for (std::int64_t o = begin; o < end; ++o) {
        const Acc* x = groups.load(o);
        std::int64_t best = 0;
        for (std::int64_t i = 1; i < split.terms && x[best] == x[best]; ++i)
          if (x[i] != x[i] || (largest ? x[i] > x[best] : x[i] < x[best])) best = i;
        out[o] = best;
      }
    });
  });
}

void first_equal(const Tensor& input, const Tensor& value, const Shape& dims, std::span<const GlobalIndices> indices, const Tensor& output) {
  const Split split(input, dims);
  auto* out = output.raw_as<std::int64_t>();
  const Tensor wanted = value.contiguous();
  // Global index of each term, in row-major order of the reduced dims.
  std::vector<std::int64_t> global{0};
  for (const GlobalIndices& of_dim : indices) {
    std::vector<std::int64_t> next;
    for (std::int64_t g : global)
      for (const GlobalRun& run : of_dim.runs)
        for (std::int64_t i = 0; i < run.length; ++i) next.push_back(g + (run.global + i) * of_dim.weight);
    global = std::move(next);
  }
  in_accumulation_type(input.dtype(), [&](auto acc) {
    using Acc = decltype(acc);
    Groups<Acc> groups(input, split);
    const Loader<Acc> load = loader<Acc>(wanted.dtype());
    for (std::int64_t o = 0; o < split.outputs; ++o) {
      Acc w;
      load(wanted.raw(), o, 1, 1, &w);
      const Acc* x = groups.load(o);
      std::int64_t least = std::numeric_limits<std::int64_t>::max();
      for (std::int64_t i = 0; i < split.terms; ++i)
        if (x[i] == w || (x[i] != x[i] && w != w)) least = std::min(least, global[static_cast<std::size_t>(i)]);
      out[o] = least;
    }
  });
}

void cumulative_sum(const Tensor& input, int dim, bool reverse, const Tensor& output) {
  const Shape& shape = input.shape();
  if (shape.numel() == 0) return;
  const std::int64_t n = shape.ndim() == 0 ? 1 : shape[dim];
  std::int64_t inner = 1;
  for (int d = dim + 1; d < shape.ndim(); ++d) inner *= shape[d];
  const auto run = [&](auto acc) {
    using Acc = decltype(acc);
    std::vector<Acc> row(static_cast<std::size_t>(n));
    const auto load = loader<Acc>(input.dtype());
    const auto put = storer<Acc>(output.dtype());
    for (std::int64_t k = 0; k < shape.numel() / n; ++k) {
      const std::int64_t offset = k / inner * n * inner + k % inner;
      load(input.raw(), offset, inner, n, row.data());
      if (reverse) {
        for (std::size_t i = row.size() - 1; i-- > 0;) row[i] = Add::of(row[i], row[i + 1]);
      } else {
        for (std::size_t i = 1; i < row.size(); ++i) row[i] = Add::of(row[i], row[i - 1]);
      }
      put(output.raw(), offset, inner, n, row.data());
    }
  };
  if (info(output.dtype()).floating) run(double{});
  else run(std::int64_t{});
}

}  // namespace dtensor::local::cpu
