// SPDX-License-Identifier: Apache-2.0
// Elementwise kernels and copies of boxes on a device against their CPU forms: sizes around those of vectors and blocks, strides, alignments, dtypes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "dtensor/error.h"
#include "dtensor/tensor.h"
#include "local/cuda/map_plan.h"
#include "local/kernels/activations.h"
#include "local/kernels/binary.h"
#include "local/kernels/losses.h"
#include "local/kernels/map.h"
#include "local/kernels/optimizer.h"
#include "local/kernels/pointwise.h"
#include "under_test.h"

using namespace dtensor;
using namespace dtensor::local;

namespace {

using test::kGpu;
const std::vector<std::int64_t> kSizes{0, 1, 31, 32, 33, 255, 256, 257, 1003};
const std::vector<Dtype> kDtypes{Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};

// Numbers from -3 to 3 in steps of 1/32 by turns, of integers small ones.
Tensor numbers(const Shape& shape, Dtype dtype, int salt = 0) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  std::int64_t i = salt;
  for (double& v : t.values<double>()) v = static_cast<double>((i++ * 37) % 193 - 96) / 32;
  return t.to(dtype);
}
Tensor host(const Tensor& t) { return t.to(Device::cpu()).contiguous(); }
std::vector<double> values(const Tensor& t) {
  const Tensor wide = host(t).to(Dtype::f64);
  return {wide.values<double>().begin(), wide.values<double>().end()};
}

double tolerance(Dtype dtype) {
  return dtype == Dtype::f64 ? 1e-13 : dtype == Dtype::f32 ? 1e-6 : dtype == Dtype::bf16 ? 1.0 / 128 : dtype == Dtype::f16 ? 1.0 / 1024 : 0;
}

// Largest difference of numbers relative to the tolerance of their dtype.
double distance(const Tensor& device, const Tensor& cpu) {
  if (!(device.shape() == cpu.shape()) || device.dtype() != cpu.dtype()) return 1e9;
  const auto a = values(device), b = values(cpu);
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double d = std::abs(a[i] - b[i]), t = tolerance(cpu.dtype()) * std::max(1.0, std::abs(b[i]));
    most = std::max(most, t > 0 && std::isfinite(d) ? d / t : 1e9);
  }
  return most;
}
bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = host(a), y = host(b);
  return x.shape() == y.shape() &&
         (x.numel() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<std::size_t>(x.numel() * info(x.dtype()).bytes)) == 0);
}

// The ways in which a tensor of `n` elements may lie in memory: row-major, off alignment, with gaps, as a transpose.
std::vector<Tensor> layouts(const Tensor& x, Device device) {
  const std::int64_t n = x.numel();
  std::vector<Tensor> list{x.to(device)};
  for (std::int64_t offset : {1, 3}) {
    const Tensor memory = Tensor::zeros({n + offset}, x.dtype(), device);
    memory.narrow(0, offset, n).copy_(x);
    list.push_back(memory.narrow(0, offset, n));
  }
  const Tensor gaps = Tensor::zeros({n, 3}, x.dtype(), device);
  gaps.as_strided({n}, {3}, 1).copy_(x);
  list.push_back(gaps.as_strided({n}, {3}, 1));
  return list;
}

}  // namespace

TEST_CASE("division by a known number is exact up to 2^31 - 1") {
  for (std::uint32_t d : {1u, 2u, 3u, 5u, 7u, 12u, 31u, 64u, 641u, 1000u, 65535u, 65536u, 65537u, 1000000007u, (1u << 30) + 7, 0x7fffffffu}) {
    const cuda::Divider divider(d);
    for (std::uint64_t base : {std::uint64_t{0}, std::uint64_t{d}, std::uint64_t{d} * 17, std::uint64_t{1} << 30, std::uint64_t{0x7ffffffd}})
      for (std::int64_t off = -2; off <= 2; ++off) {
        const auto n = static_cast<std::uint32_t>(std::clamp<std::int64_t>(static_cast<std::int64_t>(base) + off, 0, 0x7fffffff));
        CHECK(divider.quotient(n) == n / d);
      }
  }
}

