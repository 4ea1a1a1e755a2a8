// SPDX-License-Identifier: Apache-2.0
// index and index_put: several index tensors, broadcast together. take_at and put_at are the forms of integer indices; bool tensors become such first.
#include <algorithm>
#include <array>
#include <numeric>

#include <fmt/format.h>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/arrange.h"
#include "dtensor/ops/dynamic.h"
#include "dtensor/ops/factories.h"
#include "dtensor/ops/indexing.h"
#include "dtensor/ops/reductions.h"
#include "dtensor/ops/views.h"
#include "local/kernels/embedding.h"
#include "ops/families.h"
#include "ops/index_rules.h"

namespace dtensor {
namespace {

using local::cpu::PointsCall;

// Which dims are indexed, and where the broadcast dims of the indices stand in the result.
struct Indexing {
  std::vector<int> dims;  // indexed dims, in order
  std::vector<int> rest;  // the others
  int first = 0;          // broadcast dims stand before the rest dim of this number
  Shape broadcast;

  void close(int ndim) {
    for (int d = 0; d < ndim; ++d)
      if (std::find(dims.begin(), dims.end(), d) == dims.end()) rest.push_back(d);
    const bool neighbours = !dims.empty() && dims.back() - dims.front() + 1 == static_cast<int>(dims.size());
    first = neighbours ? dims.front() : 0;
  }
  // Sizes (or other things) of the rest with those of the broadcast dims among them.
  Shape result(const Shape& input, const Shape& points) const {
    Shape out;
    for (int k = 0; k <= static_cast<int>(rest.size()); ++k) {
      if (k == first)
        for (std::int64_t n : points) out.push_back(n);
      if (k < static_cast<int>(rest.size())) out.push_back(input[rest[static_cast<std::size_t>(k)]]);
    }
    return out;
  }
};

bool broadcast_into(Shape& to, const Shape& shape) {
  while (to.ndim() < shape.ndim()) to.insert(0, 1);
  for (int d = 0; d < shape.ndim(); ++d) {
    std::int64_t& n = to[to.ndim() - shape.ndim() + d];
    if (n != shape[d] && n != 1 && shape[d] != 1) return false;
    if (n == 1) n = shape[d];
  }
  return true;
}

// `before` inputs stand in front of the index tensors.
Indexing indexing_of(const ShapeCall& s, int before) {
  Indexing x;
  const int n = s.input(0).shape.ndim();
  if (s.num_inputs() - before > n) s.fail(fmt::format("{} indices for {}; give one per dim at most", s.num_inputs() - before, s.describe(0)));
  for (int i = before; i < s.num_inputs(); ++i) {
    if (!s.has_input(i)) continue;
    ops::check_index(s, i);
    x.dims.push_back(i - before);
    if (!broadcast_into(x.broadcast, s.input(i).shape))
      s.fail(fmt::format("{} does not broadcast with the indices before it, {}", s.describe(i), to_string(x.broadcast)));
  }
  if (x.dims.empty()) s.fail("no index is given; give one at least");
  x.close(n);
  return x;
}

// Operand texts: v of the indexed dims, a of the others, b of the broadcast ones.
std::string join(const std::vector<std::string>& names) { return names.empty() ? "()" : fmt::format("{}", fmt::join(names, " ")); }
std::string input_text(const Indexing& x, int ndim) {
  std::vector<std::string> names;
  for (int d = 0; d < ndim; ++d) names.push_back(fmt::format("{}{}", std::find(x.dims.begin(), x.dims.end(), d) == x.dims.end() ? 'a' : 'v', d));
  return join(names);
}
std::string index_text(const Indexing& x, const Shape& shape) {
  std::vector<std::string> names;
  for (int d = 0; d < shape.ndim(); ++d) {
    const int at = x.broadcast.ndim() - shape.ndim() + d;
    names.push_back(shape[d] == x.broadcast[at] ? fmt::format("b{}", at) : "1");
  }
  return join(names);
}
std::vector<std::string> result_names(const Indexing& x) {
  std::vector<std::string> names;
  for (int k = 0; k <= static_cast<int>(x.rest.size()); ++k) {
    if (k == x.first)
      for (int d = 0; d < x.broadcast.ndim(); ++d) names.push_back(fmt::format("b{}", d));
    if (k < static_cast<int>(x.rest.size())) names.push_back(fmt::format("a{}", x.rest[static_cast<std::size_t>(k)]));
  }
  return names;
}
std::string indices_text(const ShapeCall& s, const Indexing& x, int before) {
  std::string text;
  for (int i = before; i < s.num_inputs(); ++i) text += ", " + (s.has_input(i) ? index_text(x, s.input(i).shape) : "()");
  return text;
}
std::string listed(char letter, const std::vector<int>& dims) {
  std::string text;
  for (int d : dims) text += fmt::format("{}{}{}", text.empty() ? "" : ", ", letter, d);
  return text;
}

// The points that this rank's parts of the indices name, in a part of `place`.
struct Points {
  Tensor base;
  Indexing x;
  Shape shape, strides;  // of values
  std::int64_t granule = 0;
  Points(const KernelCall& call, int before, const Tensor& target, const Place& place) {
    for (int i = before; i < call.num_inputs(); ++i) {
      if (!call.has_input(i)) continue;
      x.dims.push_back(i - before);
      broadcast_into(x.broadcast, call.input(i).shape());
    }
    x.close(target.ndim());
    const Shape target_strides = contiguous_strides(target.shape());
    base = Tensor::empty(x.broadcast, Dtype::i64, target.device());
    base.fill_(0);
    for (int i = before; i < call.num_inputs(); ++i)
      if (call.has_input(i)) add(call, i, i - before, place, target_strides[i - before]);
    shape = x.result(target.shape(), x.broadcast);
    strides = x.result(target_strides, Shape::filled(x.broadcast.ndim(), 0));
  }
  PointsCall call() const { return {shape, x.first, x.broadcast.ndim(), base, strides, granule}; }

