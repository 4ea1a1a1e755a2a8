// SPDX-License-Identifier: Apache-2.0
// The rule checker: shards the inputs of an op's samples in many ways, runs the op, and compares with the op on one rank.
//
//   VerifyReport report = verify(kRowDot, {.meshes = {{2}, {3}, {2, 2}}});
//   std::puts(to_string(report).c_str());
//
//  * wrong: a sharded call whose results or gradients differ from those of one rank, whose replicas differ, which gives another result from the plan cache
//    than cold, or which throws;
//  * missing: a call that communicates although the local kernel on the parts, its result labelled S(d), R or P(sum) on each axis (StridedShard and
//    RaggedShard where an input is so), would have been right;
//  * explained: the same for an op whose `reasons` say why.
// Inputs are Replicate, Shard and StridedShard(., 2) of every dim, RaggedShard with uneven sizes, and Partial with uneven random parts: all combinations for up to
// two inputs on a mesh of one axis, all pairs of single choices otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/op.h"

namespace dtensor {

struct VerifyOptions {
  std::vector<std::vector<int>> meshes = {{2}, {3}, {2, 2}};
  bool gradients = true;
  bool missing = true;                       ///< look for rules that could do without communication
  std::vector<Dtype> dtypes = {Dtype::f32};  ///< of inputs to which a sample gives no dtype
  Device device = {};                        ///< of the tensors of all ranks
  std::uint64_t seed = 0;
  int limit = 0;  ///< cases per sample, dtype and mesh; 0: all
};

struct VerifyReport {
  std::string op, reasons;
  std::int64_t checked = 0, wrong = 0, missing = 0, explained = 0;
  /// The smallest of each, as a sentence; empty when there is none.
  std::string wrong_example, missing_example, explained_example;
  bool ok() const noexcept { return wrong == 0 && missing == 0; }
};
/// "app::row_dot: 312 checked, 0 wrong, 0 missing, 0 explained", then a line per example.
DTENSOR_EXPORT std::string to_string(const VerifyReport& report);

/// Starts its own ranks (threads). An op without samples gives a report of 0 checked.
/// @throws InvalidArgument on a thread that is a rank, and for a slip in signature or rule, or a sample that does not fit the signature.
/// What run_ranks throws for the device.
DTENSOR_EXPORT VerifyReport verify(const OpDef& op, const VerifyOptions& options = {});

}  // namespace dtensor
