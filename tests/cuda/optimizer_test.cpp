// SPDX-License-Identifier: Apache-2.0
// Steps of optimisers over lists of tensors: the CPU's bits, whatever is in the list, in as few launches as there are types to compute in.
#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/dtensor.h"
#include "local/kernels/optimizer.h"
#include "local/kernels/pointwise.h"

using namespace dtensor;
using namespace dtensor::test;
using local::cpu::AdamCall;
using local::cpu::AdamStep;
using local::cpu::SgdCall;
using local::cpu::SgdStep;
using local::cpu::StepNumbers;
using local::kernels::Together;
namespace kernels = local::kernels;

namespace {

// What a list of steps asked of the driver; nothing on a real device.
struct Asked {
  int steps = 0, numbers = 0, others = 0, waits = 0;
};
template <class F>
Asked asked(const F& f) {
  Asked a;
#if defined(DTENSOR_REAL_DEVICE)
  f();
#else
  static_cast<void>(local::cuda::emulated::taken_entries());
  f();
  for (const auto& e : local::cuda::emulated::taken_entries()) {
    const bool launch = e.what.starts_with("launch ");
    if (launch && e.what.ends_with("_step")) ++a.steps;
    else if (launch && e.what.ends_with("_numbers") && e.what != "launch sum_numbers") ++a.numbers;
    else if (e.what.find("waits") != std::string::npos) ++a.waits;
    else ++a.others;
  }
#endif
  return a;
}
#if defined(DTENSOR_REAL_DEVICE)
constexpr bool kRecorded = false;
#else
constexpr bool kRecorded = true;
#endif

// On an emulated device the very numbers of the CPU; a real one fuses products and sums.
bool same(const Tensor& there, const Tensor& here) {
  if (!kRecorded) return worst(there, here) <= 4 * tolerance(here.dtype());
  const std::vector<double> a = doubles(there), b = doubles(here);
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

struct Types {
  Dtype param, grad, state;
};
constexpr Types kTypes[] = {{Dtype::f32, Dtype::f32, Dtype::f32},   {Dtype::f64, Dtype::f64, Dtype::f64},   {Dtype::bf16, Dtype::bf16, Dtype::bf16},
                            {Dtype::f16, Dtype::f16, Dtype::f16},   {Dtype::bf16, Dtype::bf16, Dtype::f32}, {Dtype::f32, Dtype::bf16, Dtype::f32},
                            {Dtype::bf16, Dtype::f32, Dtype::bf16}, {Dtype::f32, Dtype::f32, Dtype::f64},   {Dtype::f64, Dtype::f16, Dtype::f32}};

// Tensors of one step: parameter, gradient, two states that are not negative.
struct Item {
  std::vector<Tensor> t;
  Item on(Device device, Lie lie) const {
    Item copy;
    for (const Tensor& each : t) copy.t.push_back(laid(each, device, lie));
    return copy;
  }
};
Item item(const Shape& shape, const Types& types, std::uint32_t seed) {
  Item i{{random_tensor(shape, types.param, seed), random_tensor(shape, types.grad, seed + 1), random_tensor(shape, types.state, seed + 2),
          random_tensor(shape, types.state, seed + 3), random_tensor(shape, types.state, seed + 4)}};
  for (std::size_t k : {3, 4}) kernels::unary(local::cpu::Unary::abs, i.t[k], i.t[k]);
  return i;
}

AdamCall adam(const Item& i, bool keeps_top, const AdamStep& step, const StepNumbers& numbers = {}) {
  return {i.t[0], i.t[1], i.t[2], i.t[3], keeps_top ? i.t[4] : Tensor(), step, numbers};
}
SgdCall sgd(const Item& i, bool momentum, const SgdStep& step, const StepNumbers& numbers = {}) {
  return {i.t[0], i.t[1], momentum ? i.t[2] : Tensor(), step, numbers};
}
// Runs a list by each of the four formulas, one after the other.
struct Lists {
  std::vector<AdamCall> plain, top;
  std::vector<SgdCall> descent, momentum;
  explicit Lists(const std::vector<Item>& items) {
    for (const Item& i : items) {
      plain.push_back(adam(i, false, {.weight_decay = 0.1, .step = 3}));
      top.push_back(adam(i, true, {.lr = 0.01, .weight_decay = 0.1, .step = 2, .decoupled = false, .maximize = true}));
      descent.push_back(sgd(i, false, {.lr = 0.1, .weight_decay = 0.1}));
      momentum.push_back(sgd(i, true, {.lr = 0.1, .momentum = 0.9, .dampening = 0.1, .nesterov = true}));
    }
  }
  void together() const {
    kernels::adam_steps(plain);
    kernels::adam_steps(top);
    kernels::sgd_steps(descent);
    kernels::sgd_steps(momentum);
  }
  void one_by_one() const {
    for (const AdamCall& c : plain) kernels::adam_steps(std::span(&c, 1));
    for (const AdamCall& c : top) kernels::adam_steps(std::span(&c, 1));
    for (const SgdCall& c : descent) kernels::sgd_steps(std::span(&c, 1));
    for (const SgdCall& c : momentum) kernels::sgd_steps(std::span(&c, 1));
  }
};
std::vector<Item> on_device(const std::vector<Item>& items, const std::vector<Lie>& lies) {
  std::vector<Item> copies;
  for (std::size_t i = 0; i < items.size(); ++i) copies.push_back(items[i].on(kGpu, lies[i % lies.size()]));
  return copies;
}
void check_same(const std::vector<Item>& there, const std::vector<Item>& here) {
  for (std::size_t i = 0; i < here.size(); ++i)
    for (std::size_t t = 0; t < here[i].t.size(); ++t) {
      CAPTURE(i);
      CAPTURE(t);
      CHECK(same(there[i].t[t], here[i].t[t]));
    }
}

constexpr std::int64_t kSmall[] = {0, 1, 3, 4, 5, 7, 8, 9, 31, 255, 2047, 2048, 2049};
std::vector<Item> items_of(std::size_t count, const Types& types) {
  std::vector<Item> items;
  for (std::size_t i = 0; i < count; ++i) items.push_back(item({kSmall[i % std::size(kSmall)]}, types, static_cast<std::uint32_t>(7 * i)));
  return items;
}

Tensor number(double value, Dtype dtype = Dtype::f64) { return Tensor::of(std::vector<double>{value}, {}).to(dtype); }
double value_of(const Tensor& t) { return doubles(t).at(0); }

}  // namespace

TEST_CASE("lists of 0, 1, 2 and 50 tensors of every mix of dtypes are one launch each and give the CPU's numbers") {
  if (no_device()) return;
  for (const Types& types : kTypes)
    for (const std::size_t count : {0u, 1u, 2u, 50u})
      for (const Lie lie : {Lie::row_major, Lie::shifted}) {
        CAPTURE(static_cast<int>(types.param) * 100 + static_cast<int>(types.grad) * 10 + static_cast<int>(types.state));
        CAPTURE(count);
        const std::vector<Item> here = items_of(count, types), there = on_device(here, {lie});
        Lists(here).together();
        const Lists lists(there);
        const Asked a = asked([&] { lists.together(); });
        check_same(there, here);
        // The first tensor is empty.
        if (kRecorded) CHECK(a.steps == (count < 2 ? 0 : 4));
        CHECK(a.numbers + a.others + a.waits == 0);
      }
}

TEST_CASE("tensors of more than one block, around its ends, give the CPU's numbers beside others") {
  if (no_device()) return;
  for (const Types& types : {kTypes[0], kTypes[1], kTypes[4]})
    for (const Lie lie : {Lie::row_major, Lie::shifted}) {
      std::vector<Item> here;
      for (const std::int64_t n : {16383, 16384, 16385, 65535, 65536, 65537}) here.push_back(item({n}, types, static_cast<std::uint32_t>(n)));
      const std::vector<Item> there = on_device(here, {lie});
      Lists(here).together();
      Lists(there).together();
      check_same(there, here);
    }
}

TEST_CASE("tensors that lie in one order are part of the launch however they are turned; others are walked by themselves") {
  if (no_device()) return;
  for (const Types& types : {kTypes[0], kTypes[1], kTypes[4]}) {
    std::vector<Item> here;
    for (const Shape& shape : {Shape{5, 7}, Shape{64, 33}, Shape{3, 4, 5}, Shape{1, 9}, Shape{0, 3}}) here.push_back(item(shape, types, 3));
    for (const std::vector<Lie>& lies :
         {std::vector<Lie>{Lie::transposed}, {Lie::padded}, {Lie::transposed, Lie::padded, Lie::row_major, Lie::shifted}}) {
      const std::vector<Item> there = on_device(here, lies);
      std::vector<Item> copy = on_device(here, {Lie::row_major});
      for (Item& i : copy)
        for (Tensor& t : i.t) t = t.to(Device::cpu());
      Lists(copy).together();
      const Lists lists(there);
      const Asked a = asked([&] { lists.together(); });
      check_same(there, copy);
      if (kRecorded && lies.size() == 1 && lies[0] == Lie::transposed) CHECK(a.steps == 4);
      CHECK(a.waits == 0);
    }
    // A gradient alone is turned.
    Item i = item({40, 30}, types, 9), turned = i.on(kGpu, Lie::row_major);
    turned.t[1] = laid(i.t[1], kGpu, Lie::transposed);
    Lists({i}).together();
    Lists({turned}).together();
    check_same({turned}, {i});
  }
}

TEST_CASE("a step gives the same bits alone and beside any others") {
  if (no_device()) return;
  for (const Types& types : {kTypes[0], kTypes[2], kTypes[4], kTypes[8]}) {
    const std::vector<Item> start = items_of(7, types);
    const std::vector<Lie> lies{Lie::row_major, Lie::shifted};
    const std::vector<Item> together = on_device(start, lies), alone = on_device(start, lies);
    Lists(together).together();
    Lists(alone).one_by_one();
    for (std::size_t i = 0; i < start.size(); ++i)
      for (std::size_t t = 0; t < 5; ++t) CHECK(doubles(together[i].t[t]) == doubles(alone[i].t[t]));
  }
}

TEST_CASE("dtypes of parameters that are computed in one type share a launch") {
  if (no_device()) return;
  std::vector<Item> here;
  for (std::uint32_t i = 0; i < 18; ++i) here.push_back(item({100 + i}, kTypes[i % std::size(kTypes)], i));
  const std::vector<Item> there = on_device(here, {Lie::row_major});
  Lists(here).together();
  const Asked a = asked([&] { Lists(there).together(); });
  check_same(there, here);
  if (kRecorded) CHECK(a.steps == 8);  // f32 and f64
}

TEST_CASE("more tensors than a launch takes and more kinds of steps are several launches") {
  if (no_device()) return;
  // Rows of one item: memory that is read back at once.
  const auto rows_of = [](const Item& whole) {
    std::vector<Item> rows;
    for (std::int64_t r = 0; r < whole.t[0].shape()[0]; ++r) {
      Item& row = rows.emplace_back();
      for (const Tensor& t : whole.t) row.t.push_back(t.narrow(0, r, 1).view({t.shape()[1]}));
    }
    return rows;
  };
  const Item many = item({1000, 3}, kTypes[0], 1), kinds = item({40, 5}, kTypes[0], 2);
  const Item many_there = many.on(kGpu, Lie::row_major), kinds_there = kinds.on(kGpu, Lie::row_major);
  const auto adam_of_kinds = [](const std::vector<Item>& items) {
    std::vector<AdamCall> calls;
    for (std::size_t i = 0; i < items.size(); ++i) calls.push_back(adam(items[i], false, {.step = static_cast<double>(i + 1)}));
    kernels::adam_steps(calls);
  };
  Lists(rows_of(many)).together();
  const Asked of_many = asked([&] { Lists(rows_of(many_there)).together(); });
  adam_of_kinds(rows_of(kinds));
  const Asked of_kinds = asked([&] { adam_of_kinds(rows_of(kinds_there)); });
  check_same({many_there, kinds_there}, {many, kinds});
  if (kRecorded) CHECK(of_many.steps == 4 * 3);
  if (kRecorded) CHECK(of_kinds.steps == 2);
}

TEST_CASE("numbers on the device give the same bits as those of the host, count steps up, and are one launch more") {
  if (no_device()) return;
  for (const Types& types : {kTypes[0], kTypes[1]})
    for (const Dtype of_numbers : {Dtype::f64, Dtype::f32})
      for (const std::size_t count : {1u, 3u, 10u}) {  // beyond 8 in longer arguments
        const double lr = of_numbers == Dtype::f64 ? 0.01 : static_cast<double>(0.01F);
        const std::vector<Item> start = items_of(count, types);
        const std::vector<Item> plain = on_device(start, {Lie::row_major, Lie::shifted}), given = on_device(start, {Lie::row_major, Lie::shifted});
        std::vector<Tensor> counts;
        for (std::size_t i = 0; i < count; ++i) counts.push_back(number(static_cast<double>(i % 3), of_numbers).to(kGpu));
        const Tensor rate = number(lr, of_numbers).to(kGpu);
        for (int step = 1; step <= 3; ++step) {
          std::vector<AdamCall> a, b;
          std::vector<SgdCall> c, d;
          for (std::size_t i = 0; i < count; ++i) {
            const bool top = i % 2 == 0;
            const double made = static_cast<double>(i % 3) + step;
            a.push_back(adam(plain[i], top, {.lr = lr, .weight_decay = 0.1, .step = made}));
            b.push_back(adam(given[i], top, {.lr = 7, .weight_decay = 0.1, .step = 70}, {rate, counts[i]}));
            c.push_back(sgd(plain[i], top, {.lr = lr, .momentum = 0.9, .first = made == 1}));
            d.push_back(sgd(given[i], top, {.lr = 7, .momentum = 0.9, .first = made == 1}, {rate, {}}));
          }
          kernels::adam_steps(a);
          kernels::sgd_steps(c);
          const Asked of = asked([&] {
            kernels::adam_steps(b);
            kernels::sgd_steps(d);
          });
          CHECK(of.waits + of.others == 0);
          if (kRecorded) CHECK(of.numbers == (count == 1 ? 2 : 4));
          if (kRecorded) CHECK(of.steps == (count == 1 ? 0 : 4));
        }
        for (std::size_t i = 0; i < count; ++i) CHECK(value_of(counts[i]) == static_cast<double>(i % 3) + 3);
        check_same(given, [&] {
          std::vector<Item> here = plain;
          for (Item& i : here)
            for (Tensor& t : i.t) t = t.to(Device::cpu());
          return here;
        }());
      }
}

TEST_CASE("the first step of a momentum is the one that counts to 1") {
  if (no_device()) return;
  for (const Device device : {Device::cpu(), kGpu}) {
    const Item start = item({10}, kTypes[1], 1), plain = start.on(device, Lie::row_major), given = start.on(device, Lie::row_major);
    const Tensor count = number(0).to(device);
    for (int step = 1; step <= 3; ++step) {
      const SgdCall a = sgd(plain, true, {.lr = 0.1, .momentum = 0.9, .dampening = 0.5, .first = step == 1});
      const SgdCall b = sgd(given, true, {.lr = 0.1, .momentum = 0.9, .dampening = 0.5}, {{}, count});
      kernels::sgd_steps(std::span(&a, 1));
      kernels::sgd_steps(std::span(&b, 1));
    }
    CHECK(same(given.t[0], plain.t[0].to(Device::cpu())));
    CHECK(value_of(count) == 3);
  }
}

TEST_CASE("a list keeps steps until it ends, or until a parameter comes again") {
  if (no_device() || !kRecorded) return;
  const std::vector<Item> start = items_of(9, kTypes[0]);
  const std::vector<Item> alone = on_device(start, {Lie::row_major}), listed = on_device(start, {Lie::row_major});
  const auto ask = [](const std::vector<Item>& items) {
    for (const Item& i : items) Together::add(adam(i, false, {.step = 1}));
    for (const Item& i : items) Together::add(sgd(i, false, {.lr = 0.1}));
  };
  CHECK(asked([&] { ask(alone); }).steps == 16);
  CHECK(asked([&] {
          Together list;
          ask(listed);
          list.finish();
        }).steps == 2);
  check_same(listed, [&] {
    std::vector<Item> here = alone;
    for (Item& i : here)
      for (Tensor& t : i.t) t = t.to(Device::cpu());
    return here;
  }());
  // On the CPU at once, and in a list that collects nothing as well.
  const Item cpu = start[3];
  const double before = doubles(cpu.t[0])[0];
  Together list;
  Together::add(adam(cpu, false, {.step = 1}));
  CHECK(doubles(cpu.t[0])[0] != before);
  Together none(false);
  CHECK(asked([&] { Together::add(adam(listed[3], false, {.step = 1})); }).steps == 1);
}

TEST_CASE("an exception makes the steps that were asked for before it and leaves no list open") {
  if (no_device() || !kRecorded) return;
  const std::vector<Item> start = items_of(4, kTypes[0]), items = on_device(start, {Lie::row_major});
  const double before = doubles(items[2].t[0])[0];
  const Asked a = asked([&] {
    CHECK_THROWS_AS(
        [&] {
          const Together list;
          Together::add(adam(items[2], false, {.step = 1}));
          throw std::runtime_error("between two steps");
        }(),
        std::runtime_error);
  });
  CHECK(a.steps == 1);
  CHECK(doubles(items[2].t[0])[0] != before);
  CHECK(asked([&] { Together::add(adam(items[3], false, {.step = 1})); }).steps == 1);
}

namespace {

// Parameters of a model: matrices and vectors, some smaller than the mesh.
std::vector<nn::NamedParameter> parameters_on(const DeviceMesh& mesh, const Placements& placements, Dtype dtype) {
  std::vector<nn::NamedParameter> list;
  for (std::uint32_t i = 0; i < 12; ++i) {
    const Shape shape = i % 3 == 0 ? Shape{1 + i % 7, 5} : i % 3 == 1 ? Shape{i % 5} : Shape{16, 8};
    nn::Parameter p(shape, mesh, {}, dtype);
    p.place(placements);
    p.set(distribute(random_tensor(shape, dtype, i), mesh, placements, {.source = Source::every_rank}));
    list.push_back({"p" + std::to_string(i), p});
  }
  return list;
}
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

TEST_CASE("sums of squares of lists are right for every length, dtype and alignment, in the same bits alone and however they lie, in two launches") {
  if (no_device()) return;
  const std::int64_t lengths[] = {0, 1, 3, 4, 5, 8, 31, 2047, 2048, 2049, 16383, 16384, 16385, 65537};
  for (const Dtype dtype : kFloating)
    for (const Dtype of_sum : {Dtype::f32, Dtype::f64}) {
      std::vector<Tensor> inputs;
      std::vector<double> want;
      for (const std::int64_t n : lengths) {
        const Tensor x = random_tensor({n}, dtype, static_cast<std::uint32_t>(n));
        double sum = 0;
        for (const double v : doubles(x)) sum += v * v;
        want.push_back(sum);
        inputs.push_back(laid(x, kGpu, Lie::row_major));
        inputs.push_back(laid(x, kGpu, Lie::shifted));
      }
      const Tensor together = Tensor::empty({static_cast<std::int64_t>(inputs.size())}, of_sum, kGpu),
                   alone = Tensor::empty(together.shape(), of_sum, kGpu);
      std::vector<local::cpu::SquareSumCall> calls;
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        calls.push_back({inputs[i], together.narrow(0, at, 1)});
        const local::cpu::SquareSumCall one{inputs[i], alone.narrow(0, at, 1)};
        kernels::square_sums(std::span(&one, 1));
      }
      const Asked a = asked([&] { kernels::square_sums(calls); });
      if (kRecorded) CHECK(a.others == 2);
      CHECK(a.waits == 0);
      const std::vector<double> sums = doubles(together);
      CHECK(sums == doubles(alone));
      for (std::size_t i = 0; i < sums.size(); ++i) {
        CHECK(sums[i] == doctest::Approx(want[i / 2]).epsilon(of_sum == Dtype::f64 ? 1e-12 : 1e-5));
        CHECK(sums[i] == sums[i - i % 2]);
      }
    }
  // Lines apart, turned, and more tensors than a launch takes.
  const Tensor x = random_tensor({40, 30}, Dtype::bf16, 5), many = random_tensor({1500, 2}, Dtype::f32, 6).to(kGpu);
  double want = 0;
  for (const double v : doubles(x)) want += v * v;
  const Tensor sums = Tensor::empty({1503}, Dtype::f32, kGpu);
  std::vector<local::cpu::SquareSumCall> calls;
  for (const Lie lie : {Lie::row_major, Lie::padded, Lie::transposed})
    calls.push_back({laid(x, kGpu, lie), sums.narrow(0, static_cast<std::int64_t>(calls.size()), 1)});
  for (std::int64_t i = 0; i < 1500; ++i) calls.push_back({many.narrow(0, i, 1), sums.narrow(0, 3 + i, 1)});
  kernels::square_sums(calls);
  const std::vector<double> got = doubles(sums), rows = doubles(many);
  for (std::size_t i = 0; i < 3; ++i) CHECK(got[i] == doctest::Approx(want).epsilon(1e-5));
  double apart = 0;
  for (std::size_t i = 0; i < 1500; ++i)
    apart = std::max(apart, std::abs(got[3 + i] - rows[2 * i] * rows[2 * i] - rows[2 * i + 1] * rows[2 * i + 1]));
  CHECK(apart <= 1e-5);
}

TEST_CASE("numbers are added in one launch, and tensors of every dtype are scaled by one on the device") {
  if (no_device()) return;
  for (const std::int64_t count : {1, 2, 255, 256, 257, 2049})
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
      const Tensor list = random_tensor({count}, dtype, static_cast<std::uint32_t>(count)).to(kGpu), out = Tensor::empty({}, dtype, kGpu);
      std::vector<Tensor> each;
      std::vector<const Tensor*> numbers;
      for (std::int64_t i = 0; i < count; ++i) each.push_back(list.narrow(0, i, 1).view({}));
      for (const Tensor& t : each) numbers.push_back(&t);
      const Asked a = asked([&] { kernels::sum_numbers(numbers, out); });
      if (kRecorded) CHECK(a.others == (count > 2048 ? 2 : 1));
      double want = 0;
      for (const double v : doubles(list)) want += v;
      CHECK(value_of(out) == doctest::Approx(want).epsilon(1e-6));
    }
  for (const Dtype of_factor : {Dtype::f32, Dtype::f64}) {
    const Tensor factor = number(0.375, of_factor);
    std::vector<Tensor> here, there;
    std::vector<local::cpu::ScaleCall> on_cpu, on_gpu;
    for (std::uint32_t i = 0; i < 40; ++i) {
      here.push_back(random_tensor({i % 5, 7}, kFloating[i % 4], i));
      there.push_back(laid(here[i], kGpu, kLies[i % 3]));  // padded rows by themselves
      on_cpu.push_back({here[i], factor});
      on_gpu.push_back({there[i], factor.to(kGpu)});
    }
    kernels::scales(on_cpu);
    const Asked a = asked([&] { kernels::scales(on_gpu); });
    CHECK(a.waits == 0);
    for (std::size_t i = 0; i < here.size(); ++i) CHECK(same(there[i], here[i]));
  }
}

