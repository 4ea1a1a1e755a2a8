// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/norms.h"

#include <array>
#include <limits>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "local/kernels/norms.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"

namespace dtensor {
namespace {

namespace kernels = local::kernels;
using ops::computation_dtype;
using ops::in_dtype;

Shape last_dims(int ndim, const Attribute& normalized) {
  Shape dims;
  for (int d = ndim - static_cast<int>(normalized.as_list().size()); d < ndim; ++d) dims.push_back(d);
  return dims;
}
std::vector<int> ints(const Shape& dims) { return {dims.begin(), dims.end()}; }
void check_shapes(ShapeCall& s, const Attribute& normalized, int input, std::initializer_list<int> parameters) {
  const Shape& shape = s.input(input).shape;
  const Shape wanted = normalized.as_shape();
  bool fits = !wanted.empty() && wanted.ndim() <= shape.ndim();
  for (int d = 0; fits && d < wanted.ndim(); ++d) fits = wanted[d] == shape[shape.ndim() - wanted.ndim() + d];
  if (!fits) s.fail("normalized_shape " + to_string(wanted) + " is not the end of " + s.describe(input) + "; give its last sizes");
  for (int i : parameters)
    if (s.has_input(i) && s.input(i).shape != wanted)
      s.fail("a parameter does not have normalized_shape " + to_string(wanted) + " (" + s.describe(i) + "); give one number per normalised element");
}
TensorType statistics(const ShapeCall& s, const Attribute& normalized, int input) {
  const Shape& shape = s.input(input).shape;
  return {.shape = ops::reduced_shape(shape, last_dims(shape.ndim(), normalized), true), .dtype = computation_dtype(s.input(input).dtype)};
}

// Names of the dims of an operand that is full, of a parameter, of a statistic.
struct Names {
  Shape leading;
  std::string full, parameter, statistic, whole;
  Names(const Shape& shape, const Attribute& normalized) {
    const int ndim = shape.ndim();
    const Shape dims = last_dims(ndim, normalized);
    full = ops::all_names(ndim);
    statistic = ops::kept_names(ndim, dims, true);
    for (int d = 0; d < ndim - dims.ndim(); ++d) leading.push_back(d);
    parameter = ops::kept_names(ndim, leading, false);
    whole = ops::clause(dims, "whole");
  }
  /// "; d0: reduce(sum)", of a gradient's sums over rows.
  std::string rows() const { return leading.empty() ? "" : "; " + ops::clause(leading, "reduce(sum)"); }
};
std::int64_t elements(const Attribute& normalized) { return normalized.as_shape().numel(); }
/// Statistic i in the type in which input 1 is computed.
Tensor statistic(const KernelCall& call, int i) {
  const Dtype dtype = computation_dtype(call.input(1).dtype());
  return call.input(i).dtype() == dtype ? call.input(i) : call.input(i).to(dtype);
}
const Tensor* optional_input(const KernelCall& call, int i) { return call.has_input(i) ? &call.input(i) : nullptr; }
DTensor mean_over(const DTensor& x, const Shape& dims) { return mean(x, std::span<const int>(ints(dims)), {.keepdim = true}); }
std::vector<Sample> norm_samples(bool bias) {
  const auto sample = [bias](Shape shape, Shape normalized, bool weight) {
    Sample s{.shapes = {shape, weight ? normalized : Shape()}, .attributes = {{"normalized_shape", to_string(normalized)}}};
    if (bias) s.shapes.push_back(weight ? normalized : Shape());
    return s;
  };
  return {sample({5, 7}, {7}, true), sample({2, 3, 4}, {3, 4}, true), sample({3, 5}, {5}, false), sample({0, 4}, {4}, true),
          sample({5, 1}, {1}, true)};
}

// ---- layer_norm
std::vector<DTensor> layer_norm_gradient(const GradientCall& g);
std::vector<DTensor> split_layer_norm(const DecomposeCall& c) {
  const DTensor x = in_dtype(c.input(0), computation_dtype(c.input(0).dtype()));
  const Shape dims = last_dims(x.ndim(), c.attribute(0));
  const DTensor average = ops::without_partial(mean_over(x, dims));
  const DTensor centred = sub(x, average);
  const DTensor rstd = rsqrt(add(ops::without_partial(mean_over(square(centred), dims)), c.attribute(1).as_double()));
  DTensor y = mul(centred, rstd);
  if (c.has_input(1)) y = mul(y, in_dtype(c.input(1), x.dtype()));
  if (c.has_input(2)) y = add(y, in_dtype(c.input(2), x.dtype()));
  return {in_dtype(y, c.input(0).dtype()), average, rstd};
}
constexpr OpDef kLayerNorm{
    .name = "layer_norm",
    .signature = "input, weight?, bias?, normalized_shape: int[], eps: float = 1e-05 -> out, mean, rstd",
    .saves = "input, weight, mean, rstd",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_shapes(s, s.attribute(0), 0, {1, 2});
          s.output(0) = s.input(0);
          s.output(1) = statistics(s, s.attribute(0), 0);
          s.output(2) = statistics(s, s.attribute(0), 0);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape, s.attribute(0));
          return n.full + ", " + n.parameter + ", " + n.parameter + " -> " + n.full + ", " + n.statistic + ", " + n.statistic + "  " + n.whole;
        },
    .kernel =
        [](const KernelCall& call) {
          kernels::layer_norm(call.input(0), elements(call.attribute(0)), optional_input(call, 1), optional_input(call, 2),
                              call.attribute(1).as_double(), call.output(0), call.output(1), call.output(2));
        },
    .gradient = layer_norm_gradient,
    .decompose = split_layer_norm,
    .samples = [] { return norm_samples(true); },
};

