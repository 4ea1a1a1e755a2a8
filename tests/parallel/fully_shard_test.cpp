// SPDX-License-Identifier: Apache-2.0
// Fully sharded data parallelism: the unsharded loss and gradients, in less memory.
#include "parallel/models.h"

using namespace parallel_test;
using parallel::fully_shard;
using parallel::FullyShard;
using parallel::FullyShardOptions;

namespace {

struct Layer : nn::Module<Layer> {
  Layer(std::int64_t hidden, std::int64_t inner, const DeviceMesh& mesh, const nn::LinearOptions& options)
      : norm(hidden, mesh, {.dtype = options.dtype}), mlp(hidden, inner, mesh, options) {}
  void fields(nn::Fields& f) override { f("norm", norm)("mlp", mlp); }
  DTensor forward(const DTensor& x) { return x + mlp(norm(x)); }
  nn::RMSNorm norm;
  Mlp mlp;
};
struct TowerSizes {
  std::int64_t hidden = 5, inner = 7, classes = 3;
  int layers = 3;
  bool checkpointed = false;
};
struct Tower : nn::Module<Tower> {
  Tower(const TowerSizes& s, const DeviceMesh& mesh, Dtype dtype)
      : sizes(s), first(s.hidden, s.hidden, mesh, {.bias = true, .dtype = dtype}), head(s.hidden, s.classes, mesh, {.bias = true, .dtype = dtype}) {
    for (int i = 0; i < s.layers; ++i) layers.emplace_back(s.hidden, s.inner, mesh, nn::LinearOptions{.bias = true, .dtype = dtype});
  }
  void fields(nn::Fields& f) override { f("first", first)("layers", layers)("head", head); }
  DTensor forward(const DTensor& x) {
    DTensor h = first(x);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::vector<DTensor> in{h};
      h = sizes.checkpointed ? checkpoint([this, i](std::span<const DTensor> t) { return layers[i](t[0]); }, in) : layers[i](h);
    }
    return head(h);
  }
  TowerSizes sizes;
  nn::Linear first;
  nn::ModuleList<Layer> layers;
  nn::Linear head;
};

std::vector<FullyShard> shard(Tower& tower, const AxisNames& axes, const FullyShardOptions& options = {}) {
  std::vector<FullyShard> units;
  for (std::size_t i = 0; i < tower.layers.size(); ++i) units.push_back(fully_shard(tower.layers[i], axes, options));
  units.push_back(fully_shard(tower, axes, options));
  return units;
}

struct Training {
  Numbers losses;
  std::map<std::string, Numbers> grads;
};
constexpr std::int64_t kBatch = 7;
DTensor batch(const DeviceMesh& mesh, const Placements& placements, Dtype dtype, double phase, std::int64_t hidden = 5) {
  return waves({kBatch, hidden}, mesh, placements, dtype, phase);
}
DTensor loss_of(Tower& tower, const DTensor& x) { return mean(square(tower(x))); }
Training result_of(Tower& tower, Numbers losses) {
  Training t{std::move(losses), {}};
  for (const nn::NamedParameter& p : tower.named_parameters()) t.grads[p.name] = whole(p.parameter.grad());
  return t;
}
Training one_step(Tower& tower, const DTensor& x) {
  const DTensor loss = loss_of(tower, x);
  loss.backward();
  return result_of(tower, {loss.item()});
}
Training unsharded(const std::function<Training(Tower&, const DeviceMesh&, const Placements&)>& program, const TowerSizes& sizes = {},
                   Dtype dtype = Dtype::f64) {
  return alone([&](const DeviceMesh& mesh) {
    Tower tower(sizes, mesh, dtype);
    tower.materialize();
    return program(tower, mesh, {});
  });
}
void check_same(const Training& got, const Training& want, double tolerance) {
  CHECK(deviation(got.losses, want.losses) <= tolerance);
  for (const auto& entry : want.grads) {
    INFO(entry.first);
    REQUIRE(got.grads.count(entry.first) == 1);
    CHECK(deviation(got.grads.at(entry.first), entry.second) <= tolerance);
  }
}
// The same program unsharded and fully sharded.
void check_program(int ranks, const std::function<Training(Tower&, const DeviceMesh&, const Placements&)>& program,
                   const FullyShardOptions& options = {}, const TowerSizes& sizes = {}) {
  INFO(ranks << " ranks, reshard " << options.reshard_after_forward << ", prefetch " << options.prefetch);
  const Training want = unsharded(program, sizes);
  run_ranks({.ranks = ranks}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", ranks}});
    Tower tower(sizes, mesh, Dtype::f64);
    shard(tower, "dp", options);
    tower.materialize();
    check_same(program(tower, mesh, {Shard(0)}), want, 1e-12);
  });
}
const std::function<Training(Tower&, const DeviceMesh&, const Placements&)> kOneStep =
    [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) { return one_step(tower, batch(mesh, rows, Dtype::f64, 0)); };

}  // namespace

