// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/embedding.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "dtensor/error.h"
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
  const auto* along = c.at.raw_as<const std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t position = 0, rest = i;
    bool here = true;
    for (int d = c.shape.ndim() - 1; d >= 0; --d) {
      const std::int64_t coordinate = rest % c.shape[d];
      rest /= c.shape[d];
      const std::int64_t at = d == c.dim ? along[i] : c.others[static_cast<std::size_t>(d)].at(coordinate);
      here = here && at != kElsewhere;
      position += at * strides[d];
    }
    f(i, here ? position : kElsewhere);
  }
}

// Visits the elements of the call with their positions, as each_element.
template <class F>
void each_point(const PointsCall& c, const F& f) {
  const std::int64_t count = c.shape.numel();
  const auto* bases = c.base.raw_as<const std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t rest = i, position = 0, point = 0, weight = 1;
    for (int d = c.shape.ndim() - 1; d >= 0; --d) {
      const std::int64_t coordinate = rest % c.shape[d];
      rest /= c.shape[d];
      if (d >= c.first && d < c.first + c.count) {
        point += coordinate * weight;
        weight *= c.shape[d];
      } else {
        position += coordinate * c.strides[d];
      }
    }
    const std::int64_t base = bases[point];
    f(i, base == kElsewhere ? kElsewhere : base + position);
  }
}

// Copies elements between buffers by their size.
class Copier {
 public:
  Copier(const Tensor& source, const Scalar& value, const Tensor& target)
      : size_(static_cast<std::size_t>(info(target.dtype()).bytes)), to_(static_cast<std::byte*>(target.raw())) {
    if (source) {
      from_ = static_cast<const std::byte*>(source.raw());
      step_ = size_;
      return;
    }
    one_ = Tensor::empty({1}, target.dtype());
    one_.fill_(value);
    from_ = static_cast<const std::byte*>(one_.raw());
  }
  void operator()(std::int64_t from, std::int64_t to) const {
    std::memcpy(to_ + static_cast<std::size_t>(to) * size_, from_ + static_cast<std::size_t>(from) * step_, size_);
  }

 private:
  std::size_t size_, step_ = 0;
  std::byte* to_;
  const std::byte* from_ = nullptr;
  Tensor one_;
};

// `sums` itself, or an f32 copy that finish() rounds into it.
template <class T>
class Accumulator {
 public:
  using C = std::conditional_t<kIsHalf<T>, float, T>;
  explicit Accumulator(const Tensor& sums, const DepositOptions& options = {})
      : out_(sums.raw_as<T>()), count_(sums.numel()), alpha_(convert<C>(options.alpha)) {
    if constexpr (kIsHalf<T>) {
      wide_.assign(static_cast<std::size_t>(count_), C(0));
      if (options.add)
        for (std::int64_t i = 0; i < count_; ++i) wide_[static_cast<std::size_t>(i)] = static_cast<C>(out_[i]);
      data = wide_.data();
    } else {
      if (!options.add) std::fill_n(out_, count_, T(0));
      data = out_;
    }
  }
  void finish() const {
    if constexpr (kIsHalf<T>)
      for (std::int64_t i = 0; i < count_; ++i) out_[i] = static_cast<T>(wide_[static_cast<std::size_t>(i)]);
  }
  void add(C& to, const T& value) const {
    if constexpr (std::is_same_v<T, bool>) to = to || (alpha_ && value);
    else if constexpr (std::is_integral_v<T>)
      to = static_cast<T>(static_cast<std::uint64_t>(to) + static_cast<std::uint64_t>(alpha_) * static_cast<std::uint64_t>(value));
    else to += alpha_ * static_cast<C>(value);
  }
  C* data;

 private:
  T* out_;
  std::int64_t count_;
  C alpha_;
  std::vector<C> wide_;
};

// Calls f(values of the index) with the type of an element known.
template <class F>
void with_index(const Tensor& index, const F& f) {
  if (index.dtype() == Dtype::i64) f(index.raw_as<const std::int64_t>());
  else f(index.raw_as<const std::int32_t>());
}

}  // namespace

std::string PositionsCall::out_of_range(std::int64_t value) const {
  return fmt::format("{}: index {} is out of range ({} has {}); indices are {} to {}", op, value, what, size, from_end ? -size : 0, size - 1);
}

