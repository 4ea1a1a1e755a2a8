// SPDX-License-Identifier: Apache-2.0
// The size first, as a number that all ranks know, then an op of that static size.
#include "dtensor/ops/dynamic.h"

#include <array>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/arrange.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/embedding.h"
#include "local/kernels/sorting.h"
#include "ops/families.h"
#include "ops/index_rules.h"
#include "ops/view_rules.h"

namespace dtensor {
namespace {

// "d0, d1: kind"
std::string all_clause(int ndim, const char* kind) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += fmt::format("{}d{}", d == 0 ? "" : ", ", d);
  return text.empty() ? text : text + ": " + kind;
}

// ---- nonzero
constexpr OpDef kNonzeroStatic{
    .name = "nonzero_static",
    .signature = "input, *, size: int, fill_value: int = -1 -> out",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          if (s.attribute(0).as_int() < 0) s.fail(fmt::format("size {} is negative", s.attribute(0).as_int()));
          s.output(0) = {.shape = {s.attribute(0).as_int(), s.input(0).shape.ndim()}, .dtype = Dtype::i64};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int n = s.input(0).shape.ndim();
          return fmt::format("{} -> r c    r, c: whole{}{}", ops::names(n), n == 0 ? "" : "; ", all_clause(n, "whole"));
        },
    .kernel = [](const KernelCall& call) { local::kernels::nonzero_places(call.input(0), call.attribute(1).as_int(), call.output(0)); },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .attributes = {{"size", "4"}}, .dtypes = {Dtype::i64}},
                                     {.shapes = {{4}}, .attributes = {{"size", "6"}, {"fill_value", "0"}}},
                                     {.shapes = {{0, 2}}, .attributes = {{"size", "2"}}}};
        },
    .reasons = "which places are listed depends on all before them",
};
constexpr OpDef kNonzero{
    .name = "nonzero",
    .signature = "input, *, as_tuple: bool = false -> out[]",
    .data_dependent = true,
    .shape =
        [](ShapeCall& s) {
          const TensorType places{{s.input(0).shape.numel(), s.input(0).shape.ndim()}, Dtype::i64};
          if (!s.attribute(0).as_bool()) s.output(0) = places;
          else
            for (int d = 0; d < std::max(s.input(0).shape.ndim(), 1); ++d) s.output(d) = {.shape = {places.shape[0]}, .dtype = Dtype::i64};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      if (c.attribute(0).as_bool()) return nonzero_tuple(c.input(0));
      return {nonzero(c.input(0))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .dtypes = {Dtype::i64}},
                                     {.shapes = {{4, 2}}, .attributes = {{"as_tuple", "true"}}, .dtypes = {Dtype::boolean}},
                                     {.shapes = {{0, 2}}}};
        },
};

// ---- masked_select
Shape broadcast(const ShapeCall& s) {
  const Shape &a = s.input(0).shape, &b = s.input(1).shape;
  Shape out = a.ndim() >= b.ndim() ? a : b;
  for (int k = 1; k <= std::min(a.ndim(), b.ndim()); ++k) {
    const std::int64_t n = a[a.ndim() - k], m = b[b.ndim() - k];
    if (n != m && n != 1 && m != 1) s.fail(fmt::format("shapes do not broadcast ({}, {})", s.describe(0), s.describe(1)));
    out[out.ndim() - k] = n == 1 ? m : n;
  }
  return out;
}
constexpr OpDef kMaskedSelect{
    .name = "masked_select",
    .signature = "input, mask -> out",
    .data_dependent = true,
    .shape =
        [](ShapeCall& s) {
          if (s.input(1).dtype != Dtype::boolean) s.fail(fmt::format("the mask must be bool ({}); compare or convert it", s.describe(1)));
          s.output(0) = {.shape = {broadcast(s).numel()}, .dtype = s.input(0).dtype};
        },
    .decompose = [](const DecomposeCall& c) -> Results { return {masked_select(c.input(0), c.input(1))}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}, {5, 3}}, .dtypes = {Dtype::f32, Dtype::boolean}},
                                     {.shapes = {{5, 1}, {3}}, .dtypes = {Dtype::f32, Dtype::boolean}},
                                     {.shapes = {{0}, {0}}, .dtypes = {Dtype::f32, Dtype::boolean}}};
        },
};