// ---- layer_norm_backward
std::vector<DTensor> split_layer_norm_backward(const DecomposeCall& c) {
  const Dtype dtype = computation_dtype(c.input(1).dtype());
  const DTensor grad = in_dtype(c.input(0), dtype), x = in_dtype(c.input(1), dtype), &average = c.input(3), &rstd = c.input(4);
  const Shape dims = last_dims(x.ndim(), c.attribute(0)), shape = c.attribute(0).as_shape();
  const Dtype of_weight = c.has_input(2) ? c.input(2).dtype() : c.input(1).dtype();
  const DTensor normal = mul(sub(x, average), rstd);
  const DTensor weighted = c.has_input(2) ? mul(grad, in_dtype(c.input(2), dtype)) : grad;
  const DTensor shift = ops::without_partial(mean_over(weighted, dims)), slope = ops::without_partial(mean_over(mul(weighted, normal), dims));
  const DTensor result = mul(rstd, sub(sub(weighted, shift), mul(normal, slope)));
  return {in_dtype(result, c.input(1).dtype()), in_dtype(sum_to_shape(mul(grad, normal), shape), of_weight),
          in_dtype(sum_to_shape(grad, shape), of_weight)};
}
constexpr OpDef kLayerNormBackward{
    .name = "layer_norm_backward",
    .signature = "grad_output, input, weight?, mean, rstd, normalized_shape: int[] -> grad_input, grad_weight, grad_bias",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_shapes(s, s.attribute(0), 1, {2});
          const TensorType parameter{.shape = s.attribute(0).as_shape(), .dtype = s.has_input(2) ? s.input(2).dtype : s.input(1).dtype};
          s.output(0) = s.input(1);
          s.output(1) = parameter;
          s.output(2) = parameter;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(1).shape, s.attribute(0));
          return n.full + ", " + n.full + ", " + n.parameter + ", " + n.statistic + ", " + n.statistic + " -> " + n.full + ", " + n.parameter + ", " +
                 n.parameter + "  " + n.whole + n.rows() + "; linear 1";
        },
    .kernel =
        [](const KernelCall& call) {
          kernels::layer_norm_backward(call.input(0), call.input(1), elements(call.attribute(0)), optional_input(call, 2), statistic(call, 3),
                                       statistic(call, 4), call.output(0), call.output(1), call.output(2));
        },
    .decompose = split_layer_norm_backward,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {7}, {5, 1}, {5, 1}}, .attributes = {{"normalized_shape", "[7]"}}},
                                     {.shapes = {{2, 3, 4}, {2, 3, 4}, {3, 4}, {2, 1, 1}, {2, 1, 1}}, .attributes = {{"normalized_shape", "[3, 4]"}}},
                                     {.shapes = {{0, 4}, {0, 4}, {}, {0, 1}, {0, 1}}, .attributes = {{"normalized_shape", "[4]"}}}};
        },
};
std::vector<DTensor> layer_norm_gradient(const GradientCall& g) {
  const DTensor& weight = g.inputs_[1];  // empty when absent
  const std::array<Input, 5> inputs{g.grad_output(0), g.input(0), weight ? Input(weight) : Input(), g.output(1), g.output(2)};
  const std::array<Attribute, 1> attributes{g.attribute(0)};
  Results r = call_all(kLayerNormBackward, inputs, attributes);
  return {g.needs(0) ? r[0] : DTensor(), g.needs(1) ? r[1] : DTensor(), g.needs(2) ? in_dtype(r[2], g.input_type(2).dtype) : DTensor()};
}

