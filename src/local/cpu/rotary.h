// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al., RoFormer, arXiv:2104.09864), halves form: element i turns with element i + d/2.
#pragma once

#include <cstdint>

#include "dtensor/tensor.h"
#include "local/runs.h"

namespace dtensor::local::cpu {

/// x [..., t, d], cos and sin [t, d] or [t, d/2] of x's dtype, out row-major of x's shape.
/// out[i] = x[i] cos[i] - x[i + d/2] sin[i], out[i + d/2] = x[i + d/2] cos[i + d/2] + x[i] sin[i + d/2]; `inverse`: the transposed map.
void rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse, const Tensor& out);

/// out[r, j] = cos or sin of rows[r] theta^(-2 j / head_dim), j of columns; computed in f64 and rounded to out's dtype. out is row-major.
struct RotaryTable {
  std::int64_t head_dim = 0;
  double theta = 10000;
  bool sine = false;
  GlobalRuns rows, columns;
};
void rotary_table(const RotaryTable& table, const Tensor& out);

}  // namespace dtensor::local::cpu
