// SPDX-License-Identifier: Apache-2.0
// Matrix products. All operands of one dtype (any but bool); sums in f32 for bf16 and f16. Splitting the contracted dimension gives Partial(sum).
#pragma once

#include <string_view>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// PyTorch's matmul: [k] x [k] -> [], [m, k] x [k] -> [m], [k] x [k, n] -> [n], [..., m, k] x [..., k, n] -> [..., m, n] with batch dims broadcast.
/// @throws InvalidArgument when contracting sizes, batch dims or dtypes differ, or an operand has no dim.
DTENSOR_EXPORT DTensor matmul(const DTensor& input, const DTensor& other);
/// [n, m] x [m, p].
DTENSOR_EXPORT DTensor mm(const DTensor& input, const DTensor& mat2);
/// [b, n, m] x [b, m, p].
DTENSOR_EXPORT DTensor bmm(const DTensor& input, const DTensor& mat2);
/// [n, m] x [m].
DTENSOR_EXPORT DTensor mv(const DTensor& input, const DTensor& vec);
/// [k] x [k] -> [].
DTENSOR_EXPORT DTensor dot(const DTensor& input, const DTensor& tensor);
/// [n] x [m] -> [n, m].
DTENSOR_EXPORT DTensor outer(const DTensor& input, const DTensor& vec2);

struct AddmmOptions {
  Scalar beta = 1, alpha = 1;
};
/// beta input + alpha mat1 mat2; input broadcasts to [n, p]. beta 0 does not read input.
DTENSOR_EXPORT DTensor addmm(const DTensor& input, const DTensor& mat1, const DTensor& mat2, const AddmmOptions& options = {});

/// input [..., k], weight [n, k], bias [n] or absent -> input weight^T + bias [..., n]. With k split the bias is added once.
/// weight [k] and a bias without dimensions give [...].
DTENSOR_EXPORT DTensor linear(const DTensor& input, const DTensor& weight, const DTensor& bias = {});

/// How products of f32 matrices run on devices, in the whole process: "highest" (as at the start) in f32 throughout, "high" with operands that may be rounded
/// to TF32, which has f32's range and 10 bits of mantissa; sums are in f32 either way. PyTorch's set_float32_matmul_precision. The CPU has the highest alone.
/// @throws InvalidArgument for other words.
DTENSOR_EXPORT void set_matmul_precision(std::string_view precision);
DTENSOR_EXPORT std::string_view matmul_precision() noexcept;

}  // namespace dtensor
