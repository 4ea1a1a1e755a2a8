// SPDX-License-Identifier: Apache-2.0
// Is a route right? Ranks are simulated on small index spaces: who owns what comes from the definition of a split, element by element, values are
// symbolic enough that a lost, repeated or misplaced contribution shows. The route and the boxes of its moves are arguments, so that a test can
// hand in broken ones.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "redistribute/plan/simulated.h"

namespace checked {

using dtensor::ReduceOp;
using dtensor::Shape;
using dtensor::placements::Layout;
using dtensor::placements::LayoutRef;
using dtensor::placements::Run;
using dtensor::placements::Split;
using dtensor::redistribute::AxisLink;
using dtensor::redistribute::Move;
using dtensor::redistribute::MoveKind;
using dtensor::redistribute::Piece;
using dtensor::redistribute::Route;
using dtensor::redistribute::Topology;
using dtensor::redistribute::Transfer;
using simulated::coordinates_of;

using Number = std::uint64_t;
using Local = std::vector<Number>;
using Ids = std::vector<int>;  ///< global row-major element numbers in local order

inline constexpr Number kPrime = 2147483647;  // products fit 64 bits
inline constexpr Number kUnset = ~Number{0};

inline bool is_set(ReduceOp op) { return op == ReduceOp::min || op == ReduceOp::max; }
/// Sums and products modulo a prime; what min and max choose among is a set, of which nothing may be missing.
inline Number combine(ReduceOp op, Number a, Number b) { return is_set(op) ? (a | b) : op == ReduceOp::product ? a * b % kPrime : (a + b) % kPrime; }
inline Number neutral(ReduceOp op) { return op == ReduceOp::product ? 1 : 0; }
inline Number inverse(Number a) {
  Number result = 1;
  for (Number e = kPrime - 2; e > 0; e >>= 1, a = a * a % kPrime)
    if (e & 1) result = result * a % kPrime;
  return result;
}

/// Ceil chunk `which` of `count` of a list.
inline Ids chunk_of(const Ids& list, std::int64_t count, std::int64_t which) {
  const auto n = static_cast<std::int64_t>(list.size());
  std::int64_t width = 0;
  while (width * count < n) ++width;
  const auto begin = list.begin() + std::min(n, which * width), end = list.begin() + std::min(n, (which + 1) * width);
  return {begin, end};
}
/// Indices of one dimension that the rank at `c` owns, from the definition of a split.
inline Ids owned(const std::vector<int>& mesh, const std::vector<Split>& splits, std::int64_t n, const Shape& c) {
  Ids mine(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = static_cast<int>(i);
  for (const Split& split : splits) {
    std::int64_t rank = 0, ranks = 1;
    for (int a : split.axes) rank = rank * mesh[static_cast<std::size_t>(a)] + c[a], ranks *= mesh[static_cast<std::size_t>(a)];
    Ids next;
    if (!split.sizes.empty()) {
      std::int64_t begin = 0;
      for (std::int64_t r = 0; r < rank; ++r) begin += split.sizes[static_cast<std::size_t>(r)];
      next.assign(mine.begin() + begin, mine.begin() + begin + split.sizes[static_cast<std::size_t>(rank)]);
    } else {
      for (std::int64_t piece = 0; piece < split.pieces; ++piece) {
        const Ids part = chunk_of(chunk_of(mine, split.pieces, piece), ranks, rank);
        next.insert(next.end(), part.begin(), part.end());
      }
    }
    mine = std::move(next);
  }
  return mine;
}

/// What is known of one layout.
struct Placed {
  LayoutRef layout;
  std::vector<Ids> ids;  // by rank
  std::int64_t worst = 0;
  std::vector<std::vector<int>> groups;  // ranks that differ on Partial axes only
  ReduceOp op = ReduceOp::sum;
  Number scale = 1;
  // Values with which a route may start here; replicas agree, contributions differ.
  std::vector<Local> cells;
  std::vector<Number> global;
};

/// The layouts of one mesh and shape.
class World {
 public:
  World(std::vector<int> mesh, Shape shape) : mesh_(std::move(mesh)), shape_(shape) {
    for (int n : mesh_) ranks_ *= n;
    for (int r = 0; r < ranks_; ++r) coordinates_.push_back(coordinates_of(mesh_, r));
  }
  const std::vector<int>& mesh() const { return mesh_; }
  const Shape& shape() const { return shape_; }
  int ranks() const { return ranks_; }
  const Shape& coordinates(int rank) const { return coordinates_[static_cast<std::size_t>(rank)]; }

  const Placed& at(const LayoutRef& layout) {
    auto& slot = placed_[layout.get()];
    if (!slot) slot = std::make_unique<Placed>(place(layout));
    return *slot;
  }
  /// The same with values.
  const Placed& filled(const LayoutRef& layout) {
    at(layout);
    Placed& p = *placed_[layout.get()];
    if (p.cells.empty()) fill(p);
    return p;
  }
  /// The global value that every rank's cells say; empty, with a text, when replicas differ, something is unset or sizes are wrong.
  std::vector<Number> value(const Placed& p, const std::vector<Local>& cells, std::string& fault) const {
    const auto n = static_cast<std::size_t>(shape_.numel());
    std::vector<Number> result(n, kUnset), combined(n);
    for (const auto& group : p.groups) {
      std::fill(combined.begin(), combined.end(), kUnset);
      for (int r : group) {
        const Ids& ids = p.ids[static_cast<std::size_t>(r)];
        const Local& local = cells[static_cast<std::size_t>(r)];
        if (local.size() != ids.size()) fault = "a local tensor of a wrong size";
        for (std::size_t i = 0; i < ids.size() && fault.empty(); ++i) {
          Number& x = combined[static_cast<std::size_t>(ids[i])];
          if (local[i] == kUnset) fault = "an element that nothing wrote";
          x = x == kUnset ? local[i] : combine(p.op, x, local[i]);
        }
      }
      for (std::size_t i = 0; i < n && fault.empty(); ++i) {
        if (combined[i] == kUnset) continue;
        const Number x = p.scale == 1 ? combined[i] : combined[i] * p.scale % kPrime;
        if (result[i] != kUnset && result[i] != x) fault = "replicas that differ";
        result[i] = x;
      }
      if (!fault.empty()) return {};
    }
    return result;
  }

 private:
  Placed place(const LayoutRef& layout) const {
    Placed p;
    p.layout = layout;
    std::vector<std::vector<int>> by_key(static_cast<std::size_t>(ranks_));
    for (int r = 0; r < ranks_; ++r) {
      const Shape& c = coordinates(r);
      Ids ids{0};
      for (int d = 0; d < shape_.ndim(); ++d) {
        const Ids mine = owned(mesh_, layout->dims[static_cast<std::size_t>(d)], shape_[d], c);
        Ids next;
        for (int id : ids)
          for (int i : mine) next.push_back(id * static_cast<int>(shape_[d]) + i);
        ids = std::move(next);
      }
      p.worst = std::max(p.worst, static_cast<std::int64_t>(ids.size()));
      p.ids.push_back(std::move(ids));
      int key = 0;
      for (std::size_t a = 0; a < mesh_.size(); ++a) key = key * mesh_[a] + (layout->partial[a] ? 0 : static_cast<int>(c[static_cast<int>(a)]));
      by_key[static_cast<std::size_t>(key)].push_back(r);
    }
    for (auto& group : by_key)
      if (!group.empty()) p.groups.push_back(std::move(group));
    for (std::size_t a = 0; a < mesh_.size(); ++a) {
      if (!layout->partial[a]) continue;
      if (*layout->partial[a] == ReduceOp::avg) p.scale = p.scale * inverse(static_cast<Number>(mesh_[a])) % kPrime;
      else p.op = *layout->partial[a];
    }
    return p;
  }
  void fill(Placed& p) const {
    for (int r = 0; r < ranks_; ++r) {
      std::uint64_t contribution = 0;
      for (std::size_t a = 0; a < mesh_.size(); ++a)
        if (p.layout->partial[a])
          contribution = contribution * static_cast<std::uint64_t>(mesh_[a]) + static_cast<std::uint64_t>(coordinates(r)[static_cast<int>(a)]);
      Local& local = p.cells.emplace_back();
      for (int id : p.ids[static_cast<std::size_t>(r)])
        local.push_back(is_set(p.op) ? (static_cast<Number>(id + 1) << 9) | (Number{1} << contribution)
                                     : 1 + simulated::noise(contribution, static_cast<std::uint64_t>(id)) % (kPrime - 2));
    }
    std::string fault;
    p.global = value(p, p.cells, fault);
  }

  std::vector<int> mesh_;
  Shape shape_;
  int ranks_ = 1;
  std::vector<Shape> coordinates_;
  std::unordered_map<const Layout*, std::unique_ptr<Placed>> placed_;
};

using Boxes = std::function<Transfer(const Move&, const Shape& shape, const Shape& coordinates)>;

inline Transfer lowered(const Move& m, const Shape& shape, const Shape& coordinates) { return dtensor::redistribute::lower(m, shape, coordinates); }

/// Cells after a move, and what it took.
struct Carried {
  std::vector<Local> cells;
  std::vector<std::int64_t> received;  // elements from others, by rank
  std::vector<char> fresh;             // by rank: new memory was written, so the result is no view
  std::string fault;
};

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
    if (*m.from->partial[a] == ReduceOp::avg) r.scale = r.scale * inverse(static_cast<Number>(m.from->mesh_sizes[a])) % kPrime;
    else r.op = *m.from->partial[a];
  }
  return r;
}

