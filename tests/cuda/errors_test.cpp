// SPDX-License-Identifier: Apache-2.0
// What users are told: addresses that are not the device's, tensors on two devices, kernels that fail, devices that are not there.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "dtensor/cuda_graph.h"
#include "dtensor/device.h"
#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/matmul.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/softmax.h"
#include "dtensor/world.h"
#include "emulator.h"

using namespace dtensor;
namespace emulated = local::cuda::emulated;

TEST_CASE("memory is wrapped on the device that owns it, and on no other") {
  std::vector<float> host(4);
  CHECK_THROWS_WITH_AS(Tensor::wrap(host.data(), {4}, {.device = Device::cuda(0)}),
                       "wrap: the address is memory of the host and the tensor is on cuda:0; wrap it on the CPU and move it with to()",
                       InvalidArgument);
  const Tensor there = Tensor::of(std::vector<float>{1, 2, 3, 4}, {4}).to(Device::cuda(1));
  CHECK_THROWS_WITH_AS(Tensor::wrap(there.data(), {4}, {.device = Device::cuda(0)}),
                       "wrap: the address is memory of cuda:1 and the tensor is on cuda:0; name the device that owns it", InvalidArgument);
  const Tensor again = Tensor::wrap(static_cast<float*>(there.data()) + 1, {3}, {.device = Device::cuda(1)});
  CHECK(again.to(Device::cpu()).values<const float>()[2] == 4);
}

TEST_CASE("an op takes tensors of one device") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const DTensor a = from_local(Tensor::zeros({2}, Dtype::f32), mesh, {{"x", Shard(0)}});
    const DTensor b = from_local(Tensor::zeros({2}, Dtype::f32, Device::cuda(0)), mesh, {{"x", Shard(0)}});
    CHECK_THROWS_WITH_AS(add(a, b), "add: tensors on different devices (cpu and cuda:0); move one with to()", InvalidArgument);
  });
}

TEST_CASE("an op with a kernel for the CPU alone runs by its decomposition on a device, and says what to give when it has none") {
  static constexpr auto twice_on_cpu = [](const KernelCall& c) {
    const auto in = c.input(0).values<const float>();
    const auto out = c.output(0).values<float>();
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = 2 * in[i];
  };
  static constexpr auto same_type = [](ShapeCall& s) { s.output(0) = s.input(0); };
  static constexpr OpDef kNeither{.name = "app::twice",
                                  .signature = "a -> out",
                                  .rule = "... -> ...",
                                  .dtypes = "f32",
                                  .contiguous = true,
                                  .shape = same_type,
                                  .cpu = twice_on_cpu};
  static constexpr OpDef kTwice{.name = "app::twice_or_sum",
                                .signature = "a -> out",
                                .rule = "... -> ...",
                                .dtypes = "f32",
                                .contiguous = true,
                                .shape = same_type,
                                .cpu = twice_on_cpu,
                                .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> { return {c.input(0) + c.input(0)}; }};
  run_ranks({.ranks = 2, .device = Device::cuda(0)}, [](World& world) {
    const DTensor a = arange(6, world.mesh({{"x", 2}}), {Shard(0)}, {.dtype = Dtype::f32});
    const DTensor b = call(kTwice, {a}, {});
    CHECK(to_string(b) == to_string(a));
    CHECK(b.full_tensor().local().to(Device::cpu()).values<const float>()[5] == 10);
    CHECK_THROWS_WITH_AS(
        call(kNeither, {a}, {}),
        "app::twice: no kernel for cuda:0; give the op one (.cuda or .kernel) or a .decompose, or move the tensors to another device", Unsupported);
  });
}

TEST_CASE("a device that is not there is refused before anything runs") {
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, Dtype::f32, Device::cuda(7)), "cuda: there is no cuda:7 (devices 0 to 1); choose one of these",
                       DeviceError);
  CHECK_THROWS_WITH_AS(run_ranks({.ranks = 2, .device = Device::cuda(2)}, [](World&) {}),
                       "cuda: there is no cuda:2 (devices 0 to 1); choose one of these", DeviceError);
  emulated::set_devices(0, 0);
  CHECK_THROWS_WITH_AS(run_ranks({.ranks = 1, .device = Device::cuda(0)}, [](World&) {}),
                       "cuda: cuda:0 cannot be used (there is no driver); use Device::cpu()", DeviceError);
  emulated::set_devices(2, std::int64_t{1} << 30);
}

TEST_CASE("a kernel that fails is said at the next call that can know, and how to learn which it was; with DTENSOR_CUDA_SYNC at once, by name") {
  const char* text = std::getenv("DTENSOR_CUDA_SYNC") != nullptr
                         ? "kernel fill failed: an illegal memory access was encountered (cudaErrorIllegalAddress)"
                         : "an illegal memory access was encountered (cudaErrorIllegalAddress); it may be of a kernel queued earlier: run with "
                           "DTENSOR_CUDA_SYNC=1 to learn which";
  CHECK_THROWS_WITH_AS(run_ranks({.ranks = 1, .device = Device::cuda(0)},
                                 [](World& world) {
                                   const DTensor x = zeros({4}, world.mesh({{"x", 1}}));
                                   emulated::fail_kernel("fill");
                                   x.local().narrow(0, 0, 2).fill_(1);
                                   static_cast<void>(x.local().to(Device::cpu()));
                                 }),
                       doctest::Contains(text), DeviceError);
  emulated::clear_failure();
}

TEST_CASE("with DTENSOR_CUDA_SYNC the op that launched a kernel which fails is named, without it the next op that can know") {
  const bool at_once = std::getenv("DTENSOR_CUDA_SYNC") != nullptr;
  const auto error_of = [](const char* kernel, const auto& call) {
    std::string error;
    try {
      run_ranks({.ranks = 1, .device = Device::cuda(0)}, [&](World& world) {
        const DTensor x = ones({4, 4}, world.mesh({{"x", 1}}));
        static_cast<void>(x.local().to(Device::cpu()));
        emulated::fail_kernel(kernel);
        const DTensor y = call(x);
        static_cast<void>(cumsum(y, 0));  // queued: the device has not run the one before
        Stream::current(Device::cuda(0)).synchronize();
      });
    } catch (const DeviceError& e) { error = e.what(); }
    emulated::clear_failure();
    return error;
  };
  const std::string why = "an illegal memory access was encountered (cudaErrorIllegalAddress)";
  const std::string later = "cumsum (wait): " + why + "; it may be of a kernel queued earlier: run with DTENSOR_CUDA_SYNC=1 to learn which";
  const auto said = [&](const std::string& text, const std::string& sync) {
    INFO(text);
    CHECK(text.find(at_once ? sync + ": " + why : later) != std::string::npos);
  };
  said(error_of("product", [](const DTensor& x) { return matmul(x, x); }), "matmul: kernel product failed");
  said(error_of("softmax", [](const DTensor& x) { return softmax(x, 1); }), "softmax: kernel softmax failed");
}

TEST_CASE("with DTENSOR_CUDA_SYNC no graph is recorded, since the host waits after each launch") {
  const Tensor x = Tensor::zeros({4}, Dtype::f32, Device::cuda(0));
  const auto record = [&] { return CudaGraph::record(Device::cuda(0), [&] { x.fill_(1); }).nodes(); };
  if (std::getenv("DTENSOR_CUDA_SYNC") == nullptr) CHECK(record() == 1);
  else
    CHECK_THROWS_WITH_AS(
        record(), "CudaGraph::record: DTENSOR_CUDA_SYNC=1 makes the host wait after every launch, which a recording cannot; unset it", Unsupported);
}
