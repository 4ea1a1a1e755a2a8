// SPDX-License-Identifier: Apache-2.0
// A folder of recorded cases: cases.json, ops.json, tensors.safetensors. Format in docs/cases.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include "debug/verify_values.h"

namespace dtensor::debug {

/// One tensor argument.
struct CaseTensor {
  bool present = false;
  Whole value;                 ///< the logical tensor
  bool is_view = false;        ///< then value is this view of buffer
  std::vector<double> buffer;  ///< one-dimensional
  Shape strides;
  std::int64_t offset = 0;
};
struct CaseInput {
  std::string name;
  bool list = false;
  std::vector<CaseTensor> tensors;  ///< one unless it is a list
};
struct RecordedCase {
  std::string id, op, family;
  std::string fault;  ///< why it cannot be read; then the rest counts for nothing
  std::vector<CaseInput> inputs;
  nlohmann::json attributes = nlohmann::json::object();
  std::vector<Whole> outputs;
  std::vector<std::optional<Whole>> grad_outputs;  ///< empty, or one per output
  std::vector<std::optional<Whole>> grad_inputs;   ///< empty, or one per tensor of the flattened inputs
  double rtol = 0, atol = 0, grad_rtol = 0, grad_atol = 0;
  /// All tensors, lists laid out.
  std::vector<const CaseTensor*> tensors() const;
  /// No infinity and no NaN in inputs, outputs and gradients.
  bool is_finite() const;
};

/// @throws InvalidArgument for a folder or file that cannot be read. What is wrong with a single case is its `fault`.
std::vector<RecordedCase> read_cases(const std::string& directory);

}  // namespace dtensor::debug
