// SPDX-License-Identifier: Apache-2.0
// A build without cuDNN's header.
#include "local/cuda/toolkit/cudnn.h"

namespace dtensor::local::cuda {

class CudnnLibrary {};
class CudnnPlan {};

bool cudnn_present() { return false; }
std::string cudnn_version_text() { return "none: built without it"; }

std::shared_ptr<CudnnLibrary> make_cudnn_library() { return nullptr; }
std::shared_ptr<CudnnLibrary> make_cudnn_library(const std::string& /*properties*/) { return nullptr; }
std::size_t workspace_of(const CudnnPlan& /*plan*/) noexcept { return 0; }
std::string description_of(const CudnnPlan& /*plan*/) { return {}; }
std::shared_ptr<const CudnnPlan> plan_convolution(CudnnLibrary& /*library*/, const ConvolutionShape& /*shape*/) { return nullptr; }
bool run_convolution(CudnnLibrary& /*library*/, const CudnnPlan& /*plan*/, const ConvolutionPointers& /*pointers*/, Stream /*stream*/) {
  return false;
}
std::shared_ptr<const CudnnPlan> plan_attention(CudnnLibrary& /*library*/, const AttentionShape& /*shape*/) { return nullptr; }
bool run_attention(CudnnLibrary& /*library*/, const CudnnPlan& /*plan*/, const AttentionShape& /*shape*/, const AttentionPointers& /*pointers*/,
                   double /*scale*/, Stream /*stream*/) {
  return false;
}

}  // namespace dtensor::local::cuda
