// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/scans.h"

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/views.h"
#include "local/kernels/scans.h"
#include "ops/candidates.h"
#include "ops/elementwise.h"
#include "ops/index_rules.h"
#include "ops/reduction_rules.h"
#include "ops/split_scan.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::in_dtype;

// Attribute 0 is dim; all operands have one shape.
int dim_of(const KernelCall& call) {
  const int ndim = call.output(0).ndim();
  return ndim == 0 ? 0 : static_cast<int>(ops::normal_dims(call.attribute(0), ndim)[0]);
}
std::string whole_rule(const ShapeCall& s) {
  const std::string names = ops::all_names(s.input(0).shape.ndim());
  std::string in, out;
  for (int i = 0; i < s.num_inputs(); ++i) in += (i == 0 ? "" : ", ") + names;
  for (int i = 0; i < s.num_outputs(); ++i) out += (i == 0 ? "" : ", ") + names;
  return in + " -> " + out + "  " + ops::clause(ops::checked_dims(s, s.attribute(0)), "whole");
}
void backward_shape(ShapeCall& s) {
  for (int i = 1; i < s.num_inputs(); ++i)
    if (s.input(i).shape != s.input(0).shape) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(i) + "); all are those of the result");
  ops::checked_dims(s, s.attribute(0));
  s.output(0) = s.input(0);
}
// Linear in the first operand, the incoming gradient.
std::string backward_rule(const ShapeCall& s) {
  const std::string text = whole_rule(s);
  return text + (text.back() == ' ' ? "linear 1" : "; linear 1");
}
constexpr std::string_view kReasons = "the dimension is whole; split, it is scanned in parts";
constexpr std::string_view kBackwardReasons = "the dimension is whole; split, another one is split instead";
int dim_of(const DecomposeCall& c) { return static_cast<int>(ops::normal_dims(c.attribute(0), c.input(0).ndim())[0]); }
std::vector<Sample> scan_samples() {
  return {{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}}},
          {.shapes = {{3, 2, 4}}, .attributes = {{"dim", "-2"}}},
          {.shapes = {{0, 2}}, .attributes = {{"dim", "0"}}},
          {.shapes = {{1}}, .attributes = {{"dim", "0"}}},
          {.shapes = {{}}, .attributes = {{"dim", "-1"}}}};
}
std::vector<Sample> repeated(int inputs, std::vector<Dtype> dtypes = {}, std::int64_t limit = 0) {
  std::vector<Sample> samples;
  for (const Shape& shape : {Shape{5, 3}, Shape{0, 3}})
    samples.push_back({.shapes = std::vector<Shape>(static_cast<std::size_t>(inputs), shape),
                       .attributes = {{"dim", "1"}},
                       .dtypes = dtypes,
                       .index_limit = limit});
  return samples;
}

// cumprod
constexpr OpDef kCumprodBackward{
    .name = "cumprod_backward",
    .signature = "grad_output, input, dim: int -> grad_input",
    .dtypes = "floating",
    .contiguous = true,
    .shape = backward_shape,
    .rule_for = backward_rule,
    .kernel = [](const KernelCall& c) { kernels::cumulative_product_backward(c.input(0), c.input(1), dim_of(c), c.output(0)); },
    .decompose = [](const DecomposeCall& c) -> Results { return ops::on_whole_lines(kCumprodBackward, c, dim_of(c)); },
    .samples = [] { return repeated(2); },
    .reasons = kBackwardReasons,
};
Dtype product_dtype(const ShapeCall& s) {
  const Dtype dtype = s.input(0).dtype;
  return !s.attribute(1).is_none() ? s.attribute(1).as_dtype() : info(dtype).floating ? dtype : Dtype::i64;
}
constexpr OpDef kCumprod{
    .name = "cumprod",
    .signature = "input, dim: int, dtype: dtype? = none -> out",
    .saves = "input",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          ops::checked_dims(s, s.attribute(0));
          s.output(0) = {.shape = s.input(0).shape, .dtype = product_dtype(s)};
        },
    .rule_for = whole_rule,
    .kernel =
        [](const KernelCall& c) {
          const Tensor &x = c.input(0), &out = c.output(0);
          const bool rounds = info(x.dtype()).floating && !info(out.dtype()).floating;
          kernels::cumulative_product(rounds ? x.to(out.dtype()) : x, dim_of(c), out);
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor& u = g.grad_output(0);
      return {in_dtype(call(kCumprodBackward, {u, in_dtype(g.input(0), u.dtype())}, {g.attribute(0)}), g.input_type(0).dtype)};
    },
    .decompose = [](const DecomposeCall& c) -> Results {
      const DTensor x = ops::without_partial("cumprod", c.input(0));
      const Dtype result = !c.attribute(1).is_none() ? c.attribute(1).as_dtype() : info(x.dtype()).floating ? x.dtype() : Dtype::i64;
      return {ops::split_scan(in_dtype(x, result), dim_of(c), "product", false, result)};
    },
    .samples = scan_samples,
    .reasons = kReasons,
};

