// SPDX-License-Identifier: Apache-2.0
// Attention on a device against the CPU's, which has tests of its own against the formula.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/autograd.h"
#include "dtensor/generator.h"
#include "dtensor/ops/attention.h"
#include "dtensor/ops/cast.h"
#include "dtensor/ops/random.h"
#include "dtensor/world.h"
#include "local/kernels/attention.h"
#include "local/runs_of.h"
#if !defined(DTENSOR_REAL_DEVICE)
#include "local/cuda/attention_problem.h"
#endif

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

// A call on a device, with the lists that it points to.
struct HeldCall {
  std::vector<local::GlobalRun> rows, columns;
  std::vector<std::int64_t> heads;
  AttentionCall call;
  HeldCall(const Sizes& z, const Given& given, const Options& o, Device device, double scale)
      : rows(testing::runs_of(o.rows)), columns(testing::runs_of(o.columns)), heads(static_cast<std::size_t>(z.h)) {
    if (o.rows.empty() && z.t > 0) rows.push_back({0, z.t});
    for (std::size_t h = 0; h < heads.size(); ++h) heads[h] = static_cast<std::int64_t>(h) * z.g / z.h;
    call = {.query = laid(given.query, device, o.lie),
            .key = laid(given.key, device, o.lie),
            .value = laid(given.value, device, o.lie),
            .mask = o.mask ? laid(o.mask, device, o.lie) : Tensor(),
            .scale = scale,
            .causal = o.causal,
            .offset = o.offset,
            .rows = rows,
            .kv_heads = heads,
            .columns = columns};
    if (!o.merge) return;
    const Dtype sums = sums_of(given.query.dtype());
    call.out = random_tensor({z.b, z.h, z.t, z.e}, sums, 8).to(device);
    call.logsumexp = earlier_logsumexp(z, sums).to(device);
  }
  HeldCall(const HeldCall&) = delete;
  HeldCall& operator=(const HeldCall&) = delete;
};

