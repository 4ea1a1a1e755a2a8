// SPDX-License-Identifier: Apache-2.0
// Steps of optimisers over lists of tensors: the CPU's bits, whatever is in the list, in as few launches as there are types to compute in.
#include <doctest/doctest.h>

#include <stdexcept>
#include <vector>

#include "local/kernels/optimizer.h"
#include "local/kernels/pointwise.h"
#include "optimizer.h"

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
