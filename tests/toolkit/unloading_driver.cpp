// SPDX-License-Identifier: Apache-2.0
// A driver library without a device that takes every program and runs none: cuDNN compiles programs for attention when it makes a plan, and hands them to
// the driver at once.

namespace {

constexpr int kNotHere = 34;  // CUDA_ERROR_STUB_LIBRARY
int some_object = 0;

}  // namespace

extern "C" {

int cuLibraryLoadData(void** library, ...) {
  *library = &some_object;
  return 0;
}
int cuLibraryGetKernel(void** kernel, ...) {
  *kernel = &some_object;
  return 0;
}
int cuKernelGetFunction(void** function, ...) {
  *function = &some_object;
  return 0;
}

int cuInit(...) { return kNotHere; }
int cuDriverGetVersion(...) { return kNotHere; }
int cuCtxGetCurrent(...) { return kNotHere; }
int cuCtxGetLimit(...) { return kNotHere; }
int cuCtxPopCurrent(...) { return kNotHere; }
int cuCtxPushCurrent(...) { return kNotHere; }
int cuDeviceGet(...) { return kNotHere; }
int cuDeviceGetCount(...) { return kNotHere; }
int cuFuncGetAttribute(...) { return kNotHere; }
int cuFuncSetAttribute(...) { return kNotHere; }
int cuGetErrorName(...) { return kNotHere; }
int cuGetErrorString(...) { return kNotHere; }
int cuKernelGetAttribute(...) { return kNotHere; }
int cuKernelSetAttribute(...) { return kNotHere; }
int cuLaunchCooperativeKernel(...) { return kNotHere; }
int cuLaunchKernel(...) { return kNotHere; }
int cuLaunchKernelEx(...) { return kNotHere; }
int cuLibraryLoadFromFile(...) { return kNotHere; }
int cuLibraryUnload(...) { return kNotHere; }
int cuLinkAddData(...) { return kNotHere; }
int cuLinkComplete(...) { return kNotHere; }
int cuLinkCreate(...) { return kNotHere; }
int cuLinkDestroy(...) { return kNotHere; }
int cuOccupancyMaxPotentialClusterSize(...) { return kNotHere; }
int cuStreamGetCtx(...) { return kNotHere; }
}
