// SPDX-License-Identifier: Apache-2.0
// Reductions that are whole over their dimensions and fall back on expressions when those are split: var, std, argmax, argmin.
#include <array>
#include <limits>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "local/kernels/reduce.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::computation_dtype;
using ops::in_dtype;

Shape dims_of(const ShapeCall& s) { return ops::checked_dims(s, s.attribute(0)); }
Shape dims_of(const KernelCall& call) { return ops::normal_dims(call.attribute(0), call.input(0).ndim()); }
Shape dims_of(const GradientCall& g) { return ops::normal_dims(g.attribute(0), g.input_type(0).shape.ndim()); }
Shape dims_of(const DecomposeCall& c) { return ops::normal_dims(c.attribute(0), c.input(0).ndim()); }
bool keeps(const ShapeCall& s) { return s.attribute(1).as_bool(); }
DTensor spread(const GradientCall& g, const DTensor& reduced) {
  return ops::expand_reduced(reduced, dims_of(g), g.attribute(1).as_bool(), g.input_type(0).shape);
}
std::vector<int> ints(const Shape& dims) { return {dims.begin(), dims.end()}; }
void set_result(ShapeCall& s, Dtype dtype) { s.output(0) = {.shape = ops::reduced_shape(s.input(0).shape, dims_of(s), keeps(s)), .dtype = dtype}; }
std::string whole_rule(const ShapeCall& s) { return ops::reduction_rule(s.input(0).shape.ndim(), dims_of(s), keeps(s), "whole", ""); }
double count_over(const Shape& shape, const Shape& dims) {
  double count = 1;
  for (std::int64_t d : dims) count *= static_cast<double>(shape[static_cast<int>(d)]);
  return count;
}

// ---- var, std: attributes dim, keepdim, correction
DTensor deviations(const DTensor& x, const Shape& dims) { return sub(x, mean(x, std::span<const int>(ints(dims)), {.keepdim = true})); }
double divisor_of(const Shape& shape, const Shape& dims, const Attribute& correction) {
  return std::max(0.0, count_over(shape, dims) - correction.as_double());
}
DTensor split_var(const DecomposeCall& c) {
  const Shape dims = dims_of(c);
  const DTensor centred = deviations(in_dtype(c.input(0), computation_dtype(c.input(0).dtype())), dims);
  const DTensor squares = sum(square(centred), std::span<const int>(ints(dims)), {.keepdim = c.attribute(1).as_bool()});
  // A sum that is Partial may be divided part by part, but not by 0: a part of 0 would be NaN where the sum is infinite.
  const double divisor = divisor_of(c.input(0).shape(), dims, c.attribute(2));
  return div(divisor > 0 ? squares : abs(squares), divisor);
}
DTensor var_gradient_of(const GradientCall& g, const DTensor& grad) {
  const Shape dims = dims_of(g);
  // With dims that are named the formula goes on below a divisor of 0, where the value does not.
  const Shape& shape = g.input_type(0).shape;
  const bool named = !g.attribute(0).as_list().empty() && !shape.empty();
  const double divisor = named ? count_over(shape, dims) - g.attribute(2).as_double() : divisor_of(shape, dims, g.attribute(2));
  const DTensor scaled = mul(grad, 2.0 / divisor);
  return mul(spread(g, scaled), deviations(g.input(0), dims));
}
std::vector<Sample> var_samples() {
  return {{.shapes = {{5, 7}}},
          {.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}}},
          {.shapes = {{3, 4, 2}}, .attributes = {{"dim", "[0, 2]"}, {"keepdim", "true"}, {"correction", "0.5"}}},
          {.shapes = {{0, 3}}, .attributes = {{"dim", "[1]"}}}};
}
constexpr OpDef kVar{
    .name = "var",
    .signature = "input, dim: int[] = [], keepdim: bool = false, correction: number = 1 -> out",
    .saves = "input",
    .dtypes = "floating",
    .shape = [](ShapeCall& s) { set_result(s, s.input(0).dtype); },
    .rule_for = whole_rule,
    .kernel = [](const KernelCall& call) { kernels::variance(call.input(0), dims_of(call), call.attribute(2).as_double(), false, call.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> { return {var_gradient_of(g, g.grad_output(0))}; },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> { return {in_dtype(split_var(c), c.input(0).dtype())}; },
    .samples = var_samples,
};
constexpr OpDef kStd{
    .name = "std",
    .signature = "input, dim: int[] = [], keepdim: bool = false, correction: number = 1 -> out",
    .saves = "input, out",
    .dtypes = "floating",
    .shape = [](ShapeCall& s) { set_result(s, s.input(0).dtype); },
    .rule_for = whole_rule,
    .kernel = [](const KernelCall& call) { kernels::variance(call.input(0), dims_of(call), call.attribute(2).as_double(), true, call.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor& out = g.output(0);
      return {var_gradient_of(g, masked_fill(div(g.grad_output(0), mul(out, 2)), eq(out, 0), 0))};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> { return {in_dtype(sqrt(split_var(c)), c.input(0).dtype())}; },
    .samples = var_samples,
};

// ---- argmax, argmin: attributes dim (none: all), keepdim
void arg_shape(ShapeCall& s) {
  for (std::int64_t d : dims_of(s))
    if (s.input(0).shape[static_cast<int>(d)] == 0)
      s.fail("dim " + std::to_string(d) + " has no element (" + s.describe(0) + "); reduce dims that are not empty");
  set_result(s, Dtype::i64);
}
std::vector<DTensor> split_arg(const DecomposeCall& c, bool largest);
std::vector<Sample> arg_samples() {
  return {{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}}},
          {.shapes = {{3, 5}}},
          {.shapes = {{5, 4}}, .attributes = {{"dim", "0"}, {"keepdim", "true"}}, .dtypes = {Dtype::i64}},
          {.shapes = {{0, 3}}, .attributes = {{"dim", "1"}}}};
}
constexpr OpDef kArgmax{
    .name = "argmax",
    .signature = "input, dim: int? = none, keepdim: bool = false -> out",
    .dtypes = "any",
    .shape = arg_shape,
    .rule_for = whole_rule,
    .kernel = [](const KernelCall& call) { kernels::arg_extreme(call.input(0), dims_of(call), true, call.output(0)); },
    .decompose = [](const DecomposeCall& c) { return split_arg(c, true); },
    .samples = arg_samples,
};
constexpr OpDef kArgmin{
    .name = "argmin",
    .signature = "input, dim: int? = none, keepdim: bool = false -> out",
    .dtypes = "any",
    .shape = arg_shape,
    .rule_for = whole_rule,
    .kernel = [](const KernelCall& call) { kernels::arg_extreme(call.input(0), dims_of(call), false, call.output(0)); },
    .decompose = [](const DecomposeCall& c) { return split_arg(c, false); },
    .samples = arg_samples,
};

void first_equal_kernel(const KernelCall& call) {
  const Shape dims = dims_of(call);
  const Place& place = call.input_place(0);
  std::vector<cpu::GlobalIndices> indices(dims.size());
  std::int64_t weight = 1;
  for (std::size_t k = dims.size(); k-- > 0;) {
    const int d = static_cast<int>(dims[k]);
    indices[k].weight = weight;
    for (const IndexRun& run : place.runs[static_cast<std::size_t>(d)]) indices[k].runs.push_back({run.begin, run.length});
    weight *= place.global[d];
  }
  kernels::first_equal(call.input(0), call.input(1), dims, indices, call.output(0));
}
constexpr OpDef kFirstEqual{
    .name = "first_equal",
    .signature = "input, value, dim: int[], keepdim: bool -> out",
    .dtypes = "any",
    .shape = [](ShapeCall& s) { set_result(s, Dtype::i64); },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim();
          const std::string kept = ops::kept_names(ndim, dims_of(s), keeps(s));
          return ops::all_names(ndim) + ", " + kept + " -> " + kept + "  " + ops::clause(dims_of(s), "reduce(min)");
        },
    .kernel = first_equal_kernel,
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 7}, {5}}, .attributes = {{"dim", "[1]"}, {"keepdim", "false"}}, .dtypes = {Dtype::i64, Dtype::i64}},
              {.shapes = {{5, 7}, {1, 1}}, .attributes = {{"dim", "[0, 1]"}, {"keepdim", "true"}}, .dtypes = {Dtype::i64, Dtype::i64}}};
        },
    .reasons = "Partial(min) of integers is reduced first",
};
std::vector<DTensor> split_arg(const DecomposeCall& c, bool largest) {
  const Shape dims = dims_of(c);
  const std::vector<int> list = ints(dims);
  const KeepdimOptions options{.keepdim = c.attribute(1).as_bool()};
  const DTensor value = largest ? amax(c.input(0), std::span<const int>(list), options) : amin(c.input(0), std::span<const int>(list), options);
  return {call(kFirstEqual, {c.input(0), value}, {dims, options.keepdim})};
}

