// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/summaries.h"

#include <algorithm>
#include <cmath>

#include "dtensor/op.h"
#include "dtensor/ops/binary.h"
#include "dtensor/ops/compare.h"
#include "dtensor/ops/embedding.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/pointwise.h"
#include "dtensor/ops/views.h"
#include "local/kernels/reduce.h"
#include "ops/composite.h"
#include "ops/elementwise.h"
#include "ops/reduction_rules.h"

namespace dtensor {
namespace {

namespace kernels = local::kernels;
using ops::composite;
using ops::in_dtype;

// Attribute 0 is dim (a list, one, or none for all), 1 keepdim where there is one.
std::vector<int> dims_of(const DecomposeCall& c) {
  const Shape dims = ops::normal_dims(c.attribute(0), c.input(0).ndim());
  return {dims.begin(), dims.end()};
}
Shape result_shape(const ShapeCall& s, bool keepdim) { return ops::reduced_shape(s.input(0).shape, ops::checked_dims(s, s.attribute(0)), keepdim); }
bool keeps(const DecomposeCall& c) { return c.attribute(1).as_bool(); }
void refuse_empty(const ShapeCall& s) {
  for (std::int64_t d : ops::checked_dims(s, s.attribute(0)))
    if (s.input(0).shape[static_cast<int>(d)] == 0)
      s.fail("dim " + std::to_string(d) + " has no element (" + s.describe(0) + "); reduce dims that are not empty");
}
std::vector<Sample> list_samples() {
  return {{.shapes = {{5, 7}}},
          {.shapes = {{5, 7}}, .attributes = {{"dim", "[1]"}}},
          {.shapes = {{3, 4, 2}}, .attributes = {{"dim", "[0, -1]"}}},
          {.shapes = {{0, 3}}, .attributes = {{"dim", "[1]"}}},
          {.shapes = {{}}}};
}
std::vector<Sample> kept_samples() {
  std::vector<Sample> samples = list_samples();
  samples[2].attributes.emplace_back("keepdim", "true");
  return samples;
}
std::vector<Sample> moment_samples() {  // of one element the variance is no number
  std::vector<Sample> samples = kept_samples();
  samples.pop_back();
  return samples;
}
std::vector<Sample> dim_samples() {
  return {{.shapes = {{5, 7}}, .attributes = {{"dim", "1"}}},
          {.shapes = {{5, 4}}, .attributes = {{"dim", "0"}, {"keepdim", "true"}}},
          {.shapes = {{3, 2, 4}}, .attributes = {{"dim", "-2"}}},
          {.shapes = {{0, 3}}, .attributes = {{"dim", "1"}}}};
}

constexpr OpDef kCountNonzero = composite(
    "count_nonzero", "input, dim: int[] = [] -> out", "any",
    [](ShapeCall& s) {
      s.output(0) = {result_shape(s, false), Dtype::i64};
    },
    [](const DecomposeCall& c) -> Results { return {sum(ne(c.input(0), 0), std::span<const int>(dims_of(c)))}; }, list_samples);

// nansum, nanmean
Dtype summed(const ShapeCall& s) {
  const Dtype dtype = s.input(0).dtype;
  return !s.attribute(2).is_none() ? s.attribute(2).as_dtype() : info(dtype).floating ? dtype : Dtype::i64;
}
ReduceOptions options_of(const DecomposeCall& c) {
  ReduceOptions o{.keepdim = keeps(c), .dtype = {}};
  if (!c.attribute(2).is_none()) o.dtype = c.attribute(2).as_dtype();
  return o;
}
DTensor without_nan(const DTensor& x) { return info(x.dtype()).floating ? masked_fill(x, isnan(x), 0) : x; }
constexpr OpDef kNansum = composite(
    "nansum", "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none -> out", "any",
    [](ShapeCall& s) {
      s.output(0) = {result_shape(s, s.attribute(1).as_bool()), summed(s)};
    },
    [](const DecomposeCall& c) -> Results { return {sum(without_nan(c.input(0)), std::span<const int>(dims_of(c)), options_of(c))}; }, kept_samples);
constexpr OpDef kNanmean = composite(
    "nanmean", "input, dim: int[] = [], keepdim: bool = false, dtype: dtype? = none -> out", "floating",
    [](ShapeCall& s) {
      s.output(0) = {result_shape(s, s.attribute(1).as_bool()), summed(s)};
    },
    [](const DecomposeCall& c) -> Results {
      const std::vector<int> dims = dims_of(c);
      const DTensor count = sum(logical_not(isnan(c.input(0))), std::span<const int>(dims), {.keepdim = keeps(c), .dtype = {}});
      return {sum(without_nan(c.input(0)), std::span<const int>(dims), options_of(c)) / count};
    },
    kept_samples);

// Extremes.
template <DTensor (*arg)(const DTensor&, int, const KeepdimOptions&), DTensor (*value)(const DTensor&, int, const KeepdimOptions&)>
constexpr OpDef extreme_dim(std::string_view name) {
  return composite(
      name, "input, dim: int, keepdim: bool = false -> values, indices", "any",
      [](ShapeCall& s) {
        refuse_empty(s);
        const Shape shape = result_shape(s, s.attribute(1).as_bool());
        s.output(0) = {shape, s.input(0).dtype};
        s.output(1) = {shape, Dtype::i64};
      },
      [](const DecomposeCall& c) -> Results {
        const DTensor& x = c.input(0);
        const int dim = static_cast<int>(c.attribute(0).as_int());
        const KeepdimOptions o{.keepdim = keeps(c)};
        if (!x.requires_grad()) return {value(x, dim, o), arg(x, dim, o)};
        // Of equal elements the one that the index names has the gradient.
        const DTensor at = arg(x, dim, {.keepdim = true}), values = gather(x, dim, at);
        if (o.keepdim || x.ndim() == 0) return {values, at};
        return {squeeze(values, dim), squeeze(at, dim)};
      },
      dim_samples);
}
constexpr OpDef kMaxDim = extreme_dim<argmax, amax>("max.dim");
constexpr OpDef kMinDim = extreme_dim<argmin, amin>("min.dim");
constexpr OpDef kAminmax = composite(
    "aminmax", "input, dim: int? = none, keepdim: bool = false -> min, max", "any",
    [](ShapeCall& s) {
      refuse_empty(s);
      const TensorType each{result_shape(s, s.attribute(1).as_bool()), s.input(0).dtype};
      s.output(0) = each;
      s.output(1) = each;
    },
    [](const DecomposeCall& c) -> Results {
      const std::vector<int> dims = dims_of(c);
      const KeepdimOptions o{.keepdim = keeps(c)};
      return {amin(c.input(0), std::span<const int>(dims), o), amax(c.input(0), std::span<const int>(dims), o)};
    },
    dim_samples);

// var_mean, std_mean
template <bool root>
constexpr OpDef moments_op(std::string_view name) {
  return composite(
      name, "input, dim: int[] = [], keepdim: bool = false, correction: number = 1 -> spread, mean", "floating",
      [](ShapeCall& s) {
        const TensorType each{result_shape(s, s.attribute(1).as_bool()), s.input(0).dtype};
        s.output(0) = each;
        s.output(1) = each;
      },
      [](const DecomposeCall& c) -> Results {
        const std::vector<int> dims = dims_of(c);
        const Attribute attributes[3] = {c.attribute(0), c.attribute(1), c.attribute(2)};
        const Input inputs[1] = {c.input(0)};
        return {call_all(find_op(root ? "std" : "var"), inputs, attributes)[0],
                mean(c.input(0), std::span<const int>(dims), {.keepdim = keeps(c), .dtype = {}})};
      },
      moment_samples);
}
constexpr OpDef kVarMean = moments_op<false>("var_mean");
constexpr OpDef kStdMean = moments_op<true>("std_mean");

// trace
void trace_kernel(const KernelCall& call) {
  const Tensor& x = call.input(0);
  const Place& place = call.input_place(0);
  // Where a run of rows meets a run of columns, the diagonal has one stride.
  std::vector<Tensor> pieces;
  std::int64_t row = 0;
  for (const IndexRun& r : place.runs[0]) {
    std::int64_t column = 0;
    for (const IndexRun& c : place.runs[1]) {
      const std::int64_t begin = std::max(r.begin, c.begin), length = std::min(r.begin + r.length, c.begin + c.length) - begin;
      if (length > 0) {
        const std::int64_t down = x.strides()[0], across = x.strides()[1];
        pieces.push_back(x.as_strided({length}, {down + across}, x.offset() + (row + begin - r.begin) * down + (column + begin - c.begin) * across));
      }
      column += c.length;
    }
    row += r.length;
  }
  const Dtype wide = info(x.dtype()).floating ? Dtype::f64 : Dtype::i64;
  const Tensor sums = Tensor::empty({static_cast<std::int64_t>(pieces.size())}, wide, x.device());
  for (std::size_t i = 0; i < pieces.size(); ++i)
    kernels::reduce(local::cpu::Reduction::sum, pieces[i], Shape{0}, sums.narrow(0, static_cast<std::int64_t>(i), 1));
  kernels::reduce(local::cpu::Reduction::sum, sums, Shape{0}, call.output(0));
}
constexpr OpDef kTrace{
    .name = "trace",
    .signature = "input -> out",
    .rule = "i j -> ()    i, j: reduce(sum); linear",
    .dtypes = "number",
    .shape =
        [](ShapeCall& s) {
          if (s.input(0).shape.ndim() != 2) s.fail("a matrix is wanted (" + s.describe(0) + ")");
          s.output(0) = {{}, info(s.input(0).dtype).floating ? s.input(0).dtype : Dtype::i64};
        },
    .kernel = trace_kernel,
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      const DTensor& u = g.grad_output(0);
      const Shape& shape = g.input_type(0).shape;
      return {mul(u, eye(shape[0], shape[1], u.mesh(), {}, {.dtype = u.dtype()}))};
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}}}, {.shapes = {{4, 4}}}, {.shapes = {{0, 3}}}, {.shapes = {{1, 1}}}};
        },
};

