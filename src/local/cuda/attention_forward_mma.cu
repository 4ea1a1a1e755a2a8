// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/attention_tiles.h"

namespace dtensor::local::cuda {

int attention_mma_rows(const AttentionProblem& p, std::size_t shared) {
  using namespace attention_tiles;
  if (width_of(p) > kMmaWidth || !by_mma(p)) return 0;
  // Rows that are not there cost memory that other blocks could have.
  if (p.t > 64 && out_bytes<128>(p) <= shared) return 128;
  return out_bytes<64>(p) <= shared ? 64 : 0;
}

void attention_mma(const AttentionProblem& p, int rows, const KeyParts& parts, const EarlierAttention& earlier, const AttentionResult& out,
                   float* logsumexp, Stream stream) {
  if (rows == 64) return attention_mma_by_64(p, parts, earlier, out, logsumexp, stream);
  attention_tiles::make_out<128>(p, parts, earlier, out, logsumexp, stream);
}

}  // namespace dtensor::local::cuda
