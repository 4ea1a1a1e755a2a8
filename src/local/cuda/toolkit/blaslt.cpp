// SPDX-License-Identifier: Apache-2.0
#include <cublasLt.h>

#include <string>
#include <utility>

#include "local/cuda/launched.h"
#include "local/cuda/products.h"

namespace dtensor::local::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail_device(what, std::string(cublasLtGetStatusString(status)) + " (" + cublasLtGetStatusName(status) + ")");
}
cudaDataType_t type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return CUDA_R_64F;
    case Dtype::bf16:
      return CUDA_R_16BF;
    case Dtype::f16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}
template <class T>
void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value), "product description");
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), "product description");
}

// The library is column-major: a row-major matrix is the transpose of one, and out^T = b^T a^T.
struct Layout {
  cublasLtMatrixLayoutOpaque_t opaque{};
  Layout() = default;
  Layout(Dtype dtype, std::int64_t rows, std::int64_t columns, const ProductMatrix& m, std::int64_t count) {
    if (!m.transposed) std::swap(rows, columns);
    check(cublasLtMatrixLayoutInit(&opaque, type_of(dtype), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), m.ld),
          "product layout");
    const auto matrices = static_cast<std::int32_t>(count);
    check(cublasLtMatrixLayoutSetAttribute(&opaque, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &matrices, sizeof matrices), "product layout");
    check(cublasLtMatrixLayoutSetAttribute(&opaque, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.batch, sizeof m.batch), "product layout");
  }
};

bool refused(cublasStatus_t status) { return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE; }
cublasLtEpilogue_t epilogue_of(const ProductShape& s) {
  if (!s.gelu) return s.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  if (s.keeps_sum) return s.has_bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
  return s.has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
}

}  // namespace

class ProductLibrary {
 public:
  ProductLibrary() { check(cublasLtCreate(&handle), "cuBLASLt"); }
  ProductLibrary(const ProductLibrary&) = delete;
  ~ProductLibrary() { static_cast<void>(cublasLtDestroy(handle)); }
  cublasLtHandle_t handle = nullptr;
};

class ProductPlan {
 public:
  cublasLtMatmulDescOpaque_t desc{};
  mutable Layout left, right, addend, out;  // b, a, c, out of the shape; the library takes them as not const
  cublasLtMatmulHeuristicResult_t chosen{};
  bool is_f64 = false, has_c = false, has_bias = false, keeps_sum = false;
};

std::shared_ptr<ProductLibrary> make_product_library() { return std::make_shared<ProductLibrary>(); }

std::shared_ptr<const ProductPlan> plan_product(ProductLibrary& library, const ProductShape& s, const ProductPointers& first) {
  auto plan = std::make_shared<ProductPlan>();
  plan->is_f64 = s.dtype == Dtype::f64;
  plan->has_c = s.has_c;
  plan->has_bias = s.has_bias;
  plan->keeps_sum = s.keeps_sum;
  const cublasComputeType_t compute = plan->is_f64 ? CUBLAS_COMPUTE_64F : s.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check(cublasLtMatmulDescInit(&plan->desc, compute, plan->is_f64 ? CUDA_R_64F : CUDA_R_32F), "product description");
  set(&plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, s.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(&plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, s.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(&plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(s));
  if (s.has_bias) {
    set(&plan->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(s.out_dtype));
    set(&plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, first.bias);
  }
  if (s.keeps_sum) {
    set(&plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, type_of(s.out_dtype));
    set(&plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s.n);
    set(&plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, first.sum);
  }
  plan->left = Layout(s.dtype, s.k, s.n, s.b, s.count);
  plan->right = Layout(s.dtype, s.m, s.k, s.a, s.count);
  plan->out = Layout(s.out_dtype, s.m, s.n, s.out, s.count);
  plan->addend = s.has_c ? Layout(s.out_dtype, s.m, s.n, s.c, s.count) : plan->out;

  cublasLtMatmulPreferenceOpaque_t preference{};
  check(cublasLtMatmulPreferenceInit(&preference), "product algorithm");
  set(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kProductWorkspace);
  // Parts of a sum meet in the type of computation, in a fixed order.
  set(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(s.b.alignment));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(s.a.alignment));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(s.has_c ? s.c.alignment : s.out.alignment));
  set(&preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(s.out.alignment));
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(library.handle, &plan->desc, &plan->left.opaque, &plan->right.opaque,
                                                               &plan->addend.opaque, &plan->out.opaque, &preference, 1, &plan->chosen, &found);
  if (refused(status) || (status == CUBLAS_STATUS_SUCCESS && found == 0)) return nullptr;
  check(status, "product algorithm");
  return plan;
}

std::size_t workspace_of(const ProductPlan& plan) noexcept { return plan.chosen.workspaceSize; }

bool run_product(ProductLibrary& library, const ProductPlan& plan, const ProductPointers& p, double alpha, double beta, Stream stream) {
  cublasLtMatmulDescOpaque_t desc = plan.desc;
  if (plan.has_bias) set(&desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  if (plan.keeps_sum) set(&desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.sum);
  const float alpha_f32 = static_cast<float>(alpha), beta_f32 = static_cast<float>(beta);
  const void* const by = plan.is_f64 ? static_cast<const void*>(&alpha) : &alpha_f32;
  const void* const more = plan.is_f64 ? static_cast<const void*>(&beta) : &beta_f32;
  const cublasStatus_t status =
      cublasLtMatmul(library.handle, &desc, by, p.b, &plan.left.opaque, p.a, &plan.right.opaque, more, plan.has_c ? p.c : p.out, &plan.addend.opaque,
                     p.out, &plan.out.opaque, &plan.chosen.algo, p.workspace, plan.chosen.workspaceSize, static_cast<cudaStream_t>(stream));
  if (refused(status)) return false;
  check(status, "product");
  return true;
}

}  // namespace dtensor::local::cuda
