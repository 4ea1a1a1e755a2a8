// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/elementwise_losses.h"

#include <algorithm>
#include <array>

#include "dtensor/op.h"
#include "dtensor/ops/activations.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/elementary.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "ops/composite.h"
#include "ops/elementwise.h"

namespace dtensor {
namespace {

using ops::composite;

std::string_view reduction_of(const Attribute& a) { return a.is_none() ? std::string_view("none") : a.as_text(); }
void check_reduction(const ShapeCall& s, const Attribute& a, bool batchmean = false) {
  const std::string_view text = reduction_of(a);
  if (text != "mean" && text != "sum" && text != "none" && !(batchmean && text == "batchmean"))
    s.fail("reduction must be mean, sum or none ('" + std::string(text) + "' given)");
}
Results reduced(const DTensor& rows, const Attribute& reduction) {
  const std::string_view text = reduction_of(reduction);
  return {text == "mean" ? mean(rows) : text == "sum" ? sum(rows) : rows};
}
Dtype promoted(const ShapeCall& s) {
  Dtype dtype = s.input(0).dtype;
  for (int i = 1; i < s.num_inputs(); ++i)
    if (s.has_input(i)) dtype = promote(dtype, s.input(i).dtype);
  return ops::floating_dtype(dtype);
}
/// All inputs broadcast to the shape of the loss without reduction; attribute `reduction` says what is left of it.
template <int reduction>
void loss_type(ShapeCall& s) {
  check_reduction(s, s.attribute(reduction));
  const Shape rows = ops::broadcast_shape(s, 0, s.num_inputs());
  s.output(0) = {reduction_of(s.attribute(reduction)) == "none" ? rows : Shape(), promoted(s)};
}
template <int reduction>
void same_loss_type(ShapeCall& s) {
  if (s.input(0).shape != s.input(1).shape) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + "); expand one of them");
  loss_type<reduction>(s);
}

// Dims that one of them lacks count as given: a number promotes as a tensor does.
DTensor difference(const DecomposeCall& c) {
  const Dtype dtype = promote(c.input(0).dtype(), c.input(1).dtype());
  return c.input(0).to(dtype) - c.input(1).to(dtype);
}

using Attributes = std::vector<std::pair<std::string, std::string>>;
std::vector<Sample> two_samples(double low, double high, const Attributes& more) {
  const auto with = [&](std::string reduction) {
    Attributes a = more;
    a.emplace_back("reduction", std::move(reduction));
    return a;
  };
  return {{.shapes = {{5, 7}, {5, 7}}, .low = low, .high = high},
          {.shapes = {{5, 3}, {5, 3}}, .attributes = with("sum"), .low = low, .high = high},
          {.shapes = {{2, 3, 2}, {2, 3, 2}}, .attributes = with("none"), .low = low, .high = high},
          {.shapes = {{0, 3}, {0, 3}}, .attributes = with("sum"), .low = low, .high = high}};
}
std::vector<Sample> pair_samples() { return two_samples(-2, 2, {}); }

constexpr OpDef kL1 = composite(
    "l1_loss", "input, target, reduction: text? = mean -> loss", "any", loss_type<0>,
    [](const DecomposeCall& c) { return reduced(abs(difference(c)), c.attribute(0)); }, pair_samples);
constexpr OpDef kSmoothL1 = composite(
    "smooth_l1_loss", "input, target, reduction: text? = mean, beta: float = 1.0 -> loss", "floating", loss_type<0>,
    [](const DecomposeCall& c) {
      const double beta = c.attribute(1).as_double();
      const DTensor d = abs(difference(c));
      return reduced(beta == 0 ? d : where(lt(d, beta), square(d) * (0.5 / beta), d - 0.5 * beta), c.attribute(0));
    },
    [] {
      return two_samples(-2, 2, {{"beta", "0.7"}});
    });
constexpr OpDef kHuber = composite(
    "huber_loss", "input, target, reduction: text? = mean, delta: float = 1.0 -> loss", "floating", loss_type<0>,
    [](const DecomposeCall& c) {
      const double delta = c.attribute(1).as_double();
      const DTensor d = abs(difference(c));
      return reduced(where(le(d, delta), square(d) * 0.5, (d - 0.5 * delta) * delta), c.attribute(0));
    },
    [] {
      return two_samples(-2, 2, {{"delta", "0.7"}});
    });

// The rows have their own derivative, which is bounded where a logarithm is cut.
constexpr OpDef kCrossRows = [] {
  OpDef op = composite(
      "binary_cross_entropy_rows", "input, target -> rows", "floating",
      [](ShapeCall& s) {
        s.output(0) = {ops::broadcast_shape(s, 0, 2), promoted(s)};
      },
      [](const DecomposeCall& c) -> Results {
        const DTensor &x = c.input(0), &y = c.input(1);
        const DTensor one = clamp(log(x), {.min = -100, .max = {}}), zero = clamp(log1p(neg(x)), {.min = -100, .max = {}});
        return {(y - 1) * zero - y * one};
      },
      [] {
        return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}, .low = 0.1, .high = 0.9}, {.shapes = {{0, 3}, {0, 3}}, .low = 0.1, .high = 0.9}};
      });
  op.saves = "input, target";
  op.gradient = [](const GradientCall& g) -> std::vector<DTensor> {
    const DTensor &u = g.grad_output(0), &x = g.input(0), &y = g.input(1);
    return {g.needs(0) ? ops::gradient_for(g, 0, u * (x - y) / clamp(x * (1 - x), {.min = 1e-12, .max = {}})) : DTensor(),
            g.needs(1) ? ops::gradient_for(g, 1, u * (log1p(neg(x)) - log(x))) : DTensor()};
  };
  return op;
}();
constexpr OpDef kBinaryCrossEntropy = composite(
    "binary_cross_entropy", "input, target, weight?, *, reduction: text? = mean -> loss", "floating", same_loss_type<0>,
    [](const DecomposeCall& c) {
      const DTensor rows = call(kCrossRows, {c.input(0), c.input(1)});
      return reduced(c.has_input(2) ? rows * c.input(2) : rows, c.attribute(0));
    },
    [] {
      std::vector<Sample> samples = two_samples(0.1, 0.9, {});
      samples.push_back({.shapes = {{5, 3}, {5, 3}, {3}}, .low = 0.1, .high = 0.9});
      return samples;
    });
