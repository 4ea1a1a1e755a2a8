// SPDX-License-Identifier: Apache-2.0
#include "ops/weighted_losses.h"

#include "base/error_text.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/softmax.h"
#include "dtensor/ops/views.h"
#include "ops/reduction_rules.h"

namespace dtensor::ops {
namespace {

int class_dim(const DTensor& input) { return input.ndim() == 1 ? 0 : 1; }

void check(std::string_view op, const DTensor& input, const DTensor& weight, std::string_view reduction) {
  if (reduction != "mean" && reduction != "sum" && reduction != "none")
    base::fail<InvalidArgument>("{}: reduction must be mean, sum or none ('{}' given)", op, reduction);
  if (input.ndim() == 0)
    base::fail<InvalidArgument>("{}: the input needs a class dimension (input {}); give [C], [N, C] or [N, C, ...]", op, to_string(input));
  if (weight && (weight.ndim() != 1 || weight.size(0) != input.size(class_dim(input)) || !info(weight.dtype()).floating))
    base::fail<InvalidArgument>("{}: weight must be floating, one value per class (input {}, weight {})", op, to_string(input), to_string(weight));
}

// [C] so that it broadcasts against the input.
DTensor along_classes(const DTensor& weight, const DTensor& input) {
  Shape shape{weight.size(0)};
  for (int d = class_dim(input) + 1; d < input.ndim(); ++d) shape.push_back(1);
  return shape.ndim() == 1 ? weight : reshape(weight, shape);
}

// The weight of each row's target, 0 where it is ignored.
DTensor row_weights(const DTensor& weight, const DTensor& target, const DTensor& ignored) {
  return masked_fill(squeeze(embedding(masked_fill(target, ignored, 0), unsqueeze(weight, 1)), -1), ignored, 0);
}

DTensor reduced(const DTensor& rows, std::string_view reduction, const DTensor& total) {
  if (reduction == "none") return rows;
  return reduction == "sum" ? sum(rows) : div(sum(rows), total);
}

DTensor of_probabilities(const DTensor& input, const DTensor& target, const CrossEntropyOptions& o) {
  if (target.shape() != input.shape())
    base::fail<InvalidArgument>("cross_entropy: targets that are probabilities must have the shape of the input (input {}, target {})",
                                to_string(input), to_string(target));
  if (o.ignore_index >= 0)
    base::fail<InvalidArgument>("cross_entropy: ignore_index {} has no meaning for targets that are probabilities; leave it out", o.ignore_index);
  const int dim = class_dim(input);
  const Dtype computed = computation_dtype(input.dtype());
  const std::int64_t classes = input.size(dim);
  DTensor t = in_dtype(target, computed);
  if (o.label_smoothing != 0) t = add(mul(t, 1 - o.label_smoothing), o.label_smoothing / static_cast<double>(classes));
  DTensor terms = mul(log_softmax(in_dtype(input, computed), dim), t);
  if (o.weight) terms = mul(terms, along_classes(o.weight, input));
  const DTensor rows = neg(sum(terms, dim));
  if (o.reduction == "none") return in_dtype(rows, input.dtype());
  return in_dtype(o.reduction == "sum" ? sum(rows) : div(sum(rows), static_cast<double>(rows.numel())), input.dtype());
}

}  // namespace

DTensor weighted_cross_entropy(const DTensor& input, const DTensor& target, const CrossEntropyOptions& o) {
  check("cross_entropy", input, o.weight, o.reduction);
  if (info(target.dtype()).floating) return of_probabilities(input, target, o);
  const Dtype computed = computation_dtype(input.dtype());
  const DTensor x = in_dtype(input, computed);
  DTensor rows = cross_entropy(x, target, {.ignore_index = o.ignore_index, .reduction = "none"});
  const DTensor ignored = eq(target, o.ignore_index), each = row_weights(o.weight, target, ignored);
  rows = mul(rows, each);
  if (o.label_smoothing != 0) {
    const int dim = class_dim(x);
    const DTensor smooth = masked_fill(neg(sum(mul(log_softmax(x, dim), along_classes(o.weight, x)), dim)), ignored, 0);
    rows = add(mul(rows, 1 - o.label_smoothing), mul(smooth, o.label_smoothing / static_cast<double>(x.size(dim))));
  }
  return in_dtype(reduced(rows, o.reduction, sum(each)), input.dtype());
}

DTensor weighted_nll_loss(const DTensor& input, const DTensor& target, const NllLossOptions& o) {
  check("nll_loss", input, o.weight, o.reduction);
  const DTensor rows = nll_loss(in_dtype(input, computation_dtype(input.dtype())), target, {.ignore_index = o.ignore_index, .reduction = "none"});
  const DTensor each = row_weights(o.weight, target, eq(target, o.ignore_index));
  return in_dtype(reduced(mul(rows, each), o.reduction, sum(each)), input.dtype());
}

}  // namespace dtensor::ops
