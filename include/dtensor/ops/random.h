// SPDX-License-Identifier: Apache-2.0
// Random tensors. Element i depends on (seed, call number, global index i) only: the same numbers under every mesh, placement and world size.
// Each call adds one to the generator on every rank that makes it.
#pragma once

#include "dtensor/distributed_tensor.h"
#include "dtensor/generator.h"

namespace dtensor {

/// While it lives, random ops of this rank draw from `generator`.
class DTENSOR_EXPORT RandomScope {
 public:
  [[nodiscard]] explicit RandomScope(Generator& generator);
  ~RandomScope();
  RandomScope(const RandomScope&) = delete;

 private:
  Generator* was_;
};

/// Uniform in [0, 1).
DTENSOR_EXPORT DTensor rand(const Shape& size, const DeviceMesh& mesh, const Placements& placements = {}, const TensorOptions& options = {});
/// Standard normal.
DTENSOR_EXPORT DTensor randn(const Shape& size, const DeviceMesh& mesh, const Placements& placements = {}, const TensorOptions& options = {});
DTENSOR_EXPORT DTensor uniform(const Shape& size, double low, double high, const DeviceMesh& mesh, const Placements& placements = {},
                               const TensorOptions& options = {});
DTENSOR_EXPORT DTensor normal(const Shape& size, double mean, double std, const DeviceMesh& mesh, const Placements& placements = {},
                              const TensorOptions& options = {});
struct RandintOptions {
  Dtype dtype = Dtype::i64;
  std::optional<Device> device = {};
};
/// Integers in [low, high).
DTENSOR_EXPORT DTensor randint(std::int64_t low, std::int64_t high, const Shape& size, const DeviceMesh& mesh, const Placements& placements = {},
                               const RandintOptions& options = {});
/// The numbers 0 to n - 1 in random order. Every rank sorts all of them.
DTENSOR_EXPORT DTensor randperm(std::int64_t n, const DeviceMesh& mesh, const Placements& placements = {}, const RandintOptions& options = {});
/// Of the input's shape, dtype, mesh and placements (Replicate where it is Partial).
DTENSOR_EXPORT DTensor rand_like(const DTensor& input);
DTENSOR_EXPORT DTensor randn_like(const DTensor& input);
DTENSOR_EXPORT DTensor randint_like(const DTensor& input, std::int64_t low, std::int64_t high);

/// Written in place; self keeps its placements and is not Partial.
DTENSOR_EXPORT DTensor uniform_(const DTensor& self, double from = 0, double to = 1);
DTENSOR_EXPORT DTensor normal_(const DTensor& self, double mean = 0, double std = 1);
/// 1 with probability p, else 0.
DTENSOR_EXPORT DTensor bernoulli_(const DTensor& self, double p = 0.5);

/// 1 with the probability that the element says, else 0. No gradient.
DTENSOR_EXPORT DTensor bernoulli(const DTensor& input);
/// Class indices (i64) drawn by weights [classes] or [rows, classes], which need not add up to 1. Split classes are gathered first.
/// @throws InvalidArgument for a negative weight, or fewer classes than are wanted.
DTENSOR_EXPORT DTensor multinomial(const DTensor& input, std::int64_t num_samples, bool replacement = false);

/// Zeroes elements with probability p and scales the others by 1 / (1 - p); the input itself when not training.
DTENSOR_EXPORT DTensor dropout(const DTensor& input, double p = 0.5, bool training = true);

}  // namespace dtensor
