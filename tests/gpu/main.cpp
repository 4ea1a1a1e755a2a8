// SPDX-License-Identifier: Apache-2.0
// Of programs that need a device: without one they say why and are done.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "dtensor/cuda.h"

int main(int argc, char** argv) {
  const dtensor::CudaInfo here = dtensor::cuda_info();
  if (here.devices.empty()) {
    std::printf("SKIPPED: %s\n", here.why_none.c_str());
    return 0;
  }
  return doctest::Context(argc, argv).run();
}
