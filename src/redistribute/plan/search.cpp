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
  bool followed = false;  // what needs no communication was tried from here
};

struct Visited {
  State state;
  std::int64_t bytes = 0;
  std::int64_t least = -1, several = 0;  // to the goal: on any way (-1: not known yet), on one with two moves or more that communicate
  bool closing = false;                  // the goal is reached from here without communication
  std::vector<int> labels;
};

// Where the last move that communicates may end.
struct Ending {
  State state;
  std::int64_t after = 0;  // at least, from here to the goal
  std::int64_t least = 0;  // the same with the move that ends here
};

struct Entry {
  std::int64_t estimate, peak;
  int label;
  friend bool operator<(const Entry& a, const Entry& b) { return std::tie(a.estimate, a.peak, a.label) > std::tie(b.estimate, b.peak, b.label); }
};

enum class Aim : std::uint8_t { cost, peak };
constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLabelEffort = 10;  // a way that is kept takes as long as ten moves that are not

class Search {
 public:
  Search(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit, Aim aim, std::int64_t effort)
      : space_(space), costs_(costs), goal_(to), aim_(aim), effort_(effort) {
    source_bytes_ = bytes_of(from);
    allowed_bytes_ = std::max(source_bytes_, bytes_of(to));
    // Beyond the source: the larger end and the destination. The direct step keeps to it.
    limit_ = source_bytes_ + allowed_bytes_ + bytes_of(to);
    if (limit > 0) limit_ = std::min(limit, limit_);
    visit(from);
    goal_index_ = visit(to);
    for (const State& state : states_before(space_, to)) {
      if (bytes_of(state) > allowed_bytes_) continue;
      visited_[static_cast<std::size_t>(visit(state))].closing = true;
      const std::int64_t after = aim == Aim::cost ? costs_.least_after(space_, state, to) : 0;
      endings_.push_back({state, after, aim == Aim::cost ? after + costs_.least_last(space_, state) : 0});
    }
    std::stable_sort(endings_.begin(), endings_.end(), [](const Ending& a, const Ending& b) { return a.least < b.least; });
    Label start;
    start.peak = source_bytes_;
    add(start);
  }

  bool run() {
    end_from(0);
    while (!queue_.empty()) {
      const Entry entry = queue_.top();
      queue_.pop();
      if (entry.estimate > bound_) break;
      if (effort_ > 0 && spent_ > effort_ && best() >= 0) {
        open_from_ = entry.estimate;
        break;
      }
      const Label label = labels_[static_cast<std::size_t>(entry.label)];
      if (label.dead || label.state == goal_index_) continue;
      const State from = visited_[static_cast<std::size_t>(label.state)].state;
      if (entry.label != 0) end_from(entry.label);
      follow(entry.label);
      if (aim_ == Aim::peak || label.cost + visited_[static_cast<std::size_t>(label.state)].several <= bound_)
        for_each_communication(space_, from, [&](const Step& step) { consider(entry.label, step, true); });
    }
    return best() >= 0;
  }

  Found found() const {
    Found result;
    const int last = best();
    result.peak_bytes = labels_[static_cast<std::size_t>(last)].peak;
    result.gap = std::max<std::int64_t>(0, labels_[static_cast<std::size_t>(last)].cost - open_from_);
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
    if (made) visited_.push_back({state, bytes_of(state), aim_ == Aim::cost ? -1 : 0, 0, false, {}});
    return it->second;
  }

  // The last move that communicates ends somewhere: the least over all places.
  std::int64_t least_from(Visited& at) {
    if (at.least >= 0) return at.least;
    std::int64_t any = kFar, several = kFar;
    for (const auto& [state, after, least] : endings_) {
      if (least >= any) {
        several = std::min(several, any + costs_.least_start());
        break;
      }
      const Costs::Least to = costs_.least(space_, at.state, state);
      any = std::min(any, after + to.any);
      several = std::min(several, after + to.several);
    }
    at.several = several;
    return at.least = at.closing ? std::min(any, costs_.least_after(space_, at.state, goal_)) : any;
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
    return a.held <= b.held && (x < y || (x == y && a.peak <= b.peak && encodes_before(i, j)));
  }

