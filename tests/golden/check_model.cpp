// SPDX-License-Identifier: Apache-2.0
#include "check_model.h"

#include <cmath>
#include <fstream>
#include <map>
#include <tuple>

#include <nlohmann/json.hpp>

#include "models/causal_lm.h"

namespace golden {
namespace {

using namespace dtensor;
using nlohmann::json;

constexpr double kLogits = 2e-5, kGradient = 1e-5, kLoss = 1e-5, kNorm = 1e-5, kParameter = 1e-4;

class Checker {
 public:
  Checker(const Case& c, const DeviceMesh& mesh) : case_(c), mesh_(mesh) {
    std::ifstream in(c.folder + "/expected.json");
    expected_ = json::parse(in);
    for (const StoredTensor& t : list_checkpoint(c.folder + "/tokens.safetensors")) tokens_ = read_tensor(t);
    for (const StoredTensor& t : list_checkpoint(c.folder + "/expected.safetensors")) stored_[t.name] = t;
  }

  std::vector<std::string> run() {
    first_batch();
    training(1.0, expected_, true);
    if (case_.steps == 0) training(2.0, expected_["max_grad_norm_2"], false);
    return std::move(wrong_);
  }

 private:
  struct Step {
    double loss, norm;
  };

  void expect(bool ok, const std::string& text) {
    if (!ok) wrong_.push_back(text);
  }
  static double relative(double got, double want) { return std::abs(got - want) / std::max(1e-30, std::abs(want)); }
  static std::string numbers(double got, double want) { return "is " + std::to_string(got) + ", expected " + std::to_string(want); }

  std::unique_ptr<models::CausalLm> fresh_model() {
    auto model = models::make_model(case_.folder + "/config.json", mesh_);
    model->shard({.sequence_parallel = case_.sequence_parallel});
    load_weights(*model, case_.folder + "/model.safetensors");
    return model;
  }

  // Input and target of one batch, split over dp where the mesh has it.
  std::pair<DTensor, DTensor> batch(std::int64_t step) {
    const std::int64_t length = tokens_.shape()[2] - 1;
    const Tensor all = tokens_.narrow(0, step, 1).view({tokens_.shape()[1], tokens_.shape()[2]});
    const Placements over_dp = models::has_axis(mesh_, "dp") ? Placements({AxisPlacement("dp", Shard(0))}) : Placements();
    const auto part = [&](std::int64_t from) {
      return distribute(all.narrow(1, from, length).contiguous(), mesh_, over_dp, {.source = Source::every_rank});
    };
    return {part(0), part(1)};
  }

  void first_batch() {
    auto model = fresh_model();
    const auto [input, target] = batch(0);
    const DTensor logits = (*model)(input);
    compare_logits(logits.detach().full_tensor().local());
    models::next_token_loss(logits, target).backward();
    for (const nn::NamedParameter& p : model->named_parameters()) compare_gradient(p);
    generate(*model, "initial");
  }

  void compare_logits(const Tensor& got) {
    const Tensor want = read_tensor(stored_.at("logits"));
    double worst = 0;
    const Tensor here = got.to(Device::cpu()).contiguous();
    const auto a = here.values<const float>(), b = want.values<const float>();
    for (std::size_t i = 0; i < b.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    expect(worst <= kLogits && std::isfinite(worst), "logits deviate by " + std::to_string(worst));
  }

  void compare_gradient(const nn::NamedParameter& p) {
    const auto it = stored_.find("grad." + p.name);
    if (it == stored_.end()) return expect(false, "no golden gradient for " + p.name);
    const DTensor grad = p.parameter.grad();
    if (!grad) return expect(false, p.name + " has no gradient");
    const Tensor got = grad.full_tensor().local().to(Device::cpu()).contiguous(), want = read_tensor(it->second);
    const auto a = got.values<const float>(), b = want.values<const float>();
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
      norm += std::pow(static_cast<double>(b[i]), 2);
    }
    const double ratio = std::sqrt(difference / std::max(norm, 1e-300));
    expect(ratio <= kGradient, "gradient of " + p.name + " deviates by " + std::to_string(ratio) + " of its norm");
  }

  void training(double max_norm, const json& want, bool whole) {
    auto model = fresh_model();
    optim::AdamW optimizer(model->named_parameters(),
                           {.lr = 1e-3, .betas = {0.9, 0.95}, .eps = 1e-8, .weight_decay = 0.1, .capturable = case_.replayed});
    const std::string run = "max_norm " + std::to_string(max_norm) + " step ";
    const std::int64_t steps = case_.steps == 0 ? tokens_.shape()[0] : case_.steps;
    DTensor input, target, loss, gradient_norm;
    const auto train = [&] {
      loss = models::next_token_loss((*model)(input), target);
      loss.backward();
      gradient_norm = optim::clip_grad_norm_(model->parameters(), max_norm);
      optimizer.step();
      optimizer.zero_grad();
      loss = loss.detach();
    };
    CudaGraph graph;
    for (std::int64_t step = 0; step < steps; ++step) {
      if (!case_.replayed || step == 0) {
        std::tie(input, target) = batch(step);
        train();
      } else {
        const auto [next_input, next_target] = batch(step);
        copy_(input, next_input);
        copy_(target, next_target);
        if (!graph) graph = CudaGraph::record(input.device(), train);
        graph.replay();
      }
      const auto s = static_cast<std::size_t>(step);
      const double value = loss.item(), norm = gradient_norm.item();
      expect(relative(value, want["loss_f64"][s]) <= kLoss, run + std::to_string(step) + ": loss " + numbers(value, want["loss_f64"][s]));
      expect(relative(norm, want["grad_norm_f64"][s]) <= kNorm,
             run + std::to_string(step) + ": gradient norm " + numbers(norm, want["grad_norm_f64"][s]));
      if (whole && step == 0) generate(*model, "after_step_1");
    }
    if (whole && case_.steps == 0) after_training(*model);
  }

  void after_training(models::CausalLm& model) {
    generate(model, "after_step_20");
    const NoGrad off;
    const auto [input, target] = batch(0);
    const double loss = models::next_token_loss(model(input), target).item();
    expect(relative(loss, expected_["loss_batch0_after_step_20_f64"]) <= kLoss,
           "loss after step 20 " + numbers(loss, expected_["loss_batch0_after_step_20_f64"]));
    for (const nn::NamedParameter& p : model.named_parameters()) {
      const DTensor value = p.parameter.value().detach();
      const double norm = std::sqrt(sum(square(value.to(Dtype::f64))).item());
      const double want = expected_["param_l2_after_step_20_f64"].at(p.name);
      expect(relative(norm, want) <= kParameter, "norm of " + p.name + " after step 20 " + numbers(norm, want));
    }
  }

  void generate(models::CausalLm& model, const std::string& when) {
    const json& greedy = expected_["greedy"];
    const std::vector<std::int64_t> prompt = greedy["prompt"];
    const std::vector<std::int64_t> want = greedy[when];
    const auto got = models::generate(model, {prompt}, static_cast<int>(want.size()), 0, 0, mesh_);
    expect(got[0] == want, "greedy text " + when + " differs");
  }

  Case case_;
  DeviceMesh mesh_;
  json expected_;
  Tensor tokens_;
  std::map<std::string, StoredTensor> stored_;
  std::vector<std::string> wrong_;
};

}  // namespace

std::vector<std::string> check_model(const Case& c, const DeviceMesh& mesh) { return Checker(c, mesh).run(); }

}  // namespace golden
