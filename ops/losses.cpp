// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/losses.h"

#include <array>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/losses.h"
#include "local/kernels/reduce.h"
#include "ops/class_runs.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/reduction_rules.h"
#include "ops/softmax_ops.h"
#include "ops/weighted_losses.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;
using ops::computation_dtype;
using ops::in_dtype;

enum class Mode { mean, sum, none };
Mode mode_of(const Attribute& reduction) {
  if (reduction.is_none()) return Mode::none;
  return reduction.as_text() == "mean" ? Mode::mean : reduction.as_text() == "sum" ? Mode::sum : Mode::none;
}
void check_reduction(const ShapeCall& s, const Attribute& reduction) {
  if (reduction.is_none()) return;
  const std::string_view text = reduction.as_text();
  if (text != "mean" && text != "sum" && text != "none") s.fail("reduction must be mean, sum or none ('" + std::string(text) + "' given)");
}
int class_dim(int ndim) { return ndim == 1 ? 0 : 1; }
Shape without_class(const Shape& shape) { return ops::reduced_shape(shape, {class_dim(shape.ndim())}, false); }
/// Operand 0: logits, operand 1: targets.
void check_targets(const ShapeCall& s, int logits, int target) {
  const Shape& shape = s.input(logits).shape;
  if (shape.ndim() == 0) s.fail("the input needs a class dimension (" + s.describe(logits) + "); give [C], [N, C] or [N, C, ...]");
  if (!info(s.input(logits).dtype).floating) s.fail("the input needs a floating dtype (" + s.describe(logits) + "); convert it");
  if (s.input(target).dtype != Dtype::i64) s.fail("targets are class indices in i64 (" + s.describe(target) + "); convert them");
  if (s.input(target).shape != without_class(shape))
    s.fail("targets must have the shape of the input without its class dimension (" + s.describe(logits) + ", " + s.describe(target) + "); give " +
           to_string(without_class(shape)));
}
struct Names {
  std::string logits, rows, row_clause, class_name;
  Shape row_dims;
  explicit Names(int ndim) {
    const int c = class_dim(ndim);
    logits = ops::all_names(ndim);
    rows = ops::kept_names(ndim, {c}, false);
    for (int d = 0; d < ndim; ++d)
      if (d != c) row_dims.push_back(d);
    class_name = "d" + std::to_string(c);
  }
  std::string clauses(std::string_view classes, std::string_view of_rows) const {
    const std::string r = ops::clause(row_dims, of_rows);
    return "  " + class_name + ": " + std::string(classes) + (r.empty() ? "" : "; ") + r;
  }
};
cpu::Classes classes_of(const Place& place) { return ops::classes_of(place, class_dim(place.global.ndim())); }
cpu::LossOptions options_of(const KernelCall& call, int logits, double smoothing) {
  return {.dim = class_dim(call.input(logits).ndim()), .ignore_index = call.attribute(0).as_int(), .label_smoothing = smoothing, .op = call.op_name};
}
void check_index(const KernelCall& call, std::optional<std::int64_t> bad, std::int64_t classes) {
  if (bad) throw Error(cpu::wrong_target(call.op_name, *bad, classes));
}
Shape all_dims(const Shape& shape) {
  Shape dims;
  for (int d = 0; d < shape.ndim(); ++d) dims.push_back(d);
  return dims;
}
/// rows -> loss, on one rank; the mean has its divisor in the options.
void reduce_rows(Mode mode, const Tensor& rows, const cpu::ReduceOptions& mean, const Tensor& loss) {
  kernels::reduce(cpu::Reduction::sum, rows, mode == Mode::none ? Shape() : all_dims(rows.shape()), loss,
                  mode == Mode::mean ? mean : cpu::ReduceOptions());
}

