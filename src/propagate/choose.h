// SPDX-License-Identifier: Apache-2.0
// The choice of placements for one call: a pure function of the rule and the operands' shapes and layouts.
//
// Every mesh axis is Replicate, Partial (where the rule's flags admit it), or splits one factor, with a split that an operand already has (carried through) or,
// where an operand's split falls inside an element of a product, ceil chunks of its major factor. The cheapest candidate wins: cost of bringing the operands there
// under reference_topology(), then the order of enumeration (options of axis 0 slowest; operands' own splits first, Partial next, Replicate last).
// A candidate in which an operand or a result would be Partial of a kind that its dtype does not have (sum of bool, avg of an integer) is none.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dtensor/values.h"
#include "placements/layout.h"
#include "propagate/rule.h"

namespace dtensor::propagate {

struct Operand {
  Shape shape;
  Dtype dtype = Dtype::f32;
  placements::LayoutRef layout;  ///< null: absent
  bool fixed = false;            ///< written in place: keeps its layout
};
struct Choice {
  std::vector<placements::LayoutRef> operands, results;
  std::vector<std::vector<redistribute::WindowDim>> windows;  ///< per operand: what is fetched once it lies as operands[i] says; empty: no windows
  std::int64_t nanoseconds = 0;
  int strategy = 0;
  std::string text;  ///< "m: [dp], k: [tp]": which axes split which factor; only of candidates()
};

/// What a call gives. Without dtypes any Partial may be left of a result.
struct Outcome {
  std::span<const Shape> shapes;
  std::span<const Dtype> dtypes = {};
};

/// @throws InvalidArgument when a fixed operand cannot keep its layout.
Choice choose(std::string_view op, const std::vector<Strategy>& strategies, std::span<const Operand> operands, const Outcome& results,
              std::span<const int> mesh_sizes);
/// All candidates, cheapest first, for display.
std::vector<Choice> candidates(std::string_view op, const std::vector<Strategy>& strategies, std::span<const Operand> operands,
                               const Outcome& results, std::span<const int> mesh_sizes);
/// True when an operand has a split on a `whole` factor of every strategy: the decomposition is taken.
bool splits_whole(const std::vector<Strategy>& strategies, std::span<const Operand> operands, std::span<const int> mesh_sizes);

}  // namespace dtensor::propagate
