// SPDX-License-Identifier: Apache-2.0
// Optimisers. State is named by parameter, sharded as its parameter, zero from construction and allocated at the first step.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dtensor/nn.h"
#include "dtensor/ops/optimizer.h"

namespace dtensor::optim {

/// What checkpoints see: tensors by name ("exp_avg.model.weight") that can be read and replaced, and the count of steps.
struct StateTensor {
  std::string name;
  std::function<DTensor()> get;  ///< allocates zeros when there is none yet
  std::function<void(const DTensor&)> set;
};

class DTENSOR_EXPORT Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  /// Collective over each parameter's mesh only where the update needs it; parameters without a gradient are left alone.
  /// @throws InvalidArgument in a recording (CudaGraph::record) unless the optimiser is capturable and has made a step before.
  void step();
  void zero_grad();
  /// Takes effect at the next step; of a capturable optimiser also at the next replay of one that was recorded.
  void set_lr(double lr);
  double lr() const noexcept { return lr_; }
  /// Of a capturable optimiser the most that a parameter of this rank has made with a gradient, replayed ones counted: the host waits for the device.
  std::int64_t steps() const;
  void set_steps(std::int64_t steps);
  std::vector<StateTensor> state();

 protected:
  Optimizer(std::vector<nn::NamedParameter> parameters, double lr, std::vector<std::string_view> slots, bool capturable = false);
  virtual void update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) = 0;
  /// While update() runs: the steps that the parameter has made with a gradient, this one counted. State that set_steps() or a checkpoint restores counts
  /// as made in every step.
  std::int64_t own_steps() const noexcept { return own_steps_; }
  /// While update() runs: the rate and the parameter's count of steps on its device, when the optimiser is capturable; they count instead of lr_ and
  /// own_steps(). Empty otherwise.
  const StepTensors& tensors() const noexcept { return *tensors_; }
  std::int64_t steps_ = 0;
  double lr_;
  bool first_update_ = false;  ///< while update() runs: the parameter had no state before
  bool together_ = false;      ///< update() is one step op and nothing else: those of all parameters may run together

 private:
  /// Rate and counts of all parameters on one mesh and device.
  struct OnDevice {
    DTensor lr, counts;
  };
  DTensor slot(std::size_t parameter, std::size_t slot);
  const StepTensors& tensors_of(std::size_t parameter);
  std::vector<nn::NamedParameter> parameters_;
  std::vector<std::string_view> slot_names_;
  std::vector<std::vector<DTensor>> slots_;
  std::vector<std::int64_t> skipped_;  // steps without a gradient, per parameter
  std::int64_t own_steps_ = 0;
  const bool capturable_;
  std::vector<OnDevice> on_devices_;
  std::vector<StepTensors> step_tensors_;  // per parameter, from its first step on
  const StepTensors* tensors_ = nullptr;
};

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;  ///< ascends
  bool capturable =
      false;  ///< the rate and the counts of steps live on the parameters' devices: a recorded step can be replayed (see docs/modules.md)
};
class DTENSOR_EXPORT SGD final : public Optimizer {
 public:
  explicit SGD(std::vector<nn::NamedParameter> parameters, const SGDOptions& options = {});

 private:
  void update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) override;
  SGDOptions options_;
};

struct AdamWOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 0.01;
  bool amsgrad = false;     ///< divides by the largest exp_avg_sq so far; kept as state "max_exp_avg_sq"
  bool maximize = false;    ///< ascends
  bool capturable = false;  ///< as SGDOptions has it
};
/// Adam with decoupled weight decay (Loshchilov and Hutter 2019), bias correction.
class DTENSOR_EXPORT AdamW final : public Optimizer {
 public:
  explicit AdamW(std::vector<nn::NamedParameter> parameters, const AdamWOptions& options = {});

 private:
  void update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) override;
  AdamWOptions options_;
};
struct AdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas = {0.9, 0.999};
  double eps = 1e-8, weight_decay = 0;  ///< an L2 term in the gradient
  bool amsgrad = false;
  bool maximize = false;
  bool capturable = false;  ///< as SGDOptions has it
};
class DTENSOR_EXPORT Adam final : public Optimizer {
 public:
  explicit Adam(std::vector<nn::NamedParameter> parameters, const AdamOptions& options = {});

 private:
  void update(const DTensor& parameter, const DTensor& grad, std::vector<DTensor>& slots) override;
  AdamOptions options_;
};

/// Collective. Scales gradients by min(1, max_norm / (norm + 1e-6)); returns the norm over all of them, Replicate, without waiting for it on the host.
/// norm_type p: the p-norm; infinity, -infinity: the largest, the least magnitude; 0: how many gradients are not zero all over.
/// @throws InvalidArgument for a norm_type that is NaN.
DTENSOR_EXPORT DTensor clip_grad_norm_(const std::vector<nn::Parameter>& parameters, double max_norm, double norm_type = 2);

/// Linear warm-up to `lr`, then a cosine down to `final_lr` at `total_steps`.
struct WarmupCosine {
  double lr = 1e-3, final_lr = 0;
  std::int64_t warmup_steps = 0, total_steps = 1;
  /// Rate of step `step` (from 0).
  DTENSOR_EXPORT double operator()(std::int64_t step) const;
};

}  // namespace dtensor::optim
