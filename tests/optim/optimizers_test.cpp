// SPDX-License-Identifier: Apache-2.0
// Optimisers against loops over doubles, gradient clipping over sharded gradients, learning rates.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

using Numbers = std::vector<double>;
constexpr std::int64_t kRows = 5, kColumns = 3;
constexpr std::size_t kCount = kRows * kColumns;

double value_of(std::size_t i) { return std::sin(1.3 * static_cast<double>(i) + 0.2); }
double grad_of(std::size_t i, int step) { return std::cos(0.7 * static_cast<double>(i) + 1.1 * step); }
DTensor filled(const DeviceMesh& mesh, const Placements& placements, const Shape& shape, const auto& element) {
  std::vector<double> v(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = element(i);
  return distribute(Tensor::of(v, shape), mesh, placements, {.source = Source::every_rank});
}
nn::NamedParameter parameter(const std::string& name, const DeviceMesh& mesh, const Placements& placements, const Shape& shape = {kRows, kColumns}) {
  nn::Parameter p(shape, mesh, {}, Dtype::f64);
  p.place(placements);
  p.set(filled(mesh, placements, shape, value_of));
  return {name, p};
}
Numbers whole(const DTensor& t) {
  const Tensor local = t.detach().full_tensor().local().to(Dtype::f64);
  const auto v = local.values<const double>();
  return {v.begin(), v.end()};
}
bool close(const Numbers& a, const Numbers& b, double tolerance = 1e-12) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= tolerance)) return false;
  return true;
}

// Steps 1..count of `optimizer` on one parameter with the given placements, with a rate that changes.
double rate(int step) { return 0.1 / step; }
template <class O>
Numbers steps(O& optimizer, const nn::NamedParameter& p, int count) {
  for (int step = 1; step <= count; ++step) {
    optimizer.set_lr(rate(step));
    p.parameter.value().set_grad(
        filled(p.parameter.mesh(), p.parameter.placements(), {kRows, kColumns}, [&](std::size_t i) { return grad_of(i, step); }));
    optimizer.step();
  }
  return whole(p.parameter.value());
}

Numbers sgd(double momentum, double dampening, double decay, bool nesterov, int count) {
  Numbers x(kCount), buffer(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    x[i] = value_of(i);
    for (int step = 1; step <= count; ++step) {
      double g = grad_of(i, step) + decay * x[i];
      if (momentum != 0) {
        buffer[i] = step == 1 ? g : momentum * buffer[i] + (1 - dampening) * g;
        g = nesterov ? g + momentum * buffer[i] : buffer[i];
      }
      x[i] -= rate(step) * g;
    }
  }
  return x;
}
Numbers adam(double decay, bool decoupled, int count) {
  const double b1 = 0.8, b2 = 0.95, eps = 1e-6;
  Numbers x(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    x[i] = value_of(i);
    double m = 0, v = 0;
    for (int step = 1; step <= count; ++step) {
      const double lr = rate(step);
      double g = grad_of(i, step);
      if (decoupled) x[i] -= lr * decay * x[i];
      else g += decay * x[i];
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      x[i] -= lr * (m / (1 - std::pow(b1, step))) / (std::sqrt(v / (1 - std::pow(b2, step))) + eps);
    }
  }
  return x;
}

