// SPDX-License-Identifier: Apache-2.0
// Lists of tensors by name, for files and the command line: the lists one after the other.
#include "dtensor/ops/elementary.h"
#include "dtensor/ops/foreach.h"
#include "dtensor/ops/pointwise.h"
#include "ops/composite.h"
#include "ops/families.h"

namespace dtensor {
namespace {

using List = std::vector<DTensor>;

// Of two overloads the one without decimals.
DTensor round_whole(const DTensor& x) { return round(x); }

template <DTensor (*F)(const DTensor&)>
constexpr OpDef one_list(std::string_view name) {
  return ops::composite(
      name, "self[] -> out[]", "floating",
      [](ShapeCall& s) {
        for (int i = 0; i < s.num_inputs(); ++i) s.output(i) = s.input(i);
      },
      [](const DecomposeCall& c) -> Results {
        Results results;
        for (const DTensor* t : c.inputs) results.push_back(F(*t));
        return results;
      },
      [] {
        return std::vector<Sample>{{.shapes = {{5, 3}, {4}}, .low = 0.2, .high = 0.9}};
      });
}
template <int Lists>
void lists_shape(ShapeCall& s) {
  const int n = s.num_inputs() / Lists;
  if (s.num_inputs() % Lists != 0) s.fail(std::to_string(s.num_inputs()) + " tensors are no " + std::to_string(Lists) + " lists of one length");
  for (int i = 0; i < n; ++i)
    for (int k = 1; k < Lists; ++k)
      if (!(s.input(i + k * n).shape == s.input(i).shape))
        s.fail("shapes differ (" + s.describe(i) + ", " + s.describe(i + k * n) + "); give lists of tensors of the same shapes");
  for (int i = 0; i < n; ++i) s.output(i) = s.input(i);
}
std::vector<DTensor> part(const DecomposeCall& c, std::size_t k, std::size_t lists) {
  const std::size_t n = c.inputs.size() / lists;
  List result;
  for (std::size_t i = 0; i < n; ++i) result.push_back(*c.inputs[k * n + i]);
  return result;
}
using Decompose = Results (*)(const DecomposeCall&);
template <int Lists>
constexpr OpDef lists_op(std::string_view name, std::string_view signature, Decompose decompose) {
  return ops::composite(name, signature, "floating", lists_shape<Lists>, decompose, [] {
    Sample sample{.shapes = {}, .low = 0.3, .high = 2};
    for (int k = 0; k < Lists; ++k) sample.shapes.insert(sample.shapes.end(), {{5, 3}, {4}});
    return std::vector<Sample>{sample};
  });
}
constexpr OpDef kAbs = one_list<dtensor::abs>("foreach_abs");
constexpr OpDef kNeg = one_list<dtensor::neg>("foreach_neg");
constexpr OpDef kSign = one_list<dtensor::sign>("foreach_sign");
constexpr OpDef kExp = one_list<dtensor::exp>("foreach_exp");
constexpr OpDef kExpm1 = one_list<dtensor::expm1>("foreach_expm1");
constexpr OpDef kLog = one_list<dtensor::log>("foreach_log");
constexpr OpDef kLog1p = one_list<dtensor::log1p>("foreach_log1p");
constexpr OpDef kLog2 = one_list<dtensor::log2>("foreach_log2");
constexpr OpDef kLog10 = one_list<dtensor::log10>("foreach_log10");
constexpr OpDef kSqrt = one_list<dtensor::sqrt>("foreach_sqrt");
constexpr OpDef kRsqrt = one_list<dtensor::rsqrt>("foreach_rsqrt");
constexpr OpDef kReciprocal = one_list<dtensor::reciprocal>("foreach_reciprocal");
constexpr OpDef kFloor = one_list<dtensor::floor>("foreach_floor");
constexpr OpDef kCeil = one_list<dtensor::ceil>("foreach_ceil");
constexpr OpDef kTrunc = one_list<dtensor::trunc>("foreach_trunc");
constexpr OpDef kRound = one_list<round_whole>("foreach_round");
constexpr OpDef kFrac = one_list<dtensor::frac>("foreach_frac");
constexpr OpDef kSin = one_list<dtensor::sin>("foreach_sin");
constexpr OpDef kCos = one_list<dtensor::cos>("foreach_cos");
constexpr OpDef kTan = one_list<dtensor::tan>("foreach_tan");
constexpr OpDef kSinh = one_list<dtensor::sinh>("foreach_sinh");
constexpr OpDef kCosh = one_list<dtensor::cosh>("foreach_cosh");
constexpr OpDef kTanh = one_list<dtensor::tanh>("foreach_tanh");
constexpr OpDef kAsin = one_list<dtensor::asin>("foreach_asin");
constexpr OpDef kAcos = one_list<dtensor::acos>("foreach_acos");
constexpr OpDef kAtan = one_list<dtensor::atan>("foreach_atan");
constexpr OpDef kSigmoid = one_list<dtensor::sigmoid>("foreach_sigmoid");
constexpr OpDef kErf = one_list<dtensor::erf>("foreach_erf");
constexpr OpDef kErfc = one_list<dtensor::erfc>("foreach_erfc");
constexpr OpDef kLgamma = one_list<dtensor::lgamma>("foreach_lgamma");
constexpr OpDef kAdd = lists_op<1>("foreach_add", "self[], *, scalar: number = 1 -> out[]",
                                   [](const DecomposeCall& c) { return foreach_add(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kAddList = lists_op<2>("foreach_add.list", "self_other[], *, alpha: number = 1 -> out[]", [](const DecomposeCall& c) {
  return foreach_add(part(c, 0, 2), part(c, 1, 2), AddOptions{.alpha = c.attribute(0).scalar()});
});
constexpr OpDef kSub = lists_op<1>("foreach_sub", "self[], *, scalar: number = 1 -> out[]",
                                   [](const DecomposeCall& c) { return foreach_sub(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kSubList = lists_op<2>("foreach_sub.list", "self_other[], *, alpha: number = 1 -> out[]", [](const DecomposeCall& c) {
  return foreach_sub(part(c, 0, 2), part(c, 1, 2), AddOptions{.alpha = c.attribute(0).scalar()});
});
constexpr OpDef kMul = lists_op<1>("foreach_mul", "self[], *, scalar: number = 2 -> out[]",
                                   [](const DecomposeCall& c) { return foreach_mul(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kMulList =
    lists_op<2>("foreach_mul.list", "self_other[] -> out[]", [](const DecomposeCall& c) { return foreach_mul(part(c, 0, 2), part(c, 1, 2)); });
constexpr OpDef kDiv = lists_op<1>("foreach_div", "self[], *, scalar: number = 2 -> out[]",
                                   [](const DecomposeCall& c) { return foreach_div(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kDivList =
    lists_op<2>("foreach_div.list", "self_other[] -> out[]", [](const DecomposeCall& c) { return foreach_div(part(c, 0, 2), part(c, 1, 2)); });
constexpr OpDef kPow = lists_op<1>("foreach_pow", "self[], *, scalar: number = 2 -> out[]",
                                   [](const DecomposeCall& c) { return foreach_pow(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kPowList =
    lists_op<2>("foreach_pow.list", "self_other[] -> out[]", [](const DecomposeCall& c) { return foreach_pow(part(c, 0, 2), part(c, 1, 2)); });
constexpr OpDef kMaximum = lists_op<1>("foreach_maximum", "self[], *, scalar: number = 2 -> out[]",
                                       [](const DecomposeCall& c) { return foreach_maximum(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kMaximumList = lists_op<2>("foreach_maximum.list", "self_other[] -> out[]",
                                           [](const DecomposeCall& c) { return foreach_maximum(part(c, 0, 2), part(c, 1, 2)); });
constexpr OpDef kMinimum = lists_op<1>("foreach_minimum", "self[], *, scalar: number = 2 -> out[]",
                                       [](const DecomposeCall& c) { return foreach_minimum(part(c, 0, 1), c.attribute(0).scalar()); });
constexpr OpDef kMinimumList = lists_op<2>("foreach_minimum.list", "self_other[] -> out[]",
                                           [](const DecomposeCall& c) { return foreach_minimum(part(c, 0, 2), part(c, 1, 2)); });
constexpr OpDef kAddcmul = lists_op<3>("foreach_addcmul", "self_tensor1_tensor2[], *, value: number = 1 -> out[]", [](const DecomposeCall& c) {
  return foreach_addcmul(part(c, 0, 3), part(c, 1, 3), part(c, 2, 3), c.attribute(0).scalar());
});
constexpr OpDef kAddcdiv = lists_op<3>("foreach_addcdiv", "self_tensor1_tensor2[], *, value: number = 1 -> out[]", [](const DecomposeCall& c) {
  return foreach_addcdiv(part(c, 0, 3), part(c, 1, 3), part(c, 2, 3), c.attribute(0).scalar());
});
constexpr OpDef kLerp = lists_op<2>("foreach_lerp", "self_end[], *, weight: float = 0.5 -> out[]",
                                    [](const DecomposeCall& c) { return foreach_lerp(part(c, 0, 2), part(c, 1, 2), c.attribute(0).scalar()); });
constexpr OpDef kNorm = ops::composite(
    "foreach_norm", "self[], *, ord: float = 2 -> out[]", "floating",
    [](ShapeCall& s) {
      for (int i = 0; i < s.num_inputs(); ++i) s.output(i) = {.shape = {}, .dtype = s.input(i).dtype};
    },
    [](const DecomposeCall& c) { return foreach_norm(part(c, 0, 1), c.attribute(0).as_double()); },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3}, {4}}},
                                 {.shapes = {{5, 3}, {4}}, .attributes = {{"ord", "inf"}}},
                                 {.shapes = {{0, 3}, {2}}, .attributes = {{"ord", "1"}}}};
    });
constexpr OpDef kMax = ops::composite(
    "foreach_max", "self[] -> out[]", "number",
    [](ShapeCall& s) {
      for (int i = 0; i < s.num_inputs(); ++i) {
        if (s.input(i).shape.numel() == 0) s.fail("a tensor has no element (" + s.describe(i) + ")");
        s.output(i) = {.shape = {}, .dtype = s.input(i).dtype};
      }
    },
    [](const DecomposeCall& c) { return foreach_max(part(c, 0, 1)); },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3}, {4}}}};
    });

constexpr const OpDef* kFamily[] = {&kAbs,     &kNeg,     &kSign,       &kExp,     &kExpm1,   &kLog,         &kLog1p,   &kLog2,        &kLog10,
                                    &kSqrt,    &kRsqrt,   &kReciprocal, &kFloor,   &kCeil,    &kTrunc,       &kRound,   &kFrac,        &kSin,
                                    &kCos,     &kTan,     &kSinh,       &kCosh,    &kTanh,    &kAsin,        &kAcos,    &kAtan,        &kSigmoid,
                                    &kErf,     &kErfc,    &kLgamma,     &kAdd,     &kAddList, &kSub,         &kSubList, &kMul,         &kMulList,
                                    &kDiv,     &kDivList, &kPow,        &kPowList, &kMaximum, &kMaximumList, &kMinimum, &kMinimumList, &kAddcmul,
                                    &kAddcdiv, &kLerp,    &kNorm,       &kMax};

}  // namespace

namespace ops {
OpList foreach_ops() { return kFamily; }
}  // namespace ops

}  // namespace dtensor
