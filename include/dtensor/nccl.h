// SPDX-License-Identifier: Apache-2.0
// What this build and this machine have of NCCL.
#pragma once

#include <string>

#include "dtensor/export.h"

namespace dtensor {

struct NcclInfo {
  bool built = false;    ///< this build has NCCL
  int headers = 0;       ///< what it was compiled against: 22809 is 2.28.9
  int found = 0;         ///< of the library that is loaded; 0: none, or it does not say
  std::string path;      ///< of that library
  std::string why_none;  ///< why no world can be made over NCCL, in words; empty: one can
};
/// Local, no world needed. Loads the library where that has not been done yet; never throws for an absent one.
DTENSOR_EXPORT NcclInfo nccl_info();

}  // namespace dtensor
