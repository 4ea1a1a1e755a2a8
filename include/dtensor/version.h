// SPDX-License-Identifier: Apache-2.0
// The version of dtensor (SemVer). CMakeLists.txt reads it from here.
#pragma once

#include "dtensor/export.h"

namespace dtensor {

/// Of the headers that a program was compiled with.
inline constexpr char kVersion[] = "0.1.0";

/// Of the library that it runs with. Local.
DTENSOR_EXPORT const char* version() noexcept;

}  // namespace dtensor
