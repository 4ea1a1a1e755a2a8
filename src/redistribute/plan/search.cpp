// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/search.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "base/error_text.h"
#include "redistribute/plan/neighbours.h"

namespace dtensor::redistribute {
namespace {

// A way from the source to a state.
struct Label {
  int state = 0, parent = -1;
  MoveKind kind = MoveKind::relabel;
  AxisMask axes = 0;
  int moves = 0, launches = 0;
  std::int64_t cost = 0, nanoseconds = 0;  // of the way, of its last move
  std::int64_t peak = 0;                   // bytes, source included
  std::int64_t held = 0;                   // bytes of the storage beyond the source's that holds the state; 0 for a view of the source
  bool dead = false;
};

struct Visited {
  State state;
  std::int64_t least = 0, several = 0, bytes = 0;  // to the goal: on any way, on one with two moves or more that communicate
  bool closing = false;                            // the goal is reached from here without communication
  std::vector<int> labels;
};

struct Entry {
  std::int64_t estimate, peak;
  int label;
  friend bool operator<(const Entry& a, const Entry& b) { return std::tie(a.estimate, a.peak, a.label) > std::tie(b.estimate, b.peak, b.label); }
};

enum class Aim : std::uint8_t { cost, peak };
constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();

class Search {
 public:
  Search(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit, Aim aim)
      : space_(space), costs_(costs), goal_(to), aim_(aim) {
    source_bytes_ = bytes_of(from);
    allowed_bytes_ = std::max(source_bytes_, bytes_of(to));
    // Beyond the source: the larger end and the destination. The direct step keeps to it.
    limit_ = source_bytes_ + allowed_bytes_ + bytes_of(to);
    if (limit > 0) limit_ = std::min(limit, limit_);
    visit(from);
    goal_index_ = visit(to);
    closing_ = states_before(space_, to);
    for (const State& state : closing_) visited_[static_cast<std::size_t>(visit(state))].closing = true;
    Label start;
    start.peak = source_bytes_;
    add(start);
  }

  bool run() {
    while (!queue_.empty()) {
      const Entry entry = queue_.top();
      queue_.pop();
      if (entry.estimate > bound_) break;
      const Label label = labels_[static_cast<std::size_t>(entry.label)];
      if (label.dead || label.state == goal_index_) continue;
      const Visited at = visited_[static_cast<std::size_t>(label.state)];
      // The last move that communicates leads to a state that closes.
      for (const State& last : closing_) {
        const Step step = communication_between(space_, at.state, last), direct = direct_step(space_, at.state, last);
        if (step.axes != 0) consider(entry.label, step);
        if (direct.axes != 0 && direct.to == last) consider(entry.label, direct);
      }
      for_each_local_move(space_, at.state, goal_, [&](const Step& step) {
        if (!out_of_order(label, at.state, step)) consider(entry.label, step);
      });
      if (aim_ == Aim::peak || label.cost + at.several <= bound_)
        for_each_communication(space_, at.state, [&](const Step& step) { consider_passing(entry.label, step); });
    }
    return best() >= 0;
  }

  Found found() const {
    Found result;
    const int last = best();
    result.peak_bytes = labels_[static_cast<std::size_t>(last)].peak;
    for (int i : path(last)) {
      const Label& l = labels_[static_cast<std::size_t>(i)];
      const Label& before = labels_[static_cast<std::size_t>(l.parent)];
      result.steps.push_back(
          {l.kind, l.axes, visited_[static_cast<std::size_t>(before.state)].state, visited_[static_cast<std::size_t>(l.state)].state, l.nanoseconds});
    }
    return result;
  }

 private:
  std::int64_t bytes_of(const State& state) const { return space_.worst(state) * costs_.element_bytes(); }

  int visit(const State& state) {
    const auto [it, made] = index_.try_emplace(state, static_cast<int>(visited_.size()));
    if (made) {
      const std::int64_t bytes = bytes_of(state);
      const bool estimate = aim_ == Aim::cost && bytes <= allowed_bytes_;
      const Costs::Least least = estimate ? costs_.least(space_, state, goal_) : Costs::Least{};
      visited_.push_back({state, least.any, least.several, bytes, false, {}});
    }
    return it->second;
  }

  // Labels from the source on, without the empty one.
  std::vector<int> path(int label) const {
    std::vector<int> result;
    for (int i = label; labels_[static_cast<std::size_t>(i)].parent >= 0; i = labels_[static_cast<std::size_t>(i)].parent) result.push_back(i);
    std::reverse(result.begin(), result.end());
    return result;
  }

