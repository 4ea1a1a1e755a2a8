// SPDX-License-Identifier: Apache-2.0
// Training with optimisers on a device: a step is one launch over all parameters, whatever gradients it gets, and gives the CPU's numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>
#include <vector>

#include "optimizer.h"

using namespace dtensor;
using namespace dtensor::test;

namespace {

// Steps with gradients that lie as their parameters do, parameter 4 without one in step 2. What each step asked, and the parameters at the end.
template <class O, class Options>
std::vector<double> train(const DeviceMesh& mesh, const Placements& placements, Dtype dtype, const Options& options,
                          std::vector<Asked>* of_steps = nullptr) {
  const auto parameters = parameters_on(mesh, placements, dtype);
  O optimizer(parameters, options);
  for (std::uint32_t step = 1; step <= 4; ++step) {
    for (std::uint32_t i = 0; i < parameters.size(); ++i) {
      const DTensor& value = parameters[i].parameter.value();
      if (i == 4 && step == 2) value.set_grad({});
      else value.set_grad(distribute(random_tensor(value.shape(), dtype, 100 * step + i), mesh, placements, {.source = Source::every_rank}));
    }
    const Asked a = asked([&] {
      optimizer.set_lr(0.1 / step);
      optimizer.step();
    });
    if (of_steps != nullptr) of_steps->push_back(a);
  }
  CHECK(optimizer.steps() == 4);
  std::vector<double> all;
  for (const nn::NamedParameter& p : parameters)
    for (const double x : doubles(p.parameter.value().detach().full_tensor().local())) all.push_back(x);
  return all;
}
template <class O, class Options>
void compare_training(const Options& options, const std::vector<Dtype>& dtypes = {Dtype::f32}) {
  Options capturable = options;
  capturable.capturable = true;
  for (const Dtype dtype : dtypes)
    for (const int ranks : {1, 2}) {
      const Placements placements = ranks == 1 ? Placements() : Placements({Shard(0)});
      std::vector<double> cpu, plain, on_device;
      run_ranks({.ranks = ranks}, [&](World& world) {
        const auto values = train<O>(world.mesh({{"x", ranks}}), placements, dtype, options);
        if (world.rank() == 0) cpu = values;
      });
      run_ranks({.ranks = ranks, .device = kGpu, .threads_per_rank = 1}, [&](World& world) {
        const DeviceMesh mesh = world.mesh({{"x", ranks}});
        std::vector<Asked> of_plain, of_capturable;
        const auto values = train<O>(mesh, placements, dtype, options, &of_plain);
        const auto others = train<O>(mesh, placements, dtype, capturable, &of_capturable);
        if (world.rank() == 0) plain = values, on_device = others;
        if (!kRecorded) return;
        for (const Asked& a : of_plain) CHECK(a.waits == 0);
        for (const Asked& a : of_capturable) CHECK(a.waits == 0);
        // The state is made in the first step.
        for (std::size_t step = 1; step < 4; ++step) {
          CHECK(of_plain[step].steps == 1);
          CHECK(of_plain[step].numbers + of_plain[step].others == 0);
          CHECK(of_capturable[step].steps == 1);
          CHECK(of_capturable[step].numbers == 1);
          CHECK(of_capturable[step].others == 1);  // the rate
        }
      });
      REQUIRE(plain.size() == cpu.size());
      double apart = 0, between = 0;
      for (std::size_t i = 0; i < cpu.size(); ++i) {
        apart = std::max(apart, std::abs(plain[i] - cpu[i]));
        between = std::max(between, std::abs(plain[i] - on_device[i]));
      }
      CHECK(apart <= (kRecorded ? 0 : dtype == Dtype::f64 ? 1e-11 : 1e-4));
      CHECK(between <= (kRecorded ? 0 : dtype == Dtype::f64 ? 1e-12 : 1e-6));
    }
}

}  // namespace

TEST_CASE("a step of an optimiser is one launch over all parameters, with numbers on the device two, and the host never waits") {
  if (no_device()) return;
  compare_training<optim::AdamW>(optim::AdamWOptions{.weight_decay = 0.1}, {Dtype::f32, Dtype::f64});
  compare_training<optim::AdamW>(optim::AdamWOptions{.amsgrad = true});
  compare_training<optim::Adam>(optim::AdamOptions{.weight_decay = 0.1, .maximize = true});
  compare_training<optim::SGD>(optim::SGDOptions{.weight_decay = 0.1});
  compare_training<optim::SGD>(optim::SGDOptions{.momentum = 0.9, .dampening = 0.5});
}

