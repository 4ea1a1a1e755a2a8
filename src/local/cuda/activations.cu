// SPDX-License-Identifier: Apache-2.0
#include "local/formulas/activations.h"

#include "local/cpu/map.h"
#include "local/cuda/map.h"
#include "local/cuda/math.h"
#include "local/cuda/table.h"
#include "local/kernels/activations.h"

namespace dtensor::local::cuda {
namespace {

using namespace formulas;
using M = DeviceMath;

// In the order of the enumerators; of each the function and the products with its derivatives.
struct Three {
  Runner order[3];
};
template <class F>
constexpr Three three() {
  return {{floating<Forward<F>, 1>, floating<Backward<F, 1>, 2>, floating<Backward<F, 2>, 2>}};
}
constexpr Three kActivations[] = {three<Elu>(),        three<LeakyRelu>(),   three<Hardtanh>(),      three<Mish<M>>(),
                                  three<Hardswish>(),  three<Hardsigmoid>(), three<LogSigmoid<M>>(), three<Softsign>(),
                                  three<Softshrink>(), three<Hardshrink>(),  three<Tanhshrink<M>>(), three<Threshold>()};

void activation(cpu::Activation op, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const MapArgument inputs[] = {x};
  kActivations[static_cast<int>(op)].order[0]("activation", cpu::compute_type(out.dtype()), out, inputs, numbers);
}
void activation_backward(cpu::Activation op, int order, const Tensor& grad, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const MapArgument inputs[] = {grad, x};
  kActivations[static_cast<int>(op)].order[order]("activation_backward", cpu::compute_type(out.dtype()), out, inputs, numbers);
}

}  // namespace

void install_activations() {
  kernels::activation.cuda = activation;
  kernels::activation_backward.cuda = activation_backward;
}

}  // namespace dtensor::local::cuda
