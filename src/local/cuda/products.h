// SPDX-License-Identifier: Apache-2.0
// The part of cuBLASLt that the library uses, as functions: products of row-major matrices in floating dtypes. blaslt.cpp is the real one; tests link what
// stands in its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "dtensor/values.h"
#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// Element (i, j) lies at [i * ld + j], transposed at [j * ld + i]; ld is at least the number of elements beside each other.
struct ProductMatrix {
  bool transposed = false;
  int alignment = 256;             ///< of the first element, in bytes: a power of two, at most 256
  std::int64_t ld = 1, batch = 0;  ///< elements between matrices of a batch; 0 repeats one
  friend bool operator==(const ProductMatrix&, const ProductMatrix&) = default;
};
/// out = alpha a b + beta c + bias, or gelu (tanh form) of that, `count` times. Sums in f32 (f64 for f64), rounded once.
struct ProductShape {
  Dtype dtype = Dtype::f32;                     ///< of a and b: floating
  Dtype out_dtype = Dtype::f32;                 ///< of c, bias and out: the same, or f32 where a and b are bf16 or f16
  bool tf32 = false;                            ///< f32 operands may be rounded to TF32
  bool has_c = false;                           ///< c and out are not transposed, matrices of them do not repeat
  bool has_bias = false;                        ///< a row that is added to every row, without a factor; not for f64
  bool gelu = false;                            ///< only without c; not for f64
  bool keeps_sum = false;                       ///< what gelu is taken of is written too, row-major; only with count 1 and n a multiple of 8
  std::int64_t m = 0, n = 0, k = 0, count = 1;  ///< none is 0; count at most kMostProducts
  ProductMatrix a, b, c, out;
  friend bool operator==(const ProductShape&, const ProductShape&) = default;
};
inline constexpr std::int64_t kMostProducts = 65535;
/// Bytes that an algorithm may want beside its operands.
inline constexpr std::size_t kProductWorkspace = std::size_t{32} << 20;

struct ProductPointers {
  const void *a = nullptr, *b = nullptr, *c = nullptr, *bias = nullptr;  ///< c may be out
  void* out = nullptr;
  void* sum = nullptr;  ///< as the bias, at a multiple of 16 bytes
  void* workspace = nullptr;
};

/// The library's state for the calling thread's device.
class ProductLibrary;
std::shared_ptr<ProductLibrary> make_product_library();

/// An algorithm for a shape. It depends on the shape and the kind of device alone, so that results do.
class ProductPlan;
/// Null: there is no algorithm for the shape. `first`: the pointers of the first run.
std::shared_ptr<const ProductPlan> plan_product(ProductLibrary& library, const ProductShape& shape, const ProductPointers& first);
std::size_t workspace_of(const ProductPlan& plan) noexcept;
/// False: the library refuses the call after all; nothing was queued.
bool run_product(ProductLibrary& library, const ProductPlan& plan, const ProductPointers& pointers, double alpha, double beta, Stream stream);

}  // namespace dtensor::local::cuda
