// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/error.h"
#include "local/cuda/order_keys.h"
#include "local/kernels/sampling.h"
#include "local/kernels/sequences.h"
#include "local/kernels/sorting.h"

using namespace dtensor;
namespace kernels = local::kernels;
using test::kGpu;

namespace {

constexpr Dtype kAll[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};

// Many equal elements, both zeros; with infinities and NaN.
Tensor mixed(const Shape& shape, Dtype dtype, std::uint32_t seed) {
  std::vector<double> values = test::doubles(test::random_tensor(shape, Dtype::f64, seed));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = std::round(values[i] * 8) / 4;
    if (!info(dtype).floating) continue;
    if (i % 11 == 3) values[i] = std::nan("");
    if (i % 17 == 5) values[i] = i % 2 == 0 ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
    if (i % 13 == 7) values[i] = -0.0;
  }
  return Tensor::of(values, shape).to(dtype);
}
Tensor made(const Shape& shape, Dtype dtype, Device device) {
  const Tensor t = Tensor::empty(shape, dtype, device);
  t.fill_(0);
  return t;
}
bool same(const Tensor& host, const Tensor& device) { return test::worst(host, device) == 0; }

template <class T>
void check_keys(Dtype dtype) {
  const Tensor x = mixed({200}, dtype, 1);
  const auto v = x.values<const T>();
  for (const T& a : v)
    for (const T& b : v) {
      const bool before = local::cuda::order_key(a) < local::cuda::order_key(b);
      REQUIRE(before == local::cuda::is_less(a, b));
      REQUIRE((local::cuda::order_key(a) >> (local::cuda::kKeyBits<T> - 1)) <= 1);
    }
}

}  // namespace

TEST_CASE("keys are in the order of the elements") {
  if (test::no_device()) return;
  check_keys<double>(Dtype::f64);
  check_keys<float>(Dtype::f32);
  check_keys<BFloat16>(Dtype::bf16);
  check_keys<Half>(Dtype::f16);
  check_keys<std::int64_t>(Dtype::i64);
  check_keys<std::int32_t>(Dtype::i32);
  check_keys<std::uint8_t>(Dtype::u8);
}

TEST_CASE("any positions of ordered lines are those of the CPU, in every dtype") {
  if (test::no_device()) return;
  struct Case {
    Shape shape;
    int dim;
    std::int64_t first, count;
  };
  const std::vector<Case> cases{{{1}, 0, 0, 1},          {{257}, 0, 0, 257},      {{33, 5}, 0, 0, 33},   {{5, 33}, 1, 0, 33}, {{3, 31, 4}, 1, 0, 7},
                                {{2, 1000}, 1, 17, 1},   {{300, 1}, 0, 149, 1},   {{7, 9}, 1, 4, 3},     {{0, 3}, 0, 0, 0},   {{2600}, 0, 0, 2600},
                                {{3, 2600}, 1, 1300, 1}, {{2, 3000, 2}, 1, 5, 9}, {{1, 64, 3}, 1, 60, 4}};
  for (Dtype dtype : kAll)
    for (const Case& c : cases)
      for (bool descending : {false, true})
        for (bool nan_first : {false, true}) {
          if (nan_first && c.count != 1) continue;
          INFO(to_string(dtype) << " " << to_string(c.shape) << " " << c.first << " " << descending << nan_first);
          Shape shape = c.shape;
          shape[c.dim] = c.count;
          const local::cpu::OrderCall call{c.dim, c.first, c.count, descending, nan_first};
          const Tensor x = mixed(c.shape, dtype, 2), v = made(shape, dtype, Device::cpu()), i = made(shape, Dtype::i64, Device::cpu());
          const Tensor v2 = made(shape, dtype, kGpu), i2 = made(shape, Dtype::i64, kGpu);
          kernels::order_lines(call, x, v, i);
          kernels::order_lines(call, x.to(kGpu), v2, i2);
          CHECK(same(v, v2));
          CHECK(same(i, i2));
        }
}

