// SPDX-License-Identifier: Apache-2.0
#include "ops/index_rules.h"

#include <algorithm>

#include <fmt/format.h>

#include "local/kernels/embedding.h"

namespace dtensor::ops {

void check_index(const ShapeCall& s, int i) {
  const Dtype d = s.input(i).dtype;
  if (d != Dtype::i64 && d != Dtype::i32) s.fail(fmt::format("indices must be i64 or i32 ({}); convert them with to()", s.describe(i)));
}

Place lined(const Place& place) { return place.global.empty() ? Place{{1}, {{{0, 1}}}} : place; }

int line_dim(const Attribute& dim, int ndim, std::string_view op) { return normalize_dim(static_cast<int>(dim.as_int()), std::max(ndim, 1), op); }

std::vector<local::GlobalRun> runs_of(const Place& place, int dim) {
  std::vector<local::GlobalRun> runs;
  for (const IndexRun& r : place.runs[static_cast<std::size_t>(dim)]) runs.push_back({r.begin, r.length});
  return runs;
}

Tensor positions(const KernelCall& call, int index, const Place& place, int dim, const char* what, bool from_end) {
  const std::vector<local::GlobalRun> runs = runs_of(place, dim);
  return local::kernels::resolve_positions(call.input(index), {call.op_name, what, place.global[dim], runs, from_end});
}

std::vector<local::cpu::CoordinateMap> coordinates_in(const Place& target, const Place& index, const Shape& local, int dim) {
  std::vector<local::cpu::CoordinateMap> maps(local.size());
  for (int d = 0; d < local.ndim(); ++d) {
    if (d == dim) continue;
    const auto &from = index.runs[static_cast<std::size_t>(d)], &to = target.runs[static_cast<std::size_t>(d)];
    local::cpu::CoordinateMap& map = maps[static_cast<std::size_t>(d)];
    if (from.size() == 1 && to.size() == 1) {
      map.first = from[0].begin - to[0].begin;
      map.length = to[0].length;
      continue;
    }
    for (std::int64_t i = 0; i < local[d]; ++i) map.list.push_back(target.to_local(d, index.to_global(d, i)));
  }
  return maps;
}

local::cpu::RowsCall rows_of(const Shape& shape, int dim, const Tensor& at) {
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
