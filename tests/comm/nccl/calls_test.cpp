// SPDX-License-Identifier: Apache-2.0
// What every rank asks of NCCL for redistributions: communicator, group, call, count, dtype, peer and order, against a count of elements.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <sstream>

#include "comm/expected.h"
#include "comm/nccl/expected_calls.h"
#include "comm/nccl/ranks.h"
#include "dtensor/dtensor.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::Call;
using comm::nccl::recorded::taken_calls;

namespace {

// States are the layouts that the moves go through, a word per mesh axis: S0 S1 S2, R, and P A M N (sum, avg, max, min).
struct Redistribution {
  Numbers shape;
  Dtype dtype;
  std::vector<std::string> states;
};

std::vector<std::string> words_of(const std::string& state) {
  std::istringstream in(state);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}
Placement placement_of(const std::string& word) {
  switch (word[0]) {
    case 'S':
      return Shard(word[1] - '0');
    case 'P':
      return Partial();
    case 'A':
      return Partial(ReduceOp::avg);
    case 'M':
      return Partial(ReduceOp::max);
    case 'N':
      return Partial(ReduceOp::min);
    default:
      return Replicate();
  }
}
Placements placements_of(const std::string& state) {
  std::vector<Placement> list;
  for (const std::string& word : words_of(state)) list.push_back(placement_of(word));
  return Placements(std::span<const Placement>(list));
}
bool is_shard(const std::string& word) { return word[0] == 'S'; }
bool is_partial(const std::string& word) { return contains("PAMN", word.substr(0, 1)); }

// The model: a mesh of `sizes`, ranks in row-major order, boxes by the rule of ceil chunks.
struct Model {
  std::vector<int> sizes;
  NcclOptions options;
  ExpectedCalls calls;

  Model(std::vector<int> mesh, const NcclOptions& o) : sizes(std::move(mesh)), options(o), calls(ranks()) {}
  int ranks() const {
    int n = 1;
    for (int size : sizes) n *= size;
    return n;
  }
  std::vector<int> coordinates(int rank) const {
    std::vector<int> c(sizes.size());
    for (std::size_t a = sizes.size(); a-- > 0; rank /= sizes[a]) c[a] = rank % sizes[a];
    return c;
  }
  Box box(const Numbers& shape, const std::vector<std::string>& words, int rank) const {
    Box b;
    for (std::int64_t n : shape) b.push_back({0, n});
    const std::vector<int> c = coordinates(rank);
    for (std::size_t a = 0; a < words.size(); ++a) {
      if (!is_shard(words[a])) continue;
      Interval& i = b[static_cast<std::size_t>(words[a][1] - '0')];
      i = part_of(i, sizes[a], c[a]);
    }
    return b;
  }
  void all(const std::vector<int>& members, const std::string& call) { calls.all("default", members, call); }

