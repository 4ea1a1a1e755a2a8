// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/reductions.h"

#include <array>
#include <cmath>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/summaries.h"
#include "local/kernels/reduce.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/split_scan.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using cpu::Reduction;
using ops::expand_reduced;
using ops::in_dtype;

// Attributes of every op here: 0 dim, 1 keepdim, 2 dtype or what stands for it.
bool keeps(const ShapeCall& s) { return s.attribute(1).as_bool(); }
Shape dims_of(const ShapeCall& s) { return ops::checked_dims(s, s.attribute(0)); }
Shape dims_of(const KernelCall& call) { return ops::normal_dims(call.attribute(0), call.input(0).ndim()); }
Shape dims_of(const GradientCall& g) { return ops::normal_dims(g.attribute(0), g.input_type(0).shape.ndim()); }
bool keeps(const GradientCall& g) { return g.attribute(1).as_bool(); }
/// A tensor of the result's shape as one of the input's.
DTensor spread(const GradientCall& g, const DTensor& reduced) { return expand_reduced(reduced, dims_of(g), keeps(g), g.input_type(0).shape); }

Dtype dtype_or(const Attribute& attribute, Dtype other) { return attribute.is_none() ? other : attribute.as_dtype(); }
Dtype summed(Dtype dtype) { return info(dtype).floating ? dtype : Dtype::i64; }
void set_result(ShapeCall& s, Dtype dtype) { s.output(0) = {.shape = ops::reduced_shape(s.input(0).shape, dims_of(s), keeps(s)), .dtype = dtype}; }
/// A sum of a narrower type is no sum of sums, so only casts that lose nothing are linear.
std::string_view linear_unless_cast(const ShapeCall& s, Dtype result) { return result == s.input(0).dtype || result == Dtype::f64 ? "linear" : ""; }
double count_of(const KernelCall& call) {
  double count = 1;
  for (std::int64_t d : dims_of(call)) count *= static_cast<double>(call.input_place(0).global[static_cast<int>(d)]);
  return count;
}
double count_of(const GradientCall& g) {
  double count = 1;
  for (std::int64_t d : dims_of(g)) count *= static_cast<double>(g.input_type(0).shape[static_cast<int>(d)]);
  return count;
}

std::vector<Sample> reduce_samples() {
  return {{.shapes = {{5, 7}}},
          {.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}}},
          {.shapes = {{3, 4, 2}}, .attributes = {{"dim", "[0, -1]"}, {"keepdim", "true"}}},
          {.shapes = {{1, 6}}, .attributes = {{"dim", "[0]"}}},
          {.shapes = {{0, 3}}, .attributes = {{"dim", "[1]"}}}};
}
std::vector<Sample> sum_samples() {
  std::vector<Sample> samples = reduce_samples();
  samples.push_back({.shapes = {{0, 3}}, .attributes = {{"dim", "[0]"}}});
  samples.push_back({.shapes = {{4, 3}}, .attributes = {{"dim", "[0]"}, {"dtype", "f64"}}});
  samples.push_back({.shapes = {{}}});
  return samples;
}

// ---- sum
/// Integers are summed, not rounded sums, and what an integer does not hold is converted to its dtype, not to the wider one of the sum.
Tensor terms_of(const KernelCall& call) {
  const Tensor& x = call.input(0);
  const Dtype result = call.output(0).dtype();
  return info(x.dtype()).floating && !info(result).floating && result != Dtype::boolean ? x.to(result) : x;
}
Dtype sum_dtype(const ShapeCall& s) { return dtype_or(s.attribute(2), summed(s.input(0).dtype)); }
std::vector<DTensor> sum_gradient(const GradientCall& g) { return {in_dtype(spread(g, g.grad_output(0)), g.input_type(0).dtype)}; }
constexpr OpDef kSum{
    .name = "sum",
    .signature = "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none -> out",
    .shape = [](ShapeCall& s) { set_result(s, sum_dtype(s)); },
    .rule_for =
        [](const ShapeCall& s) {
          return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "reduce(sum)", linear_unless_cast(s, sum_dtype(s)));
        },
    .kernel =
        [](const KernelCall& call) {
          const bool flags = call.output(0).dtype() == Dtype::boolean;  // converted first, then summed
          kernels::reduce(flags ? Reduction::any : Reduction::sum, terms_of(call), dims_of(call), call.output(0));
        },
    .gradient = sum_gradient,
    .samples = sum_samples,
    .reasons = "a Partial operand is reduced before a cast that narrows",
};