  void append_splits(int list, std::vector<int>& code) const {
    std::vector<int> splits;
    for (; space_.node(list).parent >= 0; list = space_.node(list).parent) splits.push_back(space_.node(list).split);
    code.insert(code.end(), splits.rbegin(), splits.rend());
    code.push_back(-1);
  }

  // Number of moves first, then move by move: kind, axes, target. Longer prefixes never overtake, so that prefixes of the first way are first.
  std::vector<int> encoding(int label) const {
    std::vector<int> code{labels_[static_cast<std::size_t>(label)].moves};
    for (int i : path(label)) {
      const Label& l = labels_[static_cast<std::size_t>(i)];
      code.push_back(static_cast<int>(l.kind));
      code.push_back(static_cast<int>(l.axes));
      const State& state = visited_[static_cast<std::size_t>(l.state)].state;
      for (int d = 0; d < space_.ndim(); ++d) append_splits(state.lists[static_cast<std::size_t>(d)], code);
      code.insert(code.end(), state.partial.begin(), state.partial.end());
    }
    return code;
  }
  bool encodes_before(int a, int b) const {
    const int x = labels_[static_cast<std::size_t>(a)].moves, y = labels_[static_cast<std::size_t>(b)].moves;
    return x != y ? x < y : encoding(a) < encoding(b);
  }

  // Whatever follows `b` is at least as good after `a`.
  bool dominates(int i, int j) const {
    const Label &a = labels_[static_cast<std::size_t>(i)], &b = labels_[static_cast<std::size_t>(j)];
    const auto x = std::tie(a.cost, a.launches), y = std::tie(b.cost, b.launches);
    if (x < y) return a.held <= b.held;
    return x == y && a.peak <= b.peak && a.held <= b.held && encodes_before(i, j);
  }

  bool is_view(const Step& step) const {
    switch (step.kind) {
      case MoveKind::relabel:
        return true;
      case MoveKind::slice:
        for (std::size_t d = 0; d < static_cast<std::size_t>(space_.ndim()); ++d)
          if (step.from.lists[d] != step.to.lists[d]) return space_.is_interval(space_.node(step.to.lists[d]).split);
        return true;
      case MoveKind::to_partial:
        for (std::size_t a = 0; a < step.to.partial.size(); ++a) {
          if (step.from.partial[a] == step.to.partial[a]) continue;
          const auto op = static_cast<ReduceOp>(step.to.partial[a] - 1);
          if (op == ReduceOp::sum || op == ReduceOp::product) return false;
        }
        return true;
      default:
        return false;
    }
  }

  // Slices of two dimensions that are views commute: where they follow each other the first encoding has the lower axes first.
  bool out_of_order(const Label& label, const State& at, const Step& step) const {
    if (label.parent < 0 || label.kind != MoveKind::slice || step.kind != MoveKind::slice || label.axes < step.axes) return false;
    const State& before = visited_[static_cast<std::size_t>(labels_[static_cast<std::size_t>(label.parent)].state)].state;
    const int last = sliced(before, at), next = sliced(step.from, step.to);
    return next != last && is_interval_step(at, last) && is_interval_step(step.to, next);
  }
  static int sliced(const State& from, const State& to) {
    int d = 0;
    while (from.lists[static_cast<std::size_t>(d)] == to.lists[static_cast<std::size_t>(d)]) ++d;
    return d;
  }
  bool is_interval_step(const State& to, int dim) const { return space_.is_interval(space_.node(to.lists[static_cast<std::size_t>(dim)]).split); }

  // A move that communicates and that another such move must follow.
  void consider_passing(int parent, const Step& step) {
    if (aim_ == Aim::cost) {
      const Estimate received = received_at_least(space_, step.kind, step.from, step.to);
      const std::int64_t first = costs_.communication(space_, step.kind, step.axes, step.from, step.to, {received.max, 0});
      if (labels_[static_cast<std::size_t>(parent)].cost + first + costs_.least_start() > bound_) return;
    }
    if (!visited_[static_cast<std::size_t>(visit(step.to))].closing) consider(parent, step);
  }

