// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/pooling.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <vector>

#include "local/cpu/spatial.h"
#include "local/cuda/launch.h"
#include "local/cuda/numbers.h"
#include "local/cuda/rank_device.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

struct Window {
  std::int64_t begin, end;
  double count;
};
// Windows that read a position lie in [first, last).
struct Readers {
  std::int64_t first, last;
};

std::vector<Window> listed(const cpu::Windows& y, const cpu::Windows& x) {
  std::vector<Window> list;
  for (const cpu::Windows* w : {&y, &x})
    for (std::size_t i = 0; i < w->begin.size(); ++i) list.push_back({w->begin[i], w->end[i], w->count[i]});
  return list;
}
std::vector<Readers> readers_of(const cpu::Windows& windows, std::int64_t size) {
  std::vector<Readers> list(static_cast<std::size_t>(size), {0, 0});
  for (std::size_t i = 0; i < windows.begin.size(); ++i)
    for (std::int64_t p = std::max<std::int64_t>(0, windows.begin[i]); p < std::min(size, windows.end[i]); ++p) {
      Readers& r = list[static_cast<std::size_t>(p)];
      if (r.last == 0) r.first = static_cast<std::int64_t>(i);
      r.last = static_cast<std::int64_t>(i) + 1;
    }
  return list;
}

template <class A>
DTENSOR_DEVICE A share(const Window& y, const Window& x, double divisor) {
  return static_cast<A>(divisor != 0 ? divisor : y.count * x.count);
}

template <class T>
struct Average {
  const Window *y, *x;
  std::int64_t rows, columns, height, width;  // of the result, of the input
  double divisor;
  const T* in;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t plane = i;
    const Window wx = x[cut_last(plane, columns)], wy = y[cut_last(plane, rows)];
    const T* from = in + plane * height * width;
    Accumulate<T> total(0);
    for (std::int64_t a = wy.begin; a < wy.end; ++a)
      for (std::int64_t b = wx.begin; b < wx.end; ++b) total += load(from[a * width + b]);
    const bool empty = wy.begin >= wy.end || wx.begin >= wx.end;
    out[i] = store<T>(empty ? Accumulate<T>(0) : static_cast<Accumulate<T>>(total / share<Accumulate<T>>(wy, wx, divisor)));
  }
};

// One sum per thread, of the windows that read its position, in their order.
template <class T>
struct Spread {
  const Window *y, *x;
  const Readers *of_row, *of_column;
  std::int64_t rows, columns, height, width;  // of the gradient, of the result
  double divisor;
  const T* grad;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t plane = i;
    const std::int64_t b = cut_last(plane, width), a = cut_last(plane, height);
    const Readers ry = of_row[a], rx = of_column[b];
    const T* from = grad + plane * rows * columns;
    Accumulate<T> total(0);
    for (std::int64_t j = ry.first; j < ry.last; ++j) {
      const Window wy = y[j];
      if (a < wy.begin || a >= wy.end) continue;
      for (std::int64_t k = rx.first; k < rx.last; ++k) {
        const Window wx = x[k];
        if (b >= wx.begin && b < wx.end) total += load(from[j * columns + k]) / share<Accumulate<T>>(wy, wx, divisor);
      }
    }
    out[i] = store<T>(total);
  }
};

void average_windows(const Tensor& input, const cpu::Windows& y, const cpu::Windows& x, double divisor, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const Uploaded<Window> windows(device, listed(y, x));
  const int n = input.ndim();
  visit_arithmetic(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("average windows", out.numel(), device.current,
                    Average<T>{windows.data(), windows.data() + y.begin.size(), out.shape()[n - 2], out.shape()[n - 1], input.shape()[n - 2],
                               input.shape()[n - 1], divisor, input.raw_as<const T>(), out.raw_as<T>()});
  });
}

void average_windows_backward(const Tensor& grad, const cpu::Windows& y, const cpu::Windows& x, double divisor, const Tensor& out) {
  if (out.numel() == 0) return;
  const int n = out.ndim();
  const std::int64_t height = out.shape()[n - 2], width = out.shape()[n - 1];
  RankDevice& device = rank_device(out);
  std::vector<Readers> lists = readers_of(y, height);
  const std::vector<Readers> of_columns = readers_of(x, width);
  lists.insert(lists.end(), of_columns.begin(), of_columns.end());
  const Uploaded<Window> windows(device, listed(y, x));
  const Uploaded<Readers> readers(device, lists);
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("average windows backward", out.numel(), device.current,
                    Spread<T>{windows.data(), windows.data() + y.begin.size(), readers.data(), readers.data() + height, grad.shape()[n - 2],
                              grad.shape()[n - 1], height, width, divisor, grad.raw_as<const T>(), out.raw_as<T>()});
  });
}