// ---- mean
void mean_shape(ShapeCall& s) {
  const Dtype dtype = dtype_or(s.attribute(2), s.input(0).dtype);
  if (!info(dtype).floating) s.fail("the mean needs a floating dtype (" + s.describe(0) + "); pass dtype, for example f32");
  set_result(s, dtype);
}
std::vector<DTensor> mean_gradient(const GradientCall& g) { return {in_dtype(spread(g, div(g.grad_output(0), count_of(g))), g.input_type(0).dtype)}; }
constexpr OpDef kMean{
    .name = "mean",
    .signature = "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none -> out",
    .shape = mean_shape,
    .rule_for =
        [](const ShapeCall& s) {
          return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "reduce(sum)",
                                     linear_unless_cast(s, dtype_or(s.attribute(2), s.input(0).dtype)));
        },
    .kernel =
        [](const KernelCall& call) { kernels::reduce(Reduction::sum, call.input(0), dims_of(call), call.output(0), {.divisor = count_of(call)}); },
    .gradient = mean_gradient,
    .samples = reduce_samples,
    .reasons = "a Partial operand is reduced before a cast that narrows",
};

// ---- prod
/// The product of the other elements: with one zero in the group only the zero gets a gradient, with two nothing does.
std::vector<DTensor> prod_gradient(const GradientCall& g) {
  const Dtype dtype = g.grad_output(0).dtype();
  const DTensor x = in_dtype(g.input(0), dtype), zero = eq(x, 0);
  const Shape dims = dims_of(g);
  const DTensor filled = where(zero, 1, x);
  const auto list = Attribute(dims);
  const DTensor zeros = call(kSum, {zero}, {list, keeps(g)});
  const DTensor product = mul(call(ops::prod_op(), {filled}, {list, keeps(g)}), g.grad_output(0));
  const DTensor regular = div(spread(g, where(eq(zeros, 0), product, 0)), filled);
  return {in_dtype(where(zero, spread(g, where(eq(zeros, 1), product, 0)), regular), g.input_type(0).dtype)};
}
constexpr OpDef kProd{
    .name = "prod",
    .signature = "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none -> out",
    .saves = "input",
    .shape = [](ShapeCall& s) { set_result(s, sum_dtype(s)); },
    .rule_for = [](const ShapeCall& s) { return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "reduce(product)", ""); },
    .kernel =
        [](const KernelCall& call) {
          const bool flags = call.output(0).dtype() == Dtype::boolean;
          kernels::reduce(flags ? Reduction::all : Reduction::product, terms_of(call), dims_of(call), call.output(0));
        },
    .gradient = prod_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .attributes = {{"dim", "[1]"}}},
                                     {.shapes = {{7}}},
                                     {.shapes = {{3, 4}}, .attributes = {{"dim", "[0]"}, {"keepdim", "true"}}},
                                     {.shapes = {{0, 2}}, .attributes = {{"dim", "[0]"}}}};
        },
};

// ---- amax, amin
void extreme_shape(ShapeCall& s) {
  for (std::int64_t d : dims_of(s))
    if (s.input(0).shape[static_cast<int>(d)] == 0)
      s.fail("dim " + std::to_string(d) + " has no element (" + s.describe(0) + "); reduce dims that are not empty");
  set_result(s, s.input(0).dtype);
}
std::vector<DTensor> extreme_gradient(const GradientCall& g) {
  const DTensor& grad = g.grad_output(0);
  const DTensor mask = eq(g.input(0), spread(g, g.output(0))).to(grad.dtype());
  const DTensor count = call(kSum, {mask}, {Attribute(dims_of(g)), keeps(g)});
  return {mul(mask, spread(g, div(grad, count)))};
}
constexpr OpDef kAmax{
    .name = "amax",
    .signature = "input, dim: int[] = [], keepdim: bool = false -> out",
    .saves = "input, out",
    .shape = extreme_shape,
    .rule_for = [](const ShapeCall& s) { return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "reduce(max)", ""); },
    .kernel = [](const KernelCall& call) { kernels::reduce(Reduction::max, call.input(0), dims_of(call), call.output(0)); },
    .gradient = extreme_gradient,
    .samples = reduce_samples,
    .reasons = "an operand that is Partial(max) is reduced first: the notation has no flag for one kind alone",
};
constexpr OpDef kAmin{
    .name = "amin",
    .signature = "input, dim: int[] = [], keepdim: bool = false -> out",
    .saves = "input, out",
    .shape = extreme_shape,
    .rule_for = [](const ShapeCall& s) { return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "reduce(min)", ""); },
    .kernel = [](const KernelCall& call) { kernels::reduce(Reduction::min, call.input(0), dims_of(call), call.output(0)); },
    .gradient = extreme_gradient,
    .samples = reduce_samples,
    .reasons = "an operand that is Partial(min) is reduced first: the notation has no flag for one kind alone",
};