  // Of a move that communicates to `least`, what else is to pay included; the exact time only where an estimate does not rule it out.
  std::int64_t time_of(const Step& step, std::int64_t before, std::int64_t least) const {
    const Estimate quick = received_at_least(space_, step.kind, step.from, step.to);
    const std::int64_t time = costs_.communication(space_, step.kind, step.axes, step.from, step.to, {quick.max, 0});
    if (quick.exact || before + time + least > bound_) return time;
    return costs_.communication(space_, step.kind, step.axes, step.from, step.to,
                                lacking(space_, step.from, step.to, space_.ranks_of(reduced_axes(space_, step.from, step.to)), false));
  }

  void consider(int parent, const Step& step) {
    const bool communicates = step.kind >= MoveKind::all_gather;
    const int state = visit(step.to);
    const Visited& target = visited_[static_cast<std::size_t>(state)];
    if (target.bytes > allowed_bytes_) return;
    const Label& before = labels_[static_cast<std::size_t>(parent)];
    const bool view = is_view(step);
    Label label;
    label.state = state;
    label.parent = parent;
    label.kind = step.kind;
    label.axes = step.axes;
    label.moves = before.moves + 1;
    label.peak = std::max(before.peak, source_bytes_ + before.held + (view ? 0 : target.bytes));
    label.held = view ? before.held : target.bytes;
    // The rank that keeps the value has a view.
    if (step.kind == MoveKind::to_partial) label.held = std::max(label.held, before.held);
    if (label.peak > limit_) return;
    if (aim_ == Aim::cost) {
      if (before.cost + target.least > bound_) return;
      if (communicates) label.nanoseconds = time_of(step, before.cost, target.least);
      else if (!view) label.nanoseconds = costs_.writing(space_.worst(step.to));
      label.cost = before.cost + label.nanoseconds;
      label.launches = before.launches + (communicates ? 1 : 0);
      if (label.cost + target.least > bound_) return;
    }
    add(label);
  }

  void add(const Label& label) {
    const int i = static_cast<int>(labels_.size());
    labels_.push_back(label);
    Visited& at = visited_[static_cast<std::size_t>(label.state)];
    const auto dominated = [&](int other) { return dominates(other, i); };
    if (std::any_of(at.labels.begin(), at.labels.end(), dominated)) {
      labels_.pop_back();
      return;
    }
    std::erase_if(at.labels, [&](int other) {
      if (!dominates(i, other)) return false;
      labels_[static_cast<std::size_t>(other)].dead = true;
      return true;
    });
    at.labels.push_back(i);
    if (label.state == goal_index_ && aim_ == Aim::cost) bound_ = std::min(bound_, label.cost);
    if (label.state == goal_index_ && aim_ == Aim::peak) bound_ = std::min(bound_, label.peak);
    queue_.push({aim_ == Aim::cost ? label.cost + at.least : label.peak, label.peak, i});
  }

  int best() const {
    int first = -1;
    for (int i : visited_[static_cast<std::size_t>(goal_index_)].labels) {
      if (first < 0) {
        first = i;
        continue;
      }
      const Label &a = labels_[static_cast<std::size_t>(i)], &b = labels_[static_cast<std::size_t>(first)];
      const auto x = std::tie(a.cost, a.launches, a.peak), y = std::tie(b.cost, b.launches, b.peak);
      if (x < y || (x == y && encodes_before(i, first))) first = i;
    }
    return first;
  }

  Space& space_;
  const Costs& costs_;
  const State goal_;
  const Aim aim_;
  std::int64_t source_bytes_ = 0, allowed_bytes_ = 0, limit_ = 0;
  int goal_index_ = 0;
  std::int64_t bound_ = kFar;  // cost (or peak) of the best way known
  std::unordered_map<State, int, StateHash> index_;
  std::vector<Visited> visited_;
  std::vector<State> closing_;
  std::vector<Label> labels_;
  std::priority_queue<Entry> queue_;
};

}  // namespace

namespace {

std::optional<Found> run(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit, Aim aim) {
  if (from == to) return Found{{}, space.worst(from) * costs.element_bytes()};
  Search search(space, costs, from, to, limit, aim);
  if (search.run()) return search.found();
  if (limit == 0) base::fail<InternalError>("redistribute: no route was found; report this defect");
  return {};
}

}  // namespace

Found search(Space& space, const Costs& costs, const State& from, const State& to) { return *run(space, costs, from, to, 0, Aim::cost); }

std::optional<Found> search_within(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit) {
  return run(space, costs, from, to, limit, Aim::cost);
}

Found search_smallest(Space& space, const Costs& costs, const State& from, const State& to) { return *run(space, costs, from, to, 0, Aim::peak); }

}  // namespace dtensor::redistribute
