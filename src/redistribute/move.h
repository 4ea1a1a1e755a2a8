// SPDX-License-Identifier: Apache-2.0
// A move made ready for one rank, and its execution. One file per move in moves/.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "dtensor/mesh.h"
#include "dtensor/tensor.h"
#include "mesh/mesh_data.h"
#include "redistribute/plan/route.h"
#include "redistribute/plan/window.h"

namespace dtensor::redistribute {

struct PreparedMove {
  Move move;
  Dtype dtype = Dtype::f32;
  Shape in_shape, out_shape;                       ///< local, on this rank
  Shape in_strides, out_strides;                   ///< what a row-major source of the route leads to: those of a view, or row-major
  Shape coordinates;                               ///< of this rank in the mesh; none for a transfer
  std::vector<int> group;                          ///< world ranks along move.axes; of a transfer the ranks of both meshes
  TransferRef transfer;                            ///< of exchange and reduce, from a row-major source
  TransferRef view_transfer;                       ///< the same from a source of in_strides where they are not row-major
  comm::Reduction reduction;                       ///< of all_reduce and reduce
  comm::Pattern pattern = comm::Pattern::any;      ///< of exchange and reduce
  std::vector<std::vector<placements::Run>> runs;  ///< slice: per dimension the local source indices; shard_to_partial: those that are kept
  std::vector<std::vector<placements::Run>> kept;  ///< shard_to_partial: per dimension the local target indices of `runs`
  std::optional<ReduceOp> fill;                    ///< transfer: the neutral elements that this rank holds
  bool combines = false;                           ///< transfer: some rank combines contributions
  bool keeps = false;                              ///< of an exchange this rank has the whole of its result, and no other rank takes part of it
  bool view = false;                               ///< transfer: nothing communicates, and every part is a view or neutral elements
  std::uint64_t fingerprint = 0;
  std::int64_t bytes_received = 0;  ///< by this rank, from others
  std::string detail;               ///< "f32[8]{dp: S(0)} -> {dp: R}"
  bool communicates() const noexcept { return move.launches > 0; }
};

/// `shape` is global. The same on every rank but for what depends on coordinates. `in_strides` are the out_strides of the move before (empty: row-major).
PreparedMove prepare(const Move& move, const mesh::MeshData& mesh, const Shape& shape, Dtype dtype, const Shape& coordinates,
                     const Shape& in_strides = {});
/// A transfer between two meshes for world rank `rank`, which is in one of them at least. The local shape outside a mesh is [0].
PreparedMove prepare_transfer(const Move& move, const mesh::MeshData& from, const mesh::MeshData& to, const Shape& shape, Dtype dtype, int rank,
                              const Shape& in_strides = {});
/// The exchange before a kernel that reads through a window.
PreparedMove prepare_window(const Window& window, const mesh::MeshData& mesh, Dtype dtype, const Shape& coordinates);
/// Starts the move; the result is complete when its storage's works are. It may share the storage of `in` (a view), never writes `in`.
Tensor run(const PreparedMove& move, const Tensor& in);
/// Starts moves that communicate, all of one kind over the same group, in one launch; the results are those of run() one by one.
std::vector<Tensor> run_together(std::span<const PreparedMove* const> moves, std::span<const Tensor* const> in);
/// Whether run_together may take both.
bool go_together(const PreparedMove& a, const PreparedMove& b) noexcept;

namespace moves {
/// Whether slice gives a view on this rank; whether to_partial keeps the value there.
bool slices_to_view(const PreparedMove& move);
bool keeps_value(const PreparedMove& move);
/// A move whose memory is ready. Of one that communicates, `form` is what is left to do from `in` to `out`.
struct Ready {
  Ready(Tensor result) : out(std::move(result)) {}  // NOLINT(google-explicit-constructor)
  Ready(comm::Form f, Tensor source, Tensor result, const TransferRef* boxes = nullptr)
      : form(f), in(std::move(source)), out(std::move(result)), transfer(boxes) {}
  comm::Form form = comm::Form::exchange;
  Tensor in, out;
  const TransferRef* transfer = nullptr;  ///< of exchange and reduce; of the prepared move
};
Ready relabel(const PreparedMove& move, const Tensor& in);
Ready slice(const PreparedMove& move, const Tensor& in);
Ready to_partial(const PreparedMove& move, const Tensor& in);
Ready shard_to_partial(const PreparedMove& move, const Tensor& in);
Ready all_gather(const PreparedMove& move, const Tensor& in);
Ready reduce_scatter(const PreparedMove& move, const Tensor& in);
Ready all_reduce(const PreparedMove& move, const Tensor& in);
Ready all_to_all(const PreparedMove& move, const Tensor& in);
Ready permute(const PreparedMove& move, const Tensor& in);
Ready send_recv(const PreparedMove& move, const Tensor& in);
Ready transfer(const PreparedMove& move, const Tensor& in);
Ready window(const PreparedMove& move, const Tensor& in);
}  // namespace moves

}  // namespace dtensor::redistribute
