// SPDX-License-Identifier: Apache-2.0
#include "ops/ring_attention.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/error_text.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/softmax.h"
#include "dtensor/ops/views.h"
#include "local/kernels/attention.h"
#include "local/kernels/binary.h"
#include "ops/attention_call.h"
#include "ops/permute_parts.h"
#include "ops/reduction_rules.h"
#include "redistribute/plan/route.h"
#include "tensor/impl.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

using placements::Layout;
using placements::LayoutRef;
using tensor::Spec;
using tensor::SpecRef;

constexpr int kBatch = 0, kHeads = 1, kLength = 2, kWidth = 3;

const Spec& spec_of(const DTensor& t) { return *t.impl()->spec; }
Dtype sum_type(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

// ---- Operands.

// `dims[a]`: the dimension that axis a shall split, or -1. What is there already stays.
Layout with_dims(const Layout& layout, const std::vector<int>& dims) {
  Layout to;
  to.mesh_sizes = layout.mesh_sizes;
  to.dims.resize(layout.dims.size());
  to.partial.resize(layout.partial.size());
  std::vector<bool> placed(dims.size());
  for (std::size_t d = 0; d < layout.dims.size(); ++d)
    for (const placements::Split& s : layout.dims[d]) {
      const auto stays = [&](int a) { return dims[static_cast<std::size_t>(a)] == static_cast<int>(d); };
      if (!std::all_of(s.axes.begin(), s.axes.end(), stays)) continue;
      to.dims[d].push_back(s);
      for (const int a : s.axes) placed[static_cast<std::size_t>(a)] = true;
    }
  for (std::size_t a = 0; a < dims.size(); ++a)
    if (dims[a] >= 0 && !placed[a]) to.dims[static_cast<std::size_t>(dims[a])].push_back({{static_cast<int>(a)}, 1, {}});
  return to;
}

DTensor moved(std::string_view op, const DTensor& x, const Layout& layout) {
  const Spec& spec = spec_of(x);
  const LayoutRef to = placements::intern(layout);
  if (to == spec.layout) return x;
  const tensor::Inserted inserted(op);
  return x.redistribute(placements::to_placements(*to, spec.mesh.names()));
}

// What an axis splits of the query and of keys and values, from what it splits now.
std::pair<int, int> axis_dims(int query, int key) {
  if (query == kBatch || query == kHeads) return {query, query};
  if (query == kLength) return {query, key < 0 ? key : kLength};
  return {key == kLength ? -1 : key, key};
}

// Whether the query heads of every rank read exactly the key heads that it has.
bool heads_meet(const Layout& query, std::int64_t heads, const Layout& key, std::int64_t key_heads) {
  const std::int64_t group = key_heads == 0 ? 1 : heads / key_heads;
  for (const placements::Split& s : query.dims[kHeads])
    if (!s.sizes.empty() && group != 1) return false;
  const std::vector<int> axes = ops::part_axes(query, kHeads);
  const Shape start = Shape::filled(query.mesh_ndim(), 0);
  for (int part = 0; part < ops::part_count(query, axes); ++part) {
    const Shape at = ops::coordinates_of_part(query, axes, part, start);
    std::vector<placements::Run> runs = placements::owned_runs(key, kHeads, key_heads, at);
    for (placements::Run& r : runs) r = {r.begin * group, r.length * group};
    if (runs != placements::owned_runs(query, kHeads, heads, at)) return false;
  }
  return true;
}

// ---- One step: the queries against one block.

// Axes that split the keys and leave the query as it is: there the ranks' results differ.
std::vector<int> shared_query_axes(const Layout& query, const Layout& key) {
  std::vector<int> axes = ops::part_axes(key, kLength);
  std::erase_if(axes, [&](int a) { return query.dim_of(a) >= 0 || query.mesh_sizes[static_cast<std::size_t>(a)] == 1; });
  return axes;
}

void add_kernel(PlanBuilder& b, std::span<const SpecRef> results, std::span<const int> aliases) {
  tensor::KernelStep& k = b.plan->kernel;
  k.device = results[0]->device;
  for (std::size_t i = 0; i < b.inputs.size(); ++i) {
    k.inputs.push_back(b.inputs[i] ? static_cast<int>(i) : -1);
    k.places.push_back(b.inputs[i] ? tensor::place_of(*b.inputs[i]) : Place());
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (aliases[i] >= 0) k.written.push_back(aliases[i]);
    k.shapes.push_back(results[i]->local_shape);
    k.places.push_back(tensor::place_of(*results[i]));
    b.plan->outputs.push_back({results[i], b.new_slot(), aliases[i]});
  }
  if (results[0]->inside) b.plan->steps.push_back({tensor::StepKind::kernel, -1, -1, 0});
}

// Numbers of the keys of a block: those of its own place, or, for parts that were taken, as `runs` (begin, length, ...) names them in their order.
std::vector<local::GlobalRun> columns_of(const Place& key, std::span<const std::int64_t> runs) {
  std::vector<local::GlobalRun> columns = ops::runs_of(key, kLength);
  if (runs.empty()) return columns;
  const std::int64_t first = key.begin(kLength);
  std::int64_t left = local::length_of(columns), at = 0;
  columns.clear();
  for (std::size_t k = 0; k + 1 < runs.size() && left > 0; k += 2) {
    const std::int64_t skipped = std::max<std::int64_t>(0, first - at), length = std::min(runs[k + 1] - skipped, left);
    at += runs[k + 1];
    if (length <= 0) continue;
    columns.push_back({runs[k] + skipped, length});
    left -= length;
  }
  return columns;
}

// ---- attention_step: columns, is_causal, scale, causal_offset, last
constexpr ops::AttentionPositions kStepPositions{0, 1, 2, -1, 1, 2, 3};

void plan_step(PlanBuilder& b) {
  const Spec &q = *b.inputs[0], &k = *b.inputs[1];
  const std::vector<int> apart = shared_query_axes(*q.layout, *k.layout);
  Layout layout = *q.layout;
  layout.dims.pop_back();
  Shape shape{q.shape[0], q.shape[1], q.shape[2]};
  if (!apart.empty()) {
    // A leading dimension with one result per rank.
    placements::Splits splits;
    for (const int a : apart) splits.push_back({{a}, 1, {}});
    layout.dims.insert(layout.dims.begin(), splits);
    shape = {ops::part_count(layout, apart), q.shape[0], q.shape[1], q.shape[2]};
  }
  const Dtype sums = sum_type(q.dtype);
  const SpecRef lse = tensor::intern_spec(q.mesh, placements::intern(layout), shape, sums, q.device);
  layout.dims.emplace_back();
  shape.push_back(b.inputs[2]->shape[kWidth]);
  const Dtype dtype = b.attributes[4].as_bool() && apart.empty() ? q.dtype : sums;
  const std::array<SpecRef, 2> results{tensor::intern_spec(q.mesh, placements::intern(layout), shape, dtype, q.device), lse};
  add_kernel(b, results, std::array{-1, -1});
}

void step_kernel(const KernelCall& k) {
  ops::LocalAttention local(k, kStepPositions);
  const std::vector<local::GlobalRun> columns = columns_of(k.input_place(1), k.attribute(0).as_list());
  local.call.columns = columns;
  if (k.has_input(3)) {
    local.call.out = k.input(3);
    local.call.logsumexp = k.input(4);
  }
  local::kernels::attention(local.call, k.output(0), k.output(1));
}

constexpr OpDef kStep{
    .name = "attention_step",
    .signature =
        "query, key, value, out?, logsumexp?, *, columns: int[], is_causal: bool, scale: float?, causal_offset: number, last: bool"
        " -> sum, sum_logsumexp",
    .kernel = step_kernel,
    .plan = plan_step,
};

// ---- attention_step_backward: columns, is_causal, scale, causal_offset. grad_query is added to in place.
constexpr ops::AttentionPositions kReversePositions{3, 4, 5, -1, 1, 2, 3};

LayoutRef with_sums(const Layout& layout, const Layout& other) {
  Layout to = layout;
  for (int a = 0; a < layout.mesh_ndim(); ++a)
    if (layout.dim_of(a) < 0 && other.dim_of(a) >= 0) to.partial[static_cast<std::size_t>(a)] = ReduceOp::sum;
  return placements::intern(std::move(to));
}

void plan_step_backward(PlanBuilder& b) {
  const Spec &q = *b.inputs[3], &k = *b.inputs[4], &v = *b.inputs[5];
  const Dtype sums = sum_type(q.dtype);
  const LayoutRef keys = with_sums(*k.layout, *q.layout);
  const SpecRef query = b.inputs[6] ? b.inputs[6] : tensor::intern_spec(q.mesh, with_sums(*q.layout, *k.layout), q.shape, sums, q.device);
  const std::array<SpecRef, 3> results{query, tensor::intern_spec(q.mesh, keys, k.shape, sums, q.device),
                                       tensor::intern_spec(q.mesh, keys, v.shape, sums, q.device)};
  add_kernel(b, results, std::array{b.inputs[6] ? 6 : -1, -1, -1});
}

void step_backward_kernel(const KernelCall& k) {
  ops::LocalAttention local(k, kReversePositions);
  const std::vector<local::GlobalRun> columns = columns_of(k.input_place(4), k.attribute(0).as_list());
  local.call.columns = columns;
  local::kernels::attention_backward(local.call, k.input(0), k.input(1), k.input(2), {k.output(0), k.output(1), k.output(2), k.has_input(6)});
}

constexpr OpDef kStepBackward{
    .name = "attention_step_backward",
    .signature =
        "grad, out, logsumexp, query, key, value, grad_query?, *, columns: int[], is_causal: bool, scale: float?, causal_offset: number"
        " -> query_sum, key_part, value_part",
    .kernel = step_backward_kernel,
    .plan = plan_step_backward,
};

// ---- add_part: what came back for a block, to its gradient in place; nothing may have come.
constexpr OpDef kAddPart{
    .name = "add_part",
    .signature = "sum, part -> out",
    .kernel =
        [](const KernelCall& k) {
          const std::int64_t n = k.input(1).numel();
          if (n == 0) return;
          const Tensor sum = k.output(0).view({k.output(0).numel()}).narrow(0, 0, n);
          const Scalar one = 1;
          local::kernels::binary(local::cpu::Binary::add, sum, k.input(1).view({n}), sum, &one);
        },
    .plan =
        [](PlanBuilder& b) {
          const std::array<SpecRef, 1> results{b.inputs[0]};
          add_kernel(b, results, std::array{0});
        },
};

// ---- The steps.

struct Step {
  std::vector<std::int64_t> sources;  ///< per part the part that visits it, -1: none
  std::vector<std::int64_t> columns;  ///< runs of what visits, in the order of the parts; empty at the first step, where each part is at home
};

// What ranks have of queries and keys, per part of the keys.
struct Block {
  std::vector<placements::Run> keys;
  std::int64_t last_query = -1;  ///< -1: none
};

std::vector<Block> blocks_of(const Spec& query, const Spec& key, std::span<const int> axes) {
  std::vector<int> all = ops::part_axes(*query.layout, kLength);
  all.insert(all.end(), axes.begin(), axes.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::vector<Block> blocks(static_cast<std::size_t>(ops::part_count(*key.layout, axes)));
  const Shape start = Shape::filled(key.layout->mesh_ndim(), 0);
  for (int i = 0; i < ops::part_count(*key.layout, all); ++i) {
    const Shape at = ops::coordinates_of_part(*key.layout, all, i, start);
    Block& block = blocks[static_cast<std::size_t>(ops::part_at(*key.layout, axes, at))];
    block.keys = placements::owned_runs(*key.layout, kLength, key.shape[kLength], at);
    for (const placements::Run& r : placements::owned_runs(*query.layout, kLength, query.shape[kLength], at))
      block.last_query = std::max(block.last_query, r.begin + r.length - 1);
  }
  return blocks;
}

std::vector<Step> steps_of(const Spec& query, const Spec& key, const ops::RingAttention& o) {
  const Layout& layout = *key.layout;
  const std::vector<int> axes = ops::part_axes(layout, kLength);
  std::vector<int> ring = axes;
  std::erase_if(ring, [&](int a) { return query.layout->dim_of(a) != kLength; });
  const std::vector<Block> blocks = blocks_of(query, key, axes);
  const Shape start = Shape::filled(layout.mesh_ndim(), 0);
  const int ranks = ops::part_count(layout, ring);
  std::vector<Step> steps(1);
  for (int j = 1; j < ranks; ++j) {
    Step step;
    for (int part = 0; part < static_cast<int>(blocks.size()); ++part) {
      const Shape at = ops::coordinates_of_part(layout, axes, part, start);
      const int from = (ops::part_at(layout, ring, at) - j + ranks) % ranks;
      const int source = ops::part_at(layout, axes, ops::coordinates_of_part(layout, ring, from, at));
      const Block& visitor = blocks[static_cast<std::size_t>(source)];
      const std::int64_t last = blocks[static_cast<std::size_t>(part)].last_query;
      const bool seen = last >= 0 && !visitor.keys.empty() && (!o.causal || visitor.keys.front().begin <= last + o.offset);
      step.sources.push_back(seen ? source : -1);
      if (!seen) continue;
      for (const placements::Run& r : visitor.keys) step.columns.insert(step.columns.end(), {r.begin, r.length});
    }
    if (!step.columns.empty()) steps.push_back(std::move(step));
  }
  return steps;
}

std::vector<std::int64_t> inverse(std::span<const std::int64_t> sources) {
  std::vector<std::int64_t> back(sources.size(), -1);
  for (std::size_t i = 0; i < sources.size(); ++i)
    if (sources[i] >= 0) back[static_cast<std::size_t>(sources[i])] = static_cast<std::int64_t>(i);
  return back;
}

using Pair = std::pair<DTensor, DTensor>;
Pair visitors(const ops::AttentionOperands& x, std::span<const Step> steps, std::size_t step) {
  return step < steps.size() ? ops::permute_parts(x.key, x.value, kLength, steps[step].sources) : Pair();
}

// Results of ranks that had the same queries and other keys, one after another in the first dimension.
Results merged(const DTensor& outs, const DTensor& lses, Dtype dtype) {
  const DTensor lse = ops::without_partial(logsumexp(lses, 0));
  const DTensor weights = exp(sub(lses, unsqueeze(masked_fill(lse, isinf(lse), 0), 0)));
  const DTensor out = ops::without_partial(sum(mul(outs, unsqueeze(weights, -1)), {0}));
  return {out.to(dtype), lse};
}

}  // namespace

namespace ops {

AttentionOperands arrange_attention(std::string_view op, const DTensor& query, const DTensor& key, const DTensor& value) {
  const Layout &q = *spec_of(query).layout, &k = *spec_of(key).layout, &v = *spec_of(value).layout;
  std::vector<int> query_dims, key_dims;
  AttentionOperands result;
  for (int a = 0; a < q.mesh_ndim(); ++a) {
    const auto dim = [a](const Layout& layout) {
      const int d = layout.mesh_sizes[static_cast<std::size_t>(a)] == 1 ? -1 : layout.dim_of(a);
      return d == kWidth ? -1 : d;
    };
    const auto [to_query, to_key] = axis_dims(dim(q), dim(k) < 0 ? dim(v) : dim(k));
    query_dims.push_back(to_query);
    key_dims.push_back(to_key);
    result.split = result.split || to_key == kLength;
  }
  if (!result.split) return {query, key, value, false};
  const Layout to_query = with_dims(q, query_dims);
  Layout to_key = with_dims(k, key_dims);
  to_key.dims[kBatch] = to_query.dims[kBatch];
  to_key.dims[kHeads] = to_query.dims[kHeads];
  if (!heads_meet(to_query, query.size(kHeads), to_key, key.size(kHeads))) to_key.dims[kHeads].clear();
  result.query = moved(op, query, to_query);
  result.key = moved(op, key, to_key);
  result.value = moved(op, value, to_key);
  return result;
}

Results ring_attention(const AttentionOperands& x, const RingAttention& o) {
  const std::vector<Step> steps = steps_of(spec_of(x.query), spec_of(x.key), o);
  Pair block{x.key, x.value};
  Results result(2);
  for (std::size_t j = 0; j < steps.size(); ++j) {
    Pair next = visitors(x, steps, j + 1);
    const std::array<Input, 5> inputs{x.query, block.first, block.second, result[0], result[1]};
    const std::array<Attribute, 5> attributes{std::span<const std::int64_t>(steps[j].columns), o.causal, o.scale, o.offset, j + 1 == steps.size()};
    result = call_all(kStep, inputs, attributes);
    block = std::move(next);
  }
  if (result[1].ndim() == 4) return merged(result[0], result[1], x.query.dtype());
  return result;
}

Results ring_attention_backward(const DTensor& grad, const DTensor& out, const DTensor& logsumexp, const AttentionOperands& x,
                                const RingAttention& o) {
  const std::vector<Step> steps = steps_of(spec_of(x.query), spec_of(x.key), o);
  const Layout& rows = *spec_of(x.query).layout;
  Layout sums = rows;
  sums.dims.pop_back();
  constexpr std::string_view kName = "scaled_dot_product_attention_backward";
  const DTensor up = moved(kName, grad, rows), result = moved(kName, out, rows), lse = moved(kName, logsumexp, sums);
  Pair block{x.key, x.value}, home;
  DTensor query, key, value;
  const auto collect = [&] {
    if (!home.first) return;
    call(kAddPart, {key, home.first});
    call(kAddPart, {value, home.second});
    home = {};
  };
  for (std::size_t j = 0; j < steps.size(); ++j) {
    Pair next = visitors(x, steps, j + 1);
    const std::array<Input, 7> inputs{up, result, lse, x.query, block.first, block.second, query};
    const std::array<Attribute, 4> attributes{std::span<const std::int64_t>(steps[j].columns), o.causal, o.scale, o.offset};
    Results parts = call_all(kStepBackward, inputs, attributes);
    block = std::move(next);
    query = parts[0];
    if (j == 0) {
      key = parts[1];
      value = parts[2];
      continue;
    }
    collect();
    home = permute_parts(parts[1], parts[2], kLength, inverse(steps[j].sources));
  }
  collect();
  return {query.to(x.query.dtype()), key.to(x.key.dtype()), value.to(x.value.dtype())};
}

}  // namespace ops
}  // namespace dtensor
