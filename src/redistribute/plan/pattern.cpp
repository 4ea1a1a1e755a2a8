// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/pattern.h"

#include <algorithm>
#include <span>

#include "redistribute/plan/overlap.h"

namespace dtensor::redistribute {
namespace {

using placements::Split;

// The two lists of a dimension.
struct Pair {
  int dim = 0, from = 0, to = 0, prefix = 0;
  AxisMask axes = 0, apart = 0;  // of both lists; of what follows the common prefix
  bool chain() const noexcept { return prefix == from || prefix == to; }
  int deeper() const noexcept { return prefix == from ? to : from; }
};

Pair pair_of(const Space& space, int dim, int from, int to) {
  Pair p{dim, from, to, space.common_prefix(from, to), 0, 0};
  p.axes = space.node(from).axes | space.node(to).axes;
  p.apart = p.axes & ~space.node(p.prefix).axes;
  return p;
}

std::vector<int> splits_after(const Space& space, int prefix, int list) {
  std::vector<int> splits;
  for (; list != prefix; list = space.node(list).parent) splits.push_back(space.node(list).split);
  std::reverse(splits.begin(), splits.end());
  return splits;
}

struct Interval {
  std::int64_t begin = 0, end = 0;
  bool meets(const Interval& other) const noexcept { return std::max(begin, other.begin) < std::min(end, other.end); }
};

// Part `rank` of an interval.
Interval part_of(const Interval& whole, const Split& split, std::int64_t rank, std::int64_t ranks) {
  if (!split.sizes.empty()) {
    Interval part{whole.begin, whole.begin};
    for (std::int64_t r = 0; r <= rank; ++r) {
      part.begin = part.end;
      part.end += split.sizes[static_cast<std::size_t>(r)];
    }
    return part;
  }
  const std::int64_t chunk = ceil_div(whole.end - whole.begin, ranks), begin = std::min(whole.end, whole.begin + rank * chunk);
  return {begin, std::min(whole.end, begin + chunk)};
}

// Local positions under `list`, counted in those under `prefix`, which are `size`; the splits between give intervals.
Interval positions(const Space& space, int prefix, int list, std::int64_t size, const Shape& c) {
  if (list == prefix) return {0, size};
  const Interval whole = positions(space, prefix, space.node(list).parent, size, c);
  const Split& split = space.split(space.node(list).split);
  std::int64_t rank = 0, ranks = 1;
  for (int a : split.axes) {
    rank = rank * space.mesh_size(a) + c[a];
    ranks *= space.mesh_size(a);
  }
  return part_of(whole, split, rank, ranks);
}

bool intervals_after(const Space& space, int prefix, int list) {
  for (; list != prefix; list = space.node(list).parent)
    if (!space.is_interval(space.node(list).split)) return false;
  return true;
}
bool intervals_after(const Space& space, const Pair& p) { return intervals_after(space, p.prefix, p.from) && intervals_after(space, p.prefix, p.to); }

std::int64_t common_at(const Space& space, const Pair& p, const Shape& c) {
  if (p.chain()) return space.count(p.deeper(), c);
  if (intervals_after(space, p)) {
    const std::int64_t size = space.count(p.prefix, c);
    const Interval a = positions(space, p.prefix, p.from, size, c), b = positions(space, p.prefix, p.to, size, c);
    return std::max<std::int64_t>(0, std::min(a.end, b.end) - std::max(a.begin, b.begin));
  }
  return overlap_size(space.ownership(p.from).of(space.rank_index(p.from, c)), space.ownership(p.to).of(space.rank_index(p.to, c)));
}

// Walks through the coordinates where two intervals meet, refining the longer one first.
template <class Visit>
struct Meeting {
  const Space& space;
  std::vector<int> from, to;  // splits after the common prefix
  Shape& c;
  AxisMask fixed;  // axes whose coordinate is given
  Visit& visit;    // (indices in common)

  void walk(std::size_t i, Interval a, std::size_t j, Interval b) {
    if (!a.meets(b)) return;
    if (i == from.size() && j == to.size()) {
      visit(std::min(a.end, b.end) - std::max(a.begin, b.begin));
      return;
    }
    const bool first = j == to.size() || (i < from.size() && a.end - a.begin >= b.end - b.begin);
    const Split& split = space.split(first ? from[i] : to[j]);
    choose(
        split, 0, 0,
        [&](std::int64_t rank, std::int64_t ranks) {
          if (first) walk(i + 1, part_of(a, split, rank, ranks), j, b);
          else walk(i, a, j + 1, part_of(b, split, rank, ranks));
        },
        first ? a : b, first ? b : a);
  }