// ---- max, min of all elements
std::vector<DTensor> extreme_all_gradient(const GradientCall& g) {
  const DTensor& x = g.input(0);
  const DTensor mask = logical_or(eq(x, g.output(0)), isnan(x));  // where some are NaN, so is the result
  return {where(mask, div(g.grad_output(0), sum(mask)), 0)};
}
template <bool largest>
constexpr OpDef extreme_all(std::string_view name) {
  return {.name = name,
          .signature = "input -> out",
          .saves = "input, out",
          .shape =
              [](ShapeCall& s) {
                if (s.input(0).shape.numel() == 0) s.fail("the tensor has no element (" + s.describe(0) + ")");
                s.output(0) = {.shape = {}, .dtype = s.input(0).dtype};
              },
          .rule_for =
              [](const ShapeCall& s) {
                const int ndim = s.input(0).shape.ndim();
                return ops::reduction_rule(ndim, ops::normal_dims(Attribute(), ndim), false, largest ? "reduce(max)" : "reduce(min)", "");
              },
          .kernel =
              [](const KernelCall& call) {
                const Tensor& x = call.input(0);
                kernels::reduce(largest ? Reduction::max : Reduction::min, x, ops::normal_dims(Attribute(), x.ndim()), call.output(0));
              },
          .gradient = extreme_all_gradient,
          .samples =
              [] {
                return std::vector<Sample>{{.shapes = {{5, 7}}}, {.shapes = {{3, 2, 2}}}, {.shapes = {{1}}}, {.shapes = {{}}}};
              },
          .reasons = "an operand that is Partial of the same kind is reduced first: the notation has no flag for one kind alone"};
}
constexpr OpDef kMax = extreme_all<true>("max");
constexpr OpDef kMin = extreme_all<false>("min");

// ---- all, any
// Here a list without dims names none, and only its absence all.
bool names_none(const Attribute& dim) { return dim.kind() == Attribute::Kind::list && dim.as_list().empty(); }
Shape logical_dims(const ShapeCall& s) { return names_none(s.attribute(0)) ? Shape() : dims_of(s); }
void logical_shape(ShapeCall& s) {
  s.output(0) = {.shape = ops::reduced_shape(s.input(0).shape, logical_dims(s), keeps(s)), .dtype = Dtype::boolean};
}
std::string logical_rule(const ShapeCall& s, std::string_view kind) {
  return ops::reduction_rule(s.input(0).shape.ndim(), logical_dims(s), keeps(s), kind, "");
}
void logical_kernel(const KernelCall& call, Reduction kind) {
  kernels::reduce(kind, call.input(0), names_none(call.attribute(0)) ? Shape() : dims_of(call), call.output(0));
}
std::vector<Sample> logical_samples() {
  std::vector<Sample> samples = sum_samples();
  samples.erase(samples.end() - 2);  // the one with a dtype
  samples.push_back({.shapes = {{5, 3}}, .attributes = {{"dim", "[]"}}});
  samples.push_back({.shapes = {{0, 3}}, .attributes = {{"dim", "[]"}, {"keepdim", "true"}}});
  for (Sample& s : samples) s.dtypes = {Dtype::boolean};
  return samples;
}
constexpr OpDef kAll{
    .name = "all",
    .signature = "input, dim: int[]? = none, keepdim: bool = false -> out",
    .shape = logical_shape,
    .rule_for = [](const ShapeCall& s) { return logical_rule(s, "reduce(min)"); },
    .kernel = [](const KernelCall& call) { logical_kernel(call, Reduction::all); },
    .samples = logical_samples,
    .reasons = "Partial(min) of bool is reduced first",
};
constexpr OpDef kAny{
    .name = "any",
    .signature = "input, dim: int[]? = none, keepdim: bool = false -> out",
    .shape = logical_shape,
    .rule_for = [](const ShapeCall& s) { return logical_rule(s, "reduce(max)"); },
    .kernel = [](const KernelCall& call) { logical_kernel(call, Reduction::any); },
    .samples = logical_samples,
    .reasons = "Partial(max) of bool is reduced first",
};

