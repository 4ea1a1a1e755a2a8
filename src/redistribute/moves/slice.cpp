// SPDX-License-Identifier: Apache-2.0
// R -> S: this rank's part of what it holds. A view where the part is one interval per dimension, else a copy.
#include "redistribute/move.h"

namespace dtensor::redistribute::moves {
namespace {

// Copies the cartesian product of runs, dimension by dimension.
void copy_runs(const Tensor& in, const Tensor& out, const std::vector<std::vector<placements::Run>>& runs, int dim) {
  if (dim == in.ndim()) {
    out.copy_(in);
    return;
  }
  std::int64_t at = 0;
  for (const placements::Run& r : runs[static_cast<std::size_t>(dim)]) {
    copy_runs(in.narrow(dim, r.begin, r.length), out.narrow(dim, at, r.length), runs, dim + 1);
    at += r.length;
  }
}

}  // namespace

Tensor slice(const PreparedMove& move, const Tensor& in) {
  bool one_interval = true;
  for (const auto& r : move.runs) one_interval = one_interval && r.size() <= 1;
  if (move.out_shape.numel() == 0) return Tensor::empty(move.out_shape, move.dtype, in.device());
  if (!one_interval) {
    Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
    if (in.device().kind != DeviceKind::meta) copy_runs(in, out, move.runs, 0);
    return out;
  }
  Tensor view = in;
  for (int d = 0; d < in.ndim(); ++d) {
    const placements::Run& r = move.runs[static_cast<std::size_t>(d)].front();
    if (r.length != in.shape()[d]) view = view.narrow(d, r.begin, r.length);
  }
  return view;
}

}  // namespace dtensor::redistribute::moves
