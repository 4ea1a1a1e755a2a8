// SPDX-License-Identifier: Apache-2.0
// Reading and writing at positions on a device against the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/error.h"
#include "local/kernels/embedding.h"

using namespace dtensor;
using test::kGpu;
namespace kernels = local::kernels;
using local::cpu::Combine;
using local::cpu::CoordinateMap;
using local::cpu::ElementsCall;
using local::cpu::kElsewhere;
using local::cpu::PointsCall;
using local::cpu::RowsCall;

namespace {

constexpr Dtype kAll[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};

std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15;
  return x ^ (x >> 29);
}
// Fractions, some negative; `offset` elements behind an aligned address.
Tensor numbers(const Shape& shape, Dtype dtype, std::uint64_t seed, std::int64_t offset = 0) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel() + offset));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(mixed(seed * 1000003 + i) % 1001) / 250.0 - 2.0;
  const Tensor flat = Tensor::of(values, {shape.numel() + offset}).to(dtype);
  return flat.narrow(0, offset, shape.numel()).view(shape);
}
// On the device, as far behind an aligned address.
Tensor there(const Tensor& t, std::int64_t offset) {
  const Tensor flat = Tensor::empty({t.numel() + offset}, t.dtype(), kGpu), part = flat.narrow(0, offset, t.numel()).view(t.shape());
  part.copy_(t.to(kGpu));
  return part;
}
// Positions below `end`; every fifth elsewhere; `different` of them at most.
Tensor places(std::int64_t count, std::int64_t end, std::int64_t different, std::uint64_t seed) {
  std::vector<std::int64_t> at(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < at.size(); ++i) {
    const std::uint64_t r = mixed(seed * 7919 + i);
    at[i] = r % 5 == 0 || end == 0 ? kElsewhere : static_cast<std::int64_t>(mixed(r) % static_cast<std::uint64_t>(different)) % end;
  }
  return Tensor::of(at, {count});
}

double tolerance(Dtype d) {
  return d == Dtype::f64 ? 1e-13 : d == Dtype::f32 ? 2e-5 : d == Dtype::bf16 ? 1.0 / 100 : d == Dtype::f16 ? 1.0 / 800 : 0;
}
bool close(const Tensor& host, const Tensor& device) {
  const Tensor a = host.to(Dtype::f64).contiguous(), b = device.to(Device::cpu()).to(Dtype::f64).contiguous();
  const double* x = a.raw_as<double>();
  const double* y = b.raw_as<double>();
  for (std::int64_t i = 0; i < a.numel(); ++i)
    if (!(x[i] == y[i]) && !(std::isnan(x[i]) && std::isnan(y[i])) &&
        !(std::abs(x[i] - y[i]) <= tolerance(host.dtype()) * std::max(1.0, std::abs(x[i])))) {
      MESSAGE("element ", i, ": host ", x[i], ", device ", y[i]);
      return false;
    }
  return true;
}
bool same_bits(const Tensor& host, const Tensor& device) {
  const Tensor a = host.contiguous(), b = device.to(Device::cpu()).contiguous();
  return a.numel() == 0 || std::memcmp(a.read(), b.read(), static_cast<std::size_t>(a.bytes())) == 0;
}

struct RowsCase {
  std::int64_t outer, length, inner, count, different;
};
const std::vector<RowsCase> kRows{{1, 4, 3, 5, 4},    {2, 4, 1, 0, 1},      {3, 7, 16, 33, 7},  {2, 5, 32, 31, 2},   {1, 1000, 8, 257, 3},
                                  {1, 3, 64, 300, 1}, {2, 300, 5, 1000, 9}, {1, 1, 1, 1000, 1}, {4, 1, 255, 256, 1}, {1, 40, 48, 255, 40},
                                  {1, 9, 8, 2500, 9}, {2, 3, 0, 4, 3},      {0, 3, 4, 4, 3},    {1, 0, 4, 3, 1}};

}  // namespace

