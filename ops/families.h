// SPDX-License-Identifier: Apache-2.0
// The op families: each offers its OpDefs. The registry concatenates them; nothing else needs to know.
#pragma once

#include <span>

#include "dtensor/op.h"
#include "dtensor/ops/reductions.h"

namespace dtensor::ops {

using OpList = std::span<const OpDef* const>;
OpList pointwise_ops();
OpList activation_ops();
OpList elementary_ops();
OpList elementwise_loss_ops();
OpList scan_ops();
OpList vector_norm_ops();
OpList summary_ops();
OpList contraction_ops();
OpList einsum_ops();
OpList binary_ops();
OpList compare_ops();
OpList cast_ops();
OpList inplace_ops();
OpList optimizer_ops();
OpList reduction_ops();
OpList softmax_ops();
OpList norm_ops();
OpList loss_ops();
OpList matmul_ops();
OpList attention_ops();
OpList rotary_ops();
OpList embedding_ops();
OpList view_ops();
OpList join_ops();
OpList arrange_ops();
OpList view_form_ops();
OpList indexing_ops();
OpList advanced_index_ops();
OpList sorting_ops();
OpList dynamic_ops();
OpList factory_ops();
OpList random_ops();
OpList convolution_ops();
OpList pooling_ops();
OpList channel_norm_ops();
OpList linear_cross_entropy_ops();
OpList transformer_ops();

}  // namespace dtensor::ops