TEST_CASE("walks take every element once, each within 32 bits") {
  struct Case {
    std::vector<std::int64_t> sizes, strides;
  };
  const std::int64_t big = (std::int64_t{1} << 31) + 5;
  for (const Case& c : {Case{{big}, {1}}, Case{{3, big}, {big, 1}}, Case{{big, 2}, {1, big}}, Case{{7, 9}, {std::int64_t{1} << 33, 1}},
                        Case{{5, 4}, {4, 1}}, Case{{2, 3}, {std::int64_t{3} << 30, std::int64_t{1} << 30}}}) {
    std::int64_t total = 1, seen = 0, far = 0;
    for (const std::int64_t s : c.sizes) total *= s;
    std::vector<cuda::MapOperand> operands(1);
    alignas(16) std::byte origin[16];
    operands[0].data = origin;
    operands[0].bytes = 2;
    operands[0].strides = c.strides;
    cuda::for_walks(c.sizes, operands, cuda::Taken{8, 4}, [&](const cuda::MapWalk<cuda::kMostOperands>& w) {
      std::int64_t rows = 1, reach = 0;
      for (int d = 0; d < w.dims; ++d) {
        rows *= w.sizes[d].divisor;
        reach += (std::int64_t{w.sizes[d].divisor} - 1) * std::abs(std::int64_t{w.strides[0][d]});
      }
      seen += w.by_vectors ? rows * w.count : w.count;
      CHECK((w.by_vectors || rows == w.count));
      CHECK(w.threads >= 1);
      CHECK(reach + (w.by_vectors ? w.count : 0) <= (std::int64_t{1} << 30));
      far = std::max(far, (w.data[0] - origin) / 2 + reach + (w.by_vectors ? std::int64_t{w.count} - 1 : 0));
    });
    std::int64_t farthest = 0;
    for (std::size_t d = 0; d < c.sizes.size(); ++d) farthest += (c.sizes[d] - 1) * c.strides[d];
    CHECK(seen == total);
    CHECK(far == farthest);
  }
}

TEST_CASE("functions of one number give the CPU's, whatever the dtype, size and place") {
  const Scalar k[3] = {1.0, 20.0, 0.5};
  for (int op = 0; op <= static_cast<int>(cpu::Unary::isfinite); ++op) {
    const auto kind = static_cast<cpu::Unary>(op);
    for (const Dtype dtype : kDtypes) {
      const bool integers = kind <= cpu::Unary::sign || kind == cpu::Unary::square || (kind >= cpu::Unary::floor && kind <= cpu::Unary::relu) ||
                            kind >= cpu::Unary::logical_not;
      const Dtype result = kind >= cpu::Unary::logical_not ? Dtype::boolean : info(dtype).floating || integers ? dtype : Dtype::f32;
      const std::int64_t n = kSizes[static_cast<std::size_t>(op) % kSizes.size()] + 40;
      const Tensor x = numbers({n}, dtype, op), expected = Tensor::empty({n}, result);
      kernels::unary(kind, x, expected, k);
      Tensor first;
      for (const Tensor& there : layouts(x, kGpu)) {
        const Tensor out = Tensor::empty({n}, result, kGpu);
        kernels::unary(kind, there, out, k);
        CAPTURE(op);
        CAPTURE(dtype);
        CHECK(distance(out, expected) <= 4);
        if (first) CHECK(same_bits(out, first));
        else first = out;
      }
    }
  }
}

TEST_CASE("sums of two operands broadcast, take all pairs of dtypes, and stay in place") {
  const Scalar two = 2;
  for (const std::int64_t n : kSizes)
    for (const Dtype a : kDtypes) {
      const Dtype b = kDtypes[(static_cast<std::size_t>(a) * 3 + static_cast<std::size_t>(n)) % kDtypes.size()];
      const Dtype result = promote(a, b) == Dtype::boolean ? Dtype::i64 : promote(a, b);
      const Tensor x = numbers({4, n}, a, 1), row = numbers({n}, b, 2), column = numbers({4, 1}, b, 3), one = numbers({}, b, 4),
                   same = numbers({n, 4}, b, 5).transpose(0, 1);
      for (const Tensor& y : {row, column, one, same}) {
        const Tensor expected = Tensor::empty({4, n}, result), out = Tensor::empty({4, n}, result, kGpu);
        kernels::binary(cpu::Binary::add, x, y, expected, &two);
        kernels::binary(cpu::Binary::add, x.to(kGpu), y.to(kGpu), out, &two);
        CHECK(distance(out, expected) <= 2);
      }
      if (a == Dtype::boolean) continue;
      const Tensor here = x.clone(), there = x.to(kGpu);
      kernels::binary(cpu::Binary::mul, here, Scalar(2), here);
      kernels::binary(cpu::Binary::mul, there, Scalar(2), there);
      CHECK(same_bits(here, there));
    }
}

