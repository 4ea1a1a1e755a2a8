// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/cudnn_state.h"

#include <memory>

#include "base/environment.h"

namespace dtensor::local::cuda {
namespace {

struct State {
  std::shared_ptr<CudnnLibrary> library = make_cudnn_library();
};

bool allowed() {
  static const bool once = base::env_bool("DTENSOR_CUDNN").value_or(true);
  return once;
}

}  // namespace

bool uses_cudnn() { return allowed() && cudnn_present(); }
std::string cudnn_text() { return allowed() ? cudnn_version_text() : "none: DTENSOR_CUDNN turns it off"; }

CudnnLibrary* cudnn_of(Device device) { return device_state<State>(device).library.get(); }

}  // namespace dtensor::local::cuda
