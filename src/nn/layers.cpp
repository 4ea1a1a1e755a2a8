// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "dtensor/nn.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/matmul.h"
#include "dtensor/ops/norms.h"
#include "dtensor/ops/random.h"

namespace dtensor::nn {
namespace {

Init fan_in(std::int64_t in_features) {
  const double bound = in_features > 0 ? 1.0 / std::sqrt(static_cast<double>(in_features)) : 0.0;
  return Init::uniform(-bound, bound);
}
DTensor optional(const Parameter& p) { return p ? p.get() : DTensor(); }

}  // namespace

Linear::Linear(std::int64_t in_features, std::int64_t out_features, const DeviceMesh& mesh, const LinearOptions& options)
    : weight({out_features, in_features}, mesh, fan_in(in_features), options.dtype) {
  if (options.bias) bias = Parameter({out_features}, mesh, fan_in(in_features), options.dtype);
}
DTensor Linear::forward(const DTensor& x) { return linear(x, weight, optional(bias)); }

Embedding::Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim, const DeviceMesh& mesh, const EmbeddingOptions& options)
    : weight({num_embeddings, embedding_dim}, mesh, Init::normal(0, 1), options.dtype) {}
DTensor Embedding::forward(const DTensor& index) { return embedding(index, weight); }

LayerNorm::LayerNorm(std::int64_t features, const DeviceMesh& mesh, const NormOptions& options)
    : weight({features}, mesh, Init::constant(1), options.dtype), eps(options.eps) {
  if (options.bias) bias = Parameter({features}, mesh, Init::constant(0), options.dtype);
}
DTensor LayerNorm::forward(const DTensor& x) { return layer_norm(x, weight.shape(), weight.get(), optional(bias), eps); }

RMSNorm::RMSNorm(std::int64_t features, const DeviceMesh& mesh, const NormOptions& options)
    : weight({features}, mesh, Init::constant(1), options.dtype), eps(options.eps) {}
DTensor RMSNorm::forward(const DTensor& x) { return rms_norm(x, weight.shape(), weight.get(), eps); }

DTensor Dropout::forward(const DTensor& x) { return dropout(x, p, is_training()); }

}  // namespace dtensor::nn