// ---- count_targets
constexpr OpDef kCountTargets{
    .name = "count_targets",
    .signature = "target, ignore_index: int, dtype: dtype -> out",
    .contiguous = true,
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = {}, .dtype = s.attribute(1).as_dtype()}; },
    .rule_for =
        [](const ShapeCall& s) {
          const int ndim = s.input(0).shape.ndim();
          return ops::reduction_rule(ndim, all_dims(s.input(0).shape), false, "reduce(sum)", "");
        },
    .kernel = [](const KernelCall& call) { kernels::count_targets(call.input(0), call.attribute(0).as_int(), call.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .attributes = {{"ignore_index", "1"}, {"dtype", "f32"}}, .dtypes = {Dtype::i64}}};
        },
};
DTensor count_targets(const DTensor& target, const Attribute& ignore_index, Dtype dtype) {
  return ops::without_partial(call(kCountTargets, {target}, {ignore_index, dtype}));
}

// ---- target_logit: attributes ignore_index, label_smoothing
constexpr OpDef kTargetLogit{
    .name = "target_logit",
    .signature = "input, target, ignore_index: int = -100, label_smoothing: float = 0.0 -> out",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_targets(s, 0, 1);
          s.output(0) = {.shape = s.input(1).shape, .dtype = computation_dtype(s.input(0).dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape.ndim());
          return n.logits + ", " + n.rows + " -> " + n.rows + "  " + n.class_name + ": lookup; linear 1";
        },
    .kernel =
        [](const KernelCall& call) {
          const cpu::Classes classes = classes_of(call.input_place(0));
          const auto options = options_of(call, 0, call.attribute(1).as_double());
          check_index(call, kernels::target_logit(call.input(0), call.input(1), classes, options, 1, call.output(0)), classes.count);
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7}};
        },
};

// ---- cross_entropy_backward: attributes ignore_index, label_smoothing
constexpr OpDef kCrossEntropyBackward{
    .name = "cross_entropy_backward",
    .signature = "grad_rows, input, target, log_sum?, ignore_index: int = -100, label_smoothing: float = 0.0 -> grad_input",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_targets(s, 1, 2);
          s.output(0) = s.input(1);
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(1).shape.ndim());
          return n.rows + ", " + n.logits + ", " + n.rows + ", " + n.rows + " -> " + n.logits + "  linear 1";
        },
    .kernel =
        [](const KernelCall& call) {
          const Dtype computed = computation_dtype(call.input(1).dtype());
          const Tensor log_sum = !call.has_input(3) || call.input(3).dtype() == computed ? Tensor() : call.input(3).to(computed);
          kernels::cross_entropy_backward(call.input(0), call.input(1), call.input(2),
                                          log_sum             ? &log_sum
                                          : call.has_input(3) ? &call.input(3)
                                                              : nullptr,
                                          classes_of(call.input_place(1)), options_of(call, 1, call.attribute(1).as_double()), call.output(0));
        },
    .samples =
        [] {
          const std::vector<Dtype> dtypes{Dtype::f32, Dtype::f32, Dtype::i64, Dtype::f32};
          return std::vector<Sample>{
              {.shapes = {{5}, {5, 7}, {5}, {5}}, .attributes = {{"ignore_index", "3"}}, .dtypes = dtypes, .index_limit = 7},
              {.shapes = {{2, 3}, {2, 5, 3}, {2, 3}, {2, 3}}, .attributes = {{"label_smoothing", "0.1"}}, .dtypes = dtypes, .index_limit = 5}};
        },
};
/// Gradient of each row's loss.
DTensor row_gradient(const DTensor& grad, Mode mode, const DTensor& total, const Shape& rows) {
  if (mode == Mode::none) return grad;
  const DTensor each = mode == Mode::mean ? div(in_dtype(grad, total.dtype()), total) : grad;
  return ops::expand_reduced(each, all_dims(rows), false, rows);
}