TEST_CASE("clipping takes as many launches for many gradients as for one, waits for nothing and gives the CPU's numbers") {
  if (no_device()) return;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const int ranks : {1, 2}) {
      const auto clip = [&](Device device, std::size_t count, Asked& of) {
        std::vector<double> all;
        run_ranks({.ranks = ranks, .device = device, .threads_per_rank = 1}, [&](World& world) {
          const DeviceMesh mesh = world.mesh({{"x", ranks}});
          auto named = parameters_on(mesh, {Shard(0)}, dtype);
          std::vector<nn::Parameter> parameters;
          for (std::uint32_t i = 0; i < count; ++i) {
            const DTensor& value = named[i].parameter.value();
            value.set_grad(distribute(random_tensor(value.shape(), dtype, i), mesh, {Shard(0)}, {.source = Source::every_rank}));
            parameters.push_back(named[i].parameter);
          }
          DTensor norm;
          const Asked a = asked([&] { norm = optim::clip_grad_norm_(parameters, 0.5); });
          std::vector<double> mine{norm.item()};
          for (const nn::Parameter& p : parameters)
            for (const double x : doubles(p.grad().full_tensor().local())) mine.push_back(x);
          if (world.rank() == 0) all = mine, of = a;
        });
        return all;
      };
      Asked one, many, cpu;
      clip(kGpu, 1, one);
      const std::vector<double> there = clip(kGpu, 12, many), here = clip(Device::cpu(), 12, cpu);
      if (kRecorded && ranks == 1) CHECK(many.others == one.others);
      if (kRecorded) CHECK(many.numbers == 1);
      CHECK(many.waits == 0);
      REQUIRE(there.size() == here.size());
      for (std::size_t i = 0; i < here.size(); ++i) CHECK(there[i] == doctest::Approx(here[i]).epsilon(dtype == Dtype::f32 ? 1e-5 : 1e-2));
    }
}
