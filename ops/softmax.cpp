// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/softmax.h"

#include <array>
#include <limits>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "local/kernels/softmax.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/softmax_ops.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::computation_dtype;
using ops::in_dtype;

int dim_at(const Attribute& attribute, int ndim) { return ndim == 0 ? 0 : static_cast<int>(ops::normal_dims(attribute, ndim)[0]); }
std::string along_rule(const ShapeCall& s, const Attribute& dim, int operands, std::string_view flags) {
  const std::string names = ops::all_names(s.input(0).shape.ndim()), whole = ops::clause(ops::checked_dims(s, dim), "whole");
  std::string text = names;
  for (int i = 1; i < operands; ++i) text += ", " + names;
  text += " -> " + names + "  " + whole;
  if (!flags.empty()) text += (whole.empty() ? "" : "; ") + std::string(flags);
  return text;
}
DTensor sum_along(const DTensor& x, int dim) { return sum(x, dim, {.keepdim = true}); }

// ---- softmax, log_softmax: attributes dim, dtype
void softmax_shape(ShapeCall& s) {
  ops::checked_dims(s, s.attribute(0));
  const Dtype dtype = s.attribute(1).is_none() ? s.input(0).dtype : s.attribute(1).as_dtype();
  if (!info(dtype).floating) s.fail("the result needs a floating dtype (" + s.describe(0) + "); pass dtype, for example f32");
  s.output(0) = {.shape = s.input(0).shape, .dtype = dtype};
}
Dtype softmax_dtype(const DecomposeCall& c) { return c.attribute(1).is_none() ? c.input(0).dtype() : c.attribute(1).as_dtype(); }
struct SplitSoftmax {
  DTensor shifted, sum;  // x - max and the sum of its exponentials, keepdim
};
SplitSoftmax split_softmax(const DecomposeCall& c) {
  const DTensor x = in_dtype(in_dtype(c.input(0), softmax_dtype(c)), computation_dtype(softmax_dtype(c)));
  const int dim = dim_at(c.attribute(0), x.ndim());
  if (x.size(dim) == 0) return {x, sum_along(x, dim)};
  const DTensor top = ops::without_partial(amax(x, dim, {.keepdim = true}));
  // exp_sum counts an infinite shift as 0; a row whose maximum is infinite is NaN all over.
  return {sub(x, top), add(ops::exp_sum(x, top, {dim}, true), sub(top, top))};
}
std::vector<Sample> softmax_samples() {
  return {{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}}},
          {.shapes = {{5, 7}}, .attributes = {{"dim", "0"}}},
          {.shapes = {{2, 3, 5}}, .attributes = {{"dim", "-1"}}},
          {.shapes = {{1, 1}}, .attributes = {{"dim", "0"}}},
          {.shapes = {{0, 3}}, .attributes = {{"dim", "1"}}}};
}
void run_softmax(const KernelCall& call, bool logarithm) {
  const Tensor &input = call.input(0), &output = call.output(0);
  kernels::softmax(input.dtype() == output.dtype() ? input : input.to(output.dtype()), dim_at(call.attribute(0), call.input(0).ndim()), logarithm,
                   call.output(0));
}
DTensor backward_of(const DTensor& grad, const DTensor& out, const Attribute& dim, bool logarithm);
std::vector<DTensor> softmax_gradient(const GradientCall& g, bool logarithm) {
  return {in_dtype(backward_of(g.grad_output(0), g.output(0), g.attribute(0), logarithm), g.input_type(0).dtype)};
}
constexpr OpDef kSoftmax{
    .name = "softmax",
    .signature = "input, dim: int, dtype: dtype? = none -> out",
    .saves = "out",
    .contiguous = true,
    .shape = softmax_shape,
    .rule_for = [](const ShapeCall& s) { return along_rule(s, s.attribute(0), 1, ""); },
    .kernel = [](const KernelCall& call) { run_softmax(call, false); },
    .gradient = [](const GradientCall& g) { return softmax_gradient(g, false); },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const SplitSoftmax s = split_softmax(c);
      return {in_dtype(div(exp(s.shifted), s.sum), softmax_dtype(c))};
    },
    .samples = softmax_samples,
};
constexpr OpDef kLogSoftmax{
    .name = "log_softmax",
    .signature = "input, dim: int, dtype: dtype? = none -> out",
    .saves = "out",
    .contiguous = true,
    .shape = softmax_shape,
    .rule_for = [](const ShapeCall& s) { return along_rule(s, s.attribute(0), 1, ""); },
    .kernel = [](const KernelCall& call) { run_softmax(call, true); },
    .gradient = [](const GradientCall& g) { return softmax_gradient(g, true); },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const SplitSoftmax s = split_softmax(c);
      return {in_dtype(sub(s.shifted, log(s.sum)), softmax_dtype(c))};
    },
    .samples = softmax_samples,
};