TEST_CASE("values are found in sorted lines as on the CPU") {
  if (test::no_device()) return;
  for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8})
    for (const Shape& lines : {Shape{1, 40}, Shape{3, 40}, Shape{1, 0}, Shape{3, 1}})
      for (bool right : {false, true})
        for (bool with_sorter : {false, true}) {
          const Tensor x = mixed(lines, dtype, 3), wanted = mixed({3, 17}, dtype, 4);
          const Tensor sorted = made(lines, dtype, Device::cpu()), order = made(lines, Dtype::i64, Device::cpu());
          kernels::order_lines({1, 0, lines[1], false, false}, x, sorted, order);
          for (Dtype to : {Dtype::i64, Dtype::i32}) {
            const Tensor out = made({3, 17}, to, Device::cpu()), out2 = made({3, 17}, to, kGpu);
            kernels::search_lines(with_sorter ? x : sorted, wanted, with_sorter ? order : Tensor(), right, out);
            kernels::search_lines((with_sorter ? x : sorted).to(kGpu), wanted.to(kGpu), with_sorter ? order.to(kGpu) : Tensor(), right, out2);
            CHECK(same(out, out2));
          }
        }
}

TEST_CASE("different elements and slices are those of the CPU") {
  if (test::no_device()) return;
  for (Dtype dtype : kAll)
    for (const auto& [shape, dim] : std::vector<std::pair<Shape, std::optional<int>>>{
             {{300}, {}}, {{5, 7}, {}}, {{}, {}}, {{0}, {}}, {{40, 1}, 0}, {{60, 2}, 0}, {{2, 50}, 1}, {{3, 9, 2}, 1}, {{4, 0}, 0}}) {
      INFO(to_string(dtype) << " " << to_string(shape) << " " << dim.value_or(-1));
      const std::int64_t n = dim ? shape[*dim] : shape.numel();
      const Tensor x = mixed(shape, dtype, 5);
      const auto run = [&](Device d) {
        std::vector<Tensor> out{made(dim ? shape : Shape{n}, dtype, d), made(dim ? Shape{n} : shape, Dtype::i64, d), made({n}, Dtype::i64, d),
                                made({}, Dtype::i64, d)};
        kernels::distinct(x.to(d), dim, out[0], out[1], out[2], out[3]);
        return out;
      };
      const auto host = run(Device::cpu()), device = run(kGpu);
      for (std::size_t k = 0; k < 4; ++k) CHECK(same(host[k], device[k]));
    }
}

TEST_CASE("places of elements that are not 0 are those of the CPU, as many as are asked for") {
  if (test::no_device()) return;
  for (Dtype dtype : kAll)
    for (const Shape& shape : {Shape{}, Shape{0, 2}, Shape{300}, Shape{5, 7}, Shape{3, 4, 5}})
      for (std::int64_t limit : {0, 1, 7, 400}) {
        const Tensor x = mixed(shape, dtype, 6), places = made({limit, shape.ndim()}, Dtype::i64, Device::cpu()),
                     places2 = made({limit, shape.ndim()}, Dtype::i64, kGpu);
        kernels::nonzero_places(x, -7, places);
        kernels::nonzero_places(x.to(kGpu), -7, places2);
        CHECK(same(places, places2));
      }
}

TEST_CASE("a histogram counts as on the CPU, with few bins and many") {
  if (test::no_device()) return;
  for (Dtype dtype : test::kFloating)
    for (const Shape& shape : {Shape{0}, Shape{1}, Shape{3, 257}, Shape{9000}})
      for (std::int64_t bins : {1, 10, 255, 9000}) {
        const Tensor x = test::random_tensor(shape, dtype, 7), counts = made({bins}, dtype, Device::cpu()), counts2 = made({bins}, dtype, kGpu);
        const bool turned = shape.ndim() > 1;
        kernels::histogram(turned ? x.transpose(0, 1) : x, -1.5, 3, counts);
        kernels::histogram(turned ? x.to(kGpu).transpose(0, 1) : x.to(kGpu), -1.5, 3, counts2);
        CHECK(same(counts, counts2));
      }
}

