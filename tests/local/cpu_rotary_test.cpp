// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <complex>
#include <vector>

#include "local/cpu/rotary.h"

using namespace dtensor;

namespace {

std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(Dtype::f64);
  const auto v = d.values<const double>();
  return {v.begin(), v.end()};
}
Tensor counted(const Shape& shape, Dtype dtype) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(1.7 * static_cast<double>(i) + 0.3);
  return Tensor::of<double>(values, shape).to(dtype);
}
struct Tables {
  Tensor cos, sin;
};
Tables tables(std::int64_t length, std::int64_t head_dim, std::int64_t offset, Dtype dtype) {
  const std::vector<local::GlobalRun> rows{{offset, length}}, columns{{0, head_dim / 2}};
  Tables t{Tensor::empty({length, head_dim / 2}, dtype), Tensor::empty({length, head_dim / 2}, dtype)};
  local::cpu::rotary_table({head_dim, 10000, false, rows, columns}, t.cos);
  local::cpu::rotary_table({head_dim, 10000, true, rows, columns}, t.sin);
  return t;
}

}  // namespace

TEST_CASE("rotary multiplies the complex number of the two halves by the unit number of position and frequency") {
  for (const auto& [dtype, allowed] :
       {std::pair{Dtype::f64, 1e-14}, std::pair{Dtype::f32, 1e-6}, std::pair{Dtype::bf16, 2e-2}, std::pair{Dtype::f16, 2e-3}}) {
    const Tensor x = counted({2, 3, 5, 8}, dtype), out = Tensor::empty(x.shape(), dtype);
    const Tables t = tables(5, 8, 3, dtype);
    local::cpu::rotary(x, t.cos, t.sin, false, out);
    const auto in = doubles(x), got = doubles(out);
    for (std::size_t row = 0; row < 30; ++row)
      for (std::size_t i = 0; i < 4; ++i) {
        const double angle = (static_cast<double>(row % 5) + 3) * std::pow(10000.0, -static_cast<double>(i) / 4);
        const std::complex<double> turned = std::complex<double>(in[row * 8 + i], in[row * 8 + i + 4]) * std::polar(1.0, angle);
        CHECK(std::abs(got[row * 8 + i] - turned.real()) < allowed);
        CHECK(std::abs(got[row * 8 + i + 4] - turned.imag()) < allowed);
      }
  }
}

TEST_CASE("the inverse undoes a rotation and a strided input gives the bits of a row-major one") {
  const Tables t = tables(4, 6, 0, Dtype::f64);
  const Tensor x = counted({2, 4, 3, 6}, Dtype::f64).transpose(1, 2), plain = x.clone();
  const Tensor a = Tensor::empty(x.shape(), Dtype::f64), b = Tensor::empty(x.shape(), Dtype::f64), back = Tensor::empty(x.shape(), Dtype::f64);
  local::cpu::rotary(x, t.cos, t.sin, false, a);
  local::cpu::rotary(plain, t.cos, t.sin, false, b);
  CHECK(doubles(a) == doubles(b));
  local::cpu::rotary(a, t.cos, t.sin, true, back);
  const auto wanted = doubles(plain), got = doubles(back);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - wanted[i]) < 1e-14);
}

TEST_CASE("with tables of the full width the inverse is the transposed map") {
  const Tensor cos = counted({3, 4}, Dtype::f64), sin = counted({5, 4}, Dtype::f64).narrow(0, 2, 3);
  std::vector<double> forward(16), transposed(16);
  for (int row = 0; row < 3; ++row) {
    for (std::size_t i = 0; i < 4; ++i) {
      std::vector<double> unit(12, 0.0);
      unit[static_cast<std::size_t>(row) * 4 + i] = 1;
      const Tensor e = Tensor::of<double>(unit, {3, 4}), a = Tensor::empty({3, 4}, Dtype::f64), b = Tensor::empty({3, 4}, Dtype::f64);
      local::cpu::rotary(e, cos, sin, false, a);
      local::cpu::rotary(e, cos, sin, true, b);
      for (std::size_t j = 0; j < 4; ++j) {
        forward[j * 4 + i] = doubles(a)[static_cast<std::size_t>(row) * 4 + j];
        transposed[i * 4 + j] = doubles(b)[static_cast<std::size_t>(row) * 4 + j];
      }
    }
    CHECK(forward == transposed);
  }
}
