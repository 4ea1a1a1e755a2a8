// SPDX-License-Identifier: Apache-2.0
// Pointwise ops and norms over lists of tensors, PyTorch's _foreach_*: element i of a result is the op on element i of each list, or on it and one number, or on it
// and number i. Tensors may differ in shape, dtype and placement. Forms with a trailing _ write the tensors of the first list. Each tensor is one pass over
// its memory; tensors that the optimisers of dtensor/optim.h step are better served by those. Collective over the mesh of each tensor.
// @throws InvalidArgument for lists of different lengths, and what the op on single tensors throws.
#pragma once

#include <span>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/binary.h"

namespace dtensor {

using TensorList = std::span<const DTensor>;
using ScalarList = std::span<const Scalar>;

DTENSOR_EXPORT std::vector<DTensor> foreach_abs(TensorList self);
DTENSOR_EXPORT void foreach_abs_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_neg(TensorList self);
DTENSOR_EXPORT void foreach_neg_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_sign(TensorList self);
DTENSOR_EXPORT void foreach_sign_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_exp(TensorList self);
DTENSOR_EXPORT void foreach_exp_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_expm1(TensorList self);
DTENSOR_EXPORT void foreach_expm1_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_log(TensorList self);
DTENSOR_EXPORT void foreach_log_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_log1p(TensorList self);
DTENSOR_EXPORT void foreach_log1p_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_log2(TensorList self);
DTENSOR_EXPORT void foreach_log2_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_log10(TensorList self);
DTENSOR_EXPORT void foreach_log10_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_sqrt(TensorList self);
DTENSOR_EXPORT void foreach_sqrt_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_rsqrt(TensorList self);
DTENSOR_EXPORT void foreach_rsqrt_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_reciprocal(TensorList self);
DTENSOR_EXPORT void foreach_reciprocal_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_floor(TensorList self);
DTENSOR_EXPORT void foreach_floor_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_ceil(TensorList self);
DTENSOR_EXPORT void foreach_ceil_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_trunc(TensorList self);
DTENSOR_EXPORT void foreach_trunc_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_round(TensorList self);
DTENSOR_EXPORT void foreach_round_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_frac(TensorList self);
DTENSOR_EXPORT void foreach_frac_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_sin(TensorList self);
DTENSOR_EXPORT void foreach_sin_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_cos(TensorList self);
DTENSOR_EXPORT void foreach_cos_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_tan(TensorList self);
DTENSOR_EXPORT void foreach_tan_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_sinh(TensorList self);
DTENSOR_EXPORT void foreach_sinh_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_cosh(TensorList self);
DTENSOR_EXPORT void foreach_cosh_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_tanh(TensorList self);
DTENSOR_EXPORT void foreach_tanh_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_asin(TensorList self);
DTENSOR_EXPORT void foreach_asin_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_acos(TensorList self);
DTENSOR_EXPORT void foreach_acos_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_atan(TensorList self);
DTENSOR_EXPORT void foreach_atan_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_sigmoid(TensorList self);
DTENSOR_EXPORT void foreach_sigmoid_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_erf(TensorList self);
DTENSOR_EXPORT void foreach_erf_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_erfc(TensorList self);
DTENSOR_EXPORT void foreach_erfc_(TensorList self);
DTENSOR_EXPORT std::vector<DTensor> foreach_lgamma(TensorList self);
DTENSOR_EXPORT void foreach_lgamma_(TensorList self);

DTENSOR_EXPORT std::vector<DTensor> foreach_add(TensorList self, TensorList other, const AddOptions& options = {});
DTENSOR_EXPORT std::vector<DTensor> foreach_add(TensorList self, ScalarList scalars);
DTENSOR_EXPORT std::vector<DTensor> foreach_add(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_add_(TensorList self, TensorList other, const AddOptions& options = {});
DTENSOR_EXPORT void foreach_add_(TensorList self, ScalarList scalars);
DTENSOR_EXPORT void foreach_add_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_sub(TensorList self, TensorList other, const AddOptions& options = {});
DTENSOR_EXPORT std::vector<DTensor> foreach_sub(TensorList self, ScalarList scalars);
DTENSOR_EXPORT std::vector<DTensor> foreach_sub(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_sub_(TensorList self, TensorList other, const AddOptions& options = {});
DTENSOR_EXPORT void foreach_sub_(TensorList self, ScalarList scalars);
DTENSOR_EXPORT void foreach_sub_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_mul(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_mul(TensorList self, ScalarList scalars);
DTENSOR_EXPORT std::vector<DTensor> foreach_mul(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_mul_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_mul_(TensorList self, ScalarList scalars);
DTENSOR_EXPORT void foreach_mul_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_div(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_div(TensorList self, ScalarList scalars);
DTENSOR_EXPORT std::vector<DTensor> foreach_div(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_div_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_div_(TensorList self, ScalarList scalars);
DTENSOR_EXPORT void foreach_div_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_pow(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_pow(TensorList self, ScalarList scalars);
DTENSOR_EXPORT std::vector<DTensor> foreach_pow(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_pow_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_pow_(TensorList self, ScalarList scalars);
DTENSOR_EXPORT void foreach_pow_(TensorList self, const Scalar& scalar);
/// With a number: clamp to at least, at most it. clamp_min and clamp_max are the same under their other names.
DTENSOR_EXPORT std::vector<DTensor> foreach_maximum(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_maximum(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_maximum_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_maximum_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_minimum(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_minimum(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_minimum_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_minimum_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_clamp_min(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_clamp_min(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_clamp_min_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_clamp_min_(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT std::vector<DTensor> foreach_clamp_max(TensorList self, TensorList other);
DTENSOR_EXPORT std::vector<DTensor> foreach_clamp_max(TensorList self, const Scalar& scalar);
DTENSOR_EXPORT void foreach_clamp_max_(TensorList self, TensorList other);
DTENSOR_EXPORT void foreach_clamp_max_(TensorList self, const Scalar& scalar);
/// self + value * tensor1 * tensor2
DTENSOR_EXPORT std::vector<DTensor> foreach_addcmul(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value = 1);
DTENSOR_EXPORT std::vector<DTensor> foreach_addcmul(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars);
DTENSOR_EXPORT void foreach_addcmul_(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value = 1);
DTENSOR_EXPORT void foreach_addcmul_(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars);
/// self + value * tensor1 / tensor2
DTENSOR_EXPORT std::vector<DTensor> foreach_addcdiv(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value = 1);
DTENSOR_EXPORT std::vector<DTensor> foreach_addcdiv(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars);
DTENSOR_EXPORT void foreach_addcdiv_(TensorList self, TensorList tensor1, TensorList tensor2, const Scalar& value = 1);
DTENSOR_EXPORT void foreach_addcdiv_(TensorList self, TensorList tensor1, TensorList tensor2, ScalarList scalars);
/// self + weight * (end - self)
DTENSOR_EXPORT std::vector<DTensor> foreach_lerp(TensorList self, TensorList end, const Scalar& weight);
DTENSOR_EXPORT std::vector<DTensor> foreach_lerp(TensorList self, TensorList end, TensorList weights);
DTENSOR_EXPORT void foreach_lerp_(TensorList self, TensorList end, const Scalar& weight);
DTENSOR_EXPORT void foreach_zero_(TensorList self);
DTENSOR_EXPORT void foreach_copy_(TensorList self, TensorList source);

/// vector_norm of each tensor, [] each. The parts of all norms of order 2 are added in one move of the whole list where no gradient is recorded.
DTENSOR_EXPORT std::vector<DTensor> foreach_norm(TensorList self, double ord = 2);
/// The largest element of each tensor.
DTENSOR_EXPORT std::vector<DTensor> foreach_max(TensorList self);

}  // namespace dtensor
