// SPDX-License-Identifier: Apache-2.0
// A family is a file here that defines `OpList <name>_ops()` in dtensor::ops; the build finds it, and no list names it.
#pragma once

#include <span>

#include "dtensor/op.h"
#include "dtensor/ops/reductions.h"

namespace dtensor::ops {

using OpList = std::span<const OpDef* const>;
/// Every family, by file.
std::span<OpList (*const)()> families();

}  // namespace dtensor::ops
