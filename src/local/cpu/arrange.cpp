// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/arrange.h"

#include <algorithm>
#include <cstring>

#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

// Elements are moved, not computed with: only their size counts.
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

template <class T>
T bits_of(const Scalar& value, Dtype dtype) {
  const Tensor one = Tensor::empty({1}, dtype);
  one.fill_(value);
  T bits;
  std::memcpy(&bits, one.raw(), sizeof bits);
  return bits;
}

}  // namespace

void take_grid(const Tensor& in, std::span<const std::vector<std::int64_t>> from, const Scalar& fill, const Tensor& out) {
  if (out.numel() == 0) return;
  const int n = out.ndim();
  visit_size(in.dtype(), [&]<class T>(std::type_identity<T>) {
    const T blank = bits_of<T>(fill, in.dtype());
    const auto* source = static_cast<const T*>(in.raw());
    auto* target = static_cast<T*>(out.raw());
    if (n == 0) {
      *target = *source;
      return;
    }
    const std::int64_t inner = out.shape()[n - 1], rows = out.numel() / inner, in_step = in.strides()[n - 1], out_step = out.strides()[n - 1];
    const std::vector<std::int64_t>& last = from[static_cast<std::size_t>(n - 1)];
    parallel_for(rows, 1 + 16384 / inner, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r) {
        std::int64_t rest = r, read = 0, write = 0;
        bool here = true;
        for (int d = n - 2; d >= 0; --d) {
          const std::int64_t i = rest % out.shape()[d], at = from[static_cast<std::size_t>(d)][static_cast<std::size_t>(i)];
          rest /= out.shape()[d];
          here = here && at != kFill;
          read += at * in.strides()[d];
          write += i * out.strides()[d];
        }
        for (std::int64_t i = 0; i < inner; ++i) {
          const std::int64_t at = last[static_cast<std::size_t>(i)];
          target[write + i * out_step] = here && at != kFill ? source[read + at * in_step] : blank;
        }
      }
    });
  });
}

void add_windows(const Tensor& windows, int dim, std::int64_t step, std::int64_t first, const Tensor& sums) {
  sums.fill_(0);
  if (windows.numel() == 0 || sums.numel() == 0) return;
  const int n = sums.ndim();
  visit_arithmetic(sums.dtype(), [&]<class T>(std::type_identity<T>) {
    using C = Accumulate<T>;
    std::vector<C> total(static_cast<std::size_t>(sums.numel()), C(0));
    const T* from = windows.raw_as<T>();
    const Shape strides = contiguous_strides(sums.shape());
    const std::int64_t size = windows.shape()[n], outer = windows.numel() / size;
    for (std::int64_t w = 0; w < outer; ++w) {
      std::int64_t rest = w, read = 0, write = 0, start = first;
      for (int d = n - 1; d >= 0; --d) {
        const std::int64_t i = rest % windows.shape()[d];
        rest /= windows.shape()[d];
        read += i * windows.strides()[d];
        if (d == dim) start += i * step;
        else write += i * strides[d];
      }
      for (std::int64_t j = std::max<std::int64_t>(0, -start); j < size && start + j < sums.shape()[dim]; ++j)
        total[static_cast<std::size_t>(write + (start + j) * strides[dim])] += load(from[read + j * windows.strides()[n]]);
    }
    T* to = sums.raw_as<T>();
    for (std::size_t i = 0; i < total.size(); ++i) to[i] = store<T>(total[i]);
  });
}

}  // namespace dtensor::local::cpu
