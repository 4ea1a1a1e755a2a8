// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/attention.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/views.h"
#include "local/kernels/attention.h"
#include "ops/attention_call.h"
#include "ops/attention_scores.h"
#include "ops/families.h"
#include "ops/ring_attention.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

using ops::group_of;
using ops::LocalAttention;
using Positions = ops::AttentionPositions;

enum AttributePosition { kIsCausal, kScale, kEnableGqa, kCausalOffset };
constexpr Positions kForward{0, 1, 2, 3, kIsCausal, kScale, kCausalOffset};
constexpr Positions kReverse{3, 4, 5, 6, kIsCausal, kScale, kCausalOffset};  // after grad, out, logsumexp

// Shape rules.
void check_mask(const ShapeCall& s, const Positions& p) {
  const TensorType &q = s.input(p.query), &k = s.input(p.key), &m = s.input(p.mask);
  const Shape scores{q.shape[0], q.shape[1], q.shape[2], k.shape[2]};
  bool fits = m.shape.ndim() <= 4;
  for (int d = 0; fits && d < m.shape.ndim(); ++d) fits = m.shape[d] == 1 || m.shape[d] == scores[d + 4 - m.shape.ndim()];
  if (!fits) s.fail(fmt::format("{} does not broadcast to the scores {}; reshape or expand it", s.describe(p.mask), to_string(scores)));
  if (m.dtype != Dtype::boolean && !info(m.dtype).floating)
    s.fail(fmt::format("the mask must be bool or floating ({}); convert it with to()", s.describe(p.mask)));
  if (s.attribute(kIsCausal).as_bool())
    s.fail(fmt::format("attn_mask and is_causal exclude each other ({}, is_causal true); put the causal part into the mask", s.describe(p.mask)));
}

void check_operands(const ShapeCall& s, const Positions& p) {
  for (int i : {p.query, p.key, p.value}) {
    if (s.input(i).shape.ndim() != 4)
      s.fail(fmt::format("four dims are wanted, [batch, heads, length, width] ({}); unsqueeze or reshape it", s.describe(i)));
    if (s.input(i).dtype != s.input(p.query).dtype)
      s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(p.query), s.describe(i)));
    if (!info(s.input(i).dtype).floating) s.fail(fmt::format("a floating dtype is wanted ({}); convert it with to()", s.describe(i)));
  }
  const Shape &q = s.input(p.query).shape, &k = s.input(p.key).shape, &v = s.input(p.value).shape;
  const auto differ = [&](const char* what, int a, int b) { s.fail(fmt::format("{} differ ({}, {})", what, s.describe(a), s.describe(b))); };
  if (q[0] != k[0]) differ("batch sizes", p.query, p.key);
  if (q[0] != v[0]) differ("batch sizes", p.query, p.value);
  if (q[3] != k[3]) differ("widths of query and key", p.query, p.key);
  if (k[1] != v[1]) differ("heads of key and value", p.key, p.value);
  if (k[2] != v[2]) differ("lengths of key and value", p.key, p.value);
  if (q[1] != k[1] && (!s.attribute(kEnableGqa).as_bool() || k[1] == 0 || q[1] % k[1] != 0))
    s.fail(fmt::format("heads of query and key do not fit ({}, {}, enable_gqa {}); with enable_gqa the first must be a multiple of the second",
                       s.describe(p.query), s.describe(p.key), s.attribute(kEnableGqa).as_bool()));
  if (s.has_input(p.mask)) check_mask(s, p);
}