TEST_CASE("loss and gradients equal the unsharded model's, with parameters that do not divide by the ranks") {
  for (const int ranks : {1, 2, 3, 4})
    for (const bool reshard : {true, false}) check_program(ranks, kOneStep, {.reshard_after_forward = reshard});
  for (const int prefetch : {0, 2, 9}) check_program(3, kOneStep, {.prefetch = prefetch});
}

TEST_CASE("each parameter, its gradient and its optimiser state lie split along dimension 0") {
  run_ranks({.ranks = 4}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 4}});
    Tower tower({}, mesh, Dtype::f64);
    shard(tower, "dp");
    tower.materialize();
    one_step(tower, batch(mesh, {Shard(0)}, Dtype::f64, 0));
    optim::AdamW optimizer(tower.named_parameters());
    optimizer.step();
    std::int64_t rows = 0;
    for (const nn::Parameter& p : tower.parameters()) {
      CHECK(p.placements()["dp"] == Placement(Shard(0)));
      CHECK(p.grad().placements()["dp"] == Placement(Shard(0)));
      rows += p.value().local().shape()[0];
    }
    for (const optim::StateTensor& s : optimizer.state()) CHECK(s.get().placements()["dp"] == Placement(Shard(0)));
    // ceil chunks: 5 -> 2 2 1 0, 7 -> 2 2 2 1, 3 -> 1 1 1 0.
    const std::int64_t five[] = {2, 2, 1, 0}, seven[] = {2, 2, 2, 1}, three[] = {1, 1, 1, 0};
    const int r = world.rank();
    CHECK(rows == 2 * five[r] + 3 * (3 * five[r] + 2 * seven[r]) + 2 * three[r]);
  });
}

TEST_CASE("several steps with an optimiser follow the unsharded training") {
  const auto program = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    optim::AdamW optimizer(tower.named_parameters(), {.lr = 0.05});
    Numbers losses;
    for (int step = 0; step < 4; ++step) {
      optimizer.zero_grad();
      const DTensor loss = loss_of(tower, batch(mesh, rows, Dtype::f64, step));
      loss.backward();
      optim::clip_grad_norm_(tower.parameters(), 0.5);
      optimizer.step();
      losses.push_back(loss.item());
    }
    return result_of(tower, losses);
  };
  for (const bool reshard : {true, false}) check_program(3, program, {.reshard_after_forward = reshard});
}

TEST_CASE("two backward passes through one graph add two gradients, and two graphs may be alive at once") {
  const auto twice = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    const DTensor loss = loss_of(tower, batch(mesh, rows, Dtype::f64, 0));
    loss.backward({.retain_graph = true});
    loss.backward();
    return result_of(tower, {loss.item()});
  };
  const auto two_graphs = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    const DTensor a = loss_of(tower, batch(mesh, rows, Dtype::f64, 0)), b = loss_of(tower, batch(mesh, rows, Dtype::f64, 1));
    a.backward();
    b.backward();
    return result_of(tower, {a.item(), b.item()});
  };
  const auto one_sum = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    const DTensor a = loss_of(tower, batch(mesh, rows, Dtype::f64, 0)), b = loss_of(tower, batch(mesh, rows, Dtype::f64, 1));
    (a + b).backward();
    return result_of(tower, {a.item(), b.item()});
  };
  for (const bool reshard : {true, false}) {
    check_program(2, twice, {.reshard_after_forward = reshard});
    check_program(2, two_graphs, {.reshard_after_forward = reshard});
    check_program(2, one_sum, {.reshard_after_forward = reshard});
  }
}

