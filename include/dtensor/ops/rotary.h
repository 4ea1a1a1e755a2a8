// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al., arXiv:2104.09864) in the halves form of Llama.
#pragma once

#include <optional>

#include "dtensor/distributed_tensor.h"

namespace dtensor {

/// x [..., t, d], cos and sin [t, d / 2] or [t, d]: element i and element i + d / 2 turn by the angle of their table entry:
/// out[i] = x[i] cos[i] - x[i + d/2] sin[i], out[i + d/2] = x[i + d/2] cos[i + d/2] + x[i] sin[i + d/2]. The tables get no gradient.
/// @throws InvalidArgument when d is odd, or sizes or dtypes differ.
DTENSOR_EXPORT DTensor rotary(const DTensor& x, const DTensor& cos, const DTensor& sin);

struct RotaryTablesOptions {
  std::int64_t length = 0;
  std::int64_t head_dim = 0;
  double theta = 10000;
  std::int64_t offset = 0;  ///< position of the first row
  Dtype dtype = Dtype::f32;
  std::optional<Device> device = {};
};
/// Both [length, head_dim / 2].
struct RotaryTables {
  DTensor cos, sin;
};
/// Local. Entry [i, j] is of the angle (offset + i) theta^(-2 j / head_dim), computed in double and rounded.
DTENSOR_EXPORT RotaryTables rotary_tables(const RotaryTablesOptions& options, const DeviceMesh& mesh, const Placements& placements = {});

}  // namespace dtensor
