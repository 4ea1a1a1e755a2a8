// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/gemm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "dtensor/error.h"
#include "dtensor/ops/matmul.h"
#include "emulated_blaslt.h"
#include "local/cuda/product_cache.h"
#include "local/kernels/gemm.h"
#include "local/precision.h"
#include "local/strided.h"
#include "under_test.h"

using namespace dtensor;
using namespace dtensor::local;
using cpu::GemmCall;

namespace {

const Device kDevice = Device::cuda(0);

// Small integers, exact in every dtype, as a strided matrix (or batch) inside a buffer with room on all sides.
struct Matrices {
  Tensor host, device;
  std::int64_t row, column;
  Shape batch;
  std::int64_t offset;
};
enum class Lies { rows, columns, padded_rows, padded_columns, apart, repeated_rows };
Matrices matrices(Dtype dtype, std::int64_t count, std::int64_t rows, std::int64_t columns, Lies lies, std::int64_t offset, int seed) {
  Matrices m{};
  const std::int64_t pad = lies == Lies::padded_rows || lies == Lies::padded_columns ? 3 : 0;
  const bool turned = lies == Lies::columns || lies == Lies::padded_columns;
  const std::int64_t unit = lies == Lies::apart ? 2 : 1, beside = (turned ? rows : columns) * unit + pad, lines = turned ? columns : rows;
  m.row = turned ? unit : lies == Lies::repeated_rows ? 0 : beside;
  m.column = turned ? beside : unit;
  m.offset = offset;
  const std::int64_t each = beside * lines, numel = offset + count * each + 1;
  if (count > 1) m.batch = {each};
  std::vector<double> values(static_cast<std::size_t>(numel));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>((i * 7 + static_cast<std::size_t>(seed)) % 5) - (info(dtype).floating ? 2.0 : 0.0);
  m.host = Tensor::empty({numel}, Dtype::f64);
  std::copy(values.begin(), values.end(), m.host.raw_as<double>());
  m.host = m.host.to(dtype);
  m.device = m.host.to(kDevice);
  return m;
}
cpu::MatrixOperand operand(const Matrices& m, const Tensor& t) {
  return {static_cast<const std::byte*>(t.raw()) + m.offset * info(t.dtype()).bytes, m.row, m.column, m.batch};
}

// The same call on both sides. Everything is an integer that f32 holds and bf16 rounds once: equal to the last bit.
void compare(Dtype dtype, std::int64_t count, std::int64_t m, std::int64_t n, std::int64_t k, Lies la, Lies lb, bool addend, Lies lc, double beta,
             std::int64_t offset) {
  CAPTURE(to_string(dtype));
  CAPTURE(count);
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(static_cast<int>(la));
  CAPTURE(static_cast<int>(lb));
  CAPTURE(static_cast<int>(lc));
  CAPTURE(addend);
  CAPTURE(beta);
  const Matrices a = matrices(dtype, count, m, k, la, offset, 1), b = matrices(dtype, count, k, n, lb, offset, 2),
                 c = matrices(dtype, count, m, n, lc, offset, 3);
  const Shape shape{count, m, n};
  const Tensor host = Tensor::empty(shape, dtype), device = Tensor::empty(shape, dtype, kDevice);
  GemmCall call;
  call.dtype = dtype;
  if (count > 1) call.batch = {count};
  call.m = m;
  call.n = n;
  call.k = k;
  call.alpha = 2;
  call.beta = beta;
  const auto run = [&](bool on_device) {
    call.a = operand(a, on_device ? a.device : a.host);
    call.b = operand(b, on_device ? b.device : b.host);
    if (addend) call.addend = operand(c, on_device ? c.device : c.host);
    call.out = (on_device ? device : host).raw();
    call.device = on_device ? kDevice : Device::cpu();
    kernels::gemm(call);
  };
  run(false);
  run(true);
  const Tensor expected = host.to(Dtype::f64), given = device.to(Device::cpu()).to(Dtype::f64);
  for (std::int64_t i = 0; i < host.numel(); ++i) REQUIRE(given.raw_as<double>()[i] == expected.raw_as<double>()[i]);
}

std::set<std::string> queued() {
  std::set<std::string> list;
  for (const auto& e : test::queued()) list.insert(e.what);
  return list;
}

}  // namespace

TEST_CASE("products of all dtypes, layouts and sizes are those of the CPU") {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8})
    for (std::int64_t m : {1, 3, 65})
      for (std::int64_t n : {1, 4, 67})
        for (std::int64_t k : {0, 1, 17})
          for (Lies la : {Lies::rows, Lies::columns, Lies::padded_rows, Lies::apart, Lies::repeated_rows})
            compare(dtype, 1, m, n, k, la, static_cast<Lies>((static_cast<int>(la) + static_cast<int>(m)) % 6), k != 1, Lies::rows, 1, m % 2);
}