TEST_CASE("an evaluation between forward and backward, or a forward that is never differentiated, changes no gradient") {
  const auto between = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    const DTensor loss = loss_of(tower, batch(mesh, rows, Dtype::f64, 0));
    double other = 0;
    {
      const NoGrad off;
      other = loss_of(tower, batch(mesh, rows, Dtype::f64, 2)).item();
    }
    loss.backward();
    return result_of(tower, {loss.item(), other});
  };
  const auto abandoned = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    loss_of(tower, batch(mesh, rows, Dtype::f64, 2));
    {
      const NoGrad off;
      for (const nn::Parameter& p : tower.parameters()) mul_(p.value(), 0.5);
    }
    return one_step(tower, batch(mesh, rows, Dtype::f64, 0));
  };
  for (const bool reshard : {true, false}) {
    check_program(3, between, {.reshard_after_forward = reshard});
    check_program(3, abandoned, {.reshard_after_forward = reshard});
  }
}

TEST_CASE("backward through a graph whose parameters were changed since is refused by text") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    for (const bool reshard : {true, false}) {
      Tower tower({}, mesh, Dtype::f64);
      shard(tower, "dp", {.reshard_after_forward = reshard});
      tower.materialize();
      const DTensor x = batch(mesh, {Shard(0)}, Dtype::f64, 0), loss = loss_of(tower, x);
      {
        const NoGrad off;
        for (const nn::Parameter& p : tower.parameters()) mul_(p.value(), 0.5);
      }
      CHECK(contains(error_of([&] { loss.backward(); }), "modified in place after it was saved"));
      tower.zero_grad();
      one_step(tower, x);
    }
  });
}

TEST_CASE("a forward under NoGrad leaves nothing gathered") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    for (const bool reshard : {true, false}) {
      Tower tower({}, mesh, Dtype::f64);
      shard(tower, "dp", {.reshard_after_forward = reshard});
      tower.materialize();
      const DTensor x = batch(mesh, {Shard(0)}, Dtype::f64, 0);
      const std::int64_t before = memory_stats().current;
      {
        const NoGrad off;
        loss_of(tower, x).item();
      }
      CHECK(memory_stats().current == before);
      for (const nn::Parameter& p : tower.parameters()) CHECK(p.get().placements()["dp"] == Placement(Shard(0)));
      one_step(tower, x);
      tower.zero_grad();
      CHECK(memory_stats().current == before);
    }
  });
}

TEST_CASE("bf16 computation keeps f32 parameters and gradients, reduced in f32") {
  const TowerSizes sizes{.hidden = 8, .inner = 12, .classes = 6, .layers = 2};
  const auto program = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    return one_step(tower, batch(mesh, rows, Dtype::f32, 0, 8));
  };
  const Training want = unsharded(program, sizes, Dtype::f32);
  run_ranks({.ranks = 3}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 3}});
    Tower tower(sizes, mesh, Dtype::f32);
    shard(tower, "dp", {.param_dtype = Dtype::bf16, .reduce_dtype = Dtype::f32});
    tower.materialize();
    Dtype weight = Dtype::f32, activation = Dtype::f32;
    tower.layers[1].mlp.up.add_hooks({.input = [&](nn::ModuleBase&, const DTensor& t) {
      activation = t.dtype();
      weight = tower.layers[1].mlp.up.weight.get().dtype();
      return t;
    }});
    const Training got = program(tower, mesh, {Shard(0)});
    CHECK(activation == Dtype::bf16);
    CHECK(weight == Dtype::bf16);
    for (const nn::Parameter& p : tower.parameters()) {
      CHECK(p.value().dtype() == Dtype::f32);
      CHECK(p.grad().dtype() == Dtype::f32);
    }
    check_same(got, want, 0.02);
    CHECK(deviation(got.losses, want.losses) > 0);
  });
}

