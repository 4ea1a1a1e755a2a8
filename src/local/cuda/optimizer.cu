// SPDX-License-Identifier: Apache-2.0
#include "local/kernels/optimizer.h"

#include <type_traits>

#include "local/cuda/map.h"
#include "local/cuda/table.h"
#include "local/formulas/optimizer.h"

namespace dtensor::local::cuda {
namespace {

using namespace formulas;

template <class T, bool keeps_top>
struct AdamElement {
  Formula<Adam, T> formula;
  DTENSOR_DEVICE Several<T, keeps_top ? 4 : 3> operator()(T p, T g, T m, T v, T top = T(0)) const {
    Adam::of<keeps_top>(p, g, m, v, top, formula.k);
    if constexpr (keeps_top) return {{p, m, v, top}};
    else return {{p, m, v}};
  }
};
template <class T>
struct SgdElement {
  Formula<Sgd, T> formula;
  DTENSOR_DEVICE Several<T, 2> operator()(T p, T g, T buffer) const {
    Sgd::of(p, g, buffer, formula.k);
    return {{p, buffer}};
  }
};

template <class F>
void in_type_of(const Tensor& param, const F& f) {
  if (param.dtype() == Dtype::f64) f(std::type_identity<double>());
  else f(std::type_identity<float>());
}

void adam_step(const Tensor& param, const Tensor& grad, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& max_exp_avg_sq,
               const cpu::AdamStep& o) {
  const auto numbers = adam_numbers(o);
  const MapArgument results[] = {param, exp_avg, exp_avg_sq, max_exp_avg_sq}, inputs[] = {param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq};
  in_type_of(param, [&]<class T>(std::type_identity<T>) {
    const Formula<Adam, T> formula(numbers.data());
    if (max_exp_avg_sq) map<4, T, T, T, T, T, T>("adam_step", AdamElement<T, true>{formula}, results, inputs);
    else map<3, T, T, T, T, T>("adam_step", AdamElement<T, false>{formula}, results, inputs);
  });
}

void sgd_step(const Tensor& param, const Tensor& grad, const Tensor& momentum_buffer, const cpu::SgdStep& o) {
  const MapArgument results[] = {param, momentum_buffer}, inputs[] = {param, grad, momentum_buffer};
  in_type_of(param, [&]<class T>(std::type_identity<T>) {
    if (momentum_buffer) map<2, T, T, T, T>("sgd_step", SgdElement<T>{Formula<Sgd, T>(sgd_numbers(o).data())}, results, inputs);
    else map<1, T, T, T>("sgd_step", Formula<Descent, T>(descent_numbers(o).data()), results, inputs);
  });
}

}  // namespace

void install_optimizer() {
  kernels::adam_step.cuda = adam_step;
  kernels::sgd_step.cuda = sgd_step;
}

}  // namespace dtensor::local::cuda
