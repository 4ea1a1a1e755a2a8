// SPDX-License-Identifier: Apache-2.0
// A strided tensor as kept and reduced axes, and how the threads of a launch share them. Made on the host; kernels only look offsets up.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <type_traits>

#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/cuda/block.h"

namespace dtensor::local::cuda {

/// a / b for 0 <= a, 0 < b; numbers below 2^32 without a division of 64 bits.
DTENSOR_DEVICE inline std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<std::int64_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b));
  return a / b;
}

struct Offsets2 {
  std::int64_t in = 0, out = 0;
};

/// Axes outermost first, each with its stride in the input and in a second order: the output's for kept axes, that of the terms for reduced ones.
struct AxisList {
  int count = 0;
  std::int64_t numel = 1;
  std::array<std::int64_t, kMaxDims> size{}, in{}, out{};

  /// Of element `i` in row-major order of the first `axes` axes.
  DTENSOR_DEVICE Offsets2 offsets(std::int64_t i, int axes) const {
    Offsets2 result;
    for (int d = axes - 1; d > 0; --d) {
      const std::int64_t q = quotient(i, size[static_cast<std::size_t>(d)]), k = i - q * size[static_cast<std::size_t>(d)];
      result.in += k * in[static_cast<std::size_t>(d)];
      result.out += k * out[static_cast<std::size_t>(d)];
      i = q;
    }
    if (axes > 0) result.in += i * in[0], result.out += i * out[0];
    return result;
  }
  DTENSOR_DEVICE Offsets2 offsets(std::int64_t i) const { return offsets(i, count); }

  /// Keeps axes ordered by the stride in the input, largest first.
  void insert(std::int64_t n, std::int64_t in_stride, std::int64_t out_stride) {
    numel *= n;
    if (n == 1) return;
    int at = count++;
    for (; at > 0 && std::abs(in[static_cast<std::size_t>(at - 1)]) < std::abs(in_stride); --at) {
      const auto to = static_cast<std::size_t>(at);
      size[to] = size[to - 1], in[to] = in[to - 1], out[to] = out[to - 1];
    }
    const auto to = static_cast<std::size_t>(at);
    size[to] = n, in[to] = in_stride, out[to] = out_stride;
  }
  /// Neighbours that are one run in both orders become one axis.
  void merge() {
    std::size_t last = 0;
    for (std::size_t d = 1; d < static_cast<std::size_t>(count); ++d) {
      if (in[last] == in[d] * size[d] && out[last] == out[d] * size[d]) size[last] *= size[d];
      else size[++last] = size[d];
      in[last] = in[d], out[last] = out[d];
    }
    count = count == 0 ? 0 : static_cast<int>(last) + 1;
  }
  std::int64_t inner_size() const { return count == 0 ? 1 : size[static_cast<std::size_t>(count - 1)]; }
  std::int64_t inner_in() const { return count == 0 ? 1 : in[static_cast<std::size_t>(count - 1)]; }
  std::int64_t inner_out() const { return count == 0 ? 0 : out[static_cast<std::size_t>(count - 1)]; }
};

/// A row-major output over the kept dims. With `order` the terms are numbered in row-major order of the reduced dims as they come, otherwise not at all.
struct ReductionAxes {
  AxisList kept, reduced;
  ReductionAxes(const Shape& shape, const Shape& strides, const Shape& dims, bool order) {
    std::array<bool, kMaxDims> is_reduced{};
    for (std::int64_t d : dims) is_reduced[static_cast<std::size_t>(d)] = true;
    std::int64_t output = 1, term = 1;
    for (int d = shape.ndim(); d-- > 0;) {
      if (is_reduced[static_cast<std::size_t>(d)]) {
        reduced.insert(shape[d], strides[d], order ? term : 0);
        term *= shape[d];
      } else {
        kept.insert(shape[d], strides[d], output);
        output *= shape[d];
      }
    }
    reduced.merge();
    kept.merge();
  }
  /// Whether neighbouring outputs lie closer than neighbouring terms.
  bool by_columns() const { return kept.count > 0 && (reduced.count == 0 || std::abs(kept.inner_in()) < std::abs(reduced.inner_in())); }
};

