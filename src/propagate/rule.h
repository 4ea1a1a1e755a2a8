// SPDX-License-Identifier: Apache-2.0
// The notation of sharding rules: an op names the factors of its index space, every dimension of an operand or result is a product of factors.
//
//   rule     := strategy { " | " strategy }
//   strategy := operands "->" results [two or more spaces, clauses separated by ';']
//   operand  := dims separated by spaces, or "()"; operands are separated by ','
//   dim      := name | "(" names, major to minor ")" | "1" (may not be split) | "..." (the other dimensions, aligned from the right with broadcasting)
//   clause   := names ":" kind | "linear" [numbers] | "bilinear" [number number] | "monotone"
//   kind     := "pass" | "whole" | "lookup" | "deposit" | "reduce(" op ["," "addend" numbers] ")" | "window(" map ")"
//   map      := ["-"] [number] name [("+" | "-") number] [".." ["+" | "-"] number] ["/" number] ["," "wrap"]
//
// deposit is pass for a dimension that is written at computed indices: the kernel keeps what falls into output_place().
// window belongs to an operand's dimension and names the factor of the results through which it is read: "h: window(2 o - 1 .. 1)" says that index o of the
// result reads h = 2 o - 1 to 2 o + 1, "h: window(7 o + 0 .. 2 / 3)" that it reads floor(7 o / 3) to floor((7 o + 2) / 3).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/placement.h"
#include "dtensor/values.h"
#include "redistribute/plan/window.h"

namespace dtensor::propagate {

enum class FactorKind : std::uint8_t { pass, reduce, whole, window };

struct Factor {
  std::string name;
  std::int64_t size = -1;
  FactorKind kind = FactorKind::pass;
  ReduceOp op = ReduceOp::sum;  ///< of reduce (lookup is reduce(sum))
  std::vector<int> addends;     ///< operands (from 0) that lack the factor and must be Partial where it is split
  int of = -1;                  ///< of window: the factor through which the dimension is read
  redistribute::WindowMap map;  ///< of window
};
/// Indices of factors, major to minor; empty: may not be split.
using DimFactors = std::vector<int>;
using OperandDims = std::vector<DimFactors>;

struct Strategy {
  std::vector<Factor> factors;
  std::vector<OperandDims> operands, results;
  bool linear = false, bilinear = false, monotone = false;
  std::vector<int> linear_operands;  ///< from 0; empty: all
  int bilinear_a = 0, bilinear_b = 1;
  std::string text;
};

/// Rule text for operands and results of these shapes: "..." is expanded, sizes are found, broadcast dimensions (size one against more) lack their factor.
/// `present[i]` false: operand i is absent and has no dims. @throws InvalidArgument "<op>: sharding rule: ... (column N of "...")".
std::vector<Strategy> parse_rule(std::string_view op, std::string_view text, std::span<const Shape> operands, const std::vector<bool>& present,
                                 std::span<const Shape> results);

/// Rules of one op by text and numbers of dimensions: changed sizes alone cost no parsing. Bounded.
class RuleCache {
 public:
  /// As parse_rule; valid until the next call.
  const std::vector<Strategy>& get(std::string_view op, std::string_view text, std::span<const Shape> operands, const std::vector<bool>& present,
                                   std::span<const Shape> results);

 private:
  static constexpr std::size_t kLimit = 16;
  struct Entry {
    std::string text;
    std::vector<int> ndims;  // operands (-1: absent), results
    std::vector<Strategy> strategies;
    std::vector<std::vector<OperandDims>> dims;  // per strategy, before broadcast dimensions lose their factor
    bool matches(std::string_view wanted, std::span<const Shape> operands, const std::vector<bool>& present, std::span<const Shape> results) const;
  };
  std::vector<Entry> entries_;
};

}  // namespace dtensor::propagate