// ---- unique
constexpr OpDef kUniquePadded{
    .name = "unique_padded",
    .signature = "input, dim: int? = none -> values, inverse, counts, count",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const Shape& shape = s.input(0).shape;
          s.output(3) = {.shape = {}, .dtype = Dtype::i64};
          if (s.attribute(0).is_none()) {
            s.output(0) = {.shape = {shape.numel()}, .dtype = s.input(0).dtype};
            s.output(1) = {.shape = shape, .dtype = Dtype::i64};
            s.output(2) = {.shape = {shape.numel()}, .dtype = Dtype::i64};
            return;
          }
          const int dim = normalize_dim(static_cast<int>(s.attribute(0).as_int()), shape.ndim(), "unique");
          s.output(0) = s.input(0);
          s.output(1) = s.output(2) = {.shape = {shape[dim]}, .dtype = Dtype::i64};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const int n = s.input(0).shape.ndim();
          const std::string all = ops::names(n), whole = all_clause(n, "whole");
          const std::string_view gap = n == 0 ? "" : "; ";
          if (s.attribute(0).is_none()) return fmt::format("{} -> u, {}, u, ()    u: whole{}{}", all, all, gap, whole);
          const int dim = normalize_dim(static_cast<int>(s.attribute(0).as_int()), n, "unique");
          return fmt::format("{} -> {}, d{}, d{}, ()    {}", all, all, dim, dim, whole);
        },
    .kernel =
        [](const KernelCall& call) {
          std::optional<int> dim;
          if (!call.attribute(0).is_none()) dim = normalize_dim(static_cast<int>(call.attribute(0).as_int()), call.input(0).ndim(), "unique");
          local::kernels::distinct(call.input(0), dim, call.output(0), call.output(1), call.output(2), call.output(3));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .dtypes = {Dtype::i64}},
                                     {.shapes = {{7, 1}}, .attributes = {{"dim", "0"}}, .dtypes = {Dtype::i64}},
                                     {.shapes = {{0}}}};
        },
    .reasons = "what is different is known where all of it is",
};
constexpr OpDef kUnique{
    .name = "unique",
    .signature = "input, sorted: bool = true, return_inverse: bool = false, return_counts: bool = false, dim: int? = none -> values[]",
    .data_dependent = true,
    .shape =
        [](ShapeCall& s) {
          const Shape& shape = s.input(0).shape;
          const bool slices = !s.attribute(3).is_none();
          const std::int64_t n = slices ? shape[normalize_dim(static_cast<int>(s.attribute(3).as_int()), shape.ndim(), "unique")] : shape.numel();
          int at = 0;
          s.output(at++) = {.shape = slices ? shape : Shape{n}, .dtype = s.input(0).dtype};
          if (s.attribute(1).as_bool()) s.output(at++) = {.shape = slices ? Shape{n} : shape, .dtype = Dtype::i64};
          if (s.attribute(2).as_bool()) s.output(at++) = {.shape = {n}, .dtype = Dtype::i64};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      const Attribute& dim = c.attribute(3);
      UniqueResult r = unique(c.input(0), {.sorted = c.attribute(0).as_bool(),
                                           .return_inverse = c.attribute(1).as_bool(),
                                           .return_counts = c.attribute(2).as_bool(),
                                           .dim = dim.is_none() ? std::nullopt : std::optional(static_cast<int>(dim.as_int()))});
      Results results{std::move(r.values)};
      if (r.inverse) results.push_back(std::move(r.inverse));
      if (r.counts) results.push_back(std::move(r.counts));
      return results;
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 3}}, .attributes = {{"return_counts", "true"}}, .dtypes = {Dtype::i64}},
                                     {.shapes = {{7, 2}}, .attributes = {{"dim", "1"}, {"return_inverse", "true"}}},
                                     {.shapes = {{0}}}};
        },
};

// ---- one_hot
constexpr OpDef kOneHot{
    .name = "one_hot",
    .signature = "input, num_classes: int = -1 -> out",
    .data_dependent = true,
    .shape =
        [](ShapeCall& s) {
          ops::check_index(s, 0);
          if (s.attribute(0).as_int() < 0 && s.input(0).shape.numel() == 0)
            s.fail(fmt::format("num_classes of {}, which has no element, cannot be found; give it", s.describe(0)));
          Shape shape = s.input(0).shape;
          shape.push_back(std::max<std::int64_t>(s.attribute(0).as_int(), 0));
          s.output(0) = {.shape = shape, .dtype = Dtype::i64};
        },
    .decompose = [](const DecomposeCall& c) -> Results { return {one_hot(c.input(0), c.attribute(0).as_int())}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5}}, .attributes = {{"num_classes", "7"}}, .dtypes = {Dtype::i64}, .index_limit = 7},
                                     {.shapes = {{2, 3}}, .dtypes = {Dtype::i64}, .index_limit = 4}};
        },
};

