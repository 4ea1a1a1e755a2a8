// SPDX-License-Identifier: Apache-2.0
// Products beyond those of matmul.h: einsum and what follows from it. All operands of one dtype (any but bool), sums in f32 for bf16 and f16. Each label or
// dimension may be split; splitting a contracted one gives Partial(sum). Collective over the mesh of the inputs.
// @throws InvalidArgument for sizes and dtypes that do not fit.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/matmul.h"

namespace dtensor {

/// "bhqd,bhkd->bhqk": labels are letters, `...` stands for leading dims that broadcast, a label twice in one operand is its diagonal; without "->" the result
/// has the labels that occur once, in alphabetical order, behind `...`. Spaces do not count. Sizes of a label are equal or 1.
DTENSOR_EXPORT DTensor einsum(std::string_view equation, std::span<const DTensor> operands);
DTENSOR_EXPORT DTensor einsum(std::string_view equation, std::initializer_list<DTensor> operands);
/// Sum over dims_self[i] of input with dims_other[i] of other; the result has the remaining dims of both.
DTENSOR_EXPORT DTensor tensordot(const DTensor& input, const DTensor& other, const Shape& dims_self, const Shape& dims_other);
/// The same over the last `dims` of input and the first of other.
DTENSOR_EXPORT DTensor tensordot(const DTensor& input, const DTensor& other, int dims = 2);
/// Sum over the last dims of both; a tensor without dims is a factor.
DTENSOR_EXPORT DTensor inner(const DTensor& input, const DTensor& other);
/// Each element of input times all of other, as blocks.
DTENSOR_EXPORT DTensor kron(const DTensor& input, const DTensor& other);
/// Product of two or more matrices in the order with the fewest multiplications; the first and the last may be vectors.
DTENSOR_EXPORT DTensor multi_dot(std::span<const DTensor> tensors);

/// beta input + alpha batch1 batch2 of [b, n, m] and [b, m, p]; input broadcasts. beta 0 does not read input, here and below.
DTENSOR_EXPORT DTensor baddbmm(const DTensor& input, const DTensor& batch1, const DTensor& batch2, const AddmmOptions& options = {});
/// beta input + alpha sum over b of batch1 batch2.
DTENSOR_EXPORT DTensor addbmm(const DTensor& input, const DTensor& batch1, const DTensor& batch2, const AddmmOptions& options = {});
/// beta input + alpha mat vec.
DTENSOR_EXPORT DTensor addmv(const DTensor& input, const DTensor& mat, const DTensor& vec, const AddmmOptions& options = {});
/// beta input + alpha vec1 vec2^T.
DTENSOR_EXPORT DTensor addr(const DTensor& input, const DTensor& vec1, const DTensor& vec2, const AddmmOptions& options = {});

}  // namespace dtensor
