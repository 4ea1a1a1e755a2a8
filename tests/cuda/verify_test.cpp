// SPDX-License-Identifier: Apache-2.0
// The rule checker with tensors on a device: ops of every kind, and one whose kernel there is wrong.
#include <doctest/doctest.h>

#include <string>

#include "dtensor/cuda.h"
#include "dtensor/debug.h"
#include "dtensor/verify.h"

using namespace dtensor;

namespace {

const VerifyOptions kOnDevice{.meshes = {{2}, {2, 2}}, .device = Device::cuda(0), .limit = 12};

// Adds to every element how many the rank has: right on one rank only.
void add_count(const KernelCall& c) { c.output(0).fill_(static_cast<double>(c.input(0).shape().numel())); }
constexpr OpDef kCounted{
    .name = "app::counted",
    .signature = "a -> out",
    .rule = "... -> ...",
    .dtypes = "f32",
    .shape = [](ShapeCall& s) { s.output(0) = s.input(0); },
    .cuda = add_count,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{4, 6}}}};
        },
};

}  // namespace

TEST_CASE("rules that hold on the CPU hold on a device, and a kernel that looks at its part's size is found there") {
  const CudaInfo here = cuda_info();
  if (here.devices.empty()) {
    MESSAGE("SKIPPED: " << here.why_none);
    return;
  }
  for (const char* name : {"matmul", "softmax", "sum", "embedding", "transpose", "uniform", "adamw_step_", "scaled_dot_product_attention"}) {
    const VerifyReport report = verify(find_op(name), kOnDevice);
    CHECK_MESSAGE(report.wrong == 0, to_string(report));
    CHECK(report.checked > 0);
  }
  const VerifyReport report = verify(kCounted, kOnDevice);
  CHECK(report.wrong > 0);
  CHECK(report.wrong_example.find("app::counted") != std::string::npos);
}
