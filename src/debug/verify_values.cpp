// SPDX-License-Identifier: Apache-2.0
#include "debug/verify_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error_text.h"
#include "base/hash.h"

namespace dtensor::debug {
namespace {

double grid_of(Dtype dtype) {
  if (!info(dtype).floating) return 1;
  return dtype == Dtype::bf16 || dtype == Dtype::f16 ? 16 : 64;
}

// A contribution: a multiple of the grid in [-2, 2], or an integer in [-3, 3].
double random_step(Dtype dtype, std::uint64_t bits) {
  if (!info(dtype).floating) return static_cast<double>(bits % 7) - 3;
  const double grid = grid_of(dtype);
  return static_cast<double>(bits % static_cast<std::uint64_t>(4 * grid + 1)) / grid - 2;
}

// Joint position of the rank among the ranks of the Partial axes, their number, and the ranks of the avg axes.
struct PartialPlace {
  std::int64_t index = 0, count = 1, averaged = 1;
  std::optional<ReduceOp> op;  // sum for a mixture of sum and avg
};
PartialPlace partial_place(const placements::Layout& layout, const Shape& coordinates) {
  PartialPlace p;
  for (std::size_t a = 0; a < layout.partial.size(); ++a) {
    if (!layout.partial[a]) continue;
    p.index = p.index * layout.mesh_sizes[a] + coordinates[a];
    p.count *= layout.mesh_sizes[a];
    if (*layout.partial[a] == ReduceOp::avg) p.averaged *= layout.mesh_sizes[a];
    p.op = *layout.partial[a] == ReduceOp::avg ? ReduceOp::sum : *layout.partial[a];
  }
  return p;
}

double contribution(double value, Dtype dtype, const PartialPlace& p, std::uint64_t element, std::uint64_t seed) {
  if (!p.op) return value;
  const auto bits = [&](std::int64_t j) { return random_bits(seed + 17, element, static_cast<std::uint64_t>(j)); };
  if (*p.op == ReduceOp::sum) {
    if (p.index + 1 < p.count) return random_step(dtype, bits(p.index));
    double rest = value * static_cast<double>(p.averaged);
    for (std::int64_t j = 0; j + 1 < p.count; ++j) rest -= random_step(dtype, bits(j));
    return rest;
  }
  if (*p.op == ReduceOp::product) return p.index == static_cast<std::int64_t>(bits(-1) % static_cast<std::uint64_t>(p.count)) ? value : 1;
  if (p.index == static_cast<std::int64_t>(bits(-1) % static_cast<std::uint64_t>(p.count))) return value;
  const double away = std::abs(random_step(dtype, bits(p.index)));
  const double other = *p.op == ReduceOp::min ? value + away : value - away;
  if (dtype == Dtype::boolean) return *p.op == ReduceOp::min ? std::min(other, 1.0) : std::max(other, 0.0);
  return dtype == Dtype::u8 ? std::clamp(other, 0.0, 255.0) : other;
}

// Calls f(local flat index, global flat index) for all local elements.
template <class F>
void each_element(const std::vector<std::vector<std::int64_t>>& indices, const Shape& shape, F&& f) {
  const Shape strides = contiguous_strides(shape);
  std::vector<std::size_t> at(indices.size());
  for (const auto& list : indices)
    if (list.empty()) return;
  for (std::int64_t local = 0;; ++local) {
    std::int64_t global = 0;
    for (std::size_t d = 0; d < at.size(); ++d) global += indices[d][at[d]] * strides[d];
    f(local, global);
    std::size_t d = at.size();
    while (d > 0 && ++at[d - 1] == indices[d - 1].size()) at[--d] = 0;
    if (d == 0) return;
  }
}

std::vector<std::vector<std::int64_t>> owned_indices(const placements::Layout& layout, const Shape& shape, const Shape& coordinates) {
  std::vector<std::vector<std::int64_t>> indices(shape.size());
  for (int d = 0; d < shape.ndim(); ++d)
    for (const placements::Run& r : placements::owned_runs(layout, d, shape[d], coordinates))
      for (std::int64_t i = 0; i < r.length; ++i) indices[static_cast<std::size_t>(d)].push_back(r.begin + i);
  return indices;
}

double combine(std::optional<ReduceOp> op, double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  if (op == ReduceOp::min) return std::min(a, b);
  if (op == ReduceOp::max) return std::max(a, b);
  if (op == ReduceOp::product) return a * b;
  return a + b;
}

// Sums and products of integers wrap around.
double combine_wrapped(std::optional<ReduceOp> op, double a, double b, Dtype dtype) {
  if (op != ReduceOp::sum && op != ReduceOp::product) return combine(op, a, b);
  const auto whole = [](double v) { return v >= 0x1p63 ? std::numeric_limits<std::int64_t>::max() : static_cast<std::int64_t>(v); };
  const auto x = static_cast<std::uint64_t>(whole(a)), y = static_cast<std::uint64_t>(whole(b));
  const std::uint64_t bits = op == ReduceOp::sum ? x + y : x * y;
  if (dtype == Dtype::u8) return static_cast<double>(static_cast<std::uint8_t>(bits));
  if (dtype == Dtype::i32) return static_cast<double>(static_cast<std::int32_t>(static_cast<std::uint32_t>(bits)));
  return static_cast<double>(static_cast<std::int64_t>(bits));
}

// Half the distance of neighbours, relative.
double unit_roundoff(Dtype dtype) {
  if (!info(dtype).floating) return 0;
  return std::ldexp(1.0, dtype == Dtype::f64 ? -53 : dtype == Dtype::f32 ? -24 : dtype == Dtype::f16 ? -11 : -8);
}

double tolerance(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return 1e-9;
    // A sum of parts that cancels is rounded where the parts are large; a wrong rule is off by far more.
    case Dtype::f32:
      return 5e-4;
    case Dtype::bf16:
      return 5e-2;
    case Dtype::f16:
      return 1e-2;
    default:
      return 0;
  }
}

std::string index_text(std::int64_t flat, const Shape& shape) {
  Shape index;
  const Shape strides = contiguous_strides(shape);
  for (int d = 0; d < shape.ndim(); ++d) index.push_back(flat / strides[d] % shape[d]);
  return to_string(index);
}

}  // namespace

