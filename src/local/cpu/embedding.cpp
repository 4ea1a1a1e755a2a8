// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/embedding.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include "local/cpu/panel.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

// The bytes of the neutral element of a sum: sign bit and zeros for floating dtypes.
std::array<std::byte, 8> neutral_bytes(Dtype dtype) {
  std::array<std::byte, 8> bytes{};
  if (info(dtype).floating) bytes[static_cast<std::size_t>(info(dtype).bytes - 1)] = std::byte{0x80};
  return bytes;
}

void fill_bytes(std::byte* to, std::int64_t count, const std::array<std::byte, 8>& element, std::size_t size) {
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(to + static_cast<std::size_t>(i) * size, element.data(), size);
}

// Visits the positions of `source` that the elements of the call stand for, in row-major order of its shape; position kElsewhere: not here.
template <class F>
void each_element(const ElementsCall& c, const Shape& source, const F& f) {
  const Shape strides = contiguous_strides(source);
  const std::int64_t count = c.shape.numel();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t position = 0, rest = i;
    bool here = true;
    for (int d = c.shape.ndim() - 1; d >= 0; --d) {
      const std::int64_t coordinate = rest % c.shape[d];
      rest /= c.shape[d];
      const std::int64_t at =
          d == c.dim ? c.at[static_cast<std::size_t>(i)] : c.others[static_cast<std::size_t>(d)][static_cast<std::size_t>(coordinate)];
      here = here && at != kElsewhere;
      position += at * strides[d];
    }
    f(i, here ? position : kElsewhere);
  }
}

// `sums` itself, or an f32 copy that finish() rounds into it.
template <class T>
class Accumulator {
 public:
  using C = std::conditional_t<kIsHalf<T>, float, T>;
  explicit Accumulator(const Tensor& sums) : out_(sums.raw_as<T>()), count_(sums.numel()) {
    if constexpr (kIsHalf<T>) {
      wide_.assign(static_cast<std::size_t>(count_), C(0));
      data = wide_.data();
    } else {
      std::fill_n(out_, count_, T(0));
      data = out_;
    }
  }
  void finish() const {
    if constexpr (kIsHalf<T>)
      for (std::int64_t i = 0; i < count_; ++i) out_[i] = static_cast<T>(wide_[static_cast<std::size_t>(i)]);
  }
  static void add(C& to, const T& value) {
    if constexpr (std::is_integral_v<T>) to = static_cast<T>(static_cast<std::uint64_t>(to) + static_cast<std::uint64_t>(value));
    else to += static_cast<C>(value);
  }
  C* data;

 private:
  T* out_;
  std::int64_t count_;
  std::vector<C> wide_;
};

}  // namespace

void take_rows(const RowsCall& c, const Tensor& source, const Tensor& out) {
  if (out.numel() == 0) return;
  const auto size = static_cast<std::size_t>(info(source.dtype()).bytes);
  const auto row = static_cast<std::size_t>(c.inner) * size;
  const auto count = static_cast<std::int64_t>(c.at.size());
  const auto neutral = neutral_bytes(source.dtype());
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(out.raw());
  parallel_for(c.outer * count, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, c.inner)), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t at = c.at[static_cast<std::size_t>(r % count)];
      std::byte* target = to + static_cast<std::size_t>(r) * row;
      if (at == kElsewhere) fill_bytes(target, c.inner, neutral, size);
      else std::memcpy(target, from + static_cast<std::size_t>(r / count * c.length + at) * row, row);
    }
  });
}

void deposit_rows(const RowsCall& c, const Tensor& grad, const Tensor& sums) {
  if (sums.numel() == 0) return;
  visit_arithmetic(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    Accumulator<T> total(sums);
    const auto count = static_cast<std::int64_t>(c.at.size());
    const T* from = grad.raw_as<T>();
    // A task owns target rows and sees all sources in order, so that tasks share nothing and the order of a sum is fixed.
    parallel_for(c.outer * c.length, std::max<std::int64_t>(count, 1 + 65536 / c.inner), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin / c.length; o * c.length < end; ++o) {
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t at = c.at[static_cast<std::size_t>(i)], target = o * c.length + at;
          if (at == kElsewhere || target < begin || target >= end) continue;
          auto* to = total.data + target * c.inner;
          const T* g = from + (o * count + i) * c.inner;
          for (std::int64_t x = 0; x < c.inner; ++x) Accumulator<T>::add(to[x], g[x]);
        }
      }
    });
    total.finish();
  });
}

void take_elements(const ElementsCall& c, const Tensor& source, const Tensor& out) {
  const auto size = static_cast<std::size_t>(info(source.dtype()).bytes);
  const auto neutral = neutral_bytes(source.dtype());
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(out.raw());
  each_element(c, source.shape(), [&](std::int64_t i, std::int64_t position) {
    std::memcpy(to + static_cast<std::size_t>(i) * size, position == kElsewhere ? neutral.data() : from + static_cast<std::size_t>(position) * size,
                size);
  });
}

void deposit_elements(const ElementsCall& c, const Tensor& grad, const Tensor& sums) {
  if (sums.numel() == 0) return;
  visit_arithmetic(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    Accumulator<T> total(sums);
    const T* from = grad.raw_as<T>();
    each_element(c, sums.shape(), [&](std::int64_t i, std::int64_t position) {
      if (position != kElsewhere) Accumulator<T>::add(total.data[position], from[i]);
    });
    total.finish();
  });
}

}  // namespace dtensor::local::cpu