TEST_CASE("addends of all layouts, with and without a factor, in batches too") {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::i32})
    for (std::int64_t count : {1, 3})
      for (double beta : {0.0, 1.0, 3.0})
        for (Lies lc : {Lies::rows, Lies::columns, Lies::padded_rows, Lies::padded_columns, Lies::apart, Lies::repeated_rows})
          for (std::int64_t n : {1, 9}) compare(dtype, count, 5, n, 7, Lies::padded_columns, Lies::columns, true, lc, beta, 1);
}

TEST_CASE("a shape without an algorithm of the library is multiplied all the same") {
  for (Dtype dtype : {Dtype::f32, Dtype::f16})
    for (std::int64_t count : {1, 3})
      for (Lies lc : {Lies::rows, Lies::repeated_rows, Lies::columns})
        compare(dtype, count, 29, 31, 37, Lies::padded_columns, Lies::padded_rows, true, lc, 1, 0);
}

// Refused while the object lives.
struct Refusing {
  explicit Refusing(std::function<bool(const cuda::ProductShape&)> refused, bool when_run = false) {
    cuda::emulated::refuse_products(std::move(refused), when_run);
  }
  ~Refusing() { cuda::emulated::refuse_products({}); }
};

TEST_CASE("what the library refuses is tried without an epilogue, then with copies, then multiplied without it") {
  struct Way {
    bool (*refused)(const cuda::ProductShape&);
    const char* last;
  };
  const Way ways[] = {
      {[](const cuda::ProductShape&) { return false; }, "launch product"},
      {[](const cuda::ProductShape& s) { return s.has_bias; }, "launch product"},
      {[](const cuda::ProductShape& s) { return s.a.ld % 4 != 0 || s.a.alignment < 16; }, "launch product"},
      {[](const cuda::ProductShape&) { return true; }, "launch tiled product"},
  };
  // Sizes that no other case has: plans are kept.
  std::int64_t m = 40;
  for (const Way& way : ways)
    for (bool when_run : {false, true})
      for (Dtype dtype : {Dtype::f32, Dtype::bf16}) {
        const Refusing as(way.refused, when_run);
        ++m;
        queued();
        // The row of an addend is a bias; the operands' rows are 15 elements apart and begin anywhere.
        compare(dtype, 1, m, 8, 12, Lies::padded_rows, Lies::rows, true, Lies::repeated_rows, 1, 0);
        CAPTURE(m);
        const auto list = queued();
        CHECK_TOLD(list.count(way.last) == 1);
        CHECK_TOLD(list.count("launch product") + list.count("launch tiled product") == 1);
        compare(dtype, 3, m, 9, 12, Lies::padded_columns, Lies::apart, true, Lies::rows, 3, 1);
      }
}

namespace {

struct GeluResult {
  Tensor out, sum;
};
// linear_gelu of rows [m, k] and a weight [n, k] on a device, the operands `offset` elements behind an allocation's begin.
GeluResult linear_gelu(Device device, Dtype dtype, std::int64_t m, std::int64_t n, std::int64_t k, bool with_bias, bool with_sum,
                       std::int64_t offset) {
  const auto memory = [&](std::int64_t count, int seed) {
    Tensor t = Tensor::empty({count + offset}, Dtype::f64);
    for (std::int64_t i = 0; i < t.numel(); ++i) t.raw_as<double>()[i] = static_cast<double>((i * 7 + seed) % 9 - 4) / 8;
    return t.to(dtype).to(device).narrow(0, offset, count);
  };
  const Tensor x = memory(m * k, 1), w = memory(n * k, 2), bias = memory(n, 3);
  GeluResult r{Tensor::empty({m, n}, dtype, device), with_sum ? Tensor::empty({m, n}, dtype, device) : Tensor()};
  GemmCall call;
  call.dtype = dtype;
  call.m = m;
  call.n = n;
  call.k = k;
  call.a = {x.raw(), k, 1, {}};
  call.b = {w.raw(), 1, k, {}};
  if (with_bias) call.addend = {bias.raw(), 0, 1, {}};
  call.device = device;
  kernels::linear_gelu(call, r.out, with_sum ? &r.sum : nullptr);
  return r;
}
void check_near(const Tensor& device, const Tensor& host, Dtype dtype) {
  const Tensor a = device.to(Device::cpu()).to(Dtype::f64), b = host.to(Dtype::f64);
  const double tolerance = dtype == Dtype::bf16 ? 1.0 / 64 : dtype == Dtype::f16 ? 1.0 / 512 : 1e-5;
  for (std::int64_t i = 0; i < a.numel(); ++i)
    REQUIRE(std::abs(a.raw_as<double>()[i] - b.raw_as<double>()[i]) <= tolerance * std::max(1.0, std::abs(b.raw_as<double>()[i])));
}

}  // namespace

