// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/sorting.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/sorting.h"
#include "ops/candidates.h"
#include "ops/families.h"
#include "ops/index_rules.h"
#include "ops/split_order.h"
#include "ops/view_rules.h"

namespace dtensor {
namespace {

using local::cpu::OrderCall;
using ops::lined;

int dim_of(const Attribute& dim, const Shape& shape, std::string_view op) { return ops::line_dim(dim, shape.ndim(), op); }
std::int64_t length_of(const Shape& shape, int dim) { return shape.empty() ? 1 : shape[dim]; }

// values and indices: `count` elements of each line, or none (count < 0: the dim goes away).
void set_lines(ShapeCall& s, int dim, std::int64_t count) {
  Shape shape = s.input(0).shape;
  if (!shape.empty()) {
    if (count < 0) shape.erase(dim);
    else shape[dim] = count;
  }
  s.output(0) = {.shape = shape, .dtype = s.input(0).dtype};
  s.output(1) = {.shape = shape, .dtype = Dtype::i64};
}
// The line whole; results have the line's dim under another name, or not at all.
std::string lines_rule(const Shape& shape, int dim, const char* name) {
  if (shape.empty()) return "() -> (), ()";
  std::string out;
  for (int d = 0; d < shape.ndim(); ++d)
    if (d != dim || *name != 0) out += (out.empty() ? "" : " ") + (d == dim ? std::string(name) : fmt::format("d{}", d));
  if (out.empty()) out = "()";
  const bool named = *name != 0 && *name != '1' && *name != 'd';
  return fmt::format("{} -> {}, {}    d{}{}{}: whole", ops::names(shape.ndim()), out, out, dim, named ? ", " : "", named ? name : "");
}
void order(const KernelCall& call, const OrderCall& c) { local::kernels::order_lines(c, lined(call.input(0)), call.output(0), call.output(1)); }
// To where the values came from.
DTensor back_to_lines(const GradientCall& g, const DTensor& grad, const DTensor& indices, int dim, bool dropped) {
  const Shape& shape = g.input_type(0).shape;
  if (dropped && !shape.empty()) return call(ops::gather_backward_op(), {unsqueeze(grad, dim), unsqueeze(indices, dim)}, {dim, shape});
  return call(ops::gather_backward_op(), {grad, indices}, {dim, shape});
}

constexpr std::string_view kWholeLines = "a line is ordered where all of it is";

// ---- sort
std::vector<DTensor> sort_gradient(const GradientCall& g) {
  return {back_to_lines(g, g.grad_output(0), g.output(1), dim_of(g.attribute(0), g.input_type(0).shape, "sort"), false)};
}
extern const OpDef kSort;
constexpr OpDef kSort{
    .name = "sort",
    .signature = "input, dim: int = -1, descending: bool = false, stable: bool = false -> values, indices",
    .saves = "indices",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s.attribute(0), s.input(0).shape, "sort");
          set_lines(s, dim, length_of(s.input(0).shape, dim));
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int dim = dim_of(s.attribute(0), s.input(0).shape, "sort");
          return lines_rule(s.input(0).shape, dim, fmt::format("d{}", dim).c_str());
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor in = lined(call.input(0));
          const int dim = dim_of(call.attribute(0), in.shape(), "sort");
          order(call, {.dim = dim, .first = 0, .count = in.shape()[dim], .descending = call.attribute(1).as_bool(), .nan_first = false});
        },
    .gradient = sort_gradient,
    .decompose = [](const DecomposeCall& c) -> Results {
      const int dim = dim_of(c.attribute(0), c.input(0).shape(), "sort");
      if (!ops::is_split_line(c.input(0), dim)) return ops::on_whole_lines(kSort, c, dim);
      auto [values, indices] = ops::sorted_split_line(kSort, c.input(0), c.attribute(1).as_bool(), c.input(0).numel());
      return {std::move(values), std::move(indices)};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}},
                                     {.shapes = {{5, 3}}, .attributes = {{"dim", "0"}, {"descending", "true"}}},
                                     {.shapes = {{0, 2}}, .attributes = {{"dim", "0"}}},
                                     {.shapes = {{}}},
                                     {.shapes = {{9}}, .dtypes = {Dtype::i64}},
                                     {.shapes = {{301}}, .attributes = {{"descending", "true"}}, .dtypes = {Dtype::i64}}};
        },
    .reasons = kWholeLines,
};