template <class F>
void on_meshes(const F& body) {
  for (const int ranks : {1, 2, 3}) {
    run_ranks({.ranks = ranks}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", ranks}});
      for (const Placements& p : {Placements({Shard(0)}), Placements({Shard(1)}), Placements({Replicate()})}) {
        INFO(ranks << " ranks, " << to_string(p));
        body(mesh, p);
      }
    });
  }
}
std::string error_of(const auto& f) {
  try {
    f();
  } catch (const InvalidArgument& e) { return e.what(); }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("SGD follows the loop with momentum, dampening, decay and Nesterov's form, wherever the parameter lies") {
  struct Form {
    double momentum, dampening, decay;
    bool nesterov;
  };
  on_meshes([](const DeviceMesh& mesh, const Placements& placements) {
    for (const Form& f :
         {Form{0, 0, 0, false}, Form{0, 0, 0.1, false}, Form{0.9, 0, 0, false}, Form{0.9, 0.3, 0.1, false}, Form{0.9, 0, 0.1, true}}) {
      const nn::NamedParameter p = parameter("w", mesh, placements);
      optim::SGD optimizer({p}, {.lr = 1, .momentum = f.momentum, .dampening = f.dampening, .weight_decay = f.decay, .nesterov = f.nesterov});
      CHECK(close(steps(optimizer, p, 5), sgd(f.momentum, f.dampening, f.decay, f.nesterov, 5)));
    }
  });
}

TEST_CASE("Adam and AdamW follow their loops over several steps, wherever the parameter lies") {
  on_meshes([](const DeviceMesh& mesh, const Placements& placements) {
    for (const double decay : {0.0, 0.1}) {
      const nn::NamedParameter a = parameter("a", mesh, placements), w = parameter("w", mesh, placements);
      optim::Adam adam_optimizer({a}, {.betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = decay});
      CHECK(close(steps(adam_optimizer, a, 6), adam(decay, false, 6)));
      optim::AdamW adamw_optimizer({w}, {.betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = decay});
      CHECK(close(steps(adamw_optimizer, w, 6), adam(decay, true, 6)));
      CHECK(adamw_optimizer.steps() == 6);
    }
  });
}

TEST_CASE("a gradient in other placements than its parameter's gives the same step and leaves the parameter where it lies") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    for (const Placements& g : {Placements({Replicate()}), Placements({Shard(1)}), Placements({Partial()})}) {
      INFO(to_string(g));
      const nn::NamedParameter p = parameter("w", mesh, {Shard(0)});
      optim::AdamW optimizer({p}, {.lr = rate(1), .betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1});
      p.parameter.value().set_grad(filled(mesh, g, {kRows, kColumns}, [](std::size_t i) { return grad_of(i, 1); }));
      optimizer.step();
      CHECK(to_string(p.parameter.value()) == "f64[5, 3]{x: S(0)}");
      CHECK(close(whole(p.parameter.value()), adam(0.1, true, 1)));
    }
  });
}

TEST_CASE("state is named by its parameter, zero from construction, and lies as the parameter does") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    nn::Parameter late({kRows}, mesh, nn::Init::constant(1), Dtype::f64);
    optim::AdamW optimizer({parameter("a", mesh, {Shard(1)}), parameter("b", mesh, {}), {"late", late}});
    std::vector<std::string> names;
    for (const optim::StateTensor& s : optimizer.state()) {
      names.push_back(s.name);
      if (s.name != "exp_avg.late" && s.name != "exp_avg_sq.late") CHECK(close(whole(s.get()), Numbers(kCount, 0)));
      else CHECK(s.get().shape() == Shape{kRows});
    }
    CHECK(names == std::vector<std::string>{"exp_avg.a", "exp_avg_sq.a", "exp_avg.b", "exp_avg_sq.b", "exp_avg.late", "exp_avg_sq.late"});
    CHECK(to_string(optimizer.state()[1].get()) == "f64[5, 3]{x: S(1)}");
    CHECK(to_string(optimizer.state()[2].get()) == "f64[5, 3]{x: R}");
    // State that was looked at before its parameter had memory is there when it has.
    late.materialize("late");
    late.value().set_grad(filled(mesh, {}, {kRows}, value_of));
    optimizer.step();
    for (const double m : whole(optimizer.state()[4].get())) CHECK(m != 0);
    optim::SGD plain({parameter("a", mesh, {})}), heavy({parameter("a", mesh, {})}, {.momentum = 0.9});
    CHECK(plain.state().empty());
    CHECK(heavy.state().at(0).name == "momentum_buffer.a");
  });
}

TEST_CASE("a rate that changes every step costs no plan") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const nn::NamedParameter a = parameter("a", mesh, {Shard(0)}), s = parameter("s", mesh, {Shard(0)});
    optim::AdamW adamw({a});
    optim::SGD sgd_optimizer({s}, {.momentum = 0.9});
    const DTensor g = filled(mesh, {Shard(0)}, {kRows, kColumns}, value_of);
    a.parameter.value().set_grad(g);
    s.parameter.value().set_grad(g);
    for (int warm = 0; warm < 2; ++warm) {
      adamw.step();
      sgd_optimizer.step();
    }
    const PlanCacheStats before = plan_cache_stats();
    for (int step = 0; step < 5; ++step) {
      adamw.set_lr(rate(step + 1));
      sgd_optimizer.set_lr(rate(step + 1));
      adamw.step();
      sgd_optimizer.step();
    }
    CHECK(plan_cache_stats().misses == before.misses);
    CHECK(plan_cache_stats().hits >= before.hits + 10);
  });
}

