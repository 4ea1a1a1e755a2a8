// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/convolution.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "local/cpu/convolution_sizes.h"
#include "local/cpu/gemm.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

// Output positions [first, last) whose input position start + t * stride is inside.
struct Inside {
  std::int64_t first, last;
};
Inside inside(std::int64_t start, std::int64_t stride, std::int64_t in, std::int64_t out) {
  const std::int64_t first = start >= 0 ? 0 : (-start + stride - 1) / stride;
  const std::int64_t last = start >= in ? 0 : (in - 1 - start) / stride + 1;
  return {std::min(first, out), std::max(std::min(first, out), std::min(last, out))};
}

// Calls f(column row, output row, image offset of the window row, first and last output position inside) for every kernel position and row of the result.
template <class F>
void for_window_rows(const ConvolutionSizes& p, F&& f) {
  const auto& [stride, padding, dilation] = std::tie(p.rule.stride, p.rule.padding, p.rule.dilation);
  std::int64_t term = 0;
  for (std::int64_t channel = 0; channel < p.q; ++channel)
    for (std::int64_t a = 0; a < p.kernel[0]; ++a)
      for (std::int64_t b = 0; b < p.kernel[1]; ++b)
        for (std::int64_t c = 0; c < p.kernel[2]; ++c, ++term) {
          const std::int64_t start = c * dilation[2] - padding[2];
          const Inside x = inside(start, stride[2], p.in[2], p.out[2]);
          for (std::int64_t i = 0; i < p.out[0]; ++i) {
            const std::int64_t z = i * stride[0] - padding[0] + a * dilation[0];
            for (std::int64_t j = 0; j < p.out[1]; ++j) {
              const std::int64_t y = j * stride[1] - padding[1] + b * dilation[1];
              const bool here = z >= 0 && z < p.in[0] && y >= 0 && y < p.in[1];
              f(term, i * p.out[1] + j, ((channel * p.in[0] + z) * p.in[1] + y) * p.in[2] + start, here ? x : Inside{0, 0});
            }
          }
        }
}

// columns[term, point]
template <class T>
void to_columns(const ConvolutionSizes& p, const T* image, T* columns) {
  const std::int64_t width = p.out[2], stride = p.rule.stride[2], points = p.points();
  for_window_rows(p, [&](std::int64_t term, std::int64_t row, std::int64_t offset, Inside x) {
    T* to = columns + term * points + row * width;
    std::fill(to, to + x.first, T(0));
    if (stride == 1 && x.last > x.first) {
      std::memcpy(to + x.first, image + offset + x.first, static_cast<std::size_t>(x.last - x.first) * sizeof(T));
    } else {
      for (std::int64_t t = x.first; t < x.last; ++t) to[t] = image[offset + t * stride];
    }
    std::fill(to + x.last, to + width, T(0));
  });
}
template <class T>
void from_columns(const ConvolutionSizes& p, const T* columns, T* image) {
  const std::int64_t width = p.out[2], stride = p.rule.stride[2], points = p.points();
  for_window_rows(p, [&](std::int64_t term, std::int64_t row, std::int64_t offset, Inside x) {
    const T* from = columns + term * points + row * width;
    for (std::int64_t t = x.first; t < x.last; ++t) image[offset + t * stride] += from[t];
  });
}

MatrixOperand matrix(const void* data, std::int64_t row) { return {.data = data, .row = row, .column = 1, .batch = {}}; }
MatrixOperand turned(const void* data, std::int64_t row) { return {.data = data, .row = 1, .column = row, .batch = {}}; }

template <class T>
void forward(const ConvolutionSizes& p, const T* input, const T* weight, const T* bias, T* out) {
  const std::int64_t points = p.points(), terms = p.terms();
  parallel_for(p.samples * p.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> columns(p.direct() ? 0 : static_cast<std::size_t>(terms * points));
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t group = i % p.groups;
      const T* image = input + i * p.q * p.pixels();
      if (!p.direct()) to_columns(p, image, columns.data());
      gemm({.dtype = dtype_of<T>(),
            .m = p.p,
            .n = points,
            .k = terms,
            .a = matrix(weight + group * p.p * terms, terms),
            .b = matrix(p.direct() ? image : columns.data(), points),
            .addend = bias == nullptr ? MatrixOperand{} : MatrixOperand{.data = bias + group * p.p, .row = 1, .column = 0, .batch = {}},
            .out = out + i * p.p * points});
    }
  });
}