/// Carries boxes between all ranks: each send meets its receive, no box overlaps another, contributions come in ascending order.
inline Carried carry(World& world, const Move& m, const std::vector<Local>& in, const Boxes& boxes) {
  Carried out;
  const auto n = static_cast<std::size_t>(world.ranks());
  std::vector<Transfer> transfers;
  std::vector<std::vector<int>> groups;
  std::vector<std::vector<const Piece*>> sent(n * n);
  std::vector<std::size_t> taken(n * n, 0);
  for (std::size_t r = 0; r < n; ++r) {
    transfers.push_back(boxes(m, world.shape(), world.coordinates(static_cast<int>(r))));
    groups.push_back(simulated::group_of(world.mesh(), world.coordinates(static_cast<int>(r)), m.axes));
  }
  const auto rank_of = [&](std::size_t r, const Piece& p) -> int {
    return p.peer >= 0 && static_cast<std::size_t>(p.peer) < groups[r].size() ? groups[r][static_cast<std::size_t>(p.peer)] : -1;
  };
  const auto fail = [&](const char* what) {
    out.fault = what;
    return out;
  };
  for (std::size_t r = 0; r < n; ++r)
    for (const Piece& p : transfers[r].sends) {
      const int peer = rank_of(r, p);
      if (peer < 0) return fail("a peer outside the group");
      sent[r * n + static_cast<std::size_t>(peer)].push_back(&p);
    }
  const Reducing reduce = reducing(m);
  const Placed& target = world.at(m.to);
  for (std::size_t r = 0; r < n; ++r) {
    Local& local = out.cells.emplace_back(target.ids[r].size(), kUnset);
    std::int64_t& received = out.received.emplace_back(0);
    const Piece* last = nullptr;
    for (const Piece& p : transfers[r].receives) {
      const int found = rank_of(r, p);
      if (found < 0) return fail("a peer outside the group");
      const auto peer = static_cast<std::size_t>(found);
      const auto& queue = sent[peer * n + r];
      const std::size_t k = taken[peer * n + r]++;
      if (k >= queue.size() || !(queue[k]->sizes == p.sizes)) return fail("a receive without its send");
      const bool same_box = last != nullptr && last->offset == p.offset && last->sizes == p.sizes && last->strides == p.strides;
      if (same_box && last->peer >= p.peer) return fail("contributions out of order");
      if (same_box && !reduce.any) return fail("an element received twice");
      last = &p;
      const auto source = simulated::offsets(*queue[k]), place = simulated::offsets(p);
      for (std::size_t i = 0; i < source.size(); ++i) {
        if (place[i] < 0 || place[i] >= static_cast<std::int64_t>(local.size())) return fail("a receive outside the result");
        if (source[i] < 0 || source[i] >= static_cast<std::int64_t>(in[peer].size())) return fail("a send outside the source");
        Number& cell = local[static_cast<std::size_t>(place[i])];
        const Number x = in[peer][static_cast<std::size_t>(source[i])];
        if (cell != kUnset && !same_box) return fail("boxes that overlap");
        cell = cell == kUnset ? x : combine(reduce.op, cell, x);
      }
      if (peer != r) received += p.sizes.numel();
    }
  }
  for (std::size_t k = 0; k < sent.size(); ++k)
    if (taken[k] != sent[k].size()) return fail("a send without its receive");
  if (reduce.scale != 1)
    for (Local& local : out.cells)
      for (Number& x : local)
        if (x != kUnset) x = x * reduce.scale % kPrime;
  out.fresh.assign(n, 1);
  return out;
}

