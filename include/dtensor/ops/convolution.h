// SPDX-License-Identifier: Apache-2.0
// Convolutions. Input [N, C, sizes...] or [C, sizes...], weight [O, C / groups, kernel...], bias [O] or empty. Floating; f32 inside for bf16 and f16.
// Batch, channels of the result and groups may be split freely; split input channels give a Partial sum; of split spatial dims
// each rank fetches the borders that its part reads.
// Collective over the mesh of the input. @throws InvalidArgument when shapes, groups or options do not fit.
#pragma once

#include <string>
#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// Zeros around the input: a number for all dims, one per dim, "same" (as many as keep the sizes, stride 1; the odd one behind) or "valid" (none).
class ConvolutionPadding {
 public:
  ConvolutionPadding(int size = 0) : text_(std::to_string(size)) {}    // NOLINT(google-explicit-constructor)
  ConvolutionPadding(const Shape& sizes) : text_(to_string(sizes)) {}  // NOLINT(google-explicit-constructor)
  ConvolutionPadding(std::initializer_list<std::int64_t> sizes) : ConvolutionPadding(Shape(sizes)) {}
  ConvolutionPadding(const char* mode) : text_(mode) {}  // NOLINT(google-explicit-constructor)
  std::string_view text() const noexcept { return text_; }

 private:
  std::string text_;
};
/// Lists of one number stand for all spatial dims.
struct ConvolutionOptions {
  Shape stride = {1};
  ConvolutionPadding padding = 0;
  Shape dilation = {1};
  std::int64_t groups = 1;
};
DTENSOR_EXPORT DTensor conv1d(const DTensor& input, const DTensor& weight, const DTensor& bias = {}, const ConvolutionOptions& options = {});
DTENSOR_EXPORT DTensor conv2d(const DTensor& input, const DTensor& weight, const DTensor& bias = {}, const ConvolutionOptions& options = {});
DTENSOR_EXPORT DTensor conv3d(const DTensor& input, const DTensor& weight, const DTensor& bias = {}, const ConvolutionOptions& options = {});

struct ConvTransposeOptions {
  Shape stride = {1}, padding = {0}, output_padding = {0};
  std::int64_t groups = 1;
  Shape dilation = {1};
};
/// The gradient of a convolution with respect to its input, as a layer: weight [C, O / groups, kernel...],
/// sizes (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1.
DTENSOR_EXPORT DTensor conv_transpose1d(const DTensor& input, const DTensor& weight, const DTensor& bias = {},
                                        const ConvTransposeOptions& options = {});
DTENSOR_EXPORT DTensor conv_transpose2d(const DTensor& input, const DTensor& weight, const DTensor& bias = {},
                                        const ConvTransposeOptions& options = {});

}  // namespace dtensor