 private:
  void add(const KernelCall& call, int input, int dim, const Place& place, std::int64_t stride) {
    static constexpr std::array<const char*, kMaxDims> kNames{"dim 0", "dim 1", "dim 2", "dim 3", "dim 4", "dim 5", "dim 6", "dim 7"};
    const Tensor at = ops::positions(call, input, place, dim, kNames[static_cast<std::size_t>(dim)], true);
    local::kernels::add_positions_to(at.expand(x.broadcast), stride, base);
    granule = std::gcd(granule, stride);
  }
};

std::vector<Dtype> index_dtypes(std::size_t before, std::size_t inputs) {
  std::vector<Dtype> dtypes(inputs, Dtype::i64);
  std::fill_n(dtypes.begin(), before, Dtype::f32);
  return dtypes;
}
std::vector<Input> borrowed(std::initializer_list<const DTensor*> front, std::span<const DTensor> indices) {
  std::vector<Input> inputs(front.begin(), front.end());
  for (const DTensor& t : indices) inputs.emplace_back(t ? &t : nullptr);
  return inputs;
}
// An absent index is an empty handle here too.
std::vector<DTensor> saved_indices(const GradientCall& g, int before) {
  std::vector<DTensor> indices;
  for (int i = before; i < g.num_inputs(); ++i) indices.push_back(g.inputs_[static_cast<std::size_t>(i)]);
  return indices;
}

DTensor take_at(const DTensor& input, std::span<const DTensor> indices);
DTensor put_at(const DTensor& input, std::span<const DTensor> indices, const DTensor& values, bool accumulate);

// ---- take_at
constexpr OpDef kTakeAt{
    .name = "take_at",
    .signature = "input, indices[]? -> out",
    .saves = "input, indices",
    .contiguous = true,
    .shape =
        [](ShapeCall& s) {
          const Indexing x = indexing_of(s, 1);
          s.output(0) = {.shape = x.result(s.input(0).shape, x.broadcast), .dtype = s.input(0).dtype};
        },
    .rule_for =
        [](const ShapeCall& s) {
          const Indexing x = indexing_of(s, 1);
          const bool sums = s.input(0).dtype != Dtype::boolean;
          return fmt::format("{}{} -> {}    {}: {}{}", input_text(x, s.input(0).shape.ndim()), indices_text(s, x, 1), join(result_names(x)),
                             listed('v', x.dims), sums ? "lookup" : "whole", sums ? "; linear 1" : "");
        },
    .kernel =
        [](const KernelCall& call) {
          const Points points(call, 1, call.input(0), call.input_place(0));
          local::kernels::take_points(points.call(), call.input(0), call.output(0));
        },
    .gradient = [](const GradientCall& g) -> std::vector<DTensor> {
      std::vector<DTensor> grads(static_cast<std::size_t>(g.num_inputs()));
      if (!g.needs(0)) return grads;
      grads[0] = put_at(zeros_like(g.input(0)), saved_indices(g, 1), g.grad_output(0), true);
      return grads;
    },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 7}, {3}}, .dtypes = index_dtypes(1, 2), .index_limit = 5},
                                     {.shapes = {{5, 4}, {3, 1}, {2}}, .dtypes = index_dtypes(1, 3), .index_limit = 4},
                                     {.shapes = {{3, 4}, {}, {2}}, .dtypes = index_dtypes(1, 3), .index_limit = 4},
                                     {.shapes = {{3, 2, 4}, {2}, {}, {2}}, .dtypes = index_dtypes(1, 4), .index_limit = 3},
                                     {.shapes = {{3, 4}, {0}}, .dtypes = index_dtypes(1, 2), .index_limit = 3}};
        },
};