  void step(const Redistribution& r, const std::string& from, const std::string& to);
  void step(const Redistribution& r, const std::vector<std::string>& from, const std::vector<std::string>& to, const std::vector<std::size_t>& axes,
            const std::vector<int>& members);
};

std::string type_of(Dtype dtype) { return dtype == Dtype::boolean ? "u8" : to_string(dtype); }

// Of contributions `word` of a dtype over so many members; empty: it is none of NCCL's.
std::string reduction_of(const std::string& word, Dtype dtype, std::size_t members, bool in_rank_order) {
  const bool floating = dtype == Dtype::f32 || dtype == Dtype::bf16, powers = (members & (members - 1)) == 0;
  if (floating && in_rank_order) return "";
  if (word == "P") return "sum";
  if (word == "A") return dtype == Dtype::f32 || powers ? "avg" : "sum";
  return floating ? "" : word == "M" ? "max" : "min";
}

// Parts of these sizes, padded to the largest, are at most a quarter more than they are.
bool is_even_enough(const Numbers& parts) {
  std::int64_t total = 0, most = 0;
  for (std::int64_t n : parts) {
    total += n;
    most = std::max(most, n);
  }
  return most > 0 && 4 * most * static_cast<std::int64_t>(parts.size()) <= 5 * total;
}

void Model::step(const Redistribution& r, const std::vector<std::string>& from, const std::vector<std::string>& to,
                 const std::vector<std::size_t>& axes, const std::vector<int>& members) {
  const std::size_t n = members.size();
  const std::string type = type_of(r.dtype), op = reduction_of(from[axes[0]], r.dtype, n, options.in_rank_order);
  std::vector<Box> before, after;
  Numbers given, wanted;
  for (int rank : members) {
    before.push_back(box(r.shape, from, rank));
    after.push_back(box(r.shape, to, rank));
    given.push_back(volume(before.back()));
    wanted.push_back(volume(after.back()));
  }
  const auto each = [&](const auto& test) { return std::all_of(axes.begin(), axes.end(), [&](std::size_t a) { return test(from[a], to[a]); }); };
  const auto text = [&](const char* verb, std::int64_t count) { return std::string(verb) + " " + std::to_string(count) + " " + type; };
  if (each([](const auto& a, const auto& b) { return is_partial(a) && b == "R"; })) {
    const std::int64_t count = given[0], chunk = count / static_cast<std::int64_t>(n);
    if (count == 0) return;
    if (!op.empty()) return all(members, text("AllReduce", count) + " " + op);
    const bool small = count * (r.dtype == Dtype::bf16 ? 2 : 4) <= 32 << 10;
    if (!small) calls.group("default", members, messages(std::vector<Numbers>(n, Numbers(n, chunk)), type));
    return all(members, text("AllGather", small ? count : chunk));
  }
  if (each([](const auto& a, const auto& b) { return is_shard(a) && b == "R"; }) && is_even_enough(given))
    return all(members, text("AllGather", *std::max_element(given.begin(), given.end())));
  if (each([](const auto& a, const auto& b) { return is_partial(a) && is_shard(b); }) && !op.empty() && is_even_enough(wanted))
    return all(members, text("ReduceScatter", *std::max_element(wanted.begin(), wanted.end())) + " " + op);
  // What each gives each: those with its replica's coordinates, from all who contribute.
  std::vector<Numbers> counts(n, Numbers(n));
  bool equal = axes.size() == 1 && is_shard(from[axes[0]]) && is_shard(to[axes[0]]);
  for (std::size_t s = 0; s < n; ++s)
    for (std::size_t d = 0; d < n; ++d) {
      const bool meet = std::all_of(axes.begin(), axes.end(),
                                    [&](std::size_t a) { return from[a] != "R" || coordinates(members[s])[a] == coordinates(members[d])[a]; });
      counts[s][d] = meet ? common(before[s], after[d]) : 0;
      equal = equal && counts[s][d] == counts[0][0] && counts[0][0] > 0;
    }
  if (equal && options.all_to_all) return all(members, text("AlltoAll", counts[0][0]));
  calls.group("default", members, messages(counts, type));
}

// One move over the axes on which the layouts differ.
void Model::step(const Redistribution& r, const std::string& from_state, const std::string& to_state) {
  const std::vector<std::string> from = words_of(from_state), to = words_of(to_state);
  std::vector<std::size_t> axes;
  bool moves = false;
  for (std::size_t a = 0; a < from.size(); ++a)
    if (from[a] != to[a]) {
      axes.push_back(a);
      moves = moves || from[a] != "R";
    }
  if (!moves) return;
  std::vector<bool> done(static_cast<std::size_t>(ranks()));
  for (int rank = 0; rank < ranks(); ++rank) {
    if (done[static_cast<std::size_t>(rank)]) continue;
    std::vector<int> members;
    for (int other = rank; other < ranks(); ++other) {
      const std::vector<int> a = coordinates(rank), b = coordinates(other);
      bool together = true;
      for (std::size_t k = 0; k < a.size(); ++k) together = together && (a[k] == b[k] || std::find(axes.begin(), axes.end(), k) != axes.end());
      if (!together) continue;
      members.push_back(other);
      done[static_cast<std::size_t>(other)] = true;
    }
    step(r, from, to, axes, members);
  }
}

Shape shape_of(const Numbers& numbers) {
  Shape shape;
  for (std::int64_t n : numbers) shape.push_back(n);
  return shape;
}

// Every element is known to be its number (bool: whether that is odd), on all contributors alike.
std::vector<double> values_in(const Numbers& shape, const Box& box, double factor, Dtype dtype) {
  std::vector<double> values;
  const std::function<void(std::size_t, std::int64_t)> walk = [&](std::size_t d, std::int64_t at) {
    if (d == shape.size()) values.push_back(dtype == Dtype::boolean ? static_cast<double>(at % 2) : factor * static_cast<double>(at % 13));
    else
      for (std::int64_t i = box[d].begin; i < box[d].end; ++i) walk(d + 1, at * shape[d] + i);
  };
  walk(0, 0);
  return values;
}

void check(const std::vector<int>& sizes, const std::vector<Redistribution>& list, const NcclOptions& options = {}, const Topology& topology = {}) {
  Model model(sizes, options);
  for (const Redistribution& r : list)
    for (std::size_t s = 1; s < r.states.size(); ++s) model.step(r, r.states[s - 1], r.states[s]);
  taken_calls();
  const auto body = [&](World& world) {
    if (!(topology == Topology())) world.set_topology(topology);
    std::vector<MeshAxis> axes;
    constexpr std::string_view kNames[] = {"x", "y", "z"};
    for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back({kNames[a], sizes[a]});
    const DeviceMesh mesh = world.mesh(axes);
    for (const Redistribution& r : list) {
      CAPTURE(r.states.front());
      CAPTURE(r.states.back());
      const std::vector<std::string> from = words_of(r.states.front()), to = words_of(r.states.back());
      double factor = 1;
      for (std::size_t a = 0; a < from.size(); ++a) factor *= from[a] == "P" && to[a] != "P" ? sizes[a] : 1;
      Shape local;
      const Box before = model.box(r.shape, from, world.rank());
      for (const Interval& i : before) local.push_back(i.end - i.begin);
      const Tensor mine = from_doubles(values_in(r.shape, before, 1, r.dtype), local, r.dtype).to(world.device());
      const DTensor x = from_local(mine, mesh, placements_of(r.states.front()), {.shape = shape_of(r.shape)});
      host_waits();
      const DTensor y = x.redistribute(placements_of(r.states.back()));
      y.wait();
      CHECK(host_waits() == 0);
      CHECK(doubles_of(y.local().to(Device::cpu())) == values_in(r.shape, model.box(r.shape, to, world.rank()), factor, r.dtype));
    }
  };
  CHECK(runs_over_nccl(model.ranks(), body, options));
  model.calls.compare(taken_calls(), "default");
}

}  // namespace

