// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/transformer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/rank.h"
#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/indexing.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/sorting.h"
#include "dtensor/ops/views.h"
#include "local/kernels/binary.h"
#include "local/kernels/grouped_product.h"
#include "local/kernels/pointwise.h"
#include "local/kernels/transformer.h"
#include "ops/composite.h"
#include "ops/families.h"
#include "ops/index_rules.h"

namespace dtensor {
namespace {

namespace cpu = local::cpu;
namespace kernels = local::kernels;

// ---- bias_gelu: attribute approximate
std::string_view form_of(const Attribute& approximate) { return approximate.is_none() ? "none" : approximate.as_text(); }
bool tanh_form(const Attribute& approximate) { return form_of(approximate) == "tanh"; }
void check_bias_gelu(const ShapeCall& s, int input, int bias) {
  const TensorType &x = s.input(input), &b = s.input(bias);
  if (x.shape.ndim() < 1 || b.shape != Shape{x.shape.back()} || b.dtype != x.dtype || !info(x.dtype).floating)
    s.fail("input [..., n] and bias [n] of one floating dtype are wanted (" + s.describe(input) + ", " + s.describe(bias) + ")");
  const std::string_view form = form_of(s.attribute(0));
  if (form != "none" && form != "tanh") s.fail("approximate must be none or tanh ('" + std::string(form) + "' given)");
}
constexpr Scalar kOne = 1;
constexpr OpDef kBiasGeluBackward{
    .name = "bias_gelu_backward",
    .signature = "grad_output, input, bias, approximate: text? = none -> grad_input",
    .rule = "... n, ... n, n -> ... n  linear 1",
    .saves = "grad_output, input, bias",
    .shape =
        [](ShapeCall& s) {
          check_bias_gelu(s, 1, 2);
          if (s.input(0).shape != s.input(1).shape) s.fail("shapes differ (" + s.describe(0) + ", " + s.describe(1) + ")");
          s.output(0) = s.input(1);
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::binary(cpu::Binary::add, c.input(1), c.input(2), c.output(0), &kOne);
          kernels::unary_backward(tanh_form(c.attribute(0)) ? cpu::UnaryBackward::gelu_tanh : cpu::UnaryBackward::gelu, c.input(0), c.output(0),
                                  c.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {5, 7}, {7}}},
                                     {.shapes = {{2, 3, 4}, {2, 3, 4}, {4}}, .attributes = {{"approximate", "tanh"}}}};
        },
};
constexpr OpDef kBiasGelu{
    .name = "bias_gelu",
    .signature = "input, bias, approximate: text? = none -> out",
    .rule = "... n, n -> ... n",
    .saves = "input, bias",
    .shape =
        [](ShapeCall& s) {
          check_bias_gelu(s, 0, 1);
          s.output(0) = s.input(0);
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::binary(cpu::Binary::add, c.input(0), c.input(1), c.output(0), &kOne);
          kernels::unary(tanh_form(c.attribute(0)) ? cpu::Unary::gelu_tanh : cpu::Unary::gelu, c.output(0), c.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor up = call(kBiasGeluBackward, {g.grad_output(0), g.input(0), g.input(1)}, {g.attribute(0)});
      return {g.needs(0) ? up : DTensor(), g.needs(1) ? sum_to_shape(up, g.input_type(1).shape) : DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 7}, {7}}}, {.shapes = {{2, 3, 4}, {4}}, .attributes = {{"approximate", "tanh"}}}, {.shapes = {{0, 3}, {3}}}};
        },
};