Tensor resolve_positions(const Tensor& index, const PositionsCall& c) {
  Tensor values = index.contiguous();
  const std::int64_t count = values.numel();
  const auto outside = [&c](std::int64_t v) { return v < 0 || v >= c.size; };
  if (values.dtype() == Dtype::i64 && c.runs.size() == 1 && c.runs[0].begin == 0 && c.runs[0].length == c.size) {
    const auto* v = values.raw_as<const std::int64_t>();
    std::uint64_t highest = 0;  // of negative values too
    for (std::int64_t i = 0; i < count; ++i) highest = std::max(highest, static_cast<std::uint64_t>(v[i]));
    if (count == 0 || highest < static_cast<std::uint64_t>(c.size)) return values;
  }
  Tensor at = Tensor::empty(index.shape(), Dtype::i64);
  auto* to = at.raw_as<std::int64_t>();
  with_index(values, [&](const auto* v) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t value = v[i];
      if (c.from_end && value < 0) value += c.size;
      if (outside(value)) throw Error(c.out_of_range(v[i]));
      std::int64_t local = 0;
      to[i] = kElsewhere;
      for (const GlobalRun& r : c.runs) {
        if (value >= r.begin && value < r.begin + r.length) to[i] = local + value - r.begin;
        local += r.length;
      }
    }
  });
  return at;
}

void add_positions_to(const Tensor& at, std::int64_t stride, const Tensor& base) {
  const auto loop = strided_loop<2>(base.shape(), {base.strides(), at.strides()});
  auto* to = base.raw_as<std::int64_t>();
  const auto* from = at.raw_as<const std::int64_t>();
  const std::int64_t step = loop.inner_stride(0), at_step = loop.inner_stride(1);
  for_rows(loop, 0, loop.numel, [&](const auto& offsets, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t& b = to[offsets[0] + i * step];
      const std::int64_t a = from[offsets[1] + i * at_step];
      b = a == kElsewhere || b == kElsewhere ? kElsewhere : b + a * stride;
    }
  });
}

void count_positions(const Tensor& at, const Tensor& counts) {
  auto* to = counts.raw_as<std::int64_t>();
  std::fill_n(to, counts.numel(), std::int64_t{0});
  const auto* places = at.raw_as<const std::int64_t>();
  for (std::int64_t i = 0; i < at.numel(); ++i)
    if (places[i] != kElsewhere) ++to[places[i]];
}

void mark_positions(const Tensor& at, const Tensor& out) {
  const std::int64_t count = at.numel(), width = count == 0 ? 0 : out.numel() / count;
  auto* to = out.raw_as<std::int64_t>();
  std::fill_n(to, out.numel(), std::int64_t{0});
  const auto* places = at.raw_as<const std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i)
    if (places[i] != kElsewhere) to[i * width + places[i]] = 1;
}

void take_rows(const RowsCall& c, const Tensor& source, const Tensor& out) {
  if (out.numel() == 0) return;
  const auto size = static_cast<std::size_t>(info(source.dtype()).bytes);
  const auto row = static_cast<std::size_t>(c.inner) * size;
  const std::int64_t count = c.at.numel();
  const auto* places = c.at.raw_as<const std::int64_t>();
  const auto neutral = neutral_bytes(source.dtype());
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(out.raw());
  parallel_for(c.outer * count, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, c.inner)), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t at = places[r % count];
      std::byte* target = to + static_cast<std::size_t>(r) * row;
      if (at == kElsewhere) fill_bytes(target, c.inner, neutral, size);
      else std::memcpy(target, from + static_cast<std::size_t>(r / count * c.length + at) * row, row);
    }
  });
}

