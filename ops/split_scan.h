// SPDX-License-Identifier: Apache-2.0
// Distributed form of scans: what an op whose scanned dimension is split takes as its decomposition.
#pragma once

#include <string_view>

#include "dtensor/op.h"

namespace dtensor::ops {

/// Running sum, product, min or max (`op`) of `input` along `dim`, from its end with `reverse`, in dtype `result`; placed as the input. Every rank scans its own
/// runs, each from what all indices before it come to, so that only totals move: one slice per run, reduced over the axes that split `dim`. The order of
/// operations depends on the placements alone. Collective over the input's mesh.
DTensor split_scan(const DTensor& input, int dim, std::string_view op, bool reverse, Dtype result);
/// "scan_carry": what lies before each bound comes to.
const OpDef& scan_carry_op();

}  // namespace dtensor::ops
