// SPDX-License-Identifier: Apache-2.0
// R -> S: this rank's part of what it holds. A view where the part is one interval per dimension on every rank, else a copy.
#include "redistribute/move.h"
#include "redistribute/moves/runs.h"

namespace dtensor::redistribute::moves {

namespace {

bool one_interval(const PreparedMove& move) {
  bool one = true;
  for (const auto& r : move.runs) one = one && r.size() <= 1;
  return one;
}

}  // namespace

bool slices_to_view(const PreparedMove& move) {
  // What the plan counts as a copy is one on every rank: a view would keep alive memory that the plan says is free.
  return move.move.nanoseconds == 0 && move.out_shape.numel() > 0 && one_interval(move);
}

Ready slice(const PreparedMove& move, const Tensor& in) { return part_of(move, in, slices_to_view(move)); }

Tensor part_of(const PreparedMove& move, const Tensor& in, bool view_allowed) {
  if (move.out_shape.numel() == 0) return Tensor::empty(move.out_shape, move.dtype, in.device());
  if (!view_allowed || !one_interval(move)) {
    Tensor out = Tensor::empty(move.out_shape, move.dtype, in.device());
    if (in.device().kind != DeviceKind::meta) each_box(in, out, move.runs, [](const Tensor& part, const Tensor& packed) { packed.copy_(part); });
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
