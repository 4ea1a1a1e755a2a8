// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "local/cuda/toolkit/cudnn_graph.h"

namespace dtensor::local::cuda {
namespace {

enum : std::int64_t { kImage = 1, kWeight, kMap, kBias };  // numbers of tensors

using Sizes = std::vector<std::int64_t>;
Sizes last(const std::array<std::int64_t, 3>& all, int spatial) { return {all.end() - spatial, all.end()}; }
Sizes sizes(std::int64_t a, std::int64_t b, const std::array<std::int64_t, 3>& all, int spatial) {
  Sizes result{a, b};
  for (std::int64_t size : last(all, spatial)) result.push_back(size);
  return result;
}

CudnnTensor tensor(std::int64_t number, const ConvolutionShape& s) {
  CudnnTensor t{.number = number, .type = cudnn_type(s.dtype)};
  if (number == kImage) t.sizes = sizes(s.samples, s.groups * s.q, s.in, s.spatial), t.alignment = s.image_alignment;
  if (number == kWeight) t.sizes = sizes(s.groups * s.p, s.q, s.kernel, s.spatial), t.alignment = s.weight_alignment;
  if (number == kMap) t.sizes = sizes(s.samples, s.groups * s.p, s.out, s.spatial), t.alignment = s.map_alignment;
  if (number == kBias) t.sizes = sizes(1, s.groups * s.p, {1, 1, 1}, s.spatial), t.alignment = s.bias_alignment;
  t.strides = row_major(t.sizes);
  return t;
}
std::int64_t number_of(ConvolutionResult result) {
  return result == ConvolutionResult::map ? kMap : result == ConvolutionResult::image ? kImage : kWeight;
}

CudnnDescriptor rule(const ConvolutionShape& s, cudnnDataType_t computed) {
  CudnnDescriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, computed).set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{s.spatial});
  d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, last(s.before, s.spatial)).set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, last(s.after, s.spatial));
  d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, last(s.stride, s.spatial)).set(CUDNN_ATTR_CONVOLUTION_DILATIONS, last(s.dilation, s.spatial));
  return std::move(d.finalize());
}

struct Names {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t rule, image, weight, map, alpha, beta;
};
constexpr Names kNames[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};

void factor(CudnnDescriptor& operation, cudnnBackendAttributeName_t name, bool wide, double value) {
  const auto value_f32 = static_cast<float>(value);
  operation.set(name, wide ? CUDNN_TYPE_DOUBLE : CUDNN_TYPE_FLOAT, 1, wide ? static_cast<const void*>(&value) : &value_f32);
}

// The sum and the bias meet before they are rounded: the map in between lives inside the graph, in the type of sums.
CudnnGraph graph_of(const ConvolutionShape& s) {
  const cudnnDataType_t computed = s.dtype == Dtype::f64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
  CudnnGraph graph;
  const std::int64_t result = number_of(s.result);
  std::size_t at[kBias + 1] = {};
  for (std::int64_t number : {kImage, kWeight, kMap}) at[number] = graph.tensor(tensor(number, s));
  const std::size_t written = at[result];
  if (s.has_bias) {
    at[kBias] = graph.tensor(tensor(kBias, s));
    at[result] = graph.inner(tensor(result, s).sizes, computed);
  }
  const Names& names = kNames[static_cast<std::size_t>(s.result)];
  CudnnDescriptor operation(names.operation);
  operation.set(names.rule, rule(s, computed)).set(names.image, graph.at(at[kImage])).set(names.weight, graph.at(at[kWeight]));
  operation.set(names.map, graph.at(at[kMap]));
  factor(operation, names.alpha, s.dtype == Dtype::f64, 1);
  factor(operation, names.beta, s.dtype == Dtype::f64, s.adds ? 1 : 0);
  graph.add(std::move(operation));
  if (s.has_bias) graph.pointwise(CUDNN_POINTWISE_ADD, computed, {at[result], at[kBias]}, written);
  return graph;
}

}  // namespace

std::shared_ptr<const CudnnPlan> plan_convolution(CudnnLibrary& library, const ConvolutionShape& s) try {
  CudnnNotes without{
      CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,   CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION, CUDNN_NUMERICAL_NOTE_FFT,
      CUDNN_NUMERICAL_NOTE_WINOGRAD,           CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4,           CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
      CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13};
  // Tensor cores read f32 as TF32.
  if (s.dtype == Dtype::f32 && !s.tf32) without.insert(without.end(), {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS});
  return choose_plan(library, graph_of(s), without, kCudnnWorkspace);
} catch (const CudnnFailure&) {
  return nullptr;  // cuDNN has no such operation
}

bool run_convolution(CudnnLibrary& library, const CudnnPlan& plan, const ConvolutionPointers& p, Stream stream) {
  const CudnnMemory memory[] = {{kImage, p.image}, {kWeight, p.weight}, {kMap, p.map}, {kBias, p.bias}};
  return run_plan(library, plan, {memory, p.bias != nullptr ? std::size_t{4} : std::size_t{3}}, p.workspace, stream);
}

}  // namespace dtensor::local::cuda
