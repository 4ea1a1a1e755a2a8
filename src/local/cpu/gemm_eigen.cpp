// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Core>

#include "local/cpu/gemm_backend.h"

namespace dtensor::local::cpu {
namespace {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using Rows = Eigen::Map<const RowMajor<T>, 0, Eigen::OuterStride<>>;

template <class T, class A, class B, class C>
void add_product(const A& a, const B& b, T alpha, C& c) {
  c.noalias() += alpha * (a * b);
}

template <class T>
void run(const BackendCall<T>& call) {
  Eigen::Map<RowMajor<T>, 0, Eigen::OuterStride<>> c(call.c, call.m, call.n, Eigen::OuterStride<>(call.ldc));
  if (call.beta == T(0)) c.setZero();
  else if (call.beta != T(1)) c *= call.beta;
  const Rows<T> a(call.a, call.transpose_a ? call.k : call.m, call.transpose_a ? call.m : call.k, Eigen::OuterStride<>(call.lda));
  const Rows<T> b(call.b, call.transpose_b ? call.n : call.k, call.transpose_b ? call.k : call.n, Eigen::OuterStride<>(call.ldb));
  if (call.transpose_a && call.transpose_b) add_product(a.transpose(), b.transpose(), call.alpha, c);
  else if (call.transpose_a) add_product(a.transpose(), b, call.alpha, c);
  else if (call.transpose_b) add_product(a, b.transpose(), call.alpha, c);
  else add_product(a, b, call.alpha, c);
}

}  // namespace

void gemm_backend(const BackendCall<float>& call) { run(call); }
void gemm_backend(const BackendCall<double>& call) { run(call); }
const char* gemm_backend_name() noexcept { return "Eigen"; }

}  // namespace dtensor::local::cpu
