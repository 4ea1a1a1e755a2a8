// SPDX-License-Identifier: Apache-2.0
// Pooling and resizing of images [N, C, sizes...] or [C, sizes...]. All dims may be split; of split sizes each rank fetches the borders that
// its part of the result reads.
// Lists of one number stand for all dims. Floating. Collective over the mesh of the input. @throws InvalidArgument when options do not fit.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct MaxPoolOptions {
  Shape stride = {};  ///< empty: the kernel's sizes
  Shape padding = {0}, dilation = {1};
  bool ceil_mode = false;  ///< a last window that begins inside the image or the padding in front counts although it ends outside
};
struct MaxPooled {
  DTensor values, indices;  ///< indices i64: y * width + x in the image without padding
};
/// NaN wins; of equals the first.
DTENSOR_EXPORT DTensor max_pool2d(const DTensor& input, const Shape& kernel_size, const MaxPoolOptions& options = {});
DTENSOR_EXPORT MaxPooled max_pool2d_with_indices(const DTensor& input, const Shape& kernel_size, const MaxPoolOptions& options = {});

struct AvgPoolOptions {
  Shape stride = {};  ///< empty: the kernel's sizes
  Shape padding = {0};
  bool ceil_mode = false;
  bool count_include_pad = true;  ///< zeros of the padding count in the divisor
  std::optional<std::int64_t> divisor_override = {};
};
DTENSOR_EXPORT DTensor avg_pool2d(const DTensor& input, const Shape& kernel_size, const AvgPoolOptions& options = {});
/// Means over windows [floor(i n / m), ceil((i + 1) n / m)): the result has `output_size`.
DTENSOR_EXPORT DTensor adaptive_avg_pool2d(const DTensor& input, const Shape& output_size);

/// One of size and scale_factor is given.
struct InterpolateOptions {
  std::optional<Shape> size = {};
  std::vector<double> scale_factor = {};
  std::string_view mode = "nearest";
  bool recompute_scale_factor = false;  ///< the scale used is that of the sizes
};
/// 1 to 3 sizes. Position i of the result reads floor(i / scale).
DTENSOR_EXPORT DTensor interpolate(const DTensor& input, const InterpolateOptions& options);

}  // namespace dtensor
