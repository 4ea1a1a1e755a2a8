// SPDX-License-Identifier: Apache-2.0
#include "ops/reduction_rules.h"

#include <algorithm>
#include <array>
#include <vector>

#include "tensor/state.h"

namespace dtensor::ops {
namespace {

Shape listed(const Attribute& attribute) {
  if (attribute.kind() == Attribute::Kind::number) return {attribute.as_int()};
  return attribute.kind() == Attribute::Kind::list ? attribute.as_shape() : Shape();
}

// A digit suffices for a dim.
static_assert(kMaxDims < 10);
void add_name(std::string& text, int dim) { text.append({'d', static_cast<char>('0' + dim)}); }

}  // namespace

Shape normal_dims(const Attribute& attribute, int ndim) {
  Shape dims = listed(attribute);
  if (dims.empty())
    for (int d = 0; d < ndim; ++d) dims.push_back(d);
  for (std::int64_t& d : dims)
    if (d < 0) d += ndim == 0 ? 1 : ndim;
  if (ndim == 0) return {};
  std::sort(dims.begin(), dims.end());
  return dims;
}

Shape checked_dims(const ShapeCall& s, const Attribute& attribute) {
  const int ndim = s.input(0).shape.ndim(), bound = std::max(ndim, 1);
  std::array<bool, kMaxDims> seen{};
  for (std::int64_t d : listed(attribute)) {
    if (d < -bound || d >= bound)
      s.fail("dim " + std::to_string(d) + " is out of range (" + s.describe(0) + " has " + std::to_string(ndim) + " dims); give " +
             std::to_string(-bound) + " .. " + std::to_string(bound - 1));
    bool& at = seen[static_cast<std::size_t>(d < 0 ? d + bound : d)];
    if (at) s.fail("dim " + std::to_string(d) + " is named twice (dim " + to_string(listed(attribute)) + "); name each once");
    at = true;
  }
  return normal_dims(attribute, ndim);
}

bool contains(const Shape& dims, int dim) { return std::find(dims.begin(), dims.end(), dim) != dims.end(); }

Shape reduced_shape(const Shape& shape, const Shape& dims, bool keepdim) {
  Shape result;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (!contains(dims, d)) result.push_back(shape[d]);
    else if (keepdim) result.push_back(1);
  }
  return result;
}

std::string kept_names(int ndim, const Shape& dims, bool keepdim) {
  std::string text;
  for (int d = 0; d < ndim; ++d) {
    const bool reduced = contains(dims, d);
    if (reduced && !keepdim) continue;
    if (!text.empty()) text += ' ';
    if (reduced) text += '1';
    else add_name(text, d);
  }
  return text.empty() ? "()" : text;
}
std::string all_names(int ndim) { return kept_names(ndim, {}, false); }

std::string clause(const Shape& dims, std::string_view kind) {
  std::string text;
  for (std::int64_t d : dims) {
    if (!text.empty()) text += ", ";
    add_name(text, static_cast<int>(d));
  }
  if (!text.empty()) text.append(": ").append(kind);
  return text;
}

std::string reduction_rule(int ndim, const Shape& dims, bool keepdim, std::string_view kind, std::string_view flags) {
  std::string text = all_names(ndim) + " -> " + kept_names(ndim, dims, keepdim) + "  " + clause(dims, kind);
  if (!flags.empty()) text += (dims.empty() ? "" : "; ") + std::string(flags);
  return text;
}

DTensor without_partial(const DTensor& tensor) {
  const Placements& placements = tensor.placements();
  const auto& entries = placements.entries();
  if (std::none_of(entries.begin(), entries.end(), [](const AxisPlacement& e) { return e.placement.is_partial(); })) return tensor;
  const auto settled = [](const Placement& p) { return p.is_partial() ? Placement(Replicate()) : p; };
  if (placements.named()) {
    std::vector<AxisPlacement> list;
    for (const AxisPlacement& e : entries) list.emplace_back(e.axis, settled(e.placement));
    return tensor.redistribute(Placements(std::move(list)));
  }
  std::vector<Placement> list;
  for (const AxisPlacement& e : entries) list.push_back(settled(e.placement));
  return tensor.redistribute(Placements(std::span<const Placement>(list)));
}

DTensor without_partial(std::string_view op, const DTensor& operand) {
  const tensor::Inserted inserted(op);
  return without_partial(operand);
}

DTensor in_dtype(const DTensor& tensor, Dtype dtype) { return tensor.dtype() == dtype ? tensor : tensor.to(dtype); }

}  // namespace dtensor::ops