constexpr OpDef kWithLogits = composite(
    "binary_cross_entropy_with_logits", "input, target, weight?, pos_weight?, *, reduction: text? = mean -> loss", "floating", same_loss_type<0>,
    [](const DecomposeCall& c) {
      const DTensor &x = c.input(0), &y = c.input(1);
      const DTensor logarithm = logsigmoid(x);
      const DTensor scaled = c.has_input(3) ? ((c.input(3) - 1) * y + 1) * logarithm : logarithm;
      const DTensor rows = (1 - y) * x - scaled;
      return reduced(c.has_input(2) ? rows * c.input(2) : rows, c.attribute(0));
    },
    [] {
      std::vector<Sample> samples = pair_samples();
      samples.push_back({.shapes = {{5, 3}, {5, 3}, {3}, {3}}, .low = 0.2});
      samples.push_back({.shapes = {{5, 3}, {5, 3}, {}, {5, 1}}, .attributes = {{"reduction", "none"}}, .low = 0.2});
      return samples;
    });
constexpr OpDef kKlDiv = composite(
    "kl_div", "input, target, reduction: text? = mean, log_target: bool = false -> loss", "floating",
    [](ShapeCall& s) {
      check_reduction(s, s.attribute(0), true);
      const Shape rows = ops::broadcast_shape(s, 0, 2);
      s.output(0) = {reduction_of(s.attribute(0)) == "none" ? rows : Shape(), promoted(s)};
    },
    [](const DecomposeCall& c) -> Results {
      const DTensor &x = c.input(0), &y = c.input(1);
      const DTensor rows = c.attribute(1).as_bool() ? exp(y) * (y - x) : xlogy(y, y) - y * x;
      if (reduction_of(c.attribute(0)) != "batchmean") return reduced(rows, c.attribute(0));
      return {sum(rows) / static_cast<double>(rows.ndim() == 0 ? 1 : rows.shape()[0])};
    },
    [] {
      std::vector<Sample> samples = two_samples(0.1, 0.9, {{"log_target", "true"}});
      samples.push_back({.shapes = {{5, 3}, {5, 3}}, .attributes = {{"reduction", "batchmean"}}, .low = 0.1});
      return samples;
    });
