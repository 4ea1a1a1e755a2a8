// SPDX-License-Identifier: Apache-2.0
// Scans of parts of a dimension. Computed in f64 or i64, in the order of the indices.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dtensor/tensor.h"
#include "placements/layout.h"

namespace dtensor::local::cpu {

/// log_sum: log(exp(a) + exp(b)), in which infinities and NaN stay.
enum class ScanOp : std::uint8_t { sum, product, min, max, log_sum };
/// A scan along `dim`, of `size` in all, of which `runs` are here, in local order. `bounds` rise and cut it; the part after bounds[k] ends at bounds[k + 1] or `size`.
struct ScanCall {
  ScanOp op = ScanOp::sum;
  int dim = 0;
  bool reverse = false;
  std::span<const std::int64_t> bounds;
  std::int64_t size = 0;
  std::vector<placements::Run> runs;
};

/// The part that begins (reverse: ends) where the run does. @throws InternalError where there is none.
std::int64_t part_of(const ScanCall& scan, const placements::Run& run);

/// output[k]: what the indices of part k that are here come to; the neutral element where there is none.
void scan_totals(const ScanCall& scan, const Tensor& input, const Tensor& output);
/// The scan of every run from what the parts before it (reverse: after it) come to, by `totals`. @throws InternalError for a run where no part begins (ends).
void scan_from(const ScanCall& scan, const Tensor& input, const Tensor& totals, const Tensor& output);

}  // namespace dtensor::local::cpu
