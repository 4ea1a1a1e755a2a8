// SPDX-License-Identifier: Apache-2.0
// What this build and this machine have of CUDA.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/export.h"

namespace dtensor {

struct CudaDeviceInfo {
  std::string name;          ///< "NVIDIA H200"
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0, free_bytes = 0;
};
struct CudaInfo {
  bool built = false;           ///< this build has CUDA
  int driver = 0, runtime = 0;  ///< 13000 is CUDA 13.0; driver 0: none
  std::string why_none;         ///< why no device can be used, in words; empty when there are some
  std::vector<CudaDeviceInfo> devices;
  std::string cudnn = {};  ///< "9.19.0", or "none: " and why
};
/// Local, no world needed. Never throws for an absent driver or device.
DTENSOR_EXPORT CudaInfo cuda_info();

}  // namespace dtensor
