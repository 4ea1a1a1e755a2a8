// SPDX-License-Identifier: Apache-2.0
// Parallel training on a mesh: tensor-parallel styles and fully sharded data parallelism. Users of the public API only: placements of parameters, hooks around
// forward, Parameter::use. Axes are named on the model's own mesh.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/nn.h"

namespace dtensor::parallel {

/// What a style does to a module on one axis of its mesh: places parameters, adds hooks.
struct Style {
  std::function<void(nn::ModuleBase&, const std::string& name, const std::string& axis)> apply;
};
struct StyleOptions {
  std::optional<Placement> input = {};   ///< of each tensor argument on the axis; colwise: Replicate, rowwise: Shard(-1), sequence_parallel: Shard(1)
  std::optional<Placement> output = {};  ///< of the result; colwise: Shard(-1), rowwise: Replicate, sequence_parallel: Shard(1)
};
/// Linear: weight S(0), bias S(0). Embedding: weight S(1).
DTENSOR_EXPORT Style colwise(const StyleOptions& options = {});
/// Linear: weight S(1), bias Replicate (added once). Embedding: weight S(0), indices Replicate.
DTENSOR_EXPORT Style rowwise(const StyleOptions& options = {});
/// Norms, Dropout: parameters Replicate, activations split along the sequence (dimension 1).
DTENSOR_EXPORT Style sequence_parallel(const StyleOptions& options = {});
/// Brings inputs and results to placements; parameters stay.
DTENSOR_EXPORT Style prepare(const StyleOptions& options);

struct PlanEntry {
  std::string pattern;  ///< of module names: * any text, ? one character, [abc] one of
  Style style;
};
/// Applies each style to the modules whose full name its pattern matches. @throws InvalidArgument for a pattern that matches nothing (naming modules), an unknown
/// axis, a module without parameters of the kind that the style places.
DTENSOR_EXPORT void parallelize_module(nn::ModuleBase& module, const AxisNames& axis, std::span<const PlanEntry> plan);
inline void parallelize_module(nn::ModuleBase& module, const AxisNames& axis, std::initializer_list<PlanEntry> plan) {
  parallelize_module(module, axis, std::span<const PlanEntry>(plan.begin(), plan.size()));
}

/// Places one parameter on one axis of its mesh, over what other axes left; the other axes keep their placements.
DTENSOR_EXPORT void place(const nn::Parameter& parameter, const AxisNames& axis, const Placement& placement);

struct FullyShardOptions {
  std::optional<Dtype> param_dtype = {};   ///< of the gathered copy and of the unit's computation; default: the parameters' own
  std::optional<Dtype> reduce_dtype = {};  ///< in which gradients are reduced; default: param_dtype
  bool cast_inputs = true;                 ///< floating inputs of the unit are cast to param_dtype
  bool reshard_after_forward = true;       ///< gathered copies are freed after forward and gathered again for backward
  int prefetch = 1;                        ///< units gathered ahead (in the order of the first forward; the reverse in backward)
};
/// What fully_shard returns; dropping it is harmless.
class DTENSOR_EXPORT FullyShard {
 public:
  /// Off: gradients stay unreduced (added up in reduce_dtype) until it is on again: accumulation over micro-batches without communication.
  void set_gradient_sync(bool on);
  void unshard();
  void reshard();
  struct Unit;
  explicit FullyShard(std::shared_ptr<Unit> unit) : unit_(std::move(unit)) {}

 private:
  std::shared_ptr<Unit> unit_;
};
/// Makes `module` a unit: its parameters that belong to no inner unit are split along dimension 0 over `axes` (over what other axes left), gathered before use,
/// their gradients reduce-scattered. Call it inner modules first, then once on the root. @throws InvalidArgument for an axis that the mesh lacks, a unit twice,
/// a module whose parameters a unit around it has taken. Several graphs may be alive; one whose parameters were changed since says so in backward.
DTENSOR_EXPORT FullyShard fully_shard(nn::ModuleBase& module, const AxisNames& axes, const FullyShardOptions& options = {});

}  // namespace dtensor::parallel
