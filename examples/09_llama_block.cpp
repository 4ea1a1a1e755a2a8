// SPDX-License-Identifier: Apache-2.0
// A Llama block on dp x tp: tensor and sequence parallel over tp, fully sharded over dp. One step, saved, resumed on another mesh.
#include <dtensor/dtensor.h>
using namespace dtensor;

struct Attention : nn::Module<Attention> {
  nn::Linear q, k, v, o;
  std::int64_t heads, kv_heads;
  Attention(std::int64_t d, std::int64_t h, std::int64_t kv, const DeviceMesh& m)
      : q(d, d, m), k(d, d / h * kv, m), v(d, d / h * kv, m), o(d, d, m), heads(h), kv_heads(kv) {}
  void fields(nn::Fields& f) override { f("q_proj", q)("k_proj", k)("v_proj", v)("o_proj", o); }
  DTensor forward(const DTensor& x, const DTensor& cos, const DTensor& sin) {
    auto split = [](const DTensor& t, std::int64_t n) { return transpose(unflatten(t, -1, {n, -1}), 1, 2); };
    DTensor a = scaled_dot_product_attention(rotary(split(q(x), heads), cos, sin), rotary(split(k(x), kv_heads), cos, sin), split(v(x), kv_heads),
                                             {.is_causal = true, .enable_gqa = true});
    return o(flatten(transpose(a, 1, 2), 2));
  }
};
struct Block : nn::Module<Block> {
  nn::RMSNorm norm1, norm2;
  Attention attention;
  nn::Linear gate, up, down;
  explicit Block(const DeviceMesh& m)
      : norm1(256, m), norm2(256, m), attention(256, 8, 2, m), gate(256, 688, m), up(256, 688, m), down(688, 256, m) {}
  void fields(nn::Fields& f) override {
    f("input_layernorm", norm1)("self_attn", attention)("post_attention_layernorm", norm2);
    f("mlp.gate_proj", gate)("mlp.up_proj", up)("mlp.down_proj", down);
  }
  DTensor forward(const DTensor& x, const DTensor& cos, const DTensor& sin) {
    DTensor h = x + attention(norm1(x), cos, sin);  // x is S(1) on tp; o() gives P(sum), brought to S(1) by the style
    DTensor n = norm2(h);
    return h + down(silu(gate(n)) * up(n));
  }
};
void shard(Block& block) {
  using namespace parallel;
  parallelize_module(block, "tp",
                     {{"*.[qkv]_proj", colwise()},
                      {"*.gate_proj", colwise()},
                      {"*.up_proj", colwise()},
                      {"*.[od]*_proj", rowwise({.output = Shard(1)})},
                      {"*layernorm", sequence_parallel({.output = Replicate()})}});  // one gather per norm, not per projection
  fully_shard(block, "dp", {.param_dtype = Dtype::bf16, .reduce_dtype = Dtype::f32});
}
StateDict everything(Block& block, optim::AdamW& opt, std::int64_t& step) {  // names -> handles and addresses; copies nothing
  StateDict state;
  state.add("model", block).add("optimizer", opt).add("rng", default_generator()).add("step", step);
  return state;
}
int train(World& world) {
  const RefuseImplicit planned;
  std::int64_t step = 0;
  {
    DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    Block block(mesh);
    shard(block);
    block.materialize();
    optim::AdamW opt(block.named_parameters(), {.lr = 3e-4, .betas = {0.9, 0.95}, .weight_decay = 0.1});
    DTensor x = randn({8, 128, 256}, mesh, {Shard(0), Shard(1)});
    auto [cos, sin] = rotary_tables({.length = 128, .head_dim = 32}, mesh);
    DTensor loss = mean(square(block(x, cos, sin)));
    loss.backward();
    DTensor norm = optim::clip_grad_norm_(block.parameters(), 1.0);
    opt.step();
    opt.zero_grad();
    world.print({"step ", ++step, " loss ", loss.item(), " norm ", norm.item()});
    save_checkpoint("ckpt/step1", everything(block, opt, step));
  }
  DeviceMesh wide = world.mesh({{"dp", 1}, {"tp", 4}});  // 2 kv heads over 4 ranks: still right
  Block block(wide);
  shard(block);
  optim::AdamW opt(block.named_parameters(), {.lr = 3e-4});
  load_checkpoint("ckpt/step1", everything(block, opt, step));
  return step == 1 ? 0 : 1;
}
int main(int argc, char** argv) { return run(argc, argv, train, {.ranks = 4}); }