  template <class Next>
  void choose(const Split& split, std::size_t k, std::int64_t rank, Next&& next, const Interval& whole, const Interval& other) {
    if (k == split.axes.size()) {
      std::int64_t ranks = 1;
      for (int a : split.axes) ranks *= space.mesh_size(a);
      next(rank, ranks);
      return;
    }
    const int axis = split.axes[k];
    const std::int64_t size = space.mesh_size(axis);
    if (fixed & bit(axis)) {
      choose(split, k + 1, rank * size + c[axis], next, whole, other);
      return;
    }
    std::int64_t low = 0, high = size - 1;
    if (split.sizes.empty()) {
      const std::int64_t chunk = ceil_div(whole.end - whole.begin, size);
      low = std::max<std::int64_t>(0, (other.begin - whole.begin) / chunk);
      high = std::min(high, (other.end - 1 - whole.begin) / chunk);
    }
    fixed |= bit(axis);
    for (std::int64_t x = low; x <= high; ++x) {
      c[axis] = x;
      choose(split, k + 1, rank * size + x, next, whole, other);
    }
    c[axis] = 0;
    fixed &= ~bit(axis);
  }
};

// Dimensions that share axes, directly or through others: one problem.
struct Component {
  std::vector<Pair> pairs;
  AxisMask axes = 0;
};

struct Problem {
  std::vector<Component> parts;
  AxisMask changed_axes = 0, kept_axes = 0;
  std::int64_t kept_worst = 1;  // product over unchanged dimensions of the largest local size
  std::int64_t kept_total = 1;  // ... of the global size, which is the sum over the ranks of its axes

  Problem(const Space& space, const State& from, const State& to) {
    for (int d = 0; d < space.ndim(); ++d) {
      const auto i = static_cast<std::size_t>(d);
      if (from.lists[i] == to.lists[i]) {
        kept_worst *= space.node(from.lists[i]).worst;
        kept_total *= space.shape()[d];
        kept_axes |= space.node(from.lists[i]).axes;
      } else {
        add(pair_of(space, d, from.lists[i], to.lists[i]));
      }
    }
  }

 private:
  void add(const Pair& p) {
    Component made{{p}, p.axes};
    changed_axes |= p.axes;
    std::erase_if(parts, [&](Component& other) {
      if (!(other.axes & made.axes)) return false;
      made.pairs.insert(made.pairs.end(), other.pairs.begin(), other.pairs.end());
      made.axes |= other.axes;
      return true;
    });
    parts.push_back(std::move(made));
  }
};

void separate(Classes& classes, const Pair& p) {
  if (p.chain()) {
    classes.separate(p.deeper());
  } else {
    classes.separate(p.prefix);
    classes.separate_all(p.apart);
  }
}

// (target, common) of a class of ranks. More target and less in common lack more, whatever the other dimensions do.
struct Sizes {
  std::int64_t target = 1, common = 1;
};
void keep_worst(std::vector<Sizes>& front, const Sizes& s) {
  for (const Sizes& other : front)
    if (other.target >= s.target && other.common <= s.common) return;
  std::erase_if(front, [&](const Sizes& other) { return s.target >= other.target && s.common <= other.common; });
  front.push_back(s);
}

std::vector<Sizes> worst_sizes(const Space& space, const Component& part, const Classes& classes) {
  std::vector<Sizes> front;
  std::int64_t most = 1;
  for (const Pair& p : part.pairs) most *= space.node(p.to).worst;
  Shape c = Shape::filled(space.mesh_ndim(), 0);
  classes.for_each(part.axes, c, [&](const Shape& at, std::int64_t) {
    Sizes s;
    for (const Pair& p : part.pairs) {
      s.target *= space.count(p.to, at);
      if (s.common != 0) s.common *= common_at(space, p, at);
    }
    keep_worst(front, s);
    return s.target < most || s.common > 0;
  });
  return front;
}

// The sum of the products of what is in common, over the ranks along the component's axes.
struct CommonSum {
  const Space& space;
  const Component& part;
  const Classes& classes;
  std::vector<const Pair*> parted, chains;
  Shape c;
  std::int64_t total = 0;

