// SPDX-License-Identifier: Apache-2.0
// The parsed signature of an op. Grammar in dtensor/op.h.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "dtensor/op.h"

namespace dtensor::tensor {

enum class AttributeType : std::uint8_t { integer, boolean, list, dtype, text, object, floating, number };

struct InputInfo {
  std::string name;
  bool optional = false, variadic = false, written = false;
};
struct AttributeInfo {
  std::string name;
  AttributeType type = AttributeType::integer;
  bool optional = false, has_default = false;
  Attribute fallback;
  /// Part of the key (of `number` only the kind is).
  bool is_static() const noexcept { return type != AttributeType::floating && type != AttributeType::number; }
};
struct Signature {
  std::vector<InputInfo> inputs;
  std::vector<AttributeInfo> attributes;
  std::vector<std::string> outputs;
  std::vector<int> written;  ///< inputs written in place
  int view_of = -1;          ///< input of which the result is a view
  std::vector<bool> saved_inputs, saved_outputs;
  std::deque<std::vector<std::int64_t>> lists;  ///< storage of list defaults
  std::deque<std::string> texts;
  int output_written(int output) const noexcept;  ///< input that result `output` is (in place), -1 otherwise
};

/// An op without a kernel is an expression of other ops on every mesh: its rule and its gradient are theirs.
inline bool has_kernel(const OpDef& op) noexcept { return op.kernel != nullptr || op.cpu != nullptr || op.cuda != nullptr; }
inline bool is_composite(const OpDef& op) noexcept { return !has_kernel(op) && op.decompose != nullptr; }
/// @throws InvalidArgument with the column of a slip.
Signature parse_signature(const OpDef& op);
/// Whether a kernel of the op runs there; tensors without memory (meta) have none to run.
inline bool has_kernel_for(const OpDef& op, DeviceKind kind) noexcept {
  return kind == DeviceKind::meta ? has_kernel(op) : op.kernel != nullptr || (kind == DeviceKind::cuda ? op.cuda : op.cpu) != nullptr;
}
/// A value from text for an attribute of this type: "1", "true", "[2, 3]", "f32", "none". Lists and texts are stored in `signature`-like storage given.
Attribute parse_attribute(std::string_view op, const AttributeInfo& info, std::string_view text, std::deque<std::vector<std::int64_t>>& lists,
                          std::deque<std::string>& texts);

}  // namespace dtensor::tensor
