// SPDX-License-Identifier: Apache-2.0
// cudnn.h without a GPU: sums in double, rounded once, of operands that are rounded to TF32 where they may be. What cuDNN would refuse is an error.
#include "emulated_cudnn.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "local/cuda/launch.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

std::atomic<bool> is_present{true};
std::atomic<emulated::CudnnRefusal> refused{emulated::CudnnRefusal::nothing};
bool refuses(emulated::CudnnRefusal what) { return refused == what; }
std::mutex last_mutex;
ConvolutionShape last_shape;
AttentionShape last_attention_shape;

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(std::string("cuDNN would refuse the call: ") + what);
}
void check_aligned(const void* address, int alignment) {
  require(address != nullptr, "a null pointer");
  require(reinterpret_cast<std::uintptr_t>(address) % static_cast<std::uintptr_t>(alignment) == 0, "an address is less aligned than was said");
}
void check(const ConvolutionShape& s) {
  require(info(s.dtype).floating, "operands are not floating");
  require(!s.tf32 || s.dtype == Dtype::f32, "TF32 of operands that are not f32");
  require(s.spatial == 2 || s.spatial == 3, "not two or three spatial dims");
  require(s.samples > 0 && s.groups > 0 && s.p > 0 && s.q > 0, "a size is 0");
  require(!s.has_bias || (s.result == ConvolutionResult::map && !s.adds), "a bias of what is no map, or on top of something");
  for (int alignment : {s.image_alignment, s.weight_alignment, s.map_alignment, s.bias_alignment})
    require(alignment > 0 && alignment <= 16 && (alignment & (alignment - 1)) == 0, "an alignment is no power of two up to 16");
  for (std::size_t d = 0; d < 3; ++d) {
    require(s.in[d] > 0 && s.kernel[d] > 0 && s.out[d] > 0 && s.stride[d] > 0 && s.dilation[d] > 0, "a size is 0");
    require(s.before[d] >= 0 && s.after[d] >= 0, "padding is negative");
    const std::int64_t room = s.in[d] + s.before[d] + s.after[d] - s.dilation[d] * (s.kernel[d] - 1) - 1;
    require(room >= 0 && room / s.stride[d] + 1 == s.out[d], "the map's sizes are not those of the rule");
    require(d + static_cast<std::size_t>(s.spatial) >= 3 || (s.in[d] == 1 && s.kernel[d] == 1 && s.out[d] == 1), "sizes beyond the dims");
  }
}

