// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "dtensor/error.h"

namespace dtensor::local::cpu {
namespace {

double checked_total(const double* weights, std::int64_t classes, std::int64_t needed, std::string_view op) {
  double total = 0;
  std::int64_t positive = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    if (!(weights[c] >= 0 && weights[c] <= std::numeric_limits<double>::max())) throw Error(not_a_weight(op, weights[c]));
    total += weights[c];
    positive += weights[c] > 0;
  }
  if (positive < needed) throw Error(too_few_classes(op, needed, positive));
  return total;
}

}  // namespace

std::string not_a_probability(std::string_view op, double value) {
  return std::string(op) + ": an element is " + std::to_string(value) + "; probabilities lie from 0 to 1";
}
std::string not_a_weight(std::string_view op, double value) {
  return std::string(op) + ": a weight is " + std::to_string(value) + "; weights are finite and not negative";
}
std::string too_few_classes(std::string_view op, std::int64_t wanted, std::int64_t positive) {
  return std::string(op) + ": " + std::to_string(wanted) + " classes are wanted and " + std::to_string(positive) + " have a weight above 0";
}

void choose(const Tensor& p, const Tensor& numbers, std::string_view op, const Tensor& chosen) {
  const auto *probability = p.raw_as<const double>(), *number = numbers.raw_as<const double>();
  auto* to = chosen.raw_as<double>();
  for (std::int64_t i = 0; i < p.numel(); ++i) {
    if (!(probability[i] >= 0 && probability[i] <= 1)) throw Error(not_a_probability(op, probability[i]));
    to[i] = number[i] < probability[i] ? 1 : 0;
  }
}

void choose_classes(const Tensor& weights, const Tensor& numbers, bool replacement, std::string_view op, const Tensor& classes) {
  const std::int64_t n = weights.shape().back(), samples = classes.shape().back(), rows = n > 0 ? weights.numel() / n : 0;
  std::vector<double> sums(static_cast<std::size_t>(n));
  std::vector<std::int64_t> order(sums.size());
  for (std::int64_t row = 0; row < rows; ++row) {
    const double* w = weights.raw_as<const double>() + row * n;
    auto* to = classes.raw_as<std::int64_t>() + row * samples;
    const double total = checked_total(w, n, replacement ? 1 : samples, op);
    if (replacement) {
      std::partial_sum(w, w + n, sums.begin());
      for (std::int64_t k = 0; k < samples; ++k) {
        const double at = numbers.raw_as<const double>()[row * samples + k] * total;
        auto found = std::upper_bound(sums.begin(), sums.end(), at) - sums.begin();
        while (found == n || w[found] == 0) found = found == 0 ? n - 1 : found - 1;
        to[k] = found;
      }
      continue;
    }
    const double* u = numbers.raw_as<const double>() + row * n;
    for (std::size_t c = 0; c < sums.size(); ++c) {
      order[c] = static_cast<std::int64_t>(c);
      sums[c] = w[c] > 0 ? -std::log1p(-u[c]) / w[c] : HUGE_VAL;
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return sums[static_cast<std::size_t>(a)] < sums[static_cast<std::size_t>(b)]; });
    std::copy_n(order.begin(), samples, to);
  }
}

}  // namespace dtensor::local::cpu
