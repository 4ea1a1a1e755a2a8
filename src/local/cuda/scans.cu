// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "dtensor/error.h"
#include "local/cuda/reduction.h"
#include "local/cuda/scan.h"
#include "local/cuda/table.h"
#include "local/kernels/embedding.h"
#include "local/kernels/reduce.h"
#include "local/kernels/scan_parts.h"
#include "local/kernels/scans.h"

namespace dtensor::local::cuda {
namespace {

using cpu::ScanOp;

// Sums, products, extremes and log-sums, which one at run time.
template <class A>
struct Fold {
  using State = A;
  ScanOp op;
  DTENSOR_DEVICE A none() const {
    using Limits = std::numeric_limits<A>;
    const A low = Limits::has_infinity ? -Limits::infinity() : Limits::lowest(), high = Limits::has_infinity ? Limits::infinity() : Limits::max();
    return op == ScanOp::sum ? A(0) : op == ScanOp::product ? A(1) : op == ScanOp::min ? high : low;
  }
  DTENSOR_DEVICE A merge(A a, A b) const {
    if constexpr (std::is_same_v<A, double>) {
      if (op == ScanOp::sum) return a + b;
      if (op == ScanOp::product) return a * b;
      if (a != a) return a;
      if (b != b) return b;
      if (op == ScanOp::log_sum) {
        const double high = a > b ? a : b, low = a > b ? b : a;
        return std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
      }
    } else {
      const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
      if (op == ScanOp::sum) return static_cast<A>(x + y);
      if (op == ScanOp::product) return static_cast<A>(x * y);
    }
    return (op == ScanOp::max ? a < b : b < a) ? b : a;
  }
  DTENSOR_DEVICE A below(const Block& b, A state, int distance) const { return b.from_lane_below(state, distance); }
  DTENSOR_DEVICE A from(const Block& b, A state, int lane) const { return b.from_lane(state, lane); }
};

// The last element that is the extreme so far; NaN stays.
template <class A>
struct Extreme {
  struct State {
    A value;
    std::int64_t index;
  };
  bool largest;
  DTENSOR_DEVICE State none() const { return {A(0), -1}; }
  DTENSOR_DEVICE State merge(const State& a, const State& b) const {
    if (b.index < 0 || a.index < 0) return b.index < 0 ? a : b;
    return b.value != b.value || (largest ? b.value >= a.value : b.value <= a.value) ? b : a;
  }
  DTENSOR_DEVICE State below(const Block& b, const State& s, int distance) const {
    return {b.from_lane_below(s.value, distance), b.from_lane_below(s.index, distance)};
  }
  DTENSOR_DEVICE State from(const Block& b, const State& s, int lane) const { return {b.from_lane(s.value, lane), b.from_lane(s.index, lane)}; }
};

// h = term + factor * (h of the element before). With zero_wins a product with 0 is 0, also where factors have grown to infinity.
template <bool zero_wins>
struct Recurrence {
  struct State {
    double factor, term;
  };
  DTENSOR_DEVICE static double times(double a, double b) {
    if (zero_wins && (a == 0 || b == 0)) return 0;
    return a * b;
  }
  DTENSOR_DEVICE State none() const { return {1, 0}; }
  DTENSOR_DEVICE State merge(const State& a, const State& b) const { return {times(b.factor, a.factor), b.term + times(b.factor, a.term)}; }
  DTENSOR_DEVICE State below(const Block& b, const State& s, int distance) const {
    return {b.from_lane_below(s.factor, distance), b.from_lane_below(s.term, distance)};
  }
  DTENSOR_DEVICE State from(const Block& b, const State& s, int lane) const { return {b.from_lane(s.factor, lane), b.from_lane(s.term, lane)}; }
};

// Elements of a row-major tensor by line and place in it, of which the first is `first`.
struct LineMap {
  std::int64_t whole = 1, inner = 1, first = 0, length = 1;
  bool reverse = false;
  DTENSOR_DEVICE std::int64_t operator()(std::int64_t line, std::int64_t i) const {
    const std::int64_t outer = quotient(line, inner);
    return (outer * whole + first + (reverse ? length - 1 - i : i)) * inner + line - outer * inner;
  }
  LineMap reversed() const {
    LineMap m = *this;
    m.reverse = !reverse;
    return m;
  }
};
struct Layout {
  Lines lines;
  LineMap map;
  Layout(const Shape& shape, int dim) {
    map.whole = map.length = shape.ndim() == 0 ? 1 : shape[dim];
    for (int d = dim + 1; d < shape.ndim(); ++d) map.inner *= shape[d];
    lines = {map.whole == 0 ? 0 : shape.numel() / map.whole, map.whole, map.inner};
  }
};

template <class A>
struct ReadLine {
  const void* base;
  Dtype dtype;
  LineMap at;
  DTENSOR_DEVICE A operator()(std::int64_t line, std::int64_t i) const { return element<A>(base, dtype, at(line, i)); }
};
template <class A>
struct WriteLine {
  void* base;
  Dtype dtype;
  LineMap at;
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t i, A /*before*/, A after) const { put_element<A>(base, dtype, at(line, i), after); }
};

// Calls f(double) or f(std::int64_t).
template <class F>
void in_scan_type(Dtype dtype, const F& f) {
  if (info(dtype).floating) f(double{});
  else f(std::int64_t{});
}
void fold_along(const char* name, ScanOp op, const Tensor& input, int dim, bool reverse, const Tensor& output) {
  Layout layout(input.shape(), dim);
  layout.map.reverse = reverse;
  in_scan_type(output.dtype(), [&](auto type) {
    using A = decltype(type);
    scan_lines(name, rank_device(output), layout.lines, Fold<A>{op}, ReadLine<A>{input.raw(), input.dtype(), layout.map},
               WriteLine<A>{output.raw(), output.dtype(), layout.map});
  });
}

void cumulative_sum(const Tensor& input, int dim, bool reverse, const Tensor& output) {
  fold_along("cumulative sum", ScanOp::sum, input, dim, reverse, output);
}
void cumulative_product(const Tensor& input, int dim, const Tensor& output) {
  fold_along("cumulative product", ScanOp::product, input, dim, false, output);
}
void cumulative_log_sum(const Tensor& input, int dim, const Tensor& output) {
  fold_along("cumulative log sum", ScanOp::log_sum, input, dim, false, output);
}

// ---- the gradient of a product: what reaches the product that ends at an element, times what stands before the element
struct KeepBeforeProduct {
  double* before;
  LineMap at;
  const void* input;
  Dtype dtype;
  std::uint8_t* odd;  // of lines with infinities or NaN
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t i, double product, double) const {
    const std::int64_t place = at(line, i);
    before[place] = product;
    if (!std::isfinite(element<double>(input, dtype, place))) odd[line] = 1;
  }
};
// In reverse: h_i = g_i + x_(i + 1) h_(i + 1).
struct ReachingTerm {
  const void *grad, *input;
  Dtype grad_dtype, dtype;
  LineMap at;
  DTENSOR_DEVICE Recurrence<true>::State operator()(std::int64_t line, std::int64_t i) const {
    return {i == 0 ? 0 : element<double>(input, dtype, at(line, i - 1)), element<double>(grad, grad_dtype, at(line, i))};
  }
};
struct PutReaching {
  void* out;
  Dtype dtype;
  const double* before;
  LineMap at;
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t i, const Recurrence<true>::State&, const Recurrence<true>::State& h) const {
    const std::int64_t place = at(line, i);
    put_element<double>(out, dtype, place, h.term * before[place]);
  }
};
// With infinities and NaN every gradient before them shows them, as the products do: the sum of grad * product from an element on, over the element.
struct OddTerm {
  const void *grad, *input;
  Dtype grad_dtype, dtype;
  const double* before;
  LineMap at;
  const std::uint8_t* odd;
  DTENSOR_DEVICE double operator()(std::int64_t line, std::int64_t i) const {
    const std::int64_t place = at(line, i);
    return odd[line] == 0 ? 0 : element<double>(grad, grad_dtype, place) * (before[place] * element<double>(input, dtype, place));
  }
};
struct PutOdd {
  void* out;
  const void* input;
  Dtype out_dtype, dtype;
  LineMap at;
  const std::uint8_t* odd;
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t i, double, double sum) const {
    if (odd[line] == 0) return;
    const std::int64_t place = at(line, i);
    put_element<double>(out, out_dtype, place, sum / element<double>(input, dtype, place));
  }
};
void cumulative_product_backward(const Tensor& grad, const Tensor& input, int dim, const Tensor& output) {
  if (output.numel() == 0) return;
  RankDevice& device = rank_device(output);
  const Layout layout(input.shape(), dim);
  const Lines& lines = layout.lines;
  const LineMap forward = layout.map, back = forward.reversed();
  const Scratch products(device, static_cast<std::size_t>(input.numel()) * sizeof(double)), flags(device, static_cast<std::size_t>(lines.count));
  double* const before = products.as<double>();
  auto* const odd = flags.as<std::uint8_t>();
  const Dtype g = grad.dtype(), x = input.dtype(), y = output.dtype();
  set_bytes(odd, 0, static_cast<std::size_t>(lines.count), device.current);
  scan_lines("products before", device, lines, Fold<double>{ScanOp::product}, ReadLine<double>{input.raw(), x, forward},
             KeepBeforeProduct{before, forward, input.raw(), x, odd});
  scan_lines("product gradient", device, lines, Recurrence<true>{}, ReachingTerm{grad.raw(), input.raw(), g, x, back},
             PutReaching{output.raw(), y, before, back});
  scan_lines("odd product gradient", device, lines, Fold<double>{ScanOp::sum}, OddTerm{grad.raw(), input.raw(), g, x, before, back, odd},
             PutOdd{output.raw(), input.raw(), y, x, back, odd});
}

