// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/library_convolution.h"

#include <algorithm>
#include <limits>

#include "base/hash.h"
#include "local/cuda/boxes.h"
#include "local/cuda/cudnn_state.h"
#include "local/cuda/gemm.h"
#include "local/cuda/launched.h"
#include "local/precision.h"

namespace dtensor::local::cuda {
namespace {

struct Hash {
  std::size_t operator()(const ConvolutionShape& s) const noexcept {
    std::uint64_t h = static_cast<std::uint64_t>(s.result) * 1024 + static_cast<std::uint64_t>(s.dtype) * 8 + s.tf32 * 4u + s.has_bias * 2u + s.adds;
    const auto add = [&h](std::int64_t x) { h = base::mix(h, static_cast<std::uint64_t>(x)); };
    for (std::int64_t x : {std::int64_t{s.spatial}, s.samples, s.groups, s.p, s.q}) add(x);
    for (const auto* list : {&s.in, &s.kernel, &s.out, &s.stride, &s.dilation, &s.before, &s.after})
      for (std::int64_t x : *list) add(x);
    for (int x : {s.image_alignment, s.weight_alignment, s.map_alignment, s.bias_alignment}) add(x);
    return h;
  }
};
using Plans = PlanCache<ConvolutionShape, CudnnPlan, Hash>;

int alignment(const void* address) { return std::min(alignment_of(address), 16); }

// Padding behind the last element that gives `out` positions: the one before the first if it does, as more algorithms take that.
std::optional<std::int64_t> padding_after(const cpu::ConvolutionSizes& s, std::size_t d) {
  const auto& r = s.rule;
  const std::int64_t window = r.dilation[d] * (s.kernel[d] - 1) + 1, before = r.padding[d];
  const std::int64_t least = std::max<std::int64_t>(0, (s.out[d] - 1) * r.stride[d] + window - s.in[d] - before);
  for (std::int64_t after : {before, least})
    if (const std::int64_t room = s.in[d] + before + after - window; room >= 0 && room / r.stride[d] + 1 == s.out[d]) return after;
  return {};
}

// Every position of the result of `channels` gets its channel's number.
void fill_with_bias(const cpu::ConvolutionSizes& s, Dtype dtype, const void* bias, void* image, Stream stream) {
  const std::int64_t channels = s.groups * s.q, sizes[3] = {s.samples, channels, s.pixels()}, to[3] = {channels * s.pixels(), s.pixels(), 1},
                     from[3] = {0, 1, 0};
  convert_box(image, dtype, to, bias, dtype, from, sizes, stream);
}

}  // namespace

std::optional<ConvolutionShape> convolution_shape(ConvolutionResult result, const cpu::ConvolutionSizes& s, Dtype dtype) {
  ConvolutionShape shape{.result = result, .dtype = dtype, .spatial = std::max(2, s.rule.spatial), .samples = s.samples, .groups = s.groups};
  shape.tf32 = dtype == Dtype::f32 && matmul_precision() == MatmulPrecision::high;
  shape.p = s.p;
  shape.q = s.q;
  shape.in = s.in;
  shape.kernel = s.kernel;
  shape.out = s.out;
  shape.stride = s.rule.stride;
  shape.dilation = s.rule.dilation;
  shape.before = s.rule.padding;
  for (std::size_t d = 0; d < 3; ++d) {
    const auto after = padding_after(s, d);
    if (!after || shape.before[d] < 0) return {};
    shape.after[d] = *after;
  }
  // Engines count elements of a tensor in 32 bits.
  const std::int64_t sizes[] = {s.samples * s.groups * s.q * s.pixels(), s.groups * s.p * s.terms(), s.samples * s.groups * s.p * s.points()};
  for (std::int64_t size : sizes)
    if (size <= 0 || size > std::numeric_limits<std::int32_t>::max()) return {};
  return shape;
}

bool library_convolution(ConvolutionResult result, const cpu::ConvolutionSizes& s, RankDevice& d, Dtype dtype, ConvolutionPointers p) {
  // Windows that are the input are one product.
  if (!uses_cudnn() || (s.direct() && result != ConvolutionResult::weight)) return false;
  auto shape = convolution_shape(result, s, dtype);
  if (!shape) return false;
  const void* const bias = p.bias;
  shape->has_bias = bias != nullptr && result == ConvolutionResult::map;
  shape->adds = bias != nullptr && result == ConvolutionResult::image;
  shape->image_alignment = alignment(p.image);
  shape->weight_alignment = alignment(p.weight);
  shape->map_alignment = alignment(p.map);
  if (shape->has_bias) shape->bias_alignment = alignment(bias);
  else p.bias = nullptr;
  CudnnLibrary* const library = cudnn_of(d.device);
  if (library == nullptr) return false;
  const auto plan = device_state<Plans>(d.device).find(*shape, [&] { return plan_convolution(*library, *shape); });
  if (plan == nullptr) return false;
  std::optional<Scratch> workspace;
  if (const std::size_t bytes = workspace_of(*plan); bytes != 0) p.workspace = workspace.emplace(d, bytes).as<void>();
  if (shape->adds) fill_with_bias(s, dtype, bias, const_cast<void*>(p.image), d.current);
  if (!run_convolution(*library, *plan, p, d.current)) return false;
  check_launch("convolution by cuDNN");
  return true;
}

}  // namespace dtensor::local::cuda