void deposit_rows(const RowsCall& c, const Tensor& grad, const Tensor& sums, const DepositOptions& options) {
  if (sums.numel() == 0) return;
  visit_dtype(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    Accumulator<T> total(sums, options);
    const std::int64_t count = c.at.numel();
    const auto* places = c.at.raw_as<const std::int64_t>();
    const T* from = grad.raw_as<T>();
    // A task owns target rows and sees all sources in order, so that tasks share nothing and the order of a sum is fixed.
    parallel_for(c.outer * c.length, std::max<std::int64_t>(count, 1 + 65536 / c.inner), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin / c.length; o * c.length < end; ++o) {
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t at = places[i], target = o * c.length + at;
          if (at == kElsewhere || target < begin || target >= end) continue;
          auto* to = total.data + target * c.inner;
          const T* g = from + (o * count + i) * c.inner;
          for (std::int64_t x = 0; x < c.inner; ++x) total.add(to[x], g[x]);
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

void deposit_elements(const ElementsCall& c, const Tensor& grad, const Tensor& sums, const DepositOptions& options) {
  if (sums.numel() == 0) return;
  visit_dtype(grad.dtype(), [&]<class T>(std::type_identity<T>) {
    Accumulator<T> total(sums, options);
    const T* from = grad.raw_as<T>();
    each_element(c, sums.shape(), [&](std::int64_t i, std::int64_t position) {
      if (position != kElsewhere) total.add(total.data[position], from[i]);
    });
    total.finish();
  });
}

void put_rows(const RowsCall& c, const Tensor& source, const Scalar& value, const Tensor& target) {
  const std::int64_t count = c.at.numel();
  const auto* places = c.at.raw_as<const std::int64_t>();
  const Copier copy(source, value, target);
  for (std::int64_t o = 0; o < c.outer; ++o)
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t at = places[i];
      if (at == kElsewhere) continue;
      for (std::int64_t x = 0; x < c.inner; ++x) copy((o * count + i) * c.inner + x, (o * c.length + at) * c.inner + x);
    }
}

template <class C>
C combined(Combine how, C a, C b) {
  if constexpr (std::is_same_v<C, bool>) return how == Combine::max ? a || b : a && b;
  else if (how == Combine::product) {
    if constexpr (std::is_integral_v<C>) return static_cast<C>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
    else return a * b;
  } else {
    return (how == Combine::max ? b > a : b < a) || b != b ? b : a;
  }
}
void combine_elements(const ElementsCall& c, const Tensor& source, Combine how, const Tensor& target) {
  if (target.numel() == 0) return;
  visit_dtype(source.dtype(), [&]<class T>(std::type_identity<T>) {
    Accumulator<T> total(target, {.add = true});
    using C = typename Accumulator<T>::C;
    const T* from = source.raw_as<T>();
    each_element(c, target.shape(), [&](std::int64_t i, std::int64_t position) {
      if (position != kElsewhere) total.data[position] = combined<C>(how, total.data[position], static_cast<C>(from[i]));
    });
    total.finish();
  });
}
void put_elements(const ElementsCall& c, const Tensor& source, const Scalar& value, const Tensor& target) {
  const Copier copy(source, value, target);
  each_element(c, target.shape(), [&](std::int64_t i, std::int64_t position) {
    if (position != kElsewhere) copy(i, position);
  });
}

void take_points(const PointsCall& c, const Tensor& source, const Tensor& values) {
  const auto size = static_cast<std::size_t>(info(source.dtype()).bytes);
  const auto neutral = neutral_bytes(source.dtype());
  const auto* from = static_cast<const std::byte*>(source.raw());
  auto* to = static_cast<std::byte*>(values.raw());
  each_point(c, [&](std::int64_t i, std::int64_t position) {
    std::memcpy(to + static_cast<std::size_t>(i) * size, position == kElsewhere ? neutral.data() : from + static_cast<std::size_t>(position) * size,
                size);
  });
}

void deposit_points(const PointsCall& c, const Tensor& values, const Tensor& sums, const DepositOptions& options) {
  if (sums.numel() == 0) return;
  visit_dtype(values.dtype(), [&]<class T>(std::type_identity<T>) {
    Accumulator<T> total(sums, options);
    const T* from = values.raw_as<T>();
    each_point(c, [&](std::int64_t i, std::int64_t position) {
      if (position != kElsewhere) total.add(total.data[position], from[i]);
    });
    total.finish();
  });
}

void put_points(const PointsCall& c, const Tensor& values, const Tensor& target) {
  const Copier copy(values, 0, target);
  each_point(c, [&](std::int64_t i, std::int64_t position) {
    if (position != kElsewhere) copy(i, position);
  });
}

}  // namespace dtensor::local::cpu
