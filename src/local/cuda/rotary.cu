// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/rotary.h"

#include <cmath>
#include <type_traits>

#include "local/cuda/launch.h"
#include "local/cuda/numbers.h"
#include "local/cuda/rank_device.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

// Elements that are read and written at once.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T at[N];
};

struct Table {
  const void* data;
  std::int64_t row, column;
  std::int64_t second;  // element that belongs to the second half's first
};

// A thread turns N neighbours of the first half with those of the second.
template <class T, int N>
struct Rotate {
  StridedLoop<2> rows;  // of out and x, all dims but the last
  const T* x;
  T* out;
  std::int64_t x_step, length, half, groups;
  Table cos, sin;
  bool inverse;

  using C = Accumulate<T>;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t row = i;
    const std::int64_t at = cut_last(row, groups) * N, position = row - quotient(row, length) * length;
    std::int64_t rest = row, offset = 0;
    for (int d = rows.ndim - 1; d >= 0; --d)
      offset += cut_last(rest, rows.sizes[static_cast<std::size_t>(d)]) * rows.strides[1][static_cast<std::size_t>(d)];
    const T* from = x + offset;
    T* to = out + row * 2 * half + at;
    const Pack<T, N> a = read(from, at, x_step), b = read(from, at + half, x_step);
    const Pack<T, N> c1 = entry(cos, position, at), c2 = cos.second == 0 ? c1 : entry(cos, position, at + half);
    const Pack<T, N> s1 = entry(sin, position, at), s2 = sin.second == 0 ? s1 : entry(sin, position, at + half);
    Pack<T, N> first, second;
    for (int k = 0; k < N; ++k) {
      const C u = load(a.at[k]), v = load(b.at[k]);
      first.at[k] = store<T>(inverse ? u * load(c1.at[k]) + v * load(s2.at[k]) : u * load(c1.at[k]) - v * load(s1.at[k]));
      second.at[k] = store<T>(inverse ? v * load(c2.at[k]) - u * load(s1.at[k]) : v * load(c2.at[k]) + u * load(s2.at[k]));
    }
    if constexpr (N > 1) as_vector(sizeof first + sizeof second);
    *reinterpret_cast<Pack<T, N>*>(to) = first;
    *reinterpret_cast<Pack<T, N>*>(to + half) = second;
  }
  static DTENSOR_DEVICE Pack<T, N> read(const T* p, std::int64_t at, std::int64_t step) {
    if constexpr (N == 1) return {{p[at * step]}};
    as_vector(sizeof(Pack<T, N>));
    return *reinterpret_cast<const Pack<T, N>*>(p + at);
  }
  static DTENSOR_DEVICE Pack<T, N> entry(const Table& t, std::int64_t row, std::int64_t at) {
    return read(static_cast<const T*>(t.data) + row * t.row, at, t.column);
  }
};

template <int N>
bool in_packs(const void* data, std::span<const std::int64_t> outer, std::int64_t inner, std::int64_t bytes) {
  bool fits = inner == 1 && reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(N * bytes) == 0;
  for (const std::int64_t s : outer) fits = fits && s % N == 0;
  return fits;
}

void rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, bool inverse, const Tensor& out) {
  if (x.numel() == 0) return;
  const int n = x.ndim();
  const std::int64_t d = x.shape()[n - 1], half = d / 2;
  if (half == 0) return;
  const auto outer = [n](const Shape& s) { return Shape(std::span(s.begin(), static_cast<std::size_t>(n - 1))); };
  const Shape sizes = outer(x.shape()), x_strides = outer(x.strides()), out_strides = outer(contiguous_strides(x.shape()));
  const auto rows = strided_loop<2>(sizes, {out_strides, x_strides});
  const auto table = [&](const Tensor& t) { return Table{t.raw(), t.strides()[0], t.strides()[1], t.shape()[1] == d ? half : 0}; };
  const Stream stream = rank_device(out).current;
  visit_floating(x.dtype(), [&]<class T>(std::type_identity<T>) {
    const auto run = [&]<int N>(std::integral_constant<int, N>) {
      launch_elements("rotary", rows.numel * (half / N), stream,
                      Rotate<T, N>{rows, x.raw_as<const T>(), out.raw_as<T>(), x.strides()[n - 1], sizes.back(), half, half / N, table(cos),
                                   table(sin), inverse});
    };
    constexpr int kWide = 16 / static_cast<int>(sizeof(T));
    const std::int64_t bytes = sizeof(T);
    const bool wide = half % kWide == 0 && in_packs<kWide>(x.raw(), x_strides, x.strides()[n - 1], bytes) &&
                      in_packs<kWide>(out.raw(), {}, 1, bytes) &&
                      in_packs<kWide>(cos.raw(), std::span(cos.strides().begin(), 1), cos.strides()[1], bytes) &&
                      in_packs<kWide>(sin.raw(), std::span(sin.strides().begin(), 1), sin.strides()[1], bytes);
    wide ? run(std::integral_constant<int, kWide>()) : run(std::integral_constant<int, 1>());
  });
}

template <class T>
struct FillTable {
  Numbers rows, columns;
  T* out;
  std::int64_t width;
  double theta, head_dim;
  bool sine;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t column = cut_last(i, width);
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(columns[column]) / head_dim);
    const double angle = static_cast<double>(rows[i]) * frequency;
    out[i * width + column] = store<T>(static_cast<Accumulate<T>>(sine ? std::sin(angle) : std::cos(angle)));
  }
};

void rotary_table(const cpu::RotaryTable& table, const Tensor& out) {
  const std::int64_t width = length_of(table.columns), length = length_of(table.rows);
  if (width == 0 || length == 0) return;
  RankDevice& device = rank_device(out);
  const DeviceNumbers rows(device, table.rows), columns(device, table.columns);
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("rotary table", length * width, device.current,
                    FillTable<T>{rows.get(), columns.get(), out.raw_as<T>(), width, table.theta, static_cast<double>(table.head_dim), table.sine});
  });
}

}  // namespace

void install_rotary() {
  kernels::rotary.cuda = rotary;
  kernels::rotary_table.cuda = rotary_table;
}

}  // namespace dtensor::local::cuda
