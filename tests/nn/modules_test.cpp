// SPDX-License-Identifier: Apache-2.0
// Modules: names, tied parameters, the meta device, equal values on every mesh, the order of hooks.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

using Numbers = std::vector<double>;
using Names = std::vector<std::string>;

Numbers whole(const DTensor& t) {
  REQUIRE(t);
  const Tensor local = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
std::string error_of(const auto& f) {
  try {
    f();
  } catch (const InvalidArgument& e) { return e.what(); }
  return "nothing thrown";
}

struct Layer : nn::Module<Layer> {
  explicit Layer(const DeviceMesh& mesh) : norm(6, mesh), inner(6, 5, mesh, {.bias = true}), outer(5, 6, mesh) {}
  void fields(nn::Fields& f) override { f("norm", norm)("mlp.inner", inner)("mlp.outer", outer); }
  DTensor forward(const DTensor& x) { return x + outer(relu(inner(norm(x)))); }
  nn::LayerNorm norm;
  nn::Linear inner, outer;
};
struct Model : nn::Module<Model> {
  explicit Model(const DeviceMesh& mesh, bool tied = true) : scale({6}, mesh, nn::Init::normal(1, 0.5)), tokens(9, 6, mesh), head(6, 9, mesh) {
    for (int i = 0; i < 2; ++i) layers.emplace_back(mesh);
    if (tied) head.weight = tokens.weight;
  }
  void fields(nn::Fields& f) override { f("scale", scale)("tokens", tokens)("layers", layers)("head", head); }
  DTensor forward(const DTensor& index) {
    DTensor x = tokens(index) * scale;
    for (std::size_t i = 0; i < layers.size(); ++i) x = layers[i](x);
    return head(x);
  }
  nn::Parameter scale;
  nn::Embedding tokens;
  nn::ModuleList<Layer> layers;
  nn::Linear head;
};

std::map<std::string, Numbers> values(Model& model) {
  std::map<std::string, Numbers> v;
  for (const nn::NamedParameter& p : model.named_parameters()) v[p.name] = whole(p.parameter.value());
  return v;
}

}  // namespace

TEST_CASE("a module may be gone before backward: its hooks are not called, its parameters get their gradients") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    int calls = 0;
    DTensor y, weight;
    {
      nn::Linear gone(3, 2, mesh);
      gone.materialize();
      gone.add_hooks({.before_backward = [&](nn::ModuleBase&) { ++calls; }, .after_backward = [&](nn::ModuleBase&) { ++calls; }});
      y = gone(ones({4, 3}, mesh, {}, {.requires_grad = true}));
      weight = gone.weight.value();
    }
    sum(y).backward();
    CHECK(calls == 0);
    CHECK(whole(weight.grad()) == Numbers(6, 4.0));
  });
}

TEST_CASE("parameters and modules are named by their path in the order of fields(), a tied parameter once") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    Model model(mesh);
    Names parameters, modules;
    for (const nn::NamedParameter& p : model.named_parameters()) parameters.push_back(p.name);
    for (const nn::NamedModule& m : model.named_modules()) modules.push_back(m.name);
    CHECK(parameters == Names{"scale", "tokens.weight", "layers.0.norm.weight", "layers.0.norm.bias", "layers.0.mlp.inner.weight",
                              "layers.0.mlp.inner.bias", "layers.0.mlp.outer.weight", "layers.1.norm.weight", "layers.1.norm.bias",
                              "layers.1.mlp.inner.weight", "layers.1.mlp.inner.bias", "layers.1.mlp.outer.weight"});
    CHECK(modules == Names{"", "tokens", "layers", "layers.0", "layers.0.norm", "layers.0.mlp.inner", "layers.0.mlp.outer", "layers.1",
                           "layers.1.norm", "layers.1.mlp.inner", "layers.1.mlp.outer", "head"});
    CHECK(model.parameters().size() == parameters.size());
    CHECK(Model(mesh, false).named_parameters().back().name == "head.weight");
  });
}

