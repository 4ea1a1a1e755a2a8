// SPDX-License-Identifier: Apache-2.0
// What every rank must hold of a global value, from the definition of placements alone, and the global value that the ranks' parts say. Values are
// small integers and powers of two, so that every reduction is exact in every dtype.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dtensor/tensor.h"
#include "placements/enumerate.h"
#include "redistribute/covering.h"

namespace placed {

using namespace dtensor;
using Entries = std::vector<AxisPlacement>;

inline std::uint64_t noise(std::uint64_t a, std::uint64_t b) { return covering::Random(a * 1000003 + b).next(); }

struct Whole {
  Shape shape;
  Dtype dtype = Dtype::f32;
  std::vector<double> values;  // row-major
};
inline Whole make_whole(const Shape& shape, Dtype dtype, std::uint64_t seed) {
  Whole w{shape, dtype, {}};
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    const auto bits = static_cast<int>(noise(seed, static_cast<std::uint64_t>(i)) % 1000);
    w.values.push_back(dtype == Dtype::boolean ? bits % 2 : dtype == Dtype::u8 ? bits % 9 : bits % 17 - 8);
  }
  return w;
}

/// Where a rank stands among the contributions of the Partial axes.
struct Place {
  std::optional<ReduceOp> op;
  int index = 0, count = 1, averaged = 1;
};
inline Place place_of(const DeviceMesh& mesh, const Entries& entries, const Shape& c) {
  Place p;
  for (const AxisPlacement& e : entries) {
    const auto* partial = e.placement.as<Partial>();
    if (partial == nullptr) continue;
    const int axis = mesh.axis(e.axis), n = mesh.sizes()[static_cast<std::size_t>(axis)];
    p.index = p.index * n + static_cast<int>(c[axis]);
    p.count *= n;
    if (partial->op == ReduceOp::avg) p.averaged *= n;
    else p.op = partial->op;
    if (!p.op) p.op = ReduceOp::sum;
  }
  return p;
}

/// Contribution `k` to the value `v` of element `id`.
inline double contribution(double v, Dtype dtype, const Place& place, int k, std::uint64_t id) {
  if (!place.op) return v;
  const auto pick = [&](int which) { return static_cast<int>(noise(id, static_cast<std::uint64_t>(which)) % 4); };
  switch (*place.op) {
    case ReduceOp::min:
    case ReduceOp::max: {
      const int holder = static_cast<int>(noise(id, 77) % static_cast<std::uint64_t>(place.count));
      const double by = k == holder ? 0 : pick(k), x = *place.op == ReduceOp::min ? v + by : v - by;
      if (dtype == Dtype::boolean) return std::clamp(x, 0.0, 1.0);
      return dtype == Dtype::u8 ? std::max(x, 0.0) : x;
    }
    case ReduceOp::product: {
      const auto factor = [&](int which) {
        if (info(dtype).floating) return std::array{0.5, 1.0, 2.0, -1.0}[static_cast<std::size_t>(pick(which))];
        return dtype == Dtype::u8 || pick(which) < 2 ? 1.0 : -1.0;
      };
      if (k > 0) return factor(k);
      double rest = 1;
      for (int other = 1; other < place.count; ++other) rest *= factor(other);
      return v / rest;
    }
    default: {
      if (k > 0) return dtype == Dtype::u8 ? pick(k) % 2 : pick(k) - 1;
      double rest = v * place.averaged;
      for (int other = 1; other < place.count; ++other) rest -= dtype == Dtype::u8 ? pick(other) % 2 : pick(other) - 1;
      return rest;
    }
  }
}

/// Global row-major element numbers that a rank owns, in local order, and the local shape.
struct Owned {
  std::vector<std::int64_t> ids;
  Shape shape;
};
inline Owned owned(const DeviceMesh& mesh, const Entries& entries, const Shape& shape, const Shape& c) {
  Owned o{{0}, {}};
  for (int d = 0; d < shape.ndim(); ++d) {
    const auto mine = testing::simulate(mesh, entries, d, shape[d], c);
    o.shape.push_back(static_cast<std::int64_t>(mine.size()));
    std::vector<std::int64_t> next;
    for (std::int64_t id : o.ids)
      for (std::int64_t i : mine) next.push_back(id * shape[d] + i);
    o.ids = std::move(next);
  }
  return o;
}

inline Tensor tensor_of(const std::vector<double>& values, const Shape& shape, Dtype dtype) {
  const Tensor t = Tensor::of(values, shape);
  if (dtype == Dtype::f64) return t;
  if (dtype != Dtype::u8) return t.to(dtype);
  // Sums may wrap; a conversion of what u8 does not hold is undefined.
  std::vector<std::uint8_t> bytes;
  for (double v : values) bytes.push_back(static_cast<std::uint8_t>(static_cast<std::int64_t>(v)));
  return Tensor::of(bytes, shape);
}
inline std::vector<double> numbers(const Tensor& tensor) {
  const Tensor t = tensor.dtype() == Dtype::f64 ? tensor.contiguous() : tensor.to(Dtype::f64);
  const auto v = t.values<const double>();
  return {v.begin(), v.end()};
}
inline std::string bytes_of(const Tensor& tensor) {
  const Tensor t = tensor.contiguous();
  return {static_cast<const char*>(t.read()), static_cast<std::size_t>(t.bytes())};
}