// ---- their backward: attribute dim
void backward_shape(ShapeCall& s) {
  ops::checked_dims(s, s.attribute(0));
  if (s.input(0).shape != s.input(1).shape) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + "); give the gradient of the result");
  s.output(0) = {.shape = s.input(0).shape, .dtype = s.input(1).dtype};
}
std::vector<Sample> backward_samples() {
  return {{.shapes = {{5, 7}, {5, 7}}, .attributes = {{"dim", "1"}}},
          {.shapes = {{5, 3}, {5, 3}}, .attributes = {{"dim", "0"}}},
          {.shapes = {{0, 3}, {0, 3}}, .attributes = {{"dim", "1"}}}};
}
constexpr OpDef kSoftmaxBackward{
    .name = "softmax_backward",
    .signature = "grad_output, output, dim: int -> grad_input",
    .saves = "grad_output, output",
    .dtypes = "floating",
    .contiguous = true,
    .shape = backward_shape,
    .rule_for = [](const ShapeCall& s) { return along_rule(s, s.attribute(0), 2, "linear 1"); },
    .kernel =
        [](const KernelCall& call) {
          kernels::softmax_backward(call.input(0), call.input(1), dim_at(call.attribute(0), call.input(0).ndim()), false, call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const int dim = dim_at(g.attribute(0), g.input_type(0).shape.ndim());
      const DTensor &v = g.grad_output(0), &grad = g.input(0), &y = g.input(1);
      return {g.needs(0) ? in_dtype(backward_of(v, y, dim, false), g.input_type(0).dtype) : DTensor(),
              g.needs(1) ? sub(mul(v, sub(grad, sum_along(mul(grad, y), dim))), mul(grad, sum_along(mul(v, y), dim))) : DTensor()};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const Dtype dtype = computation_dtype(c.input(1).dtype());
      const DTensor grad = in_dtype(c.input(0), dtype), y = in_dtype(c.input(1), dtype);
      return {in_dtype(mul(y, sub(grad, ops::without_partial(sum_along(mul(grad, y), dim_at(c.attribute(0), y.ndim()))))), c.input(1).dtype())};
    },
    .samples = backward_samples,
};
constexpr OpDef kLogSoftmaxBackward{
    .name = "log_softmax_backward",
    .signature = "grad_output, output, dim: int -> grad_input",
    .saves = "grad_output, output",
    .dtypes = "floating",
    .contiguous = true,
    .shape = backward_shape,
    .rule_for = [](const ShapeCall& s) { return along_rule(s, s.attribute(0), 2, "linear 1"); },
    .kernel =
        [](const KernelCall& call) {
          kernels::softmax_backward(call.input(0), call.input(1), dim_at(call.attribute(0), call.input(0).ndim()), true, call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const int dim = dim_at(g.attribute(0), g.input_type(0).shape.ndim());
      const DTensor& v = g.grad_output(0);
      const DTensor weighted = mul(v, exp(g.input(1)));
      return {g.needs(0) ? in_dtype(sub(v, sum_along(weighted, dim)), g.input_type(0).dtype) : DTensor(),
              g.needs(1) ? neg(mul(weighted, sum_along(g.input(0), dim))) : DTensor()};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const Dtype dtype = computation_dtype(c.input(1).dtype());
      const DTensor grad = in_dtype(c.input(0), dtype), y = in_dtype(c.input(1), dtype);
      return {in_dtype(sub(grad, mul(exp(y), ops::without_partial(sum_along(grad, dim_at(c.attribute(0), y.ndim()))))), c.input(1).dtype())};
    },
    .samples = backward_samples,
};
DTensor backward_of(const DTensor& grad, const DTensor& out, const Attribute& dim, bool logarithm) {
  return call(logarithm ? kLogSoftmaxBackward : kSoftmaxBackward, {grad, out}, {dim});
}

// ---- exp_sum and logsumexp: attributes dim, keepdim
constexpr OpDef kExpSum{
    .name = "exp_sum",
    .signature = "input, shift, dim: int[], keepdim: bool = false -> out",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          const Shape shape = ops::reduced_shape(s.input(0).shape, ops::checked_dims(s, s.attribute(0)), s.attribute(1).as_bool());
          if (s.input(1).shape != shape)
            s.fail("the shift must have the shape of the result " + to_string(shape) + " (" + s.describe(1) + "); reduce it over the same dims");
          s.output(0) = {.shape = shape, .dtype = computation_dtype(s.input(0).dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim();
          const Shape dims = ops::checked_dims(s, s.attribute(0));
          const std::string kept = ops::kept_names(ndim, dims, s.attribute(1).as_bool());
          return ops::all_names(ndim) + ", " + kept + " -> " + kept + "  " + ops::clause(dims, "reduce(sum)");
        },
    .kernel =
        [](const KernelCall& call) {
          kernels::exp_sum(call.input(0), call.input(1), ops::normal_dims(call.attribute(0), call.input(0).ndim()), call.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5}}, .attributes = {{"dim", "[1]"}}},
                                     {.shapes = {{3, 5}, {1, 5}}, .attributes = {{"dim", "[0]"}, {"keepdim", "true"}}},
                                     {.shapes = {{0, 3}, {3}}, .attributes = {{"dim", "[0]"}}}};
        },
};
constexpr OpDef kLogSumExp{
    .name = "logsumexp",
    .signature = "input, dim: int[], keepdim: bool = false -> out",
    .saves = "input, out",
    .dtypes = "any",
    .shape =
        [](ShapeCall& s) {
          s.output(0) = {.shape = ops::reduced_shape(s.input(0).shape, ops::checked_dims(s, s.attribute(0)), s.attribute(1).as_bool()),
                         .dtype = ops::floating_dtype(s.input(0).dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          return ops::reduction_rule(s.input(0).shape.ndim(), ops::checked_dims(s, s.attribute(0)), s.attribute(1).as_bool(), "whole", "");
        },
    .kernel =
        [](const KernelCall& call) {
          const Tensor& x = call.input(0);
          kernels::log_sum_exp(info(x.dtype()).floating ? x : x.to(call.output(0).dtype()), ops::normal_dims(call.attribute(0), x.ndim()),
                               call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const Shape& shape = g.input_type(0).shape;
      const Shape dims = ops::normal_dims(g.attribute(0), shape.ndim());
      const bool keepdim = g.attribute(1).as_bool();
      // A group of nothing but -inf has no gradient.
      const DTensor out = masked_fill(g.output(0), eq(g.output(0), -std::numeric_limits<double>::infinity()), 0);
      return {mul(exp(sub(g.input(0), ops::expand_reduced(out, dims, keepdim, shape))), ops::expand_reduced(g.grad_output(0), dims, keepdim, shape))};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const DTensor x = ops::in_dtype(c.input(0), ops::floating_dtype(c.input(0).dtype()));
      const Shape dims = ops::normal_dims(c.attribute(0), x.ndim());
      const bool keepdim = c.attribute(1).as_bool();
      if (ops::reduced_shape(x.shape(), dims, true).numel() * x.numel() == 0)
        return {log(ops::in_dtype(sum(exp(x), std::vector<int>(dims.begin(), dims.end()), {.keepdim = keepdim}), x.dtype()))};
      const std::vector<int> list(dims.begin(), dims.end());
      const DTensor top = ops::without_partial(amax(x, std::span<const int>(list), {.keepdim = keepdim}));
      const DTensor shift = in_dtype(masked_fill(top, isinf(top), 0), computation_dtype(x.dtype()));
      return {in_dtype(add(log(ops::exp_sum(x, top, dims, keepdim)), shift), x.dtype())};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}}},
                                     {.shapes = {{3, 5, 2}}, .attributes = {{"dim", "[0, 1]"}, {"keepdim", "true"}}},
                                     {.shapes = {{0, 3}}, .attributes = {{"dim", "[1]"}}}};
        },
};

constexpr std::array<const OpDef*, 6> kOps{&kSoftmax, &kLogSoftmax, &kSoftmaxBackward, &kLogSoftmaxBackward, &kExpSum, &kLogSumExp};

}  // namespace

namespace ops {
OpList softmax_ops() { return kOps; }
DTensor exp_sum(const DTensor& input, const DTensor& shift, const Shape& dims, bool keepdim) {
  return call(kExpSum, {input, shift}, {dims, keepdim});
}
}  // namespace ops

DTensor softmax(const DTensor& input, int dim, const SoftmaxOptions& o) { return call(kSoftmax, {input}, {dim, o.dtype}); }
DTensor log_softmax(const DTensor& input, int dim, const SoftmaxOptions& o) { return call(kLogSoftmax, {input}, {dim, o.dtype}); }
DTensor logsumexp(const DTensor& input, int dim, const KeepdimOptions& o) { return call(kLogSumExp, {input}, {Shape{dim}, o.keepdim}); }
DTensor logsumexp(const DTensor& input, std::initializer_list<int> dim, const KeepdimOptions& o) {
  Shape dims;
  for (int d : dim) dims.push_back(d);
  return call(kLogSumExp, {input}, {dims, o.keepdim});
}

}  // namespace dtensor
