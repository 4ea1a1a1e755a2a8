// SPDX-License-Identifier: Apache-2.0
// The part of cuDNN that the library uses, as functions: cudnn_*.cpp are the real ones, no_cudnn.cpp those of a build without its header, and tests link
// what stands in their place. The library itself is loaded when it is first asked for: a program starts without it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dtensor/values.h"
#include "local/cuda/driver.h"

namespace dtensor::local::cuda {

/// Whether the functions below can be called.
bool cudnn_present();
/// "9.19.0", or why there is none.
std::string cudnn_version_text();

/// Bytes that an algorithm may want beside its operands.
inline constexpr std::size_t kCudnnWorkspace = std::size_t{256} << 20;

/// The library's state for the calling thread's device, or for a device that need not be there: of `properties` as cuDNN writes them (JSON). There plans
/// can be made, not run. Null: cuDNN does not work for the device.
class CudnnLibrary;
std::shared_ptr<CudnnLibrary> make_cudnn_library();
std::shared_ptr<CudnnLibrary> make_cudnn_library(const std::string& properties);

/// An algorithm that gives the same bits every time and multiplies in the types of its operands (f32: TF32 where the shape says so), sums in f32 (f64 for
/// f64). It depends on the shape and the kind of device alone: cuDNN's rules choose it, not the clock.
class CudnnPlan;
std::size_t workspace_of(const CudnnPlan& plan) noexcept;
/// Words for people.
std::string description_of(const CudnnPlan& plan);

/// What a call computes of map = convolution(image, weight): one from the other two.
enum class ConvolutionResult : signed char { map, image, weight };
/// Row-major image [samples, groups q, in...], weight [groups p, q, kernel...], map [samples, groups p, out...]; see cpu::Convolution. No size is 0.
struct ConvolutionShape {
  ConvolutionResult result = ConvolutionResult::map;
  Dtype dtype = Dtype::f32;  ///< floating
  bool tf32 = false;         ///< f32 operands may be rounded to TF32
  bool has_bias = false;     ///< of the map's channels; only for a map
  bool adds = false;         ///< to what the result holds; only without a bias
  int spatial = 2;           ///< 2 or 3; the arrays are filled from the right, ones on the left
  std::int64_t samples = 1, groups = 1, p = 1, q = 1;
  std::array<std::int64_t, 3> in{1, 1, 1}, kernel{1, 1, 1}, out{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1};
  std::array<std::int64_t, 3> before{}, after{};  ///< padding; not negative
  /// Bytes: powers of two up to 16 that divide the addresses.
  int image_alignment = 16, weight_alignment = 16, map_alignment = 16, bias_alignment = 16;
  friend bool operator==(const ConvolutionShape&, const ConvolutionShape&) = default;
};
struct ConvolutionPointers {
  const void *image = nullptr, *weight = nullptr, *map = nullptr, *bias = nullptr;  ///< the result's is written to
  void* workspace = nullptr;
};
/// Null: there is none within kCudnnWorkspace.
std::shared_ptr<const CudnnPlan> plan_convolution(CudnnLibrary& library, const ConvolutionShape& shape);
/// False: cuDNN refuses the call after all; nothing was queued.
bool run_convolution(CudnnLibrary& library, const CudnnPlan& plan, const ConvolutionPointers& pointers, Stream stream);

/// out [b, h, t, e] = softmax(scale query key^T) value in bf16 or f16, and the logarithm of what the weights were divided by [b, h, t] in f32; both
/// row-major. Query [b, h, t, d], key [b, groups, s, d], value [b, groups, s, e] with elements of a row side by side; head n reads group n / (h / groups).
/// Addresses and strides are multiples of 16 bytes. No size is 0.
struct AttentionShape {
  Dtype dtype = Dtype::bf16;
  bool causal = false;  ///< query n sees keys 0 .. n
  std::int64_t b = 1, h = 1, groups = 1, t = 1, s = 1, d = 1, e = 1;
  std::array<std::int64_t, 3> query{}, key{}, value{};  ///< strides of batch, heads and rows
  friend bool operator==(const AttentionShape&, const AttentionShape&) = default;
};
struct AttentionPointers {
  const void *query = nullptr, *key = nullptr, *value = nullptr;
  void *out = nullptr, *logsumexp = nullptr;
  void* workspace = nullptr;
};
/// Null: there is none within kCudnnWorkspace.
std::shared_ptr<const CudnnPlan> plan_attention(CudnnLibrary& library, const AttentionShape& shape);
bool run_attention(CudnnLibrary& library, const CudnnPlan& plan, const AttentionShape& shape, const AttentionPointers& pointers, double scale,
                   Stream stream);

}  // namespace dtensor::local::cuda
