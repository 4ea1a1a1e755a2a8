// SPDX-License-Identifier: Apache-2.0
// Products of (batches of) matrices of any strides and dtype.
#pragma once

#include <cstdint>

#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/kernel.h"

namespace dtensor::local::cpu {

/// Matrices in memory: element (i, j) of batch element x lies at data[x . batch + i * row + j * column]. A stride of 0 repeats.
struct MatrixOperand {
  const void* data = nullptr;
  std::int64_t row = 0, column = 0;
  Shape batch{};
  MatrixOperand transposed() const {
    MatrixOperand t = *this;
    t.row = column;
    t.column = row;
    return t;
  }
};
/// The last two dims of `t` are the matrix, the dims before it are aligned from the right with `batch`: one of size 1 against more gets stride 0.
MatrixOperand matrix_operand(const Tensor& t, const Shape& batch);

/// out[x, i, j] = alpha sum_k a[x, i, k] b[x, k, j] + beta addend[x, i, j].
///  * all of one dtype but bool; the sum runs in f32 for bf16 and f16, in the dtype itself otherwise (integers wrap), and is rounded once, after the addend;
///  * k = 0 gives beta addend, without an addend zeros; beta 0 does not read the addend;
///  * an element's sum is never divided among threads: the result depends on sizes and strides only.
struct GemmCall {
  Dtype dtype = Dtype::f32;
  Shape batch{};
  std::int64_t m = 0, n = 0, k = 0;
  MatrixOperand a, b, addend;  ///< addend.data null: none
  void* out = nullptr;         ///< row-major [batch, m, n]
  Scalar alpha = 1, beta = 1;
  Device device{};  ///< of all that is pointed to
};
inline Side side_of(const GemmCall& call) noexcept { return call.device.kind == DeviceKind::cuda ? Side::cuda : Side::host; }
void gemm(GemmCall call);
/// out = gelu, in its tanh form, of what gemm(call) gives; `sum` (null: not wanted) gets that. Both floating, of the call's dtype and as its `out`, which is not
/// looked at. gelu may be taken of the sum before it is rounded.
void linear_gelu(GemmCall call, const Tensor& out, const Tensor* sum);
/// Batch dims that only lengthen m become part of it: [b, t, k] x [k, n] is one product.
void fold_batch(GemmCall& call);

}  // namespace dtensor::local::cpu
