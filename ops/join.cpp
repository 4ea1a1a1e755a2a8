// SPDX-License-Identifier: Apache-2.0
#include "dtensor/ops/join.h"

#include <algorithm>
#include <array>

#include "dtensor/error.h"
#include "dtensor/op.h"
#include "dtensor/ops/views.h"
#include "ops/candidates.h"
#include "ops/families.h"
#include "ops/view_rules.h"

namespace dtensor {
namespace {

// PyTorch joins vectors of size 0 with tensors of any rank: they add nothing but their dtype.
bool adds_nothing(const Shape& shape, int ndim) { return shape.ndim() == 1 && ndim != 1 && shape[0] == 0; }
int first_with_shape(const ShapeCall& s) {
  for (int i = 0; i < s.num_inputs(); ++i)
    if (!adds_nothing(s.input(i).shape, 0)) return i;
  return 0;
}

int cat_dim(const ShapeCall& s) {
  const int n = s.input(first_with_shape(s)).shape.ndim();
  const auto dim = s.attribute(0).as_int();
  if (dim < -n || dim >= n) s.fail("dim " + std::to_string(dim) + " is out of range (" + s.describe(0) + "); give -ndim .. ndim-1");
  return static_cast<int>(dim < 0 ? dim + n : dim);
}

void cat_shape(ShapeCall& s) {
  if (s.num_inputs() == 0) s.fail("the list of tensors is empty; give at least one");
  const int dim = cat_dim(s);
  const int first = first_with_shape(s);
  TensorType out = s.input(first);
  for (int i = 0; i < s.num_inputs(); ++i) {
    if (i == first) continue;
    const TensorType& in = s.input(i);
    out.dtype = promote(out.dtype, in.dtype);
    if (adds_nothing(in.shape, out.shape.ndim())) continue;
    bool fits = in.shape.ndim() == out.shape.ndim();
    for (int d = 0; fits && d < out.shape.ndim(); ++d) fits = d == dim || in.shape[d] == out.shape[d];
    if (!fits) s.fail("shapes differ outside dim " + std::to_string(dim) + " (" + s.describe(first) + ", " + s.describe(i) + ")");
    out.shape[dim] += in.shape[dim];
  }
  s.output(0) = out;
}

std::string cat_rule(const ShapeCall& s) {
  const int n = s.input(first_with_shape(s)).shape.ndim(), dim = cat_dim(s);
  std::string text, windows;
  const auto operand = [&](const std::string& joined) {
    std::string o;
    for (int d = 0; d < n; ++d) o += (d == 0 ? "" : " ") + (d == dim ? joined : "d" + std::to_string(d));
    return o;
  };
  std::int64_t at = 0;
  for (int i = 0; i < s.num_inputs(); ++i) {
    if (adds_nothing(s.input(i).shape, n)) {
      const std::string name = "e" + std::to_string(i);
      text += (i == 0 ? "" : ", ") + name;
      windows += name + ": whole; ";
      continue;
    }
    const std::string name = "c" + std::to_string(i);
    text += (i == 0 ? "" : ", ") + operand(name);
    windows += ops::window(name, "r", {.low = -at, .high = -at}) + "; ";
    at += s.input(i).shape[dim];
  }
  return text + " -> " + operand("r") + "    " + windows + "linear";
}

void cat_kernel(const KernelCall& call) {
  const Tensor& out = call.output(0);
  const int n = out.ndim();
  const auto a = call.attribute(0).as_int();
  const int dim = static_cast<int>(a < 0 ? a + n : a);
  const std::int64_t begin = call.output_place(0).begin(dim), end = begin + out.shape()[dim];
  std::int64_t at = 0;
  for (int i = 0; i < call.num_inputs(); ++i) {
    const Tensor& in = call.input(i);
    if (adds_nothing(call.input_place(i).global, n)) continue;
    const std::int64_t here = at + call.input_place(i).begin(dim);
    const std::int64_t from = std::max(begin, here), to = std::min(end, here + in.shape()[dim]);
    if (from < to && in.numel() > 0) out.narrow(dim, from - begin, to - from).copy_(in.narrow(dim, from - here, to - from));
    at += call.input_place(i).global[dim];
  }
}

std::vector<DTensor> cat_gradient(const GradientCall& g) {
  const int n = g.grad_output(0).ndim();
  const auto a = g.attribute(0).as_int();
  const int dim = static_cast<int>(a < 0 ? a + n : a);
  std::vector<DTensor> grads;
  std::int64_t at = 0;
  for (int i = 0; i < g.num_inputs(); ++i) {
    const TensorType& in = g.input_type(i);
    if (adds_nothing(in.shape, n)) {
      grads.push_back(g.needs(i) ? reshape(slice(g.grad_output(0), dim, 0, 0), in.shape).to(in.dtype) : DTensor());
      continue;
    }
    const std::int64_t size = in.shape[dim];
    grads.push_back(g.needs(i) ? slice(g.grad_output(0), dim, at, at + size).to(in.dtype) : DTensor());
    at += size;
  }
  return grads;
}

constexpr OpDef kCat{
    .name = "cat",
    .signature = "tensors[], dim: int = 0 -> out",
    .shape = cat_shape,
    .rule_for = cat_rule,
    .kernel = cat_kernel,
    .gradient = cat_gradient,
    .samples =
        [] {
          return std::vector<Sample>{{.shapes = {{3, 5}, {2, 5}}, .attributes = {{"dim", "0"}}},
                                     {.shapes = {{3, 5}, {3, 0}, {3, 1}}, .attributes = {{"dim", "1"}}},
                                     {.shapes = {{0}, {3, 5}, {0}}, .attributes = {{"dim", "1"}}}};
        },
};

}  // namespace

namespace ops {
OpList join_ops() {
  static const std::array<const OpDef*, 2> kOps{&kCat, &in_parts_op()};
  return kOps;
}
}  // namespace ops

DTensor cat(std::span<const DTensor> tensors, int dim) {
  std::vector<Input> inputs(tensors.begin(), tensors.end());
  const Attribute attribute(dim);
  return std::move(call_all(kCat, inputs, {&attribute, 1}).at(0));
}

DTensor stack(std::span<const DTensor> tensors, int dim) {
  if (tensors.empty()) throw InvalidArgument("stack: the list of tensors is empty; give at least one");
  std::vector<DTensor> parts;
  for (const DTensor& t : tensors) {
    if (t.shape() != tensors[0].shape()) throw InvalidArgument("stack: shapes differ (" + to_string(tensors[0]) + ", " + to_string(t) + ")");
    parts.push_back(unsqueeze(t, dim));
  }
  return cat(parts, dim < 0 ? dim + tensors[0].ndim() + 1 : dim);
}

}  // namespace dtensor