  bool is_better(int i, const Label& label) const {
    const Label& a = labels_[static_cast<std::size_t>(i)];
    return std::tie(a.cost, a.launches) < std::tie(label.cost, label.launches) && a.held <= label.held;
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

  // The last move that communicates leads to a state that closes. A way to the goal is looked for at once: its cost bounds all others.
  void end_from(int parent) {
    const Label label = labels_[static_cast<std::size_t>(parent)];
    const State from = visited_[static_cast<std::size_t>(label.state)].state;
    for (const auto& [last, after, least] : endings_) {
      if (label.cost + std::min(least, costs_.least_start() + endings_.front().least) > bound_) return;
      const Step step = communication_between(space_, from, last), direct = direct_step(space_, from, last);
      const std::size_t known = labels_.size();
      if (step.axes != 0) consider(parent, step);
      if (direct.axes != 0 && direct.to == last) consider(parent, direct);
      if (bound_ == kFar) close_from(known);
    }
  }

  // From the labels that were made since there were `first`, without communication.
  void close_from(std::size_t first) {
    for (std::size_t i = first; i < labels_.size(); ++i) {
      const Label& label = labels_[i];
      if (!label.dead && label.state != goal_index_ && visited_[static_cast<std::size_t>(label.state)].closing) follow(static_cast<int>(i));
    }
  }

  void follow(int parent) {
    if (labels_[static_cast<std::size_t>(parent)].followed) return;
    labels_[static_cast<std::size_t>(parent)].followed = true;
    const Label label = labels_[static_cast<std::size_t>(parent)];
    const State from = visited_[static_cast<std::size_t>(label.state)].state;
    for_each_local_move(space_, from, goal_, [&](const Step& step) {
      if (!out_of_order(label, from, step)) consider(parent, step);
    });
  }

  // A move that communicates to here must be followed by another.
  bool passes(const State& state) const {
    const auto it = index_.find(state);
    return it == index_.end() || !visited_[static_cast<std::size_t>(it->second)].closing;
  }

  // Of a move that communicates at least, or exactly.
  std::int64_t time_of(const Step& step, std::int64_t received) const {
    return costs_.communication(space_, step.kind, step.axes, step.from, step.to, {received, 0});
  }

  // `passing`: no move that ends the communication, unless it leads to a state that closes.
  void consider(int parent, const Step& step, bool passing = false) {
    ++spent_;
    if (bytes_of(step.to) > allowed_bytes_) return;
    const bool communicates = step.kind >= MoveKind::all_gather, view = is_view(step);
    const Label& before = labels_[static_cast<std::size_t>(parent)];
    Label label;
    bool exact = true;
    if (aim_ == Aim::cost) {
      if (communicates) {
        const Estimate received = received_at_least(space_, step.kind, step.from, step.to);
        label.nanoseconds = time_of(step, received.max);
        exact = received.exact;
      } else if (!view) {
        label.nanoseconds = costs_.writing(space_.worst(step.to));
      }
      const std::int64_t cost = before.cost + label.nanoseconds, rest = passing ? endings_.front().least : 0;
      // Most moves end here, before their state is looked up.
      if (cost > bound_ || (cost + rest > bound_ && passes(step.to))) return;
    }
    label.state = visit(step.to);
    Visited& target = visited_[static_cast<std::size_t>(label.state)];
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
      const std::int64_t least = least_from(target);
      if (before.cost + label.nanoseconds + least > bound_) return;
      label.cost = before.cost + label.nanoseconds;
      label.launches = before.launches + (communicates ? 1 : 0);
      // The exact time is no less.
      if (!exact && std::any_of(target.labels.begin(), target.labels.end(), [&](int other) { return is_better(other, label); })) return;
      if (!exact) {
        const std::int64_t reduced = space_.ranks_of(reduced_axes(space_, step.from, step.to));
        label.nanoseconds = time_of(step, lacking(space_, step.from, step.to, reduced, false).max);
      }
      label.cost = before.cost + label.nanoseconds;
      if (label.cost + least > bound_) return;
    }
    add(label);
  }

  void add(const Label& label) {
    const int i = static_cast<int>(labels_.size());
    spent_ += kLabelEffort;
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
    queue_.push({aim_ == Aim::cost ? label.cost + least_from(at) : label.peak, label.peak, i});
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
  const std::int64_t effort_;
  std::int64_t spent_ = 0;
  std::int64_t open_from_ = kFar;  // no way that was not looked at costs less
  std::int64_t source_bytes_ = 0, allowed_bytes_ = 0, limit_ = 0;
  int goal_index_ = 0;
  std::int64_t bound_ = kFar;  // cost (or peak) of the best way known
  std::unordered_map<State, int, StateHash> index_;
  std::vector<Visited> visited_;
  std::vector<Ending> endings_;
  std::vector<Label> labels_;
  std::priority_queue<Entry> queue_;
};

}  // namespace

namespace {

std::optional<Found> run(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit, Aim aim, std::int64_t effort) {
  if (from == to) return Found{{}, space.worst(from) * costs.element_bytes(), 0};
  Search search(space, costs, from, to, limit, aim, effort);
  if (search.run()) return search.found();
  if (limit == 0) base::fail<InternalError>("redistribute: no route was found; report this defect");
  return {};
}

}  // namespace

Found search(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t effort) {
  return *run(space, costs, from, to, 0, Aim::cost, effort);
}

std::optional<Found> search_within(Space& space, const Costs& costs, const State& from, const State& to, std::int64_t limit) {
  return run(space, costs, from, to, limit, Aim::cost, 0);
}

Found search_smallest(Space& space, const Costs& costs, const State& from, const State& to) { return *run(space, costs, from, to, 0, Aim::peak, 0); }

}  // namespace dtensor::redistribute
