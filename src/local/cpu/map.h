// SPDX-License-Identifier: Apache-2.0
// map: a row function over strided, broadcast tensors of any dtypes. Conversion and gathering happen outside the row, so that an op needs its loop
// for three types only: f32 (also for bf16 and f16), f64, i64 (all integers and bool).
#pragma once

#include <cstdint>
#include <initializer_list>

#include "dtensor/tensor.h"
#include "dtensor/values.h"

namespace dtensor::local::cpu {

/// Computes `n` consecutive elements. An output may be one of the inputs.
using Row = void (*)(const void* const* in, void* const* out, std::int64_t n, const Scalar* numbers);

/// The type that elements of `dtype` are computed in.
constexpr Dtype compute_type(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::f64:
      return Dtype::f64;
    case Dtype::f32:
    case Dtype::bf16:
    case Dtype::f16:
      return Dtype::f32;
    default:
      return Dtype::i64;
  }
}

/// An input (a tensor, right-aligned and broadcast to the results' shape, or a number) or a result, and the type in which the row sees it:
/// f32, f64, i64 or boolean.
struct Operand {
  Operand(const Tensor& t, Dtype row_type) noexcept : tensor(&t), type(row_type) {}
  Operand(const Scalar& value, Dtype row_type) noexcept : number(value), type(row_type) {}
  const Tensor* tensor = nullptr;
  Scalar number{};
  Dtype type;
};
inline constexpr int kMaxOperands = 10;

/// All results have one shape. A result may be the very memory of an input (same strides); other overlaps are not allowed.
/// A null row copies the only input to the only result (both seen in one type).
void map(Row row, std::initializer_list<Operand> inputs, std::initializer_list<Operand> results, const Scalar* numbers = nullptr);

/// `source` converted into `out`, strides and broadcasting allowed.
void convert(const Tensor& source, const Tensor& out);
void fill(const Tensor& out, const Scalar& value);

}  // namespace dtensor::local::cpu