  CommonSum(const Space& s, const Component& p, const Classes& k) : space(s), part(p), classes(k), c(Shape::filled(s.mesh_ndim(), 0)) {
    bool intervals = true;
    for (const Pair& pair : part.pairs) {
      (pair.chain() ? chains : parted).push_back(&pair);
      intervals = intervals && (pair.chain() || intervals_after(space, pair));
    }
    if (!intervals) {
      for (const Pair* pair : parted) chains.push_back(pair);
      parted.clear();
    }
    walk(0, 0, 1, 1);
  }

  void walk(std::size_t k, AxisMask fixed, std::int64_t common, std::int64_t ranks) {
    if (k == parted.size()) {
      classes.for_each(part.axes & ~fixed, c, [&](const Shape& at, std::int64_t alike) {
        std::int64_t product = common * ranks * alike;
        for (const Pair* pair : chains) product *= common_at(space, *pair, at);
        total += product;
        return true;
      });
      return;
    }
    const Pair& pair = *parted[k];
    const AxisMask before = space.node(pair.prefix).axes & ~fixed;
    classes.for_each(before, c, [&](const Shape& at, std::int64_t alike) {
      const std::int64_t size = space.count(pair.prefix, at);
      const auto next = [&](std::int64_t indices) { walk(k + 1, fixed | pair.axes, common * indices, ranks * alike); };
      Meeting<decltype(next)> meeting{
          space, splits_after(space, pair.prefix, pair.from), splits_after(space, pair.prefix, pair.to), c, fixed | before, next};
      meeting.walk(0, {0, size}, 0, {0, size});
      return true;
    });
  }
};

// Of the axes of a component, those that no target list uses: the ranks along them have the same target.
std::int64_t targets_total(const Space& space, const Component& part) {
  AxisMask used = 0;
  std::int64_t total = 1;
  for (const Pair& p : part.pairs) {
    used |= space.node(p.to).axes;
    total *= space.shape()[p.dim];
  }
  return total * space.ranks_of(part.axes & ~used);
}

bool even(const Space& space, const Component& part) {
  return std::all_of(part.pairs.begin(), part.pairs.end(), [&](const Pair& p) { return p.chain() && space.node(p.deeper()).even(); });
}

}  // namespace

Classes::Classes(const Space& space) : space_(space) {}

void Classes::separate(int list) {
  for (; space_.node(list).parent >= 0; list = space_.node(list).parent) {
    if (space_.node(list).even()) continue;
    const Split& split = space_.split(space_.node(list).split);
    if (!split.sizes.empty()) {
      separate_all(space_.node(list).axes);
      return;
    }
    const int axis = split.axes[0];
    for (const std::int64_t total : space_.node(space_.node(list).parent).sizes)
      for_each_change(total, split.pieces, space_.mesh_size(axis),
                      [&](std::int64_t rank) { firsts_[static_cast<std::size_t>(axis)].push_back(rank); });
  }
}

void Classes::separate_all(AxisMask axes) { all_ |= axes; }

void Classes::close() {
  for (int a = 0; a < space_.mesh_ndim(); ++a) {
    auto& firsts = firsts_[static_cast<std::size_t>(a)];
    auto& classes = classes_[static_cast<std::size_t>(a)];
    const std::int64_t size = space_.mesh_size(a);
    if (all_ & bit(a)) {
      classes.resize(static_cast<std::size_t>(size));
      for (std::int64_t x = 0; x < size; ++x) classes[static_cast<std::size_t>(x)] = {x, 1};
      continue;
    }
    firsts.push_back(0);
    std::sort(firsts.begin(), firsts.end());
    firsts.erase(std::unique(firsts.begin(), firsts.end()), firsts.end());
    for (std::size_t i = 0; i < firsts.size(); ++i) classes.push_back({firsts[i], (i + 1 < firsts.size() ? firsts[i + 1] : size) - firsts[i]});
  }
}

std::int64_t Classes::combinations(AxisMask axes) const noexcept {
  std::int64_t n = 1;
  for (int a = 0; a < space_.mesh_ndim(); ++a)
    if (axes & bit(a)) n *= static_cast<std::int64_t>(of(a).size());
  return n;
}

std::int64_t common_indices_at(const Space& space, int from, int to, const Shape& coordinates) {
  return from == to ? space.count(from, coordinates) : common_at(space, pair_of(space, space.node(from).dim, from, to), coordinates);
}

std::int64_t common_indices(const Space& space, int from, int to) {
  const Pair p = pair_of(space, space.node(from).dim, from, to);
  const Component part{{p}, p.axes};
  Classes classes(space);
  separate(classes, p);
  classes.close();
  return CommonSum(space, part, classes).total;
}

Received lacking(const Space& space, const State& from, const State& to, std::int64_t contributions, bool with_total) {
  const Problem problem(space, from, to);
  std::vector<Sizes> front{{problem.kept_worst, problem.kept_worst}};
  Sizes sum{problem.kept_total, problem.kept_total};
  for (const Component& part : problem.parts) {
    if (even(space, part)) {
      Sizes all{1, 1};
      for (const Pair& p : part.pairs) {
        all.target *= space.node(p.to).worst;
        all.common *= space.node(p.deeper()).worst;
      }
      for (Sizes& s : front) s = {s.target * all.target, s.common * all.common};
      const std::int64_t ranks = space.ranks_of(part.axes);
      sum = {sum.target * all.target * ranks, sum.common * all.common * ranks};
      continue;
    }
    Classes classes(space);
    for (const Pair& p : part.pairs) separate(classes, p);
    classes.close();
    std::vector<Sizes> next;
    for (const Sizes& b : worst_sizes(space, part, classes))
      for (const Sizes& a : front) keep_worst(next, {a.target * b.target, a.common * b.common});
    front = std::move(next);
    if (with_total) sum = {sum.target * targets_total(space, part), sum.common * CommonSum(space, part, classes).total};
  }
  Received r;
  for (const Sizes& s : front) r.max = std::max(r.max, contributions * s.target - s.common);
  if (with_total) r.total = (contributions * sum.target - sum.common) * space.ranks_of(space.active() & ~problem.changed_axes & ~problem.kept_axes);
  return r;
}

Received lacking_together(const Space& space, const State& from, const State& to, AxisMask shared) {
  const Problem problem(space, from, to);
  const AxisMask own = problem.changed_axes & ~shared, joint = problem.changed_axes & shared;
  Classes classes(space);
  for (const Component& part : problem.parts)
    for (const Pair& p : part.pairs) separate(classes, p);
  classes.close();
  Shape c = Shape::filled(space.mesh_ndim(), 0);
  Received r;
  classes.for_each(own, c, [&](const Shape&, std::int64_t alike) {
    Sizes s{1, 0};
    for (const Component& part : problem.parts)
      for (const Pair& p : part.pairs) s.target *= space.count(p.to, c);
    classes.for_each(joint, c, [&](const Shape& at, std::int64_t ranks) {
      std::int64_t common = ranks;
      for (const Component& part : problem.parts)
        for (const Pair& p : part.pairs) common *= common == 0 ? 0 : common_at(space, p, at);
      s.common += common;
      return true;
    });
    r.max = std::max(r.max, s.target - s.common);
    r.total += alike * (s.target - s.common);
    return true;
  });
  r.max *= problem.kept_worst;
  r.total *= problem.kept_total * space.ranks_of(space.active() & ~problem.changed_axes & ~problem.kept_axes & ~shared);
  return r;
}

Estimate lacking_at_least(const Space& space, const State& from, const State& to, std::int64_t contributions) {
  std::int64_t target = 1, common = 1;
  bool exact = true;
  for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
    const int a = from.lists[d], b = to.lists[d];
    const std::int64_t whole = space.node(b).worst;
    target *= whole;
    if (a == b) {
      common *= whole;
      continue;
    }
    const int prefix = space.common_prefix(a, b);
    // On a rank with the largest target: what it has in common is at most the smaller part.
    common *= std::min(space.node(a).worst, whole);
    exact = exact && (prefix == a || prefix == b) && space.node(prefix == a ? b : a).even();
  }
  return {contributions * target - common, exact};
}

}  // namespace dtensor::redistribute
