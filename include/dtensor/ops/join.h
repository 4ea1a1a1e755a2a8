// SPDX-License-Identifier: Apache-2.0
// Putting tensors together. Dtypes are promoted; the joined dimension is whole, the others stay split.
#pragma once

#include <initializer_list>
#include <span>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// Along an existing dimension; the other sizes agree. Vectors of size 0 fit everywhere. @throws InvalidArgument otherwise, or for an empty list.
DTENSOR_EXPORT DTensor cat(std::span<const DTensor> tensors, int dim = 0);
inline DTensor cat(std::initializer_list<DTensor> tensors, int dim = 0) {
  return cat(std::span<const DTensor>(tensors.begin(), tensors.size()), dim);
}
/// Along a new dimension; all shapes agree.
DTENSOR_EXPORT DTensor stack(std::span<const DTensor> tensors, int dim = 0);
inline DTensor stack(std::initializer_list<DTensor> tensors, int dim = 0) {
  return stack(std::span<const DTensor>(tensors.begin(), tensors.size()), dim);
}

}  // namespace dtensor