constexpr std::array<const OpDef*, 5> kOps{&kVar, &kStd, &kArgmax, &kArgmin, &kFirstEqual};

Shape one(int dim) { return {dim}; }
Shape several(std::initializer_list<int> dims) {
  Shape shape;
  for (int d : dims) shape.push_back(d);
  return shape;
}
DTensor moment(const OpDef& op, const DTensor& input, const Shape& dims, const VarOptions& o) {
  return call(op, {input}, {dims, o.keepdim, o.correction});
}

}  // namespace

namespace ops {
OpList moment_ops() { return kOps; }
}  // namespace ops

DTensor var(const DTensor& input, const VarOptions& o) { return moment(kVar, input, {}, o); }
DTensor var(const DTensor& input, int dim, const VarOptions& o) { return moment(kVar, input, one(dim), o); }
DTensor var(const DTensor& input, std::initializer_list<int> dim, const VarOptions& o) { return moment(kVar, input, several(dim), o); }
DTensor std(const DTensor& input, const VarOptions& o) { return moment(kStd, input, {}, o); }
DTensor std(const DTensor& input, int dim, const VarOptions& o) { return moment(kStd, input, one(dim), o); }
DTensor std(const DTensor& input, std::initializer_list<int> dim, const VarOptions& o) { return moment(kStd, input, several(dim), o); }
DTensor argmax(const DTensor& input, const KeepdimOptions& o) { return call(kArgmax, {input}, {Attribute(), o.keepdim}); }
DTensor argmax(const DTensor& input, int dim, const KeepdimOptions& o) { return call(kArgmax, {input}, {dim, o.keepdim}); }
DTensor argmin(const DTensor& input, const KeepdimOptions& o) { return call(kArgmin, {input}, {Attribute(), o.keepdim}); }
DTensor argmin(const DTensor& input, int dim, const KeepdimOptions& o) { return call(kArgmin, {input}, {dim, o.keepdim}); }

}  // namespace dtensor
