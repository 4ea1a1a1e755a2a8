// SPDX-License-Identifier: Apache-2.0
// How a recorded case is called: through an op of the registry whose signature takes it, or through a function that is an expression of other ops.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "debug/case_file.h"
#include "dtensor/op.h"

namespace dtensor::debug {

/// Inputs and attributes of one call, by name. What nobody asked for is an error of done().
class CallArguments {
 public:
  CallArguments(const RecordedCase& recorded, std::span<const DTensor> tensors);
  // @throws InvalidArgument for an absent tensor, an attribute of another type, a missing one without a fallback.
  const DTensor& tensor(std::string_view name);
  /// Empty when absent.
  DTensor optional(std::string_view name);
  /// With empty tensors where the case has null.
  std::vector<DTensor> list(std::string_view name);
  bool has(std::string_view name) const;  ///< an attribute that is given and not null
  std::int64_t integer(std::string_view name);
  std::int64_t integer(std::string_view name, std::int64_t fallback) { return has(name) ? integer(name) : (seen(name), fallback); }
  double number(std::string_view name);
  double number(std::string_view name, double fallback) { return has(name) ? number(name) : (seen(name), fallback); }
  bool flag(std::string_view name, bool fallback);
  std::string text(std::string_view name, std::string fallback);
  /// A list, or a number as a list of one.
  Shape shape(std::string_view name);
  std::vector<double> numbers(std::string_view name, std::vector<double> fallback);
  bool is_list(std::string_view name) const;
  /// @throws InvalidArgument naming an input or attribute that nobody asked for.
  void done() const;

 private:
  const nlohmann::json& value(std::string_view name);
  void seen(std::string_view name) { seen_.emplace_back(name); }
  const RecordedCase& case_;
  std::span<const DTensor> tensors_;
  std::vector<std::string> seen_;
};
using Expression = Results (*)(CallArguments&);
/// The function of this name that is no op of the registry; null when there is none.
Expression find_expression(std::string_view name);

/// Collective. Results of the case for its tensors (lists laid out, empty where absent).
using CaseCall = std::function<Results(std::span<const DTensor>)>;
/// May turn numbers that stand for tensors into tensors. @throws InvalidArgument when nothing takes the case.
CaseCall find_call(RecordedCase& recorded);

}  // namespace dtensor::debug