// ---- topk
std::int64_t checked_k(const ShapeCall& s, int dim, std::int64_t least) {
  const std::int64_t k = s.attribute(0).as_int(), n = length_of(s.input(0).shape, dim);
  if (k < least || k > n) s.fail(fmt::format("k {} is out of range for dim {} of {}; give {} to {}", k, dim, s.describe(0), least, n));
  return k;
}
template <bool Largest>
std::pair<DTensor, DTensor> first_of_lines(const DTensor& x, std::int64_t k, int dim) {
  ValuesAndIndices r = topk(x, k, dim, {.largest = Largest, .sorted = true});
  return {std::move(r.values), std::move(r.indices)};
}
// A value after which none comes.
Scalar last_in_order(Dtype dtype, bool largest) {
  if (info(dtype).floating) return largest ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  switch (dtype) {
    case Dtype::i64:
      return largest ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
    case Dtype::i32:
      return largest ? std::numeric_limits<std::int32_t>::min() : std::numeric_limits<std::int32_t>::max();
    case Dtype::u8:
      return largest ? 0 : 255;
    default:
      return !largest;
  }
}
extern const OpDef kTopk;
Results topk_of_parts(const DecomposeCall& c) {
  const DTensor& x = c.input(0);
  const bool largest = c.attribute(2).as_bool();
  const int dim = dim_of(c.attribute(1), x.shape(), "topk");
  const std::int64_t k = c.attribute(0).as_int();
  if (!ops::fewer_as_candidates(x, k, dim)) {
    if (!ops::is_split_line(x, dim) || k < 2) return ops::on_whole_lines(kTopk, c, dim);
    auto [values, indices] = ops::sorted_split_line(kTopk, x, largest, k);
    return {std::move(values), std::move(indices)};
  }
  auto [values, indices] = ops::first_of_parts(x, k, dim, last_in_order(x.dtype(), largest), largest ? first_of_lines<true> : first_of_lines<false>);
  return {std::move(values), std::move(indices)};
}
constexpr OpDef kTopk{
    .name = "topk",
    .signature = "input, k: int, dim: int = -1, largest: bool = true, sorted: bool = true -> values, indices",
    .saves = "indices",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s.attribute(1), s.input(0).shape, "topk");
          set_lines(s, dim, checked_k(s, dim, 0));
        },
    .rule_for = [](const ShapeCall& s) { return lines_rule(s.input(0).shape, dim_of(s.attribute(1), s.input(0).shape, "topk"), "k"); },
    .kernel =
        [](const KernelCall& call) {
          const int dim = dim_of(call.attribute(1), call.input(0).shape(), "topk");
          // A tensor without dims is its own one element, for k 0 too.
          const std::int64_t count = call.input(0).ndim() == 0 ? 1 : call.attribute(0).as_int();
          order(call, {.dim = dim, .first = 0, .count = count, .descending = call.attribute(2).as_bool(), .nan_first = false});
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {back_to_lines(g, g.grad_output(0), g.output(1), dim_of(g.attribute(1), g.input_type(0).shape, "topk"), false)};
    },
    .decompose = topk_of_parts,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 7}}, .attributes = {{"k", "3"}}}, {.shapes = {{7, 3}}, .attributes = {{"k", "2"}, {"dim", "0"}, {"largest", "false"}}},
              {.shapes = {{3, 4}}, .attributes = {{"k", "0"}}}, {.shapes = {{7}}, .attributes = {{"k", "6"}}, .dtypes = {Dtype::i64}},
              {.shapes = {{}}, .attributes = {{"k", "1"}}},     {.shapes = {{}}, .attributes = {{"k", "0"}}}};
        },
    .reasons = kWholeLines,
};