Dtype sum_type(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

void attention_shape(ShapeCall& s) {
  check_operands(s, kForward);
  const TensorType q = s.input(0);
  s.output(0) = {.shape = {q.shape[0], q.shape[1], q.shape[2], s.input(2).shape[3]}, .dtype = q.dtype};
  s.output(1) = {.shape = {q.shape[0], q.shape[1], q.shape[2]}, .dtype = sum_type(q.dtype)};
}

void backward_shape(ShapeCall& s) {
  check_operands(s, kReverse);
  for (int i = 0; i < 3; ++i) s.output(i) = s.input(kReverse.query + i);
}

// Sharding rules. `q`, `kv`: how the head dims are written.
std::string mask_operand(const ShapeCall& s, int mask, const char* head) {
  if (!s.has_input(mask)) return "()";
  const std::array<const char*, 4> names{"b", head, "t", "s"};
  const Shape& m = s.input(mask).shape;
  std::string text;
  for (int d = 0; d < m.ndim(); ++d)
    text += fmt::format("{}{}", d == 0 ? "" : " ", m[d] == 1 ? "1" : names[static_cast<std::size_t>(d + 4 - m.ndim())]);
  return text.empty() ? "()" : text;
}

std::string forward_strategy(const ShapeCall& s, const char* q, const char* kv, const std::string& window = "") {
  return fmt::format("b {0} t d, b {1} s d, b {1} s e, {2} -> b {0} t e, b {0} t    s, d, e: whole{3}", q, kv, mask_operand(s, kForward.mask, q),
                     window);
}
// Where chunks of query heads do not meet chunks of key heads, each rank fetches the key heads that its query heads read.
std::string head_window(std::int64_t group) { return fmt::format("; k: window(h / {})", group); }
std::string attention_rule(const ShapeCall& s) {
  const std::int64_t group = group_of(s.input(0).shape, s.input(1).shape);
  if (group == 1) return forward_strategy(s, "h", "h") + " | " + forward_strategy(s, "h", "1");
  return forward_strategy(s, "h", "k", head_window(group));
}

// Key and value gradients lack the factors in `sums`: they are Partial where those are split.
std::string backward_strategy(const ShapeCall& s, const char* q, const char* kv, const char* grad, const char* sums, const std::string& window = "") {
  return fmt::format(
      "b {0} t e, b {0} t e, b {0} t, b {0} t d, b {1} s d, b {1} s e, {2} -> b {0} t d, b {3} s d, b {3} s e    s, d, e: whole; {4}: reduce(sum); "
      "linear 1{5}",
      q, kv, mask_operand(s, kReverse.mask, q), grad, sums, window);
}
std::string backward_rule(const ShapeCall& s) {
  const std::int64_t group = group_of(s.input(kReverse.query).shape, s.input(kReverse.key).shape);
  if (group == 1) return backward_strategy(s, "h", "h", "h", "t") + " | " + backward_strategy(s, "h", "1", "1", "t, h");
  return backward_strategy(s, "(k g)", "k", "k", "t, g") + " | " + backward_strategy(s, "h", "k", "1", "t, h", head_window(group));
}

// Kernels.
void attention_kernel(const KernelCall& k) {
  const LocalAttention local(k, kForward);
  local::kernels::attention(local.call, k.output(0), k.output(1));
}

void backward_kernel(const KernelCall& k) {
  LocalAttention local(k, kReverse);
  local.call.whole_rows = true;
  const Tensor &key = k.output(1), &value = k.output(2);
  if (key.shape()[1] == local.call.key.shape()[1]) {
    local::kernels::attention_backward(local.call, k.input(0), k.input(1), k.input(2), {k.output(0), key, value});
    return;
  }
  // Some key heads are here; what this rank adds to the gradient of the others is zero.
  const Tensor some_keys = Tensor::empty(local.call.key.shape(), key.dtype(), key.device()),
               some_values = Tensor::empty(local.call.value.shape(), value.dtype(), value.device());
  local::kernels::attention_backward(local.call, k.input(0), k.input(1), k.input(2), {k.output(0), some_keys, some_values});
  key.fill_(0);
  value.fill_(0);
  for (std::size_t i = 0; i < local.key_heads.size(); ++i) {
    const std::int64_t from = static_cast<std::int64_t>(i), to = k.output_place(1).to_local(1, local.key_heads[i]);
    key.narrow(1, to, 1).copy_(some_keys.narrow(1, from, 1));
    value.narrow(1, to, 1).copy_(some_values.narrow(1, from, 1));
  }
}

// Gradient.
std::vector<Sample> backward_samples() { return {}; }
constexpr OpDef kWholeBackward{
    .name = "scaled_dot_product_attention_backward",
    .signature =
        "grad, out, logsumexp, query, key, value, attn_mask?, *, is_causal: bool = false, scale: float? = none, enable_gqa: bool = false, "
        "causal_offset: number = 0"
        " -> grad_query, grad_key, grad_value",
    .shape = backward_shape,
    .rule_for = backward_rule,
    .kernel = backward_kernel,
    .samples = backward_samples,
};

// Distributed forms, for keys that are split along the sequence. With a mask their lengths are gathered as the rule says.
ops::RingAttention ring_options(const DecomposeCall& c) {
  return {c.attribute(kIsCausal).as_bool(), c.attribute(kScale), c.attribute(kCausalOffset).as_int()};
}
Results call_whole(const OpDef& op, const DecomposeCall& c) {
  const std::vector<Input> inputs(c.inputs.begin(), c.inputs.end());
  return call_all(op, inputs, c.attributes);
}
// Where axes that split widths go: the batch, or the heads, where that gives every rank some; -1: nowhere, as they split something else, too.
int instead_of_width(std::span<const DTensor* const> operands, int axis) {
  const placements::Layout& first = *operands[0]->impl()->spec->layout;
  const std::int64_t ranks = first.mesh_sizes[static_cast<std::size_t>(axis)];
  bool found = false, batch = true, heads = true;
  for (const DTensor* t : operands) {
    const placements::Layout& layout = *t->impl()->spec->layout;
    const int dim = layout.dim_of(axis);
    if (dim >= 0 && dim != 3) return -1;
    found = found || dim == 3;
    for (const placements::Split& s : layout.dims[3])
      if (s.axes.size() > 1) return -1;
    batch = batch && layout.dims[0].empty() && t->size(0) >= ranks;
    heads = heads && layout.dims[1].empty() && t->size(1) % ranks == 0 && t->size(1) > 0;
  }
  return !found || ranks == 1 ? -1 : batch ? 0 : heads ? 1 : -1;
}
// Inputs `query` to `query` + 2 with axes that split their widths splitting their batches or heads instead: one exchange each; nothing where none can.
std::vector<DTensor> with_whole_widths(const OpDef& op, const DecomposeCall& c, int query) {
  std::vector<DTensor> result;
  for (int i = 0; i < 3; ++i) result.push_back(c.input(query + i));
  bool any = false;
  for (int axis = 0; axis < result[0].impl()->spec->layout->mesh_ndim(); ++axis) {
    const std::array<const DTensor*, 3> operands{&result[0], &result[1], &result[2]};
    const int dim = instead_of_width(operands, axis);
    if (dim < 0) continue;
    any = true;
    const tensor::Inserted inserted(op.name);
    for (DTensor& t : result) {
      placements::Layout to = *t.impl()->spec->layout;
      std::erase_if(to.dims[3], [axis](const placements::Split& s) { return s.axes[0] == axis; });
      to.partial[static_cast<std::size_t>(axis)].reset();
      to.dims[static_cast<std::size_t>(dim)].push_back({{axis}, 1, {}});
      t = tensor::redistribute_to(t, placements::intern(to));
    }
  }
  return any ? result : std::vector<DTensor>();
}
Results call_with(const OpDef& op, const DecomposeCall& c, int query, std::span<const DTensor> moved) {
  std::vector<Input> inputs(c.inputs.begin(), c.inputs.end());
  for (std::size_t i = 0; i < moved.size(); ++i) inputs[static_cast<std::size_t>(query) + i] = moved[i];
  return call_all(op, inputs, c.attributes);
}
constexpr OpDef with_split_form(OpDef op, std::vector<DTensor> (*decompose)(const DecomposeCall&)) {
  op.decompose = decompose;
  return op;
}

extern const OpDef kBackward, kAttention;
Results split_backward(const DecomposeCall& c) {
  if (const auto moved = with_whole_widths(kWholeBackward, c, kReverse.query); !moved.empty()) return call_with(kBackward, c, kReverse.query, moved);
  if (c.has_input(kReverse.mask)) return call_whole(kWholeBackward, c);
  const auto operands = ops::arrange_attention(kWholeBackward.name, c.input(kReverse.query), c.input(kReverse.key), c.input(kReverse.value));
  if (!operands.split) return call_whole(kWholeBackward, c);
  return ops::ring_attention_backward(c.input(0), c.input(1), c.input(2), operands, ring_options(c));
}
constexpr OpDef kBackward = with_split_form(kWholeBackward, split_backward);

std::vector<DTensor> attention_gradient(const GradientCall& g) {
  if (g.needs(3))
    throw Unsupported(
        "scaled_dot_product_attention: attn_mask gets no gradient (requires_grad is set); detach it, or write the attention with matmul and softmax");
  const DTensor mask = g.inputs_.size() > 3 ? g.inputs_[3] : DTensor();
  const std::array<Input, 7> inputs{g.grad_output(0), g.output(0), g.output(1), g.input(0), g.input(1), g.input(2), mask};
  const std::array<Attribute, 4> attributes{g.attribute(0), g.attribute(1), g.attribute(2), g.attribute(3)};
  Results grads = call_all(kBackward, inputs, attributes);
  grads.emplace_back();
  for (int i = 0; i < 3; ++i)
    if (!g.needs(i)) grads[static_cast<std::size_t>(i)] = DTensor();
  return grads;
}

std::vector<Sample> attention_samples() {
  return {{.shapes = {{2, 4, 5, 3}, {2, 4, 5, 3}, {2, 4, 5, 3}, {}}, .attributes = {{"is_causal", "true"}}},
          {.shapes = {{1, 6, 5, 4}, {1, 2, 7, 4}, {1, 2, 7, 3}, {}}, .attributes = {{"enable_gqa", "true"}, {"scale", "0.7"}}},
          {.shapes = {{2, 4, 3, 2}, {2, 2, 5, 2}, {2, 2, 5, 2}, {}},
           .attributes = {{"enable_gqa", "true"}, {"is_causal", "true"}, {"causal_offset", "2"}}},
          {.shapes = {{1, 2, 3, 2}, {1, 2, 5, 2}, {1, 2, 5, 2}, {3, 5}}, .dtypes = {Dtype::f32, Dtype::f32, Dtype::f32, Dtype::boolean}},
          {.shapes = {{2, 3, 0, 2}, {2, 3, 4, 2}, {2, 3, 4, 2}, {}}},
          {.shapes = {{2, 1, 3, 2}, {2, 1, 0, 2}, {2, 1, 0, 2}, {}}}};
}
constexpr OpDef kWholeAttention{
    .name = "scaled_dot_product_attention",
    .signature =
        "query, key, value, attn_mask?, *, is_causal: bool = false, scale: float? = none, enable_gqa: bool = false, causal_offset: number = 0 -> "
        "out, logsumexp",
    .saves = "query, key, value, attn_mask, out, logsumexp",
    .shape = attention_shape,
    .rule_for = attention_rule,
    .kernel = attention_kernel,
    .gradient = attention_gradient,
    .samples = attention_samples,
    .reasons = "widths are whole; with a mask the key length is, too; value may be Partial in exact arithmetic only",
};

Results split_attention(const DecomposeCall& c) {
  if (const auto moved = with_whole_widths(kWholeAttention, c, 0); !moved.empty()) return call_with(kAttention, c, 0, moved);
  if (c.has_input(kForward.mask)) return call_whole(kWholeAttention, c);
  const auto operands = ops::arrange_attention(kWholeAttention.name, c.input(0), c.input(1), c.input(2));
  if (!operands.split) return call_whole(kWholeAttention, c);
  return ops::ring_attention(operands, ring_options(c));
}
constexpr OpDef kAttention = with_split_form(kWholeAttention, split_attention);

}  // namespace

