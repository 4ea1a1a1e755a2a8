// SPDX-License-Identifier: Apache-2.0
// Views: same elements under another shape. Locally no copy where strides allow it. A split dimension stays split where the law of views admits it
// (docs/rules.md); otherwise the call moves data.
#pragma once

#include <initializer_list>
#include <vector>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// Same elements in row-major order; one size may be -1. @throws InvalidArgument when the number of elements differs.
DTENSOR_EXPORT DTensor reshape(const DTensor& input, const Shape& shape);
DTENSOR_EXPORT DTensor view(const DTensor& input, const Shape& shape);
/// Dimensions start_dim .. end_dim become one.
DTENSOR_EXPORT DTensor flatten(const DTensor& input, int start_dim = 0, int end_dim = -1);
/// Dimension `dim` becomes `sizes` (one may be -1).
DTENSOR_EXPORT DTensor unflatten(const DTensor& input, int dim, const Shape& sizes);
DTENSOR_EXPORT DTensor transpose(const DTensor& input, int dim0, int dim1);
/// Transpose of a tensor of at most two dimensions.
DTENSOR_EXPORT DTensor t(const DTensor& input);
DTENSOR_EXPORT DTensor permute(const DTensor& input, const Shape& dims);
DTENSOR_EXPORT DTensor unsqueeze(const DTensor& input, int dim);
/// Drops all dimensions of size one, or those of `dim` that have size one.
DTENSOR_EXPORT DTensor squeeze(const DTensor& input);
DTENSOR_EXPORT DTensor squeeze(const DTensor& input, int dim);
DTENSOR_EXPORT DTensor squeeze(const DTensor& input, const Shape& dim);
/// Dimensions of size one repeat; -1 keeps a size; new dimensions in front.
DTENSOR_EXPORT DTensor expand(const DTensor& input, const Shape& shape);
/// Indices start, start + step, ... below end of one dimension. Bounds count from the end when negative and are clamped.
DTENSOR_EXPORT DTensor slice(const DTensor& input, int dim, std::int64_t start, std::int64_t end, std::int64_t step = 1);
DTENSOR_EXPORT DTensor narrow(const DTensor& input, int dim, std::int64_t start, std::int64_t length);
/// One index of one dimension, which goes away.
DTENSOR_EXPORT DTensor select(const DTensor& input, int dim, std::int64_t index);
/// Parts of `split_size` (the last may be smaller), or of the listed sizes.
DTENSOR_EXPORT std::vector<DTensor> split(const DTensor& input, std::int64_t split_size, int dim = 0);
DTENSOR_EXPORT std::vector<DTensor> split(const DTensor& input, const Shape& sizes, int dim);
/// At most `chunks` parts of ceil size; of a dimension of size 0, that many parts of size 0.
DTENSOR_EXPORT std::vector<DTensor> chunk(const DTensor& input, int chunks, int dim = 0);
/// The same tensor with its own place on the tape: hooks on it see the gradient of its uses only.
DTENSOR_EXPORT DTensor alias(const DTensor& input);
/// Row-major memory of its own.
DTENSOR_EXPORT DTensor clone(const DTensor& input);
DTENSOR_EXPORT DTensor contiguous(const DTensor& input);

}  // namespace dtensor
