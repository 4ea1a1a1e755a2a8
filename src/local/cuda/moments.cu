// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/moments.h"

#include <cmath>

#include "local/cuda/table.h"
#include "local/kernels/reduce.h"

namespace dtensor::local::cuda {
namespace {

template <class A>
struct PutVariance {
  A divisor;
  bool root;
  void* output;
  Dtype dtype;
  DTENSOR_DEVICE void operator()(const Moments<A>& m, std::int64_t out) const {
    const A value = m.squares / divisor;
    put_element(output, dtype, out, root ? static_cast<A>(std::sqrt(value)) : value);
  }
};

void variance(const Tensor& input, const Shape& dims, double correction, bool root, const Tensor& output) {
  if (!info(input.dtype()).floating) return variance(input.to(Dtype::f32), dims, correction, root, output);
  RankDevice& d = rank_device(input);
  const ReductionAxes axes(input.shape(), input.strides(), dims, false);
  const double divisor = static_cast<double>(axes.reduced.numel) - correction;
  visit_floating(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = Accumulate<T>;
    const PutVariance<A> put{static_cast<A>(divisor > 0 ? divisor : 0), root, output.raw(), output.dtype()};
    run_reduction("variance", d, axes, TypedSource<T, A>{input.raw_as<const T>()}, MomentsOp<A, PutVariance<A>>{put});
  });
}

}  // namespace

void install_moments() { kernels::variance.cuda = variance; }

}  // namespace dtensor::local::cuda
