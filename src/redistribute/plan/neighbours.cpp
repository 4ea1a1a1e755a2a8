// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/neighbours.h"

#include <unordered_set>
#include <utility>

namespace dtensor::redistribute {
namespace {

bool commute(std::uint8_t a, std::uint8_t b) {
  const auto linear = [](std::uint8_t kind) { return kind - 1 <= static_cast<int>(ReduceOp::avg); };
  return a == b || (linear(a) && linear(b));
}

bool commutes_with(const State& state, std::uint8_t kind) {
  for (std::uint8_t other : state.partial)
    if (other != 0 && !commute(other, kind)) return false;
  return true;
}

using Removed = std::array<int, kMaxDims>;  // first split taken off, by dimension; -1 for none

struct Expansion {
  Space& space;
  const State& source;
  const State& goal;
  const std::function<void(const Step&)>& visit;

  void emit(MoveKind kind, AxisMask axes, const State& target) const { visit({kind, axes, source, target, 0}); }

  // Appends splits that use up `rest` to dimensions `dim` and following, in every way. A dimension must not get back the split it lost first:
  // then the move would be one over fewer axes.
  void arrange(MoveKind kind, AxisMask axes, AxisMask rest, int dim, bool fresh, const State& target, const Removed& removed) {
    if (rest == 0) {
      emit(kind, axes, target);
      return;
    }
    if (dim == space.ndim()) return;
    const auto d = static_cast<std::size_t>(dim);
    for (int s = 0; s < space.split_count(); ++s) {
      if ((space.split_axes(s) & rest) != space.split_axes(s) || (fresh && removed[d] == s)) continue;
      const int list = space.child(target.lists[d], s);
      if (list < 0) continue;
      State next = target;
      next.lists[d] = list;
      arrange(kind, axes, rest & ~space.split_axes(s), dim, false, next, removed);
    }
    arrange(kind, axes, rest, dim + 1, true, target, removed);
  }

  // The kinds of the goal on `axes`; false where no own part can be kept under them: avg, or kinds that do not commute.
  bool make_partial(AxisMask axes, State& target) const {
    for (int a = 0; a < space.mesh_ndim(); ++a) {
      if (!(axes & bit(a))) continue;
      const std::uint8_t kind = goal.partial[static_cast<std::size_t>(a)];
      if (kind == 0 || kind == 1 + static_cast<int>(ReduceOp::avg) || !commutes_with(target, kind)) return false;
      target.partial[static_cast<std::size_t>(a)] = kind;
    }
    return true;
  }

  // Cuts dimensions `dim` and following that lost splits to `off` along Replicate axes, in every way: the part that is kept shrinks in the same step.
  void keep_part(AxisMask off, AxisMask cut, AxisMask rest, int dim, const State& target) const {
    emit(MoveKind::shard_to_partial, off | cut, target);
    for (; dim < space.ndim() && rest != 0; ++dim) {
      const auto d = static_cast<std::size_t>(dim);
      if (!(space.node(source.lists[d]).axes & off)) continue;
      for (int s = 0; s < space.split_count(); ++s) {
        const AxisMask axes = space.split_axes(s);
        if ((axes & rest) != axes) continue;
        State next = target;
        next.lists[d] = space.child(target.lists[d], s);
        if (next.lists[d] >= 0) keep_part(off, cut | axes, rest & ~axes, dim, next);
      }
    }
  }

  // Every choice of last splits, of any dimensions, that become Partial.
  void shard_to_partial(AxisMask replicated, int dim, AxisMask off, const State& target) const {
    if (dim == space.ndim()) {
      if (off != 0) keep_part(off, 0, replicated, 0, target);
      return;
    }
    const auto d = static_cast<std::size_t>(dim);
    State next = target;
    for (int list = source.lists[d];; list = space.node(list).parent) {
      next.lists[d] = list;
      const AxisMask lost = space.node(source.lists[d]).axes & ~space.node(list).axes;
      shard_to_partial(replicated, dim + 1, off | lost, next);
      if (space.node(list).parent < 0 || !make_partial(space.split_axes(space.node(list).split), next)) return;
    }
  }

  // Every choice of how many splits to take off each dimension.
  void take_off(int dim, const State& target, Removed removed, AxisMask axes) {
    if (dim == space.ndim()) {
      if (axes == 0) return;
      emit(MoveKind::all_gather, axes, target);
      arrange(MoveKind::all_to_all, axes, axes, 0, true, target, removed);
      return;
    }
    const auto d = static_cast<std::size_t>(dim);
    State next = target;
    for (int list = source.lists[d];; list = space.node(list).parent) {
      next.lists[d] = list;
      take_off(dim + 1, next, removed, axes | (space.node(source.lists[d]).axes & ~space.node(list).axes));
      if (space.node(list).parent < 0) return;
      removed[d] = space.node(list).split;
    }
  }

  void reduce() {
    const AxisMask partial = space.partial_axes(source);
    Removed none;
    none.fill(-1);
    for (AxisMask axes = partial; axes != 0; axes = (axes - 1) & partial) {
      State target = source;
      for (int a = 0; a < space.mesh_ndim(); ++a)
        if (axes & bit(a)) target.partial[static_cast<std::size_t>(a)] = 0;
      emit(MoveKind::all_reduce, axes, target);
      arrange(MoveKind::reduce_scatter, axes, axes, 0, true, target, none);
    }
  }