TEST_CASE("the norm over split, replicated and Partial gradients is the unsharded one, in one reduction") {
  double square_sum = 0;
  for (std::size_t i = 0; i < kCount; ++i) square_sum += value_of(i) * value_of(i);
  for (const bool partial : {false, true}) {
    run_ranks({.ranks = 4}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
      std::vector<Placements> where{{Shard(0), Replicate()}, {Replicate(), Shard(1)}, {Shard(0), Shard(0)}, {Replicate(), Replicate()}};
      if (partial) where.insert(where.end(), {{Partial(), Shard(0)}, {Partial(), Partial()}});
      std::vector<nn::Parameter> parameters;
      for (const Placements& p : where) {
        parameters.push_back(parameter("w", mesh, {}).parameter);
        parameters.back().value().set_grad(filled(mesh, p, {kRows, kColumns}, value_of));
      }
      parameters.push_back(parameter("without gradient", mesh, {}).parameter);
      const double want = std::sqrt(square_sum * static_cast<double>(where.size()));
      const RefuseImplicit planned;
      const CommCounter comm;
      const DTensor norm = optim::clip_grad_norm_(parameters, 0.5);
      INFO(to_string(comm) << ", implicit " << comm.implicit_launches());
      // dp and tp are reduced in one redistribution of one number: an all_reduce per axis, or one over both.
      if (!partial) CHECK(comm.launches() <= 2);
      if (!partial) CHECK(comm.bytes_received() <= 64);
      CHECK(to_string(norm.placements()) == "{dp: R, tp: R}");
      CHECK(norm.item() == doctest::Approx(want).epsilon(1e-12));
      for (std::size_t k = 0; k < where.size(); ++k) {
        Numbers clipped = whole(parameters[k].grad());
        for (std::size_t i = 0; i < kCount; ++i) CHECK(clipped[i] == doctest::Approx(value_of(i) * 0.5 / (want + 1e-6)).epsilon(1e-12));
      }
    });
  }
}

TEST_CASE("gradients below the limit are left as they are, and none at all is an error") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const nn::Parameter p = parameter("w", mesh, {Shard(0)}).parameter;
    CHECK(error_of([&] { optim::clip_grad_norm_({p}, 1); }) == "clip_grad_norm_: no parameter has a gradient; call it after backward");
    p.value().set_grad(filled(mesh, {Shard(0)}, {kRows, kColumns}, value_of));
    const Numbers before = whole(p.grad());
    optim::clip_grad_norm_({p}, 1e6);
    CHECK(whole(p.grad()) == before);
  });
}

TEST_CASE("norms of order 0 and -infinity count the gradients that are not zero and take the least magnitude") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const std::vector<nn::Parameter> p{parameter("a", mesh, {Shard(0)}).parameter, parameter("b", mesh, {}).parameter,
                                       parameter("c", mesh, {Shard(1)}).parameter};
    const auto give = [&] {
      for (std::size_t k = 0; k < 3; ++k)
        p[k].value().set_grad(filled(mesh, p[k].placements(), {kRows, kColumns}, [k](std::size_t i) { return k == 2 ? 0.0 : i == 0 ? -0.5 : 3.0; }));
    };
    give();
    CHECK(optim::clip_grad_norm_(p, 1, 0).item() == 2);
    CHECK(whole(p[0].grad())[1] == doctest::Approx(1.5).epsilon(1e-6));
    give();
    CHECK(optim::clip_grad_norm_({p[0], p[1]}, 1, -std::numeric_limits<double>::infinity()).item() == 0.5);
    CHECK(error_of([&] { optim::clip_grad_norm_(p, 1, std::nan("")); }) == "clip_grad_norm_: norm_type is nan; give a number or an infinity");
  });
}