constexpr OpDef kPoisson = composite(
    "poisson_nll_loss", "input, target, log_input: bool = true, full: bool = false, eps: float = 1e-08, reduction: text? = mean -> loss", "floating",
    loss_type<3>,
    [](const DecomposeCall& c) {
      const DTensor &x = c.input(0), &y = c.input(1);
      DTensor rows = c.attribute(0).as_bool() ? exp(x) - y * x : x - y * log(x + c.attribute(2).as_double());
      if (c.attribute(1).as_bool()) rows = rows + where(le(y, 1), 0, y * log(y) - y + log(y * 6.28318530717958647692) * 0.5);
      return reduced(rows, c.attribute(3));
    },
    [] {
      return two_samples(0.2, 2, {{"log_input", "false"}});
    });
constexpr OpDef kGaussian = composite(
    "gaussian_nll_loss", "input, target, var, full: bool = false, eps: float = 1e-06, reduction: text? = mean -> loss", "floating", loss_type<2>,
    [](const DecomposeCall& c) {
      const DTensor var = clamp(c.input(2), {.min = c.attribute(1).scalar(), .max = {}});
      const DTensor rows = (log(var) + square(c.input(0) - c.input(1)) / var) * 0.5;
      return reduced(c.attribute(0).as_bool() ? rows + 0.91893853320467274178 : rows, c.attribute(2));
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}}, .low = 0.3},
                                 {.shapes = {{5, 3}, {5, 3}, {5, 1}}, .attributes = {{"full", "true"}}, .low = 0.3}};
    });
constexpr OpDef kSoftMargin = composite(
    "soft_margin_loss", "input, target, reduction: text? = mean -> loss", "floating", loss_type<0>,
    [](const DecomposeCall& c) { return reduced(neg(logsigmoid(c.input(0) * c.input(1))), c.attribute(0)); }, pair_samples);
constexpr OpDef kMarginRanking = composite(
    "margin_ranking_loss", "input1, input2, target, margin: float = 0.0, reduction: text? = mean -> loss", "floating", loss_type<1>,
    [](const DecomposeCall& c) { return reduced(relu(c.attribute(0).as_double() - c.input(2) * (c.input(0) - c.input(1))), c.attribute(1)); },
    [] {
      return std::vector<Sample>{{.shapes = {{7}, {7}, {7}}}, {.shapes = {{5}, {5}, {5}}, .attributes = {{"margin", "0.5"}, {"reduction", "none"}}}};
    });
constexpr OpDef kHingeEmbedding = composite(
    "hinge_embedding_loss", "input, target, margin: float = 1.0, reduction: text? = mean -> loss", "any", loss_type<1>,
    [](const DecomposeCall& c) {
      const DTensor &x = c.input(0), &y = c.input(1);
      return reduced(where(ne(y, 1), relu(c.attribute(0).as_double() - x), 0) + where(ne(y, -1), x, 0), c.attribute(1));
    },
    [] {
      return std::vector<Sample>{
          {.shapes = {{7}, {7}}, .dtypes = {Dtype::f32, Dtype::i64}},
          {.shapes = {{5, 2}, {5, 2}}, .attributes = {{"margin", "0.5"}, {"reduction", "none"}}, .dtypes = {Dtype::f32, Dtype::i64}}};
    });

// Along a dim.
Shape without(const ShapeCall& s, Shape shape, const Attribute& dim) {
  const auto d = dim.as_int();
  if (d < -shape.ndim() || d >= shape.ndim())
    s.fail("dim " + std::to_string(d) + " is out of range (" + s.describe(0) + ", " + s.describe(1) + "); give -ndim .. ndim-1");
  shape.erase(static_cast<int>(d < 0 ? d + shape.ndim() : d));
  return shape;
}
DTensor squares(const DTensor& x, int dim) { return sum(square(x), dim); }
constexpr OpDef kCosineSimilarity = composite(
    "cosine_similarity", "x1, x2, dim: int = 1, eps: float = 1e-08 -> out", "floating",
    [](ShapeCall& s) {
      s.output(0) = {without(s, ops::broadcast_shape(s, 0, 2), s.attribute(0)), promoted(s)};
    },
    [](const DecomposeCall& c) -> Results {
      const DTensor &a = c.input(0), &b = c.input(1);
      const int ndim = std::max(a.ndim(), b.ndim()), dim = static_cast<int>(c.attribute(0).as_int());
      const int from_end = dim < 0 ? dim : dim - ndim;
      const auto length = [&](const DTensor& x) {
        const DTensor wide = x.ndim() + from_end < 0 ? abs(x) : vector_norm(x, from_end, {.keepdim = true});
        return clamp(wide, {.min = c.attribute(1).scalar(), .max = {}});
      };
      return {sum((a / length(a)) * (b / length(b)), from_end)};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}},
                                 {.shapes = {{3, 4, 2}, {3, 4, 2}}, .attributes = {{"dim", "-1"}}},
                                 {.shapes = {{5, 4}, {4}}, .attributes = {{"dim", "-1"}}},
                                 {.shapes = {{0, 3}, {0, 3}}}};
    });
