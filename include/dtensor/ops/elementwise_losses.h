// SPDX-License-Identifier: Apache-2.0
// Losses and distances of tensors element by element: expressions of other ops, so that they are split as those are and nothing is gathered.
// reduction: "mean" (over all elements), "sum" or "none". Collective over the mesh of the inputs; floating dtypes; input and target broadcast unless said
// otherwise. @throws InvalidArgument for shapes that do not fit and an unknown reduction.
#pragma once

#include <string_view>

#include "dtensor/distributed_tensor.h"
#include "dtensor/export.h"

namespace dtensor {

struct LossOptions {
  std::string_view reduction = "mean";
};
/// |input - target|
DTENSOR_EXPORT DTensor l1_loss(const DTensor& input, const DTensor& target, const LossOptions& options = {});
struct SmoothL1Options {
  std::string_view reduction = "mean";
  double beta = 1;
};
/// d^2 / (2 beta) where d = |input - target| is below beta, d - beta / 2 elsewhere.
DTENSOR_EXPORT DTensor smooth_l1_loss(const DTensor& input, const DTensor& target, const SmoothL1Options& options = {});
struct HuberOptions {
  std::string_view reduction = "mean";
  double delta = 1;
};
/// smooth_l1_loss times delta.
DTENSOR_EXPORT DTensor huber_loss(const DTensor& input, const DTensor& target, const HuberOptions& options = {});

/// -weight (target log(input) + (1 - target) log(1 - input)), the logarithms at least -100. One shape; weight broadcasts or is absent.
DTENSOR_EXPORT DTensor binary_cross_entropy(const DTensor& input, const DTensor& target, const DTensor& weight = {}, const LossOptions& options = {});
/// The same of sigmoid(input), without overflow; pos_weight multiplies the part of target.
DTENSOR_EXPORT DTensor binary_cross_entropy_with_logits(const DTensor& input, const DTensor& target, const DTensor& weight = {},
                                                        const DTensor& pos_weight = {}, const LossOptions& options = {});
struct KlDivOptions {
  std::string_view reduction = "mean";  ///< also "batchmean": the sum divided by the size of dim 0
  bool log_target = false;
};
/// target (log(target) - input); with log_target the target is a logarithm.
DTENSOR_EXPORT DTensor kl_div(const DTensor& input, const DTensor& target, const KlDivOptions& options = {});
struct PoissonOptions {
  bool log_input = true, full = false;
  double eps = 1e-8;
  std::string_view reduction = "mean";
};
/// e^input - target input, or input - target log(input + eps); full adds Stirling's term where target > 1.
DTENSOR_EXPORT DTensor poisson_nll_loss(const DTensor& input, const DTensor& target, const PoissonOptions& options = {});
struct GaussianOptions {
  bool full = false;
  double eps = 1e-6;  ///< the variance is at least this
  std::string_view reduction = "mean";
};
/// (log(var) + (input - target)^2 / var) / 2; full adds log(2 pi) / 2.
DTENSOR_EXPORT DTensor gaussian_nll_loss(const DTensor& input, const DTensor& target, const DTensor& var, const GaussianOptions& options = {});
/// log(1 + e^(-target input)); target is -1 or 1.
DTENSOR_EXPORT DTensor soft_margin_loss(const DTensor& input, const DTensor& target, const LossOptions& options = {});
struct MarginOptions {
  double margin = 0;
  std::string_view reduction = "mean";
};
/// max(0, margin - target (input1 - input2)); target is -1 or 1.
DTENSOR_EXPORT DTensor margin_ranking_loss(const DTensor& input1, const DTensor& input2, const DTensor& target, const MarginOptions& options = {});
/// input where target is 1, max(0, margin - input) where it is -1. PyTorch's margin is 1.
DTENSOR_EXPORT DTensor hinge_embedding_loss(const DTensor& input, const DTensor& target, const MarginOptions& options = {.margin = 1});
/// 1 - cos where target is 1, max(0, cos - margin) where it is -1; cos along the last dim, target without it.
DTENSOR_EXPORT DTensor cosine_embedding_loss(const DTensor& input1, const DTensor& input2, const DTensor& target, const MarginOptions& options = {});
struct TripletOptions {
  double margin = 1, p = 2, eps = 1e-6;
  std::string_view reduction = "mean";
};
/// max(0, |anchor - positive| - |anchor - negative| + margin), distances along the last dim.
DTENSOR_EXPORT DTensor triplet_margin_loss(const DTensor& anchor, const DTensor& positive, const DTensor& negative,
                                           const TripletOptions& options = {});

struct CosineOptions {
  int dim = 1;
  double eps = 1e-8;  ///< norms are at least this
};
/// x1 . x2 / (|x1| |x2|) along dim, which goes away.
DTENSOR_EXPORT DTensor cosine_similarity(const DTensor& x1, const DTensor& x2, const CosineOptions& options = {});
struct PairwiseOptions {
  double p = 2, eps = 1e-6;
  bool keepdim = false;
};
/// p-norm of x1 - x2 + eps along the last dim.
DTENSOR_EXPORT DTensor pairwise_distance(const DTensor& x1, const DTensor& x2, const PairwiseOptions& options = {});

}  // namespace dtensor
