// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/cudnn_state.h"

#include <memory>

#include "base/environment.h"

namespace dtensor::local::cuda {
namespace {

struct State {
  std::shared_ptr<CudnnLibrary> library = make_cudnn_library();
};

}  // namespace

bool uses_cudnn() {
  static const bool allowed = base::env_bool("DTENSOR_CUDNN").value_or(true);
  return allowed && cudnn_present();
}

CudnnLibrary* cudnn_of(Device device) { return device_state<State>(device).library.get(); }

}  // namespace dtensor::local::cuda