namespace {

// All dims before the last three as one.
DTensor with_joined_batch(const DTensor& query, const DTensor& key, const DTensor& value, const AttentionOptions& o) {
  const int joined = query.ndim() - 3;
  const auto join = [joined](const DTensor& x) { return flatten(x, 0, joined - 1); };
  AttentionOptions inner = o;
  if (o.attn_mask && o.attn_mask.ndim() > 3) {
    Shape whole;
    for (int d = 0; d < joined; ++d) whole.push_back(query.size(d));
    for (int d = -3; d < 0; ++d) whole.push_back(o.attn_mask.size(o.attn_mask.ndim() + d));
    inner.attn_mask = join(expand(o.attn_mask, whole));
  }
  return reshape(scaled_dot_product_attention(join(query), join(key), join(value), inner), [&] {
    Shape shape = query.shape();
    shape[shape.ndim() - 1] = value.size(value.ndim() - 1);
    return shape;
  }());
}

}  // namespace

namespace {
// The tensors with their dims before the last two broadcast (the heads not, where groups of them share keys); none where they agree, or cannot.
std::vector<DTensor> broadcast_leading(const std::array<const DTensor*, 3>& tensors, bool grouped) {
  int ndim = 4;
  for (const DTensor* t : tensors) ndim = std::max(ndim, t->ndim());
  const int lead = ndim - (grouped ? 3 : 2);
  Shape common = Shape::filled(lead, 1);
  bool differ = false;
  for (const DTensor* t : tensors)
    for (int d = 0; d < lead; ++d) {
      const int at = d - (ndim - t->ndim());
      const std::int64_t n = at < 0 ? 1 : t->shape()[at];
      if (n != 1 && common[d] != 1 && n != common[d]) return {};
      if (n != 1) common[d] = n;
    }
  std::vector<DTensor> result;
  for (const DTensor* t : tensors) {
    if (t->ndim() < 3) return {};
    DTensor wide = *t;
    while (wide.ndim() < ndim) wide = unsqueeze(wide, 0);
    Shape shape = wide.shape();
    for (int d = 0; d < lead; ++d) shape[d] = common[d];
    differ = differ || shape != t->shape();
    result.push_back(shape == wide.shape() ? wide : expand(wide, shape));
  }
  return differ ? result : std::vector<DTensor>();
}
}  // namespace

