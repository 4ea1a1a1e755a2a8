// SPDX-License-Identifier: Apache-2.0
// S(d) -> P(op): the own part at its place, neutral elements elsewhere.
#include "local/neutral.h"
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {
namespace {

void place_runs(const Tensor& in, const Tensor& out, const std::vector<std::vector<placements::Run>>& runs, int dim) {
  if (dim == in.ndim()) {
    out.copy_(in);
    return;
  }
  std::int64_t at = 0;
  for (const placements::Run& r : runs[static_cast<std::size_t>(dim)]) {
    place_runs(in.narrow(dim, at, r.length), out.narrow(dim, r.begin, r.length), runs, dim + 1);
    at += r.length;
  }
}

}  // namespace

Tensor shard_to_partial(const PreparedMove& move, const Tensor& in) {
  Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
  if (in.device().kind == DeviceKind::meta) return out;
  local::fill_neutral(out, *move.move.to->partial[static_cast<std::size_t>(move.move.axes.front())]);
  // A replica on an axis that becomes Partial contributes once.
  place_runs(in, out, move.runs, 0);
  return out;
}

}  // namespace dtensor::redistribute::moves