TEST_CASE("comparisons, choices and functions of three give the CPU's numbers") {
  const Scalar k[3] = {0.1, 0.05, 1.0};
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16, Dtype::i64, Dtype::u8}) {
    const Tensor a = numbers({33, 7}, dtype, 1), b = numbers({7}, dtype, 90), c = numbers({33, 1}, dtype, 40),
                 which = numbers({33, 7}, Dtype::boolean, 30);
    const Tensor ga = a.to(kGpu), gb = b.to(kGpu), gc = c.to(kGpu);
    for (int op = 0; op <= static_cast<int>(cpu::Compare::isclose); ++op) {
      const Tensor expected = Tensor::empty({33, 7}, Dtype::boolean), out = Tensor::empty({33, 7}, Dtype::boolean, kGpu);
      kernels::compare(static_cast<cpu::Compare>(op), a, b, cpu::compute_type(dtype), expected, k);
      kernels::compare(static_cast<cpu::Compare>(op), ga, gb, cpu::compute_type(dtype), out, k);
      CHECK(same_bits(out, expected));
    }
    const Tensor expected = Tensor::empty({33, 7}, dtype), out = Tensor::empty({33, 7}, dtype, kGpu);
    kernels::where(which, a, Scalar(1), expected);
    kernels::where(which.to(kGpu), ga, Scalar(1), out);
    CHECK(same_bits(out, expected));
    for (const auto op : {cpu::Ternary::clamp, cpu::Ternary::lerp, cpu::Ternary::addcmul, cpu::Ternary::addcdiv}) {
      if (!info(dtype).floating && (op == cpu::Ternary::lerp || op == cpu::Ternary::addcdiv)) continue;
      kernels::ternary(op, a, b, c, expected, k);
      kernels::ternary(op, ga, gb, gc, out, k);
      CHECK(distance(out, expected) <= 4);
    }
  }
}

TEST_CASE("an integer divided by zero is said at the next call, and only then") {
  const Tensor a = numbers({100}, Dtype::i64), b = Tensor::zeros({100}, Dtype::i64);
  b.fill_(3);
  const Tensor out = Tensor::empty({100}, Dtype::i64, kGpu);
  kernels::binary(cpu::Binary::div_floor, a.to(kGpu), b.to(kGpu), out);
  CHECK_NOTHROW(host(out));  // what fills the last vector is no zero
  b.narrow(0, 99, 1).fill_(0);
  kernels::binary(cpu::Binary::div_floor, a.to(kGpu), b.to(kGpu), out);
  CHECK_THROWS_WITH_AS(host(out), "an integer is divided by zero", Error);
  CHECK_NOTHROW(host(out));
}

TEST_CASE("steps of optimisers give the CPU's numbers with state of other dtypes") {
  for (const Dtype p : {Dtype::f32, Dtype::f64, Dtype::bf16})
    for (const Dtype s : {Dtype::f32, Dtype::f64})
      for (const std::int64_t n : kSizes)
        for (const bool keeps_top : {false, true}) {
          std::vector<Tensor> here{numbers({n}, p, 1), numbers({n}, p, 2), numbers({n}, s, 3), numbers({n}, s, 4),
                                   keeps_top ? numbers({n}, s, 5) : Tensor()},
              there;
          kernels::unary(cpu::Unary::abs, here[3], here[3]);
          for (const Tensor& t : here) there.push_back(t ? t.to(kGpu) : Tensor());
          for (int step = 1; step <= 2; ++step)
            for (const auto* list : {&here, &there}) {
              const auto& t = *list;
              const cpu::AdamCall adam[] = {
                  {t[0], t[1], t[2], t[3], t[4], {.weight_decay = 0.1, .step = static_cast<double>(step), .decoupled = n % 2 == 0}}};
              const cpu::SgdCall sgd[] = {{t[0], t[1], keeps_top ? t[2] : Tensor(), {.lr = 0.1, .momentum = 0.9, .nesterov = keeps_top}}};
              kernels::adam_steps(adam);
              kernels::sgd_steps(sgd);
            }
          for (std::size_t i = 0; i < here.size(); ++i)
            if (here[i]) CHECK(distance(there[i], here[i]) <= 8);
        }
}

