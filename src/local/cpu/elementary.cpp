// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstddef>

#include "local/cpu/activations.h"
#include "local/cpu/map.h"
#include "local/cpu/rows.h"
#include "local/formulas/elementary.h"

namespace dtensor::local::cpu {
namespace {

using namespace formulas;

constexpr std::array<Rows, 19> kElementary{
    floating_rows<Asin, 1>(),    floating_rows<Acos, 1>(),      floating_rows<Atan, 1>(),  floating_rows<Sinh, 1>(),    floating_rows<Cosh, 1>(),
    floating_rows<Asinh, 1>(),   floating_rows<Acosh, 1>(),     floating_rows<Atanh, 1>(), floating_rows<Erfc, 1>(),    floating_rows<Erfinv, 1>(),
    floating_rows<Exp2, 1>(),    floating_rows<Log10, 1>(),     floating_rows<Frac, 1>(),  floating_rows<Sinc, 1>(),    floating_rows<Lgamma, 1>(),
    floating_rows<Digamma, 1>(), floating_rows<Polygamma, 1>(), floating_rows<Logit, 1>(), floating_rows<NanToNum, 1>()};

template <class F>
constexpr Rows integer_rows() {
  return {nullptr, nullptr, RowOf<F, I64, I64, I64, I64>::run};
}
constexpr std::array<Rows, 12> kPairs{floating_rows<Xlogy, 2>(),  floating_rows<Logaddexp, 2>(), floating_rows<Logaddexp2, 2>(),
                                      floating_rows<Hypot, 2>(),  floating_rows<Copysign, 2>(),  number_rows<Fmax, 2>(),
                                      number_rows<Fmin, 2>(),     number_rows<Heaviside, 2>(),   integer_rows<LeftShift>(),
                                      integer_rows<RightShift>(), integer_rows<Gcd>(),           integer_rows<Lcm>()};

}  // namespace

void elementary(Elementary op, const Tensor& x, const Tensor& out, const Scalar* numbers) {
  const Dtype type = compute_type(out.dtype());
  map(kElementary[static_cast<std::size_t>(op)].of(type), {{x, type}}, {{out, type}}, numbers);
}
void pair(Pair op, const Value& a, const Value& b, const Tensor& out) {
  const Dtype type = compute_type(out.dtype());
  const auto operand = [type](const Value& v) { return v.tensor != nullptr ? Operand(*v.tensor, type) : Operand(v.number, type); };
  map(kPairs[static_cast<std::size_t>(op)].of(type), {operand(a), operand(b)}, {{out, type}});
}

}  // namespace dtensor::local::cpu
