// SPDX-License-Identifier: Apache-2.0
#include "local/neutral.h"

#include <limits>

#include "base/error_text.h"
#include "local/strided.h"

namespace dtensor::local {

namespace {

Scalar end_of(Dtype dtype, bool upper) {
  if (dtype == Dtype::boolean) return upper;
  if (info(dtype).floating) return upper ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  return visit_integral(dtype, [&]<class T>(std::type_identity<T>) {
    return Scalar(static_cast<std::int64_t>(upper ? std::numeric_limits<T>::max() : std::numeric_limits<T>::min()));
  });
}

}  // namespace

Scalar neutral(ReduceOp op, Dtype dtype) {
  if (!is_reducible(op, dtype))
    base::fail<InvalidArgument>("neutral: {} of {} does not exist; convert the tensor with to() first", to_string(op), to_string(dtype));
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::avg:
      return info(dtype).floating ? Scalar(-0.0) : Scalar(0);
    case ReduceOp::product:
      return 1;
    case ReduceOp::min:
      return end_of(dtype, true);
    case ReduceOp::max:
      return end_of(dtype, false);
    case ReduceOp::band:
      return dtype == Dtype::boolean ? Scalar(true) : Scalar(-1);
    case ReduceOp::bor:
    case ReduceOp::bxor:
      return 0;
  }
  return 0;
}

void fill_neutral(const Tensor& out, ReduceOp op) { out.fill_(neutral(op, out.dtype())); }

}  // namespace dtensor::local
