// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstddef>

#include "local/cuda/boxes.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/table.h"
#include "local/kernels/map.h"

namespace dtensor::local::cuda {
namespace {

void convert(const Tensor& source, const Tensor& out) {
  const Shape& shape = out.shape();
  const int missing = shape.ndim() - source.ndim();
  Shape from;
  for (int d = 0; d < shape.ndim(); ++d)
    from.push_back(d < missing || (source.shape()[d - missing] == 1 && shape[d] != 1) ? 0 : source.strides()[d - missing]);
  const Shape& strides = from;
  RankDevice& device = rank_device(out);
  if (out.raw() == source.raw() && out.dtype() == source.dtype() && strides == out.strides()) return;
  convert_box(out.raw(), out.dtype(), out.strides(), source.raw(), source.dtype(), strides, shape, device.current);
}
void fill(const Tensor& out, const Scalar& value) { fill_box(out.raw(), out.dtype(), out.strides(), out.shape(), value, rank_device(out).current); }

}  // namespace

void install_copies() {
  kernels::convert.cuda = convert;
  kernels::fill.cuda = fill;
}

}  // namespace dtensor::local::cuda
