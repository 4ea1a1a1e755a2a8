// SPDX-License-Identifier: Apache-2.0
// Beside attention_forward_mma.cu, so that both are compiled at once.
#include "local/cuda/attention_tiles.h"

namespace dtensor::local::cuda {

void attention_mma_by_64(const AttentionProblem& p, const KeyParts& parts, const EarlierAttention& earlier, const AttentionResult& out,
                         float* logsumexp, Stream stream) {
  attention_tiles::make_out<64>(p, parts, earlier, out, logsumexp, stream);
}

}  // namespace dtensor::local::cuda
