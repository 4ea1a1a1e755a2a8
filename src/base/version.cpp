// SPDX-License-Identifier: Apache-2.0
#include "dtensor/version.h"

namespace dtensor {

const char* version() noexcept { return kVersion; }

}  // namespace dtensor