// ---- extremes
template <class A>
struct ReadIndexed {
  ReadLine<A> read;
  DTENSOR_DEVICE typename Extreme<A>::State operator()(std::int64_t line, std::int64_t i) const { return {read(line, i), i}; }
};
template <class A>
struct WriteIndexed {
  WriteLine<A> values;
  std::int64_t* indices;
  using State = typename Extreme<A>::State;
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t i, const State&, const State& best) const {
    values(line, i, best.value, best.value);
    indices[values.at(line, i)] = best.index;
  }
};
void cumulative_extreme(const Tensor& input, int dim, bool largest, const Tensor& values, const Tensor& indices) {
  const Layout layout(input.shape(), dim);
  in_scan_type(input.dtype(), [&](auto type) {
    using A = decltype(type);
    scan_lines("cumulative extreme", rank_device(values), layout.lines, Extreme<A>{largest}, ReadIndexed<A>{{input.raw(), input.dtype(), layout.map}},
               WriteIndexed<A>{{values.raw(), values.dtype(), layout.map}, indices.raw_as<std::int64_t>()});
  });
}
void cumulative_extreme_backward(const Tensor& grad, const Tensor& indices, int dim, const Tensor& output) {
  const Shape shape = grad.ndim() == 0 ? Shape{1} : grad.shape();
  const GlobalRun all{0, shape[dim]};
  const Tensor at = kernels::resolve_positions(indices, {"cummax_backward", "the dim", shape[dim], {&all, 1}, false});
  std::vector<cpu::CoordinateMap> others(shape.size());
  for (int d = 0; d < shape.ndim(); ++d) others[static_cast<std::size_t>(d)].length = shape[d];
  kernels::deposit_elements(cpu::ElementsCall{shape, dim, at, others}, grad.view(shape), output.view(shape));
}

