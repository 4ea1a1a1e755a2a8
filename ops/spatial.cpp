// SPDX-License-Identifier: Apache-2.0
#include "ops/spatial.h"

namespace dtensor::ops {

Shape per_dim(const Attribute& attribute, int spatial, std::int64_t fallback) {
  if (attribute.is_none()) return Shape::filled(spatial, fallback);
  if (attribute.kind() == Attribute::Kind::number) return Shape::filled(spatial, attribute.as_int());
  const Shape list = attribute.as_shape();
  if (list.empty()) return Shape::filled(spatial, fallback);
  return list.ndim() == 1 ? Shape::filled(spatial, list[0]) : list;
}

Shape checked_per_dim(const ShapeCall& s, const Attribute& attribute, int spatial, std::int64_t fallback, std::string_view name, std::int64_t least) {
  const Shape list = per_dim(attribute, spatial, fallback);
  bool fits = list.ndim() == spatial;
  for (std::int64_t n : list) fits = fits && n >= least;
  if (!fits)
    s.fail(std::string(name) + " is " + to_string(list) + "; give one number or " + std::to_string(spatial) + ", each at least " +
           std::to_string(least));
  return list;
}

std::string numbered(std::string_view prefix, int count, std::string_view separator) {
  std::string text;
  for (int d = 0; d < count; ++d) text += std::string(d == 0 ? "" : separator) + std::string(prefix) + std::to_string(d);
  return text;
}

std::string window_clause(const std::string& name, const std::string& of, std::int64_t num, std::int64_t low, std::int64_t high, std::int64_t den) {
  return name + ": window(" + std::to_string(num) + " " + of + (low < 0 ? " - " : " + ") + std::to_string(low < 0 ? -low : low) + " .. " +
         std::to_string(high) + (den == 1 ? "" : " / " + std::to_string(den)) + ")";
}

Shape last_sizes(const Shape& shape, int count) {
  Shape sizes;
  for (int d = shape.ndim() - count; d < shape.ndim(); ++d) sizes.push_back(shape[d]);
  return sizes;
}
Shape with_last_sizes(Shape shape, const Shape& sizes) {
  for (int d = 0; d < sizes.ndim(); ++d) shape[shape.ndim() - sizes.ndim() + d] = sizes[d];
  return shape;
}

}  // namespace dtensor::ops