TEST_CASE("classes are drawn as on the CPU, and wrong weights are said by a later call") {
  if (test::no_device()) return;
  for (bool replacement : {false, true})
    for (const Shape& shape : {Shape{7}, Shape{5, 33}, Shape{2, 1}, Shape{0, 3}}) {
      Shape drawn = shape;
      drawn[shape.ndim() - 1] = replacement ? 40 : (shape.back() + 1) / 2;
      std::vector<double> weights = test::doubles(test::random_tensor(shape, Dtype::f64, 8));
      for (double& w : weights) w = std::max(std::abs(w) - 0.3, shape.back() == 1 ? 1.0 : 0.0) * 1024;
      std::vector<double> draws = test::doubles(test::random_tensor(replacement ? drawn : shape, Dtype::f64, 9));
      for (double& u : draws) u = std::abs(u) / 4;
      const Tensor w = Tensor::of(weights, shape), u = Tensor::of(draws, replacement ? drawn : shape);
      const Tensor classes = made(drawn, Dtype::i64, Device::cpu()), classes2 = made(drawn, Dtype::i64, kGpu);
      kernels::choose_classes(w, u, replacement, "op", classes);
      kernels::choose_classes(w.to(kGpu), u.to(kGpu), replacement, "op", classes2);
      CHECK(same(classes, classes2));
    }
  const Tensor u = Tensor::zeros({2}, Dtype::f64, kGpu), out = made({2}, Dtype::i64, kGpu);
  kernels::choose_classes(Tensor::of(std::vector<double>{0, 0}, {2}).to(kGpu), u, true, "op", out);
  CHECK_THROWS_WITH_AS(out.to(Device::cpu()), "op: 1 classes are wanted and 0 have a weight above 0", Error);
  kernels::choose_classes(Tensor::of(std::vector<double>{1, -1}, {2}).to(kGpu), u, false, "op", out);
  CHECK_THROWS_AS(out.to(Device::cpu()), Error);
  const Tensor p = Tensor::of(std::vector<double>{0.5, 1.5}, {2}).to(kGpu);
  kernels::choose(p, u, "op", u);
  CHECK_THROWS_WITH_AS(u.to(Device::cpu()), "op: an element is 1.500000; probabilities lie from 0 to 1", Error);
}

TEST_CASE("steps, diagonals and triangles are those of the CPU, whatever a rank holds") {
  if (test::no_device()) return;
  const std::vector<local::GlobalRun> whole{{0, 9}}, part{{3, 4}}, many{{7, 2}, {0, 3}, {5, 1}};
  for (Dtype dtype : kAll)
    for (const auto& rows : {whole, part, many})
      for (const auto& columns : {whole, part, many}) {
        std::int64_t height = 0, width = 0;
        for (const auto& r : rows) height += r.length;
        for (const auto& r : columns) width += r.length;
        const auto check = [&](const Shape& shape, const auto& run) {
          const Tensor host = made(shape, dtype, Device::cpu()), device = made(shape, dtype, kGpu);
          host.fill_(1), device.fill_(1);
          run(host), run(device);
          CHECK(same(host, device));
        };
        check({height}, [&](const Tensor& t) { kernels::fill_steps(2, 3, rows, t); });
        check({height}, [&](const Tensor& t) { kernels::fill_steps(-0.1, 0.7, rows, t); });
        check({height, width}, [&](const Tensor& t) { kernels::fill_diagonal(rows, columns, t); });
        for (std::int64_t diagonal : {-3, 0, 2, 20})
          for (bool above : {false, true})
            check({2, height, width}, [&](const Tensor& t) { kernels::clear_triangle(rows, columns, diagonal, above, t); });
      }
}