// ---- alibi_bias: attributes num_heads, query_length, key_length, dtype
double slope_of(std::int64_t head, std::int64_t heads) {
  const auto below = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(heads)));
  if (head < below) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(below));
  return std::exp2(-8.0 * static_cast<double>(2 * (head - below) + 1) / static_cast<double>(2 * below));
}
constexpr OpDef kAlibi{
    .name = "alibi_bias",
    .signature = "num_heads: int, query_length: int, key_length: int, dtype: dtype -> out",
    .shape =
        [](ShapeCall& s) {
          const Shape shape{s.attribute(0).as_int(), s.attribute(1).as_int(), s.attribute(2).as_int()};
          if (shape[0] < 1 || shape[1] < 0 || shape[2] < 0 || !info(s.attribute(3).as_dtype()).floating)
            s.fail("heads, lengths and a floating dtype are wanted (" + to_string(shape) + ", " + to_string(s.attribute(3).as_dtype()) + ")");
          s.output(0) = {.shape = shape, .dtype = s.attribute(3).as_dtype()};
        },
    .kernel =
        [](const KernelCall& c) {
          const Place& place = c.output_place(0);
          std::vector<double> slopes;
          local::for_each_number(ops::runs_of(place, 0), [&](std::int64_t head) { slopes.push_back(slope_of(head, place.global[0])); });
          std::vector<local::GlobalRun> queries = ops::runs_of(place, 1);
          for (local::GlobalRun& run : queries) run.begin += place.global[2] - place.global[1];
          const std::vector<local::GlobalRun> keys = ops::runs_of(place, 2);
          kernels::alibi_table({slopes, queries, keys}, c.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {}, .attributes = {{"num_heads", "4"}, {"query_length", "5"}, {"key_length", "7"}, {"dtype", "f32"}}},
              {.shapes = {}, .attributes = {{"num_heads", "5"}, {"query_length", "3"}, {"key_length", "3"}, {"dtype", "f64"}}}};
        },
};

// ---- bags: sum_bags, and embedding_bag as an expression of it
void check_bags(const ShapeCall& s, int input, int share) {
  const TensorType& x = s.input(input);
  if (x.shape.ndim() != 2 || (x.dtype != Dtype::i64 && x.dtype != Dtype::i32))
    s.fail("indices must be [bags, size] in i64 or i32 (" + s.describe(input) + ")");
  if (s.has_input(share) && s.input(share).shape != x.shape) s.fail("one weight per index is wanted (" + s.describe(share) + ")");
}
std::vector<DTensor> bag_gradient(const GradientCall& g);
const Tensor* optional_input(const KernelCall& c, int i) { return c.has_input(i) ? &c.input(i) : nullptr; }
constexpr OpDef kSumBags{
    .name = "embedding_bag",
    .signature = "input, weight, per_sample_weights? -> out",
    .rule = "b l, v d, b l -> b d  v: lookup; l: reduce(sum); bilinear 2 3",
    .saves = "input, weight, per_sample_weights",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_bags(s, 0, 2);
          const TensorType& w = s.input(1);
          if (w.shape.ndim() != 2 || !info(w.dtype).floating || (s.has_input(2) && s.input(2).dtype != w.dtype))
            s.fail("weight must be [rows, width], floating, of the dtype of per_sample_weights (" + s.describe(1) + ")");
          s.output(0) = {.shape = {s.input(0).shape[0], w.shape[1]}, .dtype = w.dtype};
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::sum_bags(ops::positions(c, 0, c.input_place(1), 0, "weight"), c.input(1), optional_input(c, 2), c.output(0));
        },
    .gradient = bag_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {7, 4}, {}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 7},
                                     {.shapes = {{2, 5}, {4, 3}, {2, 5}}, .dtypes = {Dtype::i32, Dtype::f32, Dtype::f32}, .index_limit = 4},
                                     {.shapes = {{0, 3}, {2, 3}, {}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 2}};
        },
};
constexpr OpDef kBagsToWeight{
    .name = "embedding_bag_weight_gradient",
    .signature = "grad_output, input, per_sample_weights?, *, num_embeddings: int -> grad_weight",
    .rule = "b d, b l, b l -> v d  b, l: reduce(sum); bilinear 1 3",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_bags(s, 1, 2);
          s.output(0) = {.shape = {s.attribute(0).as_int(), s.input(0).shape.back()}, .dtype = s.input(0).dtype};
        },
    .kernel =
        [](const KernelCall& c) {
          kernels::sum_bags_backward(ops::positions(c, 1, c.output_place(0), 0, "weight"), c.input(0), optional_input(c, 2), c.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 4}, {5, 3}, {5, 3}},
                                      .attributes = {{"num_embeddings", "7"}},
                                      .dtypes = {Dtype::f32, Dtype::i64, Dtype::f32},
                                      .index_limit = 7}};
        },
};
constexpr OpDef kBagDots{
    .name = "embedding_bag_share_gradient",
    .signature = "grad_output, input, weight -> grad_per_sample_weights",
    .rule = "b d, b l, v d -> b l  v: lookup; d: reduce(sum); bilinear 1 3",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_bags(s, 1, 3);
          s.output(0) = {.shape = s.input(1).shape, .dtype = s.input(0).dtype};
        },
    .kernel =
        [](const KernelCall& c) { kernels::bag_dots(ops::positions(c, 1, c.input_place(2), 0, "weight"), c.input(0), c.input(2), c.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 4}, {5, 3}, {7, 4}}, .dtypes = {Dtype::f32, Dtype::i64, Dtype::f32}, .index_limit = 7}};
        },
};
std::vector<DTensor> bag_gradient(const GradientCall& g) {
  const DTensor &up = g.grad_output(0), &share = g.inputs_[2];  // empty when absent
  return {DTensor(), g.needs(1) ? call(kBagsToWeight, {up, g.input(0), share ? Input(share) : Input()}, {g.input_type(1).shape[0]}) : DTensor(),
          g.needs(2) ? call(kBagDots, {up, g.input(0), g.input(1)}) : DTensor()};
}

