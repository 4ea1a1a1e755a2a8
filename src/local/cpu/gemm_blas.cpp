// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "base/error_text.h"
#include "local/cpu/gemm_backend.h"

// The two functions of cblas.h that are used; Debian's package puts the header where only one of its BLAS variants may own it.
extern "C" {
void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a, int lda, const float* b, int ldb,
                 float beta, float* c, int ldc);
void cblas_dgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, double alpha, const double* a, int lda, const double* b, int ldb,
                 double beta, double* c, int ldc);
}

namespace dtensor::local::cpu {
namespace {

constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;

int narrow_size(std::int64_t n) {
  if (n > std::numeric_limits<int>::max())
    base::fail<Unsupported>("matmul: a size or stride of {} elements is beyond the BLAS of this build (at most {}); split the operand", n,
                            std::numeric_limits<int>::max());
  return static_cast<int>(n);
}

template <class T, class F>
void run(const BackendCall<T>& c, F gemm) {
  gemm(kRowMajor, c.transpose_a ? kTranspose : kNoTranspose, c.transpose_b ? kTranspose : kNoTranspose, narrow_size(c.m), narrow_size(c.n),
       narrow_size(c.k), c.alpha, c.a, narrow_size(c.lda), c.b, narrow_size(c.ldb), c.beta, c.c, narrow_size(c.ldc));
}

}  // namespace

void gemm_backend(const BackendCall<float>& call) { run(call, cblas_sgemm); }
void gemm_backend(const BackendCall<double>& call) { run(call, cblas_dgemm); }
const char* gemm_backend_name() noexcept { return "OpenBLAS (serial)"; }

}  // namespace dtensor::local::cpu