// ---- put_at
void put_at_shape(ShapeCall& s) {
  const Indexing x = indexing_of(s, 2);
  const Shape wanted = x.result(s.input(0).shape, x.broadcast);
  const Shape& values = s.input(1).shape;
  bool fits = values.ndim() <= wanted.ndim();
  for (int d = 0; fits && d < values.ndim(); ++d) fits = values[d] == 1 || values[d] == wanted[wanted.ndim() - values.ndim() + d];
  if (!fits) s.fail(fmt::format("{} does not broadcast to the indexed part, {}", s.describe(1), to_string(wanted)));
  if (s.input(1).dtype != s.input(0).dtype) s.fail(fmt::format("dtypes differ ({}, {}); convert one with to()", s.describe(0), s.describe(1)));
  s.output(0) = s.input(0);
}
std::string put_at_rule(const ShapeCall& s) {
  const Indexing x = indexing_of(s, 2);
  const Shape wanted = x.result(s.input(0).shape, x.broadcast);
  const Shape& values = s.input(1).shape;
  std::vector<std::string> names = result_names(x), from;
  for (int d = 0; d < values.ndim(); ++d) {
    const int at = wanted.ndim() - values.ndim() + d;
    from.push_back(values[d] == wanted[at] ? names[static_cast<std::size_t>(at)] : "1");
  }
  std::string points;
  for (int d = 0; d < x.broadcast.ndim(); ++d) points += fmt::format("{}b{}", d == 0 ? "" : ", ", d);
  const std::string target = input_text(x, s.input(0).shape.ndim());
  return fmt::format("{}, {}{} -> {}    {}{}{}linear 1 2", target, join(from), indices_text(s, x, 2), target, points,
                     points.empty()                                                   ? ""
                     : s.attribute(0).as_bool() && s.input(0).dtype != Dtype::boolean ? ": reduce(sum, addend 1)"
                                                                                      : ": whole",
                     points.empty() ? "" : "; ");
}
void put_at_kernel(const KernelCall& call) {
  const Tensor& out = call.output(0);
  out.copy_(call.input(0));
  const Points points(call, 2, out, call.output_place(0));
  const Tensor values = call.input(1).expand(points.shape).contiguous();
  if (call.attribute(0).as_bool()) local::kernels::deposit_points(points.call(), values, out, {.add = true});
  else local::kernels::put_points(points.call(), values, out);
}
std::vector<DTensor> put_at_gradient(const GradientCall& g) {
  const std::vector<DTensor> indices = saved_indices(g, 2);
  const DTensor& grad = g.grad_output(0);
  std::vector<DTensor> grads(static_cast<std::size_t>(g.num_inputs()));
  if (g.needs(0)) grads[0] = g.attribute(0).as_bool() ? grad : put_at(grad, indices, zeros({}, grad.mesh(), {}, {.dtype = grad.dtype()}), false);
  if (g.needs(1)) grads[1] = sum_to_shape(take_at(grad, indices), g.input_type(1).shape);
  return grads;
}
constexpr OpDef kPutAt{
    .name = "put_at",
    .signature = "input, values, indices[]?, accumulate: bool = false -> out",
    .saves = "indices",
    .contiguous = true,
    .shape = put_at_shape,
    .rule_for = put_at_rule,
    .kernel = put_at_kernel,
    .gradient = put_at_gradient,
    .samples =
        [] {
          const std::pair<std::string, std::string> add{"accumulate", "true"};
          return std::vector<Sample>{{.shapes = {{5, 3}, {7, 3}, {7}}, .attributes = {add}, .dtypes = index_dtypes(2, 3), .index_limit = 5},
                                     {.shapes = {{4, 3}, {1}, {4}, {4}}, .attributes = {add}, .dtypes = index_dtypes(2, 4), .index_limit = 3},
                                     {.shapes = {{5, 3}, {1, 3}, {1}}, .dtypes = index_dtypes(2, 3), .index_limit = 5},
                                     {.shapes = {{3, 4}, {3, 1}, {}, {1}}, .dtypes = index_dtypes(2, 4), .index_limit = 4},
                                     {.shapes = {{3, 4}, {0, 4}, {0}}, .dtypes = index_dtypes(2, 3), .index_limit = 3}};
        },
    .reasons = "writes meet in the order of the index, so all of it is on every rank",
};