namespace {

// An optimiser of a program: a step, then something else on the same tensor.
class Decaying final : public optim::Optimizer {
 public:
  explicit Decaying(std::vector<nn::NamedParameter> parameters) : Optimizer(std::move(parameters), 0.1, {}) {}

 private:
  void update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& /*slots*/) override {
    sgd_step_(parameter, grad, {}, {.lr = lr_});
    mul_(parameter, 0.5);
  }
};

}  // namespace

TEST_CASE("what an optimiser of a program does after a step op comes after it") {
  if (no_device()) return;
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const auto list = parameters_on(world.mesh({{"x", 1}}), {}, Dtype::f64);
    std::vector<double> want;
    for (const nn::NamedParameter& p : list) {
      p.parameter.value().set_grad(ones_like(p.parameter.value().detach()));
      for (const double x : doubles(p.parameter.value().local())) want.push_back((x - 0.1) * 0.5);
    }
    Decaying(list).step();
    std::size_t at = 0;
    for (const nn::NamedParameter& p : list)
      for (const double x : doubles(p.parameter.value().local())) CHECK(x == doctest::Approx(want[at++]).epsilon(1e-12));
  });
}

TEST_CASE("gradients as a backward pass leaves them are part of the one launch") {
  if (no_device()) return;
  run_ranks({.ranks = 1, .device = kGpu}, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}});
    nn::Embedding embed(11, 8, mesh);
    nn::Linear up(8, 12, mesh, {.bias = true}), down(12, 8, mesh, {.bias = true});
    nn::LayerNorm norm(8, mesh);
    std::vector<nn::NamedParameter> list;
    for (nn::ModuleBase* module : std::initializer_list<nn::ModuleBase*>{&embed, &up, &down, &norm}) {
      module->materialize();
      for (nn::NamedParameter& p : module->named_parameters()) list.push_back(p);
    }
    REQUIRE(list.size() == 7);
    optim::AdamW optimizer(list);
    for (int step = 0; step < 2; ++step) {
      const DTensor x = norm(embed(randint(0, 11, {4, 5}, mesh)));
      sum(square(down(gelu(up(x))))).backward();
      const Asked a = asked([&] { optimizer.step(); });
      if (kRecorded) CHECK(a.steps == 1);
      optimizer.zero_grad();
    }
  });
}

TEST_CASE("gradients that lie otherwise are brought to their parameters within the one launch") {
  if (no_device()) return;
  const auto run_on = [](Device device) {
    std::vector<double> all;
    run_ranks({.ranks = 2, .device = device, .threads_per_rank = 1}, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", 2}});
      const auto parameters = parameters_on(mesh, {Shard(0)}, Dtype::f32);
      optim::AdamW optimizer(parameters, {.lr = 0.1});
      for (std::uint32_t step = 1; step <= 2; ++step) {
        for (std::uint32_t i = 0; i < parameters.size(); ++i) {
          const DTensor& value = parameters[i].parameter.value();
          value.set_grad(distribute(random_tensor(value.shape(), Dtype::f32, 100 * step + i), mesh, {}, {.source = Source::every_rank}));
        }
        const Asked a = asked([&] { optimizer.step(); });
        if (kRecorded && device == kGpu) CHECK(a.steps == 1);
        CHECK(a.waits == 0);
      }
      std::vector<double> mine;
      for (const nn::NamedParameter& p : parameters)
        for (const double x : doubles(p.parameter.value().detach().full_tensor().local())) mine.push_back(x);
      if (world.rank() == 0) all = mine;
    });
    return all;
  };
  const auto here = run_on(Device::cpu()), there = run_on(kGpu);
  REQUIRE(here.size() == there.size());
  double apart = 0;
  for (std::size_t i = 0; i < here.size(); ++i) apart = std::max(apart, std::abs(here[i] - there[i]));
  CHECK(apart <= (kRecorded ? 0 : 1e-5));
}