// Distances.
constexpr OpDef kDist = composite(
    "dist", "input, other, p: float = 2.0 -> out", "floating",
    [](ShapeCall& s) {
      ops::broadcast_shape(s, 0, 2);
      s.output(0) = {{}, promote(s.input(0).dtype, s.input(1).dtype)};
    },
    [](const DecomposeCall& c) -> Results {
      return {vector_norm(c.input(0) - c.input(1), {.ord = c.attribute(0).as_double(), .keepdim = false, .dtype = {}})};
    },
    [] {
      return std::vector<Sample>{
          {.shapes = {{5, 7}, {5, 7}}}, {.shapes = {{5, 3}, {3}}, .attributes = {{"p", "1"}}}, {.shapes = {{4}, {4}}, .attributes = {{"p", "3"}}}};
    });
constexpr OpDef kCdist = composite(
    "cdist", "x1, x2, p: float = 2.0 -> out", "floating",
    [](ShapeCall& s) {
      const Shape &a = s.input(0).shape, &b = s.input(1).shape;
      if (a.ndim() < 2 || b.ndim() < 2 || a.back() != b.back())
        s.fail("rows of one length are wanted ([..., n, k] and [..., m, k]; " + s.describe(0) + ", " + s.describe(1) + ")");
      if (s.attribute(0).as_double() < 0) s.fail("p is negative; give 0 or more, inf included");
      Shape out = a;
      const std::int64_t n = a[a.ndim() - 2], m = b[b.ndim() - 2];
      if (a.ndim() != b.ndim() || !std::equal(a.begin(), a.end() - 2, b.begin()))
        s.fail("leading dims differ (" + s.describe(0) + ", " + s.describe(1) + "); expand one of them");
      out[out.ndim() - 2] = n;
      out[out.ndim() - 1] = m;
      s.output(0) = {out, promote(s.input(0).dtype, s.input(1).dtype)};
    },
    [](const DecomposeCall& c) -> Results {
      return {
          vector_norm(unsqueeze(c.input(0), -2) - unsqueeze(c.input(1), -3), -1, {.ord = c.attribute(0).as_double(), .keepdim = false, .dtype = {}})};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 3}, {4, 3}}},
                                 {.shapes = {{2, 3, 2}, {2, 5, 2}}, .attributes = {{"p", "1"}}},
                                 {.shapes = {{3, 2}, {2, 2}}, .attributes = {{"p", "3"}}},
                                 {.shapes = {{0, 3}, {2, 3}}}};
    });