double rounded(double x, bool tf32) {
  if (!tf32) return x;
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  return static_cast<double>(std::bit_cast<float>((bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu));
}

// f(element of the image, of the weight, of the map) for all that meet.
template <class F>
void for_terms(const ConvolutionShape& s, const F& f) {
  const auto flat = [](const std::array<std::int64_t, 3>& at, const std::array<std::int64_t, 3>& sizes) {
    return (at[0] * sizes[1] + at[1]) * sizes[2] + at[2];
  };
  const auto volume = [](const std::array<std::int64_t, 3>& sizes) { return sizes[0] * sizes[1] * sizes[2]; };
  const auto spread = [](std::int64_t i, const std::array<std::int64_t, 3>& sizes) {
    return std::array<std::int64_t, 3>{i / (sizes[1] * sizes[2]), i / sizes[2] % sizes[1], i % sizes[2]};
  };
  const std::int64_t points = volume(s.out), taps = volume(s.kernel), pixels = volume(s.in);
  for (std::int64_t n = 0; n < s.samples; ++n)
    for (std::int64_t g = 0; g < s.groups; ++g)
      for (std::int64_t o = g * s.p; o < (g + 1) * s.p; ++o)
        for (std::int64_t point = 0; point < points; ++point)
          for (std::int64_t c = 0; c < s.q; ++c)
            for (std::int64_t tap = 0; tap < taps; ++tap) {
              auto at = spread(point, s.out);
              const auto k = spread(tap, s.kernel);
              bool inside = true;
              for (std::size_t d = 0; d < 3; ++d) {
                at[d] = at[d] * s.stride[d] - s.before[d] + k[d] * s.dilation[d];
                inside = inside && at[d] >= 0 && at[d] < s.in[d];
              }
              if (inside)
                f((n * s.groups * s.q + g * s.q + c) * pixels + flat(at, s.in), (o * s.q + c) * taps + tap,
                  (n * s.groups * s.p + o) * points + point);
            }
}

template <class T>
void convolve(const ConvolutionShape& s, const ConvolutionPointers& p) {
  const auto volume = [](const std::array<std::int64_t, 3>& sizes) { return sizes[0] * sizes[1] * sizes[2]; };
  const std::int64_t channels = s.groups * s.p, points = volume(s.out);
  const void* const all[] = {p.map, p.image, p.weight};
  const std::int64_t counts[] = {s.samples * channels * points, s.samples * s.groups * s.q * volume(s.in), channels * s.q * volume(s.kernel)};
  const auto which = static_cast<std::size_t>(s.result);
  T* const out = const_cast<T*>(static_cast<const T*>(all[which]));
  std::vector<double> sums(static_cast<std::size_t>(counts[which]));
  const auto at = [&](const void* data, std::int64_t i) { return rounded(static_cast<double>(load(static_cast<const T*>(data)[i])), s.tf32); };
  for_terms(s, [&](std::int64_t image, std::int64_t weight, std::int64_t map) {
    if (s.result == ConvolutionResult::map) sums[static_cast<std::size_t>(map)] += at(p.image, image) * at(p.weight, weight);
    else if (s.result == ConvolutionResult::image) sums[static_cast<std::size_t>(image)] += at(p.map, map) * at(p.weight, weight);
    else sums[static_cast<std::size_t>(weight)] += at(p.map, map) * at(p.image, image);
  });
  for (std::int64_t i = 0; i < counts[which]; ++i) {
    double sum = sums[static_cast<std::size_t>(i)];
    if (s.adds) sum += static_cast<double>(load(out[i]));
    if (s.has_bias) sum += static_cast<double>(load(static_cast<const T*>(p.bias)[i / points % channels]));
    out[i] = convert<T>(sum);
  }
}

template <class T>
void attend(const AttentionShape& s, const AttentionPointers& p, double scale) {
  const auto at = [](const void* data, const std::array<std::int64_t, 3>& strides, std::int64_t b, std::int64_t h, std::int64_t row, std::int64_t i) {
    return static_cast<double>(load(static_cast<const T*>(data)[b * strides[0] + h * strides[1] + row * strides[2] + i]));
  };
  for (std::int64_t b = 0; b < s.b; ++b)
    for (std::int64_t h = 0; h < s.h; ++h)
      for (std::int64_t i = 0; i < s.t; ++i) {
        const std::int64_t group = h / (s.h / s.groups), seen = s.causal ? std::min(i + 1, s.s) : s.s, row = (b * s.h + h) * s.t + i;
        std::vector<double> weights(static_cast<std::size_t>(seen));
        double top = -std::numeric_limits<double>::infinity(), total = 0;
        for (std::int64_t j = 0; j < seen; ++j) {
          double& score = weights[static_cast<std::size_t>(j)];
          for (std::int64_t x = 0; x < s.d; ++x) score += at(p.query, s.query, b, h, i, x) * at(p.key, s.key, b, group, j, x);
          score *= scale;
          top = std::max(top, score);
        }
        for (double& w : weights) total += w = std::exp(w - top);
        static_cast<float*>(p.logsumexp)[row] = static_cast<float>(top + std::log(total));
        for (std::int64_t x = 0; x < s.e; ++x) {
          double sum = 0;
          for (std::int64_t j = 0; j < seen; ++j) sum += weights[static_cast<std::size_t>(j)] / total * at(p.value, s.value, b, group, j, x);
          static_cast<T*>(p.out)[row * s.e + x] = convert<T>(sum);
        }
      }
}

}  // namespace