TEST_CASE("a parameter has no memory until materialize, and using it before is an error") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const std::int64_t before = memory_stats().current;
    Model model(mesh);
    nn::Linear linear(6, 4, mesh);
    CHECK(memory_stats().current == before);
    CHECK(linear.weight.value().device().kind == DeviceKind::meta);
    const DTensor x = ones({2, 6}, mesh);
    CHECK(error_of([&] { linear(x); }) == "parameter: f32[4, 6]{x: R} is on the meta device; call materialize() or load_checkpoint() before forward");
    parallel::place(linear.weight, "x", Shard(0));
    CHECK(to_string(linear.weight.value()) == "f32[4, 6]{x: S(0)}");
    linear.materialize();
    CHECK(linear.weight.value().local().shape() == Shape{2, 6});
    CHECK(linear(x).shape() == Shape{2, 4});
    CHECK(error_of([&] { linear.weight.set(x); }) == "parameter: shapes differ (new value f32[2, 6]{x: R}, parameter f32[4, 6]{x: S(0)})");
  });
}

TEST_CASE("materialize gives the same values on every mesh and placement, and other values for another seed") {
  std::map<std::string, Numbers> want, other;
  run_ranks({.ranks = 1}, [&](World& world) {
    Model model(world.mesh({{"x", 1}}), false);
    model.materialize();
    want = values(model);
    manual_seed(7);
    Model second(world.mesh({{"x", 1}}), false);
    second.materialize();
    other = values(second);
  });
  CHECK(want.at("layers.0.mlp.inner.weight") != want.at("layers.1.mlp.inner.weight"));
  CHECK(want.at("scale") != other.at("scale"));
  CHECK(want.at("layers.0.norm.weight") == Numbers(6, 1));
  CHECK(want.at("layers.0.norm.bias") == Numbers(6, 0));
  for (const double w : want.at("layers.0.mlp.inner.weight")) CHECK(std::abs(w) <= 1 / std::sqrt(6.0));
  for (const int ranks : {1, 2, 3, 4}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const bool square = ranks == 4;
      const DeviceMesh mesh = square ? world.mesh({{"dp", 2}, {"tp", 2}}) : world.mesh({{"tp", ranks}});
      for (const int how : {0, 1, 2}) {
        INFO(ranks << " ranks, way " << how);
        Model model(mesh, false);
        // Numbers that were drawn before change nothing.
        if (how == 1) rand({3}, mesh);
        if (how >= 1)
          parallel::parallelize_module(model, "tp",
                                       {{"tokens", parallel::rowwise()}, {"*.inner", parallel::colwise()}, {"*.outer", parallel::rowwise()}});
        if (how == 2 && square) parallel::fully_shard(model, "dp");
        model.materialize();
        CHECK(values(model) == want);
      }
    });
  }
}

TEST_CASE("hooks run in the order in which they were added, around forward and around backward") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    Layer layer(mesh);
    layer.materialize();
    Names events;
    for (const std::string name : {"a", "b"}) {
      layer.add_hooks({.before_forward = [&events, name](nn::ModuleBase&) { events.push_back(name + " before_forward"); },
                       .input =
                           [&events, name](nn::ModuleBase&, const DTensor& t) {
                             events.push_back(name + " input");
                             return t;
                           },
                       .output =
                           [&events, name](nn::ModuleBase&, const DTensor& t) {
                             events.push_back(name + " output");
                             return t;
                           },
                       .after_forward = [&events, name](nn::ModuleBase&) { events.push_back(name + " after_forward"); },
                       .before_backward = [&events, name](nn::ModuleBase&) { events.push_back(name + " before_backward"); },
                       .after_backward = [&events, name](nn::ModuleBase&) { events.push_back(name + " after_backward"); }});
    }
    layer.inner.add_hooks({.before_forward = [&](nn::ModuleBase&) { events.push_back("inner"); },
                           .before_backward = [&](nn::ModuleBase&) { events.push_back("inner backward"); }});
    const DTensor x = ones({2, 6}, mesh).set_requires_grad();
    // The same input goes on beside the module: its gradient from there does not end the module's backward early.
    const DTensor y = x + layer(x);
    CHECK(events ==
          Names{"a before_forward", "b before_forward", "a input", "b input", "inner", "a output", "b output", "a after_forward", "b after_forward"});
    events.clear();
    sum(y).backward();
    CHECK(events == Names{"a before_backward", "b before_backward", "inner backward", "a after_backward", "b after_backward"});
    events.clear();
    {
      const NoGrad off;
      layer(x);
    }
    CHECK(events.size() == 9);
  });
}

