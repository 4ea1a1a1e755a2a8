// SPDX-License-Identifier: Apache-2.0
// The general matrix product of one thread: a serial BLAS (gemm_blas.cpp) or Eigen (gemm_eigen.cpp), as the build found.
#pragma once

#include <cstdint>

namespace dtensor::local::cpu {

/// c[m, n] = alpha op(a)[m, k] op(b)[k, n] + beta c; row-major, `ld` elements from row to row; op transposes. m, n, k >= 1; beta 0 does not read c.
template <class T>
struct BackendCall {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  T alpha = 1;
  const T* a = nullptr;
  std::int64_t lda = 0;
  const T* b = nullptr;
  std::int64_t ldb = 0;
  T beta = 0;
  T* c = nullptr;
  std::int64_t ldc = 0;
};
void gemm_backend(const BackendCall<float>& call);
void gemm_backend(const BackendCall<double>& call);
/// "OpenBLAS (serial)" or "Eigen".
const char* gemm_backend_name() noexcept;

}  // namespace dtensor::local::cpu
