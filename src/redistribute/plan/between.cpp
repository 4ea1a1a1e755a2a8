// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/between.h"

#include <algorithm>
#include <utility>

#include "redistribute/plan/overlap.h"

namespace dtensor::redistribute {
namespace {

using placements::Run;

bool first_only(ReduceOp op) { return op == ReduceOp::sum || op == ReduceOp::product; }

bool linear(const Layout& layout) {
  return std::all_of(layout.partial.begin(), layout.partial.end(),
                     [](const auto& op) { return !op || *op == ReduceOp::sum || *op == ReduceOp::avg; });
}

// The first axis on which R -> P leaves neutral elements at these coordinates.
std::optional<ReduceOp> neutral_at(const Layout& layout, std::int64_t index) {
  const Shape c = coordinates_of(layout, index);
  for (int a = 0; a < layout.mesh_ndim(); ++a) {
    const auto& op = layout.partial[static_cast<std::size_t>(a)];
    if (op && first_only(*op) && c[a] != 0) return op;
  }
  return std::nullopt;
}

}  // namespace

Between::Between(const End& from, const End& to, const Shape& shape) : from_(from, shape), to_(to, shape), ndim_(shape.ndim()) {
  const auto before = from_.kind(), after = to_.kind();
  kept_ = before && before == after && (*before != ReduceOp::avg || from_.contributions() == to_.contributions());
  choose_replicas();
  make_group();
  count();
}

Between::Range Between::contributions(const Held& target) const noexcept {
  const std::int64_t p = from_.contributions(), q = to_.contributions();
  if (kept_) return {ceil_div(target.contribution * p, q), ceil_div((target.contribution + 1) * p, q)};
  if (neutral_at(to_.layout(), to_.index(target))) return {};
  return {0, p};
}

std::vector<Between::Share> Between::shares_of(const Held& target) const {
  std::vector<Share> shares{{0, 1, 0}};
  for (int d = 0; d < ndim_; ++d) {
    const auto& mine = to_.runs(d, target.part[static_cast<std::size_t>(d)]);
    std::vector<Share> next;
    std::vector<std::pair<int, std::int64_t>> common;
    for (int part = 0; part < from_.parts_of(d); ++part)
      if (const std::int64_t n = overlap_size(from_.runs(d, part), mine); n > 0) common.emplace_back(part, n);
    for (const Share& s : shares)
      for (const auto& [part, n] : common) next.push_back({s.number * from_.parts_of(d) + part, s.volume * n, 0});
    shares = std::move(next);
  }
  return shares;
}

void Between::choose_replicas() {
  const auto targets = static_cast<std::int64_t>(to_.ranks().size());
  const auto replicas = static_cast<std::size_t>(from_.replicas());
  std::vector<std::vector<std::int64_t>> load(static_cast<std::size_t>(from_.parts()), std::vector<std::int64_t>(replicas, 0));
  std::vector<std::int64_t> demand(load.size(), 0);
  shares_.resize(static_cast<std::size_t>(targets));
  // A rank that holds the part itself takes what else it needs of it from the same replica, so that its contributions stay in order.
  std::vector<int> at;
  std::vector<std::int64_t> holds;
  for (int rank : to_.ranks()) {
    at.push_back(from_.find(rank));
    holds.push_back(at.back() < 0 ? -1 : from_.number(from_.held(at.back()).part));
  }
  std::vector<std::vector<Share>> of_part(static_cast<std::size_t>(to_.parts()));
  for (std::int64_t i = 0; i < targets; ++i) {
    const Range range = contributions(to_.held(i));
    if (range.empty()) continue;
    auto& same = of_part[static_cast<std::size_t>(to_.number(to_.held(i).part))];
    if (same.empty()) same = shares_of(to_.held(i));
    auto& shares = shares_[static_cast<std::size_t>(i)] = same;
    for (Share& s : shares) {
      const auto number = static_cast<std::size_t>(s.number);
      const bool own = holds[static_cast<std::size_t>(i)] == s.number;
      if (own) s.replica = from_.held(at[static_cast<std::size_t>(i)]).replica;
      if (own && range.end - range.begin == 1 && from_.contributions() == 1) continue;
      demand[number] += s.volume;
      if (own) load[number][static_cast<std::size_t>(s.replica)] += s.volume;
    }
  }
  for (std::int64_t i = 0; i < targets; ++i) {
    for (Share& s : shares_[static_cast<std::size_t>(i)]) {
      if (holds[static_cast<std::size_t>(i)] == s.number) continue;
      auto& sent = load[static_cast<std::size_t>(s.number)];
      s.replica = choose_replica(s, at[static_cast<std::size_t>(i)], sent, ceil_div(demand[static_cast<std::size_t>(s.number)], from_.replicas()));
      sent[static_cast<std::size_t>(s.replica)] += s.volume;
    }
  }
}

std::int64_t Between::choose_replica(const Share& share, int own, std::span<const std::int64_t> load, std::int64_t fair) const {
  if (own >= 0) {
    const std::int64_t nearest = from_.held(own).replica;
    if (load[static_cast<std::size_t>(nearest)] + share.volume <= fair) return nearest;
  }
  return std::min_element(load.begin(), load.end()) - load.begin();
}

int Between::sender(const Share& share, std::int64_t contribution) const {
  return from_.ranks()[static_cast<std::size_t>(from_.index(share.number, contribution, share.replica))];
}

void Between::make_group() {
  group_.assign(from_.ranks().begin(), from_.ranks().end());
  for (int r : to_.ranks())
    if (from_.find(r) < 0) group_.push_back(r);
  if (from_.contributions() == 1 || std::is_sorted(from_.ranks().begin(), from_.ranks().end())) std::sort(group_.begin(), group_.end());
  for (std::size_t i = 0; i < group_.size(); ++i) peers_.emplace_back(group_[i], static_cast<int>(i));
  std::sort(peers_.begin(), peers_.end());
}

int Between::peer(int rank) const noexcept { return std::lower_bound(peers_.begin(), peers_.end(), std::pair{rank, 0})->second; }

void Between::count() {
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const Range range = contributions(to_.held(static_cast<std::int64_t>(i)));
    combines_ = combines_ || range.end - range.begin > 1;
    std::int64_t elements = 0;
    for (const Share& s : shares_[i])
      for (std::int64_t k = range.begin; k < range.end; ++k)
        if (sender(s, k) != to_.ranks()[i]) elements += s.volume;
    received_by_.push_back(elements);
    received_.max = std::max(received_.max, elements);
    received_.total += elements;
  }
}