// ---- bincount
constexpr OpDef kCount{
    .name = "count_indices",
    .signature = "index, weights?, *, size: int -> out",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          ops::check_index(s, 0);
          if (s.input(0).shape.ndim() != 1) s.fail(fmt::format("index must have one dim ({})", s.describe(0)));
          if (s.has_input(1) && (s.input(1).shape != s.input(0).shape || !info(s.input(1).dtype).floating))
            s.fail(fmt::format("{} does not fit {}; give a floating weight per index", s.describe(1), s.describe(0)));
          s.output(0) = {.shape = {s.attribute(0).as_int()}, .dtype = s.has_input(1) ? s.input(1).dtype : Dtype::i64};
        },
    .rule_for =
        [](const ShapeCall& s) { return std::string(s.has_input(1) ? "i, i -> v    i: reduce(sum); linear 2" : "i, () -> v    i: reduce(sum)"); },
    .kernel =
        [](const KernelCall& call) {
          const Tensor& out = call.output(0);
          const auto at = ops::positions(call, 0, call.output_place(0), 0, "the result");
          if (call.has_input(1)) return local::kernels::deposit_rows(local::cpu::RowsCall{1, out.numel(), 1, at}, call.input(1), out);
          local::kernels::count_positions(at, out);
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{7}}, .attributes = {{"size", "4"}}, .dtypes = {Dtype::i64}, .index_limit = 4},
                                     {.shapes = {{5}, {5}}, .attributes = {{"size", "3"}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 3},
                                     {.shapes = {{0}}, .attributes = {{"size", "2"}}, .dtypes = {Dtype::i32}}};
        },
};
constexpr OpDef kBincount{
    .name = "bincount",
    .signature = "input, weights?, minlength: int = 0 -> out",
    .data_dependent = true,
    .shape =
        [](ShapeCall& s) {
          ops::check_index(s, 0);
          if (s.input(0).shape.ndim() != 1) s.fail(fmt::format("the input must have one dim ({})", s.describe(0)));
          if (s.has_input(1) && s.input(1).shape != s.input(0).shape) s.fail(fmt::format("shapes differ ({}, {})", s.describe(0), s.describe(1)));
          if (s.attribute(0).as_int() < 0) s.fail(fmt::format("minlength {} is negative", s.attribute(0).as_int()));
          const bool floating = s.has_input(1) && info(s.input(1).dtype).floating;
          s.output(0) = {.shape = {s.attribute(0).as_int()}, .dtype = floating ? s.input(1).dtype : s.has_input(1) ? Dtype::f64 : Dtype::i64};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      const BincountOptions options{.minlength = c.attribute(0).as_int()};
      return {c.has_input(1) ? bincount(c.input(0), c.input(1), options) : bincount(c.input(0), options)};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{7}}, .dtypes = {Dtype::i64}, .index_limit = 4},
              {.shapes = {{5}, {5}}, .attributes = {{"minlength", "6"}}, .dtypes = {Dtype::i64, Dtype::f32}, .index_limit = 3}};
        },
};

// ---- histc
constexpr OpDef kHistcRange{
    .name = "histc_range",
    .signature = "input, bins: int, min: float, max: float -> out",
    .dtypes = "floating",
    .shape = [](ShapeCall& s) { s.output(0) = {.shape = {s.attribute(0).as_int()}, .dtype = s.input(0).dtype}; },
    .rule_for =
        [](const ShapeCall& s) {
          const int n = s.input(0).shape.ndim();
          return fmt::format("{} -> b    b: whole{}{}", ops::names(n), n == 0 ? "" : "; ", all_clause(n, "reduce(sum)"));
        },
    .kernel =
        [](const KernelCall& call) {
          local::kernels::histogram(call.input(0), call.attribute(1).as_double(), call.attribute(2).as_double(), call.output(0));
        },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"bins", "3"}, {"min", "-1"}, {"max", "1.5"}}},
                                     {.shapes = {{0}}, .attributes = {{"bins", "2"}, {"min", "0"}, {"max", "1"}}}};
        },
};
constexpr OpDef kHistc{
    .name = "histc",
    .signature = "input, bins: int = 100, min: float = 0, max: float = 0 -> out",
    .dtypes = "floating",
    .shape =
        [](ShapeCall& s) {
          if (s.attribute(0).as_int() < 1) s.fail(fmt::format("bins {} is not positive", s.attribute(0).as_int()));
          s.output(0) = {.shape = {s.attribute(0).as_int()}, .dtype = s.input(0).dtype};
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      return {histc(c.input(0), {.bins = c.attribute(0).as_int(), .min = c.attribute(1).as_double(), .max = c.attribute(2).as_double()})};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"bins", "4"}}},
                                     {.shapes = {{6}}, .attributes = {{"bins", "3"}, {"min", "-1"}, {"max", "1"}}}};
        },
};

