// SPDX-License-Identifier: Apache-2.0
// Reductions that are expressions of those in reductions.h, and distances. Split dimensions stay split: partial results are reduced.
// Collective over the mesh of the inputs. @throws InvalidArgument for a dim that does not exist or is named twice, and for dtypes that do not fit.
#pragma once

#include <initializer_list>
#include <optional>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/scans.h"

namespace dtensor {

/// i64 number of elements that differ from 0.
DTENSOR_EXPORT DTensor count_nonzero(const DTensor& input);
DTENSOR_EXPORT DTensor count_nonzero(const DTensor& input, std::initializer_list<int> dim);
/// sum and mean with NaN left out.
DTENSOR_EXPORT DTensor nansum(const DTensor& input, std::initializer_list<int> dim = {}, const ReduceOptions& options = {});
DTENSOR_EXPORT DTensor nanmean(const DTensor& input, std::initializer_list<int> dim = {}, const ReduceOptions& options = {});
struct MinMax {
  DTensor min, max;
};
/// amin and amax over `dim`, or all.
DTENSOR_EXPORT MinMax aminmax(const DTensor& input, std::optional<int> dim = {}, const KeepdimOptions& options = {});
struct Moments {
  DTensor spread, mean;  ///< variance or standard deviation, mean
};
DTENSOR_EXPORT Moments var_mean(const DTensor& input, std::initializer_list<int> dim = {}, const VarOptions& options = {});
DTENSOR_EXPORT Moments std_mean(const DTensor& input, std::initializer_list<int> dim = {}, const VarOptions& options = {});
/// Sum of the elements [i, i] of a matrix; integers give i64.
DTENSOR_EXPORT DTensor trace(const DTensor& input);
/// p-norm of input - other, which broadcast.
DTENSOR_EXPORT DTensor dist(const DTensor& input, const DTensor& other, double p = 2);
/// x1 [..., n, k], x2 [..., m, k] -> p-norms of all differences of rows [..., n, m].
DTENSOR_EXPORT DTensor cdist(const DTensor& x1, const DTensor& x2, double p = 2);
/// Each part along `dim` with a p-norm above maxnorm is scaled down to it.
DTENSOR_EXPORT DTensor renorm(const DTensor& input, double p, int dim, double maxnorm);
/// Largest (smallest) of all elements, equal ones share the gradient; of one dimension with the index of the first such, which has the gradient.
DTENSOR_EXPORT DTensor max(const DTensor& input);
DTENSOR_EXPORT DTensor min(const DTensor& input);
DTENSOR_EXPORT ValuesIndices max(const DTensor& input, int dim, const KeepdimOptions& options = {});
DTENSOR_EXPORT ValuesIndices min(const DTensor& input, int dim, const KeepdimOptions& options = {});

}  // namespace dtensor
