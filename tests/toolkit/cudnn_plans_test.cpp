// SPDX-License-Identifier: Apache-2.0
// The real cuDNN, asked for plans for a GPU that is not here.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "local/cuda/launched.h"
#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda {

void fail_device(const char* what, const std::string& text) { throw std::string(what) + ": " + text; }

namespace {

// An H200.
const char kDevice[] =
    R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,)"
    R"("maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
    R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,)"
    R"("totalGlobalMem":150110011392,"smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,"cudaDeviceId":0,"deviceVer":900,)"
    R"("driverVer":13000,"deviceName":"NVIDIA H200"})";

CudnnLibrary& library() {
  static const std::shared_ptr<CudnnLibrary> made = [] {
    if (!cudnn_present()) {
      std::printf("SKIPPED: no cuDNN (%s)\n", cudnn_version_text().c_str());
      std::exit(0);
    }
    return make_cudnn_library(kDevice);
  }();
  return *made;
}

ConvolutionShape square(std::int64_t samples, std::int64_t q, std::int64_t p, std::int64_t side, std::int64_t kernel) {
  ConvolutionShape s;
  s.samples = samples;
  s.q = q;
  s.p = p;
  s.in = s.out = {1, side, side};
  s.kernel = {1, kernel, kernel};
  s.before = s.after = {0, kernel / 2, kernel / 2};
  return s;
}
struct Named {
  const char* name;
  ConvolutionShape shape;
};
std::vector<Named> shapes() {
  ConvolutionShape grouped = square(16, 32, 64, 64, 3), strided = square(8, 3, 64, 224, 7), dilated = square(4, 64, 64, 1, 1), cube, odd;
  grouped.groups = 4;
  strided.stride = {1, 2, 2};
  strided.out = {1, 112, 112};
  dilated.in = dilated.out = {1, 1, 1000};
  dilated.kernel = {1, 1, 5};
  dilated.dilation = {1, 1, 4};
  dilated.before = dilated.after = {0, 0, 8};
  cube = square(2, 16, 32, 32, 3);
  cube.spatial = 3;
  cube.in = cube.out = {16, 32, 32};
  cube.kernel = {3, 3, 3};
  cube.before = cube.after = {1, 1, 1};
  odd = square(3, 5, 7, 13, 3);
  odd.image_alignment = odd.map_alignment = odd.weight_alignment = odd.bias_alignment = 2;
  return {{"3x3", square(16, 128, 256, 64, 3)}, {"groups", grouped},  {"stride 2", strided},
          {"one dim, dilated", dilated},        {"three dims", cube}, {"odd", odd}};
}

}  // namespace

TEST_CASE("plans of convolutions and their gradients are made for an H200, in all floating dtypes, within the workspace") {
  for (const Named& named : shapes())
    for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64})
      for (bool tf32 : {false, true})
        for (ConvolutionResult result : {ConvolutionResult::map, ConvolutionResult::image, ConvolutionResult::weight})
          for (bool with : {false, true}) {
            if ((tf32 && dtype != Dtype::f32) || (with && result == ConvolutionResult::weight)) continue;
            ConvolutionShape s = named.shape;
            for (int* alignment : {&s.image_alignment, &s.map_alignment, &s.weight_alignment, &s.bias_alignment})
              *alignment = std::max(*alignment, static_cast<int>(info(dtype).bytes));
            s.result = result;
            s.dtype = dtype;
            s.tf32 = tf32;
            (result == ConvolutionResult::map ? s.has_bias : s.adds) = with;
            CAPTURE(named.name);
            CAPTURE(static_cast<int>(dtype));
            CAPTURE(tf32);
            CAPTURE(static_cast<int>(result));
            CAPTURE(with);
            const auto plan = plan_convolution(library(), s);
            REQUIRE(plan != nullptr);
            CHECK(workspace_of(*plan) <= kCudnnWorkspace);
          }
}

TEST_CASE("attention has a plan for an H200, causal or not, of few and many groups and widths up to 256") {
  if (std::getenv("DTENSOR_TEST_DRIVER") == nullptr) return;  // without a driver library cuDNN compiles nothing
  const auto shape = [](std::int64_t groups, std::int64_t t, std::int64_t s, std::int64_t width, bool causal) {
    AttentionShape a{.causal = causal, .b = 2, .h = 8, .groups = groups, .t = t, .s = s, .d = width, .e = width};
    a.query = {t * 8 * width, width, 8 * width};  // [b, t, h, d]
    a.key = {s * groups * width, width, groups * width};
    a.value = {s * groups * width, s * width, width};  // [b, h, s, d]
    return a;
  };
  AttentionShape half = shape(8, 100, 77, 64, true);
  half.dtype = Dtype::f16;
  for (const AttentionShape& a : {half, shape(2, 512, 512, 128, true), shape(8, 256, 512, 256, false)}) {
    CAPTURE(a.d);
    const auto plan = plan_attention(library(), a);
    REQUIRE(plan != nullptr);
    CHECK(workspace_of(*plan) <= kCudnnWorkspace);
  }
  CHECK(plan_attention(library(), shape(3, 64, 64, 64, false)) == nullptr);  // 8 heads are no 3 groups
}

TEST_CASE("the same shape gets the same engine every time, and f32 not the one of TF32") {
  ConvolutionShape s = square(16, 128, 256, 64, 3);
  const auto again = make_cudnn_library(kDevice);
  const std::string first = description_of(*plan_convolution(library(), s));
  CHECK(first == description_of(*plan_convolution(*again, s)));
  s.tf32 = true;
  CHECK(first != description_of(*plan_convolution(library(), s)));
}

TEST_CASE("what is no convolution gets no plan") {
  ConvolutionShape s = square(2, 4, 4, 8, 3);
  s.out = {1, 20, 20};
  CHECK(plan_convolution(library(), s) == nullptr);
}

TEST_CASE("there is no library for properties that are none") {
  library();
  CHECK(make_cudnn_library("{}") == nullptr);
}

}  // namespace dtensor::local::cuda