TEST_CASE("three micro-batches without synchronisation equal one big batch and reduce once") {
  const auto big = [](Tower& tower, const DeviceMesh& mesh, const Placements&) {
    const DTensor loss = sum(square(tower(waves({12, 5}, mesh, {}, Dtype::f64))));
    loss.backward();
    return result_of(tower, {loss.item()});
  };
  const Training want = unsharded(big);
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    for (const bool reshard : {true, false}) {
      Tower tower({}, mesh, Dtype::f64);
      std::vector<FullyShard> units = shard(tower, "dp", {.reshard_after_forward = reshard});
      tower.materialize();
      const DTensor all = waves({12, 5}, mesh, {}, Dtype::f64);
      double total = 0;
      for (int i = 0; i < 3; ++i) {
        for (FullyShard& u : units) u.set_gradient_sync(i == 2);
        const DTensor loss = sum(square(tower(slice(all, 0, 4 * i, 4 * i + 4).redistribute({Shard(0)}))));
        const CommCounter comm;
        loss.backward();
        INFO("micro-batch " << i << ": " << to_string(comm));
        CHECK((comm.launches("reduce_scatter") > 0) == (i == 2));
        CHECK(comm.launches("all_reduce") == 0);
        if (i < 2) CHECK(!tower.head.weight.grad());
        total += loss.item();
      }
      check_same(result_of(tower, {total}), want, 1e-12);
    }
  });
}

TEST_CASE("eight layers on four ranks keep less than half of the unsharded memory, at the peak too") {
  struct Figures {
    std::int64_t after = 0, peak = 0;
  };
  const auto measure = [](Tower& tower, const DTensor& x) {
    const std::int64_t before = memory_stats().current;
    std::int64_t owned = 0;
    for (const nn::Parameter& p : tower.parameters()) owned += p.value().local().bytes();
    reset_peak_memory();
    const DTensor loss = loss_of(tower, x);
    const std::int64_t after = memory_stats().current - before + owned;
    const std::int64_t forward_peak = memory_stats().peak - before + owned;
    loss.backward();
    // Gradients of all parameters belong to the peak of a step.
    return std::pair(Figures{after, forward_peak}, memory_stats().peak - before + owned);
  };
  const TowerSizes sizes{.hidden = 64, .inner = 256, .classes = 8, .layers = 8};
  std::pair<Figures, std::int64_t> whole_model;
  run_ranks({.ranks = 1}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 1}});
    Tower tower(sizes, mesh, Dtype::f32);
    tower.materialize();
    whole_model = measure(tower, waves({4, 64}, mesh, {}));
  });
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 4}});
    Tower tower(sizes, mesh, Dtype::f32);
    shard(tower, "dp");
    tower.materialize();
    const auto [forward, step_peak] = measure(tower, waves({4, 64}, mesh, {Shard(0)}));
    MESSAGE("bytes on rank " << world.rank() << " of 4: after forward " << forward.after << ", peak of forward " << forward.peak << ", of the step "
                             << step_peak << "; unsharded " << whole_model.first.after << ", " << whole_model.first.peak << ", "
                             << whole_model.second);
    CHECK(forward.after * 2 < whole_model.first.after);
    CHECK(forward.peak * 10 < whole_model.first.peak * 7);
    // A rank that is ahead keeps the gradients of a layer until the others have read them: an eighth of the parameters beyond the usual 54 %.
    CHECK(step_peak * 10 < whole_model.second * 7);
  });
}