constexpr OpDef kRenorm = composite(
    "renorm", "input, p: float, dim: int, maxnorm: float -> out", "floating",
    [](ShapeCall& s) {
      ops::checked_dims(s, s.attribute(1));
      if (s.input(0).shape.ndim() < 2) s.fail("at least two dims are wanted (" + s.describe(0) + ")");
      if (!(s.attribute(0).as_double() > 0)) s.fail("p must be above 0");
      s.output(0) = s.input(0);
    },
    [](const DecomposeCall& c) -> Results {
      const DTensor& x = c.input(0);
      const int dim = static_cast<int>(ops::normal_dims(c.attribute(1), x.ndim())[0]);
      Shape others;
      for (int d = 0; d < x.ndim(); ++d)
        if (d != dim) others.push_back(d);
      const double p = c.attribute(0).as_double(), most = c.attribute(2).as_double();
      const std::string ord = to_string(Scalar(p));
      const DTensor length = call(find_op("linalg.vector_norm"), {x}, {others, true, Attribute(), std::string_view(ord)});
      return {x * where(gt(length, most), most / (length + 1e-7), 1)};
    },
    [] {
      return std::vector<Sample>{{.shapes = {{5, 7}}, .attributes = {{"p", "2"}, {"dim", "0"}, {"maxnorm", "2"}}},
                                 {.shapes = {{3, 4, 2}}, .attributes = {{"p", "1"}, {"dim", "-1"}, {"maxnorm", "5"}}}};
    });