TEST_CASE("gelu of a linear layer is that of the CPU, and one launch where the library takes it") {
  for (Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16})
    for (std::int64_t m : {1, 33})
      for (std::int64_t n : {8, 13, 64})
        for (std::int64_t k : {0, 5, 32})
          for (bool with_bias : {false, true})
            for (bool with_sum : {false, true})
              for (std::int64_t offset : {0, 1}) {
                CAPTURE(to_string(dtype));
                CAPTURE(n);
                CAPTURE(k);
                CAPTURE(with_bias);
                CAPTURE(with_sum);
                CAPTURE(offset);
                const GeluResult host = linear_gelu(Device::cpu(), dtype, m, n, k, with_bias, with_sum, offset);
                queued();
                const GeluResult device = linear_gelu(kDevice, dtype, m, n, k, with_bias, with_sum, offset);
                const auto list = queued();
                const bool fused = dtype != Dtype::f64 && k != 0 && (!with_bias || offset == 0) && (!with_sum || n % 8 == 0);
                CHECK_TOLD(list.count("launch product") == (k != 0));
                CHECK_TOLD(list.count("launch unary") == !fused);
                check_near(device.out, host.out, dtype);
                if (with_sum) check_near(device.sum, host.sum, dtype);
              }
}

TEST_CASE("gelu that the library refuses as an epilogue follows the product") {
  for (bool when_run : {false, true}) {
    const Refusing as([](const cuda::ProductShape& s) { return s.gelu; }, when_run);
    const GeluResult host = linear_gelu(Device::cpu(), Dtype::bf16, 21, 16, 24 + when_run, true, true, 0);
    queued();
    const GeluResult device = linear_gelu(kDevice, Dtype::bf16, 21, 16, 24 + when_run, true, true, 0);
    const auto list = queued();
    CHECK_TOLD(list.count("launch product") == 1);
    CHECK_TOLD(list.count("launch unary") == 1);
    check_near(device.out, host.out, Dtype::bf16);
    check_near(device.sum, host.sum, Dtype::bf16);
  }
}

TEST_CASE("a product queues one launch and never waits") {
  const Tensor x = Tensor::zeros({4, 33, 8}, Dtype::bf16).to(kDevice), w = Tensor::zeros({16, 8}, Dtype::bf16).to(kDevice),
               bias = Tensor::zeros({16}, Dtype::bf16).to(kDevice), out = Tensor::empty({4, 33, 16}, Dtype::bf16, kDevice);
  GemmCall call;
  call.dtype = Dtype::bf16;
  call.batch = {4};
  call.m = 33;
  call.n = 16;
  call.k = 8;
  call.a = cpu::matrix_operand(x, call.batch);
  call.b = {w.raw(), 1, 8, {0}};
  call.addend = {bias.raw(), 0, 1, {0}};
  call.out = out.raw();
  call.device = kDevice;
  kernels::gemm(call);
  queued();
  kernels::gemm(call);
  CHECK_TOLD(queued() == std::set<std::string>{"launch product"});
}

TEST_CASE("heads of a permuted batch are one call per sample or per head, whichever are fewer") {
  GemmCall call;
  call.m = call.n = 5;
  call.k = 4;
  call.batch = {3, 7};
  call.a = call.b = {nullptr, 28, 1, {140, 4}};
  const cuda::ProductBatch batch = cuda::product_batch(call);
  REQUIRE(batch.ndim == 2);
  CHECK(batch.numel() == 21);
  CHECK(batch.longest() == 1);
  CHECK(batch.strides[0][0] == 140);
  CHECK(batch.strides[3][0] == 175);
  CHECK(batch.strides[3][1] == 25);
  call.a.batch = call.b.batch = {140, 20};
  CHECK(cuda::product_batch(call).ndim == 1);
  CHECK(cuda::product_batch(call).sizes[0] == 21);
  call.batch = {1, 1};
  CHECK(cuda::product_batch(call).longest() == -1);
}