// ---- cross_entropy: attributes ignore_index, reduction, label_smoothing
Results split_rows(const DTensor& input, const DTensor& target, const Attribute& ignore_index, double smoothing);
constexpr OpDef kCrossEntropyRows{
    .name = "cross_entropy_rows",
    .signature = "input, target, ignore_index: int = -100, label_smoothing: float = 0.0 -> rows, log_sum",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_targets(s, 0, 1);
          const TensorType row{.shape = s.input(1).shape, .dtype = computation_dtype(s.input(0).dtype)};
          s.output(0) = row;
          s.output(1) = row;
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape.ndim());
          return n.logits + ", " + n.rows + " -> " + n.rows + ", " + n.rows + "  " + n.class_name + ": whole";
        },
    .kernel =
        [](const KernelCall& call) {
          const auto options = options_of(call, 0, call.attribute(1).as_double());
          check_index(call, kernels::cross_entropy_rows(call.input(0), call.input(1), options, call.output(0), call.output(1)),
                      call.input(0).shape()[options.dim]);
        },
    .decompose = [](const DecomposeCall& c) { return split_rows(c.input(0), c.input(1), c.attribute(0), c.attribute(1).as_double()); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 7},
                                     {.shapes = {{2, 5, 3}, {2, 3}},
                                      .attributes = {{"label_smoothing", "0.1"}, {"ignore_index", "1"}},
                                      .dtypes = {Dtype::f32, Dtype::i64},
                                      .index_limit = 5}};
        },
};
Results split_rows(const DTensor& input, const DTensor& target, const Attribute& ignore_index, double smoothing) {
  const int dim = class_dim(input.ndim());
  const DTensor top = ops::without_partial(amax(input, dim));
  // exp_sum counts an infinite shift as 0; a row whose maximum is infinite is NaN all over.
  const DTensor shift = in_dtype(add(top, sub(top, top)), computation_dtype(input.dtype()));
  const DTensor log_sum = add(log(ops::exp_sum(input, top, {dim}, false)), shift);
  const DTensor logit = call(kTargetLogit, {input, target}, {ignore_index, smoothing});
  return {masked_fill(sub(log_sum, logit), eq(target, ignore_index.scalar()), 0), log_sum};
}

Results split_cross_entropy(const DecomposeCall& c) {
  const Mode mode = mode_of(c.attribute(1));
  const Dtype dtype = c.input(0).dtype(), computed = computation_dtype(dtype);
  const std::array<Input, 2> inputs{c.input(0), c.input(1)};
  const std::array<Attribute, 2> attributes{c.attribute(0), c.attribute(2)};
  Results rows = call_all(kCrossEntropyRows, inputs, attributes);
  const DTensor total = count_targets(c.input(1), c.attribute(0), computed);
  const DTensor summed = mode == Mode::none ? rows[0] : sum(rows[0]);
  return {in_dtype(mode == Mode::mean ? div(summed, total) : summed, dtype), rows[1], total};
}
void cross_entropy_kernel(const KernelCall& call) {
  const Tensor& input = call.input(0);
  const auto options = options_of(call, 0, call.attribute(2).as_double());
  const Tensor rows = Tensor::empty(call.input(1).shape(), call.output(1).dtype(), input.device());
  check_index(call, kernels::cross_entropy_rows(input, call.input(1), options, rows, call.output(1)), input.shape()[options.dim]);
  kernels::count_targets(call.input(1), options.ignore_index, call.output(2));
  reduce_rows(mode_of(call.attribute(1)), rows, {.count = &call.output(2)}, call.output(0));
}
std::vector<Sample> class_samples() {
  const auto sample = [](Shape logits, Shape target, std::vector<std::pair<std::string, std::string>> attributes) {
    return Sample{.shapes = {logits, target},
                  .attributes = std::move(attributes),
                  .dtypes = {Dtype::f32, Dtype::i64},
                  .index_limit = logits[class_dim(logits.ndim())]};
  };
  return {sample({5, 7}, {5}, {}), sample({5, 7}, {5}, {{"reduction", "sum"}, {"ignore_index", "2"}}),
          sample({2, 5, 3}, {2, 3}, {{"reduction", "none"}}), sample({7}, {}, {}), sample({0, 3}, {0}, {{"reduction", "sum"}})};
}
constexpr OpDef kCrossEntropy{
    .name = "cross_entropy",
    .signature = "input, target, ignore_index: int = -100, reduction: text? = mean, label_smoothing: float = 0.0 -> loss, log_sum, total",
    .saves = "input, target, log_sum, total",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_targets(s, 0, 1);
          check_reduction(s, s.attribute(1));
          const Dtype dtype = s.input(0).dtype;
          s.output(0) = {.shape = mode_of(s.attribute(1)) == Mode::none ? s.input(1).shape : Shape(), .dtype = dtype};
          s.output(1) = {.shape = s.input(1).shape, .dtype = computation_dtype(dtype)};
          s.output(2) = {.shape = {}, .dtype = computation_dtype(dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape.ndim());
          const Mode mode = mode_of(s.attribute(1));
          return n.logits + ", " + n.rows + " -> " + (mode == Mode::none ? n.rows : "()") + ", " + n.rows + ", ()" +
                 n.clauses("whole", mode == Mode::mean ? "whole" : "reduce(sum)");
        },
    .kernel = cross_entropy_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor rows = row_gradient(g.grad_output(0), mode_of(g.attribute(1)), g.output(2), g.input_type(1).shape);
      return {call(kCrossEntropyBackward, {rows, g.input(0), g.input(1), g.output(1)}, {g.attribute(0), g.attribute(2)}), DTensor()};
    },
    .decompose = split_cross_entropy,
    .samples =
        [] {
          std::vector<Sample> samples = class_samples();
          samples.push_back(
              {.shapes = {{4, 5}, {4}}, .attributes = {{"label_smoothing", "0.2"}}, .dtypes = {Dtype::f32, Dtype::i64}, .index_limit = 5});
          return samples;
        },
};

