// SPDX-License-Identifier: Apache-2.0
// Inputs and expected results of collectives, computed without the library's kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "dtensor/placement.h"
#include "dtensor/tensor.h"

namespace dtensor::testing {

/// Small whole values, exact in every dtype (bool: 0 or 1).
inline double input_value(int rank, std::int64_t i, Dtype dtype) {
  const auto v = static_cast<std::int64_t>(rank) * 7 + i * 3;
  return dtype == Dtype::boolean ? static_cast<double>(v % 2) : static_cast<double>(v % 5 + 1);
}
inline Tensor from_doubles(const std::vector<double>& values, const Shape& shape, Dtype dtype) { return Tensor::of<double>(values, shape).to(dtype); }
inline Tensor input_of(int rank, const Shape& shape, Dtype dtype) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < shape.numel(); ++i) values.push_back(input_value(rank, i, dtype));
  return from_doubles(values, shape, dtype);
}
inline std::vector<double> doubles_of(const Tensor& tensor) {
  const Tensor wide = tensor.contiguous().to(Dtype::f64);
  const auto v = wide.values<const double>();
  return {v.begin(), v.end()};
}
inline double reduced(ReduceOp op, const std::vector<double>& values) {
  double r = values[0];
  for (std::size_t i = 1; i < values.size(); ++i) {
    const double v = values[i];
    const auto a = static_cast<std::int64_t>(r), b = static_cast<std::int64_t>(v);
    switch (op) {
      case ReduceOp::sum:
      case ReduceOp::avg:
        r += v;
        break;
      case ReduceOp::product:
        r *= v;
        break;
      case ReduceOp::min:
        r = std::min(r, v);
        break;
      case ReduceOp::max:
        r = std::max(r, v);
        break;
      case ReduceOp::band:
        r = static_cast<double>(a & b);
        break;
      case ReduceOp::bor:
        r = static_cast<double>(a | b);
        break;
      case ReduceOp::bxor:
        r = static_cast<double>(a ^ b);
        break;
    }
  }
  return op == ReduceOp::avg ? r / static_cast<double>(values.size()) : r;
}

inline constexpr Dtype kDtypes[] = {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};
inline constexpr ReduceOp kReduceOps[] = {ReduceOp::sum,     ReduceOp::avg,  ReduceOp::min, ReduceOp::max,
                                          ReduceOp::product, ReduceOp::band, ReduceOp::bor, ReduceOp::bxor};
inline constexpr int kWorldSizes[] = {1, 2, 3, 4, 6, 8};

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const std::exception& e) { return e.what(); }
  return "no error";
}
inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace dtensor::testing
