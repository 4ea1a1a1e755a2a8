// SPDX-License-Identifier: Apache-2.0
// Global values as plain numbers: how the checker makes the parts of an input and puts the parts of a result together, without the library's own moves.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "placements/layout.h"

namespace dtensor::debug {

/// A whole tensor, row-major.
struct Whole {
  Shape shape;
  Dtype dtype = Dtype::f32;
  std::vector<double> values;
  std::vector<double> slack = {};  ///< of a value that was assembled of Partial sums: what the rounding of every part may have cost; else empty
};
/// What one rank holds of a result.
struct Part {
  Shape coordinates, shape;
  std::vector<double> values;
};

/// 64 random bits of a position.
std::uint64_t random_bits(std::uint64_t seed, std::uint64_t a, std::uint64_t b = 0) noexcept;
/// Random values, deterministic in `seed`: floating ones in [low, high] on a grid of 1/64 (1/16 for bf16 and f16), so that sums of parts are exact; integers in
/// [0, index_limit), or [-3, 3] (u8: [0, 6]) when that is 0.
Whole random_whole(const Shape& shape, Dtype dtype, double low, double high, std::int64_t index_limit, std::uint64_t seed);
/// The part of `whole` that the rank at `coordinates` holds. Partial axes get uneven random contributions whose reduction is the value.
Tensor make_part(const Whole& whole, const placements::Layout& layout, const Shape& coordinates, std::uint64_t seed);
/// Elements of a local tensor as numbers, row-major.
std::vector<double> numbers(const Tensor& tensor);
/// A local tensor of these numbers.
Tensor from_numbers(std::span<const double> values, const Shape& shape, Dtype dtype);

/// The global value that the parts (one per rank of the mesh) say. On a fault (a local shape that does not fit, an element that no rank holds, replicas that
/// differ) the text of it and no value.
std::optional<Whole> assemble(const Shape& shape, Dtype dtype, const placements::Layout& layout, std::span<const Part> parts, std::string& fault);
/// Empty when equal within the tolerance of the dtype (relative to the largest element of `expected`), else the first difference as text.
std::string difference(const Whole& given, const Whole& expected);

}  // namespace dtensor::debug
