// SPDX-License-Identifier: Apache-2.0
// New tensors. Each rank makes its own part; nothing is communicated. A Partial placement holds the value on the first rank of the axis and neutral elements elsewhere.
#pragma once

#include "dtensor/distributed_tensor.h"

namespace dtensor {

DTENSOR_EXPORT DTensor empty(const Shape& size, const DeviceMesh& mesh, const Placements& placements = {}, const TensorOptions& options = {});
DTENSOR_EXPORT DTensor zeros(const Shape& size, const DeviceMesh& mesh, const Placements& placements = {}, const TensorOptions& options = {});
DTENSOR_EXPORT DTensor ones(const Shape& size, const DeviceMesh& mesh, const Placements& placements = {}, const TensorOptions& options = {});
DTENSOR_EXPORT DTensor full(const Shape& size, const Scalar& fill_value, const DeviceMesh& mesh, const Placements& placements = {},
                            const TensorOptions& options = {});
struct ArangeOptions {
  std::optional<Dtype> dtype = {};  ///< i64 for integer bounds, f32 otherwise
  std::optional<Device> device = {};
};
/// start, start + step, ... below end.
DTENSOR_EXPORT DTensor arange(const Scalar& start, const Scalar& end, const Scalar& step, const DeviceMesh& mesh, const Placements& placements = {},
                              const ArangeOptions& options = {});
DTENSOR_EXPORT DTensor arange(const Scalar& end, const DeviceMesh& mesh, const Placements& placements = {}, const ArangeOptions& options = {});
/// n x m, ones on the diagonal.
DTENSOR_EXPORT DTensor eye(std::int64_t n, std::int64_t m, const DeviceMesh& mesh, const Placements& placements = {},
                           const TensorOptions& options = {});
/// Shape, dtype, mesh and (Partial turned into Replicate) placements of `input`.
DTENSOR_EXPORT DTensor zeros_like(const DTensor& input);
DTENSOR_EXPORT DTensor ones_like(const DTensor& input);
DTENSOR_EXPORT DTensor full_like(const DTensor& input, const Scalar& fill_value);
/// Elements above (tril) or below (triu) the `diagonal` of the last two dimensions become 0.
DTENSOR_EXPORT DTensor tril(const DTensor& input, std::int64_t diagonal = 0);
DTENSOR_EXPORT DTensor triu(const DTensor& input, std::int64_t diagonal = 0);

}  // namespace dtensor