constexpr Dtype kAsked[] = {Dtype::f32, Dtype::bf16, Dtype::i64, Dtype::boolean};

TEST_CASE("moves over one axis make on every rank the calls that a count of elements gives") {
  for (int ranks : {2, 3, 4}) {
    std::vector<Redistribution> list;
    for (Dtype dtype : kAsked)
      for (const Numbers& shape : {Numbers{12, 24}, Numbers{11, 13}, Numbers{5, 7}, Numbers{3, 8}, Numbers{1, 2}, Numbers{0, 4}}) {
        for (const char* to : {"R", "S1", "S0"}) list.push_back({shape, dtype, {"S0", to}});
        for (const char* to : {"R", "S0"}) list.push_back({shape, dtype, {"S1", to}});
        for (const char* to : {"S0", "S1"}) list.push_back({shape, dtype, {"R", to}});
        for (const char* op : {"P", "A", "M", "N"}) {
          const bool boolean = dtype == Dtype::boolean, floating = dtype == Dtype::f32 || dtype == Dtype::bf16;
          if ((boolean && (*op == 'P' || *op == 'A')) || (!floating && *op == 'A')) continue;
          for (const char* to : {"R", "S1"}) list.push_back({shape, dtype, {op, to}});
          // Where one rank of several gets all, how it goes is a matter of cost.
          if (shape[0] > 1 || ranks == 2) list.push_back({shape, dtype, {op, "S0"}});
        }
      }
    list.push_back({{4 * 48, 256}, Dtype::f32, {"M", "R"}});
    check({ranks}, list);
    check({ranks}, list, {.in_rank_order = true, .all_to_all = false});
  }
}

TEST_CASE("moves over two axes call each communicator in the order of the plan, the same on all its ranks") {
  std::vector<Redistribution> list;
  for (Dtype dtype : kAsked)
    for (const Numbers& shape : {Numbers{8, 12}, Numbers{9, 7}, Numbers{5, 6}}) {
      list.push_back({shape, dtype, {"S0 S1", "R R"}});
      list.push_back({shape, dtype, {"S0 S0", "R R"}});
      list.push_back({shape, dtype, {"S0 S1", "S0 R"}});
      list.push_back({shape, dtype, {"S0 S1", "R S1"}});
      list.push_back({shape, dtype, {"S0 R", "R S0"}});
      list.push_back({shape, dtype, {"S0 S1", "S1 S0"}});
      list.push_back({shape, dtype, {"S0 R", "S1 R"}});
      list.push_back({shape, dtype, {"R S0", "R S1"}});
      list.push_back({shape, dtype, {"R R", "S0 S1"}});
      list.push_back({shape, dtype, {"R S0", "S1 S0"}});
      list.push_back({shape, dtype, {"M M", "R R"}});
      list.push_back({shape, dtype, {"M M", "S0 S1"}});
      list.push_back({shape, dtype, {"M S1", "S0 S1"}});
      list.push_back({shape, dtype, {"M S0", "R S0"}});
      list.push_back({shape, dtype, {"M S0", "M R"}});
      list.push_back({shape, dtype, {"M S0", "R R"}});
      list.push_back({shape, dtype, {"M S0", "S0 R"}});
    }
  for (const std::vector<int>& sizes : {std::vector<int>{2, 2}, {2, 3}, {3, 2}}) check(sizes, list);
}