// ---- kthvalue, median.dim: one element of each line
std::string one_rule(const ShapeCall& s, const Attribute& dim, bool keepdim, std::string_view op) {
  return lines_rule(s.input(0).shape, dim_of(dim, s.input(0).shape, op), keepdim ? "1" : "");
}
// The last of the k smallest, or of whole lines where k is large.
Results kth_of_parts(const DecomposeCall& c);
constexpr OpDef kKthvalue{
    .name = "kthvalue",
    .signature = "input, k: int, dim: int = -1, keepdim: bool = false -> values, indices",
    .saves = "indices",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s.attribute(1), s.input(0).shape, "kthvalue");
          checked_k(s, dim, 1);
          set_lines(s, dim, s.attribute(2).as_bool() ? 1 : -1);
        },
    .rule_for = [](const ShapeCall& s) { return one_rule(s, s.attribute(1), s.attribute(2).as_bool(), "kthvalue"); },
    .kernel =
        [](const KernelCall& call) {
          const int dim = dim_of(call.attribute(1), call.input(0).shape(), "kthvalue");
          order(call, {.dim = dim, .first = call.attribute(0).as_int() - 1, .count = 1, .descending = false, .nan_first = false});
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const int dim = dim_of(g.attribute(1), g.input_type(0).shape, "kthvalue");
      return {back_to_lines(g, g.grad_output(0), g.output(1), dim, !g.attribute(2).as_bool())};
    },
    .decompose = kth_of_parts,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"k", "3"}}},
                                     {.shapes = {{7, 3}}, .attributes = {{"k", "7"}, {"dim", "0"}, {"keepdim", "true"}}},
                                     {.shapes = {{0, 3}}, .attributes = {{"k", "1"}}},
                                     {.shapes = {{}}, .attributes = {{"k", "1"}}}};
        },
    .reasons = kWholeLines,
};
Results counted(const OpDef& op, const DTensor& x, int dim, std::int64_t k, bool keepdim, bool nan_first) {
  auto [values, indices] = ops::counted_along(op, x, dim, k, nan_first);
  if (keepdim) return {std::move(values), std::move(indices)};
  return {squeeze(values, dim), squeeze(indices, dim)};
}
Results kth_of_parts(const DecomposeCall& c) {
  const DTensor& x = c.input(0);
  const std::int64_t k = c.attribute(0).as_int();
  const int dim = dim_of(c.attribute(1), x.shape(), "kthvalue");
  if (!ops::fewer_as_candidates(x, k, dim)) {
    if (ops::has_room_elsewhere(x, dim) || !ops::can_count(x, dim)) return ops::on_whole_lines(kKthvalue, c, dim);
    return counted(kKthvalue, x, dim, k - 1, c.attribute(2).as_bool(), false);
  }
  const auto [values, indices] = ops::first_of_parts(x, k, dim, last_in_order(x.dtype(), false), first_of_lines<false>);
  if (c.attribute(2).as_bool()) return {narrow(values, dim, k - 1, 1), narrow(indices, dim, k - 1, 1)};
  return {select(values, dim, k - 1), select(indices, dim, k - 1)};
}
extern const OpDef kMedianDim;
constexpr OpDef kMedianDim{
    .name = "median.dim",
    .signature = "input, dim: int, keepdim: bool = false -> values, indices",
    .saves = "indices",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const int dim = dim_of(s.attribute(0), s.input(0).shape, "median");
          if (length_of(s.input(0).shape, dim) == 0) s.fail(fmt::format("dim {} has no element ({})", dim, s.describe(0)));
          set_lines(s, dim, s.attribute(1).as_bool() ? 1 : -1);
        },
    .rule_for = [](const ShapeCall& s) { return one_rule(s, s.attribute(0), s.attribute(1).as_bool(), "median"); },
    .kernel =
        [](const KernelCall& call) {
          const Tensor in = lined(call.input(0));
          const int dim = dim_of(call.attribute(0), in.shape(), "median");
          order(call, {.dim = dim, .first = (in.shape()[dim] - 1) / 2, .count = 1, .descending = false, .nan_first = true});
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const int dim = dim_of(g.attribute(0), g.input_type(0).shape, "median");
      return {back_to_lines(g, g.grad_output(0), g.output(1), dim, !g.attribute(1).as_bool())};
    },
    .decompose = [](const DecomposeCall& c) -> Results {
      const DTensor& x = c.input(0);
      const int dim = dim_of(c.attribute(0), x.shape(), "median");
      if (ops::has_room_elsewhere(x, dim) || !ops::can_count(x, dim)) return ops::on_whole_lines(kMedianDim, c, dim);
      return counted(kMedianDim, x, dim, (x.shape()[dim] - 1) / 2, c.attribute(1).as_bool(), true);
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}}},
                                     {.shapes = {{4, 3}}, .attributes = {{"dim", "0"}, {"keepdim", "true"}}},
                                     {.shapes = {{}}, .attributes = {{"dim", "0"}}}};
        },
    .reasons = kWholeLines,
};

