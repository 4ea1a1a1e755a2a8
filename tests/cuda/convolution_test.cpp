// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/convolution.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <set>
#include <string>

#include "dtensor/cuda.h"
#include "dtensor/error.h"
#include "dtensor/ops/matmul.h"
#include "dtensor/values.h"
#include "emulated_cudnn.h"
#include "local/cuda/cudnn_state.h"
#include "local/cuda/library_convolution.h"
#include "under_test.h"

using namespace dtensor;
using namespace dtensor::local;
using cpu::Convolution;
using cuda::emulated::CudnnRefusal;

namespace {

const Device kDevice = Device::cuda(0);

Tensor numbers(const Shape& shape, Dtype dtype, int seed) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  for (std::int64_t i = 0; i < t.numel(); ++i) t.raw_as<double>()[i] = static_cast<double>((i * 7 + seed) % 11) - (info(dtype).floating ? 5.0 : 0.0);
  return t.to(dtype);
}

void same(const Tensor& device, const Tensor& host, Dtype dtype) {
  const Tensor a = device.to(Device::cpu()).to(Dtype::f64), b = host.to(Dtype::f64);
  // A real library may transform images, which rounds.
  const double exact = dtype == Dtype::f64 && !test::kEmulated ? 1e-12 : 0;
  const double tolerance = dtype == Dtype::bf16  ? 1.0 / 128
                           : dtype == Dtype::f16 ? 1.0 / 1024
                           : dtype == Dtype::f32 ? (test::kEmulated ? 1e-6 : 1e-5)
                                                 : exact;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.raw_as<double>()[i], y = b.raw_as<double>()[i];
    REQUIRE(std::abs(x - y) <= tolerance * std::max(1.0, std::abs(y)));
  }
}

struct Case {
  int spatial;
  std::int64_t samples, groups, p, q;
  Shape in, kernel, stride, padding, dilation;
};

void compare(const Case& k, Dtype dtype, bool with_bias) {
  CAPTURE(to_string(dtype));
  CAPTURE(to_string(k.in));
  CAPTURE(to_string(k.kernel));
  CAPTURE(k.groups);
  Convolution rule{.spatial = k.spatial};
  Shape image{k.samples, k.groups * k.q}, weight{k.groups * k.p, k.q}, map{k.samples, k.groups * k.p};
  for (int d = 0; d < k.spatial; ++d) {
    const auto at = static_cast<std::size_t>(3 - k.spatial + d);
    rule.stride[at] = k.stride[d], rule.padding[at] = k.padding[d], rule.dilation[at] = k.dilation[d];
    image.push_back(k.in[d]);
    weight.push_back(k.kernel[d]);
    map.push_back((k.in[d] + 2 * k.padding[d] - k.dilation[d] * (k.kernel[d] - 1) - 1) / k.stride[d] + 1);
  }
  const Tensor x = numbers(image, dtype, 1), w = numbers(weight, dtype, 2), g = numbers(map, dtype, 3), of_map = numbers({map[1]}, dtype, 4),
               of_image = numbers({image[1]}, dtype, 5);
  const auto run = [&](Device device, Tensor(&out)[3]) {
    out[0] = Tensor::empty(map, dtype, device);
    out[1] = Tensor::empty(image, dtype, device);
    out[2] = Tensor::empty(weight, dtype, device);
    const Tensor a = x.to(device), b = w.to(device), c = g.to(device), first = of_map.to(device), second = of_image.to(device);
    kernels::convolution(rule, a, b, with_bias ? &first : nullptr, out[0]);
    kernels::convolution_input_gradient(rule, c, b, with_bias ? &second : nullptr, out[1]);
    kernels::convolution_weight_gradient(rule, c, a, out[2]);
  };
  Tensor host[3], device[3];
  run(Device::cpu(), host);
  run(kDevice, device);
  for (int i = 0; i < 3; ++i) same(device[i], host[i], dtype);
}