DTensor distance(const DTensor& a, const DTensor& b, double p, double eps, bool keepdim) {
  return vector_norm(a - b + eps, -1, {.ord = p, .keepdim = keepdim, .dtype = {}});
}
constexpr OpDef kPairwiseDistance = composite(
    "pairwise_distance", "x1, x2, p: float = 2.0, eps: float = 1e-06, keepdim: bool = false -> out", "floating",
    [](ShapeCall& s) {
      Shape shape = ops::broadcast_shape(s, 0, 2);
      if (shape.empty()) s.fail("at least one dim is wanted (" + s.describe(0) + ", " + s.describe(1) + ")");
      shape.pop_back();
      if (s.attribute(2).as_bool()) shape.push_back(1);
      s.output(0) = {shape, promoted(s)};
    },
    [](const DecomposeCall& c) -> Results {
      return {distance(c.input(0), c.input(1), c.attribute(0).as_double(), c.attribute(1).as_double(), c.attribute(2).as_bool())};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}},
                                 {.shapes = {{5, 3}, {3}}, .attributes = {{"p", "1"}, {"keepdim", "true"}}},
                                 {.shapes = {{4, 3}, {4, 3}}, .attributes = {{"p", "3"}}}};
    });
constexpr OpDef kCosineEmbedding = composite(
    "cosine_embedding_loss", "input1, input2, target, margin: float = 0.0, reduction: text? = mean -> loss", "any",
    [](ShapeCall& s) {
      check_reduction(s, s.attribute(1));
      Shape rows = ops::broadcast_shape(s, 0, 2);
      if (rows.empty()) s.fail("at least one dim is wanted (" + s.describe(0) + ", " + s.describe(1) + ")");
      rows.pop_back();
      if (rows != s.input(2).shape) s.fail("target has the wrong shape (" + s.describe(2) + "); " + to_string(rows) + " is wanted");
      s.output(0) = {reduction_of(s.attribute(1)) == "none" ? rows : Shape(), promote(s.input(0).dtype, s.input(1).dtype)};
    },
    [](const DecomposeCall& c) {
      constexpr double kEps = 1e-12;
      const DTensor &a = c.input(0), &b = c.input(1), &y = c.input(2);
      const DTensor cosine = sum(a * b, -1) * rsqrt((squares(a, -1) + kEps) * (squares(b, -1) + kEps));
      return reduced(where(eq(y, 1), 1 - cosine, 0) + where(eq(y, -1), relu(cosine - c.attribute(0).as_double()), 0), c.attribute(1));
    },
    [] {
      const std::vector<Dtype> dtypes{Dtype::f32, Dtype::f32, Dtype::i64};
      return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5}}, .dtypes = dtypes},
                                 {.shapes = {{7}, {7}, {}}, .attributes = {{"margin", "0.2"}}, .dtypes = dtypes}};
    });