DTensor take_at(const DTensor& input, std::span<const DTensor> indices) {
  const auto inputs = borrowed({&input}, indices);
  return std::move(call_all(kTakeAt, inputs).at(0));
}
DTensor put_at(const DTensor& input, std::span<const DTensor> indices, const DTensor& values, bool accumulate) {
  const auto inputs = borrowed({&input, &values}, indices);
  const Attribute attribute(accumulate);
  return std::move(call_all(kPutAt, inputs, {&attribute, 1}).at(0));
}

// ---- index, index_put
// A bool tensor of m dims becomes the m index tensors of its true places.
std::vector<DTensor> integer_indices(std::span<const DTensor> indices) {
  std::vector<DTensor> integers;
  for (const DTensor& t : indices) {
    if (!t || t.dtype() != Dtype::boolean) {
      integers.push_back(t);
      continue;
    }
    if (t.ndim() == 0) throw Unsupported("index: a bool index without dims; give one with the size of a dim");
    for (DTensor& at : unbind(nonzero(t), 1)) integers.push_back(std::move(at));
  }
  return integers;
}
void check_indices(const ShapeCall& s, int before) {
  int at = 0;
  bool any = false;
  for (int i = before; i < s.num_inputs(); ++i) {
    if (!s.has_input(i)) {
      ++at;
      continue;
    }
    any = true;
    const TensorType& t = s.input(i);
    if (t.dtype != Dtype::boolean) {
      ops::check_index(s, i);
      ++at;
      continue;
    }
    for (std::int64_t n : t.shape) {
      if (at >= s.input(0).shape.ndim() || s.input(0).shape[at] != n)
        s.fail(
            fmt::format("{} does not fit {} from dim {}; a bool index has the sizes of the dims that it indexes", s.describe(i), s.describe(0), at));
      ++at;
    }
  }
  if (!any || at > s.input(0).shape.ndim()) s.fail(fmt::format("the indices do not fit {}; give one per dim at most, one at least", s.describe(0)));
}
std::vector<DTensor> indices_of(const DecomposeCall& c, std::size_t before) {
  std::vector<DTensor> indices;
  for (std::size_t i = before; i < c.inputs.size(); ++i) indices.push_back(c.inputs[i] == nullptr ? DTensor() : *c.inputs[i]);
  return indices;
}
// The result's shape where no index is bool; else what is known of it, its dtype.
void index_shape(ShapeCall& s) {
  check_indices(s, 1);
  s.output(0) = s.input(0);
  for (int i = 1; i < s.num_inputs(); ++i)
    if (s.has_input(i) && s.input(i).dtype == Dtype::boolean) return;
  const Indexing x = indexing_of(s, 1);
  s.output(0).shape = x.result(s.input(0).shape, x.broadcast);
}
constexpr OpDef kIndex{
    .name = "index",
    .signature = "input, indices[]? -> out",
    .data_dependent = true,
    .shape = index_shape,
    .decompose = [](const DecomposeCall& c) -> Results { return {index(c.input(0), indices_of(c, 1))}; },
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{5, 4}, {3, 1}, {2}}, .dtypes = index_dtypes(1, 3), .index_limit = 4},
                                     {.shapes = {{5, 3}, {5}}, .dtypes = {Dtype::f32, Dtype::boolean}}};
        },
};
constexpr OpDef kIndexPut{
    .name = "index_put",
    .signature = "input, values, indices[]?, accumulate: bool = false -> out",
    .shape =
        [](ShapeCall& s) {
          check_indices(s, 2);
          s.output(0) = s.input(0);
        },
    .decompose = [](const DecomposeCall& c) -> Results {
      return {index_put(c.input(0), indices_of(c, 2), c.input(1), {.accumulate = c.attribute(0).as_bool()})};
    },
    .samples =
        [] {
          return std::vector<Sample>{
              {.shapes = {{5, 3}, {6, 3}, {6}}, .attributes = {{"accumulate", "true"}}, .dtypes = index_dtypes(2, 3), .index_limit = 5},
              {.shapes = {{5, 3}, {3}, {5}}, .dtypes = {Dtype::f32, Dtype::f32, Dtype::boolean}}};
        },
};

constexpr std::array<const OpDef*, 4> kOps{&kTakeAt, &kPutAt, &kIndex, &kIndexPut};

}  // namespace

namespace ops {
OpList advanced_index_ops() { return kOps; }
}  // namespace ops

DTensor index(const DTensor& input, std::span<const DTensor> indices) { return take_at(input, integer_indices(indices)); }
DTensor index_put(const DTensor& input, std::span<const DTensor> indices, const DTensor& values, const IndexPutOptions& options) {
  return put_at(input, integer_indices(indices), values, options.accumulate);
}

}  // namespace dtensor
