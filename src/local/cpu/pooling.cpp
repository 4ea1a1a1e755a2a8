// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/pooling.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "local/cpu/spatial.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

std::int64_t plane_size(const Tensor& t, int dims) {
  std::int64_t n = 1;
  for (int d = t.ndim() - dims; d < t.ndim(); ++d) n *= t.shape()[d];
  return n;
}
std::int64_t planes(const Tensor& t, int dims) {
  std::int64_t n = 1;
  for (int d = 0; d < t.ndim() - dims; ++d) n *= t.shape()[d];
  return n;
}
std::int64_t grain(std::int64_t work) { return std::max<std::int64_t>(1, kPointwiseGrain / std::max<std::int64_t>(1, work)); }

template <class A>
A share(const Windows& y, const Windows& x, std::size_t j, std::size_t i, double divisor) {
  return static_cast<A>(divisor != 0 ? divisor : y.count[j] * x.count[i]);
}

template <class T>
void average_plane(const T* in, std::int64_t width, const Windows& y, const Windows& x, double divisor, T* out) {
  using A = Accumulate<T>;
  for (std::size_t j = 0; j < y.begin.size(); ++j)
    for (std::size_t i = 0; i < x.begin.size(); ++i) {
      A total = 0;
      for (std::int64_t a = y.begin[j]; a < y.end[j]; ++a)
        for (std::int64_t b = x.begin[i]; b < x.end[i]; ++b) total += load(in[a * width + b]);
      const bool empty = y.begin[j] >= y.end[j] || x.begin[i] >= x.end[i];
      *out++ = store<T>(empty ? A(0) : static_cast<A>(total / share<A>(y, x, j, i, divisor)));
    }
}
template <class T, class A>
void spread_plane(const T* grad, std::int64_t width, const Windows& y, const Windows& x, double divisor, A* out) {
  for (std::size_t j = 0; j < y.begin.size(); ++j)
    for (std::size_t i = 0; i < x.begin.size(); ++i) {
      const A part = load(*grad++) / share<A>(y, x, j, i, divisor);
      for (std::int64_t a = y.begin[j]; a < y.end[j]; ++a)
        for (std::int64_t b = x.begin[i]; b < x.end[i]; ++b) out[a * width + b] += part;
    }
}

// f(plane, sums) adds to a plane of zeros; the sums are rounded once.
template <class F>
void sums_by_plane(const Tensor& out, int dims, F&& f) {
  const std::int64_t size = plane_size(out, dims);
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    parallel_for(planes(out, dims), grain(size), [&](std::int64_t begin, std::int64_t end) {
      std::vector<A> sums(static_cast<std::size_t>(size));
      for (std::int64_t p = begin; p < end; ++p) {
        std::fill(sums.begin(), sums.end(), A(0));
        f(std::type_identity<T>{}, p, sums.data());
        T* to = out.raw_as<T>() + p * size;
        for (std::int64_t i = 0; i < size; ++i) to[i] = store<T>(sums[static_cast<std::size_t>(i)]);
      }
    });
  });
}

template <class T>
void max_plane(const T* in, std::int64_t height, std::int64_t width, const MaxWindow& y, const MaxWindow& x, const PlanePart& part, std::int64_t rows,
               std::int64_t columns, T* out, std::int64_t* indices) {
  using A = Accumulate<T>;
  const auto first = [](const MaxWindow& w, std::int64_t t) {
    const std::int64_t begin = t * w.stride - w.padding;
    return begin >= 0 ? begin : begin + (-begin + w.dilation - 1) / w.dilation * w.dilation;
  };
  const auto last = [](const MaxWindow& w, std::int64_t t, std::int64_t n) {
    return std::min(n, t * w.stride - w.padding + (w.size - 1) * w.dilation + 1);
  };
  for (std::int64_t j = 0; j < rows; ++j)
    for (std::int64_t i = 0; i < columns; ++i) {
      const std::int64_t top = first(y, j), bottom = last(y, j, height), left = first(x, i), right = last(x, i, width);
      A best = kIsFloating<T> ? -std::numeric_limits<A>::infinity() : std::numeric_limits<A>::lowest();
      std::int64_t best_y = top, best_x = left;
      for (std::int64_t a = top; a < bottom; a += y.dilation)
        for (std::int64_t b = left; b < right; b += x.dilation) {
          const A value = load(in[a * width + b]);
          if (value > best || value != value) best = value, best_y = a, best_x = b;
        }
      *out++ = store<T>(best);
      *indices++ = (best_y + part.top) * part.width + best_x + part.left;
    }
}