TEST_CASE("two data axes share the parameters: {dp, cp} as one group") {
  const Training want = unsharded(kOneStep);
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"cp", 2}});
    Tower tower({}, mesh, Dtype::f64);
    shard(tower, {"dp", "cp"});
    tower.materialize();
    CHECK(to_string(tower.head.weight.placements()) == "{dp: S(0), cp: S(0)}");
    check_same(one_step(tower, batch(mesh, {{"dp", Shard(0)}, {"cp", Shard(0)}}, Dtype::f64, 0)), want, 1e-12);
  });
}

TEST_CASE("shards within one axis and replicas over another reduce over both") {
  const Training want = unsharded(kOneStep);
  run_ranks({.ranks = 4}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"replica", 2}, {"shard", 2}});
    Tower tower({}, mesh, Dtype::f64);
    shard(tower, "shard");
    tower.materialize();
    check_same(one_step(tower, batch(mesh, {{"replica", Shard(0)}, {"shard", Shard(0)}}, Dtype::f64, 0)), want, 1e-12);
  });
}

TEST_CASE("tensor parallel units on 2x2 and 2x3 equal the unsharded block") {
  for (const int tp : {2, 3}) {
    for (const bool sequence : {false, true}) {
      for (const bool reshard : {true, false}) {
        INFO("tp " << tp << ", sequence " << sequence << ", reshard " << reshard);
        const AttentionSizes sizes{.heads = 4, .kv_heads = 2};
        const Outcome want = alone([&](const DeviceMesh& mesh) {
          Block block(6, 10, sizes, mesh, {.bias = true, .dtype = Dtype::f64});
          block.materialize();
          return outcome(block, waves({3, 5, 6}, mesh, {}, Dtype::f64));
        });
        run_ranks({.ranks = 2 * tp}, [&](World& world) {
          using namespace parallel;
          const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", tp}});
          Block block(6, 10, sizes, mesh, {.bias = true, .dtype = Dtype::f64});
          const StyleOptions out = sequence ? StyleOptions{.output = Shard(1)} : StyleOptions{};
          parallelize_module(block, "tp",
                             {{"attn.[qkv]_proj", colwise()}, {"mlp.up_proj", colwise()}, {"*.o_proj", rowwise(out)}, {"*.down_proj", rowwise(out)}});
          if (sequence) parallelize_module(block, "tp", {{"norm?", sequence_parallel({.output = Replicate()})}});
          fully_shard(block.attention, "dp", {.reshard_after_forward = reshard});
          fully_shard(block, "dp", {.reshard_after_forward = reshard});
          block.materialize();
          CHECK(to_string(block.mlp.up.weight.placements()) == "{tp: S(0), dp: S(0)}");
          CHECK(to_string(block.mlp.down.weight.placements()) == "{dp: S(0), tp: S(1)}");
          Placements in{{"dp", Shard(0)}};
          if (sequence) in = Placements{{"dp", Shard(0)}, {"tp", Shard(1)}};
          check_same(outcome(block, waves({3, 5, 6}, mesh, in, Dtype::f64)), want, 1e-12);
        });
      }
    }
  }
}

TEST_CASE("a training step on dp x tp with a split sequence inserts no implicit move, in bf16 too") {
  run_ranks({.ranks = 4}, [](World& world) {
    using namespace parallel;
    const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
    for (const bool mixed : {false, true}) {
      Block block(8, 16, {.heads = 4, .kv_heads = 2}, mesh, {});
      parallelize_module(block, "tp",
                         {{"attn.[qkv]_proj", colwise()},
                          {"mlp.up_proj", colwise()},
                          {"*.o_proj", rowwise({.output = Shard(1)})},
                          {"*.down_proj", rowwise({.output = Shard(1)})},
                          {"norm?", sequence_parallel({.output = Replicate()})}});
      fully_shard(block, "dp", mixed ? FullyShardOptions{.param_dtype = Dtype::bf16, .reduce_dtype = Dtype::f32} : FullyShardOptions{});
      block.materialize();
      optim::AdamW optimizer(block.named_parameters(), {.lr = 0.01});
      const DTensor x = waves({4, 6, 8}, mesh, {{"dp", Shard(0)}, {"tp", Shard(1)}});
      const RefuseImplicit planned;
      double first = 0, last = 0;
      for (int step = 0; step < 5; ++step) {
        const DTensor loss = mean(square(block(x)));
        loss.backward();
        optim::clip_grad_norm_(block.parameters(), 1.0);
        optimizer.step();
        optimizer.zero_grad();
        last = loss.item();
        if (step == 0) first = last;
      }
      CHECK(last < first);
    }
  });
}