/// This rank's part of a value.
inline Tensor part(const Whole& whole, const DeviceMesh& mesh, const Entries& entries, const Shape& c) {
  const Owned o = owned(mesh, entries, whole.shape, c);
  const Place place = place_of(mesh, entries, c);
  std::vector<double> values;
  for (std::int64_t id : o.ids)
    values.push_back(contribution(whole.values[static_cast<std::size_t>(id)], whole.dtype, place, place.index, static_cast<std::uint64_t>(id)));
  return tensor_of(values, o.shape, whole.dtype);
}

/// What a rank was seen to hold.
struct Held {
  Shape shape;
  std::vector<double> values;
  std::string bytes;
};
inline Held held(const Tensor& t) { return {t.shape(), numbers(t), bytes_of(t)}; }

/// Empty when the parts of all ranks (row-major over the mesh) are the value, exactly, and replicas have the same bytes.
inline std::string fault_of(const Whole& whole, const DeviceMesh& mesh, const Entries& entries, const std::vector<Held>& ranks) {
  const auto positions = testing::positions(mesh);
  const auto n = static_cast<std::size_t>(whole.shape.numel());
  std::vector<std::string> keys;
  std::map<std::string, std::size_t> tasks;
  std::vector<std::vector<std::optional<double>>> combined;  // by task: ranks that contribute to one replica
  for (std::size_t r = 0; r < positions.size(); ++r) {
    std::string replica, task;
    for (const AxisPlacement& e : entries) {
      for (std::size_t at = 0; at < e.axis.size(); at += 3)
        replica += e.placement.is_replicate() ? "" : std::to_string(positions[r][mesh.axis(e.axis.substr(at, 2))]) + ",";
    }
    for (int a = 0; a < mesh.ndim(); ++a) {
      bool partial = false;
      for (const AxisPlacement& e : entries) partial = partial || (e.placement.is_partial() && mesh.axis(e.axis) == a);
      if (!partial) task += "/" + std::to_string(positions[r][a]);
    }
    for (std::size_t q = 0; q < r; ++q)
      if (keys[q] == replica && ranks[q].bytes != ranks[r].bytes)
        return "ranks " + std::to_string(q) + " and " + std::to_string(r) + " hold different replicas";
    keys.push_back(replica);
    const Owned o = owned(mesh, entries, whole.shape, positions[r]);
    if (!(o.shape == ranks[r].shape))
      return "rank " + std::to_string(r) + " holds " + dtensor::to_string(ranks[r].shape) + ", not " + dtensor::to_string(o.shape);
    const auto [it, made] = tasks.try_emplace(task, combined.size());
    if (made) combined.emplace_back(n);
    auto& sum = combined[it->second];
    const Place place = place_of(mesh, entries, positions[r]);
    for (std::size_t i = 0; i < o.ids.size(); ++i) {
      auto& x = sum[static_cast<std::size_t>(o.ids[i])];
      const double v = ranks[r].values[i];
      if (!x) x = v;
      else if (place.op == ReduceOp::min) x = std::min(*x, v);
      else if (place.op == ReduceOp::max) x = std::max(*x, v);
      else if (place.op == ReduceOp::product) x = *x * v;
      else x = *x + v;
    }
  }
  const Place place = place_of(mesh, entries, positions[0]);
  for (const auto& sum : combined)
    for (std::size_t i = 0; i < n; ++i) {
      if (!sum[i]) continue;
      double value = *sum[i] / place.averaged;
      if (whole.dtype == Dtype::u8) value = static_cast<double>(static_cast<std::uint8_t>(static_cast<std::int64_t>(value)));
      if (value != whole.values[i])
        return "element " + std::to_string(i) + " is " + std::to_string(value) + ", not " + std::to_string(whole.values[i]);
    }
  return {};
}

/// Writes every element by its address, whatever the strides.
inline void overwrite(const Tensor& t) {
  auto* at = static_cast<char*>(t.data());
  const auto bytes = static_cast<std::int64_t>(info(t.dtype()).bytes);
  std::vector<std::int64_t> index(t.shape().size(), 0);
  for (std::int64_t k = 0; k < t.numel(); ++k) {
    std::int64_t offset = 0;
    for (int d = 0; d < t.ndim(); ++d) offset += index[static_cast<std::size_t>(d)] * t.strides()[d];
    std::memset(at + offset * bytes, 1, static_cast<std::size_t>(bytes));
    for (int d = t.ndim() - 1; d >= 0; --d) {
      if (++index[static_cast<std::size_t>(d)] < t.shape()[d]) break;
      index[static_cast<std::size_t>(d)] = 0;
    }
  }
}

}  // namespace placed