TEST_CASE("index values become the CPU's positions, and a value out of range is said by a later call") {
  if (test::no_device()) return;
  const local::GlobalRun whole[] = {{0, 50}}, part[] = {{10, 20}}, many[] = {{30, 5}, {2, 3}, {49, 1}, {10, 7}};
  for (Dtype dtype : {Dtype::i64, Dtype::i32})
    for (std::int64_t n : {0, 1, 31, 257}) {
      std::vector<std::int64_t> values(static_cast<std::size_t>(n));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int64_t>(mixed(i) % 100) - 50;
      const Tensor both = Tensor::of(values, {n}).to(dtype);
      for (std::span<const local::GlobalRun> runs : {std::span<const local::GlobalRun>(whole), std::span<const local::GlobalRun>(part),
                                                     std::span<const local::GlobalRun>(many), std::span<const local::GlobalRun>()}) {
        const local::cpu::PositionsCall call{"op", "it", 50, runs, true};
        CHECK(same_bits(kernels::resolve_positions(both, call), kernels::resolve_positions(both.to(kGpu), call)));
      }
    }
  const Tensor wrong = Tensor::of(std::vector<std::int64_t>{3, 50}, {2}).to(kGpu);
  const Tensor at = kernels::resolve_positions(wrong, {"op", "it", 50, whole});
  CHECK_THROWS_WITH_AS(at.to(Device::cpu()), "op: index 50 is out of range (it has 50); indices are 0 to 49", Error);
  CHECK(to_string(at) == "i64[2] [3, -1] on cuda:0");  // nothing is read at a wrong place
}

TEST_CASE("positions add up, are counted and marked as on the CPU") {
  if (test::no_device()) return;
  const Tensor at = places(257, 9, 9, 4);
  for (const Tensor& view : {at.narrow(0, 0, 12).view({3, 4}), at.narrow(0, 0, 3).view({3, 1}).expand({3, 4})}) {
    Tensor host = Tensor::zeros({4, 3}, Dtype::i64).transpose(0, 1), device = Tensor::zeros({4, 3}, Dtype::i64, kGpu).transpose(0, 1);
    kernels::add_positions_to(view, 5, host);
    kernels::add_positions_to(view.expand(view.shape()).contiguous().to(kGpu), 5, device);
    CHECK(same_bits(host, device));
  }
  const Tensor counts = Tensor::empty({9}, Dtype::i64), marks = Tensor::empty({257, 9}, Dtype::i64), none = Tensor::empty({0, 9}, Dtype::i64, kGpu);
  const Tensor counts_there = Tensor::empty({9}, Dtype::i64, kGpu), marks_there = Tensor::empty({257, 9}, Dtype::i64, kGpu);
  kernels::count_positions(at, counts);
  kernels::count_positions(at.to(kGpu), counts_there);
  CHECK(same_bits(counts, counts_there));
  kernels::mark_positions(at, marks);
  kernels::mark_positions(at.to(kGpu), marks_there);
  CHECK(same_bits(marks, marks_there));
  kernels::mark_positions(Tensor::empty({0}, Dtype::i64, kGpu), none);
}

TEST_CASE("rows of elements of every size are read and written in every alignment as on the CPU") {
  if (test::no_device()) return;
  for (Dtype dtype : {Dtype::i64, Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::u8})
    for (const RowsCase& r : kRows)
      for (std::int64_t offset : {0, 1}) {
        CAPTURE(to_string(dtype));
        CAPTURE(r.inner);
        CAPTURE(r.count);
        const Tensor at = places(r.count, r.length, r.different, 3), at_there = at.to(kGpu);
        const Tensor source = numbers({r.outer, r.length, r.inner}, dtype, 1), values = numbers({r.outer, r.count, r.inner}, dtype, 2);
        const Tensor out = Tensor::empty(values.shape(), dtype), out_there = there(out, offset);
        kernels::take_rows(RowsCall{r.outer, r.length, r.inner, at}, source, out);
        kernels::take_rows(RowsCall{r.outer, r.length, r.inner, at_there}, there(source, offset), out_there);
        CHECK(same_bits(out, out_there));
        for (bool one : {false, true}) {
          const Tensor target = source.clone(), target_there = there(source, offset);
          kernels::put_rows(RowsCall{r.outer, r.length, r.inner, at}, one ? Tensor() : values, 1.5, target);
          kernels::put_rows(RowsCall{r.outer, r.length, r.inner, at_there}, one ? Tensor() : there(values, offset), 1.5, target_there);
          CHECK(same_bits(target, target_there));
        }
      }
}

TEST_CASE("deposited rows are the CPU's sums") {
  if (test::no_device()) return;
  for (Dtype dtype : kAll)
    for (const RowsCase& r : kRows)
      for (std::int64_t offset : {0, 1})
        for (bool add : {false, true}) {
          CAPTURE(to_string(dtype));
          CAPTURE(r.inner);
          CAPTURE(r.count);
          const Tensor at = places(r.count, r.length, r.different, 5);
          const Tensor values = numbers({r.outer, r.count, r.inner}, dtype, 2), sums = numbers({r.outer, r.length, r.inner}, dtype, 3).clone();
          const Tensor sums_there = there(sums, offset);
          const local::cpu::DepositOptions options{.add = add, .alpha = add ? Scalar(-2) : Scalar(1)};
          kernels::deposit_rows(RowsCall{r.outer, r.length, r.inner, at}, values, sums, options);
          kernels::deposit_rows(RowsCall{r.outer, r.length, r.inner, at.to(kGpu)}, there(values, offset), sums_there, options);
          CHECK(close(sums, sums_there));
        }
}

