// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/arrange.h"

#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "local/cuda/launch.h"
#include "local/cuda/numbers.h"
#include "local/cuda/pieces.h"
#include "local/cuda/rank_device.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

struct GridDim {
  std::int64_t size = 1, in_stride = 0, out_stride = 0;
  Numbers from;
};

// Elements are moved, not computed with: pieces of one or, where the last dim passes whole, of several.
template <std::size_t bytes>
struct TakeGrid {
  std::array<GridDim, kMaxDims> dims;  // in pieces
  int ndim;
  const std::byte* in;
  std::byte* out;
  Piece<bytes> fill;
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
    constexpr auto kBytes = static_cast<std::int64_t>(bytes);
    if (here) copy_piece<bytes>(out + write * kBytes, in + read * kBytes);
    else copy_piece<bytes>(out + write * kBytes, &fill);
  }
};

bool passes(const Numbers& n) { return n.runs == 1 && n.run[0].first == 0 && n.run[0].step == 1; }

// Neighbours of which both pass whole are one: less index mathematics per piece.
int append(std::array<GridDim, kMaxDims>& dims, int n, GridDim dim) {
  if (n > 0) {
    const GridDim& before = dims[static_cast<std::size_t>(n - 1)];
    if (passes(dim.from) && passes(before.from) && before.in_stride == dim.size * dim.in_stride && before.out_stride == dim.size * dim.out_stride) {
      dim.size *= before.size;
      --n;
    }
  }
  dims[static_cast<std::size_t>(n)] = dim;
  return n + 1;
}
// What divides all addresses and distances in bytes.
std::uintptr_t granule_of(std::span<const GridDim> dims, const Tensor& in, const Tensor& out) {
  const auto bytes = static_cast<std::uintptr_t>(info(in.dtype()).bytes);
  if (dims.empty()) return bytes;
  const GridDim& last = dims.back();
  if (!passes(last.from) || last.in_stride != 1 || last.out_stride != 1) return bytes;
  auto all =
      reinterpret_cast<std::uintptr_t>(in.raw()) | reinterpret_cast<std::uintptr_t>(out.raw()) | static_cast<std::uintptr_t>(last.size) * bytes;
  for (const GridDim& d : dims.first(dims.size() - 1))
    all |= static_cast<std::uintptr_t>(d.in_stride) * bytes | static_cast<std::uintptr_t>(d.out_stride) * bytes;
  return all;
}
template <std::size_t bytes>
Piece<bytes> pieces_of(const Scalar& value, Dtype dtype) {
  Piece<bytes> piece;
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    const T element = convert<T>(value);
    if constexpr (sizeof(T) <= bytes)
      for (std::size_t i = 0; i < bytes; i += sizeof(T)) std::memcpy(piece.of + i, &element, sizeof(T));
  });
  return piece;
}

void take_grid(const Tensor& in, std::span<const std::vector<std::int64_t>> from, const Scalar& fill, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  std::vector<DeviceNumbers> lists;
  std::array<GridDim, kMaxDims> dims;
  int n = 0;
  for (int d = 0; d < out.ndim(); ++d) {
    const Numbers& list = lists.emplace_back(device, from[static_cast<std::size_t>(d)]).get();
    n = append(dims, n, {out.shape()[d], in.strides()[d], out.strides()[d], list});
  }
  with_piece(granule_of(std::span(dims.data(), static_cast<std::size_t>(n)), in, out),
             [&]<std::size_t bytes>(std::integral_constant<std::size_t, bytes>) {
               // Distances in pieces. Of the last dimension they are 1, or pieces are elements.
               const std::int64_t of_element = info(in.dtype()).bytes, of_piece = bytes, many = of_piece / of_element;
               for (GridDim& d : std::span(dims.data(), static_cast<std::size_t>(n == 0 ? 0 : n - 1))) d.in_stride /= many, d.out_stride /= many;
               if (n > 0) dims[static_cast<std::size_t>(n - 1)].size /= many;
               launch_elements("take grid", out.numel() / many, device.current,
                               TakeGrid<bytes>{dims, n, static_cast<const std::byte*>(in.raw()), static_cast<std::byte*>(out.raw()),
                                               pieces_of<bytes>(fill, in.dtype())});
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