// ---- the gradient of log-sums, in reverse: results never fall, so that no exponential is above 1
struct LogTerm {
  const void *grad, *result;
  Dtype grad_dtype, dtype;
  LineMap at;
  DTENSOR_DEVICE Recurrence<false>::State operator()(std::int64_t line, std::int64_t i) const {
    double factor = 0;
    if (i > 0) {
      const double y = element<double>(result, dtype, at(line, i));
      factor = y == -std::numeric_limits<double>::infinity() ? 0 : std::exp(y - element<double>(result, dtype, at(line, i - 1)));
    }
    return {factor, element<double>(grad, grad_dtype, at(line, i))};
  }
};
struct PutLog {
  void* out;
  const void *input, *result;
  Dtype out_dtype, dtype, result_dtype;
  LineMap at;
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t i, const Recurrence<false>::State&, const Recurrence<false>::State& h) const {
    const std::int64_t place = at(line, i);
    const double x = element<double>(input, dtype, place);
    const double part = x == -std::numeric_limits<double>::infinity() ? 0 : std::exp(x - element<double>(result, result_dtype, place));
    put_element<double>(out, out_dtype, place, h.term * part);
  }
};
void cumulative_log_sum_backward(const Tensor& grad, const Tensor& input, const Tensor& result, int dim, const Tensor& output) {
  const Layout layout(input.shape(), dim);
  const LineMap back = layout.map.reversed();
  scan_lines("log sum gradient", rank_device(output), layout.lines, Recurrence<false>{},
             LogTerm{grad.raw(), result.raw(), grad.dtype(), result.dtype(), back},
             PutLog{output.raw(), input.raw(), result.raw(), output.dtype(), input.dtype(), result.dtype(), back});
}