std::uint64_t random_bits(std::uint64_t seed, std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t z = (seed + 1) * 0x9e3779b97f4a7c15U + (a + 1) * 0xbf58476d1ce4e5b9U + (b + 1) * 0x94d049bb133111ebU;
  for (int round = 0; round < 2; ++round) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    z ^= z >> 31;
  }
  return z;
}

Whole random_whole(const Shape& shape, Dtype dtype, double low, double high, std::int64_t index_limit, std::uint64_t seed) {
  Whole whole{shape, dtype, std::vector<double>(static_cast<std::size_t>(shape.numel()))};
  const double grid = grid_of(dtype);
  const auto first = static_cast<std::int64_t>(std::ceil(low * grid)), last = static_cast<std::int64_t>(std::floor(high * grid));
  for (std::size_t i = 0; i < whole.values.size(); ++i) {
    const std::uint64_t bits = random_bits(seed, i);
    if (dtype == Dtype::boolean) whole.values[i] = static_cast<double>(bits % 2);
    else if (info(dtype).floating)
      whole.values[i] =
          static_cast<double>(first + static_cast<std::int64_t>(bits % static_cast<std::uint64_t>(std::max<std::int64_t>(last - first, 0) + 1))) /
          grid;
    else if (index_limit > 0) whole.values[i] = static_cast<double>(bits % static_cast<std::uint64_t>(index_limit));
    else whole.values[i] = static_cast<double>(bits % 7) - (dtype == Dtype::u8 ? 0 : 3);
  }
  return whole;
}

Tensor make_part(const Whole& whole, const placements::Layout& layout, const Shape& coordinates, std::uint64_t seed) {
  const Shape local = placements::local_shape(layout, whole.shape, coordinates);
  std::vector<double> values(static_cast<std::size_t>(local.numel()));
  const PartialPlace place = partial_place(layout, coordinates);
  each_element(owned_indices(layout, whole.shape, coordinates), whole.shape, [&](std::int64_t l, std::int64_t g) {
    values[static_cast<std::size_t>(l)] =
        contribution(whole.values[static_cast<std::size_t>(g)], whole.dtype, place, static_cast<std::uint64_t>(g), seed);
  });
  return from_numbers(values, local, whole.dtype);
}

