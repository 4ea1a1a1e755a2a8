// SPDX-License-Identifier: Apache-2.0
// Tensor parallelism: the same numbers as the unsharded module, and no more communication than the styles say.
#include "parallel/models.h"

using namespace parallel_test;
using parallel::colwise;
using parallel::parallelize_module;
using parallel::rowwise;
using parallel::sequence_parallel;

namespace {

double tolerance(Dtype dtype) { return dtype == Dtype::f64 ? 1e-12 : 1e-5; }

Outcome mlp_alone(Dtype dtype) {
  return alone([&](const DeviceMesh& mesh) {
    Mlp mlp(6, 10, mesh, {.bias = true, .dtype = dtype});
    mlp.materialize();
    return outcome(mlp, waves({2, 5, 6}, mesh, {}, dtype));
  });
}

void shard_block(Block& block, bool sequence) {
  const parallel::StyleOptions out = sequence ? parallel::StyleOptions{.output = Shard(1)} : parallel::StyleOptions{};
  parallelize_module(block, "tp",
                     {{"attn.[qkv]_proj", colwise()}, {"mlp.up_proj", colwise()}, {"*.o_proj", rowwise(out)}, {"*.down_proj", rowwise(out)}});
  if (sequence) parallelize_module(block, "tp", {{"norm?", sequence_parallel({.output = Replicate()})}});
}

void check_block(const AttentionSizes& sizes, int ranks, bool sequence, Dtype dtype) {
  INFO(sizes.heads << " heads, " << sizes.kv_heads << " kv heads, " << ranks << " ranks, sequence parallel " << sequence << ", " << to_string(dtype));
  const Outcome want = alone([&](const DeviceMesh& mesh) {
    Block block(6, 10, sizes, mesh, {.bias = true, .dtype = dtype});
    block.materialize();
    return outcome(block, waves({2, 5, 6}, mesh, {}, dtype));
  });
  run_ranks({.ranks = ranks}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", ranks}});
    Block block(6, 10, sizes, mesh, {.bias = true, .dtype = dtype});
    shard_block(block, sequence);
    block.materialize();
    check_same(outcome(block, waves({2, 5, 6}, mesh, sequence ? Placements({Shard(1)}) : Placements(), dtype)), want, tolerance(dtype));
  });
}

}  // namespace

TEST_CASE("an MLP cut by columns and rows gives the unsharded output and gradients, its bias added once") {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const Outcome want = mlp_alone(dtype);
    for (const int ranks : {1, 2, 3, 4}) {
      for (const bool sequence : {false, true}) {
        INFO(ranks << " ranks, sequence " << sequence << ", " << to_string(dtype));
        run_ranks({.ranks = ranks}, [&](World& world) {
          const DeviceMesh mesh = world.mesh({{"tp", ranks}});
          Mlp mlp(6, 10, mesh, {.bias = true, .dtype = dtype});
          parallelize_module(mlp, "tp", {{"up_proj", colwise()}, {"down_proj", sequence ? rowwise({.output = Shard(1)}) : rowwise()}});
          mlp.materialize();
          CHECK(mlp.up.weight.placements()["tp"] == Placement(Shard(0)));
          CHECK(mlp.up.bias.placements()["tp"] == Placement(Shard(0)));
          CHECK(mlp.down.weight.placements()["tp"] == Placement(Shard(1)));
          CHECK(mlp.down.bias.placements()["tp"] == Placement(Replicate()));
          check_same(outcome(mlp, waves({2, 5, 6}, mesh, sequence ? Placements({Shard(1)}) : Placements(), dtype)), want, tolerance(dtype));
        });
      }
    }
  }
}

TEST_CASE("an attention block gives the unsharded output and gradients when heads do not divide by the ranks") {
  for (const int ranks : {1, 2, 3, 4}) {
    check_block({.heads = 4, .kv_heads = 4}, ranks, false, Dtype::f64);
    check_block({.heads = 4, .kv_heads = 2}, ranks, true, Dtype::f64);
  }
  check_block({.heads = 3, .kv_heads = 3}, 2, false, Dtype::f64);
  check_block({.heads = 3, .kv_heads = 1}, 2, true, Dtype::f32);
  check_block({.heads = 4, .kv_heads = 2}, 4, false, Dtype::f32);
  check_block({.heads = 3, .kv_heads = 3}, 4, true, Dtype::f64);
}

TEST_CASE("an MLP forward costs one all_reduce, and with a split sequence one all_gather and one reduce_scatter") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    const RefuseImplicit planned;
    for (const bool bias : {false, true}) {
      for (const bool sequence : {false, true}) {
        Mlp mlp(8, 16, mesh, {.bias = bias});
        parallelize_module(mlp, "tp", {{"up_proj", colwise()}, {"down_proj", sequence ? rowwise({.output = Shard(1)}) : rowwise()}});
        mlp.materialize();
        const DTensor x = waves({2, 4, 8}, mesh, sequence ? Placements({Shard(1)}) : Placements());
        const CommCounter comm;
        const DTensor y = mlp(x);
        y.wait();
        INFO(to_string(comm));
        CHECK(comm.launches() == (sequence ? 2 : 1));
        CHECK(comm.launches(sequence ? "reduce_scatter" : "all_reduce") == 1);
        CHECK(comm.launches("all_gather") == (sequence ? 1 : 0));
      }
    }
  });
}