DTensor scaled_dot_product_attention(const DTensor& query, const DTensor& key, const DTensor& value, const AttentionOptions& o) {
  const Attribute scale = o.scale ? Attribute(*o.scale) : Attribute();
  const std::array<Attribute, 4> attributes{o.is_causal, scale, o.enable_gqa, o.causal_offset};
  if (const int ndim = query.ndim(); (ndim == 2 || ndim == 3) && key.ndim() == ndim && value.ndim() == ndim) {
    AttentionOptions inner = o;
    if (o.attn_mask && o.attn_mask.ndim() > 2 && ndim == 3) inner.attn_mask = unsqueeze(o.attn_mask, 0);
    return squeeze(scaled_dot_product_attention(unsqueeze(query, 0), unsqueeze(key, 0), unsqueeze(value, 0), inner), 0);
  }
  if (const std::vector<DTensor> t = broadcast_leading({&query, &key, &value}, o.enable_gqa); !t.empty())
    return scaled_dot_product_attention(t[0], t[1], t[2], o);
  if (query.ndim() > 4 && key.ndim() == query.ndim() && value.ndim() == query.ndim()) return with_joined_batch(query, key, value, o);
  if (o.dropout_p == 0 && !(o.attn_mask && o.attn_mask.requires_grad()))
    return call(kAttention, {query, key, value, o.attn_mask}, {attributes[0], attributes[1], attributes[2], attributes[3]});
  std::vector<TensorType> types;
  for (const DTensor* t : {&query, &key, &value}) types.push_back({t->shape(), t->dtype()});
  types.push_back(o.attn_mask ? TensorType{o.attn_mask.shape(), o.attn_mask.dtype()} : TensorType{});
  ShapeCall checked(kAttention, types, {true, true, true, static_cast<bool>(o.attn_mask)}, attributes);
  kAttention.shape(checked);
  return ops::attention_with_scores(query, key, value, o);
}

namespace ops {
OpList attention_ops() {
  static constexpr std::array<const OpDef*, 2> kOps{&kAttention, &kBackward};
  return kOps;
}
}  // namespace ops

}  // namespace dtensor
