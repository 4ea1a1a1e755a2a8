// SPDX-License-Identifier: Apache-2.0
// What ops move: the bytes that a call sends for each sharding of one input, counted, beside the bytes of gathering that input first.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dtensor/export.h"
#include "dtensor/op.h"

namespace dtensor {

struct OpTraffic {
  std::string inputs;             ///< "f32[4, 6]{0: S(1)}, f32[6]{0: R}"
  std::string results;            ///< "f32[4]{0: P(sum)}", or what the call threw
  std::int64_t bytes = 0;         ///< received by the rank that receives most, forward
  std::int64_t gather_bytes = 0;  ///< of bringing the sharded (or reducing the Partial) input to Replicate
};
/// Runs the op's largest sample on `ranks` threads once for each input alone in Shard(d) and in Partial(sum), the others Replicate. Empty for an op without
/// samples, or that is its own plan. @throws InvalidArgument on a thread that is a rank.
DTENSOR_EXPORT std::vector<OpTraffic> op_traffic(const OpDef& op, int ranks = 2);

/// A page: for each op signature, rule, distributed form, reasons, and the table of op_traffic(). Markdown.
DTENSOR_EXPORT std::string ops_markdown(std::span<const OpDef* const> ops, int ranks = 2);

}  // namespace dtensor