constexpr OpDef kTriplet = composite(
    "triplet_margin_loss", "anchor, positive, negative, margin: float = 1.0, p: float = 2.0, eps: float = 1e-06, reduction: text? = mean -> loss",
    "floating",
    [](ShapeCall& s) {
      check_reduction(s, s.attribute(3));
      Shape rows = ops::broadcast_shape(s, 0, 3);
      if (rows.empty()) s.fail("at least one dim is wanted (" + s.describe(0) + ")");
      rows.pop_back();
      s.output(0) = {reduction_of(s.attribute(3)) == "none" ? rows : Shape(), promoted(s)};
    },
    [](const DecomposeCall& c) {
      const double p = c.attribute(1).as_double(), eps = c.attribute(2).as_double();
      const DTensor near = distance(c.input(0), c.input(1), p, eps, false), far = distance(c.input(0), c.input(2), p, eps, false);
      return reduced(relu(near - far + c.attribute(0).as_double()), c.attribute(3));
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {5, 7}}},
                                 {.shapes = {{4, 3}, {4, 3}, {4, 3}}, .attributes = {{"margin", "2"}, {"reduction", "none"}}}};
    });

constexpr const OpDef* kFamily[] = {
    &kL1,       &kSmoothL1,   &kHuber,         &kCrossRows,      &kBinaryCrossEntropy, &kWithLogits,       &kKlDiv,           &kPoisson,
    &kGaussian, &kSoftMargin, &kMarginRanking, &kHingeEmbedding, &kCosineSimilarity,   &kPairwiseDistance, &kCosineEmbedding, &kTriplet};

}  // namespace

namespace ops {
OpList elementwise_loss_ops() { return kFamily; }
}  // namespace ops

DTensor l1_loss(const DTensor& input, const DTensor& target, const LossOptions& o) { return call(kL1, {input, target}, {o.reduction}); }
DTensor smooth_l1_loss(const DTensor& input, const DTensor& target, const SmoothL1Options& o) {
  return call(kSmoothL1, {input, target}, {o.reduction, o.beta});
}
DTensor huber_loss(const DTensor& input, const DTensor& target, const HuberOptions& o) {
  return call(kHuber, {input, target}, {o.reduction, o.delta});
}
DTensor binary_cross_entropy(const DTensor& input, const DTensor& target, const DTensor& weight, const LossOptions& o) {
  return call(kBinaryCrossEntropy, {input, target, weight}, {o.reduction});
}
DTensor binary_cross_entropy_with_logits(const DTensor& input, const DTensor& target, const DTensor& weight, const DTensor& pos_weight,
                                         const LossOptions& o) {
  return call(kWithLogits, {input, target, weight, pos_weight}, {o.reduction});
}
DTensor kl_div(const DTensor& input, const DTensor& target, const KlDivOptions& o) {
  return call(kKlDiv, {input, target}, {o.reduction, o.log_target});
}
DTensor poisson_nll_loss(const DTensor& input, const DTensor& target, const PoissonOptions& o) {
  return call(kPoisson, {input, target}, {o.log_input, o.full, o.eps, o.reduction});
}
DTensor gaussian_nll_loss(const DTensor& input, const DTensor& target, const DTensor& var, const GaussianOptions& o) {
  return call(kGaussian, {input, target, var}, {o.full, o.eps, o.reduction});
}
DTensor soft_margin_loss(const DTensor& input, const DTensor& target, const LossOptions& o) {
  return call(kSoftMargin, {input, target}, {o.reduction});
}
DTensor margin_ranking_loss(const DTensor& input1, const DTensor& input2, const DTensor& target, const MarginOptions& o) {
  return call(kMarginRanking, {input1, input2, target}, {o.margin, o.reduction});
}
DTensor hinge_embedding_loss(const DTensor& input, const DTensor& target, const MarginOptions& o) {
  return call(kHingeEmbedding, {input, target}, {o.margin, o.reduction});
}
DTensor cosine_embedding_loss(const DTensor& input1, const DTensor& input2, const DTensor& target, const MarginOptions& o) {
  return call(kCosineEmbedding, {input1, input2, target}, {o.margin, o.reduction});
}
DTensor triplet_margin_loss(const DTensor& anchor, const DTensor& positive, const DTensor& negative, const TripletOptions& o) {
  return call(kTriplet, {anchor, positive, negative}, {o.margin, o.p, o.eps, o.reduction});
}
DTensor cosine_similarity(const DTensor& x1, const DTensor& x2, const CosineOptions& o) { return call(kCosineSimilarity, {x1, x2}, {o.dim, o.eps}); }
DTensor pairwise_distance(const DTensor& x1, const DTensor& x2, const PairwiseOptions& o) {
  return call(kPairwiseDistance, {x1, x2}, {o.p, o.eps, o.keepdim});
}

}  // namespace dtensor
