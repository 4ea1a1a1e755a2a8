// SPDX-License-Identifier: Apache-2.0
// Products of groups of neighbouring rows, each with a matrix of its own. Row-major, one floating dtype; sums in f32 for bf16 and f16, rounded once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

/// Group e is rows [ends[e - 1], ends[e]). Ends rise from 0 to at most the number of rows: the CPU throws at once where they do not; a device, where they are
/// read by kernels alone and the host waits for nothing, takes them for the nearest that do and raises a fault, thrown at a later call.
struct Groups {
  Tensor ends;               ///< [groups], i64 or i32, row-major
  std::string_view op = {};  ///< whose name is part of the text
};
std::string wrong_end(std::string_view op, std::int64_t end, std::int64_t rows);

/// out rows of group e = its input rows times weight[e] (or its transpose), zeros behind the last.
void grouped_product(const Tensor& input, const Tensor& weight, bool transposed, const Groups& groups, const Tensor& out);
/// out[e] = transpose of the input rows of group e times its grad rows.
void grouped_outer(const Tensor& input, const Tensor& grad, const Groups& groups, const Tensor& out);

}  // namespace dtensor::local::cpu