TEST_CASE("two parameters that got one and the same gradient are clipped once each") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const nn::Parameter a = parameter("a", mesh, {}).parameter, b = parameter("b", mesh, {}).parameter;
    const DTensor factor = filled(mesh, {}, {kRows, kColumns}, value_of);
    for (const bool constant : {false, true}) {
      const DTensor y = a.value() + b.value();
      (constant ? sum(y) : sum(y * factor)).backward();
      const Numbers before = whole(a.grad());
      const double norm = optim::clip_grad_norm_({a, b}, 0.5).item();
      Numbers want = before;
      for (double& g : want) g *= 0.5 / (norm + 1e-6);
      CHECK(close(whole(a.grad()), want));
      CHECK(close(whole(b.grad()), want));
      a.value().set_grad({});
      b.value().set_grad({});
    }
  });
}

TEST_CASE("a parameter without a gradient is left alone, and zero_grad takes gradients away") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const nn::NamedParameter a = parameter("a", mesh, {}), b = parameter("b", mesh, {});
    optim::AdamW optimizer({a, b}, {.lr = 0.1, .weight_decay = 0.5});
    a.parameter.value().set_grad(filled(mesh, {}, {kRows, kColumns}, value_of));
    const Numbers before = whole(b.parameter.value());
    optimizer.step();
    CHECK(whole(b.parameter.value()) == before);
    CHECK(whole(a.parameter.value()) != before);
    optimizer.zero_grad();
    CHECK(!a.parameter.grad());
  });
}

TEST_CASE("a momentum that starts late starts from its first gradient") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const nn::NamedParameter p = parameter("p", mesh, {});
    optim::SGD optimizer({p}, {.lr = 0.1, .momentum = 0.9, .dampening = 0.5});
    optimizer.step();
    p.parameter.value().set_grad(filled(mesh, {}, {kRows, kColumns}, value_of));
    optimizer.step();
    Numbers want(kCount);
    for (std::size_t i = 0; i < kCount; ++i) want[i] = value_of(i) * 0.9;
    CHECK(close(whole(p.parameter.value()), want));
  });
}

namespace {

template <class O, class Options>
void same_with_numbers_on_the_device(const Options& given) {
  on_meshes([&](const DeviceMesh& mesh, const Placements& placements) {
    std::vector<Numbers> results;
    for (const bool capturable : {false, true}) {
      Options options = given;
      options.capturable = capturable;
      const std::vector<nn::NamedParameter> list{parameter("a", mesh, placements), parameter("b", mesh, placements)};
      O optimizer(list, options);
      Numbers all;
      for (int step = 1; step <= 5; ++step) {
        const auto give = [&](std::size_t k, bool there) {
          const auto grad = [&](std::size_t i) { return grad_of(i + 100 * k, step); };
          list[k].parameter.value().set_grad(there ? filled(mesh, placements, {kRows, kColumns}, grad) : DTensor());
        };
        // a begins late and b pauses, so that their counts differ.
        give(0, step > 1);
        give(1, step != 3);
        optimizer.set_lr(rate(step));
        optimizer.step();
      }
      CHECK(optimizer.lr() == rate(5));
      CHECK(optimizer.steps() == (capturable ? 4 : 5));
      for (const nn::NamedParameter& p : list)
        for (const double x : whole(p.parameter.value())) all.push_back(x);
      results.push_back(all);
    }
    CHECK(results[0] == results[1]);
  });
}

}  // namespace

TEST_CASE("a capturable optimiser makes the same steps bit for bit, and counts them per parameter") {
  same_with_numbers_on_the_device<optim::AdamW>(optim::AdamWOptions{.betas = {0.8, 0.95}, .weight_decay = 0.1});
  same_with_numbers_on_the_device<optim::Adam>(optim::AdamOptions{.weight_decay = 0.1, .amsgrad = true});
  same_with_numbers_on_the_device<optim::SGD>(optim::SGDOptions{.weight_decay = 0.1});
  same_with_numbers_on_the_device<optim::SGD>(optim::SGDOptions{.momentum = 0.9, .dampening = 0.3});
}

