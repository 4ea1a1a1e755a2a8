// SPDX-License-Identifier: Apache-2.0
// What one rank asks of NCCL for one operation of a launch: calls, and the copies and combinations before, between and after them. Pure numbers; the
// table is in docs/nccl.md. Members of a group that give matching operations get matching calls.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/communicator.h"

namespace dtensor::comm::nccl {

/// Where elements lie: in the operation's tensors, or in one of two pieces of scratch memory.
enum class Place : std::uint8_t { in, out, packed, received };
struct Spot {
  Place place = Place::in;
  std::int64_t offset = 0;  ///< in elements
};

enum class Verb : std::uint8_t { all_gather, reduce_scatter, all_reduce, all_to_all, broadcast, send, receive };
struct Exchange {
  Verb verb = Verb::send;
  Spot from, to;
  std::int64_t count = 0;  ///< as the functions of nccl_api.h count
  int peer = -1;           ///< of send and receive; the root of broadcast
};
struct CopyStep {
  Spot to, from;
  Shape to_strides, from_strides, sizes;
};
/// As local::reduce_box.
struct CombineStep {
  Spot to;
  Shape to_strides, sizes;
  std::vector<Spot> sources;
  std::vector<Shape> source_strides;  ///< one each
};

/// Done in the order of the members. Calls of all operations of a launch that stand in the same member make one NCCL group.
struct Lowered {
  std::vector<CopyStep> pack;
  std::vector<Exchange> first;
  std::vector<CombineStep> combine;
  std::vector<Exchange> second;
  std::vector<CopyStep> unpack;
  std::int64_t packed = 0, received = 0;  ///< elements of scratch memory
  Reduction in_nccl;                      ///< of the calls that reduce
  std::int64_t divisor = 1;               ///< of the combinations
};

struct Case {
  Form form = Form::exchange;
  Pattern pattern = Pattern::any;
  const redistribute::Transfer* transfer = nullptr;  ///< of exchange and reduce
  std::int64_t numel = 0;                            ///< of all_reduce
  bool in_place = false;                             ///< all_reduce: `out` is `in`
  Dtype dtype = Dtype::f32;
  Reduction reduction = {};
  int rank = 0, size = 1;
  bool in_rank_order = false;  ///< contributions of floating dtypes are added in rank order: the bits of the other backends
  bool all_to_all = false;     ///< NCCL has it
};
Lowered lower(const Case& c);

/// Whether NCCL's own reduction has the library's meaning for these. It lacks bitwise operations, and drops a NaN in min and max.
bool reduces(ReduceOp op, Dtype dtype, bool in_rank_order) noexcept;
/// Whether multiplying contributions by 1 / divisor loses nothing that dividing the sum would keep, but for rounding in 24 bits or more.
bool divides_before(std::int64_t divisor, Dtype dtype) noexcept;

}  // namespace dtensor::comm::nccl