template <class Word>
void take_words(const Tensor& input, const std::array<std::int64_t, 3>& sizes, const Grid& at, const Tensor& out) {
  const auto* in = input.raw_as<const Word>();
  const std::int64_t from = sizes[0] * sizes[1] * sizes[2];
  const auto to = static_cast<std::int64_t>(at[0].size() * at[1].size() * at[2].size());
  parallel_for(to == 0 ? 0 : out.numel() / to, grain(to), [&](std::int64_t begin, std::int64_t end) {
    Word* result = out.raw_as<Word>() + begin * to;
    for (std::int64_t p = begin; p < end; ++p)
      for (std::int64_t a : at[0])
        for (std::int64_t b : at[1]) {
          const Word* row = in + p * from + (a * sizes[1] + b) * sizes[2];
          for (std::int64_t c : at[2]) *result++ = row[c];
        }
  });
}

Grid filled(const Grid& at, int spatial) {
  Grid grid = at;
  for (std::size_t d = 0; d < static_cast<std::size_t>(3 - spatial); ++d) grid[d] = {0};
  return grid;
}

}  // namespace

void average_windows(const Tensor& input, const Windows& y, const Windows& x, double divisor, const Tensor& out) {
  const std::int64_t from = plane_size(input, 2), to = plane_size(out, 2), width = input.shape().back();
  visit_arithmetic(out.dtype(), [&]<class T>(std::type_identity<T>) {
    parallel_for(planes(out, 2), grain(from), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) average_plane(input.raw_as<const T>() + p * from, width, y, x, divisor, out.raw_as<T>() + p * to);
    });
  });
}
void average_windows_backward(const Tensor& grad, const Windows& y, const Windows& x, double divisor, const Tensor& out) {
  const std::int64_t from = plane_size(grad, 2), width = out.shape().back();
  sums_by_plane(out, 2, [&]<class T>(std::type_identity<T>, std::int64_t plane, auto* sums) {
    spread_plane(grad.raw_as<const T>() + plane * from, width, y, x, divisor, sums);
  });
}

void max_windows(const Tensor& input, const MaxWindow& y, const MaxWindow& x, const PlanePart& part, const Tensor& out, const Tensor& indices) {
  const int n = input.ndim();
  const std::int64_t height = input.shape()[n - 2], width = input.shape()[n - 1], rows = out.shape()[n - 2], columns = out.shape()[n - 1];
  visit_arithmetic(out.dtype(), [&]<class T>(std::type_identity<T>) {
    parallel_for(planes(out, 2), grain(height * width), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p)
        max_plane(input.raw_as<const T>() + p * height * width, height, width, y, x, part, rows, columns, out.raw_as<T>() + p * rows * columns,
                  indices.raw_as<std::int64_t>() + p * rows * columns);
    });
  });
}
void add_at_indices(const Tensor& grad, const Tensor& indices, const MaxWindow& /*y*/, const MaxWindow& /*x*/, const PlanePart& part,
                    const Tensor& out) {
  const std::int64_t from = plane_size(grad, 2), height = out.shape()[out.ndim() - 2], width = out.shape()[out.ndim() - 1];
  sums_by_plane(out, 2, [&]<class T>(std::type_identity<T>, std::int64_t plane, auto* sums) {
    const T* g = grad.raw_as<const T>() + plane * from;
    const auto* at = indices.raw_as<const std::int64_t>() + plane * from;
    for (std::int64_t i = 0; i < from; ++i) {
      const std::int64_t y = at[i] / part.width - part.top, x = at[i] % part.width - part.left;
      if (y >= 0 && y < height && x >= 0 && x < width) sums[y * width + x] += load(g[i]);
    }
  });
}

void take_positions(const Tensor& input, int spatial, const Grid& at, const Tensor& out) {
  const auto sizes = spatial_sizes(input, spatial);
  const Grid grid = filled(at, spatial);
  switch (info(out.dtype()).bytes) {
    case 1:
      return take_words<std::uint8_t>(input, sizes, grid, out);
    case 2:
      return take_words<std::uint16_t>(input, sizes, grid, out);
    case 4:
      return take_words<std::uint32_t>(input, sizes, grid, out);
    default:
      return take_words<std::uint64_t>(input, sizes, grid, out);
  }
}
void add_positions(const Tensor& grad, int spatial, const Grid& at, const Tensor& out) {
  const auto sizes = spatial_sizes(out, spatial);
  const Grid grid = filled(at, spatial);
  const std::int64_t from = plane_size(grad, spatial);
  sums_by_plane(out, spatial, [&]<class T>(std::type_identity<T>, std::int64_t plane, auto* sums) {
    const T* g = grad.raw_as<const T>() + plane * from;
    for (std::int64_t a : grid[0])
      for (std::int64_t b : grid[1])
        for (std::int64_t c : grid[2]) {
          const bool here = a >= 0 && a < sizes[0] && b >= 0 && b < sizes[1] && c >= 0 && c < sizes[2];
          if (here) sums[(a * sizes[1] + b) * sizes[2] + c] += load(*g);
          ++g;
        }
  });
}

}  // namespace dtensor::local::cpu
