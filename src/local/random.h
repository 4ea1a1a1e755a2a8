// SPDX-License-Identifier: Apache-2.0
// Random tensors by counter. Element i has the 64-bit word of (seed, call, i), i its row-major index in the global tensor: lane pair i % 2 of
// Philox4x32-10 with key = seed and counter = (i / 2, call), each low word first. What is made of it is computed in double with +, *, / and square root
// only, then rounded to the dtype: the same bits on every mesh, placement and machine.
//
// J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11.
#pragma once

#include <cstdint>
#include <span>

#include "dtensor/tensor.h"

namespace dtensor::local {

/// Consecutive global indices of one dimension.
struct GlobalRun {
  std::int64_t begin = 0, length = 0;
};
/// Where a local tensor lies in the global one: per dimension the runs that it holds, in local order. Their lengths add up to the local size.
struct GlobalMap {
  Shape global;
  std::span<const std::span<const GlobalRun>> runs;
};

/// What all check, whatever the device. @throws InternalError unless `map` describes `out`, InvalidArgument for another dtype where `floating` ones are wanted.
void check_random(const Tensor& out, const GlobalMap& map, const char* op, bool floating);
/// @throws InvalidArgument for an empty range.
void check_range(std::int64_t low, std::int64_t high);
/// @throws InvalidArgument unless i64.
void check_words(const Tensor& out);

/// Uniform in [low, high), but for rounding when the range is not [0, 1): there the upper end is never reached, and a narrower dtype truncates.
/// The dtype is floating.
void fill_uniform(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double low = 0, double high = 1);
/// Normal, by Box and Muller on the words of elements 2k and 2k + 1. The dtype is floating.
void fill_normal(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double mean = 0, double std = 1);
/// `kept` with probability `probability`, 0 otherwise. Any dtype.
void fill_keep_mask(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double probability, const Scalar& kept = true);
/// Whole numbers in [low, high); converted to the dtype.
void fill_integers(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, std::int64_t low, std::int64_t high);
/// The 64-bit words themselves. i64.
void fill_words(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map);

}  // namespace dtensor::local
