// SPDX-License-Identifier: Apache-2.0
// Tensors that change their mesh over NCCL: what every rank asks, and what it gets.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "comm/expected.h"
#include "comm/nccl/expected_calls.h"
#include "comm/nccl/ranks.h"
#include "dtensor/dtensor.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::taken_calls;

namespace {

constexpr int kRanks = 6;

// A layout on some ranks; a letter per axis: the digit of a split dimension, R or P.
struct End {
  std::vector<int> sizes, ranks;
  std::string letters;

  int find(int rank) const {
    const auto at = std::find(ranks.begin(), ranks.end(), rank);
    return at == ranks.end() ? -1 : static_cast<int>(at - ranks.begin());
  }
  Box box(const Numbers& shape, int rank) const {
    Box b;
    for (std::int64_t n : shape) b.push_back({0, n});
    int rest = find(rank), below = static_cast<int>(ranks.size());
    for (std::size_t a = 0; a < sizes.size(); ++a) {
      below /= sizes[a];
      const int coordinate = rest / below;
      rest %= below;
      if (letters[a] == 'R' || letters[a] == 'P') continue;
      Interval& i = b[static_cast<std::size_t>(letters[a] - '0')];
      i = part_of(i, sizes[a], coordinate);
    }
    return b;
  }
  DeviceMesh mesh(World& world) const {
    std::vector<MeshAxis> axes;
    constexpr std::string_view kNames[] = {"x", "y"};
    for (std::size_t a = 0; a < sizes.size(); ++a) axes.push_back({kNames[a], sizes[a]});
    return world.mesh(axes, ranks);
  }
  Placements placements() const {
    std::vector<Placement> list;
    for (char c : letters) list.push_back(c == 'R' ? Placement(Replicate()) : c == 'P' ? Placement(Partial()) : Placement(Shard(c - '0')));
    return Placements(std::span<const Placement>(list));
  }
  int contributions() const {
    int n = 1;
    for (std::size_t a = 0; a < sizes.size(); ++a) n *= letters[a] == 'P' ? sizes[a] : 1;
    return n;
  }
};

struct Case {
  End from, to;
  Numbers shape;
};

std::vector<double> numbers_in(const Numbers& shape, const Box& box, double factor) {
  std::vector<double> values;
  for (std::int64_t i = box[0].begin; i < box[0].end; ++i)
    for (std::int64_t j = box[1].begin; j < box[1].end; ++j) values.push_back(factor * static_cast<double>(i * shape[1] + j));
  return values;
}
Shape sizes_of(const Box& box) { return {box[0].length(), box[1].length()}; }

void run(const std::vector<Case>& cases, Dtype dtype) {
  CHECK(runs_over_nccl(kRanks, [&](World& world) {
    for (const Case& c : cases) {
      CAPTURE(c.from.letters);
      CAPTURE(c.to.letters);
      const bool gives = c.from.find(world.rank()) >= 0, gets = c.to.find(world.rank()) >= 0;
      const DeviceMesh source = c.from.mesh(world), target = c.to.mesh(world);
      Tensor local = Tensor::zeros({0}, dtype, world.device());
      if (gives) {
        const Box box = c.from.box(c.shape, world.rank());
        local = from_doubles(numbers_in(c.shape, box, 1), sizes_of(box), dtype).to(world.device());
      }
      const DTensor x = from_local(local, source, c.from.placements(), {.shape = Shape{c.shape[0], c.shape[1]}});
      host_waits();
      const DTensor y = x.redistribute(c.to.placements(), {.mesh = target});
      y.wait();
      CHECK(host_waits() == 0);
      if (gets) CHECK(doubles_of(y.local().to(Device::cpu())) == numbers_in(c.shape, c.to.box(c.shape, world.rank()), c.from.contributions()));
    }
  }));
}

std::vector<int> members_of(const Case& c) {
  std::set<int> all(c.from.ranks.begin(), c.from.ranks.end());
  all.insert(c.to.ranks.begin(), c.to.ranks.end());
  return {all.begin(), all.end()};
}

}  // namespace

TEST_CASE("every part goes in one message from its owner to each rank that needs it, and every contribution from its rank") {
  const std::vector<int> low{0, 1}, high{2, 3}, all{0, 1, 2, 3, 4, 5}, odd{1, 3, 5};
  for (Dtype dtype : {Dtype::f32, Dtype::i64}) {
    std::vector<Case> cases;
    for (const Numbers& shape : {Numbers{6, 8}, Numbers{5, 7}, Numbers{1, 3}}) {
      cases.push_back({{{2}, low, "0"}, {{2}, high, "0"}, shape});
      cases.push_back({{{2}, low, "0"}, {{2}, high, "1"}, shape});
      cases.push_back({{{2}, low, "1"}, {{3}, odd, "0"}, shape});
      cases.push_back({{{3}, odd, "0"}, {{2}, low, "R"}, shape});
      cases.push_back({{{6}, all, "0"}, {{2}, high, "1"}, shape});
      cases.push_back({{{2, 3}, all, "01"}, {{3, 2}, all, "10"}, shape});
      cases.push_back({{{2}, high, "0"}, {{2, 3}, all, "1R"}, shape});
      cases.push_back({{{2}, low, "P"}, {{2}, high, "0"}, shape});
    }
    ExpectedCalls expected(kRanks);
    for (const Case& c : cases) {
      const std::vector<int> members = members_of(c);
      std::vector<Numbers> counts(members.size(), Numbers(members.size()));
      for (std::size_t s = 0; s < members.size(); ++s)
        for (std::size_t d = 0; d < members.size(); ++d)
          if (c.from.find(members[s]) >= 0 && c.to.find(members[d]) >= 0)
            counts[s][d] = common(c.from.box(c.shape, members[s]), c.to.box(c.shape, members[d]));
      expected.group("default", members, messages(counts, to_string(dtype)));
    }
    taken_calls();
    run(cases, dtype);
    expected.compare(taken_calls(), "default");
  }
}

TEST_CASE("of replicas each rank receives what it lacks, once") {
  const std::vector<int> four{0, 1, 2, 3}, back{3, 1, 2, 0}, all{0, 1, 2, 3, 4, 5};
  for (const Case& c : {Case{{{2, 2}, four, "R0"}, {{2}, {4, 5}, "1"}, {6, 8}}, Case{{{2, 2}, four, "0R"}, {{2, 3}, all, "1R"}, {5, 7}},
                        Case{{{4}, four, "R"}, {{2, 3}, all, "01"}, {6, 8}}, Case{{{2, 2}, four, "10"}, {{2, 2}, back, "10"}, {5, 7}}}) {
    CAPTURE(c.from.letters);
    taken_calls();
    run({c}, Dtype::f32);
    const std::vector<int> members = members_of(c);
    std::vector<std::int64_t> received(kRanks);
    for (const auto& call : taken_calls()) {
      CHECK(call.group == 0);
      if (call.verb == "Recv") received[static_cast<std::size_t>(members[static_cast<std::size_t>(call.member)])] += call.count;
    }
    for (int rank : c.to.ranks) {
      const Box box = c.to.box(c.shape, rank);
      CHECK(received[static_cast<std::size_t>(rank)] == volume(box) - (c.from.find(rank) >= 0 ? common(c.from.box(c.shape, rank), box) : 0));
    }
  }
}