TEST_CASE("checkpointed layers inside units give the same gradients") {
  for (const int ranks : {1, 3})
    for (const bool reshard : {true, false})
      for (const int prefetch : {0, 1})
        check_program(ranks, kOneStep, {.reshard_after_forward = reshard, .prefetch = prefetch}, {.checkpointed = true});
}

TEST_CASE("a frozen parameter gets no gradient and the others theirs") {
  const auto program = [](Tower& tower, const DeviceMesh& mesh, const Placements& rows) {
    tower.layers[1].mlp.up.weight.value().set_requires_grad(false);
    const DTensor loss = loss_of(tower, batch(mesh, rows, Dtype::f64, 0));
    loss.backward();
    CHECK(!tower.layers[1].mlp.up.weight.grad());
    Training t{{loss.item()}, {}};
    for (const nn::NamedParameter& p : tower.named_parameters())
      if (p.name != "layers.1.mlp.up_proj.weight") t.grads[p.name] = whole(p.parameter.grad());
    return t;
  };
  check_program(2, program);
}

TEST_CASE("a unit is made once") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    Tower tower({}, mesh, Dtype::f32);
    shard(tower, "dp");
    CHECK(contains(error_of([&] { fully_shard(tower.layers[0], "dp"); }), "fully_shard: the module is a unit already"));
    CHECK(contains(error_of([&] { fully_shard(tower, "dp"); }), "fully_shard: the module is a unit already"));
  });
}

TEST_CASE("a unit is gathered in one launch for forward and one for backward, none of them without reshard_after_forward, and reduced in one") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    const RefuseImplicit planned;
    for (const bool reshard : {true, false}) {
      Tower tower({}, mesh, Dtype::f64);
      const auto units = static_cast<std::int64_t>(shard(tower, "dp", {.reshard_after_forward = reshard}).size());
      tower.materialize();
      std::int64_t others = 0;  // bytes of the parameters that this rank does not have
      for (const nn::Parameter& p : tower.parameters()) others += p.shape().numel() * 8 - p.value().local().bytes();
      const auto gathered = [](const CommCounter& comm) {
        const auto at = std::find_if(comm.counts().begin(), comm.counts().end(), [](const CommCount& c) { return c.kind == "all_gather"; });
        return at == comm.counts().end() ? 0 : at->bytes_received;
      };
      const DTensor x = batch(mesh, {Shard(0)}, Dtype::f64, 0);
      const DTensor y = tower(x);
      for (int step = 0; step < 2; ++step) {
        const CommCounter forward;
        const DTensor out = tower(x);
        // The graph before has the same copies, which stay gathered without resharding.
        CHECK(forward.launches("all_gather") == (reshard || step > 0 ? units : 0));
        CHECK(gathered(forward) == (reshard || step > 0 ? others : 0));
        const CommCounter backward;
        mean(square(out)).backward();
        CHECK(backward.launches("all_gather") == (reshard ? units : 0));
        CHECK(gathered(backward) == (reshard ? others : 0));
        CHECK(backward.launches("reduce_scatter") == units);
      }
    }
  });
}

