// SPDX-License-Identifier: Apache-2.0
// A build with CUDA on a machine without a device: the CPU works, and what asks for a device is told why there is none.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "dtensor/cuda.h"
#include "dtensor/error.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/factories.h"
#include "dtensor/world.h"

using namespace dtensor;

TEST_CASE("without a device the CPU works, and a CUDA tensor is refused with the reason") {
  const CudaInfo info = cuda_info();
  CHECK(info.built);
  CHECK(info.runtime >= 12080);
  CHECK(!info.cudnn.empty());
  if (!info.devices.empty()) {
    MESSAGE("SKIPPED: there is a device");
    return;
  }
  CHECK(!info.why_none.empty());
  if (const char* start = std::getenv("DTENSOR_TEST_WHY_NONE")) CHECK(info.why_none.rfind(start, 0) == 0);
  const std::string text = "cuda: cuda:0 cannot be used (" + info.why_none + "); use Device::cpu()";
  const Tensor x = Tensor::of(std::vector<float>{1, 2}, {2});
  CHECK_THROWS_WITH_AS(x.to(Device::cuda(0)), text.c_str(), DeviceError);
  CHECK_THROWS_WITH_AS(Tensor::empty({2}, Dtype::f32, Device::cuda(0)), text.c_str(), DeviceError);
  CHECK_THROWS_WITH_AS(run_ranks({.ranks = 2, .device = Device::cuda(0)}, [](World&) {}), text.c_str(), DeviceError);
  run_ranks({.ranks = 2}, [](World& world) {
    const DTensor a = ones({4}, world.mesh({{"x", 2}}), {{"x", Shard(0)}});
    CHECK(add(a, a).full_tensor().local().values<const float>()[3] == 2);
  });
}