constexpr const OpDef* kFamily[] = {&kCountNonzero, &kNansum,  &kNanmean, &kMaxDim, &kMinDim, &kAminmax,
                                    &kVarMean,      &kStdMean, &kTrace,   &kDist,   &kCdist,  &kRenorm};

Shape listed(std::initializer_list<int> dims) {
  Shape shape;
  for (int d : dims) shape.push_back(d);
  return shape;
}
template <class Pair>
Pair two(const OpDef& op, const DTensor& input, std::initializer_list<Attribute> attributes) {
  const Input inputs[1] = {input};
  Results r = call_all(op, inputs, {attributes.begin(), attributes.size()});
  return {std::move(r[0]), std::move(r[1])};
}

}  // namespace

namespace ops {
OpList summary_ops() { return kFamily; }
}  // namespace ops

DTensor count_nonzero(const DTensor& input) { return call(kCountNonzero, {input}); }
DTensor count_nonzero(const DTensor& input, std::initializer_list<int> dim) { return call(kCountNonzero, {input}, {listed(dim)}); }
DTensor nansum(const DTensor& input, std::initializer_list<int> dim, const ReduceOptions& o) {
  return call(kNansum, {input}, {listed(dim), o.keepdim, o.dtype});
}
DTensor nanmean(const DTensor& input, std::initializer_list<int> dim, const ReduceOptions& o) {
  return call(kNanmean, {input}, {listed(dim), o.keepdim, o.dtype});
}
MinMax aminmax(const DTensor& input, std::optional<int> dim, const KeepdimOptions& o) { return two<MinMax>(kAminmax, input, {dim, o.keepdim}); }
Moments var_mean(const DTensor& input, std::initializer_list<int> dim, const VarOptions& o) {
  return two<Moments>(kVarMean, input, {listed(dim), o.keepdim, o.correction});
}
Moments std_mean(const DTensor& input, std::initializer_list<int> dim, const VarOptions& o) {
  return two<Moments>(kStdMean, input, {listed(dim), o.keepdim, o.correction});
}
DTensor trace(const DTensor& input) { return call(kTrace, {input}); }
DTensor dist(const DTensor& input, const DTensor& other, double p) { return call(kDist, {input, other}, {p}); }
DTensor cdist(const DTensor& x1, const DTensor& x2, double p) { return call(kCdist, {x1, x2}, {p}); }
DTensor renorm(const DTensor& input, double p, int dim, double maxnorm) { return call(kRenorm, {input}, {p, dim, maxnorm}); }
ValuesIndices max(const DTensor& input, int dim, const KeepdimOptions& o) { return two<ValuesIndices>(kMaxDim, input, {dim, o.keepdim}); }
ValuesIndices min(const DTensor& input, int dim, const KeepdimOptions& o) { return two<ValuesIndices>(kMinDim, input, {dim, o.keepdim}); }

}  // namespace dtensor
