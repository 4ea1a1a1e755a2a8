// SPDX-License-Identifier: Apache-2.0
// The two halves of a transformer block. Sequences are [batch, length, features].
#pragma once

#include "dtensor/nn.h"
#include "dtensor/ops/rotary.h"

namespace dtensor::nn {

struct AttentionBlockOptions {
  std::int64_t kv_heads = 0;  ///< 0: as many as heads; fewer: grouped-query attention
  std::int64_t head_dim = 0;  ///< 0: features / heads
  bool bias = false;
  bool is_causal = true;
};
/// Multi-head self-attention: projections q_proj, k_proj, v_proj, o_proj. For tensor parallelism q, k, v are colwise and o is rowwise.
class DTENSOR_EXPORT Attention : public Module<Attention> {
 public:
  /// @throws InvalidArgument when heads do not divide features (and no head_dim is given) or kv_heads do not divide heads.
  Attention(std::int64_t features, std::int64_t heads, const DeviceMesh& mesh, const AttentionBlockOptions& options = {});
  void fields(Fields& f) override { f("q_proj", q)("k_proj", k)("v_proj", v)("o_proj", o); }
  DTensor forward(const DTensor& x);
  /// With rotary position embedding of queries and keys.
  DTensor forward(const DTensor& x, const RotaryTables& tables);
  Linear q, k, v, o;

 private:
  DTensor attend(const DTensor& x, const RotaryTables* tables);
  std::int64_t heads_, kv_heads_;
  bool is_causal_;
};

/// SwiGLU feed-forward: down(silu(gate(x)) * up(x)); projections gate_proj, up_proj (colwise), down_proj (rowwise).
class DTENSOR_EXPORT Mlp : public Module<Mlp> {
 public:
  Mlp(std::int64_t features, std::int64_t hidden, const DeviceMesh& mesh, const LinearOptions& options = {});
  void fields(Fields& f) override { f("gate_proj", gate)("up_proj", up)("down_proj", down); }
  DTensor forward(const DTensor& x);
  Linear gate, up, down;
};

}  // namespace dtensor::nn
