// SPDX-License-Identifier: Apache-2.0
// Attention by cuDNN, where it was asked for and can do it.
#pragma once

#include <optional>

#include "local/cpu/attention.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda {

/// As cuDNN is asked for it; empty: what it cannot say. It says bf16 and f16, rows and keys in their order that are all here, from whose begin on causal queries
/// see, groups of heads side by side, elements of a row side by side and all else at multiples of 16 bytes.
std::optional<AttentionShape> attention_shape(const cpu::AttentionCall& call, const Tensor& out, const Tensor& logsumexp);

/// As cpu::attention. False: it is left to others. Only with DTENSOR_CUDNN_ATTENTION=1.
bool library_attention(const cpu::AttentionCall& call, RankDevice& device, const Tensor& out, const Tensor& logsumexp);

}  // namespace dtensor::local::cuda
