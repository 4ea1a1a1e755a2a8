// SPDX-License-Identifier: Apache-2.0
// Engines for attention know it by its operations and their order: product, factor, mask, softmax and product.
#include <limits>

#include "local/cuda/toolkit/cudnn_graph.h"

namespace dtensor::local::cuda {
namespace {

enum : std::int64_t { kQuery = 1, kKey, kValue, kOut, kLogsumexp, kScale, kUnseen };  // numbers of tensors

CudnnGraph graph_of(const AttentionShape& s) {
  CudnnGraph g;
  const cudnnDataType_t type = cudnn_type(s.dtype);
  const std::vector<std::int64_t> scores{s.b, s.h, s.t, s.s}, rows{s.b, s.h, s.t, 1}, out{s.b, s.h, s.t, s.e}, number{1, 1, 1, 1};
  const auto by_value = [&](std::int64_t name) { return g.tensor({.number = name, .sizes = number, .strides = number, .by_value = true}); };
  const std::size_t query =
      g.tensor({.number = kQuery, .type = type, .sizes = {s.b, s.h, s.t, s.d}, .strides = {s.query[0], s.query[1], s.query[2], 1}});
  // Columns of the product are keys.
  const std::size_t key = g.tensor({.number = kKey, .type = type, .sizes = {s.b, s.groups, s.d, s.s}, .strides = {s.key[0], s.key[1], 1, s.key[2]}});
  const std::size_t value =
      g.tensor({.number = kValue, .type = type, .sizes = {s.b, s.groups, s.s, s.e}, .strides = {s.value[0], s.value[1], s.value[2], 1}});

  const std::size_t products = g.inner(scores);
  std::size_t seen = g.inner(scores);
  g.product(query, key, products);
  g.pointwise(CUDNN_POINTWISE_MUL, CUDNN_DATA_FLOAT, {products, by_value(kScale)}, seen);
  if (s.causal) {
    const std::size_t column = g.inner(scores, CUDNN_DATA_INT32), row = g.inner(scores, CUDNN_DATA_INT32);
    const std::size_t sees = g.inner(scores, CUDNN_DATA_BOOLEAN), masked = g.inner(scores);
    g.pointwise(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, {seen}, column, 3);
    g.pointwise(CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT, {seen}, row, 2);
    g.pointwise(CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, {row, column}, sees);
    g.pointwise(CUDNN_POINTWISE_BINARY_SELECT, CUDNN_DATA_FLOAT, {seen, by_value(kUnseen), sees}, masked);
    seen = masked;
  }

  const std::size_t top = g.inner(rows), below = g.inner(scores), powers = g.inner(scores), total = g.inner(rows), log = g.inner(rows);
  g.reduce(CUDNN_REDUCE_TENSOR_MAX, seen, top);
  g.pointwise(CUDNN_POINTWISE_SUB, CUDNN_DATA_FLOAT, {seen, top}, below);
  g.pointwise(CUDNN_POINTWISE_EXP, CUDNN_DATA_FLOAT, {below}, powers);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, powers, total);
  g.pointwise(CUDNN_POINTWISE_LOG, CUDNN_DATA_FLOAT, {total}, log);
  g.pointwise(CUDNN_POINTWISE_ADD, CUDNN_DATA_FLOAT, {top, log}, g.tensor({.number = kLogsumexp, .sizes = rows, .strides = row_major(rows)}));
  const std::size_t weights = g.inner(scores, type);
  g.pointwise(CUDNN_POINTWISE_DIV, CUDNN_DATA_FLOAT, {powers, total}, weights);
  g.product(weights, value, g.tensor({.number = kOut, .type = type, .sizes = out, .strides = row_major(out)}));
  return g;
}

}  // namespace

std::shared_ptr<const CudnnPlan> plan_attention(CudnnLibrary& library, const AttentionShape& s) try {
  return choose_plan(library, graph_of(s), {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, kCudnnWorkspace);
} catch (const CudnnFailure&) { return nullptr; }

bool run_attention(CudnnLibrary& library, const CudnnPlan& plan, const AttentionShape& s, const AttentionPointers& p, double scale, Stream stream) {
  const auto factor = static_cast<float>(scale), unseen = -std::numeric_limits<float>::infinity();
  const CudnnMemory memory[] = {{kQuery, p.query},         {kKey, p.key},     {kValue, p.value}, {kOut, p.out},
                                {kLogsumexp, p.logsumexp}, {kScale, &factor}, {kUnseen, &unseen}};
  return run_plan(library, plan, {memory, s.causal ? std::size_t{7} : std::size_t{6}}, p.workspace, stream);
}

}  // namespace dtensor::local::cuda
