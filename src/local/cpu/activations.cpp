// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/activations.h"

#include <array>

#include "local/cpu/map.h"
#include "local/cpu/rows.h"
#include "local/cpu/vector_math.h"
#include "local/formulas/activations.h"

namespace dtensor::local::cpu {
namespace {

using namespace formulas;

struct Three {
  Rows order[3];
};
template <class F>
constexpr Three three() {
  return {{floating_rows<Forward<F>, 1>(), floating_rows<Backward<F, 1>, 2>(), floating_rows<Backward<F, 2>, 2>()}};
}
constexpr std::array<Three, 12> kActivations{three<Elu>(),
                                             three<LeakyRelu>(),
                                             three<Hardtanh>(),
                                             three<Mish<VectorMath>>(),
                                             three<Hardswish>(),
                                             three<Hardsigmoid>(),
                                             three<LogSigmoid<VectorMath>>(),
                                             three<Softsign>(),
                                             three<Softshrink>(),
                                             three<Hardshrink>(),
                                             three<Tanhshrink<VectorMath>>(),
                                             three<Threshold>()};
const Rows& rows_of(Activation op, int order) { return kActivations[static_cast<std::size_t>(op)].order[order]; }

}  // namespace

void activation(Activation op, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(rows_of(op, 0).of(type), {{x, type}}, {{out, type}}, numbers);
}
void activation_backward(Activation op, int order, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(rows_of(op, order).of(type), {{grad, type}, {x, type}}, {{out, type}}, numbers);
}

}  // namespace dtensor::local::cpu
