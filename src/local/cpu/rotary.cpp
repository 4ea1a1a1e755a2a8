// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/rotary.h"

#include <algorithm>
#include <cmath>

#include "local/cpu/panel.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

template <class C, class T>
struct RotaryRow {
  const T *x, *cos, *sin;
  std::int64_t x_stride, cos_stride, sin_stride;
  std::int64_t cos_second, sin_second;  // element of the tables that belongs to the second half's first
  C at(const T* p, std::int64_t i) const { return static_cast<C>(p[i]); }
  void run(std::int64_t half, bool inverse, T* out) const {
    for (std::int64_t i = 0; i < half; ++i) {
      const C a = at(x, i * x_stride), b = at(x, (i + half) * x_stride);
      const C c1 = at(cos, i * cos_stride), c2 = at(cos, (i + cos_second) * cos_stride);
      const C s1 = at(sin, i * sin_stride), s2 = at(sin, (i + sin_second) * sin_stride);
      out[i] = static_cast<T>(inverse ? a * c1 + b * s2 : a * c1 - b * s1);
      out[i + half] = static_cast<T>(inverse ? b * c2 - a * s1 : b * c2 + a * s2);
    }
  }
};

template <class T>
void rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse, const Tensor& out) {
  const int n = x.ndim();
  const std::int64_t d = x.shape()[n - 1], t = x.shape()[n - 2], half = d / 2;
  const std::int64_t rows = x.numel() / d;
  parallel_for(rows, std::max<std::int64_t>(1, 16384 / d), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::int64_t offset = 0, rest = r;
      for (int dim = n - 2; dim >= 0; --dim) {
        offset += rest % x.shape()[dim] * x.strides()[dim];
        rest /= x.shape()[dim];
      }
      const std::int64_t row = r % t;
      const RotaryRow<Sum<T>, T> one{x.raw_as<T>() + offset,
                                     cos.raw_as<T>() + row * cos.strides()[0],
                                     sin.raw_as<T>() + row * sin.strides()[0],
                                     x.strides()[n - 1],
                                     cos.strides()[1],
                                     sin.strides()[1],
                                     cos.shape()[1] == d ? half : 0,
                                     sin.shape()[1] == d ? half : 0};
      one.run(half, inverse, out.raw_as<T>() + r * d);
    }
  });
}

}  // namespace

void rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse, const Tensor& out) {
  if (x.numel() == 0) return;
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) { rotate<T>(x, cos, sin, inverse, out); });
}

void rotary_table(const RotaryTable& table, const Tensor& out) {
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    T* to = out.raw_as<T>();
    const std::int64_t width = length_of(table.columns);
    for_each_number(table.columns, [&](std::int64_t column) {
      const double frequency = std::pow(table.theta, -2.0 * static_cast<double>(column) / static_cast<double>(table.head_dim));
      T* at = to++;
      for_each_number(table.rows, [&](std::int64_t row) {
        const double angle = static_cast<double>(row) * frequency;
        *at = static_cast<T>(static_cast<Sum<T>>(table.sine ? std::sin(angle) : std::cos(angle)));
        at += width;
      });
    });
  });
}

}  // namespace dtensor::local::cpu