// ---- sum_to_shape, and its opposite
Shape broadcast_dims(const Shape& from, const Shape& to) {
  Shape dims;
  const int extra = from.ndim() - to.ndim();
  for (int d = 0; d < from.ndim(); ++d)
    if (d < extra || (to[d - extra] == 1 && from[d] != 1)) dims.push_back(d);
  return dims;
}
void sum_to_shape_shape(ShapeCall& s) {
  const Shape& from = s.input(0).shape;
  const Shape to = s.attribute(0).as_shape();
  bool fits = to.ndim() <= from.ndim();
  for (int d = 0; fits && d < to.ndim(); ++d) fits = to[d] == 1 || to[d] == from[d + from.ndim() - to.ndim()];
  if (!fits) s.fail("shape " + to_string(to) + " does not broadcast to " + s.describe(0) + "; give a shape of ones and the trailing sizes");
  s.output(0) = {.shape = to, .dtype = s.input(0).dtype};
}
std::string sum_to_shape_rule(const ShapeCall& s) {
  const Shape to = s.attribute(0).as_shape();
  const int ndim = s.input(0).shape.ndim();
  const Shape dims = broadcast_dims(s.input(0).shape, to);
  std::string result;
  for (int d = ndim - to.ndim(); d < ndim; ++d)
    result += (result.empty() ? "" : " ") + (ops::contains(dims, d) ? std::string("1") : "d" + std::to_string(d));
  const std::string reduced = ops::clause(dims, "reduce(sum)");
  return ops::all_names(ndim) + " -> " + (result.empty() ? "()" : result) + "  " + reduced + (reduced.empty() ? "linear" : "; linear");
}
constexpr OpDef kSumToShape{
    .name = "sum_to_shape",
    .signature = "input, shape: int[] -> out",
    .dtypes = "number",
    .shape = sum_to_shape_shape,
    .rule_for = sum_to_shape_rule,
    .kernel =
        [](const KernelCall& call) {
          kernels::reduce(Reduction::sum, call.input(0), broadcast_dims(call.input_place(0).global, call.attribute(0).as_shape()), call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const Shape& shape = g.input_type(0).shape;
      const Shape to = g.attribute(0).as_shape();
      const Shape dims = broadcast_dims(shape, to);
      Shape leading, ones;
      for (int d = 0; d < shape.ndim() - to.ndim(); ++d) leading.push_back(d);
      for (int d = 0; d < shape.ndim(); ++d) ones.push_back(ops::contains(dims, d) && d >= leading.ndim() ? 1 : shape[d]);
      const DTensor full = leading.empty() ? g.grad_output(0) : expand_reduced(g.grad_output(0), leading, false, ones);
      Shape inner;
      for (std::int64_t d : dims)
        if (d >= leading.ndim()) inner.push_back(d);
      return {inner.empty() ? full : expand_reduced(full, inner, true, shape)};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"shape", "[7]"}}},
                                     {.shapes = {{3, 4, 2}}, .attributes = {{"shape", "[4, 1]"}}},
                                     {.shapes = {{3, 4}}, .attributes = {{"shape", "[]"}}},
                                     {.shapes = {{0, 4}}, .attributes = {{"shape", "[1, 4]"}}}};
        },
};

