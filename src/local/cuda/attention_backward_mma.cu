// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "local/cuda/attention_tiles.h"

namespace dtensor::local::cuda {
namespace {

using namespace attention_tiles;

template <Part part>
void make_backward(const char* name, const AttentionProblem& p, const AttentionSlopes& slopes, const Results& to, Stream stream) {
  width_of(p) <= 64 ? make<part, 64, 128>(name, p, {}, {}, slopes, to, stream) : make<part, 128, 128>(name, p, {}, {}, slopes, to, stream);
}
template <int kWidth>
constexpr std::size_t backward_bytes() {
  return std::max(bytes_of<Part::query, kWidth, 128>(), bytes_of<Part::key_value, kWidth, 128>());
}

}  // namespace

bool attention_backward_by_mma(const AttentionProblem& p, std::size_t shared) {
  return by_mma(p) && width_of(p) <= kMmaBackwardWidth && (width_of(p) <= 64 ? backward_bytes<64>() : backward_bytes<128>()) <= shared;
}

void attention_backward_mma(const AttentionProblem& p, const AttentionSlopes& slopes, const AttentionResult& query, const AttentionResult& key,
                            const AttentionResult& value, Stream stream) {
  make_backward<Part::query>("attention query gradient", p, slopes, {query, {}}, stream);
  make_backward<Part::key_value>("attention key and value gradient", p, slopes, {value, key}, stream);
}

}  // namespace dtensor::local::cuda