Made run(const Sizes& z, const Given& given, const Options& o, Device device, Dtype results, std::optional<Made> forward = {}) {
  const Dtype dtype = given.query.dtype(), sums = sums_of(dtype);
  const HeldCall held(z, given, o, device, 1 / std::sqrt(static_cast<double>(z.d)));
  Made made{Tensor::empty({z.b, z.h, z.t, z.e}, results, device), Tensor::empty({z.b, z.h, z.t}, sums, device),
            random_tensor(given.query.shape(), results, 7).to(device), Tensor::empty(given.key.shape(), results, device),
            Tensor::empty(given.value.shape(), results, device)};
  without_waits([&] { local::kernels::attention(held.call, made.out, made.logsumexp); });
  if (o.merge) return made;
  // Both devices take the same forward results: what is compared is the backward pass alone.
  const Tensor out = forward ? forward->out : made.out, logsumexp = forward ? forward->logsumexp : made.logsumexp;
  const Tensor grad_there = laid(given.grad, device, o.lie), out_there = laid(out.to(dtype), device, o.lie),
               logsumexp_there = laid(logsumexp, device, Lie::padded);
  without_waits([&] {
    local::kernels::attention_backward(held.call, grad_there, out_there, logsumexp_there, {made.query, made.key, made.value, results == sums});
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

#if !defined(DTENSOR_REAL_DEVICE)
namespace {

using local::cuda::KeyParts;
namespace emulated = local::cuda::emulated;

// out and logsumexp of one call on a device with so many multiprocessors, and the names of the kernels that it launched.
struct Launched {
  Tensor out, logsumexp;
  std::vector<std::string> kernels;
  bool has(const std::string& kernel) const { return std::find(kernels.begin(), kernels.end(), "launch " + kernel) != kernels.end(); }
};
Launched forward_on(int multiprocessors, std::size_t shared, const Sizes& z, Dtype dtype, const Options& o) {
  emulated::set_parts(multiprocessors, shared);
  const Given given{random_tensor({z.b, z.h, z.t, z.d}, dtype, 1),
                    random_tensor({z.b, z.g, z.s, z.d}, dtype, 2),
                    random_tensor({z.b, z.g, z.s, z.e}, dtype, 3),
                    {}};
  const Dtype sums = sums_of(dtype);
  const HeldCall held(z, given, o, kGpu, 0.5);
  const Launched made{Tensor::empty({z.b, z.h, z.t, z.e}, dtype, kGpu), Tensor::empty({z.b, z.h, z.t}, sums, kGpu), {}};
  Launched result;
  emulated::taken_entries();
  local::kernels::attention(held.call, made.out, made.logsumexp);
  for (const auto& entry : emulated::taken_entries()) result.kernels.push_back(entry.what);
  result.out = made.out.to(Device::cpu());
  result.logsumexp = made.logsumexp.to(Device::cpu());
  emulated::set_parts();
  return result;
}

// The same by the formula, in double precision, from operands of the dtype.
struct Expected {
  std::vector<double> out, logsumexp;
};
Expected by_formula(const Sizes& z, Dtype dtype, const Options& o) {
  const auto q = doubles(random_tensor({z.b, z.h, z.t, z.d}, dtype, 1)), k = doubles(random_tensor({z.b, z.g, z.s, z.d}, dtype, 2)),
             v = doubles(random_tensor({z.b, z.g, z.s, z.e}, dtype, 3));
  const auto mask = o.mask ? doubles(o.mask.expand({z.b, z.h, z.t, z.s})) : std::vector<double>();
  const bool seen_or_not = o.mask && o.mask.dtype() == Dtype::boolean;
  const auto earlier_out = doubles(random_tensor({z.b, z.h, z.t, z.e}, sums_of(dtype), 8)), earlier = doubles(earlier_logsumexp(z, sums_of(dtype)));
  Expected result;
  for (std::int64_t row = 0; row < z.b * z.h * z.t; ++row) {
    const std::int64_t i = row % z.t, h = row / z.t % z.h, b = row / z.t / z.h, kv = b * z.g + h * z.g / z.h;
    const std::int64_t number = o.rows.empty() ? i : o.rows[static_cast<std::size_t>(i)];
    double total = 0;
    std::vector<double> sums(static_cast<std::size_t>(z.e));
    const auto add = [&](double score, const double* values) {
      total += std::exp(score);
      for (std::size_t x = 0; x < sums.size(); ++x) sums[x] += std::exp(score) * values[x];
    };
    if (o.merge) add(earlier[static_cast<std::size_t>(row)], &earlier_out[static_cast<std::size_t>(row * z.e)]);
    for (std::int64_t j = 0; j < z.s; ++j) {
      if (o.causal && (o.columns.empty() ? j : o.columns[static_cast<std::size_t>(j)]) > number + o.offset) continue;
      double score = 0;
      for (std::int64_t x = 0; x < z.d; ++x)
        score += q[static_cast<std::size_t>(row * z.d + x)] * k[static_cast<std::size_t>((kv * z.s + j) * z.d + x)] * 0.5;
      if (o.mask) {
        const double m = mask[static_cast<std::size_t>(row * z.s + j)];
        if (seen_or_not && m == 0) continue;
        if (!seen_or_not) score += m;
      }
      add(score, &v[static_cast<std::size_t>((kv * z.s + j) * z.e)]);
    }
    for (const double x : sums) result.out.push_back(total == 0 ? 0 : x / total);
    result.logsumexp.push_back(std::log(total));
  }
  return result;
}
double furthest(const Tensor& got, const std::vector<double>& expected) {
  const auto values = doubles(got);
  REQUIRE(values.size() == expected.size());
  double most = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] != expected[i]) most = std::max(most, std::abs(values[i] - expected[i]) / std::max(1.0, std::abs(expected[i])));
  return most;
}

// Over parts of the keys, on a device with many multiprocessors, against the formula and against one block of threads for all keys.
void compare_parts(const Sizes& z, Dtype dtype, const Options& o = {}) {
  INFO(to_string(dtype), ", b ", z.b, ", h ", z.h, ", t ", z.t, ", s ", z.s, ", d ", z.d, ", e ", z.e);
  const Launched whole = forward_on(1, emulated::kShared, z, dtype, o), parts = forward_on(132, emulated::kShared, z, dtype, o);
  CHECK_FALSE(whole.has("attention parts"));
  CHECK(parts.has("attention parts"));
  const Expected expected = by_formula(z, dtype, o);
  CHECK(furthest(parts.out, expected.out) <= 2 * tolerance(dtype));
  CHECK(furthest(parts.logsumexp, expected.logsumexp) <= 2 * tolerance(sums_of(dtype)));
  CHECK(worst(whole.out, parts.out) <= 2 * tolerance(dtype));
  CHECK(worst(whole.logsumexp, parts.logsumexp) <= 2 * tolerance(sums_of(dtype)));
  const Launched again = forward_on(132, emulated::kShared, z, dtype, o);
  CHECK(doubles(again.out) == doubles(parts.out));
}

}  // namespace

TEST_CASE("keys are shared out where there are few queries, in whole tiles that cover all keys and fill the device") {
  CHECK(local::cuda::key_parts(66, 1 << 20, 132).count == 1);
  CHECK(local::cuda::key_parts(8, 200, 132).count == 1);
  CHECK(local::cuda::key_parts(0, 1 << 20, 132).count == 1);
  for (const std::int64_t blocks : {1, 3, 8, 65})
    for (const std::int64_t keys : {257, 1000, 4096, 100'000, 1 << 20}) {
      const KeyParts parts = local::cuda::key_parts(blocks, keys, 132);
      CHECK(parts.count > 1);
      CHECK(parts.count * blocks <= 2 * 132);
      CHECK(parts.keys % local::cuda::kKeyTile == 0);
      CHECK(parts.begin(parts.count - 1) < keys);
      CHECK(parts.end(parts.count - 1, keys) == keys);
      for (std::int64_t i = 1; i < parts.count; ++i) CHECK(parts.end(i - 1, keys) == parts.begin(i));
    }
}
TEST_CASE("attention over parts of the keys is the formula's, and that of one part, for all dtypes and uneven lengths") {
  for (const Dtype dtype : kFloating) {
    compare_parts({1, 1, 1, 1, 300, 16, 16}, dtype);
    compare_parts({2, 3, 3, 5, 777, 20, 33}, dtype);
    compare_parts({1, 2, 1, 16, 1025, 72, 100}, dtype, {.causal = true, .offset = 1009});
    compare_parts({1, 1, 1, 3, 520, 130, 200}, dtype, {.causal = true, .offset = 200});  // some parts are seen by no query
  }
}
TEST_CASE("attention over parts of the keys reads them once for the queries of several heads") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    compare_parts({2, 8, 2, 1, 600, 16, 16}, dtype);
    compare_parts({2, 6, 2, 1, 600, 16, 24}, dtype, {.causal = true, .offset = 400, .lie = Lie::padded});
    compare_parts({1, 8, 2, 1, 300, 8, 8}, dtype, {.mask = random_tensor({8, 1, 300}, Dtype::f32, 6)});
    compare_parts({2, 6, 3, 1, 300, 8, 8}, dtype, {.mask = random_tensor({2, 1, 1, 300}, Dtype::f32, 6), .merge = true});
    compare_parts({1, 6, 2, 4, 300, 8, 8}, dtype, {.causal = true, .offset = 290});
  }
}
TEST_CASE("attention over parts of the keys takes masks, numbers of rows and keys, and what other keys gave") {
  const Tensor seen = Tensor::zeros({2, 1, 4, 300}, Dtype::boolean);
  for (std::size_t i = 300; i < seen.values<bool>().size(); ++i) seen.values<bool>()[i] = i % 3 != 0;  // the first row sees nothing
  std::vector<std::int64_t> columns;
  for (std::int64_t j = 0; j < 300; ++j) columns.push_back(j * 2 + j % 3);
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16}) {
    compare_parts({2, 3, 3, 4, 300, 8, 8}, dtype, {.mask = seen});
    compare_parts({2, 2, 2, 4, 300, 8, 72}, dtype, {.causal = true, .offset = 280, .merge = true});
    compare_parts({1, 2, 2, 3, 300, 8, 8}, dtype, {.causal = true, .rows = {5, 290, 700}, .columns = columns, .merge = true});
    compare_parts({1, 4, 2, 1, 300, 8, 8}, dtype, {.causal = true, .rows = {291}, .columns = columns});
  }
}
TEST_CASE("attention takes smaller tiles, or none, where a block has less shared memory") {
  const Sizes wide{1, 1, 1, 70, 90, 200, 256}, narrow{1, 1, 1, 70, 90, 64, 64};
  for (const std::size_t shared : {227 << 10, 163 << 10, 99 << 10, 64 << 10, 48 << 10})
    for (const Sizes& z : {wide, narrow, Sizes{1, 2, 1, 70, 90, 128, 100}})
      for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
        INFO(shared, " bytes, width ", z.d);
        const Launched got = forward_on(4, shared, z, dtype, {.causal = true, .offset = 20});
        CHECK(furthest(got.out, by_formula(z, dtype, {.causal = true, .offset = 20}).out) <= 2 * tolerance(dtype));
      }
  // Backward too.
  emulated::set_parts(4, 48 << 10);
  compare({1, 2, 1, 70, 90, 128, 100}, Dtype::bf16, {.causal = true});
  compare({1, 2, 1, 70, 90, 64, 30}, Dtype::f16);
  emulated::set_parts();
}
#endif

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