// Of window t of n positions: those that are there, `dilation` apart.
struct Reach {
  std::int64_t first, last;
};
DTENSOR_DEVICE Reach reach_of(const cpu::MaxWindow& w, std::int64_t t, std::int64_t n) {
  const std::int64_t begin = t * w.stride - w.padding, end = begin + (w.size - 1) * w.dilation + 1;
  return {begin >= 0 ? begin : begin + (-begin + w.dilation - 1) / w.dilation * w.dilation, end < n ? end : n};
}

template <class T>
struct MaxOfWindow {
  cpu::MaxWindow y, x;
  cpu::PlanePart part;
  std::int64_t rows, columns, height, width;
  const T* in;
  T* out;
  std::int64_t* indices;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    using A = Accumulate<T>;
    std::int64_t plane = i;
    const Reach rx = reach_of(x, cut_last(plane, columns), width), ry = reach_of(y, cut_last(plane, rows), height);
    const T* from = in + plane * height * width;
    A best = kIsFloating<T> ? -std::numeric_limits<A>::infinity() : std::numeric_limits<A>::lowest();
    std::int64_t best_y = ry.first, best_x = rx.first;
    for (std::int64_t a = ry.first; a < ry.last; a += y.dilation)
      for (std::int64_t b = rx.first; b < rx.last; b += x.dilation) {
        const A value = load(from[a * width + b]);
        if (value > best || value != value) best = value, best_y = a, best_x = b;
      }
    out[i] = store<T>(best);
    indices[i] = (best_y + part.top) * part.width + best_x + part.left;
  }
};

void max_windows(const Tensor& input, const cpu::MaxWindow& y, const cpu::MaxWindow& x, const cpu::PlanePart& part, const Tensor& out,
                 const Tensor& indices) {
  const int n = input.ndim();
  const Stream stream = rank_device(out).current;
  visit_arithmetic(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("max windows", out.numel(), stream,
                    MaxOfWindow<T>{y, x, part, out.shape()[n - 2], out.shape()[n - 1], input.shape()[n - 2], input.shape()[n - 1],
                                   input.raw_as<const T>(), out.raw_as<T>(), indices.raw_as<std::int64_t>()});
  });
}

// Windows of `count` that may hold position p: [first, last).
DTENSOR_DEVICE Readers windows_over(const cpu::MaxWindow& w, std::int64_t p, std::int64_t count) {
  const std::int64_t at = p + w.padding, lowest = at - (w.size - 1) * w.dilation;
  const std::int64_t last = at < 0 ? 0 : quotient(at, w.stride) + 1;
  return {lowest <= 0 ? 0 : quotient(lowest + w.stride - 1, w.stride), last < count ? last : count};
}

// One sum per thread, of the windows that hold its position and chose it.
template <class T>
struct AddChosen {
  cpu::MaxWindow y, x;
  cpu::PlanePart part;
  std::int64_t rows, columns, height, width;  // of the gradient, of the result
  const T* grad;
  const std::int64_t* indices;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t plane = i;
    const std::int64_t b = cut_last(plane, width), a = cut_last(plane, height);
    const std::int64_t mine = (a + part.top) * part.width + b + part.left;
    const Readers ry = windows_over(y, a, rows), rx = windows_over(x, b, columns);
    Accumulate<T> total(0);
    for (std::int64_t j = ry.first; j < ry.last; ++j)
      for (std::int64_t k = rx.first; k < rx.last; ++k) {
        const std::int64_t at = (plane * rows + j) * columns + k;
        if (indices[at] == mine) total += load(grad[at]);
      }
    out[i] = store<T>(total);
  }
};

void add_at_indices(const Tensor& grad, const Tensor& indices, const cpu::MaxWindow& y, const cpu::MaxWindow& x, const cpu::PlanePart& part,
                    const Tensor& out) {
  const int n = out.ndim();
  const Stream stream = rank_device(out).current;
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("add at indices", out.numel(), stream,
                    AddChosen<T>{y, x, part, grad.shape()[n - 2], grad.shape()[n - 1], out.shape()[n - 2], out.shape()[n - 1], grad.raw_as<const T>(),
                                 indices.raw_as<const std::int64_t>(), out.raw_as<T>()});
  });
}

struct Grid {
  cpu::SpatialSizes from, to;  // of the planes of input and result
};
Grid grid_of(const Tensor& from, const Tensor& to, int spatial) { return {cpu::spatial_sizes(from, spatial), cpu::spatial_sizes(to, spatial)}; }

template <class Word>
struct TakePositions {
  Grid grid;
  Numbers at[3];
  const Word* in;
  Word* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t plane = i;
    const std::int64_t c = at[2][cut_last(plane, grid.to[2])], b = at[1][cut_last(plane, grid.to[1])], a = at[0][cut_last(plane, grid.to[0])];
    out[i] = in[((plane * grid.from[0] + a) * grid.from[1] + b) * grid.from[2] + c];
  }
};

