// SPDX-License-Identifier: Apache-2.0
// Functions of each element. The result has the input's shape and placement; functions with real values turn integers and bool into f32.
// bf16 and f16 are computed in f32. All are collective over the input's mesh and move data only where a Partial input must be reduced first:
// neg keeps Partial(sum, avg); increasing functions keep Partial(max, min).
// @throws InvalidArgument for a dtype that the function does not take.
#pragma once

#include <optional>
#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

// Numbers of any kind but bool; the dtype is kept.
DTENSOR_EXPORT DTensor neg(const DTensor& input);
DTENSOR_EXPORT DTensor abs(const DTensor& input);
DTENSOR_EXPORT DTensor sign(const DTensor& input);  ///< -1, 0 or 1; derivative 0
DTENSOR_EXPORT DTensor square(const DTensor& input);
DTENSOR_EXPORT DTensor relu(const DTensor& input);   ///< max(x, 0); derivative 0 at 0
DTENSOR_EXPORT DTensor floor(const DTensor& input);  ///< derivative 0, also of the next three
DTENSOR_EXPORT DTensor ceil(const DTensor& input);
DTENSOR_EXPORT DTensor trunc(const DTensor& input);
DTENSOR_EXPORT DTensor round(const DTensor& input);  ///< to nearest, halves to even

// Real values.
DTENSOR_EXPORT DTensor exp(const DTensor& input);
DTENSOR_EXPORT DTensor log(const DTensor& input);
DTENSOR_EXPORT DTensor log2(const DTensor& input);
DTENSOR_EXPORT DTensor log1p(const DTensor& input);  ///< log(1 + x)
DTENSOR_EXPORT DTensor expm1(const DTensor& input);  ///< exp(x) - 1
DTENSOR_EXPORT DTensor sqrt(const DTensor& input);
DTENSOR_EXPORT DTensor rsqrt(const DTensor& input);  ///< 1 / sqrt(x)
DTENSOR_EXPORT DTensor reciprocal(const DTensor& input);
DTENSOR_EXPORT DTensor sin(const DTensor& input);
DTENSOR_EXPORT DTensor cos(const DTensor& input);
DTENSOR_EXPORT DTensor tan(const DTensor& input);
DTENSOR_EXPORT DTensor tanh(const DTensor& input);
DTENSOR_EXPORT DTensor sigmoid(const DTensor& input);  ///< 1 / (1 + exp(-x))
DTENSOR_EXPORT DTensor erf(const DTensor& input);
DTENSOR_EXPORT DTensor silu(const DTensor& input);  ///< x * sigmoid(x)

struct GeluOptions {
  std::string_view approximate = "none";  ///< "none": x * Phi(x); "tanh": the tanh form
};
/// @throws InvalidArgument for another word.
DTENSOR_EXPORT DTensor gelu(const DTensor& input, const GeluOptions& options = {});
struct SoftplusOptions {
  double beta = 1.0;
  double threshold = 20.0;  ///< above it (of beta * x) the result is x
};
/// log(1 + exp(beta * x)) / beta
DTENSOR_EXPORT DTensor softplus(const DTensor& input, const SoftplusOptions& options = {});
/// silu(gate) * up in one pass; floating dtypes, equal shapes.
DTENSOR_EXPORT DTensor swiglu(const DTensor& gate, const DTensor& up);

struct ClampOptions {
  std::optional<Scalar> min = {}, max = {};
};
/// min(max(x, options.min), options.max); NaN stays. Result: promote(x, number). Derivative 1 inside, 0 at the bounds. @throws InvalidArgument without any bound.
DTENSOR_EXPORT DTensor clamp(const DTensor& input, const ClampOptions& options);
/// Bounds broadcast with the input; an empty one is none. An input on a bound shares its gradient with it.
DTENSOR_EXPORT DTensor clamp(const DTensor& input, const DTensor& min, const DTensor& max);

// Results bool, no derivative.
DTENSOR_EXPORT DTensor logical_not(const DTensor& input);
DTENSOR_EXPORT DTensor isnan(const DTensor& input);
DTENSOR_EXPORT DTensor isinf(const DTensor& input);
DTENSOR_EXPORT DTensor isfinite(const DTensor& input);

// Fused derivatives: (gradient of the result, x) -> gradient of the input; x is the result for relu, tanh and sigmoid, the input for the others.
// Differentiable again; linear in grad_output.
DTENSOR_EXPORT DTensor relu_backward(const DTensor& grad_output, const DTensor& result);
DTENSOR_EXPORT DTensor tanh_backward(const DTensor& grad_output, const DTensor& result);
DTENSOR_EXPORT DTensor sigmoid_backward(const DTensor& grad_output, const DTensor& result);
DTENSOR_EXPORT DTensor gelu_backward(const DTensor& grad_output, const DTensor& input, const GeluOptions& options = {});
DTENSOR_EXPORT DTensor silu_backward(const DTensor& grad_output, const DTensor& input);
DTENSOR_EXPORT DTensor softplus_backward(const DTensor& grad_output, const DTensor& input, const SoftplusOptions& options = {});
DTENSOR_EXPORT DTensor clamp_backward(const DTensor& grad_output, const DTensor& input, const ClampOptions& options);

}  // namespace dtensor