std::vector<double> numbers(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) {
    const Tensor t = tensor.contiguous();
    const auto v = t.values<const double>();
    return {v.begin(), v.end()};
  }
  const Tensor t = tensor.to(Dtype::f64);
  const auto v = t.values<const double>();
  return {v.begin(), v.end()};
}

Tensor from_numbers(std::span<const double> values, const Shape& shape, Dtype dtype) {
  const Tensor t = Tensor::of(values, shape);
  return dtype == Dtype::f64 ? t : t.to(dtype);
}

std::optional<Whole> assemble(const Shape& shape, Dtype dtype, const placements::Layout& layout, std::span<const Part> parts, std::string& fault) {
  const auto count = static_cast<std::size_t>(shape.numel());
  std::int64_t contributions = 1, averaged = 1;
  std::optional<ReduceOp> op;
  if (!parts.empty()) {
    const PartialPlace p = partial_place(layout, parts[0].coordinates);
    contributions = p.count, averaged = p.averaged, op = p.op;
  }
  std::vector<std::vector<double>> slots(static_cast<std::size_t>(contributions), std::vector<double>(count));
  std::vector<std::vector<char>> filled(static_cast<std::size_t>(contributions), std::vector<char>(count));
  for (const Part& part : parts) {
    const Shape local = placements::local_shape(layout, shape, part.coordinates);
    if (local != part.shape) {
      fault = fmt::format("the rank at {} holds {}, its placements say {}", to_string(part.coordinates), to_string(part.shape), to_string(local));
      return std::nullopt;
    }
    const auto slot = static_cast<std::size_t>(partial_place(layout, part.coordinates).index);
    each_element(owned_indices(layout, shape, part.coordinates), shape, [&](std::int64_t l, std::int64_t g) {
      const auto at = static_cast<std::size_t>(g);
      const double value = part.values[static_cast<std::size_t>(l)];
      if (filled[slot][at] != 0 && std::bit_cast<std::uint64_t>(value) != std::bit_cast<std::uint64_t>(slots[slot][at]) &&
          !(std::isnan(value) && std::isnan(slots[slot][at])) && fault.empty())
        fault = fmt::format("replicas differ at element {} ({} and {})", index_text(g, shape), slots[slot][at], value);
      slots[slot][at] = value;
      filled[slot][at] = 1;
    });
  }
  Whole whole{shape, dtype, std::vector<double>(count)};
  const bool summed = op == ReduceOp::sum || op == ReduceOp::avg;
  if (summed) whole.slack.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t s = 0; s < slots.size(); ++s) {
      if (filled[s][i] == 0 && fault.empty()) fault = fmt::format("no rank holds element {}", index_text(static_cast<std::int64_t>(i), shape));
      whole.values[i] = s == 0                 ? slots[s][i]
                        : info(dtype).integral ? combine_wrapped(op, whole.values[i], slots[s][i], dtype)
                                               : combine(op, whole.values[i], slots[s][i]);
      if (summed) whole.slack[i] += std::abs(slots[s][i]) * unit_roundoff(dtype) / static_cast<double>(averaged);
    }
    if (averaged > 1) whole.values[i] /= static_cast<double>(averaged);
  }
  if (!fault.empty()) return std::nullopt;
  return whole;
}

std::string difference(const Whole& given, const Whole& expected) {
  if (given.shape != expected.shape || given.dtype != expected.dtype)
    return fmt::format("{}{} where one rank gives {}{}", to_string(given.dtype), to_string(given.shape), to_string(expected.dtype),
                       to_string(expected.shape));
  double largest = 1;
  for (double v : expected.values)
    if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double a = given.values[i], b = expected.values[i];
    if (a == b || (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= tolerance(expected.dtype) * largest) continue;
    return fmt::format("element {} is {} where one rank gives {}", index_text(static_cast<std::int64_t>(i), expected.shape), a, b);
  }
  return {};
}

}  // namespace dtensor::debug