constexpr OpDef kExpandReduced{
    .name = "expand_reduced",
    .signature = "input, dim: int[], keepdim: bool, shape: int[] -> view(input)",
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = s.attribute(2).as_shape(), .dtype = s.input(0).dtype}; },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = static_cast<int>(s.attribute(2).as_list().size());
          return ops::kept_names(ndim, s.attribute(0).as_shape(), keeps(s)) + " -> " + ops::all_names(ndim);
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor& input = call.input(0);
          const Shape& shape = call.output_shape(0);
          const Shape dims = call.attribute(0).as_shape();
          Shape strides;
          for (int d = 0, from = 0; d < shape.ndim(); ++d) {
            const bool reduced = ops::contains(dims, d);
            strides.push_back(reduced ? 0 : input.strides()[from]);
            if (!reduced || call.attribute(1).as_bool()) ++from;
          }
          call.set_output(0, input.as_strided(shape, strides, input.offset()));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call(kSum, {g.grad_output(0)}, {g.attribute(0), keeps(g)})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5}}, .attributes = {{"dim", "[1]"}, {"keepdim", "false"}, {"shape", "[5, 3]"}}},
                                     {.shapes = {{1, 7}}, .attributes = {{"dim", "[0]"}, {"keepdim", "true"}, {"shape", "[2, 7]"}}},
                                     {.shapes = {{}}, .attributes = {{"dim", "[0]"}, {"keepdim", "false"}, {"shape", "[4]"}}}};
        },
    .reasons = "a Partial operand is reduced before it grows",
};

// ---- cumsum
int cumsum_dim(const Attribute& attribute, int ndim) { return ndim == 0 ? 0 : static_cast<int>(ops::normal_dims(attribute, ndim)[0]); }
constexpr OpDef kCumsum{
    .name = "cumsum",
    .signature = "input, dim: int, dtype: dtype? = none, reverse: bool = false -> out",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          ops::checked_dims(s, s.attribute(0));
          s.output(0) = {.shape = s.input(0).shape, .dtype = dtype_or(s.attribute(1), summed(s.input(0).dtype))};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const std::string names = ops::all_names(s.input(0).shape.ndim());
          const std::string whole = ops::clause(ops::checked_dims(s, s.attribute(0)), "whole");
          return names + " -> " + names + "  " + whole + (whole.empty() ? "" : "; ") +
                 std::string(linear_unless_cast(s, dtype_or(s.attribute(1), summed(s.input(0).dtype))));
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor &x = call.input(0), &out = call.output(0);
          // Integers are summed, not rounded sums.
          const bool rounds = info(x.dtype()).floating && !info(out.dtype()).floating;
          kernels::cumulative_sum(rounds ? x.to(out.dtype()) : x, cumsum_dim(call.attribute(0), x.ndim()), call.attribute(2).as_bool(), out);
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {in_dtype(call(ops::cumsum_op(), {g.grad_output(0)}, {g.attribute(0), Attribute(), !g.attribute(2).as_bool()}), g.input_type(0).dtype)};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const Dtype result = dtype_or(c.attribute(1), summed(c.input(0).dtype()));
      const DTensor& x = c.input(0);
      const bool first = x.dtype() == Dtype::boolean || (info(x.dtype()).floating && !info(result).floating);
      return {ops::split_scan(first ? in_dtype(x, result) : x, cumsum_dim(c.attribute(0), x.ndim()), "sum", c.attribute(2).as_bool(), result)};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}}},
                                     {.shapes = {{3, 2, 4}}, .attributes = {{"dim", "-2"}, {"reverse", "true"}}},
                                     {.shapes = {{0, 2}}, .attributes = {{"dim", "0"}}},
                                     {.shapes = {{1}}, .attributes = {{"dim", "0"}}}};
        },
};

constexpr std::array<const OpDef*, 12> kOps{&kSum, &kMean, &kProd, &kAmax,       &kAmin,          &kMax,
                                            &kMin, &kAll,  &kAny,  &kSumToShape, &kExpandReduced, &kCumsum};

Shape as_shape(std::span<const int> dims) {
  Shape shape;
  for (int d : dims) shape.push_back(d);
  return shape;
}
DTensor run(const OpDef& op, const DTensor& input, std::span<const int> dim, const ReduceOptions& o) {
  const Shape dims = as_shape(dim);
  return call(op, {input}, {dims, o.keepdim, o.dtype});
}
DTensor run(const OpDef& op, const DTensor& input, std::span<const int> dim, const KeepdimOptions& o) {
  const Shape dims = as_shape(dim);
  return call(op, {input}, {dims, o.keepdim});
}
using List = std::initializer_list<int>;
std::span<const int> in(const List& list) { return {list.begin(), list.size()}; }
std::span<const int> in(const int& dim) { return {&dim, 1}; }

}  // namespace

