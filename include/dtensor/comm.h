// SPDX-License-Identifier: Apache-2.0
// Communicator: collectives on this rank's memory (Tensor), outside differentiation. For DTensors use redistribute and the functional collectives.
//
// Every verb is collective over the group unless it says otherwise: all members call the same verbs in the same order. All are asynchronous. Functional
// verbs return a Tensor that waits when it is first used; in-place ones return a Work. The input may be overwritten at any time: the library waits until
// nobody reads it. Results are bit-identical on every member and in every run (contributions are combined in group order).
// Errors: InvalidArgument for what one rank's arguments show; CommError when members disagree, at the wait or earlier.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/mesh.h"
#include "dtensor/placement.h"
#include "dtensor/tensor.h"

namespace dtensor {

namespace comm {
class Communicator;
struct WorkData;
}  // namespace comm

/// Collectives in flight. Dropping it never blocks: buffers are kept until they are done, and errors appear at the next wait.
class DTENSOR_EXPORT Work {
 public:
  Work() noexcept;
  Work(Work&&) noexcept;
  Work& operator=(Work&&) noexcept;
  ~Work();
  /// Returns when outputs are complete and inputs may be overwritten. @throws CommError.
  void wait();
  /// True when wait() would return at once.
  bool done() const;

 private:
  friend class Communicator;
  explicit Work(std::unique_ptr<comm::WorkData> data) noexcept;
  std::unique_ptr<comm::WorkData> data_;
};

struct AllGatherOptions {
  std::vector<std::int64_t> sizes = {};  ///< along `dim`, one per member; empty: all alike
  bool exchange_sizes = false;           ///< sizes differ and are asked for (a small collective that the host waits for)
};
struct ReduceScatterOptions {
  std::vector<std::int64_t> sizes = {};  ///< along `dim`, one per member; empty: ceil chunks
};
struct AllToAllOptions {
  std::vector<std::int64_t> send_sizes = {};     ///< along `split_dim`, one per member; empty: ceil chunks
  std::vector<std::int64_t> receive_sizes = {};  ///< along `concat_dim`, what each member's piece has; empty: as this rank's input, all alike
};
struct ScatterOptions {
  std::vector<std::int64_t> sizes = {};  ///< along `dim`, one per member; empty: ceil chunks
};

/// One end of a point-to-point transfer, for Communicator::group.
struct PeerCall {
  enum class Kind : std::uint8_t { send, recv } kind;
  Tensor tensor;
  int peer;
};
inline PeerCall send_to(const Tensor& tensor, int peer) { return {PeerCall::Kind::send, tensor, peer}; }
inline PeerCall recv_from(const Tensor& tensor, int peer) { return {PeerCall::Kind::recv, tensor, peer}; }

/// A handle to the group of this rank along some axes of a mesh. Members are numbered 0 .. size() - 1 in the mesh's order; `root` and `peer` are
/// such numbers.
class DTENSOR_EXPORT Communicator {
 public:
  /// Local. @throws InvalidArgument for an unknown axis, or on a rank outside the mesh.
  static Communicator of(const DeviceMesh& mesh, const AxisNames& axes);
  static Communicator of(const DeviceMesh& mesh);
  int rank() const noexcept;
  int size() const noexcept;
  /// World ranks of the members.
  std::span<const int> ranks() const noexcept;
  /// Whether there is such a reduction: avg for floating dtypes; sum and product for all but bool; min and max for all (bool: and, or); band, bor and
  /// bxor for integers and bool.
  static bool is_reducible(ReduceOp op, Dtype dtype) noexcept;

  /// Elementwise reduction of equal shapes.
  Tensor all_reduce(const Tensor& input, ReduceOp op = ReduceOp::sum) const;
  /// The same in place; the tensor must be row-major.
  [[nodiscard]] Work all_reduce_(const Tensor& tensor, ReduceOp op = ReduceOp::sum) const;
  /// Inputs joined along `dim` in member order, on every member.
  Tensor all_gather(const Tensor& input, int dim = 0, const AllGatherOptions& options = {}) const;
  /// Reduction of equal shapes, of which each member gets its part along `dim`.
  Tensor reduce_scatter(const Tensor& input, ReduceOp op = ReduceOp::sum, int dim = 0, const ReduceScatterOptions& options = {}) const;
  /// The input is split along `split_dim`, piece i goes to member i, and what comes is joined along `concat_dim`.
  Tensor all_to_all(const Tensor& input, int split_dim = 0, int concat_dim = 0, const AllToAllOptions& options = {}) const;
  /// The root's values; others pass a tensor of the same shape and dtype (its values do not matter).
  Tensor broadcast(const Tensor& input, int root = 0) const;
  [[nodiscard]] Work broadcast_(const Tensor& tensor, int root = 0) const;
  /// Parts of the root's tensor along `dim`. Others pass a tensor of the whole shape and dtype, on the meta device if they like.
  Tensor scatter(const Tensor& input, int root = 0, int dim = 0, const ScatterOptions& options = {}) const;
  /// As all_gather, on the root only; others get an empty handle.
  Tensor gather(const Tensor& input, int root = 0, int dim = 0, const AllGatherOptions& options = {}) const;
  /// Member i's tensor goes to member destination[i] (-1: to nobody); equal shapes. Zeros for a member to whom nothing comes.
  Tensor permute(const Tensor& input, std::span<const int> destination) const;
  Tensor permute(const Tensor& input, std::initializer_list<int> destination) const {
    return permute(input, std::span<const int>(destination.begin(), destination.size()));
  }
  /// Between this member and `peer` only; sends and receives of a pair match in order. Shapes and dtypes must be equal.
  [[nodiscard]] Work send(const Tensor& tensor, int peer) const;
  [[nodiscard]] Work recv(const Tensor& tensor, int peer) const;
  /// Several at once, in any order: group({send_to(a, 1), recv_from(b, 1)}).
  [[nodiscard]] Work group(std::span<const PeerCall> calls) const;
  [[nodiscard]] Work group(std::initializer_list<PeerCall> calls) const { return group(std::span<const PeerCall>(calls.begin(), calls.size())); }
  /// Returns when all members have come.
  void barrier() const;

 private:
  explicit Communicator(comm::Communicator* communicator) noexcept : communicator_(communicator) {}
  Tensor join(const Tensor& input, int root, int dim, const AllGatherOptions& options, const char* op) const;
  comm::Communicator* communicator_;  // of this rank's state: lives as long as the rank
};

}  // namespace dtensor
