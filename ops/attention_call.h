// SPDX-License-Identifier: Apache-2.0
// From what an attention op's kernel is given to the local call: numbers of rows, keys and heads follow from where the operands lie.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "local/cpu/attention.h"

namespace dtensor::ops {

/// Query heads per key head.
inline std::int64_t group_of(const Shape& query, const Shape& key) { return key[1] == 0 ? 1 : query[1] / key[1]; }

/// Inputs and attributes by position.
struct AttentionPositions {
  int query, key, value, mask;  ///< mask -1: the op has none
  int is_causal, scale, causal_offset;
};

struct LocalAttention {
  local::cpu::AttentionCall call;
  std::vector<std::int64_t> rows, heads;

  LocalAttention(const KernelCall& k, const AttentionPositions& p) {
    call.query = k.input(p.query);
    call.key = k.input(p.key);
    call.value = k.input(p.value);
    if (p.mask >= 0 && k.has_input(p.mask)) call.mask = k.input(p.mask);
    const Place &q = k.input_place(p.query), &kv = k.input_place(p.key);
    const Attribute& scale = k.attribute(p.scale);
    call.scale = scale.is_none() ? 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, q.global[3]))) : scale.as_double();
    call.causal = k.attribute(p.is_causal).as_bool();
    call.offset = k.attribute(p.causal_offset).as_int();
    const std::int64_t group = group_of(q.global, kv.global);
    for (const IndexRun& r : q.runs[2])
      for (std::int64_t i = 0; i < r.length; ++i) rows.push_back(r.begin + i);
    for (std::int64_t h = 0; h < call.query.shape()[1]; ++h) {
      const std::int64_t global = q.to_global(1, h) / group, local = kv.to_local(1, global);
      if (local < 0)
        throw InternalError(fmt::format("{}: key head {} is not on this rank (query head {} is); report this", k.op_name, global, q.to_global(1, h)));
      heads.push_back(local);
    }
    call.rows = rows;
    call.kv_heads = heads;
  }
  LocalAttention(const LocalAttention&) = delete;
};

}  // namespace dtensor::ops