TEST_CASE("activations, elementary functions, pairs and squared errors give the CPU's numbers") {
  const Scalar k[3] = {0.5, 1.0, 1.5}, two = 2;
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16}) {
    const Tensor x = numbers({515}, dtype, 3), g = numbers({515}, dtype, 8), gx = x.to(kGpu), gg = g.to(kGpu);
    const Tensor expected = Tensor::empty({515}, dtype), out = Tensor::empty({515}, dtype, kGpu);
    const auto compare = [&](int op) {
      CAPTURE(op);
      CHECK(distance(out, expected) <= 20);
    };
    for (int op = 0; op <= static_cast<int>(cpu::Activation::threshold); ++op) {
      const auto kind = static_cast<cpu::Activation>(op);
      kernels::activation(kind, x, expected, k);
      kernels::activation(kind, gx, out, k);
      compare(op);
      for (int order : {1, 2}) {
        kernels::activation_backward(kind, order, g, x, expected, k);
        kernels::activation_backward(kind, order, gg, gx, out, k);
        compare(100 * order + op);
      }
    }
    for (int op = 0; op <= static_cast<int>(cpu::Elementary::nan_to_num); ++op) {
      const Scalar* numbers_of = op == static_cast<int>(cpu::Elementary::polygamma) ? &two : k;
      kernels::elementary(static_cast<cpu::Elementary>(op), x, expected, numbers_of);
      kernels::elementary(static_cast<cpu::Elementary>(op), gx, out, numbers_of);
      compare(300 + op);
    }
    for (int op = 0; op < static_cast<int>(cpu::Pair::left_shift); ++op) {
      kernels::pair(static_cast<cpu::Pair>(op), x, g, expected);
      kernels::pair(static_cast<cpu::Pair>(op), gx, gg, out);
      compare(400 + op);
    }
    for (int op = 0; op <= static_cast<int>(cpu::UnaryBackward::clamp); ++op) {
      kernels::unary_backward(static_cast<cpu::UnaryBackward>(op), g, x, expected, k);
      kernels::unary_backward(static_cast<cpu::UnaryBackward>(op), gg, gx, out, k);
      compare(500 + op);
    }
    kernels::squared_error(x, g, expected);
    kernels::squared_error(gx, gg, out);
    compare(600);
    const Tensor expected_up = Tensor::empty({515}, dtype), out_up = Tensor::empty({515}, dtype, kGpu);
    kernels::swiglu_backward(g, x, g, expected, expected_up);
    kernels::swiglu_backward(gg, gx, gg, out, out_up);
    compare(601);
    CHECK(distance(out_up, expected_up) <= 20);
  }
  const Tensor a = numbers({70}, Dtype::i32, 1), b = numbers({70}, Dtype::i32, 5), expected = Tensor::empty({70}, Dtype::i32),
               out = expected.to(kGpu);
  for (int op = static_cast<int>(cpu::Pair::fmax); op <= static_cast<int>(cpu::Pair::lcm); ++op) {
    kernels::pair(static_cast<cpu::Pair>(op), a, b, expected);
    kernels::pair(static_cast<cpu::Pair>(op), a.to(kGpu), b.to(kGpu), out);
    CHECK(same_bits(out, expected));
  }
}

TEST_CASE("copies of boxes keep every bit: permuted, cut out, put in, converted, filled") {
  const std::vector<Shape> orders{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (const Dtype dtype : {Dtype::u8, Dtype::bf16, Dtype::f32, Dtype::i64})
    for (const Shape& shape : {Shape{3, 70, 65}, Shape{64, 1, 33}, Shape{2, 9, 130}, Shape{16, 32, 8}}) {
      const Tensor x = numbers(shape, dtype, 1), there = x.to(kGpu);
      for (const auto& o : orders) {
        CHECK(same_bits(there.permute(o).contiguous(), x.permute(o).contiguous()));
        CHECK(same_bits(there.permute(o).to(Dtype::f32), x.permute(o).to(Dtype::f32)));
      }
      for (std::int64_t begin : {0, 1}) {
        const std::int64_t n = std::min<std::int64_t>(shape[2] - 1, 32);
        CHECK(same_bits(there.narrow(2, begin, n).contiguous(), x.narrow(2, begin, n).contiguous()));
        const Tensor here = x.clone(), copy = x.to(kGpu);
        for (const Tensor& t : {here, copy}) {
          t.narrow(2, begin, n).copy_(numbers({shape[0], shape[1], n}, Dtype::f32, 7).to(t.device()));
          t.narrow(0, begin, 1).fill_(3);
          t.narrow(2, n, 1).fill_(0);
        }
        CHECK(same_bits(copy, here));
      }
    }
  const Tensor square = Tensor::zeros({40, 40}, Dtype::bf16, kGpu), out = Tensor::empty({40, 40}, Dtype::bf16, kGpu);
  test::queued();
  out.copy_(square.transpose(0, 1));
  CHECK_TOLD(test::queued("launch transpose") == 1);

  const Tensor flat = Tensor::empty({1001}, Dtype::f32, kGpu);
  flat.fill_(2.5);
  flat.narrow(0, 1, 7).fill_(0);
  const auto all = values(flat);
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i] == (i >= 1 && i < 8 ? 0.0 : 2.5));
}
