// SPDX-License-Identifier: Apache-2.0
// Ops that are expressions of other ops: sharding rules and gradients are those of the ops in them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dtensor/op.h"

namespace dtensor::ops {

constexpr OpDef composite(std::string_view name, std::string_view signature, std::string_view dtypes, void (*shape)(ShapeCall&),
                          std::vector<DTensor> (*decompose)(const DecomposeCall&), std::vector<Sample> (*samples)()) {
  OpDef op;
  op.name = name;
  op.signature = signature;
  op.dtypes = dtypes;
  op.shape = shape;
  op.decompose = decompose;
  op.samples = samples;
  return op;
}

}  // namespace dtensor::ops
