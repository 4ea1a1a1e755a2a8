// SPDX-License-Identifier: Apache-2.0
// The sizes of a convolution, as the matrix products see them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "local/cpu/convolution.h"
#include "local/cpu/spatial.h"

namespace dtensor::local::cpu {

inline std::int64_t product(const SpatialSizes& s) { return s[0] * s[1] * s[2]; }

struct ConvolutionSizes {
  Convolution rule;
  SpatialSizes in, kernel, out;
  std::int64_t samples, groups, p, q;  ///< p channels of the result and q of the input per group
  std::int64_t points() const { return product(out); }
  std::int64_t pixels() const { return product(in); }
  std::int64_t terms() const { return q * product(kernel); }
  /// The windows of the input are the input.
  bool direct() const {
    const SpatialSizes ones{1, 1, 1}, none{0, 0, 0};
    return kernel == ones && rule.stride == ones && rule.padding == none && in == out;
  }
};
/// `image` has the input's sizes, `map` those of the result.
inline ConvolutionSizes convolution_sizes(const Convolution& c, const Tensor& image, const Tensor& weight, const Tensor& map) {
  ConvolutionSizes p{.rule = c,
                     .in = spatial_sizes(image, c.spatial),
                     .kernel = spatial_sizes(weight, c.spatial),
                     .out = spatial_sizes(map, c.spatial),
                     .samples = image.ndim() == c.spatial + 2 ? image.shape()[0] : 1,
                     .groups = 1,
                     .p = 0,
                     .q = weight.shape()[1]};
  const std::int64_t channels = image.shape()[image.ndim() - c.spatial - 1];
  p.groups = p.q > 0 ? std::max<std::int64_t>(1, channels / p.q) : 1;
  p.p = weight.shape()[0] / p.groups;
  return p;
}

}  // namespace dtensor::local::cpu