TEST_CASE("state of a capturable optimiser and of one that is not take each other's place") {
  run_ranks({.ranks = 2}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}});
    const auto one_step = [&](optim::Optimizer& optimizer, const nn::NamedParameter& p, int step) {
      p.parameter.value().set_grad(filled(mesh, {Shard(0)}, {kRows, kColumns}, [&](std::size_t i) { return grad_of(i, step); }));
      optimizer.set_lr(rate(step));
      optimizer.step();
    };
    const optim::AdamWOptions base{.betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1};
    for (const bool from : {false, true})
      for (const bool used : {false, true}) {  // whether the other one has made steps before, which are forgotten
        optim::AdamWOptions first = base, second = base;
        first.capturable = from, second.capturable = !from;
        const nn::NamedParameter a = parameter("w", mesh, {Shard(0)}), b = parameter("w", mesh, {Shard(0)});
        optim::AdamW before({a}, first), after({b}, second);
        for (int step = 1; step <= 3; ++step) one_step(before, a, step);
        if (used) one_step(after, b, 1);
        b.parameter.set(clone(a.parameter.value().detach()));
        const auto source = before.state(), target = after.state();
        REQUIRE(source.size() == target.size());
        for (std::size_t k = 0; k < source.size(); ++k) {
          CHECK(source[k].name == target[k].name);
          target[k].set(clone(source[k].get()));
        }
        after.set_steps(before.steps());
        CHECK(after.steps() == 3);
        for (int step = 4; step <= 6; ++step) one_step(after, b, step);
        CHECK(after.steps() == 6);
        CHECK(close(whole(b.parameter.value()), adam(0.1, true, 6)));
      }
  });
}

TEST_CASE("parameters on parts of the ranks have their numbers there") {
  run_ranks({.ranks = 2}, [](World& world) {
    const int second[] = {1};
    const DeviceMesh all = world.mesh({{"x", 2}}), last = world.mesh({{"y", 1}}, second);
    const nn::NamedParameter a = parameter("a", all, {Shard(0)}), b = parameter("b", last, {});
    optim::AdamW optimizer({a, b}, {.betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1, .capturable = true});
    for (int step = 1; step <= 3; ++step) {
      optimizer.set_lr(rate(step));
      a.parameter.value().set_grad(filled(all, {Shard(0)}, {kRows, kColumns}, [&](std::size_t i) { return grad_of(i, step); }));
      b.parameter.value().set_grad(filled(last, {}, {kRows, kColumns}, [&](std::size_t i) { return grad_of(i, step); }));
      optimizer.step();
    }
    CHECK(optimizer.steps() == 3);
    CHECK(close(whole(a.parameter.value()), adam(0.1, true, 3)));
    if (world.rank() == 1) CHECK(close(whole(b.parameter.value()), adam(0.1, true, 3)));
  });
}

TEST_CASE("numbers of a step as tensors must be single f64 or f32 numbers") {
  run_ranks({.ranks = 1}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    const DTensor p = filled(mesh, {}, {3}, value_of), g = filled(mesh, {}, {3}, value_of);
    CHECK(error_of([&] { sgd_step_(p, g, {}, {}, {.lr = zeros({1}, mesh), .step = {}}); }) ==
          "sgd_step_: a number of the step is no number (lr_tensor f32[1]); give a 0-dimensional f64 or f32 tensor");
    CHECK(error_of([&] { sgd_step_(p, g, {}, {}, {.lr = {}, .step = zeros({}, mesh, {}, {.dtype = Dtype::bf16})}); }) ==
          "sgd_step_: a number of the step is no number (step_tensor bf16[]); give a 0-dimensional f64 or f32 tensor");
  });
}

TEST_CASE("warm-up rises to the rate in equal steps, the cosine falls to the final one") {
  const optim::WarmupCosine s{.lr = 1, .final_lr = 0.1, .warmup_steps = 4, .total_steps = 12};
  CHECK(s(0) == doctest::Approx(0.25));
  CHECK(s(3) == doctest::Approx(1));
  CHECK(s(4) == doctest::Approx(1));
  CHECK(s(8) == doctest::Approx(0.55));
  CHECK(s(6) == doctest::Approx(0.1 + 0.45 * (1 + std::sqrt(0.5))));
  CHECK(s(12) == doctest::Approx(0.1));
  CHECK(s(1000) == doctest::Approx(0.1));
  CHECK(optim::WarmupCosine{.lr = 2, .warmup_steps = 0, .total_steps = 10}(0) == doctest::Approx(2));
}

TEST_CASE("settings that make no sense are refused by text") {
  CHECK(error_of([] { optim::AdamW({}, {.lr = -1}); }) == "optimizer: lr is -1.000000; give a number that is not negative");
  CHECK(error_of([] { optim::SGD({}, {.nesterov = true}); }) == "sgd: nesterov needs a momentum and no dampening");
}