inline Carried all_reduce(World& world, const Move& m, const std::vector<Local>& in) {
  Carried out;
  const Reducing reduce = reducing(m);
  for (int r = 0; r < world.ranks(); ++r) {
    const auto group = simulated::group_of(world.mesh(), world.coordinates(r), m.axes);
    Local sum = in[static_cast<std::size_t>(group[0])];
    for (std::size_t k = 1; k < group.size(); ++k) {
      const Local& other = in[static_cast<std::size_t>(group[k])];
      if (other.size() != sum.size()) {
        out.fault = "an all_reduce of different sizes";
        return out;
      }
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = combine(reduce.op, sum[i], other[i]);
    }
    for (Number& x : sum) x = reduce.scale == 1 ? x : x * reduce.scale % kPrime;
    // A reduce_scatter and an all_gather of ceil chunks: others' contributions to the own chunk, then the chunks of others.
    const auto g = static_cast<std::int64_t>(group.size()), size = static_cast<std::int64_t>(sum.size()), chunk = (size + g - 1) / g;
    const std::int64_t self = std::find(group.begin(), group.end(), r) - group.begin();
    const std::int64_t own = std::min(size, (self + 1) * chunk) - std::min(size, self * chunk);
    out.received.push_back((g - 1) * own + size - own);
    out.cells.push_back(std::move(sum));
  }
  out.fresh.assign(out.cells.size(), 1);
  return out;
}

