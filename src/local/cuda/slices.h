// SPDX-License-Identifier: Apache-2.0
// What reading and writing at positions comes to: slices of a table, one per position, and the same slices one after the other in a tensor of values.
#pragma once

#include <cstdint>

#include "local/cpu/embedding.h"
#include "local/cuda/axes.h"
#include "local/cuda/block.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

/// Element r of slice p is at at[p] * scale + table offset of r in the table, and at p * step + values offset of r in the values. In units: elements, or groups of
/// some that are neighbours in both.
struct Slices {
  const std::int64_t* at = nullptr;
  std::int64_t count = 0;  ///< of slices
  std::int64_t scale = 1, step = 1;
  int dims = 0;  ///< of a slice but the innermost
  std::int64_t sizes[kMaxDims] = {}, table_strides[kMaxDims] = {}, values_strides[kMaxDims] = {};
  std::int64_t inner = 1, inner_table = 1, inner_values = 1;
  std::int64_t outer = 1;  ///< elements of a slice over the innermost size

  DTENSOR_DEVICE std::int64_t size() const { return outer * inner; }  ///< of a slice
  struct Place {
    std::int64_t table = 0, values = 0;
  };
  /// Of element `x` of the innermost dimension at `o` in the others.
  DTENSOR_DEVICE Place place(std::int64_t o, std::int64_t x) const {
    Place p{x * inner_table, x * inner_values};
    for (int d = dims - 1; d >= 0; --d) {
      const std::int64_t rest = d == 0 ? 0 : quotient(o, sizes[d]), k = o - rest * sizes[d];
      p.table += k * table_strides[d];
      p.values += k * values_strides[d];
      o = rest;
    }
    return p;
  }
};

Slices slices_of(const cpu::RowsCall& call);
Slices slices_of(const cpu::PointsCall& call);
/// Single elements at flat positions.
Slices slices_of(const std::int64_t* at, std::int64_t count);
/// What all distances in elements are multiples of, when the innermost dimension is a run in both: 1 where it is not. `granule` divides all positions.
std::int64_t common_run(const Slices& slices, std::int64_t granule);
/// The same in units of `run` elements, which divides common_run(). Positions stay in elements: `scale` does, and table offsets are multiplied by `run`.
Slices in_units(const Slices& slices, std::int64_t run);

}  // namespace dtensor::local::cuda
