// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

namespace train {

using namespace dtensor;

namespace {

// The numbers that make a checkpoint readable without being told its sizes.
void add_sizes(StateDict& dict, Options& o, std::int64_t& seed) {
  dict.add("config.layers", o.model.layers)
      .add("config.hidden", o.model.hidden)
      .add("config.heads", o.model.heads)
      .add("config.kv_heads", o.model.kv_heads);
  dict.add("config.head_dim", o.model.head_dim).add("config.ffn", o.model.intermediate).add("config.seq", o.sequence).add("config.batch", o.batch);
  dict.add("config.seed", seed);
}

}  // namespace

void read_sizes(Options& options) {
  auto seed = static_cast<std::int64_t>(options.seed);
  StateDict sizes;
  add_sizes(sizes, options, seed);
  load_checkpoint(options.resume, sizes);
  options.seed = static_cast<std::uint64_t>(seed);
}

Trainer::Trainer(const Options& options, const DeviceMesh& mesh) : options_(options), mesh_(mesh) {
  manual_seed(options.seed);
  model_ = std::make_unique<models::Llama>(options.model, mesh);
  models::ShardOptions how{.sequence_parallel = options.sequence_parallel};
  if (options.precision == "bf16") {
    if (!models::has_axis(mesh, "dp"))
      throw InvalidArgument("--precision bf16: the mesh has no axis dp, which casts; write --mesh dp=1,tp=" + std::to_string(mesh.size()));
    how.fsdp.param_dtype = Dtype::bf16;
    how.fsdp.reduce_dtype = Dtype::f32;
  }
  model_->shard(how);
  if (options.resume.empty()) model_->materialize();
  optimizer_ =
      std::make_unique<optim::AdamW>(model_->named_parameters(), optim::AdamWOptions{.lr = options.lr, .betas = {0.9, 0.95}, .weight_decay = 0.1});
  for (const nn::Parameter& p : model_->parameters()) parameters_ += p.shape().numel();
  if (options.resume.empty()) return;
  if (options.eval_only) load_checkpoint(options.resume, StateDict().add("model", *model_).add("step", step_));
  else load_checkpoint(options.resume, state());
}

StateDict Trainer::state() {
  StateDict dict;
  dict.add("model", *model_).add("optimizer", *optimizer_).add("rng", default_generator()).add("step", step_).add("data_position", position_);
  return dict;
}

DTensor Trainer::loss_of(const Batch& batch) { return models::next_token_loss((*model_)(batch.inputs).to(Dtype::f32), batch.targets); }

double Trainer::train_step(const Corpus& corpus) {
  const optim::WarmupCosine schedule{.lr = options_.lr, .final_lr = options_.lr / 10, .warmup_steps = options_.warmup, .total_steps = options_.steps};
  optimizer_->set_lr(schedule(step_));
  const DTensor loss = loss_of(corpus.training(position_, mesh_));
  loss.backward();
  optim::clip_grad_norm_(model_->parameters(), 1.0);
  optimizer_->step();
  optimizer_->zero_grad();
  ++step_;
  ++position_;
  return loss.item();
}

double Trainer::validate(const Corpus& corpus) {
  const NoGrad off;
  double total = 0;
  for (std::int64_t i = 0; i < options_.validation_batches; ++i) total += loss_of(corpus.validation(i, options_.validation_batches, mesh_)).item();
  return total / static_cast<double>(options_.validation_batches);
}

std::string Trainer::sample() {
  std::vector<std::int64_t> prompt;
  for (const char c : options_.prompt) prompt.push_back(static_cast<unsigned char>(c));
  const auto tokens = models::generate(*model_, {prompt}, static_cast<int>(options_.sample), options_.temperature, options_.seed, mesh_);
  std::string text = options_.prompt;
  for (const std::int64_t t : tokens[0]) text += t == '\n' || (t >= 32 && t < 127) ? static_cast<char>(t) : '.';
  return text;
}

void Trainer::save(const std::string& folder) {
  auto seed = static_cast<std::int64_t>(options_.seed);
  StateDict all = state();
  add_sizes(all, options_, seed);
  save_checkpoint(folder, all);
}

}  // namespace train
