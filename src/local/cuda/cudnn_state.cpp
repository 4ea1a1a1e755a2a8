// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/cudnn_state.h"

#include <memory>
#include <mutex>

#include "base/environment.h"

namespace dtensor::local::cuda {
namespace {

// A library that could not be made while something is recorded is asked for again.
struct State {
  std::mutex mutex;
  std::shared_ptr<CudnnLibrary> library;
  bool known = false;
  CudnnLibrary* get() {
    const std::lock_guard lock(mutex);
    if (!known) library = make_cudnn_library();
    known = library != nullptr || !any_recording();
    return library.get();
  }
};

bool allowed() {
  static const bool once = base::env_bool("DTENSOR_CUDNN").value_or(true);
  return once;
}

}  // namespace

bool uses_cudnn() { return allowed() && cudnn_present(); }
std::string cudnn_text() { return allowed() ? cudnn_version_text() : "none: DTENSOR_CUDNN turns it off"; }

CudnnLibrary* cudnn_of(Device device) { return device_state<State>(device).get(); }

}  // namespace dtensor::local::cuda
