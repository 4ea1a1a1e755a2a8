// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/toolkit/cudnn.h"

#include <dlfcn.h>

#include "local/cuda/toolkit/cudnn_graph.h"

namespace dtensor::local::cuda {
namespace {

// Plans are made for properties of a device, which older ones do not know.
constexpr std::size_t kOldest = 90800;

std::string version_text(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

struct Loaded {
  CudnnFunctions functions;
  std::string version, why_not;
};
template <class F>
bool find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  return function != nullptr;
}
Loaded load() {
  Loaded result;
  void* const library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const text = dlerror();
    result.why_not = text != nullptr ? text : "libcudnn.so.9 was not found";
    return result;
  }
  CudnnFunctions& f = result.functions;
  const bool whole = find(library, "cudnnGetVersion", f.version) && find(library, "cudnnGetErrorString", f.error_text) &&
                     find(library, "cudnnCreate", f.create) && find(library, "cudnnDestroy", f.destroy) &&
                     find(library, "cudnnSetStream", f.set_stream) && find(library, "cudnnBackendCreateDescriptor", f.create_descriptor) &&
                     find(library, "cudnnBackendDestroyDescriptor", f.destroy_descriptor) && find(library, "cudnnBackendSetAttribute", f.set) &&
                     find(library, "cudnnBackendGetAttribute", f.get) && find(library, "cudnnBackendFinalize", f.finalize) &&
                     find(library, "cudnnBackendExecute", f.execute);
  if (!whole) {
    result.why_not = "libcudnn.so.9 lacks a function";
    return result;
  }
  result.version = version_text(f.version());
  if (f.version() < kOldest) result.why_not = result.version + " is older than " + version_text(kOldest);
  return result;
}
// The library stays loaded: threads of its own may outlive main.
const Loaded& loaded() {
  static const Loaded* const once = new Loaded(load());
  return *once;
}

}  // namespace

const CudnnFunctions& cudnn_functions() { return loaded().functions; }

bool cudnn_present() { return loaded().why_not.empty(); }
std::string cudnn_version_text() { return cudnn_present() ? loaded().version : "none: " + loaded().why_not; }

}  // namespace dtensor::local::cuda
