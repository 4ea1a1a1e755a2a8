// SPDX-License-Identifier: Apache-2.0
// Convolutions over one to three spatial dims, as matrix products of the weight with the windows of the input (im2col).
#pragma once

#include <array>
#include <cstdint>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Input [N, G q, sizes...] (without N: one sample), weight [G p, q, kernel...], result [N, G p, sizes...]; N, p, q, G are those of the tensors given:
/// G is the channels of the input by those of the weight. Output position t reads input positions t * stride - padding + k * dilation; outside there are zeros.
/// All but bool, one dtype, row-major. Computed in f64 for f64, in f32 for other floating dtypes, in i64 for integers; rounded once. What is summed over nothing is zero.
struct Convolution {
  int spatial = 2;  ///< 1 to 3; the arrays are filled from the right, ones on the left
  std::array<std::int64_t, 3> stride{1, 1, 1}, dilation{1, 1, 1};
  std::array<std::int64_t, 3> padding{0, 0, 0};  ///< before the first element
};
/// bias [G p] or null.
void convolution(const Convolution& c, const Tensor& input, const Tensor& weight, const Tensor* bias, const Tensor& out);
/// What `grad` of the result gives for the input (of the sizes of `out`), and for the weight.
void convolution_input_gradient(const Convolution& c, const Tensor& grad, const Tensor& weight, const Tensor* bias, const Tensor& out);
void convolution_weight_gradient(const Convolution& c, const Tensor& grad, const Tensor& input, const Tensor& out);

}  // namespace dtensor::local::cpu
