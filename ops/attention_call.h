// SPDX-License-Identifier: Apache-2.0
// From what an attention op's kernel is given to the local call: numbers of rows, keys and heads follow from where the operands lie.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "local/cpu/attention.h"
#include "ops/index_rules.h"

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
  std::vector<local::GlobalRun> rows;
  std::vector<std::int64_t> heads;
  std::vector<std::int64_t> key_heads;  ///< numbers of the heads of call.key and call.value, ascending

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
    rows = runs_of(q, 2);
    for (std::int64_t h = 0; h < call.query.shape()[1]; ++h) heads.push_back(q.to_global(1, h) / group);
    key_heads = numbers_of(kv.runs[1]);
    if (const auto value_heads = numbers_of(k.input_place(p.value).runs[1]); value_heads != key_heads) meet(value_heads);
    for (std::int64_t& head : heads) {
      const auto at = std::lower_bound(key_heads.begin(), key_heads.end(), head);
      if (at == key_heads.end() || *at != head)
        throw InternalError(fmt::format("{}: key head {} is not on this rank (a query head that reads it is); report this", k.op_name, head));
      head = at - key_heads.begin();
    }
    call.rows = rows;
    call.kv_heads = heads;
  }
  LocalAttention(const LocalAttention&) = delete;

 private:
  static std::vector<std::int64_t> numbers_of(const std::vector<IndexRun>& runs) {
    std::vector<std::int64_t> numbers;
    for (const IndexRun& r : runs)
      for (std::int64_t i = 0; i < r.length; ++i) numbers.push_back(r.begin + i);
    return numbers;
  }
  // One operand was whole where of the other only what is read was fetched: the heads that both have.
  void meet(const std::vector<std::int64_t>& value_heads) {
    std::vector<std::int64_t> both;
    std::set_intersection(key_heads.begin(), key_heads.end(), value_heads.begin(), value_heads.end(), std::back_inserter(both));
    call.key = chosen(call.key, key_heads, both);
    call.value = chosen(call.value, value_heads, both);
    key_heads = std::move(both);
  }
  static Tensor chosen(const Tensor& t, const std::vector<std::int64_t>& have, const std::vector<std::int64_t>& wanted) {
    Shape shape = t.shape();
    shape[1] = static_cast<std::int64_t>(wanted.size());
    Tensor result = Tensor::empty(shape, t.dtype(), t.device());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const std::int64_t at = std::lower_bound(have.begin(), have.end(), wanted[i]) - have.begin();
      result.narrow(1, static_cast<std::int64_t>(i), 1).copy_(t.narrow(1, at, 1));
    }
    return result;
  }
};

}  // namespace dtensor::ops