// ---- scans of parts
template <class A>
struct MergeTotal {
  A* totals;
  LineMap at;
  std::int64_t part;
  DTENSOR_DEVICE void operator()(const Fold<A>& op, std::int64_t line, std::int64_t, A total) const {
    A& to = totals[at(line, part)];
    to = op.merge(to, total);
  }
};
void scan_totals(const cpu::ScanCall& scan, const Tensor& input, const Tensor& output) {
  if (output.numel() == 0) return;
  RankDevice& device = rank_device(output);
  const Tensor rows = input.contiguous();
  const Layout from(rows.shape(), scan.dim), to(output.shape(), scan.dim);
  in_scan_type(output.dtype(), [&](auto type) {
    using A = decltype(type);
    const Fold<A> op{scan.op};
    const Tensor wide = Tensor::empty(output.shape(), dtype_of<A>(), output.device());
    wide.fill_(op.none());
    std::int64_t local = 0;
    for (const placements::Run& run : scan.runs) {
      // What of the run lies in each part; before the first bound there is none.
      for (std::size_t k = 0; k < scan.bounds.size(); ++k) {
        const std::int64_t end = k + 1 < scan.bounds.size() ? scan.bounds[k + 1] : std::numeric_limits<std::int64_t>::max();
        const std::int64_t first = std::max(scan.bounds[k], run.begin), last = std::min(end, run.begin + run.length);
        if (first >= last) continue;
        LineMap map = from.map;
        map.first = local + first - run.begin;
        map.length = last - first;
        fold_lines("scan totals", device, {to.lines.count, map.length, map.inner}, op, ReadLine<A>{rows.raw(), rows.dtype(), map},
                   MergeTotal<A>{wide.raw_as<A>(), to.map, static_cast<std::int64_t>(k)});
      }
      local += run.length;
    }
    output.copy_(wide);
  });
}

// What the parts before (reverse: after) `part` come to.
template <class A>
struct FromTotals {
  ReadLine<A> totals;
  std::int64_t first, part, step;
  DTENSOR_DEVICE A operator()(const Fold<A>& op, std::int64_t line) const {
    A running = op.none();
    for (std::int64_t k = first; k != part; k += step) running = op.merge(running, totals(line, k));
    return running;
  }
};
void scan_from(const cpu::ScanCall& scan, const Tensor& input, const Tensor& totals, const Tensor& output) {
  if (output.numel() == 0) return;
  const Tensor rows = input.contiguous(), sums = totals.contiguous();
  const Layout layout(rows.shape(), scan.dim), of_totals(sums.shape(), scan.dim);
  const auto parts = static_cast<std::int64_t>(scan.bounds.size());
  in_scan_type(output.dtype(), [&](auto type) {
    using A = decltype(type);
    LineMap map = layout.map;
    map.reverse = scan.reverse;
    for (const placements::Run& run : scan.runs) {
      map.length = run.length;
      const FromTotals<A> initial{
          {sums.raw(), sums.dtype(), of_totals.map}, scan.reverse ? parts - 1 : 0, cpu::part_of(scan, run), scan.reverse ? -1 : 1};
      scan_lines("scan from", rank_device(output), {layout.lines.count, map.length, map.inner}, Fold<A>{scan.op},
                 ReadLine<A>{rows.raw(), rows.dtype(), map}, WriteLine<A>{output.raw(), output.dtype(), map}, initial);
      map.first += run.length;
    }
  });
}

}  // namespace

void install_scans() {
  kernels::cumulative_sum.cuda = cumulative_sum;
  kernels::cumulative_product.cuda = cumulative_product;
  kernels::cumulative_product_backward.cuda = cumulative_product_backward;
  kernels::cumulative_extreme.cuda = cumulative_extreme;
  kernels::cumulative_extreme_backward.cuda = cumulative_extreme_backward;
  kernels::cumulative_log_sum.cuda = cumulative_log_sum;
  kernels::cumulative_log_sum_backward.cuda = cumulative_log_sum_backward;
  kernels::scan_totals.cuda = scan_totals;
  kernels::scan_from.cuda = scan_from;
}

}  // namespace dtensor::local::cuda