TEST_CASE("backward of column-parallel q, k and v costs one reduction of their input's gradient") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    for (const bool from_op : {false, true}) {
      Attention a(8, {.heads = 4, .kv_heads = 2}, mesh, {});
      parallelize_module(a, "tp", {{"[qkv]_proj", colwise()}, {"o_proj", rowwise()}});
      a.materialize();
      const DTensor x = waves({2, 4, 8}, mesh, {});
      x.set_requires_grad();
      const DTensor y = a(from_op ? x * 2.0 : x);
      const CommCounter comm;
      sum(y).backward();
      x.grad().wait();
      INFO("input from an op: " << from_op << "; " << to_string(comm));
      CHECK(comm.launches() == 1);
      CHECK(comm.launches("all_reduce") == 1);
    }
  });
}

TEST_CASE("cross_entropy over logits split by class moves far less than the logits") {
  const auto loss_and_gradient = [](const DeviceMesh& mesh, bool cut, std::int64_t* bytes) {
    nn::Linear head(8, 999, mesh);
    if (cut) parallelize_module(head, "tp", {{"", colwise()}});
    head.materialize();
    std::vector<std::int64_t> classes(48);
    for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<std::int64_t>((i * 131) % 999);
    const DTensor target = distribute(Tensor::of(classes, {48}), mesh, {}, {.source = Source::every_rank});
    const DTensor logits = head(waves({48, 8}, mesh, {}));
    if (cut) CHECK(logits.placements()["tp"] == Placement(Shard(1)));
    const CommCounter comm;
    const DTensor loss = cross_entropy(logits, target);
    loss.backward();
    Numbers result = whole(head.weight.grad());
    const double value = loss.item();
    if (bytes != nullptr) {
      const DTensor again = cross_entropy(logits.detach().set_requires_grad(), target);
      const CommCounter only_loss;
      again.backward();
      *bytes = comm.bytes_received() - static_cast<std::int64_t>(result.size() * sizeof(float)) + only_loss.bytes_received();
    }
    result.push_back(value);
    return result;
  };
  const Numbers want = alone([&](const DeviceMesh& mesh) { return loss_and_gradient(mesh, false, nullptr); });
  run_ranks({.ranks = 3}, [&](World& world) {
    std::int64_t bytes = 0;
    CHECK(deviation(loss_and_gradient(world.mesh({{"tp", 3}}), true, &bytes), want) <= 1e-5);
    CHECK(bytes < 48 * 999 * 4 / 20);
  });
}

TEST_CASE("an embedding cut by rows or by columns gives the unsharded output and gradient") {
  for (const int ranks : {2, 3}) {
    const auto result = [](const DeviceMesh& mesh, int how) {
      nn::Embedding embedding(7, 5, mesh, {.dtype = Dtype::f64});
      if (how == 1) parallelize_module(embedding, "tp", {{"", rowwise()}});
      if (how == 2) parallelize_module(embedding, "tp", {{"", colwise()}});
      embedding.materialize();
      const DTensor index = distribute(Tensor::of(std::vector<std::int64_t>{6, 0, 3, 3, 5, 1}, {2, 3}), mesh, {}, {.source = Source::every_rank});
      const DTensor y = embedding(index);
      sum(y * waves(y.shape(), mesh, {}, Dtype::f64)).backward();
      Numbers all = whole(y);
      for (double g : whole(embedding.weight.grad())) all.push_back(g);
      return all;
    };
    const Numbers want = alone([&](const DeviceMesh& mesh) { return result(mesh, 0); });
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"tp", ranks}});
      CHECK(deviation(result(mesh, 1), want) <= 1e-12);
      CHECK(deviation(result(mesh, 2), want) <= 1e-12);
    });
  }
}

TEST_CASE("a plan that does not fit the module is refused by text and changes nothing") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"tp", 2}});
    Block block(6, 10, {}, mesh, {});
    CHECK(error_of([&] {
            parallelize_module(block, "tp", {{"mlp.up_proj", colwise()}, {"*.gate_proj", colwise()}});
          }) ==
          "parallelize_module: pattern '*.gate_proj' matches no module; the modules are norm1, attn, attn.q_proj, attn.k_proj, attn.v_proj, "
          "attn.o_proj, norm2, mlp, mlp.up_proj, mlp.down_proj");
    CHECK(block.mlp.up.weight.placements()["tp"] == Placement(Replicate()));
    CHECK(
        error_of([&] {
          parallelize_module(block, "tp", {{"norm1", colwise()}});
        }) ==
        "parallelize_module: module 'norm1' is no Linear or Embedding; colwise places their parameters, use prepare or sequence_parallel for others");
    CHECK(contains(error_of([&] { parallelize_module(block, "tq", {{"mlp.up_proj", colwise()}}); }), "tq"));
    CHECK(contains(error_of([&] { parallelize_module(block, {"tp", "tq"}, {{"mlp.up_proj", colwise()}}); }), "2 axes given"));
    CHECK(contains(error_of([&] { parallel::fully_shard(block, "dq"); }), "dq"));
    block.materialize();
    CHECK(whole(block(waves({1, 2, 6}, mesh, {}))).size() == 12);
  });
}