TEST_CASE("batches whose dims are no one run agree with the CPU, few and many") {
  for (const Shape& batch : {Shape{3, 7}, Shape{70, 71}, Shape{2, 1, 3}}) {
    const std::int64_t heads = batch.back(), others = batch.numel() / heads, m = 2, k = 2, n = 3;
    const Tensor a = Tensor::zeros({others, m, heads, k}, Dtype::f32), b = Tensor::zeros({heads, k, n}, Dtype::f32);
    for (std::int64_t i = 0; i < a.numel(); ++i) a.raw_as<float>()[i] = static_cast<float>(i % 11);
    for (std::int64_t i = 0; i < b.numel(); ++i) b.raw_as<float>()[i] = static_cast<float>(i % 7);
    GemmCall call;
    call.batch = batch;
    call.m = m;
    call.n = n;
    call.k = k;
    Shape of_a = Shape::filled(batch.ndim(), 0), of_b = of_a;
    std::int64_t step = m * heads * k;
    for (int d = batch.ndim() - 2; d >= 0; --d) of_a[d] = step, step *= batch[d];
    of_a[batch.ndim() - 1] = k;
    of_b[batch.ndim() - 1] = k * n;
    std::vector<std::vector<float>> results;
    for (Device device : {Device::cpu(), kDevice}) {
      const Tensor x = a.to(device), y = b.to(device), out = Tensor::empty({batch.numel(), m, n}, Dtype::f32, device);
      call.a = {x.raw(), heads * k, 1, of_a};
      call.b = {y.raw(), n, 1, of_b};
      call.out = out.raw();
      call.device = device;
      kernels::gemm(call);
      const Tensor read = out.to(Device::cpu());
      results.emplace_back(read.raw_as<const float>(), read.raw_as<const float>() + read.numel());
    }
    CHECK(results[0] == results[1]);
  }
}

TEST_CASE("matrices that cuBLASLt cannot read are known") {
  using cuda::product_matrix;
  CHECK(product_matrix(3, 4, 4, 1)->ld == 4);
  CHECK_FALSE(product_matrix(3, 4, 9, 1)->transposed);
  CHECK(product_matrix(3, 4, 1, 5)->transposed);
  CHECK(product_matrix(3, 4, 1, 5)->ld == 5);
  CHECK(product_matrix(1, 4, 0, 6)->ld == 6);  // a row of elements apart: the transpose of a column
  CHECK(product_matrix(4, 1, 6, 0)->ld == 6);
  CHECK(product_matrix(1, 1, 0, 0).has_value());
  CHECK_FALSE(product_matrix(3, 4, 0, 1));  // a repeated row
  CHECK_FALSE(product_matrix(3, 4, 2, 1));  // rows that overlap
  CHECK_FALSE(product_matrix(3, 4, 8, 2));
  CHECK(cuda::alignment_of(reinterpret_cast<const void*>(0x1000)) == 256);
  CHECK(cuda::alignment_of(reinterpret_cast<const void*>(0x1012)) == 2);
}

TEST_CASE("the precision of f32 products is one of two words") {
  CHECK(dtensor::matmul_precision() == "highest");
  set_matmul_precision("high");
  CHECK(local::matmul_precision() == MatmulPrecision::high);
  set_matmul_precision("highest");
  CHECK(local::matmul_precision() == MatmulPrecision::highest);
  CHECK_THROWS_WITH_AS(set_matmul_precision("best"), "set_matmul_precision: 'best' is no precision; give highest or high", InvalidArgument);
}

TEST_CASE("f32 products use TF32 only where that is asked for, others never") {
  const auto product = [](Dtype dtype) {
    const Tensor x = Tensor::of(std::vector<double>{1 + 1.0 / 4096}, Shape{1}).to(dtype).to(kDevice),
                 one = Tensor::of(std::vector<double>{1}, Shape{1}).to(dtype).to(kDevice), out = Tensor::empty({1}, dtype, kDevice);
    GemmCall call;
    call.dtype = dtype;
    call.m = call.n = call.k = 1;
    call.a = {x.raw(), 1, 1, {}};
    call.b = {one.raw(), 1, 1, {}};
    call.out = out.raw();
    call.device = kDevice;
    kernels::gemm(call);
    return out.to(Device::cpu()).to(Dtype::f64).raw_as<double>()[0];
  };
  CHECK(product(Dtype::f32) == 1 + 1.0 / 4096);
  set_matmul_precision("high");
  CHECK_TOLD(product(Dtype::f32) == 1);  // a real library need not use what it may
  CHECK(product(Dtype::f64) == 1 + 1.0 / 4096);
  set_matmul_precision("highest");
  CHECK(product(Dtype::f32) == 1 + 1.0 / 4096);
}

TEST_CASE("plans are kept for the shapes used last") {
  if (!test::tells()) return;  // plans of no device
  cuda::ProductCache cache;
  cuda::ProductShape shape{.m = 1, .n = 1, .k = 1, .count = 1, .a = {}, .b = {}, .c = {}, .out = {}};
  const auto first = cache.find(shape, {});
  CHECK(cache.find(shape, {}) == first);
  for (std::size_t i = 0; i < cuda::ProductCache::kMostPlans + 5; ++i) {
    shape.m = static_cast<std::int64_t>(i) + 2;
    cache.find(shape, {});
  }
  CHECK(cache.size() == cuda::ProductCache::kMostPlans);
  const auto last = cache.find(shape, {});
  shape.tf32 = true;
  CHECK(cache.find(shape, {}) != last);
}
