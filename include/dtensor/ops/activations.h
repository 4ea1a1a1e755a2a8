// SPDX-License-Identifier: Apache-2.0
// Activations beyond those of pointwise.h. Floating dtypes; the result has the input's shape and placements; no communication but that a Partial input is
// reduced first. Differentiable twice. @throws InvalidArgument for other dtypes and the shapes that are named.
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct EluOptions {
  double alpha = 1;
};
/// x above 0, alpha (e^x - 1) below.
DTENSOR_EXPORT DTensor elu(const DTensor& input, const EluOptions& options = {});
/// x above 0, alpha (e^(x / alpha) - 1) below.
DTENSOR_EXPORT DTensor celu(const DTensor& input, const EluOptions& options = {});
/// elu with alpha and scale that keep mean 0 and variance 1.
DTENSOR_EXPORT DTensor selu(const DTensor& input);
struct LeakyReluOptions {
  double negative_slope = 0.01;
};
DTENSOR_EXPORT DTensor leaky_relu(const DTensor& input, const LeakyReluOptions& options = {});
struct HardtanhOptions {
  double min_val = -1, max_val = 1;
};
/// x within [min_val, max_val]; outside it the derivative is 0.
DTENSOR_EXPORT DTensor hardtanh(const DTensor& input, const HardtanhOptions& options = {});
/// hardtanh with 0 and 6.
DTENSOR_EXPORT DTensor relu6(const DTensor& input);
/// x tanh(log(1 + e^x)).
DTENSOR_EXPORT DTensor mish(const DTensor& input);
/// x relu6(x + 3) / 6.
DTENSOR_EXPORT DTensor hardswish(const DTensor& input);
/// relu6(x + 3) / 6.
DTENSOR_EXPORT DTensor hardsigmoid(const DTensor& input);
/// log(sigmoid(x)), without overflow.
DTENSOR_EXPORT DTensor logsigmoid(const DTensor& input);
/// x / (1 + |x|).
DTENSOR_EXPORT DTensor softsign(const DTensor& input);
/// x - tanh(x).
DTENSOR_EXPORT DTensor tanhshrink(const DTensor& input);
struct ShrinkOptions {
  double lambd = 0.5;
};
/// x moved towards 0 by lambd, 0 within it.
DTENSOR_EXPORT DTensor softshrink(const DTensor& input, const ShrinkOptions& options = {});
/// x, 0 within [-lambd, lambd].
DTENSOR_EXPORT DTensor hardshrink(const DTensor& input, const ShrinkOptions& options = {});
/// x above threshold, value elsewhere.
DTENSOR_EXPORT DTensor threshold(const DTensor& input, double threshold, double value);
/// First half of `dim` times sigmoid of the second; the size of `dim` is even.
DTENSOR_EXPORT DTensor glu(const DTensor& input, int dim = -1);
/// x above 0, weight x below; weight has one element, or one for each index of dim 1.
DTENSOR_EXPORT DTensor prelu(const DTensor& input, const DTensor& weight);

}  // namespace dtensor