// ---- nll_loss: attributes ignore_index, reduction
void nll_loss_kernel(const KernelCall& call) {
  const cpu::Classes classes = classes_of(call.input_place(0));
  const auto options = options_of(call, 0, 0);
  const Dtype computed = computation_dtype(call.input(0).dtype());
  const Tensor rows = Tensor::empty(call.input(1).shape(), computed, call.input(0).device());
  check_index(call, kernels::target_logit(call.input(0), call.input(1), classes, options, -1, rows), classes.count);
  const Mode mode = mode_of(call.attribute(1));
  const Tensor count = mode == Mode::mean ? Tensor::empty({}, computed, rows.device()) : Tensor();
  if (count) kernels::count_targets(call.input(1), options.ignore_index, count);
  reduce_rows(mode, rows, {.count = &count}, call.output(0));
}
constexpr OpDef kNllLoss{
    .name = "nll_loss",
    .signature = "input, target, ignore_index: int = -100, reduction: text? = mean -> loss",
    .saves = "input, target",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_targets(s, 0, 1);
          check_reduction(s, s.attribute(1));
          s.output(0) = {.shape = mode_of(s.attribute(1)) == Mode::none ? s.input(1).shape : Shape(), .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Names n(s.input(0).shape.ndim());
          const Mode mode = mode_of(s.attribute(1));
          return n.logits + ", " + n.rows + " -> " +
                 (mode == Mode::none ? n.rows + "  " + n.class_name + ": lookup"
                                     : "()" + n.clauses("lookup", mode == Mode::mean ? "whole" : "reduce(sum)")) +
                 "; linear 1";
        },
    .kernel = nll_loss_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const Mode mode = mode_of(g.attribute(1));
      const DTensor total = mode == Mode::mean ? count_targets(g.input(1), g.attribute(0), computation_dtype(g.input_type(0).dtype)) : DTensor();
      const DTensor rows = row_gradient(g.grad_output(0), mode, total, g.input_type(1).shape);
      return {call(kCrossEntropyBackward, {rows, g.input(0), g.input(1), Input()}, {g.attribute(0), 0.0}), DTensor()};
    },
    .decompose = [](const DecomposeCall& c) -> std::vector<DTensor> {
      const Dtype dtype = c.input(0).dtype();
      const DTensor logit = call(kTargetLogit, {c.input(0), c.input(1)}, {c.attribute(0), 0.0});
      return {in_dtype(neg(div(sum(logit), count_targets(c.input(1), c.attribute(0), logit.dtype()))), dtype)};
    },
    .samples = class_samples,
};