/// Local offsets of the boxes that runs per dimension make, box by box.
inline std::vector<std::int64_t> offsets_of(const std::vector<std::vector<Run>>& runs, const std::vector<std::int64_t>& sizes) {
  std::vector<std::vector<std::int64_t>> boxes{{0}};
  for (std::size_t d = 0; d < runs.size(); ++d) {
    std::vector<std::vector<std::int64_t>> next;
    for (const auto& box : boxes)
      for (const Run& run : runs[d]) {
        auto& made = next.emplace_back();
        for (std::int64_t o : box)
          for (std::int64_t i = 0; i < run.length; ++i) made.push_back(o * sizes[d] + run.begin + i);
      }
    boxes = std::move(next);
  }
  std::vector<std::int64_t> result;
  for (const auto& box : boxes) result.insert(result.end(), box.begin(), box.end());
  return result;
}

/// Copies what a rank keeps in a shard_to_partial.
inline void keep(const World& world, const Move& m, int rank, const Local& in, Local& out, std::string& fault) {
  const auto kept = dtensor::redistribute::kept_runs(*m.from, *m.to, world.shape(), world.coordinates(rank));
  const auto sizes = [&](const Layout& l) {
    std::vector<std::int64_t> result;
    for (int d = 0; d < world.shape().ndim(); ++d)
      result.push_back(
          static_cast<std::int64_t>(owned(world.mesh(), l.dims[static_cast<std::size_t>(d)], world.shape()[d], world.coordinates(rank)).size()));
    return result;
  };
  const auto source = offsets_of(kept.source, sizes(*m.from)), target = offsets_of(kept.target, sizes(*m.to));
  if (source.size() != target.size()) fault = "kept boxes of different sizes";
  for (std::size_t i = 0; i < source.size() && fault.empty(); ++i) {
    if (source[i] >= static_cast<std::int64_t>(in.size()) || target[i] >= static_cast<std::int64_t>(out.size())) fault = "a kept box outside";
    else out[static_cast<std::size_t>(target[i])] = in[static_cast<std::size_t>(source[i])];
  }
}

