// SPDX-License-Identifier: Apache-2.0
// Running reductions along one dimension (cumsum is in reductions.h). Collective over the mesh of the input; `dim` is brought whole to each rank.
// @throws InvalidArgument for a dim that does not exist and dtypes that do not fit.
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/reductions.h"

namespace dtensor {

/// Running products; integers and bool give i64.
DTENSOR_EXPORT DTensor cumprod(const DTensor& input, int dim, const CumsumOptions& options = {});
struct ValuesIndices {
  DTensor values, indices;
};
/// Largest (smallest) so far, and the i64 index of the last such element. NaN stays.
DTENSOR_EXPORT ValuesIndices cummax(const DTensor& input, int dim);
DTENSOR_EXPORT ValuesIndices cummin(const DTensor& input, int dim);
/// log of the running sum of e^x, without overflow. Floating dtypes.
DTENSOR_EXPORT DTensor logcumsumexp(const DTensor& input, int dim);

}  // namespace dtensor
