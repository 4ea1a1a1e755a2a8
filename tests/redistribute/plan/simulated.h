// SPDX-License-Identifier: Apache-2.0
// Ranks simulated in one place: every rank holds numbers modulo a prime, and moves carry them as their boxes say.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "placements/layout.h"
#include "redistribute/plan/route.h"

namespace simulated {

using dtensor::ReduceOp;
using dtensor::Shape;
using dtensor::placements::Layout;
using dtensor::placements::LayoutRef;
using dtensor::placements::Run;
using dtensor::placements::Split;
using dtensor::redistribute::local_runs;
using dtensor::redistribute::lower;
using dtensor::redistribute::Move;
using dtensor::redistribute::MoveKind;
using dtensor::redistribute::Piece;
using dtensor::redistribute::Transfer;
using Number = std::uint64_t;
using Local = std::vector<Number>;

inline constexpr Number kPrime = (Number{1} << 61) - 1;
inline constexpr Number kUnset = ~Number{0};

inline Number times(Number a, Number b) { return static_cast<Number>(static_cast<unsigned __int128>(a) * b % kPrime); }
inline Number inverse(Number a) {
  Number result = 1;
  for (Number e = kPrime - 2; e > 0; e >>= 1, a = times(a, a))
    if (e & 1) result = times(result, a);
  return result;
}
inline Number combine(ReduceOp op, Number a, Number b) {
  switch (op) {
    case ReduceOp::min:
      return std::min(a, b);
    case ReduceOp::max:
      return std::max(a, b);
    case ReduceOp::product:
      return times(a, b);
    default:
      return (a + b) % kPrime;
  }
}
inline Number neutral(ReduceOp op) { return op == ReduceOp::min ? kPrime - 1 : op == ReduceOp::product ? 1 : 0; }

inline int rank_count(const Layout& l) {
  int n = 1;
  for (int s : l.mesh_sizes) n *= s;
  return n;
}
inline Shape coordinates_of(const std::vector<int>& sizes, int rank) {
  Shape c = Shape::filled(static_cast<int>(sizes.size()), 0);
  for (int a = static_cast<int>(sizes.size()) - 1; a >= 0; --a) {
    c[a] = rank % sizes[static_cast<std::size_t>(a)];
    rank /= sizes[static_cast<std::size_t>(a)];
  }
  return c;
}
inline int rank_of(const std::vector<int>& sizes, const Shape& c) {
  int r = 0;
  for (std::size_t a = 0; a < sizes.size(); ++a) r = r * sizes[a] + static_cast<int>(c[a]);
  return r;
}
/// Ranks of the sub-grid through `c` along `axes`, row-major in their order.
inline std::vector<int> group_of(const std::vector<int>& sizes, const Shape& c, const std::vector<int>& axes) {
  std::vector<int> group;
  std::int64_t n = 1;
  for (int a : axes) n *= sizes[static_cast<std::size_t>(a)];
  for (std::int64_t i = 0; i < n; ++i) {
    Shape peer = c;
    std::int64_t rest = i;
    for (auto it = axes.rbegin(); it != axes.rend(); ++it) {
      peer[*it] = rest % sizes[static_cast<std::size_t>(*it)];
      rest /= sizes[static_cast<std::size_t>(*it)];
    }
    group.push_back(rank_of(sizes, peer));
  }
  return group;
}

/// Global row-major element numbers that a rank owns, in local order.
inline std::vector<std::int64_t> owned(const Layout& l, const Shape& shape, const Shape& c) {
  std::vector<std::int64_t> ids{0};
  for (int d = 0; d < shape.ndim(); ++d) {
    std::vector<std::int64_t> next;
    const std::vector<Run> runs = dtensor::placements::owned_runs(l, d, shape[d], c);
    for (std::int64_t id : ids)
      for (const Run& r : runs)
        for (std::int64_t i = 0; i < r.length; ++i) next.push_back(id * shape[d] + r.begin + i);
    ids = std::move(next);
  }
  return ids;
}

inline Number noise(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a * 0x9e3779b97f4a7c15ull + b * 0xbf58476d1ce4e5b9ull + 0x94d049bb133111ebull;
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9ull;
  return 1 + (x ^ (x >> 29)) % (kPrime - 2);
}

/// Locals of every rank; replicas agree, contributions differ.
inline std::vector<Local> fill(const Layout& l, const Shape& shape) {
  std::vector<Local> ranks;
  for (int r = 0; r < rank_count(l); ++r) {
    const Shape c = coordinates_of(l.mesh_sizes, r);
    std::uint64_t contribution = 0;
    for (std::size_t a = 0; a < l.mesh_sizes.size(); ++a)
      if (l.partial[a]) contribution = contribution * 16 + static_cast<std::uint64_t>(c[a]);
    Local& local = ranks.emplace_back();
    for (std::int64_t id : owned(l, shape, c)) local.push_back(noise(contribution, static_cast<std::uint64_t>(id)));
  }
  return ranks;
}

/// The global value, and whether all replicas have it.
struct Value {
  std::map<std::int64_t, Number> elements;
  bool consistent = true;
};
inline Value value_of(const Layout& l, const Shape& shape, const std::vector<Local>& ranks) {
  // Contributions by (coordinates on axes that are not Partial, element).
  std::map<std::pair<std::vector<std::int64_t>, std::int64_t>, Number> sums;
  Value value;
  Number scale = 1;
  ReduceOp op = ReduceOp::sum;
  for (std::size_t a = 0; a < l.partial.size(); ++a) {
    if (!l.partial[a]) continue;
    if (*l.partial[a] == ReduceOp::avg) scale = times(scale, inverse(static_cast<Number>(l.mesh_sizes[a])));
    else op = *l.partial[a];
  }
  for (int r = 0; r < rank_count(l); ++r) {
    const Shape c = coordinates_of(l.mesh_sizes, r);
    std::vector<std::int64_t> fixed;
    for (std::size_t a = 0; a < l.partial.size(); ++a)
      if (!l.partial[a]) fixed.push_back(c[a]);
    const auto ids = owned(l, shape, c);
    if (ids.size() != ranks[static_cast<std::size_t>(r)].size()) value.consistent = false;
    for (std::size_t i = 0; i < ids.size() && value.consistent; ++i) {
      const Number x = ranks[static_cast<std::size_t>(r)][i];
      if (x == kUnset) value.consistent = false;
      const auto [it, made] = sums.try_emplace({fixed, ids[i]}, x);
      if (!made) it->second = combine(op, it->second, x);
    }
  }
  for (const auto& [key, x] : sums) {
    const auto [it, made] = value.elements.try_emplace(key.second, times(x, scale));
    if (it->second != times(x, scale)) value.consistent = false;
  }
  return value;
}

struct Carried {
  std::vector<Local> ranks;
  std::string fault;  ///< empty when every send met its receive
  std::int64_t received_max = 0, received_total = 0;
};

/// Offsets of a box in its order.
inline std::vector<std::int64_t> offsets(const Piece& p) {
  std::vector<std::int64_t> result{p.offset};
  for (int d = 0; d < p.sizes.ndim(); ++d) {
    std::vector<std::int64_t> next;
    for (std::int64_t o : result)
      for (std::int64_t i = 0; i < p.sizes[d]; ++i) next.push_back(o + i * p.strides[d]);
    result = std::move(next);
  }
  return result;
}

struct Reducing {
  bool any = false;
  ReduceOp op = ReduceOp::sum;
  Number scale = 1;
};
inline Reducing reducing(const Move& m) {
  Reducing r;
  for (int axis : m.axes) {
    const auto a = static_cast<std::size_t>(axis);
    if (!m.from->partial[a] || m.to->partial[a] == m.from->partial[a]) continue;
    r.any = true;
    if (*m.from->partial[a] == ReduceOp::avg) r.scale = times(r.scale, inverse(static_cast<Number>(m.from->mesh_sizes[a])));
    else r.op = *m.from->partial[a];
  }
  return r;
}

/// Carries the pieces of lower() between all ranks.
inline Carried carry(const Move& m, const Shape& shape, const std::vector<Local>& in) {
  Carried out;
  const Layout &from = *m.from, &to = *m.to;
  const int n = rank_count(from);
  std::vector<Transfer> transfers;
  std::vector<std::vector<int>> groups;
  std::map<std::pair<int, int>, std::vector<const Piece*>> sent;
  for (int r = 0; r < n; ++r) {
    const Shape c = coordinates_of(from.mesh_sizes, r);
    transfers.push_back(lower(m, shape, c));
    groups.push_back(group_of(from.mesh_sizes, c, m.axes));
  }
  for (int r = 0; r < n; ++r)
    for (const Piece& p : transfers[static_cast<std::size_t>(r)].sends)
      sent[{r, groups[static_cast<std::size_t>(r)][static_cast<std::size_t>(p.peer)]}].push_back(&p);
  const Reducing reduce = reducing(m);
  std::map<std::pair<int, int>, std::size_t> taken;
  for (int r = 0; r < n; ++r) {
    Local& local = out.ranks.emplace_back(owned(to, shape, coordinates_of(from.mesh_sizes, r)).size(), kUnset);
    std::int64_t received = 0;
    const Piece* last = nullptr;
    for (const Piece& p : transfers[static_cast<std::size_t>(r)].receives) {
      const int peer = groups[static_cast<std::size_t>(r)][static_cast<std::size_t>(p.peer)];
      auto& queue = sent[{peer, r}];
      const std::size_t k = taken[{peer, r}]++;
      if (k >= queue.size() || !(queue[k]->sizes == p.sizes)) {
        out.fault = "a receive without its send";
        return out;
      }
      const bool same_box = last != nullptr && last->offset == p.offset && last->sizes == p.sizes && last->strides == p.strides;
      if (same_box && last->peer >= p.peer) out.fault = "contributions out of order";
      if (same_box && !reduce.any) out.fault = "an element received twice";
      last = &p;
      const auto source = offsets(*queue[k]), target = offsets(p);
      for (std::size_t i = 0; i < source.size(); ++i) {
        Number& cell = local.at(static_cast<std::size_t>(target[i]));
        const Number x = in[static_cast<std::size_t>(peer)].at(static_cast<std::size_t>(source[i]));
        if (cell != kUnset && !same_box) out.fault = "boxes overlap";
        cell = cell == kUnset ? x : combine(reduce.op, cell, x);
      }
      if (peer != r) received += p.sizes.numel();
    }
    out.received_max = std::max(out.received_max, received);
    out.received_total += received;
  }
  for (const auto& [key, queue] : sent)
    if (taken[key] != queue.size()) out.fault = "a send without its receive";
  for (Local& local : out.ranks)
    for (Number& x : local)
      if (reduce.any && x != kUnset) x = times(x, reduce.scale);
  return out;
}

inline Carried all_reduce(const Move& m, const std::vector<Local>& in) {
  Carried out;
  const Reducing reduce = reducing(m);
  for (int r = 0; r < rank_count(*m.from); ++r) {
    const auto group = group_of(m.from->mesh_sizes, coordinates_of(m.from->mesh_sizes, r), m.axes);
    Local sum = in[static_cast<std::size_t>(group[0])];
    for (std::size_t k = 1; k < group.size(); ++k)
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = combine(reduce.op, sum[i], in[static_cast<std::size_t>(group[k])][i]);
    for (Number& x : sum) x = times(x, reduce.scale);
    // A reduce_scatter and an all_gather of ceil chunks.
    const auto g = static_cast<std::int64_t>(group.size()), size = static_cast<std::int64_t>(sum.size()), chunk = (size + g - 1) / g;
    const std::int64_t self = std::find(group.begin(), group.end(), r) - group.begin();
    const std::int64_t own = std::min(size, (self + 1) * chunk) - std::min(size, self * chunk), received = (g - 1) * own + size - own;
    out.received_max = std::max(out.received_max, received);
    out.received_total += received;
    out.ranks.push_back(std::move(sum));
  }
  return out;
}

/// A move that communicates nothing, from what each rank has.
inline Carried local_move(const Move& m, const Shape& shape, const std::vector<Local>& in) {
  Carried out;
  for (int r = 0; r < rank_count(*m.from); ++r) {
    const Shape c = coordinates_of(m.from->mesh_sizes, r);
    const auto had = owned(*m.from, shape, c), wanted = owned(*m.to, shape, c);
    const Local& mine = in[static_cast<std::size_t>(r)];
    Local& local = out.ranks.emplace_back();
    if (m.kind == MoveKind::slice) {
      const auto runs = local_runs(*m.from, *m.to, shape, c);
      std::vector<std::int64_t> at{0};
      for (int d = 0; d < shape.ndim(); ++d) {
        std::vector<std::int64_t> next;
        const std::int64_t size = dtensor::placements::local_size(*m.from, d, shape[d], c);
        for (std::int64_t o : at)
          for (const Run& run : runs[static_cast<std::size_t>(d)])
            for (std::int64_t i = 0; i < run.length; ++i) next.push_back(o * size + run.begin + i);
        at = std::move(next);
      }
      for (std::int64_t i : at) local.push_back(mine.at(static_cast<std::size_t>(i)));
      continue;
    }
    if (m.kind == MoveKind::relabel) {
      if (had != wanted) out.fault = "a relabel of layouts that own different elements";
      local = mine;
      continue;
    }
    const bool split = m.kind == MoveKind::shard_to_partial;
    bool keeps = true;
    for (int a : m.axes) {
      const auto op = m.to->partial[static_cast<std::size_t>(a)];
      if (op) local.assign(wanted.size(), neutral(*op));
      keeps = keeps && (split || c[a] == 0 || (op != ReduceOp::sum && op != ReduceOp::product));
    }
    for (std::size_t i = 0; keeps && i < had.size(); ++i) {
      const auto it = std::find(wanted.begin(), wanted.end(), had[i]);
      if (it != wanted.end()) local.at(static_cast<std::size_t>(it - wanted.begin())) = mine[i];
      else if (!split) out.fault = "a value that is lost";
    }
  }
  return out;
}

inline Carried apply(const Move& m, const Shape& shape, const std::vector<Local>& in) {
  if (m.kind == MoveKind::all_reduce) return all_reduce(m, in);
  return m.kind < MoveKind::all_gather ? local_move(m, shape, in) : carry(m, shape, in);
}

/// Layouts by dimension lists: "0" "1" are ceil chunks over that axis.
inline LayoutRef layout(std::vector<int> mesh, std::vector<std::vector<Split>> dims, std::vector<std::pair<int, ReduceOp>> partial = {}) {
  Layout l;
  l.mesh_sizes = std::move(mesh);
  l.dims = std::move(dims);
  l.partial.resize(l.mesh_sizes.size());
  for (const auto& [axis, op] : partial) l.partial[static_cast<std::size_t>(axis)] = op;
  return dtensor::placements::intern(std::move(l));
}

/// Every layout whose lists come from `splits` (each with the dimension it is for, -1 for any) and whose other axes are Replicate or of a kind in `ops`.
inline std::vector<LayoutRef> all_layouts(const std::vector<int>& mesh, int ndim, const std::vector<std::pair<Split, int>>& splits,
                                          const std::vector<ReduceOp>& ops) {
  std::vector<LayoutRef> result;
  Layout base;
  base.mesh_sizes = mesh;
  base.dims.resize(static_cast<std::size_t>(ndim));
  base.partial.resize(mesh.size());
  auto kinds = [&](auto&& self, Layout l, std::size_t axis) -> void {
    if (axis == mesh.size()) {
      result.push_back(dtensor::placements::intern(std::move(l)));
      return;
    }
    self(self, l, axis + 1);
    if (l.dim_of(static_cast<int>(axis)) >= 0) return;
    for (ReduceOp op : ops) {
      const auto linear = [](ReduceOp o) { return o == ReduceOp::sum || o == ReduceOp::avg; };
      if (std::any_of(l.partial.begin(), l.partial.end(), [&](const auto& o) { return o && *o != op && !(linear(*o) && linear(op)); })) continue;
      Layout next = l;
      next.partial[axis] = op;
      self(self, next, axis + 1);
    }
  };
  auto lists = [&](auto&& self, const Layout& l, int dim) -> void {
    if (dim == ndim) {
      kinds(kinds, l, 0);
      return;
    }
    self(self, l, dim + 1);
    for (const auto& [split, where] : splits) {
      auto& list = l.dims[static_cast<std::size_t>(dim)];
      if (where >= 0 && where != dim) continue;
      if (!split.sizes.empty() && !list.empty()) continue;
      if (std::any_of(split.axes.begin(), split.axes.end(), [&](int a) { return l.dim_of(a) >= 0; })) continue;
      Layout next = l;
      next.dims[static_cast<std::size_t>(dim)].push_back(split);
      self(self, next, dim);
    }
  };
  lists(lists, base, 0);
  return result;
}
inline std::vector<std::pair<Split, int>> ceil_splits(const std::vector<int>& mesh) {
  std::vector<std::pair<Split, int>> splits;
  for (std::size_t a = 0; a < mesh.size(); ++a)
    if (mesh[a] > 1) splits.push_back({Split{{static_cast<int>(a)}, 1, {}}, -1});
  return splits;
}

inline std::string text(const Layout& l) {
  std::vector<std::string> names;
  for (std::size_t a = 0; a < l.mesh_sizes.size(); ++a) names.push_back(std::to_string(a) + "=" + std::to_string(l.mesh_sizes[a]));
  return dtensor::placements::to_string(l, names);
}

}  // namespace simulated