// ---- rms_norm
double rms_eps(const Attribute& eps, Dtype dtype) {
  if (!eps.is_none()) return eps.as_double();
  return dtype == Dtype::f64 ? std::numeric_limits<double>::epsilon() : static_cast<double>(std::numeric_limits<float>::epsilon());
}
std::vector<DTensor> rms_norm_gradient(const GradientCall& g);
std::vector<DTensor> split_rms_norm(const DecomposeCall& c) {
  const DTensor x = in_dtype(c.input(0), computation_dtype(c.input(0).dtype()));
  const DTensor squares = ops::without_partial(mean_over(square(x), last_dims(x.ndim(), c.attribute(0))));
  const DTensor rstd = rsqrt(add(squares, rms_eps(c.attribute(1), c.input(0).dtype())));
  DTensor y = mul(x, rstd);
  if (c.has_input(1)) y = mul(y, in_dtype(c.input(1), x.dtype()));
  return {in_dtype(y, c.input(0).dtype()), rstd};
}
constexpr OpDef kRmsNorm{
    .name = "rms_norm",
    .signature = "input, weight?, normalized_shape: int[], eps: float? = none -> out, rstd",
    .saves = "input, weight, rstd",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_shapes(s, s.attribute(0), 0, {1});
          s.output(0) = s.input(0);
          s.output(1) = statistics(s, s.attribute(0), 0);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape, s.attribute(0));
          return n.full + ", " + n.parameter + " -> " + n.full + ", " + n.statistic + "  " + n.whole;
        },
    .kernel =
        [](const KernelCall& call) {
          kernels::rms_norm(call.input(0), elements(call.attribute(0)), optional_input(call, 1), rms_eps(call.attribute(1), call.input(0).dtype()),
                            call.output(0), call.output(1));
        },
    .gradient = rms_norm_gradient,
    .decompose = split_rms_norm,
    .samples = [] { return norm_samples(false); },
    .reasons = "a Partial weight is reduced first: it is smaller than a Partial result",
};

// ---- rms_norm_backward
std::vector<DTensor> split_rms_norm_backward(const DecomposeCall& c) {
  const Dtype dtype = computation_dtype(c.input(1).dtype());
  const DTensor grad = in_dtype(c.input(0), dtype), x = in_dtype(c.input(1), dtype), &rstd = c.input(3);
  const DTensor normal = mul(x, rstd);
  const DTensor weighted = c.has_input(2) ? mul(grad, in_dtype(c.input(2), dtype)) : grad;
  const DTensor slope = ops::without_partial(mean_over(mul(weighted, normal), last_dims(x.ndim(), c.attribute(0))));
  const DTensor of_weight = sum_to_shape(mul(grad, normal), c.attribute(0).as_shape());
  return {in_dtype(mul(rstd, sub(weighted, mul(normal, slope))), c.input(1).dtype()),
          in_dtype(of_weight, c.has_input(2) ? c.input(2).dtype() : c.input(1).dtype())};
}
constexpr OpDef kRmsNormBackward{
    .name = "rms_norm_backward",
    .signature = "grad_output, input, weight?, rstd, normalized_shape: int[] -> grad_input, grad_weight",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_shapes(s, s.attribute(0), 1, {2});
          s.output(0) = s.input(1);
          s.output(1) = {.shape = s.attribute(0).as_shape(), .dtype = s.has_input(2) ? s.input(2).dtype : s.input(1).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(1).shape, s.attribute(0));
          return n.full + ", " + n.full + ", " + n.parameter + ", " + n.statistic + " -> " + n.full + ", " + n.parameter + "  " + n.whole + n.rows() +
                 "; linear 1";
        },
    .kernel =
        [](const KernelCall& call) {
          kernels::rms_norm_backward(call.input(0), call.input(1), elements(call.attribute(0)), optional_input(call, 2), statistic(call, 3),
                                     call.output(0), call.output(1));
        },
    .decompose = split_rms_norm_backward,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {7}, {5, 1}}, .attributes = {{"normalized_shape", "[7]"}}},
                                     {.shapes = {{0, 4}, {0, 4}, {}, {0, 1}}, .attributes = {{"normalized_shape", "[4]"}}}};
        },
};
std::vector<DTensor> rms_norm_gradient(const GradientCall& g) {
  const DTensor& weight = g.inputs_[1];  // empty when absent
  const std::array<Input, 4> inputs{g.grad_output(0), g.input(0), weight ? Input(weight) : Input(), g.output(1)};
  const std::array<Attribute, 1> attributes{g.attribute(0)};
  Results r = call_all(kRmsNormBackward, inputs, attributes);
  return {g.needs(0) ? r[0] : DTensor(), g.needs(1) ? r[1] : DTensor()};
}

constexpr std::array<const OpDef*, 4> kOps{&kLayerNorm, &kLayerNormBackward, &kRmsNorm, &kRmsNormBackward};
Input present(const DTensor& t) { return t ? Input(t) : Input(); }

}  // namespace

namespace ops {
OpList norm_ops() { return kOps; }
}  // namespace ops

DTensor layer_norm(const DTensor& input, const Shape& normalized_shape, const DTensor& weight, const DTensor& bias, double eps) {
  return call(kLayerNorm, {input, present(weight), present(bias)}, {normalized_shape, eps});
}
DTensor rms_norm(const DTensor& input, const Shape& normalized_shape, const DTensor& weight, std::optional<double> eps) {
  return call(kRmsNorm, {input, present(weight)}, {normalized_shape, eps});
}

}  // namespace dtensor