  void to_partial(AxisMask replicated) const {
    AxisMask wanted = 0;
    for (int a = 0; a < space.mesh_ndim(); ++a) {
      const std::uint8_t kind = goal.partial[static_cast<std::size_t>(a)];
      if ((replicated & bit(a)) && kind != 0 && commutes_with(source, kind)) wanted |= bit(a);
    }
    for (AxisMask axes = wanted; axes != 0; axes = (axes - 1) & wanted) {
      State target = source;
      for (int a = 0; a < space.mesh_ndim(); ++a)
        if (axes & bit(a)) target.partial[static_cast<std::size_t>(a)] = goal.partial[static_cast<std::size_t>(a)];
      emit(MoveKind::to_partial, axes, target);
    }
  }

  void without_communication() {
    const AxisMask replicated = space.active() & ~space.split_axes(source) & ~space.partial_axes(source);
    for (int dim = 0; dim < space.ndim(); ++dim) {
      const auto d = static_cast<std::size_t>(dim);
      for (int s = 0; s < space.split_count(); ++s) {
        if ((space.split_axes(s) & replicated) != space.split_axes(s)) continue;
        State target = source;
        target.lists[d] = space.child(source.lists[d], s);
        if (target.lists[d] >= 0) emit(MoveKind::slice, space.split_axes(s), target);
      }
      const std::vector<int> twins = space.twins(source.lists[d]);
      for (int twin : twins) {
        State target = source;
        target.lists[d] = twin;
        emit(MoveKind::relabel, space.node(twin).axes, target);
      }
    }
    shard_to_partial(replicated, 0, 0, source);
    to_partial(replicated);
  }
};

}  // namespace

Step direct_step(const Space& space, const State& from, const State& to) {
  Step step{MoveKind::send_recv, reduced_axes(space, from, to), from, to, 0};
  for (std::size_t a = 0; a < step.to.partial.size(); ++a)
    if (to.partial[a] != from.partial[a]) step.to.partial[a] = 0;
  for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
    const int a = from.lists[d], b = to.lists[d];
    // Splits that both lists begin with leave every rank its share of the problem.
    step.axes |= (space.node(a).axes | space.node(b).axes) & ~space.node(space.common_prefix(a, b)).axes;
  }
  return step;
}

void for_each_local_move(Space& space, const State& state, const State& goal, const std::function<void(const Step&)>& visit) {
  Expansion{space, state, goal, visit}.without_communication();
}

void for_each_communication(Space& space, const State& state, const std::function<void(const Step&)>& visit) {
  Expansion expansion{space, state, state, visit};
  Removed none;
  none.fill(-1);
  expansion.take_off(0, state, none, 0);
  expansion.reduce();
}

void for_each_move(Space& space, const State& state, const State& goal, const std::function<void(const Step&)>& visit) {
  for_each_local_move(space, state, goal, visit);
  for_each_communication(space, state, visit);
}

Step communication_between(const Space& space, const State& from, const State& to) {
  Step step{MoveKind::send_recv, 0, from, to, 0};
  AxisMask reduced = 0, off = 0, on = 0;
  for (std::size_t a = 0; a < from.partial.size(); ++a) {
    if (from.partial[a] == to.partial[a]) continue;
    if (to.partial[a] != 0) return step;
    reduced |= bit(static_cast<int>(a));
  }
  for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
    const int a = from.lists[d], b = to.lists[d];
    if (a == b) continue;
    const AxisMask common = space.node(space.common_prefix(a, b)).axes;
    off |= space.node(a).axes & ~common;
    on |= space.node(b).axes & ~common;
  }
  if (reduced == 0) {
    if (off == 0 || (on != 0 && on != off)) return step;
    step.kind = on == 0 ? MoveKind::all_gather : MoveKind::all_to_all;
    step.axes = off;
  } else {
    if (off != 0 || (on != 0 && on != reduced)) return step;
    step.kind = on == 0 ? MoveKind::all_reduce : MoveKind::reduce_scatter;
    step.axes = reduced;
  }
  return step;
}

std::vector<State> states_before(Space& space, const State& goal) {
  std::vector<State> states{goal};
  std::unordered_set<State, StateHash> seen{goal};
  const auto add = [&](const State& state) {
    if (seen.insert(state).second) states.push_back(state);
  };
  for (std::size_t i = 0; i < states.size(); ++i) {  // NOLINT(modernize-loop-convert): the list grows
    const State at = states[i];
    for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
      State before = at;
      if (space.node(at.lists[d]).parent >= 0) {
        before.lists[d] = space.node(at.lists[d]).parent;
        add(before);
      }
      const std::vector<int> twins = space.twins(at.lists[d]);
      for (int twin : twins) {
        before.lists[d] = twin;
        add(before);
      }
    }
    const AxisMask partial = space.partial_axes(at);
    for (int a = 0; a < space.mesh_ndim(); ++a) {
      if (!(partial & bit(a))) continue;
      State before = at;
      before.partial[static_cast<std::size_t>(a)] = 0;
      add(before);
    }
    for (int s = 0; partial != 0 && s < space.split_count(); ++s) {
      const AxisMask axes = space.split_axes(s);
      if ((axes & partial) != axes) continue;
      State whole = at;
      for (int a = 0; a < space.mesh_ndim(); ++a)
        if (axes & bit(a)) whole.partial[static_cast<std::size_t>(a)] = 0;
      for (std::size_t d = 0; d < static_cast<std::size_t>(space.ndim()); ++d) {
        State before = whole;
        before.lists[d] = space.child(at.lists[d], s);
        if (before.lists[d] >= 0) add(before);
      }
    }
  }
  return states;
}

}  // namespace dtensor::redistribute