TEST_CASE("moves over three axes call each communicator in the order of the plan, the same on all its ranks") {
  std::vector<Redistribution> list;
  for (Dtype dtype : kAsked)
    for (const Numbers& shape : {Numbers{8, 12, 16}, Numbers{9, 7, 5}}) {
      list.push_back({shape, dtype, {"S0 S1 S2", "R R R"}});
      list.push_back({shape, dtype, {"S0 S1 S2", "S0 R R"}});
      list.push_back({shape, dtype, {"S0 S1 S2", "R R S2"}});
      list.push_back({shape, dtype, {"S0 S1 S2", "R S1 S1"}});
      list.push_back({shape, dtype, {"S0 S0 S1", "R R R"}});
      list.push_back({shape, dtype, {"S0 S0 S1", "S0 S1 S2"}});
      list.push_back({shape, dtype, {"S0 S0 S1", "R R S2"}});
      list.push_back({shape, dtype, {"M M M", "R R R"}});
      list.push_back({shape, dtype, {"M M M", "S0 S1 S2"}});
      list.push_back({shape, dtype, {"M M M", "R R R", "S0 R R"}});
      list.push_back({shape, dtype, {"M S0 S1", "S0 S1 S2"}});
      list.push_back({shape, dtype, {"S0 R M", "S0 S1 M", "S0 S1 S2"}});
    }
  const Numbers even{8, 12, 16};
  list.push_back({even, Dtype::f32, {"P S0 S1", "S2 S0 S1", "R R R"}});
  list.push_back({even, Dtype::f32, {"P S0 P", "S2 S0 S2", "R R R"}});
  list.push_back({even, Dtype::f32, {"P S0 P", "S2 S0 S2", "R R S2"}});
  list.push_back({even, Dtype::f32, {"S0 R P", "S0 S2 P", "S0 S2 S2", "R R R"}});
  check({2, 2, 2}, list);
}

TEST_CASE("over a slow axis and a fast one what goes over the slow one is least, in the same order on all ranks") {
  const Topology machine{.axes = {{"x", {.latency_us = 1, .bandwidth_gb_s = 1}}, {"y", {.latency_us = 1, .bandwidth_gb_s = 200}}}};
  std::vector<Redistribution> list{{{32, 256}, Dtype::f32, {"P P", "P S1", "R S1", "R R"}}, {{30, 255}, Dtype::f32, {"P P", "P S0", "R S0", "R R"}}};
  for (const Numbers& shape : {Numbers{32, 256}, Numbers{30, 255}}) {
    list.push_back({shape, Dtype::f32, {"P P", "P S1", "S0 S1"}});
    list.push_back({shape, Dtype::f32, {"S0 S1", "R S1", "R R"}});
  }
  check({2, 2}, list, {}, machine);
}

TEST_CASE("a mean over some of the axes of one reduction multiplies by its own divisor in NCCL") {
  struct Mean {
    std::vector<int> sizes;
    Placements from;
    double divisor;
    bool scatters;
  };
  const Partial sum, mean(ReduceOp::avg);
  for (const Mean& m : {Mean{{2, 2}, {sum, mean}, 2, false}, Mean{{2, 3}, {sum, mean}, 3, false}, Mean{{2, 3}, {mean, sum}, 2, false},
                        Mean{{2, 2}, {sum, mean}, 2, true}}) {
    taken_calls();
    const int ranks = m.sizes[0] * m.sizes[1];
    CHECK(runs_over_nccl(ranks, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", m.sizes[0]}, {"y", m.sizes[1]}});
      const Tensor mine = Tensor::zeros({8, 6}, Dtype::f32, world.device());
      mine.fill_(world.rank());
      const DTensor x = from_local(mine, mesh, m.from, {.shape = {8, 6}});
      const DTensor y = x.redistribute(m.scatters ? Placements{Shard(0), Shard(1)} : Placements{Replicate(), Replicate()});
      const std::vector<double> values = doubles_of(y.local().to(Device::cpu()));
      CHECK(values.size() == (m.scatters ? 12 : 48));
      const double total = ranks * (ranks - 1) / 2;  // of the ranks' numbers
      for (double v : values) CHECK(v == doctest::Approx(total / m.divisor).epsilon(1e-6));
    }));
    const std::vector<Call> calls = taken_calls();
    CHECK(static_cast<int>(calls.size()) == ranks);
    for (const Call& c : calls) {
      CHECK(c.text() == (m.scatters ? "ReduceScatter 12 f32 premul" : "AllReduce 48 f32 premul"));
      CHECK(c.factor == 1 / m.divisor);
    }
  }
}
