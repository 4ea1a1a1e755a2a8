// SPDX-License-Identifier: Apache-2.0
// A model, its optimiser and where the run stands; what is saved and resumed.
#pragma once

#include <memory>
#include <string>

#include <dtensor/dtensor.h>

#include "models/llama.h"
#include "train/data.h"
#include "train/options.h"

namespace train {

/// Sizes that a checkpoint brings, overwriting those of `options`. Collective.
void read_sizes(Options& options);

class Trainer {
 public:
  /// Builds the model on the mesh, sharded; fresh, or from options.resume. Collective.
  Trainer(const Options& options, const dtensor::DeviceMesh& mesh);
  /// Steps done.
  std::int64_t step() const noexcept { return step_; }
  std::int64_t parameters() const noexcept { return parameters_; }
  /// One optimiser step on the next batch; its loss. Collective.
  double train_step(const Corpus& corpus);
  /// Mean loss over the validation batches. Collective.
  double validate(const Corpus& corpus);
  /// options.prompt and options.sample bytes after it. Collective.
  std::string sample();
  void save(const std::string& folder);

 private:
  dtensor::DTensor loss_of(const Batch& batch);
  dtensor::StateDict state();
  Options options_;
  dtensor::DeviceMesh mesh_;
  std::unique_ptr<models::Llama> model_;
  std::unique_ptr<dtensor::optim::AdamW> optimizer_;
  std::int64_t step_ = 0, position_ = 0, parameters_ = 0;
};

}  // namespace train
