// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/slices.h"

#include <numeric>
#include <vector>

namespace dtensor::local::cuda {
namespace {

Slices from_dims(const Tensor& at, std::int64_t scale, std::int64_t step, const Shape& sizes, const Shape& table, const Shape& values) {
  const auto loop = strided_loop<2>(sizes, {table, values});
  Slices s{.at = at.raw_as<const std::int64_t>(), .count = at.numel(), .scale = scale, .step = step};
  s.dims = loop.ndim - 1;
  for (int d = 0; d < s.dims; ++d) {
    const auto from = static_cast<std::size_t>(d);
    s.sizes[d] = loop.sizes[from];
    s.table_strides[d] = loop.strides[0][from];
    s.values_strides[d] = loop.strides[1][from];
    s.outer *= s.sizes[d];
  }
  s.inner = loop.inner();
  s.inner_table = loop.inner_stride(0);
  s.inner_values = loop.inner_stride(1);
  return s;
}

}  // namespace

Slices slices_of(const cpu::RowsCall& c) {
  return from_dims(c.at, c.inner, c.inner, {c.outer, c.inner}, {c.length * c.inner, 1}, {c.at.numel() * c.inner, 1});
}

Slices slices_of(const cpu::PointsCall& c) {
  const Shape strides = contiguous_strides(c.shape);
  Shape sizes, table, values;
  std::int64_t step = 1;
  for (int d = 0; d < c.shape.ndim(); ++d) {
    if (d >= c.first + c.count) step *= c.shape[d];
    if (d >= c.first && d < c.first + c.count) continue;
    sizes.push_back(c.shape[d]);
    table.push_back(c.strides[d]);
    values.push_back(strides[d]);
  }
  return from_dims(c.base, 1, step, sizes, table, values);
}

Slices slices_of(const std::int64_t* at, std::int64_t count) {
  Slices s{.at = at, .count = count};
  return s;
}

std::int64_t common_run(const Slices& s, std::int64_t granule) {
  if (s.inner_table != 1 || s.inner_values != 1) return 1;
  std::int64_t run = std::gcd(std::gcd(s.inner, s.step), s.scale * granule);
  for (int d = 0; d < s.dims; ++d) run = std::gcd(run, std::gcd(s.table_strides[d], s.values_strides[d]));
  return run;
}

Slices in_units(const Slices& slices, std::int64_t run) {
  Slices s = slices;
  s.inner /= run;
  s.step /= run;
  for (int d = 0; d < s.dims; ++d) {
    s.table_strides[d] /= run;
    s.values_strides[d] /= run;
  }
  return s;
}

}  // namespace dtensor::local::cuda