std::int64_t Between::received_by(int rank) const noexcept {
  const int i = to_.find(rank);
  return i < 0 ? 0 : received_by_[static_cast<std::size_t>(i)];
}

bool Between::views() const {
  if (communicates()) return false;
  for (int rank : to_.ranks()) {
    if (fill(rank)) continue;
    for (const auto& runs : local_runs(rank))
      if (runs.size() > 1) return false;
  }
  return true;
}

std::int64_t Between::touched() const {
  const bool view = views();
  std::int64_t most = 0;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const Held& held = to_.held(static_cast<std::int64_t>(i));
    const Range range = contributions(held);
    if (range.empty()) most = std::max(most, to_.numel(held));
    else if (!view) most = std::max(most, to_.numel(held) * (range.end - range.begin));
  }
  return most;
}

std::optional<ReduceOp> Between::fill(int rank) const noexcept {
  const int i = to_.find(rank);
  if (i < 0 || !contributions(to_.held(i)).empty()) return std::nullopt;
  return kept_ ? to_.kind() : neutral_at(to_.layout(), i);
}

// What the ranks with one part of the target receive of one part of the source. `receivers` are indices in the target mesh.
std::int64_t Between::least_of_part(std::span<const int> receivers, const Share& share, std::vector<std::int64_t>& lacks) const {
  const auto p = from_.contributions(), q = to_.contributions(), replicas = to_.replicas();
  // Which contributions the ranks of each replica of the target hold already.
  std::vector<std::vector<bool>> held(static_cast<std::size_t>(replicas), std::vector<bool>(static_cast<std::size_t>(p), false));
  bool any = false;
  for (int i : receivers) {
    const int own = from_.find(to_.ranks()[static_cast<std::size_t>(i)]);
    const bool has = own >= 0 && from_.number(from_.held(own).part) == share.number;
    any = any || has;
    if (has) held[static_cast<std::size_t>(to_.held(i).replica)][static_cast<std::size_t>(from_.held(own).contribution)] = true;
    if (q == 1 && (p > 1 || !has)) lacks[static_cast<std::size_t>(i)] += share.volume;
  }
  const auto missing = [&](const std::vector<bool>& h) { return static_cast<std::int64_t>(std::count(h.begin(), h.end(), false)); };
  std::int64_t receives = 0;
  if (p == 1) {
    for (const auto& h : held) receives += missing(h);
  } else if (q > 1 && (from_.kind() == to_.kind() || (linear(from_.layout()) && linear(to_.layout())))) {
    // Contributions may stay apart, but each must reach the ranks of a replica.
    for (const auto& h : held) receives = std::max(receives, missing(h));
  } else {
    // The first whole value takes p-1 receives at a rank that contributes, p elsewhere; every other replica at least one more.
    receives = p - 1 + replicas - 1 + (any ? 0 : 1);
  }
  return receives * share.volume;
}

