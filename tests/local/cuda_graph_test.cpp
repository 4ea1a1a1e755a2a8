// SPDX-License-Identifier: Apache-2.0
#include "dtensor/cuda_graph.h"

#include <doctest/doctest.h>

#include "dtensor/cuda.h"
#include "dtensor/error.h"

using namespace dtensor;

TEST_CASE("where there is nothing to record on, the body does not run and the way out is said") {
  int calls = 0;
  const auto body = [&calls] { ++calls; };
  CHECK_THROWS_WITH_AS(CudaGraph::record(Device::cpu(), body),
                       "CudaGraph::record: cpu records no graphs; call the body itself there, or give a CUDA device, as Device::cuda(0)",
                       InvalidArgument);
  if (!cuda_info().built)
    CHECK_THROWS_WITH_AS(CudaGraph::record(Device::cuda(0), body),
                         "CudaGraph::record: this build has no CUDA; call the body itself on Device::cpu(), or build with DTENSOR_CUDA", Unsupported);
  else if (cuda_info().devices.empty()) CHECK_THROWS_AS(CudaGraph::record(Device::cuda(0), body), DeviceError);
  CHECK(calls == 0);
  CudaGraph none;
  CHECK(!none);
  CHECK(none.nodes() == 0);
  CHECK(none.bytes() == 0);
  CHECK_THROWS_WITH_AS(none.replay(), "CudaGraph::replay: there is nothing to replay; record first", InvalidArgument);
}