constexpr std::array<const OpDef*, 10> kOps{&kNonzeroStatic, &kNonzero, &kMaskedSelect, &kUniquePadded, &kUnique,
                                            &kOneHot,        &kCount,   &kBincount,     &kHistcRange,   &kHistc};

std::int64_t largest(const DTensor& input) { return amax(input).item<std::int64_t>(); }
DTensor truth(const DTensor& input) { return input.dtype() == Dtype::boolean ? input : ne(input, 0); }
// Places of the true elements of a tensor of one dim, i64 [count].
DTensor true_places(const DTensor& flat) {
  const auto count = sum(flat).item<std::int64_t>();
  return reshape(nonzero_static(flat, count), {count});
}

}  // namespace

namespace ops {
const OpDef& count_op() { return kCount; }
OpList dynamic_ops() { return kOps; }
}  // namespace ops

DTensor nonzero_static(const DTensor& input, std::int64_t size, std::int64_t fill_value) { return call(kNonzeroStatic, {input}, {size, fill_value}); }
DTensor nonzero(const DTensor& input) {
  const DTensor at = truth(input.detach());
  return nonzero_static(at, sum(at).item<std::int64_t>());
}
std::vector<DTensor> nonzero_tuple(const DTensor& input) { return unbind(nonzero(input.ndim() == 0 ? reshape(input, {1}) : input), 1); }

DTensor masked_select(const DTensor& input, const DTensor& mask) {
  if (mask.dtype() != Dtype::boolean) throw InvalidArgument("masked_select: the mask must be bool (" + to_string(mask) + "); compare or convert it");
  Shape shape = input.ndim() >= mask.ndim() ? input.shape() : mask.shape();
  for (const Shape& s : {input.shape(), mask.shape()})
    for (int k = 1; k <= s.ndim(); ++k)
      if (s[s.ndim() - k] != 1) shape[shape.ndim() - k] = s[s.ndim() - k];
  const auto flat = [&](const DTensor& t) { return reshape(t.shape() == shape ? t : expand(t, shape), {shape.numel()}); };
  return index_select(flat(input), 0, true_places(flat(mask)));
}

UniqueResult unique(const DTensor& input, const UniqueOptions& options) {
  const DTensor plain = input.detach();
  const Input in(plain);
  const Attribute dim(options.dim);
  Results r = call_all(kUniquePadded, {&in, 1}, {&dim, 1});
  const auto count = r[3].item<std::int64_t>();
  UniqueResult result{slice(r[0], options.dim.value_or(0), 0, count), {}, {}};
  if (options.return_inverse) result.inverse = std::move(r[1]);
  if (options.return_counts) result.counts = slice(r[2], 0, 0, count);
  return result;
}

DTensor one_hot(const DTensor& input, std::int64_t num_classes) {
  if (num_classes < 0 && input.numel() == 0)
    throw InvalidArgument("one_hot: num_classes of a tensor without elements cannot be found (" + to_string(input) + "); give it");
  return call(ops::one_hot_op(), {input}, {num_classes < 0 ? largest(input) + 1 : num_classes});
}

DTensor bincount(const DTensor& input, const BincountOptions& options) {
  const std::int64_t found = input.numel() == 0 ? 0 : largest(input) + 1;
  return call(kCount, {input}, {std::max(found, options.minlength)});
}
DTensor bincount(const DTensor& input, const DTensor& weights, const BincountOptions& options) {
  const std::int64_t found = input.numel() == 0 ? 0 : largest(input) + 1;
  return call(kCount, {input, info(weights.dtype()).floating ? weights.detach() : weights.to(Dtype::f64)}, {std::max(found, options.minlength)});
}

DTensor histc(const DTensor& input, const HistcOptions& options) {
  if (options.bins < 1) throw InvalidArgument(fmt::format("histc: bins {} is not positive", options.bins));
  const DTensor plain = input.detach();
  double low = options.min, high = options.max;
  if (low == high && input.numel() > 0) low = amin(plain).item(), high = amax(plain).item();
  if (low == high) low -= 1, high += 1;
  if (!(low < high)) throw InvalidArgument(fmt::format("histc: min {} and max {} are no range; give min below max", low, high));
  return call(kHistcRange, {plain}, {options.bins, low, high});
}

}  // namespace dtensor