inline Carried local_move(World& world, const Move& m, const std::vector<Local>& in) {
  Carried out;
  const Placed &from = world.at(m.from), &to = world.at(m.to);
  for (int rank = 0; rank < world.ranks(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    const Ids &had = from.ids[r], &wanted = to.ids[r];
    Local& local = out.cells.emplace_back();
    out.received.push_back(0);
    char& fresh = out.fresh.emplace_back(0);
    if (m.kind == MoveKind::slice) {
      const auto runs = dtensor::redistribute::local_runs(*m.from, *m.to, world.shape(), world.coordinates(rank));
      std::vector<std::int64_t> at{0};
      for (int d = 0; d < world.shape().ndim(); ++d) {
        const auto& mine = runs[static_cast<std::size_t>(d)];
        if (mine.size() > 1 || m.nanoseconds > 0) fresh = 1;
        const auto size = static_cast<std::int64_t>(
            owned(world.mesh(), m.from->dims[static_cast<std::size_t>(d)], world.shape()[d], world.coordinates(rank)).size());
        std::vector<std::int64_t> next;
        for (std::int64_t o : at)
          for (const Run& run : mine)
            for (std::int64_t i = 0; i < run.length; ++i) next.push_back(o * size + run.begin + i);
        at = std::move(next);
      }
      if (at.empty()) fresh = 0;
      for (std::int64_t i : at) local.push_back(i < static_cast<std::int64_t>(in[r].size()) ? in[r][static_cast<std::size_t>(i)] : kUnset);
    } else if (m.kind == MoveKind::relabel) {
      if (had != wanted) out.fault = "a relabel of layouts that own different elements";
      local = in[r];
    } else {
      // What is owned at both ends kept (of a split), or the value on the first rank (of a replica, unless the kind keeps it everywhere).
      const bool split = m.kind == MoveKind::shard_to_partial;
      bool keeps = true, partial = false;
      for (int a : m.axes) {
        const auto op = m.to->partial[static_cast<std::size_t>(a)];
        if (!op && split) continue;  // it cuts
        if (!op) {
          out.fault = "a move to Partial over an axis that is none";
          return out;
        }
        const bool everywhere = split || *op == ReduceOp::min || *op == ReduceOp::max || *op == ReduceOp::avg;
        if (!everywhere && world.coordinates(rank)[a] != 0) keeps = false;
        if (!partial) local.assign(wanted.size(), neutral(*op));
        partial = true;
      }
      if (!partial) {
        out.fault = "a move to Partial over no axis";
        return out;
      }
      fresh = split || !keeps ? 1 : 0;
      if (split) keep(world, m, rank, in[r], local, out.fault);
      for (std::size_t i = 0; !split && keeps && i < had.size(); ++i) local.at(i) = in[r][i];
    }
  }
  return out;
}

inline Carried apply(World& world, const Move& m, const std::vector<Local>& in, const Boxes& boxes) {
  if (m.kind == MoveKind::all_reduce) return all_reduce(world, m, in);
  return m.kind < MoveKind::all_gather ? local_move(world, m, in) : carry(world, m, in, boxes);
}

/// Whole nanoseconds of one move by the formula of docs/redistribution.md; -1 where joined slices hide the terms. `copies`: some rank's result is no view.
inline std::int64_t nanoseconds_of(World& world, const Move& m, std::int64_t received_max, bool copies, const Topology& topology,
                                   std::int64_t element_bytes) {
  const auto up = [](double x) { return static_cast<std::int64_t>(std::ceil(x)); };
  const auto writing = [&](std::int64_t elements) { return up(static_cast<double>(elements * element_bytes) / topology.copy_bytes_per_ns); };
  const std::int64_t target = world.at(m.to).worst;
  switch (m.kind) {
    case MoveKind::relabel:
      return 0;
    case MoveKind::slice: {
      std::size_t before = 0, after = 0;
      for (std::size_t d = 0; d < m.to->dims.size(); ++d) before += m.from->dims[d].size(), after += m.to->dims[d].size();
      // Where no rank copies, an equivalent split of one interval may have been taken, which is free.
      if (!copies) return m.nanoseconds == 0 ? 0 : after == before + 1 ? writing(target) : -1;
      return after == before + 1 ? writing(target) : -1;
    }
    case MoveKind::to_partial:
      for (int a : m.axes)
        if (const auto op = m.to->partial[static_cast<std::size_t>(a)]; op == ReduceOp::sum || op == ReduceOp::product) return writing(target);
      return 0;
    case MoveKind::shard_to_partial:
      return writing(target);
    default:
      break;
  }
  double latency = 0, bandwidth = 0;
  std::int64_t n = 1;
  for (int a : m.axes) {
    const AxisLink& link = topology.axes.empty() ? topology.fallback : topology.axes[static_cast<std::size_t>(a)];
    latency = std::max(latency, link.latency_ns);
    bandwidth = bandwidth == 0 ? link.bytes_per_ns : std::min(bandwidth, link.bytes_per_ns);
    if (m.from->partial[static_cast<std::size_t>(a)] && m.to->partial[static_cast<std::size_t>(a)] != m.from->partial[static_cast<std::size_t>(a)])
      n *= world.mesh()[static_cast<std::size_t>(a)];
  }
  const std::int64_t touched = m.kind == MoveKind::all_reduce ? n * ((target + n - 1) / n) + target : n * target;
  return up(topology.launch_ns) + up(latency) * (m.kind == MoveKind::send_recv ? 2 : 1) +
         up(static_cast<double>(received_max * element_bytes) / bandwidth) + writing(touched);
}

/// The bound of docs/redistribution.md by counting, element by element: {worst rank, all ranks}.
inline std::array<std::int64_t, 2> lower_bound(World& world, const LayoutRef& source, const LayoutRef& goal) {
  const Placed &from = world.at(source), &to = world.at(goal);
  std::int64_t contributions = 1, together = 1, worst = 0, total = 0;
  std::vector<std::size_t> joint;  // axes that become Partial: one of their ranks is enough
  for (std::size_t a = 0; a < world.mesh().size(); ++a) {
    if (world.mesh()[a] == 1) continue;
    if (source->partial[a] && goal->partial[a] != source->partial[a]) contributions *= world.mesh()[a];
    if (goal->partial[a] && goal->partial[a] != source->partial[a]) joint.push_back(a), together *= world.mesh()[a];
  }
  std::vector<char> done(static_cast<std::size_t>(world.ranks()), 0);
  for (int rank = 0; rank < world.ranks(); ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    if (done[r]) continue;
    std::vector<char> had(static_cast<std::size_t>(world.shape().numel()), 0);
    for (int other = 0; other < world.ranks(); ++other) {
      bool same = true;
      for (std::size_t a = 0; a < world.mesh().size(); ++a)
        if (std::find(joint.begin(), joint.end(), a) == joint.end())
          same = same && world.coordinates(other)[static_cast<int>(a)] == world.coordinates(rank)[static_cast<int>(a)];
      if (!same) continue;
      done[static_cast<std::size_t>(other)] = 1;
      for (int id : from.ids[static_cast<std::size_t>(other)]) had[static_cast<std::size_t>(id)] = 1;
    }
    std::int64_t asks = 0;
    for (int id : to.ids[r]) asks += contributions > 1 || !had[static_cast<std::size_t>(id)] ? 1 : 0;
    worst = std::max(worst, asks);
    total += asks;
  }
  if (contributions > 1) {
    // (p-1)+(d-1) per element, and per coordinate of the axes that stay Partial.
    std::int64_t kept = 1;
    for (std::size_t a = 0; a < world.mesh().size(); ++a)
      if (goal->partial[a] && goal->partial[a] == source->partial[a]) kept *= world.mesh()[a];
    total += (contributions - 2) * world.shape().numel() * kept;
  }
  const auto up = [](std::int64_t x, std::int64_t n) { return (x + n - 1) / n; };
  return {std::max(up(worst, together), up(total, world.ranks())), total};
}

inline bool within(const Placed& small, const Placed& large) {
  for (std::size_t r = 0; r < small.ids.size(); ++r)
    if (!std::includes(large.ids[r].begin(), large.ids[r].end(), small.ids[r].begin(), small.ids[r].end())) return false;
  return true;
}
/// Empty when a move does what its kind says, else how it does not.
inline std::string kind_fault(World& world, const Move& m) {
  const Placed &from = world.at(m.from), &to = world.at(m.to);
  bool reduces = false, makes_partial = false, all_axes = true;
  for (std::size_t a = 0; a < world.mesh().size(); ++a) {
    if (world.mesh()[a] == 1 || m.from->partial[a] == m.to->partial[a]) continue;
    const bool named = std::find(m.axes.begin(), m.axes.end(), static_cast<int>(a)) != m.axes.end();
    if (!named && m.kind != MoveKind::relabel) return "Partial changes on an axis that is not named";
    if (m.from->partial[a]) reduces = true;
    if (m.to->partial[a]) makes_partial = true;
  }
  for (int a : m.axes) all_axes = all_axes && m.from->partial[static_cast<std::size_t>(a)] && !m.to->partial[static_cast<std::size_t>(a)];
  const bool reducing_kind = m.kind == MoveKind::all_reduce || m.kind == MoveKind::reduce_scatter || m.kind == MoveKind::send_recv;
  if (reduces && !reducing_kind) return "it reduces";
  if (makes_partial && m.kind != MoveKind::to_partial && m.kind != MoveKind::shard_to_partial) return "it makes Partial";
  switch (m.kind) {
    case MoveKind::relabel:
      return from.ids == to.ids ? "" : "ownership changes";
    case MoveKind::slice:
      return within(to, from) ? "" : "a rank gets what it did not have";
    case MoveKind::to_partial:
      return makes_partial && from.ids == to.ids ? "" : "more than Partial changes";
    case MoveKind::shard_to_partial:
      return makes_partial ? "" : "nothing becomes Partial";
    case MoveKind::all_gather:
      return within(from, to) ? "" : "a rank loses what it had";
    case MoveKind::reduce_scatter:
      return all_axes && within(to, from) ? "" : "a rank gets what it had no part of";
    case MoveKind::all_reduce:
      return all_axes && from.ids == to.ids ? "" : "more than Partial changes";
    case MoveKind::permute:
      for (const Ids& ids : to.ids)
        if (std::find(from.ids.begin(), from.ids.end(), ids) == from.ids.end()) return "a rank gets what no rank had";
      return "";
    default:
      return "";
  }
}

/// Empty for a route that is right in every respect, else the first fault as a sentence.
inline std::string fault_of(World& world, const Route& route, const LayoutRef& from, const LayoutRef& to, const Topology& topology,
                            std::int64_t element_bytes, const Boxes& boxes = lowered) {
  const Placed &source = world.filled(from), &goal = world.at(to);
  const auto n = static_cast<std::size_t>(world.ranks());
  const std::int64_t room = std::max(source.worst, goal.worst);
  std::vector<Local> cells = source.cells;
  std::vector<std::int64_t> received(n, 0), held(n, 0), peak(n, 0);
  std::int64_t total = 0, ns = 0, model_held = 0, model_peak = source.worst;
  int launches = 0;
  bool exact_peak = true;
  for (std::size_t r = 0; r < n; ++r) peak[r] = static_cast<std::int64_t>(source.ids[r].size());
  LayoutRef at = from;
  for (const Move& m : route.moves) {
    const std::string name(to_string(m.kind));
    if (m.from != at) return name + " does not start where the move before it ended";
    if (world.at(m.to).worst > room) return name + " makes a tensor larger than both ends";
    for (std::size_t k = 0; k < m.axes.size(); ++k) {
      if (m.axes[k] < 0 || m.axes[k] >= static_cast<int>(world.mesh().size()) || (k > 0 && m.axes[k] <= m.axes[k - 1]))
        return name + " over axes that do not ascend";
      bool changes = m.from->partial[static_cast<std::size_t>(m.axes[k])] != m.to->partial[static_cast<std::size_t>(m.axes[k])];
      for (int d : {m.from->dim_of(m.axes[k]), m.to->dim_of(m.axes[k])})
        if (d >= 0) changes = changes || !(m.from->dims[static_cast<std::size_t>(d)] == m.to->dims[static_cast<std::size_t>(d)]);
      if (!changes) return name + " over an axis on which nothing changes";
    }
    if (const std::string fault = kind_fault(world, m); !fault.empty()) return name + " is no " + name + ": " + fault;
    Carried next = apply(world, m, cells, boxes);
    if (!next.fault.empty()) return name + ": " + next.fault;
    std::string fault;
    const auto value = world.value(world.at(m.to), next.cells, fault);
    if (!fault.empty()) return name + " leaves " + fault;
    if (value != source.global) return name + " changes the value";
    std::int64_t move_max = 0, move_total = 0;
    for (std::size_t r = 0; r < n; ++r) {
      move_max = std::max(move_max, next.received[r]);
      move_total += next.received[r];
      received[r] += next.received[r];
      const auto size = static_cast<std::int64_t>(next.cells[r].size());
      peak[r] = std::max(peak[r], static_cast<std::int64_t>(source.ids[r].size()) + held[r] + (next.fresh[r] ? size : 0));
      if (next.fresh[r] || size == 0) held[r] = size;  // an empty part keeps no memory alive
    }
    const bool communicates = m.kind >= MoveKind::all_gather;
    if (m.launches != (communicates ? 1 : 0)) return name + " states a wrong number of launches";
    if (m.bytes_received_max != move_max * element_bytes) return name + " states wrong bytes of the worst rank";
    if (m.bytes_received_total != move_total * element_bytes) return name + " states wrong bytes in all";
    const bool copies = std::find(next.fresh.begin(), next.fresh.end(), 1) != next.fresh.end();
    const std::int64_t expected = nanoseconds_of(world, m, move_max, copies, topology, element_bytes);
    if (expected >= 0 && m.nanoseconds != expected) return name + " states a wrong time";
    if (expected < 0 && m.nanoseconds <= 0) return name + " states that copies are free";
    const bool fills = m.nanoseconds > 0;  // what costs no time is a view
    if (m.kind == MoveKind::slice) exact_peak = exact_peak && !fills;
    model_peak = std::max(model_peak, source.worst + model_held + (fills ? world.at(m.to).worst : 0));
    // The rank that keeps the value of a new Partial has a view.
    if (fills) model_held = std::max(world.at(m.to).worst, m.kind == MoveKind::to_partial ? model_held : 0);
    total += m.bytes_received_total;
    launches += m.launches;
    ns += m.nanoseconds;
    at = m.to;
    cells = std::move(next.cells);
  }
  if (at != to) return "the route does not end at the target";
  if (launches != route.launches) return "the route states a wrong number of launches";
  if (ns != route.nanoseconds) return "the route states a wrong time";
  if (total != route.bytes_received_total) return "the route states wrong bytes in all";
  if (*std::max_element(received.begin(), received.end()) * element_bytes != route.bytes_received_max)
    return "the route states wrong bytes of the worst rank";
  if (*std::max_element(peak.begin(), peak.end()) * element_bytes > route.peak_bytes) return "the route needs more memory than it states";
  if (exact_peak && model_peak * element_bytes != route.peak_bytes) return "the route states a wrong peak";
  if (route.peak_bytes > (source.worst + room + goal.worst) * element_bytes) return "the route needs more memory than any route may";
  const auto [worst_bound, total_bound] = lower_bound(world, from, to);
  if (route.lower_bound_max != worst_bound * element_bytes) return "the route states a wrong bound for the worst rank";
  if (route.lower_bound_total != total_bound * element_bytes) return "the route states a wrong bound in all";
  // The bound takes an axis that is Partial at both ends as one problem per coordinate; a route that reduces it on the way may receive less.
  bool reduces_kept = false;
  for (const Move& m : route.moves)
    for (std::size_t a = 0; a < world.mesh().size(); ++a)
      reduces_kept = reduces_kept || (from->partial[a] && from->partial[a] == to->partial[a] && !m.to->partial[a]);
  if (!reduces_kept && (route.bytes_received_max < route.lower_bound_max || route.bytes_received_total < route.lower_bound_total))
    return "the bound is above the bytes";
  return {};
}

}  // namespace checked
