// SPDX-License-Identifier: Apache-2.0
// A real device has no list of what was queued, and its libraries are as they are.
#include "cuda/emulated_blaslt.h"
#include "cuda/emulated_cudnn.h"
#include "cuda/emulator.h"

namespace dtensor::local::cuda::emulated {

std::vector<Entry> taken_entries() { return {}; }
std::int64_t bytes_in_use(int) { return 0; }
void free_stream(Stream) noexcept {}  // one that nobody uses any more does no harm
void refuse_products(std::function<bool(const ProductShape&)>, bool) {}
void set_cudnn(bool) {}
void refuse_cudnn(CudnnRefusal) {}
ConvolutionShape last_convolution() { return {}; }
AttentionShape last_attention() { return {}; }

}  // namespace dtensor::local::cuda::emulated