// cummax, cummin
constexpr OpDef kExtremeBackward{
    .name = "cummax_backward",
    .signature = "grad_output, indices, dim: int -> grad_input",
    .contiguous = true,
    .shape = backward_shape,
    .rule_for = backward_rule,
    .kernel =
        [](const KernelCall& c) {
          ops::run_checked(c, [&] { kernels::cumulative_extreme_backward(c.input(0), c.input(1), dim_of(c), c.output(0)); });
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      return {call(ops::gather_backward_op(), {c.input(0), c.input(1)}, {dim_of(c), c.input(0).shape()})};
    },
    .samples =
        [] {
          return repeated(2, {Dtype::f32, Dtype::i64}, 3);
        },
    .reasons = "the dimension is whole; split, the gradients are put at their indices, and the sum is Partial",
};
// The last index whose element is the extreme so far is the largest of such indices so far.
template <bool largest>
Results split_extreme(const DecomposeCall& c) {
  const DTensor x = ops::without_partial(largest ? "cummax" : "cummin", c.input(0));
  const int dim = dim_of(c);
  const DTensor values = ops::split_scan(x, dim, largest ? "max" : "min", false, x.dtype());
  Shape line = Shape::filled(x.ndim(), 1);
  line[dim] = x.shape()[dim];
  const DTensor places = reshape(arange(0, x.shape()[dim], 1, x.mesh(), {}, {.dtype = Dtype::i64}), line);
  const DTensor sets = info(x.dtype()).floating ? logical_or(eq(x, values), isnan(x)) : eq(x, values);
  return {values, ops::split_scan(where(sets, places, 0), dim, "max", false, Dtype::i64)};
}
template <bool largest>
constexpr OpDef extreme_op(std::string_view name) {
  return {.name = name,
          .signature = "input, dim: int -> values, indices",
          .saves = "indices",
          .dtypes = "number",
          .contiguous = true,
          .shape =
              [](ShapeCall& s) {
                ops::checked_dims(s, s.attribute(0));
                s.output(0) = s.input(0);
                s.output(1) = {.shape = s.input(0).shape, .dtype = Dtype::i64};
              },
          .rule_for = whole_rule,
          .kernel = [](const KernelCall& c) { kernels::cumulative_extreme(c.input(0), dim_of(c), largest, c.output(0), c.output(1)); },
          .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
            return {call(kExtremeBackward, {g.grad_output(0), g.output(1)}, {g.attribute(0)})};
          },
          .decompose = split_extreme<largest>,
          .samples = scan_samples,
          .reasons = kReasons};
}
constexpr OpDef kCummax = extreme_op<true>("cummax");
constexpr OpDef kCummin = extreme_op<false>("cummin");

// logcumsumexp
constexpr OpDef kLogBackward{
    .name = "logcumsumexp_backward",
    .signature = "grad_output, input, result, dim: int -> grad_input",
    .dtypes = "floating",
    .contiguous = true,
    .shape = backward_shape,
    .rule_for = backward_rule,
    .kernel = [](const KernelCall& c) { kernels::cumulative_log_sum_backward(c.input(0), c.input(1), c.input(2), dim_of(c), c.output(0)); },
    .decompose = [](const DecomposeCall& c) -> Results { return ops::on_whole_lines(kLogBackward, c, dim_of(c)); },
    .samples = [] { return repeated(3); },
    .reasons = kBackwardReasons,
};
constexpr OpDef kLogCumSumExp{
    .name = "logcumsumexp",
    .signature = "input, dim: int -> out",
    .saves = "input, out",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          ops::checked_dims(s, s.attribute(0));
          s.output(0) = s.input(0);
        },
    .rule_for = whole_rule,
    .kernel = [](const KernelCall& c) { kernels::cumulative_log_sum(c.input(0), dim_of(c), c.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      return {call(kLogBackward, {g.grad_output(0), g.input(0), g.output(0)}, {g.attribute(0)})};
    },
    .decompose = [](const DecomposeCall& c) -> Results {
      const DTensor x = ops::without_partial("logcumsumexp", c.input(0));
      return {ops::split_scan(x, dim_of(c), "log_sum", false, x.dtype())};
    },
    .samples = scan_samples,
    .reasons = kReasons,
};

constexpr const OpDef* kFamily[] = {&kCumprod, &kCumprodBackward, &kCummax, &kCummin, &kExtremeBackward, &kLogCumSumExp, &kLogBackward};

ValuesIndices extreme(const OpDef& op, const DTensor& input, int dim) {
  const Input inputs[1] = {input};
  const Attribute attributes[1] = {dim};
  Results r = call_all(op, inputs, attributes);
  return {std::move(r[0]), std::move(r[1])};
}

}  // namespace

namespace ops {
OpList scan_ops() { return kFamily; }
}  // namespace ops

DTensor cumprod(const DTensor& input, int dim, const CumsumOptions& o) { return call(kCumprod, {input}, {dim, o.dtype}); }
ValuesIndices cummax(const DTensor& input, int dim) { return extreme(kCummax, input, dim); }
ValuesIndices cummin(const DTensor& input, int dim) { return extreme(kCummin, input, dim); }
DTensor logcumsumexp(const DTensor& input, int dim) { return call(kLogCumSumExp, {input}, {dim}); }

}  // namespace dtensor