/// Blocks that fill a device several times over, whichever it is: results must not depend on the device.
inline constexpr std::int64_t kEnoughBlocks = 528;
inline constexpr int kReduceThreads = 256;

/// What each thread of a reduction does. A vector is kV neighbours of the innermost axis: of the reduced ones (rows) or of the kept ones (columns). `lanes`
/// neighbouring threads share an output's vectors, `x` such groups have neighbouring outputs, `y` of these rows of threads share the terms again.
struct ReductionPlan {
  AxisList kept, reduced;
  bool columns = false;
  bool aligned = false;                             ///< vectors have stride 1 and lie at multiples of their size
  std::int64_t inner = 1, stride = 1, vectors = 1;  ///< of the axis that is cut into vectors: its size, stride and vectors
  std::int64_t outputs = 1;                         ///< in groups of vectors when columns
  std::int64_t terms = 0;                           ///< in vectors unless columns
  int lanes = 1, x = 1, y = 1;
  std::int64_t across = 1, splits = 1, each = 0;  ///< blocks side by side, blocks that share an output, terms of each of them

  int threads() const { return lanes * x * y; }
  std::int64_t blocks() const { return across * splits; }

  ReductionPlan() = default;
  /// `aligned_base`: the first element lies at a multiple of a vector's bytes.
  ReductionPlan(const ReductionAxes& axes, int vector, bool aligned_base) : kept(axes.kept), reduced(axes.reduced), columns(axes.by_columns()) {
    const AxisList& cut = columns ? kept : reduced;
    inner = cut.inner_size(), stride = cut.inner_in();
    vectors = (inner + vector - 1) / vector;
    aligned = aligned_base && stride == 1;
    for (const AxisList* list : {&kept, &reduced})
      for (int d = 0; d < list->count - (list == &cut ? 1 : 0); ++d) aligned = aligned && list->in[static_cast<std::size_t>(d)] % vector == 0;
    const std::int64_t lists = cut.numel == 0 ? 0 : cut.numel / inner * vectors;
    outputs = columns ? lists : kept.numel;
    terms = columns ? reduced.numel : lists;
    if (kept.numel == 0) outputs = 0;
    choose_threads();
    choose_splits();
  }

 private:
  static int power_of_two(std::int64_t n, int most) {
    int p = 1;
    while (p < n && p < most) p *= 2;
    return p;
  }
  void choose_threads() {
    const int per_output = power_of_two((terms + 3) / 4, kReduceThreads);
    // Short runs of terms with other outputs in between: neighbouring threads take neighbouring outputs.
    const bool short_runs = reduced.count > 1 && kept.count > 0 && vectors < 8 &&
                            std::abs(kept.inner_in()) < std::abs(reduced.in[static_cast<std::size_t>(reduced.count - 2)]);
    if (columns) {
      x = power_of_two(outputs, kWarp);
      lanes = 1;
    } else {
      lanes = std::min(per_output, short_runs ? power_of_two(vectors, kWarp) : kWarp);
      x = short_runs ? std::max(1, std::min(kWarp / lanes, power_of_two(outputs, kWarp))) : 1;
    }
    y = std::max(1, std::min(per_output / lanes, kReduceThreads / (lanes * x)));
    x = std::max(x, power_of_two(outputs, kReduceThreads / (lanes * y)));
    if (threads() < kWarp) y = kWarp / (lanes * x);
    across = (outputs + x - 1) / x;
  }
  void choose_splits() {
    constexpr std::int64_t kLeast = 16;  // vectors per thread that are worth a block of their own
    const std::int64_t at_once = static_cast<std::int64_t>(lanes) * y;
    each = terms;
    if (across == 0 || across >= kEnoughBlocks / 2) return;
    const std::int64_t wanted = std::min((kEnoughBlocks + across - 1) / across, terms / (at_once * kLeast));
    if (wanted < 2) return;
    each = ((terms + wanted - 1) / wanted + at_once - 1) / at_once * at_once;
    splits = (terms + each - 1) / each;
  }
};

static_assert(std::is_trivially_copyable_v<ReductionPlan>);

}  // namespace dtensor::local::cuda
