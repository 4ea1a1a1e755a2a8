// SPDX-License-Identifier: Apache-2.0
// Attention on a device against the CPU's, which has tests of its own against the formula.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/autograd.h"
#include "dtensor/generator.h"
#include "dtensor/ops/attention.h"
#include "dtensor/ops/cast.h"
#include "dtensor/ops/random.h"
#include "dtensor/world.h"
#include "local/kernels/attention.h"

using namespace dtensor;
using namespace dtensor::test;
using local::cpu::AttentionCall;

namespace {

struct Sizes {
  std::int64_t b, h, g, t, s, d, e;
};
struct Options {
  bool causal = false;
  std::int64_t offset = 0;
  std::vector<std::int64_t> rows = {}, columns = {};  // empty: 0 ..
  Tensor mask = {};
  Lie lie = Lie::row_major;
  bool merge = false;
};
Dtype sums_of(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

struct Given {
  Tensor query, key, value, grad;
};
struct Made {
  Tensor out, logsumexp, query, key, value;
};

// What comes before: half of the rows have seen nothing.
Tensor earlier_logsumexp(const Sizes& z, Dtype dtype) {
  const Tensor t = random_tensor({z.b, z.h, z.t}, Dtype::f64, 9);
  for (std::size_t i = 0; i < t.values<double>().size(); i += 2) t.values<double>()[i] = -std::numeric_limits<double>::infinity();
  return t.to(dtype);
}

Made run(const Sizes& z, const Given& given, const Options& o, Device device, Dtype results, std::optional<Made> forward = {}) {
  const Dtype dtype = given.query.dtype(), sums = sums_of(dtype);
  std::vector<std::int64_t> rows = o.rows, heads(static_cast<std::size_t>(z.h));
  if (rows.empty()) {
    rows.resize(static_cast<std::size_t>(z.t));
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
  }
  for (std::size_t h = 0; h < heads.size(); ++h) heads[h] = static_cast<std::int64_t>(h) * z.g / z.h;
  AttentionCall call{.query = laid(given.query, device, o.lie),
                     .key = laid(given.key, device, o.lie),
                     .value = laid(given.value, device, o.lie),
                     .mask = o.mask ? laid(o.mask, device, o.lie) : Tensor(),
                     .scale = 1 / std::sqrt(static_cast<double>(z.d)),
                     .causal = o.causal,
                     .offset = o.offset,
                     .rows = rows,
                     .kv_heads = heads,
                     .columns = o.columns};
  if (o.merge) {
    call.out = random_tensor({z.b, z.h, z.t, z.e}, sums, 8).to(device);
    call.logsumexp = earlier_logsumexp(z, sums).to(device);
  }
  Made made{Tensor::empty({z.b, z.h, z.t, z.e}, results, device), Tensor::empty({z.b, z.h, z.t}, sums, device),
            random_tensor(given.query.shape(), results, 7).to(device), Tensor::empty(given.key.shape(), results, device),
            Tensor::empty(given.value.shape(), results, device)};
  without_waits([&] { local::kernels::attention(call, made.out, made.logsumexp); });
  if (o.merge) return made;
  // Both devices take the same forward results: what is compared is the backward pass alone.
  const Tensor out = forward ? forward->out : made.out, logsumexp = forward ? forward->logsumexp : made.logsumexp;
  const Tensor grad_there = laid(given.grad, device, o.lie), out_there = laid(out.to(dtype), device, o.lie),
               logsumexp_there = laid(logsumexp, device, Lie::padded);
  without_waits([&] {
    local::kernels::attention_backward(call, grad_there, out_there, logsumexp_there, {made.query, made.key, made.value, results == sums});
  });
  return made;
}

// The greatest difference as a part of the greatest element: weights are rounded to the operands' type before they are multiplied.
double apart(const Tensor& a, const Tensor& b) {
  double most = 1;
  for (const double x : doubles(a)) most = std::max(most, std::abs(x));
  return worst(a, b, most);
}

void compare(const Sizes& z, Dtype dtype, const Options& o = {}, bool in_sums = false) {
  if (no_device()) return;
  const Given given{random_tensor({z.b, z.h, z.t, z.d}, dtype, 1), random_tensor({z.b, z.g, z.s, z.d}, dtype, 2),
                    random_tensor({z.b, z.g, z.s, z.e}, dtype, 3), random_tensor({z.b, z.h, z.t, z.e}, dtype, 4)};
  const Dtype results = in_sums ? sums_of(dtype) : dtype;
  const Made cpu = run(z, given, o, Device::cpu(), results), gpu = run(z, given, o, kGpu, results, cpu);
  INFO(to_string(dtype), ", t ", z.t, ", s ", z.s, ", d ", z.d, ", e ", z.e, o.causal ? ", causal" : "", ", lying ", static_cast<int>(o.lie));
  CHECK(worst(cpu.out, gpu.out) <= 2 * tolerance(dtype));
  CHECK(worst(cpu.logsumexp, gpu.logsumexp) <= tolerance(sums_of(dtype)));
  if (o.merge) return;
  CHECK(apart(cpu.query, gpu.query) <= 4 * tolerance(dtype));
  CHECK(apart(cpu.key, gpu.key) <= 4 * tolerance(dtype));
  CHECK(apart(cpu.value, gpu.value) <= 4 * tolerance(dtype));
}

}  // namespace

TEST_CASE("attention on a device gives out, logsumexp and gradients of the CPU for all dtypes and sizes around those of tiles") {
  for (const Dtype dtype : kFloating) {
    compare({1, 1, 1, 1, 1, 1, 1}, dtype);
    compare({2, 3, 3, 5, 7, 3, 2}, dtype);
    compare({1, 2, 2, 63, 65, 17, 33}, dtype);
    compare({1, 1, 1, 64, 64, 64, 64}, dtype);
    compare({1, 1, 1, 65, 130, 32, 40}, dtype, {.causal = true, .offset = 65});
  }
}
TEST_CASE("attention on a device takes wide heads") {
  for (const Dtype dtype : kFloating) {
    compare({1, 1, 1, 20, 40, 128, 96}, dtype, {.causal = true});
    compare({1, 1, 1, 9, 33, 100, 256}, dtype);
    compare({1, 1, 1, 3, 5, 300, 270}, dtype);
  }
}
TEST_CASE("attention on a device goes through several tiles of rows and columns of wide heads") {
  compare({1, 2, 1, 140, 150, 128, 72}, Dtype::bf16, {.causal = true, .offset = 5});
  compare({1, 1, 1, 70, 140, 72, 128}, Dtype::f16);
  compare({1, 1, 1, 70, 140, 72, 128}, Dtype::f32, {.causal = true, .offset = 70});
}
TEST_CASE("attention on a device with no rows, no keys or no heads") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    compare({1, 2, 2, 0, 5, 4, 4}, dtype);
    compare({1, 2, 2, 5, 0, 4, 4}, dtype);
    compare({0, 2, 2, 5, 3, 4, 4}, dtype);
    compare({2, 0, 1, 5, 3, 4, 4}, dtype);
  }
}
TEST_CASE("attention on a device sums the gradients of a key head over the query heads that read it") {
  compare({2, 6, 2, 5, 70, 8, 8}, Dtype::f32);
  compare({1, 8, 1, 67, 9, 8, 8}, Dtype::bf16, {.causal = true});
}
TEST_CASE("attention on a device does not depend on strides") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const Lie lie : kLies) compare({2, 2, 1, 7, 66, 24, 16}, dtype, {.causal = true, .offset = 40, .lie = lie});
}
TEST_CASE("attention on a device follows the numbers of rows and keys") {
  std::vector<std::int64_t> rows, columns;
  for (std::int64_t i = 0; i < 80; ++i) rows.push_back(i < 40 ? i : i + 100);
  for (std::int64_t j = 0; j < 90; ++j) columns.push_back(j * 2 + j % 3);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    compare({1, 1, 1, 80, 90, 8, 8}, dtype, {.causal = true, .rows = rows});
    compare({1, 1, 1, 80, 90, 8, 8}, dtype, {.causal = true, .offset = 3, .rows = rows, .columns = columns});
    compare({1, 1, 1, 80, 90, 8, 8}, dtype, {.causal = true, .offset = -30, .rows = rows, .columns = columns});
  }
}
TEST_CASE("attention on a device takes masks of all types that broadcast, and rows that see nothing") {
  const Tensor seen = Tensor::zeros({2, 1, 9, 70}, Dtype::boolean);
  for (std::size_t i = 70; i < seen.values<bool>().size(); ++i) seen.values<bool>()[i] = i % 3 != 0;  // the first row sees nothing
  for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
    compare({2, 3, 3, 9, 70, 8, 8}, dtype, {.mask = seen});
    compare({2, 3, 3, 9, 70, 8, 8}, dtype, {.mask = seen, .lie = Lie::transposed});
    for (const Dtype mask : kFloating) compare({2, 3, 3, 9, 70, 8, 8}, dtype, {.mask = random_tensor({3, 1, 70}, mask, 6)});
  }
}
TEST_CASE("attention on a device adds what other keys gave, and writes the type of the sums where that is asked for") {
  for (const Dtype dtype : kFloating) {
    compare({2, 2, 2, 9, 70, 8, 72}, dtype, {.causal = true, .merge = true}, true);
    compare({2, 2, 2, 66, 9, 8, 8}, dtype, {.causal = true}, true);
  }
}