const Case kCases[] = {
    {1, 3, 1, 5, 4, {33}, {3}, {1}, {1}, {1}},
    {1, 2, 2, 3, 2, {31}, {4}, {3}, {2}, {2}},
    {2, 2, 1, 8, 3, {9, 7}, {3, 2}, {2, 1}, {1, 0}, {1, 2}},
    {2, 3, 1, 6, 5, {6, 5}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {2, 3, 2, 6, 5, {6, 5}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {2, 2, 6, 1, 1, {8, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 2, 3, 2, 2, {5, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
    {2, 0, 1, 2, 2, {5, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {2, 1, 1, 1, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
    {2, 2, 1, 2, 0, {4, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
    {3, 2, 1, 3, 2, {4, 5, 6}, {2, 3, 2}, {1, 2, 1}, {0, 1, 1}, {1, 1, 2}},
};

void compare_all() {
  for (const Case& k : kCases)
    for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8})
      compare(k, dtype, (k.samples + static_cast<int>(dtype)) % 2 == 0);
}

// cuDNN as a test wants it while the object lives.
struct Cudnn {
  explicit Cudnn(bool present, CudnnRefusal refused = CudnnRefusal::nothing) {
    cuda::emulated::set_cudnn(present);
    cuda::emulated::refuse_cudnn(refused);
  }
  ~Cudnn() {
    cuda::emulated::set_cudnn(true);
    cuda::emulated::refuse_cudnn(CudnnRefusal::nothing);
  }
};

std::multiset<std::string> queued() {
  std::multiset<std::string> list;
  for (const auto& e : test::queued()) list.insert(e.what);
  return list;
}
const std::string kByCudnn = "launch cuDNN convolution";

struct Operands {
  Tensor image, weight, map, bias;
};
Operands operands(Dtype dtype, std::int64_t groups = 1) {
  return {numbers({2, 4, 6, 5}, dtype, 1).to(kDevice), numbers({6, 4 / groups, 3, 3}, dtype, 2).to(kDevice),
          Tensor::empty({2, 6, 6, 5}, dtype, kDevice), numbers({6}, dtype, 4).to(kDevice)};
}
Convolution padded() {
  Convolution rule;
  rule.padding = {0, 1, 1};
  return rule;
}

}  // namespace

TEST_CASE("convolutions and their gradients are those of the CPU, by cuDNN too") {
  for (bool present : {false, true}) {
    CAPTURE(present);
    const Cudnn as(present);
    compare_all();
  }
}

TEST_CASE("what cuDNN has no algorithm for, or refuses to run, is computed without it") {
  for (CudnnRefusal refused : {CudnnRefusal::plans, CudnnRefusal::runs}) {
    const Cudnn as(true, refused);
    const std::int64_t width = refused == CudnnRefusal::plans ? 13 : 14;  // shapes that no other case has asked for
    const Tensor image = numbers({1, 4, 7, width}, Dtype::f32, 1), weight = numbers({6, 4, 3, 3}, Dtype::f32, 2),
                 grad = numbers({1, 6, 7, width}, Dtype::f32, 3), of_map = numbers({6}, Dtype::f32, 4), of_image = numbers({4}, Dtype::f32, 5);
    const auto run = [&](Device device, Tensor(&out)[3]) {
      const Tensor a = image.to(device), b = weight.to(device), c = grad.to(device), first = of_map.to(device), second = of_image.to(device);
      for (int i = 0; i < 3; ++i) out[i] = Tensor::empty((i == 0 ? grad : i == 1 ? image : weight).shape(), Dtype::f32, device);
      kernels::convolution(padded(), a, b, &first, out[0]);
      kernels::convolution_input_gradient(padded(), c, b, &second, out[1]);
      kernels::convolution_weight_gradient(padded(), c, a, out[2]);
    };
    Tensor host[3], device[3];
    run(Device::cpu(), host);
    queued();
    run(kDevice, device);
    CHECK_TOLD(queued().count(kByCudnn) == 0);
    for (int i = 0; i < 3; ++i) same(device[i], host[i], Dtype::f32);
  }
}

TEST_CASE("a convolution by cuDNN is one call, its bias part of it, and the host never waits") {
  if (!cuda::uses_cudnn() || !test::tells()) return;
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64}) {
    const Operands o = operands(dtype);
    kernels::convolution(padded(), o.image, o.weight, &o.bias, o.map);
    queued();
    kernels::convolution(padded(), o.image, o.weight, &o.bias, o.map);
    CHECK(queued() == std::multiset<std::string>{kByCudnn});
    kernels::convolution_input_gradient(padded(), o.map, o.weight, nullptr, o.image);
    CHECK(queued() == std::multiset<std::string>{kByCudnn});
    kernels::convolution_weight_gradient(padded(), o.map, o.image, o.weight);
    CHECK(queued() == std::multiset<std::string>{kByCudnn});
  }
}

TEST_CASE("integers, few channels in groups, and windows that are the input do not go to cuDNN") {
  if (!test::tells()) return;
  const auto goes = [](Dtype dtype, std::int64_t groups, std::int64_t side) {
    const Operands o = operands(dtype, groups);
    const Tensor weight = Tensor::zeros({6, 4 / groups, side, side}, dtype).to(kDevice);
    Convolution rule;
    if (side == 3) rule = padded();
    queued();
    kernels::convolution(rule, o.image, weight, nullptr, o.map);
    return queued().count(kByCudnn) == 1;
  };
  CHECK(goes(Dtype::f32, 1, 3) == cuda::uses_cudnn());
  CHECK_FALSE(goes(Dtype::i32, 1, 3));
  CHECK_FALSE(goes(Dtype::f32, 2, 3));
  CHECK_FALSE(goes(Dtype::f32, 1, 1));
}

TEST_CASE("whether there is a cuDNN is said with its version, or with the reason") {
  const bool used = cuda::uses_cudnn();
  CHECK(cuda_info().cudnn == (used ? "9.9.9 (emulated)" : "none: DTENSOR_CUDNN turns it off"));
  const Cudnn as(false);
  if (used) CHECK(cuda_info().cudnn == "none: turned off by a test");
}

TEST_CASE("f32 convolutions use TF32 only where that is asked for") {
  const auto product = [] {
    const Tensor image = Tensor::of(std::vector<double>{1 + 1.0 / 4096, 0}, Shape{1, 1, 2}).to(Dtype::f32).to(kDevice),
                 weight = Tensor::of(std::vector<double>{1, 0}, Shape{1, 1, 2}).to(Dtype::f32).to(kDevice),
                 out = Tensor::empty({1, 1, 1}, Dtype::f32, kDevice);
    kernels::convolution({.spatial = 1}, image, weight, nullptr, out);
    return static_cast<double>(out.to(Device::cpu()).raw_as<float>()[0]);
  };
  CHECK(product() == 1 + 1.0 / 4096);
  set_matmul_precision("high");
  CHECK_TOLD(product() == 1);  // a real library need not use what it may
  set_matmul_precision("highest");
  CHECK(product() == 1 + 1.0 / 4096);
}

TEST_CASE("padding behind the last element is what gives the map's sizes") {
  using cuda::ConvolutionResult;
  const auto after = [](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t before, std::int64_t stride) -> std::int64_t {
    cpu::ConvolutionSizes s{.rule = {}, .in = {1, 1, in}, .kernel = {1, 1, kernel}, .out = {1, 1, out}, .samples = 1, .groups = 1, .p = 1, .q = 1};
    s.rule.padding[2] = before;
    s.rule.stride[2] = stride;
    const auto shape = cuda::convolution_shape(ConvolutionResult::map, s, Dtype::f32);
    return shape ? shape->after[2] : -1;
  };
  CHECK(after(8, 8, 3, 1, 1) == 1);
  CHECK(after(8, 4, 3, 1, 2) == 1);  // a position behind is left over
  CHECK(after(8, 9, 3, 1, 1) == 2);
  CHECK(after(8, 7, 3, 1, 1) == 0);
  CHECK(after(8, 5, 3, 1, 1) == -1);  // the last elements are not read
  CHECK(after(8, 5, 3, 1, 2) == 2);
  cpu::ConvolutionSizes large{
      .rule = {}, .in = {1, 50000, 50000}, .kernel = {1, 1, 1}, .out = {1, 50000, 50000}, .samples = 1, .groups = 1, .p = 1, .q = 1};
  CHECK_FALSE(cuda::convolution_shape(ConvolutionResult::map, large, Dtype::f32));
}

TEST_CASE("tensors that begin anywhere say how they are aligned") {
  if (!cuda::uses_cudnn() || !test::tells()) return;
  const Tensor memory = Tensor::zeros({1000}, Dtype::bf16).to(kDevice);
  const Tensor image = memory.narrow(0, 1, 2 * 3 * 9).reshape({2, 3, 9}), weight = memory.narrow(0, 100, 4 * 3 * 2).reshape({4, 3, 2}),
               out = Tensor::empty({2, 4, 8}, Dtype::bf16, kDevice);
  kernels::convolution({.spatial = 1}, image, weight, nullptr, out);
  const auto shape = cuda::emulated::last_convolution();
  CHECK(shape.image_alignment == 2);
  CHECK(shape.weight_alignment == 8);
  CHECK(shape.map_alignment == 16);
  CHECK(shape.spatial == 2);
}

TEST_CASE("samples whose windows do not fit together are added up in their order") {
  // Windows of 34 MB per sample, of which one fits.
  const Cudnn as(false);
  constexpr std::int64_t kPoints = 65537, kTaps = 64;
  const Convolution rule{.spatial = 1};
  const Tensor x = numbers({2, 1, kPoints + kTaps - 1}, Dtype::f64, 1).to(kDevice), g = numbers({2, 1, kPoints}, Dtype::f64, 3).to(kDevice),
               w = Tensor::zeros({1, 1, kTaps}, Dtype::f64, kDevice);
  test::queued();
  kernels::convolution_weight_gradient(rule, g, x, w);
  CHECK_TOLD(test::queued("launch product") == 2);
  const Tensor host = Tensor::zeros({1, 1, kTaps}, Dtype::f64);
  cpu::convolution_weight_gradient(rule, g.to(Device::cpu()), x.to(Device::cpu()), host);
  same(w, host, Dtype::f64);
}
