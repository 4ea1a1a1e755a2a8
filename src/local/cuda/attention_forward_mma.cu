// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/attention_tiles.h"

namespace dtensor::local::cuda {

void attention_mma(const AttentionProblem& p, const EarlierAttention& earlier, const AttentionResult& out, float* logsumexp, Stream stream) {
  const attention_tiles::Results to{out, {}, logsumexp};
  const std::int64_t width = p.d > p.e ? p.d : p.e;
  if (width <= 64) attention_tiles::make<attention_tiles::Part::out, 64>("attention", p, earlier, {}, to, stream);
  else if (width <= 128) attention_tiles::make<attention_tiles::Part::out, 128>("attention", p, earlier, {}, to, stream);
  else attention_tiles::make<attention_tiles::Part::out, 256>("attention", p, earlier, {}, to, stream);
}

}  // namespace dtensor::local::cuda