namespace {

// out and gradients of causal attention over a sequence that lies on `ranks`, as the first of them has them whole.
std::vector<Tensor> over_ranks(int ranks, Device device, const Placements& placements, Dtype dtype) {
  std::vector<Tensor> results;
  run_ranks({.ranks = ranks, .device = device}, [&](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", ranks}});
    manual_seed(4);
    std::vector<DTensor> operands;
    for (const Shape& shape : {Shape{1, 4, 150, 24}, Shape{1, 2, 150, 24}, Shape{1, 2, 150, 16}, Shape{1, 4, 150, 16}}) {
      operands.push_back(randn(shape, mesh, placements).to(dtype));
      operands.back().set_requires_grad(operands.size() < 4);
    }
    const DTensor out = scaled_dot_product_attention(operands[0], operands[1], operands[2], {.is_causal = true, .enable_gqa = true});
    out.backward(operands[3]);
    std::vector<Tensor> whole{out.detach().full_tensor().local().to(Device::cpu())};
    for (int i = 0; i < 3; ++i) whole.push_back(operands[static_cast<std::size_t>(i)].grad().full_tensor().local().to(Device::cpu()));
    if (world.rank() == 0) results = whole;
  });
  return results;
}

}  // namespace

TEST_CASE("attention over a sequence that is split among ranks is the same on a device") {
  if (no_device()) return;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const std::vector<Tensor> expected = over_ranks(2, Device::cpu(), {Shard(2)}, dtype);
    for (const Placements& placements : {Placements{Shard(2)}, Placements{Shard(1)}}) {
      const std::vector<Tensor> got = over_ranks(2, kGpu, placements, dtype);
      REQUIRE(got.size() == expected.size());
      for (std::size_t i = 0; i < got.size(); ++i) CHECK(apart(expected[i], got[i]) <= 4 * tolerance(dtype));
    }
  }
}