// ---- grouped_mm
cpu::Groups groups_of(const KernelCall& c, int offs) { return {.ends = c.input(offs), .op = c.op_name}; }
void check_groups(const ShapeCall& s, int rows, int weight, int offs) {
  const TensorType &x = s.input(rows), &w = s.input(weight), &o = s.input(offs);
  if (x.shape.ndim() != 2 || !info(x.dtype).floating || w.dtype != x.dtype || w.shape.ndim() < 2)
    s.fail("floating operands of one dtype are wanted, the first [tokens, k] (" + s.describe(rows) + ", " + s.describe(weight) + ")");
  if (o.shape.ndim() != 1 || (o.dtype != Dtype::i64 && o.dtype != Dtype::i32) || (w.shape.ndim() == 3 && w.shape[0] != o.shape[0]))
    s.fail("offs must be [groups] in i64 or i32 (" + s.describe(offs) + ")");
}
std::vector<DTensor> product_gradient(const GradientCall& g);
// Attribute transposed: weight [groups, n, k].
constexpr OpDef kGroupedMm{
    .name = "grouped_mm",
    .signature = "input, weight, offs, transposed: bool = false -> out",
    .saves = "input, weight, offs",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_groups(s, 0, 1, 2);
          const Shape& w = s.input(1).shape;
          const bool transposed = s.attribute(0).as_bool();
          if (w.ndim() != 3 || w[transposed ? 2 : 1] != s.input(0).shape[1])
            s.fail("weight must be [groups, k, n] (" + s.describe(0) + ", " + s.describe(1) + ")");
          s.output(0) = {.shape = {s.input(0).shape[0], w[transposed ? 1 : 2]}, .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          return std::string("t k, e ") + (s.attribute(0).as_bool() ? "n k" : "k n") + ", e -> t n  k: reduce(sum); t, e: whole; bilinear 1 2";
        },
    .kernel = [](const KernelCall& c) { kernels::grouped_product(c.input(0), c.input(1), c.attribute(0).as_bool(), groups_of(c, 2), c.output(0)); },
    .gradient = product_gradient,
    .samples =
        [] {
          const std::vector<Dtype> dtypes{Dtype::f32, Dtype::f32, Dtype::i64};
          return std::vector<Sample>{{.shapes = {{5, 3}, {1, 3, 4}, {1}}, .dtypes = dtypes, .index_limit = 5},
                                     {.shapes = {{2, 3}, {1, 5, 3}, {1}}, .attributes = {{"transposed", "true"}}, .dtypes = dtypes, .index_limit = 2},
                                     {.shapes = {{0, 3}, {2, 3, 2}, {2}}, .dtypes = dtypes, .index_limit = 1}};
        },
};
constexpr OpDef kGroupedOuter{
    .name = "grouped_mm_weight_gradient",
    .signature = "input, grad_output, offs -> grad_weight",
    .saves = "input, grad_output, offs",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          check_groups(s, 0, 1, 2);
          s.output(0) = {.shape = {s.input(2).shape[0], s.input(0).shape[1], s.input(1).shape[1]}, .dtype = s.input(0).dtype};
        },
    .rule_for = [](const ShapeCall&) { return std::string("t k, t n, e -> e k n  t, e: whole; bilinear 1 2"); },
    .kernel = [](const KernelCall& c) { kernels::grouped_outer(c.input(0), c.input(1), groups_of(c, 2), c.output(0)); },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor& v = g.grad_output(0);
      return {g.needs(0) ? call(kGroupedMm, {g.input(1), v, g.input(2)}, {true}) : DTensor(),
              g.needs(1) ? call(kGroupedMm, {g.input(0), v, g.input(2)}, {false}) : DTensor(), DTensor()};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {5, 4}, {1}}, .dtypes = {Dtype::f32, Dtype::f32, Dtype::i64}, .index_limit = 5}};
        },
};
std::vector<DTensor> product_gradient(const GradientCall& g) {
  const DTensor& up = g.grad_output(0);
  const bool transposed = g.attribute(0).as_bool();
  const auto outer = [&] {
    return transposed ? call(kGroupedOuter, {up, g.input(0), g.input(2)}) : call(kGroupedOuter, {g.input(0), up, g.input(2)});
  };
  return {g.needs(0) ? call(kGroupedMm, {up, g.input(1), g.input(2)}, {!transposed}) : DTensor(), g.needs(1) ? outer() : DTensor(), DTensor()};
}

