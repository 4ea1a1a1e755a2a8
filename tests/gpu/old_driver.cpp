// SPDX-License-Identifier: Apache-2.0
// A driver library as the CUDA runtime sees one that is too old for it: it says for which version it was made, and is not asked for more.
#include <cstring>

extern "C" {

int cuInit(unsigned /*flags*/) { return 0; }

int cuDriverGetVersion(int* version) {
  *version = 11040;
  return 0;
}

int cuGetProcAddress_v2(const char* symbol, void** function, int /*version*/, unsigned long /*flags*/, void* /*status*/) {
  const auto refuse = []() -> int { return 3; };  // CUDA_ERROR_NOT_INITIALIZED
  int (*const refused)() = refuse;
  if (std::strcmp(symbol, "cuInit") == 0) *function = reinterpret_cast<void*>(cuInit);
  else if (std::strcmp(symbol, "cuDriverGetVersion") == 0) *function = reinterpret_cast<void*>(cuDriverGetVersion);
  else if (std::strcmp(symbol, "cuGetProcAddress") == 0) *function = reinterpret_cast<void*>(cuGetProcAddress_v2);
  else *function = reinterpret_cast<void*>(refused);
  return 0;
}
}