TEST_CASE("sums of bf16 are rounded once on a device") {
  if (test::no_device()) return;
  const Tensor at = Tensor::zeros({3000}, Dtype::i64, kGpu), grad = Tensor::empty({3000, 8}, Dtype::bf16, kGpu),
               sums = Tensor::empty({1, 8}, Dtype::bf16, kGpu);
  grad.fill_(1);
  kernels::deposit_rows(RowsCall{1, 1, 8, at}, grad, sums);
  CHECK(to_string(sums.narrow(1, 0, 1).contiguous()) == "bf16[1, 1] [[3008]] on cuda:0");  // the bf16 next to 3000; adding in bf16 would stop at 256
}

namespace {
struct ElementsCase {
  Shape shape, source;
  int dim;
  std::vector<CoordinateMap> others;
};
std::vector<ElementsCase> element_cases() {
  std::vector<ElementsCase> cases;
  cases.push_back({{2, 3}, {3, 4}, 1, {{.list = {0, 2}}, {}}});
  cases.push_back({{7}, {5}, 0, {{}}});
  cases.push_back({{1000}, {3}, 0, {{}}});
  cases.push_back({{2500}, {300}, 0, {{}}});
  cases.push_back({{257, 1}, {257, 9}, 1, {{.first = 0, .length = 257}, {}}});
  cases.push_back({{9, 33}, {40, 35}, 0, {{}, {.first = 1, .length = 35}}});
  cases.push_back({{9, 33}, {40, 20}, 0, {{}, {.first = -5, .length = 20}}});
  cases.push_back({{1, 8}, {4, 3}, 1, {{.first = 2, .length = 4}, {}}});
  cases.push_back({{3, 20, 4}, {5, 6, 7}, 1, {{.list = {4, kElsewhere, 0}}, {}, {.first = 2, .length = 7}}});
  cases.push_back({{3, 2, 4}, {5, 6, 7}, 1, {{.list = {4, kElsewhere, 0}}, {}, {.first = 2, .length = 7}}});
  cases.push_back({{0, 3}, {4, 3}, 0, {{}, {.first = 0, .length = 3}}});
  return cases;
}
}  // namespace

TEST_CASE("elements along a dimension are read, summed, combined and written as on the CPU") {
  if (test::no_device()) return;
  for (Dtype dtype : kAll)
    for (const ElementsCase& c : element_cases()) {
      CAPTURE(to_string(dtype));
      CAPTURE(to_string(c.shape));
      const Tensor at = places(c.shape.numel(), c.source[c.dim], c.source[c.dim], 11);
      const ElementsCall here{c.shape, c.dim, at, c.others}, device{c.shape, c.dim, at.to(kGpu), c.others};
      const Tensor source = numbers(c.source, dtype, 1), values = numbers(c.shape, dtype, 2);
      const Tensor out = Tensor::empty(c.shape, dtype), out_there = Tensor::empty(c.shape, dtype, kGpu);
      kernels::take_elements(here, source, out);
      kernels::take_elements(device, source.to(kGpu), out_there);
      CHECK(same_bits(out, out_there));
      for (int form = 0; form < 7; ++form) {
        const Tensor target = source.clone(), target_there = source.to(kGpu).clone();
        const auto run = [&](const ElementsCall& call, const Tensor& from, const Tensor& to) {
          if (form < 2) kernels::deposit_elements(call, from, to, {.add = form == 1, .alpha = form == 1 ? Scalar(3) : Scalar(1)});
          else if (form < 5) kernels::combine_elements(call, from, form == 2 ? Combine::product : form == 3 ? Combine::max : Combine::min, to);
          else kernels::put_elements(call, form == 5 ? from : Tensor(), 2, to);
        };
        run(here, values, target);
        run(device, values.to(kGpu), target_there);
        CAPTURE(form);
        // A long product of integers wraps; of 16-bit numbers it is rounded once on both sides.
        CHECK((form == 0 || form == 1 || form == 2 ? close(target, target_there) : same_bits(target, target_there)));
      }
    }
}

