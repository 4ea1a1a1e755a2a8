// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/attention_tiles.h"

namespace dtensor::local::cuda {
namespace {

using namespace attention_tiles;

template <Part part>
void make_backward(const char* name, const AttentionProblem& p, const AttentionSlopes& slopes, const Results& to, Stream stream) {
  p.d <= 64 && p.e <= 64 ? make<part, 64>(name, p, {}, slopes, to, stream) : make<part, 128>(name, p, {}, slopes, to, stream);
}

}  // namespace

void attention_backward_mma(const AttentionProblem& p, const AttentionSlopes& slopes, const AttentionResult& query, const AttentionResult& key,
                            const AttentionResult& value, Stream stream) {
  make_backward<Part::query>("attention query gradient", p, slopes, {query, {}}, stream);
  make_backward<Part::key_value>("attention key and value gradient", p, slopes, {value, key}, stream);
}

}  // namespace dtensor::local::cuda