Received Between::least_received() const {
  std::vector<std::vector<int>> receivers(static_cast<std::size_t>(to_.parts()));
  for (int i = 0; i < static_cast<int>(to_.ranks().size()); ++i) receivers[static_cast<std::size_t>(to_.number(to_.held(i).part))].push_back(i);
  std::vector<std::int64_t> lacks(to_.ranks().size(), 0);
  Received least;
  for (const auto& same : receivers)
    for (const Share& s : shares_of(to_.held(same.front()))) least.total += least_of_part(same, s, lacks);
  least.max = std::max(ceil_div(least.total, static_cast<std::int64_t>(group_.size())), *std::max_element(lacks.begin(), lacks.end()));
  return least;
}

void Between::append(std::vector<Piece>& out, const Held& source, const Held& target, bool sending, const Shape& strides,
                     std::span<const int> peers) const {
  const bool comb = 2 * ndim_ <= kMaxDims;
  std::vector<Piece> boxes(1);
  for (int d = 0; d < ndim_; ++d) {
    const auto i = static_cast<std::size_t>(d);
    std::vector<Overlap> common = overlaps(from_.runs(d, source.part[i]), to_.runs(d, target.part[i]));
    if (comb) common = combed(common);
    std::vector<Piece> next;
    for (const Piece& box : boxes)
      for (const Overlap& o : common) {
        Piece& p = next.emplace_back(box);
        p.offset += (sending ? o.from : o.to) * strides[d];
        if (o.count > 1) {
          p.sizes.push_back(o.count);
          p.strides.push_back((sending ? o.from_step : o.to_step) * strides[d]);
        }
        p.sizes.push_back(o.length);
        p.strides.push_back(strides[d]);
      }
    boxes = std::move(next);
  }
  for (Piece& box : boxes)
    for (int p : peers) {
      box.peer = p;
      out.push_back(box);
    }
}

Transfer Between::transfer(int rank, const Shape& source_strides) const {
  Transfer result;
  if (const int i = to_.find(rank); i >= 0) {
    const Range range = contributions(to_.held(i));
    const Shape strides = contiguous_strides(to_.local_shape(to_.held(i)));
    std::vector<int> peers;
    for (const Share& s : shares_[static_cast<std::size_t>(i)]) {
      peers.clear();
      for (std::int64_t k = range.begin; k < range.end; ++k) peers.push_back(peer(sender(s, k)));
      append(result.receives, from_.held(from_.index(s.number, 0, 0)), to_.held(i), false, strides, peers);
    }
  }
  const int own = from_.find(rank);
  if (own < 0) return result;
  const Held& source = from_.held(own);
  const Shape strides = source_strides.empty() ? contiguous_strides(from_.local_shape(source)) : source_strides;
  const std::int64_t number = from_.number(source.part);
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const Held& target = to_.held(static_cast<std::int64_t>(i));
    const Range range = contributions(target);
    if (source.contribution < range.begin || source.contribution >= range.end) continue;
    const int to = peer(to_.ranks()[i]);
    for (const Share& s : shares_[i])
      if (s.number == number && s.replica == source.replica) append(result.sends, source, target, true, strides, {&to, 1});
  }
  return result;
}

std::vector<std::vector<Run>> Between::local_runs(int rank) const {
  std::vector<std::vector<Run>> result;
  const int own = from_.find(rank), target = to_.find(rank);
  if (own < 0 || target < 0) return result;
  for (int d = 0; d < ndim_; ++d) {
    const auto i = static_cast<std::size_t>(d);
    std::vector<Run>& runs = result.emplace_back();
    for (const Overlap& o : overlaps(from_.runs(d, from_.held(own).part[i]), to_.runs(d, to_.held(target).part[i]))) {
      if (!runs.empty() && runs.back().begin + runs.back().length == o.from) runs.back().length += o.length;
      else runs.push_back({o.from, o.length});
    }
  }
  return result;
}

}  // namespace dtensor::redistribute