// ---- bags of any size: the rows of all bags, added or compared where their bag is
void ragged_shape(ShapeCall& s) {
  const TensorType &x = s.input(0), &w = s.input(1), &at = s.input(2);
  const auto is_index = [](const TensorType& t) { return t.shape.ndim() == 1 && (t.dtype == Dtype::i64 || t.dtype == Dtype::i32); };
  if (!is_index(x) || !is_index(at)) s.fail("indices and offsets must have one dim in i64 or i32 (" + s.describe(0) + ", " + s.describe(2) + ")");
  if (w.shape.ndim() != 2 || !info(w.dtype).floating || (s.has_input(3) && s.input(3).dtype != w.dtype))
    s.fail("weight must be [rows, width], floating, of the dtype of per_sample_weights (" + s.describe(1) + ")");
  if (s.has_input(3) && s.input(3).shape != x.shape) s.fail("one weight per index is wanted (" + s.describe(3) + ")");
  const std::string_view mode = s.attribute(0).as_text();
  if (mode != "sum" && mode != "mean" && mode != "max") s.fail("mode must be sum, mean or max ('" + std::string(mode) + "' given)");
  if (s.has_input(3) && mode != "sum") s.fail("per_sample_weights scale a sum only; use mode sum");
  const std::int64_t bags = at.shape[0] - (s.attribute(1).as_bool() ? 1 : 0);
  if (bags < 0) s.fail("offsets with the last one have an element at least (" + s.describe(2) + ")");
  s.output(0) = {.shape = {bags, w.shape[1]}, .dtype = w.dtype};
}
std::vector<DTensor> ragged_bags(const DecomposeCall& c) {
  const DTensor &x = c.input(0), &weight = c.input(1), &offsets = c.input(2);
  const std::string_view mode = c.attribute(0).as_text();
  const std::int64_t bags = offsets.shape()[0] - (c.attribute(1).as_bool() ? 1 : 0), width = weight.shape()[1];
  const DTensor starts = narrow(offsets, 0, 0, bags), places = arange(0, x.numel(), 1, x.mesh(), x.placements(), {.dtype = offsets.dtype()});
  const DTensor bag = sub(searchsorted(starts, places, {.right = true}), 1);
  const bool padded = !c.attribute(2).is_none();
  const std::int64_t padding = padded ? c.attribute(2).as_int() + (c.attribute(2).as_int() < 0 ? weight.shape()[0] : 0) : 0;
  DTensor rows = embedding(x, weight);
  if (c.has_input(3)) rows = mul(rows, unsqueeze(c.input(3), 1));
  if (padded) rows = masked_fill(rows, unsqueeze(eq(x, padding), 1), mode == "max" ? -std::numeric_limits<double>::infinity() : 0.0);
  const TensorOptions like{.dtype = weight.dtype()};
  if (mode == "sum") return {index_add(zeros({bags, width}, x.mesh(), {}, like), 0, bag, rows)};
  const DTensor counted = padded ? ne(x, padding).to(Dtype::i64) : full_like(x, 1).to(Dtype::i64);
  const DTensor count = unsqueeze(index_add(zeros({bags}, x.mesh(), {}, {.dtype = Dtype::i64}), 0, bag, counted), 1);
  if (mode == "mean")
    return {div(index_add(zeros({bags, width}, x.mesh(), {}, like), 0, bag, rows), clamp(count, {.min = 1, .max = {}}).to(weight.dtype()))};
  const DTensor least = full({bags, width}, -std::numeric_limits<double>::infinity(), x.mesh(), {}, like);
  return {where(eq(count, 0), 0, scatter_reduce(least, 0, expand(unsqueeze(bag, 1), rows.shape()), rows, "amax"))};
}
constexpr OpDef kRaggedBags = ops::composite(
    "embedding_bag.offsets",
    "input, weight, offsets, per_sample_weights?, *, mode: text = mean, include_last_offset: bool = false, padding_idx: int? = none -> out", "",
    ragged_shape, ragged_bags, [] {
      // All indices and offsets are 0: the last bag has them all.
      const std::vector<Dtype> dtypes{Dtype::i64, Dtype::f32, Dtype::i64, Dtype::f32};
      return std::vector<Sample>{
          {.shapes = {{5}, {3, 4}, {3}, {5}}, .attributes = {{"mode", "sum"}}, .dtypes = dtypes, .index_limit = 1},
          {.shapes = {{7}, {1, 4}, {2}, {}}, .dtypes = dtypes, .index_limit = 1},
          {.shapes = {{4}, {2, 3}, {3}, {}}, .attributes = {{"mode", "max"}, {"padding_idx", "1"}}, .dtypes = dtypes, .index_limit = 1}};
    });
