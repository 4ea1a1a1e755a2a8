// SPDX-License-Identifier: Apache-2.0
#include "ops/index_rules.h"

#include <algorithm>

#include <fmt/format.h>

namespace dtensor::ops {

void check_index(const ShapeCall& s, int i) {
  const Dtype d = s.input(i).dtype;
  if (d != Dtype::i64 && d != Dtype::i32) s.fail(fmt::format("indices must be i64 or i32 ({}); convert them with to()", s.describe(i)));
}

Place lined(const Place& place) { return place.global.empty() ? Place{{1}, {{{0, 1}}}} : place; }

int line_dim(const Attribute& dim, int ndim, std::string_view op) { return normalize_dim(static_cast<int>(dim.as_int()), std::max(ndim, 1), op); }

std::vector<std::int64_t> positions(const KernelCall& call, int index, const Place& place, int dim, const char* what, bool from_end) {
  const Tensor& t = call.input(index);
  const std::int64_t limit = place.global[dim], count = t.numel();
  std::vector<std::int64_t> at(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t value = t.dtype() == Dtype::i64 ? t.raw_as<std::int64_t>()[i] : t.raw_as<std::int32_t>()[i];
    if (from_end && value < 0) value += limit;
    if (value < 0 || value >= limit)
      call.fail(fmt::format("index {} is out of range ({} has {}); indices are {} to {}", from_end && value < 0 ? value - limit : value, what, limit,
                            from_end ? -limit : 0, limit - 1));
    at[static_cast<std::size_t>(i)] = place.to_local(dim, value);
  }
  return at;
}

Coordinates::Coordinates(const Place& index, const Shape& local, const Place& target, int dim) : lists(local.size()), spans(local.size()) {
  for (int d = 0; d < local.ndim(); ++d) {
    auto& list = lists[static_cast<std::size_t>(d)];
    if (d == dim) continue;
    for (std::int64_t i = 0; i < local[d]; ++i) list.push_back(target.to_local(d, index.to_global(d, i)));
    spans[static_cast<std::size_t>(d)] = list;
  }
}

local::cpu::RowsCall rows_of(const Shape& shape, int dim, std::span<const std::int64_t> at) {
  std::int64_t outer = 1, inner = 1;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (d < dim) outer *= shape[d];
    if (d > dim) inner *= shape[d];
  }
  return {outer, shape[dim], inner, at};
}

std::string dims_with(int ndim, int dim, const char* name) {
  std::string text;
  for (int d = 0; d < ndim; ++d) text += (d == 0 ? "" : " ") + (d == dim ? std::string(name) : fmt::format("a{}", d));
  return text;
}

std::string source_dims(const Shape& source, const Shape& index, int dim) {
  std::string text;
  for (int d = 0; d < source.ndim(); ++d) {
    const char* kind = source[d] == index[d] ? "a" : "w";
    text += (d == 0 ? "" : " ") + (d == dim ? std::string("v") : fmt::format("{}{}", kind, d));
  }
  return text;
}

std::string names_where_longer(const Shape& source, const Shape& index, int dim, char name, const char* kind) {
  std::string text;
  for (int d = 0; d < source.ndim(); ++d)
    if (d != dim && source[d] != index[d]) text += fmt::format("{}{}: {}; ", name, d, kind);
  return text;
}

}  // namespace dtensor::ops