// ---- median of all elements
Scalar median_of_none(Dtype dtype) { return info(dtype).floating ? Scalar(std::numeric_limits<double>::quiet_NaN()) : last_in_order(dtype, true); }
void median_kernel(const KernelCall& call) {
  const Tensor &x = call.input(0), &out = call.output(0);
  const std::int64_t n = x.numel();
  if (n == 0) return out.fill_(median_of_none(out.dtype()));
  const Tensor place = Tensor::empty({1}, Dtype::i64, x.device());
  local::kernels::order_lines({.dim = 0, .first = (n - 1) / 2, .count = 1, .descending = false, .nan_first = true}, x.view({n}), lined(out), place);
}
extern const OpDef kMedian;
constexpr OpDef kMedian{
    .name = "median",
    .signature = "input -> out",
    .saves = "input, out",
    .contiguous = true,
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = {}, .dtype = s.input(0).dtype}; },
    .rule_for =
        [](const ShapeCall& s) {
          const int n = s.input(0).shape.ndim();
          std::string all;
          for (int d = 0; d < n; ++d) all += fmt::format("{}d{}", d == 0 ? "" : ", ", d);
          return ops::names(n) + " -> ()" + (n == 0 ? "" : "    " + all + ": whole");
        },
    .kernel = median_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor& x = g.input(0);
      const DTensor share = logical_or(eq(x, g.output(0)), isnan(x));  // where some are NaN, so is the median
      return {where(share, div(g.grad_output(0), sum(share)), 0)};
    },
    .decompose = [](const DecomposeCall& c) -> Results {
      const DTensor& x = c.input(0);
      if (x.numel() > 0 && x.device().kind != DeviceKind::meta) return {ops::counted_median(kMedian, x)};
      return {call(kMedian, {ops::without_split(kMedian, x)})};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{3, 5}}}, {.shapes = {{4}}}, {.shapes = {{}}}, {.shapes = {{0, 3}}}, {.shapes = {{0}}, .dtypes = {Dtype::i32}}};
        },
    .reasons = "the middle of parts is not the middle of all",
};

// ---- argsort, msort: forms of these
constexpr OpDef kArgsort{
    .name = "argsort",
    .signature = "input, dim: int = -1, descending: bool = false, stable: bool = false -> out",
    .shape =
        [](ShapeCall& s) {
          dim_of(s.attribute(0), s.input(0).shape, "argsort");
          s.output(0) = {.shape = s.input(0).shape, .dtype = Dtype::i64};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      return {argsort(c.input(0), static_cast<int>(c.attribute(0).as_int()),
                      {.descending = c.attribute(1).as_bool(), .stable = c.attribute(2).as_bool()})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{3, 5}}}, {.shapes = {{4, 2}}, .attributes = {{"dim", "0"}, {"descending", "true"}}}};
        },
};
constexpr OpDef kMsort{
    .name = "msort",
    .signature = "input -> out",
    .shape = [](ShapeCall& s) { s.output(0) = s.input(0); },
    .decompose = [](const DecomposeCall& c) -> Results { return {msort(c.input(0))}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}}};
        },
};