constexpr std::array<const OpDef*, 9> kOps{&kRaggedBags,   &kBiasGelu, &kBiasGeluBackward, &kAlibi,       &kSumBags,
                                           &kBagsToWeight, &kBagDots,  &kGroupedMm,        &kGroupedOuter};

}  // namespace

namespace ops {
OpList transformer_ops() { return kOps; }
}  // namespace ops

DTensor bias_gelu(const DTensor& input, const DTensor& bias, std::string_view approximate) { return call(kBiasGelu, {input, bias}, {approximate}); }

DTensor alibi_bias(std::int64_t num_heads, std::int64_t query_length, std::int64_t key_length, const DeviceMesh& mesh, const Placements& placements,
                   const TensorOptions& options) {
  const std::array<Attribute, 4> attributes{Attribute(num_heads), Attribute(query_length), Attribute(key_length), Attribute(options.dtype)};
  return call_on(kAlibi, mesh, placements, options.device.value_or(base::require_rank("alibi_bias").device), attributes);
}

namespace {
void check_mode(const EmbeddingBagOptions& o, bool scaled) {
  if (o.mode != "sum" && o.mode != "mean" && o.mode != "max")
    throw InvalidArgument("embedding_bag: mode must be sum, mean or max ('" + std::string(o.mode) + "' given)");
  if (scaled && o.mode != "sum") throw InvalidArgument("embedding_bag: per_sample_weights scale a sum only; use mode sum");
}
}  // namespace