template <class T>
void input_gradient(const ConvolutionSizes& p, const T* grad, const T* weight, const T* bias, T* out) {
  const std::int64_t points = p.points(), terms = p.terms(), pixels = p.pixels();
  parallel_for(p.samples * p.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> columns(static_cast<std::size_t>(terms * points));
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t group = i % p.groups;
      gemm({.dtype = dtype_of<T>(),
            .m = terms,
            .n = points,
            .k = p.p,
            .a = turned(weight + group * p.p * terms, terms),
            .b = matrix(grad + i * p.p * points, points),
            .addend = {},
            .out = columns.data()});
      T* image = out + i * p.q * pixels;
      for (std::int64_t c = 0; c < p.q; ++c) std::fill_n(image + c * pixels, pixels, bias == nullptr ? T(0) : bias[group * p.q + c]);
      from_columns(p, columns.data(), image);
    }
  });
}

// Sample after sample, so that the order of the sum is fixed.
template <class T>
void weight_gradient(const ConvolutionSizes& p, const T* grad, const T* input, T* out) {
  const std::int64_t points = p.points(), terms = p.terms(), size = p.p * terms;
  parallel_for(p.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> columns(p.direct() ? 0 : static_cast<std::size_t>(terms * points)), part(static_cast<std::size_t>(size));
    for (std::int64_t group = begin; group < end; ++group) {
      T* total = out + group * size;
      std::fill_n(total, size, T(0));
      for (std::int64_t sample = 0; sample < p.samples; ++sample) {
        const std::int64_t i = sample * p.groups + group;
        const T* image = input + i * p.q * p.pixels();
        if (!p.direct()) to_columns(p, image, columns.data());
        gemm({.dtype = dtype_of<T>(),
              .m = p.p,
              .n = terms,
              .k = points,
              .a = matrix(grad + i * p.p * points, points),
              .b = turned(p.direct() ? image : columns.data(), points),
              .addend = {},
              .out = part.data()});
        for (std::int64_t e = 0; e < size; ++e) total[e] += part[static_cast<std::size_t>(e)];
      }
    }
  });
}

Dtype computed_in(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : info(dtype).floating ? Dtype::f32 : Dtype::i64; }
Tensor converted(const Tensor& t, Dtype dtype) { return t.dtype() == dtype ? t : t.to(dtype); }

// f(a, b, bias, out) with all in the dtype of computation.
template <class F>
void computed(const Tensor& a, const Tensor& b, const Tensor* bias, const Tensor& out, F&& f) {
  const Dtype dtype = computed_in(out.dtype());
  const Tensor wide = out.dtype() == dtype ? out : Tensor::empty(out.shape(), dtype);
  const Tensor left = converted(a, dtype), right = converted(b, dtype), addend = bias != nullptr ? converted(*bias, dtype) : Tensor();
  const auto run = [&]<class T>(std::type_identity<T>) {
    f(left.raw_as<const T>(), right.raw_as<const T>(), bias != nullptr ? addend.raw_as<const T>() : nullptr, wide.raw_as<T>());
  };
  if (dtype == Dtype::f64) run(std::type_identity<double>{});
  else if (dtype == Dtype::i64) run(std::type_identity<std::int64_t>{});
  else run(std::type_identity<float>{});
  if (!wide.shares_storage_with(out)) out.copy_(wide);
}

}  // namespace

void convolution(const Convolution& c, const Tensor& input, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  if (out.numel() == 0) return;
  const ConvolutionSizes p = convolution_sizes(c, input, weight, out);
  computed(input, weight, bias, out, [&](auto* x, auto* w, auto* b, auto* y) { forward(p, x, w, b, y); });
}
void convolution_input_gradient(const Convolution& c, const Tensor& grad, const Tensor& weight, const Tensor* bias, const Tensor& out) {
  if (out.numel() == 0) return;
  const ConvolutionSizes p = convolution_sizes(c, out, weight, grad);
  computed(grad, weight, bias, out, [&](auto* g, auto* w, auto* b, auto* x) { input_gradient(p, g, w, b, x); });
}
void convolution_weight_gradient(const Convolution& c, const Tensor& grad, const Tensor& input, const Tensor& out) {
  if (out.numel() == 0) return;
  const ConvolutionSizes p = convolution_sizes(c, input, out, grad);
  computed(grad, input, nullptr, out, [&](auto* g, auto* x, auto*, auto* w) { weight_gradient(p, g, x, w); });
}

}  // namespace dtensor::local::cpu