// ---- searchsorted, bucketize
bool goes_right(const Attribute& right, const Attribute& side) { return right.as_bool() || (!side.is_none() && side.as_text() == "right"); }
void searchsorted_shape(ShapeCall& s) {
  const Shape &sequence = s.input(0).shape, &input = s.input(1).shape;
  bool fits = sequence.ndim() == 1 || (sequence.ndim() == input.ndim() && sequence.ndim() > 1);
  for (int d = 0; fits && sequence.ndim() > 1 && d + 1 < sequence.ndim(); ++d) fits = sequence[d] == input[d];
  if (!fits) s.fail(fmt::format("{} does not fit {}; give one line, or as many dims with the same sizes but the last", s.describe(0), s.describe(1)));
  if (s.input(0).dtype != s.input(1).dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(1)));
  if (s.has_input(2) && (s.input(2).shape != sequence || s.input(2).dtype != Dtype::i64))
    s.fail(fmt::format("{} is no order of {}; give i64 of its shape", s.describe(2), s.describe(0)));
  const std::string_view side = s.attribute(2).is_none() ? "" : s.attribute(2).as_text();
  if (!side.empty() && side != "left" && side != "right") s.fail(fmt::format("side '{}' is unknown; use 'left' or 'right'", side));
  if (side == "left" && s.attribute(1).as_bool()) s.fail("side 'left' and right disagree; give one");
  s.output(0) = {.shape = input, .dtype = s.attribute(0).as_bool() ? Dtype::i32 : Dtype::i64};
}
// What is less than a value is counted, part by part; an order of the sequence needs all of it.
std::string searchsorted_rule(const ShapeCall& s) {
  const int n = s.input(1).shape.ndim();
  const bool lines = s.input(0).shape.ndim() > 1;
  std::string sequence = "s";
  if (lines) {
    sequence.clear();
    for (int d = 0; d + 1 < n; ++d) sequence += fmt::format("d{} ", d);
    sequence += "s";
  }
  return fmt::format("{}, {}, {} -> {}    s: {}", sequence, ops::names(n), s.has_input(2) ? sequence : "()", ops::names(n),
                     s.has_input(2) ? "whole" : "reduce(sum)");
}
constexpr OpDef kSearchsorted{
    .name = "searchsorted",
    .signature = "sorted_sequence, input, sorter?, *, out_int32: bool = false, right: bool = false, side: text? = none -> out",
    .contiguous = true,
    .shape = searchsorted_shape,
    .rule_for = searchsorted_rule,
    .kernel =
        [](const KernelCall& call) {
          local::kernels::search_lines(call.input(0), call.input(1), call.has_input(2) ? call.input(2) : Tensor(),
                                       goes_right(call.attribute(1), call.attribute(2)), call.output(0));
        },
    .samples =
        [] {
          // Lines that rise whatever is drawn: equal elements, or one.
          return std::vector<Sample>{{.shapes = {{1}, {5, 3}}},
                                     {.shapes = {{7}, {2, 3}}, .attributes = {{"right", "true"}}, .low = 1, .high = 1},
                                     {.shapes = {{3, 1}, {3, 4}}, .attributes = {{"out_int32", "true"}, {"side", "right"}}},
                                     {.shapes = {{0}, {4}}}};
        },
    .reasons = "an order of the sequence names its global places, so all of it is on every rank",
};
constexpr OpDef kBucketize{
    .name = "bucketize",
    .signature = "input, boundaries, *, out_int32: bool = false, right: bool = false -> out",
    .shape =
        [](ShapeCall& s) {
          if (s.input(1).shape.ndim() != 1) s.fail(fmt::format("boundaries must have one dim ({})", s.describe(1)));
          s.output(0) = {.shape = s.input(0).shape, .dtype = s.attribute(0).as_bool() ? Dtype::i32 : Dtype::i64};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      return {bucketize(c.input(0), c.input(1), {.out_int32 = c.attribute(0).as_bool(), .right = c.attribute(1).as_bool()})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {1}}}};
        },
};

constexpr std::array<const OpDef*, 9> kOps{&kSort, &kTopk, &kKthvalue, &kMedianDim, &kMedian, &kArgsort, &kMsort, &kSearchsorted, &kBucketize};

ValuesAndIndices both(const OpDef& op, const DTensor& input, std::span<const Attribute> attributes) {
  const Input in(input);
  Results r = call_all(op, {&in, 1}, attributes);
  return {std::move(r.at(0)), std::move(r.at(1))};
}

}  // namespace

namespace ops {
OpList sorting_ops() { return kOps; }
}  // namespace ops

ValuesAndIndices sort(const DTensor& input, int dim, const SortOptions& options) {
  return both(kSort, input, std::array<Attribute, 3>{dim, options.descending, options.stable});
}
DTensor argsort(const DTensor& input, int dim, const SortOptions& options) { return sort(input.detach(), dim, options).indices; }
DTensor msort(const DTensor& input) { return sort(input, 0).values; }
ValuesAndIndices topk(const DTensor& input, std::int64_t k, int dim, const TopkOptions& options) {
  return both(kTopk, input, std::array<Attribute, 4>{k, dim, options.largest, options.sorted});
}
ValuesAndIndices kthvalue(const DTensor& input, std::int64_t k, int dim, const OrderOptions& options) {
  return both(kKthvalue, input, std::array<Attribute, 3>{k, dim, options.keepdim});
}
DTensor median(const DTensor& input) { return call(kMedian, {input}); }
ValuesAndIndices median(const DTensor& input, int dim, const OrderOptions& options) {
  return both(kMedianDim, input, std::array<Attribute, 2>{dim, options.keepdim});
}
DTensor searchsorted(const DTensor& sorted_sequence, const DTensor& input, const SearchOptions& options) {
  return call(kSearchsorted, {sorted_sequence, input, options.sorter},
              {options.out_int32, options.right, options.side.empty() ? Attribute() : Attribute(options.side)});
}
DTensor bucketize(const DTensor& input, const DTensor& boundaries, const BucketizeOptions& options) {
  return searchsorted(boundaries, input, {.out_int32 = options.out_int32, .right = options.right, .side = "", .sorter = {}});
}

}  // namespace dtensor