TEST_CASE("one rank communicates nothing and holds no second copy of its parameters") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 1}});
    const TowerSizes sizes{.hidden = 64, .inner = 256, .classes = 8, .layers = 4};
    Tower tower(sizes, mesh, Dtype::f32);
    shard(tower, "dp");
    tower.materialize();
    std::int64_t owned = 0;
    for (const nn::Parameter& p : tower.parameters()) owned += p.value().local().bytes();
    optim::SGD optimizer(tower.named_parameters(), {.lr = 0.01});
    const DTensor x = waves({2, 64}, mesh, {Shard(0)});
    const CommCounter comm;
    for (int step = 0; step < 2; ++step) {
      optimizer.zero_grad();
      reset_peak_memory();
      const std::int64_t before = memory_stats().current;
      loss_of(tower, x).backward();
      optimizer.step();
      // Gradients, and what is on its way; a copy of the parameters would be another `owned`.
      CHECK(memory_stats().peak - before < owned + owned / 2);
      CHECK(memory_stats().current - before <= owned);
    }
    CHECK(comm.launches() == 0);
  });
}

TEST_CASE("sharding a module that has its values already changes none of them") {
  const Training want = unsharded(kOneStep);
  run_ranks({.ranks = 3}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 3}});
    Tower tower({}, mesh, Dtype::f64);
    tower.materialize();
    shard(tower, "dp");
    CHECK(tower.head.weight.placements()["dp"] == Placement(Shard(0)));
    check_same(one_step(tower, batch(mesh, {Shard(0)}, Dtype::f64, 0)), want, 1e-12);
  });
}

TEST_CASE("outside its unit's forward and backward a parameter is the sharded one, and forward called directly gives the same gradients") {
  const Training want = unsharded(kOneStep);
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    Tower tower({}, mesh, Dtype::f64);
    std::vector<FullyShard> units = shard(tower, "dp");
    tower.materialize();
    const DTensor x = batch(mesh, {Shard(0)}, Dtype::f64, 0);
    const auto gathered = [&] {
      int n = 0;
      for (const nn::Parameter& p : tower.parameters()) n += p.get().placements()["dp"].is_replicate() ? 1 : 0;
      return n;
    };
    check_same(one_step(tower, x), want, 1e-12);
    CHECK(gathered() == 0);
    tower.zero_grad();
    const DTensor direct = mean(square(tower.forward(x)));
    direct.backward();
    check_same(result_of(tower, {direct.item()}), want, 1e-12);
    CHECK(gathered() == 0);
    for (FullyShard& u : units) u.unshard();
    CHECK(gathered() == static_cast<int>(tower.parameters().size()));
    for (FullyShard& u : units) u.reshard();
    CHECK(gathered() == 0);
    tower.zero_grad();
    check_same(one_step(tower, x), want, 1e-12);
  });
}

TEST_CASE("an error in the middle of forward or backward leaves units that work") {
  const Training want = unsharded(kOneStep);
  run_ranks({.ranks = 2}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"dp", 2}});
    for (const bool in_backward : {false, true}) {
      Tower tower({}, mesh, Dtype::f64);
      shard(tower, "dp");
      tower.materialize();
      bool fail = true;
      tower.layers[1].mlp.add_hooks({.output = [&, in_backward](nn::ModuleBase&, const DTensor& t) {
        if (fail && !in_backward) throw InvalidArgument("stop here");
        if (fail) t.add_hook([](const DTensor&) -> DTensor { throw InvalidArgument("stop here"); });
        return t;
      }});
      const DTensor x = batch(mesh, {Shard(0)}, Dtype::f64, 0);
      CHECK(error_of([&] { one_step(tower, x); }) == "stop here");
      fail = false;
      tower.zero_grad();
      check_same(one_step(tower, x), want, 1e-12);
    }
  });
}

TEST_CASE("a unit inside a unit that has taken its parameters is refused") {
  run_ranks({.ranks = 2}, [](World& world) {
    Tower tower({}, world.mesh({{"dp", 2}}), Dtype::f32);
    fully_shard(tower, "dp");
    CHECK(error_of([&] { fully_shard(tower.layers[0], "dp"); }) ==
          "fully_shard: the module's parameters (norm.weight, ...) belong to a unit around it; make units of inner modules first");
  });
}
