// SPDX-License-Identifier: Apache-2.0
// What clipping is made of: sums of squares of lists, sums of numbers, tensors scaled by a number on the device.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "local/kernels/optimizer.h"
#include "optimizer.h"

using namespace dtensor;
using namespace dtensor::test;
namespace kernels = local::kernels;

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
