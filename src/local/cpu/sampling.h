// SPDX-License-Identifier: Apache-2.0
// Choices by probabilities that tensors hold, from uniform numbers in [0, 1). Probabilities and numbers are f64, all is row-major.
#pragma once

#include <cstdint>
#include <string_view>

#include "dtensor/tensor.h"

namespace dtensor::local::cpu {

// Of both, `op` names who asks, in memory that outlives the kernels of the call. @throws Error for numbers that are no probabilities or weights; on another device
// a later call does.

/// chosen[i] = 1 with probability p[i], by numbers[i] < p[i]; else 0.
void choose(const Tensor& p, const Tensor& numbers, std::string_view op, const Tensor& chosen);

/// classes[r, k], i64: classes of row r by its weights [rows, n]. With replacement each by its number [rows, samples], where it falls among the sums of the weights; without
/// by the smallest exponential times, a number per weight (Efraimidis and Spirakis 2006).
void choose_classes(const Tensor& weights, const Tensor& numbers, bool replacement, std::string_view op, const Tensor& classes);

/// Texts of the errors.
std::string not_a_probability(std::string_view op, double value);
std::string not_a_weight(std::string_view op, double value);
std::string too_few_classes(std::string_view op, std::int64_t wanted, std::int64_t positive);

}  // namespace dtensor::local::cpu