DTensor embedding_bag(const DTensor& input, const DTensor& weight, const EmbeddingBagOptions& o, const DTensor& per_sample_weights) {
  check_mode(o, static_cast<bool>(per_sample_weights));
  if (o.padding_idx && input.ndim() == 2) {
    const DTensor starts = mul(arange(input.shape()[0], input.mesh(), {}, {.dtype = Dtype::i64}), input.shape()[1]);
    EmbeddingBagOptions flat = o;
    flat.include_last_offset = false;
    return embedding_bag(flatten(input), weight, starts, flat, per_sample_weights ? flatten(per_sample_weights) : DTensor());
  }
  if (o.mode == "max") return amax(embedding(input, weight), 1);
  const DTensor total = call(kSumBags, {input, weight, per_sample_weights ? Input(per_sample_weights) : Input()});
  return o.mode == "sum" ? total : div(total, static_cast<double>(std::max<std::int64_t>(1, input.shape()[1])));
}

DTensor embedding_bag(const DTensor& input, const DTensor& weight, const DTensor& offsets, const EmbeddingBagOptions& o,
                      const DTensor& per_sample_weights) {
  check_mode(o, static_cast<bool>(per_sample_weights));
  const auto padding = o.padding_idx ? Attribute(*o.padding_idx) : Attribute();
  return call(kRaggedBags, {input, weight, offsets, per_sample_weights ? Input(per_sample_weights) : Input()},
              {o.mode, o.include_last_offset, padding});
}

DTensor grouped_mm(const DTensor& input, const DTensor& weight, const DTensor& offs) { return call(kGroupedMm, {input, weight, offs}, {false}); }

Dispatched moe_dispatch(const DTensor& input, const DTensor& expert, std::int64_t num_experts) {
  if (expert.ndim() != 2 || input.ndim() != 2 || expert.shape()[0] != input.shape()[0] || num_experts < 1)
    throw InvalidArgument("moe_dispatch: input [tokens, width] and expert [tokens, k] are wanted (" + to_string(input.shape()) + ", " +
                          to_string(expert.shape()) + ", " + std::to_string(num_experts) + " experts)");
  const ValuesAndIndices sorted = sort(flatten(expert), 0, {.stable = true});
  const DTensor experts = arange(num_experts, input.mesh(), {}, {.dtype = expert.dtype()});
  const DTensor source = div(sorted.indices, std::max<std::int64_t>(1, expert.shape()[1]), {.rounding_mode = "floor"});
  return {index_select(input, 0, source), searchsorted(sorted.values, experts, {.right = true}), sorted.indices};
}
DTensor moe_combine(const DTensor& rows, const DTensor& order, const DTensor& weights) {
  if (weights.ndim() != 2 || rows.ndim() != 2 || order.shape() != Shape{rows.shape()[0]} || weights.numel() != rows.shape()[0])
    throw InvalidArgument("moe_combine: rows [tokens * k, width], order [tokens * k] and weights [tokens, k] are wanted (" + to_string(rows.shape()) +
                          ", " + to_string(order.shape()) + ", " + to_string(weights.shape()) + ")");
  const DTensor share = index_select(flatten(weights), 0, order);
  const DTensor token = div(order, std::max<std::int64_t>(1, weights.shape()[1]), {.rounding_mode = "floor"});
  const DTensor none = zeros({weights.shape()[0], rows.shape()[1]}, rows.mesh(), {}, {.dtype = rows.dtype()});
  return index_add(none, 0, token, mul(rows, unsqueeze(share, 1)));
}

}  // namespace dtensor
