// SPDX-License-Identifier: Apache-2.0
// Communicator: collectives among an ordered list of ranks. Three primitives carry everything: exchange (all_gather, all_to_all, permute, broadcast,
// scatter, gather, send/recv are exchanges of boxes), reduce (reduce_scatter and friends) and all_reduce. Several of them, of any form and dtype, may go
// in one launch.
//
// All are asynchronous: they register a PendingWork on the buffer of `in` (a reader) and of `out` (a writer) and return. The wait is lazy: whoever reads
// `out` or writes `in` waits. Works are started in program order on every member. Results are bit-identical on every member and in every run:
// contributions are combined in ascending group order, bf16 and f16 in f32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rank.h"
#include "dtensor/placement.h"
#include "dtensor/tensor.h"
#include "redistribute/plan/transfer.h"

namespace dtensor::comm {

/// What is being done, for fingerprints, errors and traces. Texts are copied when kept.
struct Call {
  std::string_view kind;          ///< "all_gather"
  std::uint64_t fingerprint = 0;  ///< of what all members must agree on (op, spec, plan); compared on every collective
  std::string_view detail = {};   ///< for errors: "f32[8, 16]{dp: S(0)} -> {dp: R}"
};
/// sum, min, ... ; avg is sum with a divisor, so that sum and avg axes combine in one launch.
struct Reduction {
  ReduceOp op = ReduceOp::sum;
  std::int64_t divisor = 1;
};

enum class Form : std::uint8_t { exchange, reduce, all_reduce };
/// What every member knows of the boxes of all, so that a backend may use a collective of its own; any promises nothing.
enum class Pattern : std::uint8_t {
  any,
  all_gather,      ///< of exchange: every member gives all members the same, so that all get the same
  all_to_all,      ///< of exchange: every member gives every member the same number of elements
  broadcast,       ///< of exchange: one member gives all others the same
  reduce_scatter,  ///< of reduce: every member contributes to the boxes of every member, which are all it gives
};
/// One operation of a launch; borrowed until launch() returns. The forms are those of the functions of the same names.
struct Operation {
  Form form = Form::exchange;
  const Tensor* in = nullptr;                           ///< null or empty: nothing to send
  const Tensor* out = nullptr;                          ///< null or empty: nothing to receive
  const redistribute::TransferRef* transfer = nullptr;  ///< of exchange and reduce
  Reduction reduction = {};                             ///< of reduce and all_reduce
  std::uint64_t fingerprint = 0;                        ///< as in Call
  std::string_view detail = {};                         ///< as in Call
  Pattern pattern = Pattern::any;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  /// This rank's index in the group.
  int rank() const noexcept { return rank_; }
  int size() const noexcept { return static_cast<int>(ranks_.size()); }
  /// World ranks in group order.
  std::span<const int> ranks() const noexcept { return ranks_; }

  /// Starts all operations at once: one meeting of the members, one number in their sequence, one work that all outputs and inputs wait for. The
  /// results are those of the operations one by one. No output shares its storage with another operation's input or output. All members give the same
  /// list but for shapes and boxes. `kind` names the launch. @throws as exchange.
  virtual void launch(std::string_view kind, std::span<const Operation> operations) = 0;
  /// Copies boxes: every receive piece of `out` gets the matching send piece of a peer's `in`. Boxes of `out` that no piece covers keep their contents.
  /// `in` and `out` are distinct storages (either may be an empty Tensor when it has no piece). `out` is row-major; boxes of `in` are relative to its first
  /// element, in its own strides.
  /// @throws CommError (at the wait, or here when the world is over) naming rank, group, call and sequence number.
  void exchange(const Call& call, const Tensor& in, const Tensor& out, const redistribute::TransferRef& transfer, Pattern pattern = Pattern::any) {
    one(call, {.form = Form::exchange, .in = &in, .out = &out, .transfer = &transfer, .pattern = pattern});
  }
  /// As exchange, with several contributions per box combined in ascending group order.
  void reduce(const Call& call, const Tensor& in, const Tensor& out, const redistribute::TransferRef& transfer, const Reduction& reduction,
              Pattern pattern = Pattern::any) {
    one(call, {.form = Form::reduce, .in = &in, .out = &out, .transfer = &transfer, .reduction = reduction, .pattern = pattern});
  }
  /// Elementwise over all members; equal shapes. `out` may be `in` (in place).
  void all_reduce(const Call& call, const Tensor& in, const Tensor& out, const Reduction& reduction) {
    one(call, {.form = Form::all_reduce, .in = &in, .out = &out, .reduction = reduction});
  }
  /// Returns when all members have come.
  virtual void barrier(const Call& call) = 0;

 protected:
  Communicator(int rank, std::vector<int> ranks) : rank_(rank), ranks_(std::move(ranks)) {}

 private:
  void one(const Call& call, Operation operation) {
    operation.fingerprint = call.fingerprint;
    operation.detail = call.detail;
    launch(call.kind, {&operation, 1});
  }
  int rank_;
  std::vector<int> ranks_;
};

/// The role of groups of one direction between two members: sends and receives, which keep no order with the calls of other groups.
inline constexpr std::string_view kPeers = "user peers";

/// Makes communicators for one rank of one world.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::unique_ptr<Communicator> make(std::span<const int> ranks, std::string_view role) = 0;
};

/// This rank's communicators, one per (ordered ranks, role), made at first use by the members only. World installs the transport.
class RankComm {
 public:
  std::unique_ptr<Transport> transport;
  Communicator& group(std::span<const int> ranks, std::string_view role = "default");

 private:
  struct Entry {
    std::vector<int> ranks;
    std::string role;
    std::unique_ptr<Communicator> communicator;
  };
  std::vector<Entry> entries_;
};
/// The communicator of `ranks` for the calling thread's rank. @throws InvalidArgument when it is not a member.
Communicator& group(std::span<const int> ranks, std::string_view role = "default");

}  // namespace dtensor::comm