TEST_CASE("input and output hooks replace what forward sees and what the caller sees, with gradients") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    nn::Linear linear(3, 1, mesh);
    linear.weight.set(full({1, 3}, 2.0, mesh));
    linear.add_hooks(
        {.input = [](nn::ModuleBase&, const DTensor& t) { return t * 3.0; }, .output = [](nn::ModuleBase&, const DTensor& t) { return t + 1.0; }});
    linear.add_hooks(
        {.input = [](nn::ModuleBase&, const DTensor& t) { return t + 1.0; }, .output = [](nn::ModuleBase&, const DTensor& t) { return t * 10.0; }});
    const DTensor x = ones({1, 3}, mesh).set_requires_grad();
    const DTensor y = linear(x);
    CHECK(whole(y) == Numbers{(3 * 4 * 2 + 1) * 10});
    sum(y).backward();
    CHECK(whole(x.grad()) == Numbers(3, 60));
    CHECK(whole(linear.weight.grad()) == Numbers(3, 40));
  });
}

TEST_CASE("Dropout acts in training and not after eval(), with the same numbers on every mesh") {
  struct Net : nn::Module<Net> {
    void fields(nn::Fields& f) override { f("drop", drop); }
    DTensor forward(const DTensor& x) { return drop(x); }
    nn::Dropout drop{0.4};
  };
  Numbers want;
  for (const int ranks : {1, 2, 3}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", ranks}});
      Net net;
      const DTensor x = ones({10, 7}, mesh, {Shard(0)});
      const Numbers got = whole(net(x)), next = whole(net(x));
      if (ranks == 1) want = got;
      CHECK(got == want);
      CHECK(next != got);
      int zeros = 0;
      for (const double v : got) {
        zeros += v == 0 ? 1 : 0;
        if (v != 0) CHECK(v == doctest::Approx(1 / 0.6).epsilon(1e-6));
      }
      CHECK(zeros > 10);
      CHECK(zeros < 50);
      net.eval();
      CHECK(!net.drop.is_training());
      CHECK(whole(net(x)) == Numbers(70, 1));
      net.train();
      CHECK(whole(net(x)) != Numbers(70, 1));
    });
  }
}

TEST_CASE("a tied parameter gets the gradients of both its uses, and zero_grad takes it away") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    Model tied(mesh), apart(mesh, false);
    tied.materialize();
    apart.materialize();
    apart.head.weight.set(tied.head.weight.value().detach().redistribute({}));
    const DTensor index = distribute(Tensor::of(std::vector<std::int64_t>{8, 0, 3, 3}, {4}), mesh, {Shard(0)}, {.source = Source::every_rank});
    sum(square(tied(index))).backward();
    sum(square(apart(index))).backward();
    const Numbers both = whole(tied.tokens.weight.grad()), rows = whole(apart.tokens.weight.grad()), head = whole(apart.head.weight.grad());
    for (std::size_t i = 0; i < both.size(); ++i) CHECK(both[i] == doctest::Approx(rows[i] + head[i]).epsilon(1e-4));
    tied.zero_grad();
    for (const nn::Parameter& p : tied.parameters()) CHECK(!p.grad());
  });
}

TEST_CASE("a checkpointed region gives the gradients of the plain one, dropout and the input's other uses included") {
  for (const int ranks : {1, 2}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", ranks}});
      Layer layer(mesh);
      layer.materialize();
      const auto run = [&](bool checkpointed) {
        manual_seed(3);
        layer.zero_grad();
        const DTensor x = ones({4, 6}, mesh, {Shard(0)}).set_requires_grad();
        const std::vector<DTensor> in{x * arange(6, mesh).to(Dtype::f32)};
        const CheckpointFunction region = [&](std::span<const DTensor> t) { return layer(dropout(t[0], 0.3)); };
        const DTensor y = checkpointed ? checkpoint(region, in) : region(in);
        sum(square(y) + in[0] + dropout(y, 0.5)).backward();
        Numbers all = whole(y);
        for (const DTensor& g : {x.grad(), layer.inner.weight.grad(), layer.norm.bias.grad()})
          for (const double v : whole(g)) all.push_back(v);
        all.push_back(static_cast<double>(default_generator().calls()));
        return all;
      };
      CHECK(run(true) == run(false));
    });
  }
}