void take_positions(const Tensor& input, int spatial, const cpu::Grid& at, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const std::vector<std::int64_t> zero{0};
  const auto list = [&](int d) { return DeviceNumbers(device, d < 3 - spatial ? zero : at[static_cast<std::size_t>(d)]); };
  const DeviceNumbers a = list(0), b = list(1), c = list(2);
  const auto run = [&]<class Word>(std::type_identity<Word>) {
    launch_elements("take positions", out.numel(), device.current,
                    TakePositions<Word>{grid_of(input, out, spatial), {a.get(), b.get(), c.get()}, input.raw_as<const Word>(), out.raw_as<Word>()});
  };
  switch (info(out.dtype()).bytes) {
    case 1:
      return run(std::type_identity<std::uint8_t>{});
    case 2:
      return run(std::type_identity<std::uint16_t>{});
    case 4:
      return run(std::type_identity<std::uint32_t>{});
    default:
      return run(std::type_identity<std::uint64_t>{});
  }
}

// A list the other way round: who goes to position p are entries [ends[p - 1], ends[p]) behind `size` ends, rising.
struct Inverse {
  const std::int64_t* ends = nullptr;
  std::int64_t size = 0;
  DTENSOR_DEVICE std::int64_t begin(std::int64_t p) const { return size + (p == 0 ? 0 : ends[p - 1]); }
  DTENSOR_DEVICE std::int64_t end(std::int64_t p) const { return size + ends[p]; }
  DTENSOR_DEVICE std::int64_t operator[](std::int64_t i) const { return ends[i]; }
};
void append_inverse(std::span<const std::int64_t> at, std::int64_t size, std::vector<std::int64_t>& list) {
  const std::size_t begin = list.size();
  const auto inside = [size](std::int64_t p) { return p >= 0 && p < size; };
  list.resize(begin + static_cast<std::size_t>(size), 0);
  for (const std::int64_t p : at)
    if (inside(p)) ++list[begin + static_cast<std::size_t>(p)];
  std::int64_t total = 0;
  std::vector<std::int64_t> next;
  for (std::size_t p = begin; p < list.size(); ++p) {
    next.push_back(total);
    total += list[p];
    list[p] = total;
  }
  list.resize(list.size() + static_cast<std::size_t>(total));
  for (std::size_t i = 0; i < at.size(); ++i)
    if (inside(at[i])) list[begin + static_cast<std::size_t>(size + next[static_cast<std::size_t>(at[i])]++)] = static_cast<std::int64_t>(i);
}

template <class T>
struct AddPositions {
  Grid grid;  // from the gradient's to the result's
  Inverse by[3];
  const T* grad;
  T* out;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t plane = i;
    const std::int64_t c = cut_last(plane, grid.to[2]), b = cut_last(plane, grid.to[1]), a = cut_last(plane, grid.to[0]);
    Accumulate<T> total(0);
    for (std::int64_t u = by[0].begin(a); u < by[0].end(a); ++u)
      for (std::int64_t v = by[1].begin(b); v < by[1].end(b); ++v)
        for (std::int64_t w = by[2].begin(c); w < by[2].end(c); ++w)
          total += load(grad[((plane * grid.from[0] + by[0][u]) * grid.from[1] + by[1][v]) * grid.from[2] + by[2][w]]);
    out[i] = store<T>(total);
  }
};

void add_positions(const Tensor& grad, int spatial, const cpu::Grid& at, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const Grid grid = grid_of(grad, out, spatial);
  const std::vector<std::int64_t> zero{0};
  std::vector<std::int64_t> list;
  std::array<std::size_t, 3> begins{};
  for (int d = 0; d < 3; ++d) {
    const auto k = static_cast<std::size_t>(d);
    begins[k] = list.size();
    append_inverse(d < 3 - spatial ? zero : at[k], grid.to[k], list);
  }
  const Uploaded<std::int64_t> lists(device, list);
  const auto inverse = [&](std::size_t d) { return Inverse{lists.data() + begins[d], grid.to[d]}; };
  visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("add positions", out.numel(), device.current,
                    AddPositions<T>{grid, {inverse(0), inverse(1), inverse(2)}, grad.raw_as<const T>(), out.raw_as<T>()});
  });
}

}  // namespace

void install_pooling() {
  kernels::average_windows.cuda = average_windows;
  kernels::average_windows_backward.cuda = average_windows_backward;
  kernels::max_windows.cuda = max_windows;
  kernels::add_at_indices.cuda = add_at_indices;
  kernels::take_positions.cuda = take_positions;
  kernels::add_positions.cuda = add_positions;
}

}  // namespace dtensor::local::cuda