TEST_CASE("NaN wins in extremes on a device") {
  if (test::no_device()) return;
  const double nan = std::nan("");
  const Tensor at = Tensor::zeros({300}, Dtype::i64, kGpu);
  for (std::int64_t where : {0, 150, 299}) {
    std::vector<double> values(300, 1.0);
    values[static_cast<std::size_t>(where)] = nan;
    const Tensor target = Tensor::zeros({1}, Dtype::f32, kGpu);
    const std::vector<CoordinateMap> others(1);
    kernels::combine_elements({{300}, 0, at, others}, Tensor::of(values, {300}).to(Dtype::f32).to(kGpu), Combine::max, target);
    CHECK(std::isnan(target.to(Device::cpu()).values<const float>()[0]));
  }
}

TEST_CASE("points are read, summed and written as on the CPU") {
  if (test::no_device()) return;
  struct Case {
    Shape shape, target;
    int first, count;
    std::int64_t bases, scale;  // positions are multiples of scale
    Shape strides;
  };
  const std::vector<Case> cases{{{5}, {7, 8}, 0, 1, 56, 1, {0}},
                                {{300, 32}, {7, 32}, 0, 1, 7, 32, {0, 1}},
                                {{3, 40, 2, 16}, {3, 5, 6, 16}, 1, 2, 30, 16, {480, 0, 0, 1}},
                                {{2, 5, 4}, {2, 6, 4}, 1, 1, 6, 4, {24, 0, 1}},
                                {{4, 4, 6}, {4, 6, 5}, 0, 1, 5, 1, {0, 30, 5}},
                                {{0, 4}, {3, 4}, 0, 1, 3, 4, {0, 1}}};
  for (Dtype dtype : kAll)
    for (const Case& c : cases) {
      CAPTURE(to_string(dtype));
      CAPTURE(to_string(c.shape));
      std::int64_t points = 1;
      for (int d = 0; d < c.count; ++d) points *= c.shape[c.first + d];
      const Tensor units = places(points, c.bases, c.bases, 17), base = units.clone();
      for (std::int64_t& b : base.values<std::int64_t>())
        if (b != kElsewhere) b *= c.scale;
      const PointsCall here{c.shape, c.first, c.count, base, c.strides, c.scale};
      const PointsCall device{c.shape, c.first, c.count, base.to(kGpu), c.strides, c.scale};
      const Tensor target = numbers(c.target, dtype, 1), values = numbers(c.shape, dtype, 2);
      const Tensor out = Tensor::empty(c.shape, dtype), out_there = Tensor::empty(c.shape, dtype, kGpu);
      kernels::take_points(here, target, out);
      kernels::take_points(device, target.to(kGpu), out_there);
      CHECK(same_bits(out, out_there));
      for (int form = 0; form < 3; ++form) {
        const Tensor to = target.clone(), to_there = target.to(kGpu).clone();
        const auto run = [&](const PointsCall& call, const Tensor& from, const Tensor& t) {
          if (form < 2) kernels::deposit_points(call, from, t, {.add = form == 1});
          else kernels::put_points(call, from, t);
        };
        run(here, values, to);
        run(device, values.to(kGpu), to_there);
        CAPTURE(form);
        CHECK((form < 2 ? close(to, to_there) : same_bits(to, to_there)));
      }
    }
}

TEST_CASE("the host waits for nothing while it reads, sums and writes at positions") {
  if (test::no_device()) return;
  const Tensor index = Tensor::zeros({300}, Dtype::i64, kGpu), table = Tensor::zeros({7, 16}, Dtype::f32, kGpu);
  const Tensor values = Tensor::zeros({300, 16}, Dtype::f32, kGpu), line = values.narrow(1, 0, 1).contiguous().view({300});
  const local::GlobalRun runs[] = {{4, 3}, {0, 4}};
  const std::vector<CoordinateMap> others{{}, {.list = std::vector<std::int64_t>(16, 0)}};
  test::without_waits([&] {
    const Tensor at = kernels::resolve_positions(index, {"op", "it", 7, runs});
    kernels::take_rows(RowsCall{1, 7, 16, at}, table, values);
    kernels::deposit_rows(RowsCall{1, 7, 16, at}, values, table);
    kernels::put_rows(RowsCall{1, 7, 16, at}, values, 0, table);
    kernels::deposit_elements(ElementsCall{{300, 1}, 0, at, others}, line.view({300, 1}), table);
    kernels::combine_elements(ElementsCall{{300, 1}, 0, at, others}, line.view({300, 1}), Combine::max, table);
    kernels::put_elements(ElementsCall{{300, 1}, 0, at, others}, line.view({300, 1}), 0, table);
    kernels::count_positions(at, Tensor::empty({7}, Dtype::i64, kGpu));
  });
}
