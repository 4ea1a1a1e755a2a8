// SPDX-License-Identifier: Apache-2.0
// Reductions over dimensions. No dimensions named: all of them (but see all and any). A split reduced dimension gives a Partial result (sum, mean, prod, amax, amin, all, any) or
// a combination of such (var, std, vector_norm, argmax, argmin); the operand is never gathered. Sums of bf16 and f16 are taken in f32.
// Collective over the mesh of the input. @throws InvalidArgument for a dim that does not exist or is named twice, and for dtypes that do not fit.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct ReduceOptions {
  bool keepdim = false;
  std::optional<Dtype> dtype = {};  ///< of the computation and the result
};
struct KeepdimOptions {
  bool keepdim = false;
};

/// Integers and bool give i64.
DTENSOR_EXPORT DTensor sum(const DTensor& input, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor sum(const DTensor& input, int dim, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor sum(const DTensor& input, std::initializer_list<int> dim, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor sum(const DTensor& input, std::span<const int> dim, const ReduceOptions& options = {});
/// sum divided by the number of elements of the global tensor. Floating dtypes.
DTENSOR_EXPORT DTensor mean(const DTensor& input, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor mean(const DTensor& input, int dim, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor mean(const DTensor& input, std::initializer_list<int> dim, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor mean(const DTensor& input, std::span<const int> dim, const ReduceOptions& options = {});
/// Integers and bool give i64.
DTENSOR_EXPORT DTensor prod(const DTensor& input, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor prod(const DTensor& input, int dim, const ReduceOptions& options = {});

/// NaN wins. The gradient is shared equally among equal elements. @throws InvalidArgument when a reduced dimension has no element.
DTENSOR_EXPORT DTensor amax(const DTensor& input, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amax(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amax(const DTensor& input, std::initializer_list<int> dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amax(const DTensor& input, std::span<const int> dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amin(const DTensor& input, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amin(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amin(const DTensor& input, std::initializer_list<int> dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor amin(const DTensor& input, std::span<const int> dim, const KeepdimOptions& options = {});
/// bool: every element differs from 0. A list without dims reduces none, unlike that of sum: whether each element differs from 0.
DTENSOR_EXPORT DTensor all(const DTensor& input, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor all(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor all(const DTensor& input, std::initializer_list<int> dim, const KeepdimOptions& options = {});
/// bool: some element differs from 0; a list without dims as in all.
DTENSOR_EXPORT DTensor any(const DTensor& input, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor any(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor any(const DTensor& input, std::initializer_list<int> dim, const KeepdimOptions& options = {});

struct VarOptions {
  Scalar correction = 1;  ///< the divisor is max(0, count - correction)
  bool keepdim = false;
};
/// Mean of squared deviations from the mean; std is its square root. Floating dtypes.
DTENSOR_EXPORT DTensor var(const DTensor& input, const VarOptions& options = {});
DTENSOR_EXPORT DTensor var(const DTensor& input, int dim, const VarOptions& options = {});
DTENSOR_EXPORT DTensor var(const DTensor& input, std::initializer_list<int> dim, const VarOptions& options = {});
DTENSOR_EXPORT DTensor std(const DTensor& input, const VarOptions& options = {});
DTENSOR_EXPORT DTensor std(const DTensor& input, int dim, const VarOptions& options = {});
DTENSOR_EXPORT DTensor std(const DTensor& input, std::initializer_list<int> dim, const VarOptions& options = {});

struct VectorNormOptions {
  double ord = 2;  ///< any number, infinite too; 0 counts the elements that differ from 0
  bool keepdim = false;
  std::optional<Dtype> dtype = {};
};
/// (sum |x|^ord)^(1/ord); the gradient at 0 is 0. Floating dtypes.
DTENSOR_EXPORT DTensor vector_norm(const DTensor& input, const VectorNormOptions& options = {});
DTENSOR_EXPORT DTensor vector_norm(const DTensor& input, int dim, const VectorNormOptions& options = {});
DTENSOR_EXPORT DTensor vector_norm(const DTensor& input, std::initializer_list<int> dim, const VectorNormOptions& options = {});
struct NormOptions {
  double p = 2;  ///< as ord
  bool keepdim = false;
  std::optional<Dtype> dtype = {};
};
/// vector_norm under PyTorch's older name.
DTENSOR_EXPORT DTensor norm(const DTensor& input, const NormOptions& options = {});
DTENSOR_EXPORT DTensor norm(const DTensor& input, int dim, const NormOptions& options = {});

/// i64 index of the largest (smallest) element, the first of equals; the first NaN when there is one. Without dim: of the flattened tensor.
DTENSOR_EXPORT DTensor argmax(const DTensor& input, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor argmax(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor argmin(const DTensor& input, const KeepdimOptions& options = {});
DTENSOR_EXPORT DTensor argmin(const DTensor& input, int dim, const KeepdimOptions& options = {});

struct CumsumOptions {
  std::optional<Dtype> dtype = {};
};
/// Running sums along `dim`, which is brought whole to each rank.
DTENSOR_EXPORT DTensor cumsum(const DTensor& input, int dim, const CumsumOptions& options = {});

/// `input` summed over the dimensions that broadcasting from `shape` to its shape would add or enlarge.
DTENSOR_EXPORT DTensor sum_to_shape(const DTensor& input, const Shape& shape);

/// Same shape and equal elements, on every rank alike. Communicates.
DTENSOR_EXPORT bool equal(const DTensor& input, const DTensor& other);
struct AllCloseOptions {
  double rtol = 1e-5, atol = 1e-8;
  bool equal_nan = false;
};
/// |input - other| <= atol + rtol * |other| everywhere, on every rank alike. Communicates.
DTENSOR_EXPORT bool allclose(const DTensor& input, const DTensor& other, const AllCloseOptions& options = {});

}  // namespace dtensor
