// SPDX-License-Identifier: Apache-2.0
// Differentiation: one tape over DTensor ops (docs/autograd.md).
//
// Laws: nodes are visited in descending creation number, the same on all ranks. Values are global, so gradients are summed over axes, never averaged.
// Contributions to a gradient add in whatever placement they arrive (Partial with Partial is free); one redistribution happens where a gradient leaves the tape.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

/// While it lives nothing is recorded on this rank. A local of the rank's thread.
class DTENSOR_EXPORT NoGrad {
 public:
  [[nodiscard]] NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;

 private:
  bool was_;
};
/// Records again inside a NoGrad.
class DTENSOR_EXPORT EnableGrad {
 public:
  [[nodiscard]] EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;

 private:
  bool was_;
};
DTENSOR_EXPORT bool is_grad_enabled();

struct GradOptions {
  bool retain_graph = false;
  bool create_graph = false;
  bool allow_unused = false;  ///< an input that no output depends on gives an empty DTensor instead of an error
};
/// Collective. Gradients of `outputs` (weighted by `grad_outputs`, default 1 for one element) with respect to `inputs`; leaves are not touched.
DTENSOR_EXPORT std::vector<DTensor> grad(std::span<const DTensor> outputs, std::span<const DTensor> inputs,
                                         std::span<const DTensor> grad_outputs = {}, const GradOptions& options = {});

/// Runs `function` without keeping its activations; backward runs it again with the same random numbers. Leaves inside get their gradients.
using CheckpointFunction = std::function<DTensor(std::span<const DTensor>)>;
DTENSOR_EXPORT DTensor checkpoint(const CheckpointFunction& function, std::span<const DTensor> inputs);

/// Where the gradient of a leaf is brought when it leaves the tape. Default: the leaf's placements, Partial turned into Replicate.
DTENSOR_EXPORT void set_grad_placements(const DTensor& leaf, const Placements& placements);
/// The gradient of a leaf stays in the placements in which it arrives, Partial included: whoever reads grad() brings it further (FSDP reduce-scatters it).
DTENSOR_EXPORT void keep_grad_placements(const DTensor& leaf);
/// Called after a leaf's gradient of one backward has been added to grad(). On the thread that calls backward, same order on all ranks.
DTENSOR_EXPORT void add_gradient_ready_hook(const DTensor& leaf, std::function<void(const DTensor& leaf)> hook);
/// Called once at the end of the backward in progress (or at once outside one).
DTENSOR_EXPORT void at_backward_end(std::function<void()> callback);

}  // namespace dtensor