// ---- mse_loss: attribute reduction
void mse_loss_kernel(const KernelCall& call) {
  const Mode mode = mode_of(call.attribute(0));
  const Dtype computed = computation_dtype(call.output(0).dtype());
  const Tensor rows = mode == Mode::none ? call.output(0) : Tensor::empty(call.input(0).shape(), computed, call.input(0).device());
  kernels::squared_error(call.input(0), call.input(1), rows);
  if (mode != Mode::none) reduce_rows(mode, rows, {.divisor = static_cast<double>(call.input_place(0).global.numel())}, call.output(0));
}
constexpr OpDef kMseLoss{
    .name = "mse_loss",
    .signature = "input, target, reduction: text? = mean -> loss",
    .saves = "input, target",
    .dtypes = "floating",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_reduction(s, s.attribute(0));
          if (s.input(0).shape != s.input(1).shape) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + "); expand one of them");
          s.output(0) = {.shape = mode_of(s.attribute(0)) == Mode::none ? s.input(0).shape : Shape(),
                         .dtype = promote(s.input(0).dtype, s.input(1).dtype)};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Shape& shape = s.input(0).shape;
          const std::string names = ops::all_names(shape.ndim());
          const bool none = mode_of(s.attribute(0)) == Mode::none;
          return names + ", " + names + " -> " + (none ? names : "()  " + ops::clause(all_dims(shape), "reduce(sum)"));
        },
    .kernel = mse_loss_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const Mode mode = mode_of(g.attribute(0));
      const Shape& shape = g.input_type(0).shape;
      const DTensor scaled = mul(g.grad_output(0), mode == Mode::mean ? 2.0 / static_cast<double>(shape.numel()) : 2.0);
      const DTensor each = mode == Mode::none ? scaled : ops::expand_reduced(scaled, all_dims(shape), false, shape);
      const DTensor grad = mul(sub(g.input(0), g.input(1)), each);
      return {g.needs(0) ? in_dtype(grad, g.input_type(0).dtype) : DTensor(), g.needs(1) ? in_dtype(neg(grad), g.input_type(1).dtype) : DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}}},
                                     {.shapes = {{5}, {5}}, .attributes = {{"reduction", "sum"}}},
                                     {.shapes = {{2, 3}, {2, 3}}, .attributes = {{"reduction", "none"}}},
                                     {.shapes = {{0, 3}, {0, 3}}, .attributes = {{"reduction", "sum"}}}};
        },
};

constexpr std::array<const OpDef*, 7> kOps{&kCountTargets, &kTargetLogit, &kCrossEntropyBackward, &kCrossEntropyRows, &kCrossEntropy,
                                           &kNllLoss,      &kMseLoss};

}  // namespace

namespace ops {
OpList loss_ops() { return kOps; }
}  // namespace ops

DTensor cross_entropy(const DTensor& input, const DTensor& target, const CrossEntropyOptions& o) {
  if (o.weight || info(target.dtype()).floating) return ops::weighted_cross_entropy(input, target, o);
  return call(kCrossEntropy, {input, target}, {o.ignore_index, o.reduction, o.label_smoothing});
}
DTensor nll_loss(const DTensor& input, const DTensor& target, const NllLossOptions& o) {
  if (o.weight) return ops::weighted_nll_loss(input, target, o);
  return call(kNllLoss, {input, target}, {o.ignore_index, o.reduction});
}
DTensor mse_loss(const DTensor& input, const DTensor& target, const MseLossOptions& o) {
  if (input.shape() == target.shape()) return call(kMseLoss, {input, target}, {o.reduction});
  const ShapeCall checked(kMseLoss, {{input.shape(), input.dtype()}, {target.shape(), target.dtype()}}, {true, true}, {});
  const Shape common = ops::broadcast_shape(checked, 0, 2);
  return call(kMseLoss, {expand(input, common), expand(target, common)}, {o.reduction});
}

}  // namespace dtensor