void emulated::set_cudnn(bool present) { is_present = present; }
void emulated::refuse_cudnn(CudnnRefusal what) { refused = what; }
ConvolutionShape emulated::last_convolution() {
  const std::lock_guard lock(last_mutex);
  return last_shape;
}

AttentionShape emulated::last_attention() {
  const std::lock_guard lock(last_mutex);
  return last_attention_shape;
}

class CudnnLibrary {};
class CudnnPlan {
 public:
  ConvolutionShape shape;
};

bool cudnn_present() { return is_present; }
std::string cudnn_version_text() { return is_present ? "9.9.9 (emulated)" : "none: turned off by a test"; }

std::shared_ptr<CudnnLibrary> make_cudnn_library() {
  require(is_present, "it is not there");
  return std::make_shared<CudnnLibrary>();
}
std::shared_ptr<CudnnLibrary> make_cudnn_library(const std::string& /*properties*/) { return make_cudnn_library(); }
std::size_t workspace_of(const CudnnPlan& plan) noexcept { return plan.shape.groups > 1 ? 512 : 0; }
std::string description_of(const CudnnPlan& /*plan*/) { return "emulated"; }

std::shared_ptr<const CudnnPlan> plan_convolution(CudnnLibrary& /*library*/, const ConvolutionShape& s) {
  check(s);
  const std::lock_guard lock(last_mutex);
  last_shape = s;
  if (refuses(emulated::CudnnRefusal::plans)) return nullptr;
  auto plan = std::make_shared<CudnnPlan>();
  plan->shape = s;
  return plan;
}

bool run_convolution(CudnnLibrary& /*library*/, const CudnnPlan& plan, const ConvolutionPointers& p, Stream stream) {
  const ConvolutionShape& s = plan.shape;
  check_aligned(p.image, s.image_alignment);
  check_aligned(p.weight, s.weight_alignment);
  check_aligned(p.map, s.map_alignment);
  require(s.has_bias == (p.bias != nullptr), "a bias that was not said, or is not there");
  if (s.has_bias) check_aligned(p.bias, s.bias_alignment);
  require(workspace_of(plan) == 0 || p.workspace != nullptr, "no workspace");
  if (refuses(emulated::CudnnRefusal::runs)) return false;
  emulated::queue("cuDNN convolution", stream, [s, p] { visit_floating(s.dtype, [&]<class T>(std::type_identity<T>) { convolve<T>(s, p); }); });
  return true;
}

std::shared_ptr<const CudnnPlan> plan_attention(CudnnLibrary& /*library*/, const AttentionShape& s) {
  require(info(s.dtype).bytes == 2 && info(s.dtype).floating, "operands are not of 16 bits");
  require(s.b > 0 && s.h > 0 && s.groups > 0 && s.t > 0 && s.s > 0 && s.d > 0 && s.e > 0, "a size is 0");
  require(s.h % s.groups == 0 && s.d % 8 == 0 && s.e % 8 == 0, "heads that are not in groups, or rows that are no packs");
  for (const auto* list : {&s.query, &s.key, &s.value})
    for (std::int64_t stride : *list) require(stride > 0 && stride % 8 == 0, "a stride that is none, or no packs");
  const std::lock_guard lock(last_mutex);
  last_attention_shape = s;
  return refuses(emulated::CudnnRefusal::plans) ? nullptr : std::make_shared<CudnnPlan>();
}
bool run_attention(CudnnLibrary& /*library*/, const CudnnPlan& /*plan*/, const AttentionShape& s, const AttentionPointers& p, double scale,
                   Stream stream) {
  for (const void* address : {p.query, p.key, p.value, static_cast<const void*>(p.out), static_cast<const void*>(p.logsumexp)})
    check_aligned(address, 16);
  if (refuses(emulated::CudnnRefusal::runs)) return false;
  emulated::queue("cuDNN attention", stream, [s, p, scale] {
    if (s.dtype == Dtype::bf16) attend<BFloat16>(s, p, scale);
    else attend<Half>(s, p, scale);
  });
  return true;
}

}  // namespace dtensor::local::cuda
