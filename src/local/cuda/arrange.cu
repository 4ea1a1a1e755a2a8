// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/arrange.h"

#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "local/cuda/launch.h"
#include "local/cuda/numbers.h"
#include "local/cuda/rank_device.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

struct GridDim {
  std::int64_t size = 1, in_stride = 0, out_stride = 0;
  Numbers from;
};

// Elements are moved, not computed with: only their size counts.
template <class Word>
struct TakeGrid {
  std::array<GridDim, kMaxDims> dims;
  int ndim;
  const Word* in;
  Word* out;
  Word fill;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t read = 0, write = 0;
    bool here = true;
    for (int d = ndim - 1; d >= 0; --d) {
      const GridDim& dim = dims[static_cast<std::size_t>(d)];
      const std::int64_t k = cut_last(i, dim.size), at = dim.from[k];
      here = here && at != cpu::kFill;
      read += at * dim.in_stride;
      write += k * dim.out_stride;
    }
    out[write] = here ? in[read] : fill;
  }
};

bool passes(const Numbers& n) { return n.runs == 1 && n.run[0].first == 0 && n.run[0].step == 1; }

template <class F>
void visit_size(Dtype dtype, const F& f) {
  switch (info(dtype).bytes) {
    case 1:
      return f(std::type_identity<std::uint8_t>{});
    case 2:
      return f(std::type_identity<std::uint16_t>{});
    case 4:
      return f(std::type_identity<std::uint32_t>{});
    default:
      return f(std::type_identity<std::uint64_t>{});
  }
}
template <class Word>
Word bits_of(const Scalar& value, Dtype dtype) {
  Word bits{};
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    const T element = convert<T>(value);
    if constexpr (sizeof(T) == sizeof(Word)) std::memcpy(&bits, &element, sizeof bits);
  });
  return bits;
}

void take_grid(const Tensor& in, std::span<const std::vector<std::int64_t>> from, const Scalar& fill, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  std::vector<DeviceNumbers> lists;
  std::array<GridDim, kMaxDims> dims;
  int n = 0;
  for (int d = 0; d < out.ndim(); ++d) {
    const Numbers& list = lists.emplace_back(device, from[static_cast<std::size_t>(d)]).get();
    GridDim dim{out.shape()[d], in.strides()[d], out.strides()[d], list};
    // Neighbours of which the second passes whole are one: less index mathematics per element.
    if (n > 0) {
      GridDim& before = dims[static_cast<std::size_t>(n - 1)];
      if (passes(list) && passes(before.from) && before.in_stride == dim.size * dim.in_stride && before.out_stride == dim.size * dim.out_stride) {
        dim.size *= before.size;
        --n;
      }
    }
    dims[static_cast<std::size_t>(n++)] = dim;
  }
  visit_size(in.dtype(), [&]<class Word>(std::type_identity<Word>) {
    launch_elements("take grid", out.numel(), device.current,
                    TakeGrid<Word>{dims, n, static_cast<const Word*>(in.raw()), static_cast<Word*>(out.raw()), bits_of<Word>(fill, in.dtype())});
  });
}

// One sum per thread, of the windows that reach its position, in their order.
template <class T>
struct AddWindows {
  std::array<std::int64_t, kMaxDims> sizes, strides;  // of the sums, and of the windows without their last dim
  int ndim, dim;
  std::int64_t step, first, count, length, window_stride, inner_stride;
  const T* windows;
  T* sums;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t rest = i, read = 0, reach = 0;
    for (int d = ndim - 1; d >= 0; --d) {
      const std::int64_t k = cut_last(rest, sizes[static_cast<std::size_t>(d)]);
      if (d == dim) reach = k - first;
      else read += k * strides[static_cast<std::size_t>(d)];
    }
    // Windows w with 0 <= reach - w step < length.
    const std::int64_t lowest = reach - length + 1;
    std::int64_t w = lowest <= 0 ? 0 : quotient(lowest + step - 1, step);
    Accumulate<T> total(0);
    for (; w < count && w * step <= reach; ++w) total += load(windows[read + w * window_stride + (reach - w * step) * inner_stride]);
    sums[i] = store<T>(total);
  }
};

void add_windows(const Tensor& windows, int dim, std::int64_t step, std::int64_t first, const Tensor& sums) {
  if (sums.numel() == 0) return;
  const int n = sums.ndim();
  std::array<std::int64_t, kMaxDims> sizes{}, strides{};
  for (int d = 0; d < n; ++d) {
    sizes[static_cast<std::size_t>(d)] = sums.shape()[d];
    strides[static_cast<std::size_t>(d)] = windows.strides()[d];
  }
  visit_arithmetic(sums.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("add windows", sums.numel(), rank_device(sums).current,
                    AddWindows<T>{sizes, strides, n, dim, step, first, windows.numel() == 0 ? 0 : windows.shape()[dim], windows.shape()[n],
                                  windows.strides()[dim], windows.strides()[n], windows.raw_as<const T>(), sums.raw_as<T>()});
  });
}

}  // namespace

void install_arrange() {
  kernels::take_grid.cuda = take_grid;
  kernels::add_windows.cuda = add_windows;
}

}  // namespace dtensor::local::cuda