namespace ops {
const OpDef& prod_op() { return kProd; }
const OpDef& cumsum_op() { return kCumsum; }
OpList reduction_ops() {
  static const std::vector<const OpDef*> list = [] {
    std::vector<const OpDef*> l(kOps.begin(), kOps.end());
    l.push_back(&scan_totals_op());
    return l;
  }();
  return list;
}
DTensor expand_reduced(const DTensor& reduced, const Shape& dims, bool keepdim, const Shape& shape) {
  if (dims.empty()) return reduced;
  return call(kExpandReduced, {reduced}, {dims, keepdim, shape});
}
}  // namespace ops

DTensor sum(const DTensor& input, const ReduceOptions& o) { return run(kSum, input, {}, o); }
DTensor sum(const DTensor& input, int dim, const ReduceOptions& o) { return run(kSum, input, in(dim), o); }
DTensor sum(const DTensor& input, List dim, const ReduceOptions& o) { return run(kSum, input, in(dim), o); }
DTensor sum(const DTensor& input, std::span<const int> dim, const ReduceOptions& o) { return run(kSum, input, dim, o); }
DTensor mean(const DTensor& input, const ReduceOptions& o) { return run(kMean, input, {}, o); }
DTensor mean(const DTensor& input, int dim, const ReduceOptions& o) { return run(kMean, input, in(dim), o); }
DTensor mean(const DTensor& input, List dim, const ReduceOptions& o) { return run(kMean, input, in(dim), o); }
DTensor mean(const DTensor& input, std::span<const int> dim, const ReduceOptions& o) { return run(kMean, input, dim, o); }
DTensor prod(const DTensor& input, const ReduceOptions& o) { return run(kProd, input, {}, o); }
DTensor prod(const DTensor& input, int dim, const ReduceOptions& o) { return run(kProd, input, in(dim), o); }
DTensor amax(const DTensor& input, const KeepdimOptions& o) { return run(kAmax, input, {}, o); }
DTensor amax(const DTensor& input, int dim, const KeepdimOptions& o) { return run(kAmax, input, in(dim), o); }
DTensor amax(const DTensor& input, List dim, const KeepdimOptions& o) { return run(kAmax, input, in(dim), o); }
DTensor amax(const DTensor& input, std::span<const int> dim, const KeepdimOptions& o) { return run(kAmax, input, dim, o); }
DTensor amin(const DTensor& input, const KeepdimOptions& o) { return run(kAmin, input, {}, o); }
DTensor amin(const DTensor& input, int dim, const KeepdimOptions& o) { return run(kAmin, input, in(dim), o); }
DTensor amin(const DTensor& input, List dim, const KeepdimOptions& o) { return run(kAmin, input, in(dim), o); }
DTensor amin(const DTensor& input, std::span<const int> dim, const KeepdimOptions& o) { return run(kAmin, input, dim, o); }
DTensor max(const DTensor& input) { return call(kMax, {input}); }
DTensor min(const DTensor& input) { return call(kMin, {input}); }
DTensor all(const DTensor& input, const KeepdimOptions& o) { return call(kAll, {input}, {Attribute(), o.keepdim}); }
DTensor all(const DTensor& input, int dim, const KeepdimOptions& o) { return run(kAll, input, in(dim), o); }
DTensor all(const DTensor& input, List dim, const KeepdimOptions& o) { return run(kAll, input, in(dim), o); }
DTensor any(const DTensor& input, const KeepdimOptions& o) { return call(kAny, {input}, {Attribute(), o.keepdim}); }
DTensor any(const DTensor& input, int dim, const KeepdimOptions& o) { return run(kAny, input, in(dim), o); }
DTensor any(const DTensor& input, List dim, const KeepdimOptions& o) { return run(kAny, input, in(dim), o); }
DTensor cumsum(const DTensor& input, int dim, const CumsumOptions& o) { return call(kCumsum, {input}, {dim, o.dtype}); }
DTensor sum_to_shape(const DTensor& input, const Shape& shape) { return input.shape() == shape ? input : call(kSumToShape, {input}, {shape}); }

bool equal(const DTensor& input, const DTensor& other) { return input.shape() == other.shape() && all(eq(input, other)).item<bool>(); }
bool allclose(const DTensor& input, const DTensor& other, const AllCloseOptions& o) {
  return all(isclose(input, other, {.rtol = o.rtol, .atol = o.atol, .equal_nan = o.equal_nan})).item<bool>();
}

}  // namespace dtensor
