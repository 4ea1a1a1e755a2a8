// SPDX-License-Identifier: Apache-2.0
// Distributed form of scans: what an op whose scanned dimension is split takes as its decomposition.
#pragma once

#include <string_view>

#include "dtensor/op.h"

namespace dtensor::ops {

/// Running "sum", "product", "min", "max" or "log_sum" (log of the sum of exponentials; `op`) of x along `dim`, from its end with `reverse`, in dtype
/// `result`; placed as x, which is Partial for "sum" at most. Every rank scans its own runs, each from what all indices before it come to, so that only
/// totals move: one slice per run, reduced over the axes that split `dim`. The order of operations depends on the placements alone. Collective over x's mesh.
DTensor split_scan(const DTensor& x, int dim, std::string_view op, bool reverse, Dtype result);
/// "scan_totals": what each part comes to.
const OpDef& scan_totals_op();

}  // namespace dtensor::ops
