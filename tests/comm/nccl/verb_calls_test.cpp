// SPDX-License-Identifier: Apache-2.0
// What every member asks of NCCL for the verbs of a communicator, for lists of tensors and for windows, and that no host waits for it.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "comm/expected.h"
#include "comm/nccl/expected_calls.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/dtensor.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::taken_calls;
using comm::nccl::recorded::taken_lives;

namespace {

using Verb = std::function<Tensor(const Communicator&, const Tensor&)>;
const std::vector<int> kThree{0, 1, 2};

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

Tensor input(World& world, const Shape& shape, Dtype dtype = Dtype::f32) { return input_of(world.rank(), shape, dtype).to(world.device()); }

// On three ranks; the results of each.
std::vector<std::vector<double>> asked(const ExpectedCalls& expected, const std::function<Tensor(World&, const Communicator&)>& verb,
                                       const std::string& role = "user") {
  std::vector<std::vector<double>> results(3);
  taken_calls();
  CHECK(runs_over_nccl(3, [&](World& world) {
    const Communicator c = all(world);
    const Tensor result = verb(world, c);
    if (result) results[static_cast<std::size_t>(world.rank())] = doubles_of(result.to(Device::cpu()));
  }));
  expected.compare(taken_calls(), role);
  return results;
}

// The same of a verb on one tensor of each rank.
std::vector<std::vector<double>> asked(const Lists& calls, const Shape& shape, const Verb& verb) {
  ExpectedCalls expected(3);
  expected.group("user", kThree, calls);
  return asked(expected, [&](World& world, const Communicator& c) {
    const Tensor x = input(world, shape);
    host_waits();
    const Tensor y = verb(c, x);
    CHECK(host_waits() == 0);
    if (y) y.wait();
    CHECK(host_waits() == 0);
    return y;
  });
}
Lists everybody(const std::string& call) { return {{call}, {call}, {call}}; }

// Elements [begin, end) of what `rank` gives.
std::vector<double> elements(int rank, std::int64_t begin, std::int64_t end) {
  std::vector<double> values;
  for (std::int64_t i = begin; i < end; ++i) values.push_back(input_value(rank, i, Dtype::f32));
  return values;
}
std::vector<double> joined(std::vector<double> a, const std::vector<double>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("a copy from the host's memory counts as a wait of the host") {
  CHECK(runs_over_nccl(1, [](World& world) {
    const Tensor x = input_of(0, {4}, Dtype::f32);
    host_waits();
    static_cast<void>(x.to(world.device()));
    CHECK(host_waits() > 0);
  }));
}

TEST_CASE("permute asks one send and one receive of a member to whom something comes, and from whom something goes") {
  const auto ring = asked(messages({{0, 24, 0}, {0, 0, 24}, {24, 0, 0}}, "f32"), {4, 6}, [](const Communicator& c, const Tensor& x) {
    return c.permute(x, {1, 2, 0});
  });
  for (int m = 0; m < 3; ++m) CHECK(ring[static_cast<std::size_t>(m)] == elements((m + 2) % 3, 0, 24));
  const auto some = asked(messages({{0, 0, 24}, {0, 24, 0}, {0, 0, 0}}, "f32"), {4, 6}, [](const Communicator& c, const Tensor& x) {
    return c.permute(x, {2, 1, -1});
  });
  CHECK(some[0] == std::vector<double>(24));
  CHECK(some[1] == elements(1, 0, 24));
  CHECK(some[2] == elements(0, 0, 24));
}

TEST_CASE("scatter asks of the root a send to each other member, and of them the receive, of uneven parts too") {
  // Eight rows of two: 3, 3 and 2.
  const auto even =
      asked(messages({{0, 0, 0}, {6, 6, 4}, {0, 0, 0}}, "f32"), {8, 2}, [](const Communicator& c, const Tensor& x) { return c.scatter(x, 1, 0); });
  CHECK(even[0] == elements(1, 0, 6));
  CHECK(even[1] == elements(1, 6, 12));
  CHECK(even[2] == elements(1, 12, 16));
  const auto given = asked(messages({{10, 0, 6}, {0, 0, 0}, {0, 0, 0}}, "f32"), {8, 2}, [](const Communicator& c, const Tensor& x) {
    return c.scatter(x, 0, 0, {.sizes = {5, 0, 3}});
  });
  CHECK(given[1].empty());
  CHECK(given[2] == elements(0, 10, 16));
}

TEST_CASE("gather asks of each member but the root a send, and of the root a receive from each, of uneven parts too") {
  ExpectedCalls expected(3);
  expected.group("user", kThree, messages({{0, 0, 2}, {0, 0, 4}, {0, 0, 6}}, "f32"));
  const auto results = asked(expected, [](World& world, const Communicator& c) {
    const Tensor x = input(world, {world.rank() + 1, 2});
    host_waits();
    const Tensor y = c.gather(x, 2, 0, {.sizes = {1, 2, 3}});
    CHECK(host_waits() == 0);
    if (y) y.wait();
    CHECK(host_waits() == 0);
    return y;
  });
  CHECK(results[0].empty());
  CHECK(results[2] == joined(joined(elements(0, 0, 2), elements(1, 0, 4)), elements(2, 0, 6)));
}

TEST_CASE("a broadcast is one call of every member, in place too") {
  for (int root : {0, 2}) {
    const Lists calls = everybody("Broadcast 24 f32 from " + std::to_string(root));
    const auto copied = asked(calls, {4, 6}, [root](const Communicator& c, const Tensor& x) { return c.broadcast(x, root); });
    const auto in_place = asked(calls, {4, 6}, [root](const Communicator& c, const Tensor& x) {
      c.broadcast_(x, root).wait();
      return x;
    });
    for (const auto& results : {copied, in_place})
      for (const auto& r : results) CHECK(r == elements(root, 0, 24));
  }
}

TEST_CASE("gathers and reductions of a group are one call of every member") {
  const auto all_gather = [](const Communicator& c, const Tensor& x) { return c.all_gather(x, 0); };
  for (const auto& r : asked(everybody("AllGather 24 f32"), {4, 6}, all_gather))
    CHECK(r == joined(joined(elements(0, 0, 24), elements(1, 0, 24)), elements(2, 0, 24)));
  const auto in_place = [](const Communicator& c, const Tensor& x) {
    c.all_reduce_(x).wait();
    return x;
  };
  const auto sum = [](std::int64_t i) { return input_value(0, i, Dtype::f32) + input_value(1, i, Dtype::f32) + input_value(2, i, Dtype::f32); };
  for (const Verb& verb : {Verb([](const Communicator&c, const Tensor&x) { return c.all_reduce(x); }), Verb(in_place)})
    for (const auto& r : asked(everybody("AllReduce 24 f32 sum"), {4, 6}, verb)) CHECK(r[23] == sum(23));
  // Maxima of floating numbers are the members' own: of few everybody's, of many in chunks.
  const auto largest = [](const Communicator& c, const Tensor& x) { return c.all_reduce(x, ReduceOp::max); };
  for (const auto& r : asked(everybody("AllGather 24 f32"), {4, 6}, largest))
    CHECK(r[23] == std::max({input_value(0, 23, Dtype::f32), input_value(1, 23, Dtype::f32), input_value(2, 23, Dtype::f32)}));
  ExpectedCalls chunks(3);
  const Numbers parts_of_each{4800, 4800, 4800};
  chunks.group("user", kThree, messages({parts_of_each, parts_of_each, parts_of_each}, "f32"));
  chunks.all("user", kThree, "AllGather 4800 f32");
  asked(chunks, [&](World& world, const Communicator& c) {
    const Tensor x = input(world, {3 * 4800});
    host_waits();
    const Tensor y = largest(c, x);
    y.wait();
    CHECK(host_waits() == 0);
    return y;
  });
  // Rows 3, 3, 2, padded; rows 5, 0, 3 by messages to those who combine.
  const auto padded = [](const Communicator& c, const Tensor& x) { return c.reduce_scatter(x, ReduceOp::sum, 0); };
  CHECK(asked(everybody("ReduceScatter 6 f32 sum"), {8, 2}, padded)[2] == std::vector<double>{sum(12), sum(13), sum(14), sum(15)});
  const auto uneven = [](const Communicator& c, const Tensor& x) { return c.reduce_scatter(x, ReduceOp::sum, 0, {.sizes = {5, 0, 3}}); };
  const auto parts = asked(messages({{10, 0, 6}, {10, 0, 6}, {10, 0, 6}}, "f32"), {8, 2}, uneven);
  CHECK(parts[0][9] == sum(9));
  CHECK(parts[2] == std::vector<double>{sum(10), sum(11), sum(12), sum(13), sum(14), sum(15)});
}

TEST_CASE("parts whose sizes are asked for are one small gather and then as uneven as they are") {
  ExpectedCalls expected(3);
  expected.all("user", kThree, "AllGather 1 i64");
  expected.group("user", kThree, messages({{2, 2, 2}, {8, 8, 8}, {2, 2, 2}}, "f32"));
  expected.all("user", kThree, "AllReduce 1 i32 sum");
  const auto results = asked(expected, [](World& world, const Communicator& c) {
    const Tensor y = c.all_gather(input(world, {world.rank() == 1 ? 4 : 1, 2}), 0, {.exchange_sizes = true});
    c.barrier();
    return y;
  });
  for (const auto& r : results) CHECK(r == joined(joined(elements(0, 0, 2), elements(1, 0, 8)), elements(2, 0, 2)));
}

TEST_CASE("all_to_all of equal pieces is one call, and of others messages of the size of each piece") {
  asked(everybody("AlltoAll 8 f32"), {6, 4}, [](const Communicator& c, const Tensor& x) { return c.all_to_all(x, 0, 1); });
  // Seven rows are 3, 3 and 1.
  const auto chunks = asked(messages({{15, 15, 5}, {15, 15, 5}, {15, 15, 5}}, "f32"), {7, 5},
                            [](const Communicator& c, const Tensor& x) { return c.all_to_all(x, 0, 0); });
  CHECK(chunks[2] == joined(joined(elements(0, 30, 35), elements(1, 30, 35)), elements(2, 30, 35)));
  // Sizes of each member's own: row m is what member m gives.
  const std::vector<Numbers> given{{1, 2, 0}, {0, 3, 1}, {4, 0, 0}};
  ExpectedCalls expected(3);
  expected.group("user", kThree, messages(given, "f32"));
  const auto results = asked(expected, [&](World& world, const Communicator& c) {
    const auto me = static_cast<std::size_t>(world.rank());
    Numbers received;
    for (const Numbers& row : given) received.push_back(row[me]);
    const Tensor x = input(world, {given[me][0] + given[me][1] + given[me][2]});
    host_waits();
    const Tensor y = c.all_to_all(x, 0, 0, {.send_sizes = given[me], .receive_sizes = received});
    y.wait();
    CHECK(host_waits() == 0);
    return y;
  });
  CHECK(results[0] == joined(elements(0, 0, 1), elements(2, 0, 4)));
  CHECK(results[1] == joined(elements(0, 1, 3), elements(1, 0, 3)));
  CHECK(results[2] == elements(1, 3, 4));
}

TEST_CASE("a message is one call of each end, on a communicator of its direction") {
  ExpectedCalls expected(3);
  expected.group("user peers", {0, 2}, {{"Send 24 f32 to 1"}, {"Recv 24 f32 from 0"}});
  expected.group("user peers", {2, 0}, {{"Send 6 i64 to 1"}, {"Recv 6 i64 from 0"}});
  expected.group("user peers", {0, 2}, {{"Send 5 u8 to 1"}, {"Recv 5 u8 from 0"}});
  const auto both_ways = [](World& world, const Communicator& c) {
    const Tensor a = input(world, {4, 6}), b = input(world, {6}, Dtype::i64), e = input(world, {5}, Dtype::boolean);
    host_waits();
    Work work;
    if (world.rank() == 0) work = c.group({send_to(a, 2), recv_from(b, 2), send_to(e, 2)});
    if (world.rank() == 2) work = c.group({recv_from(a, 0), send_to(b, 0), recv_from(e, 0)});
    CHECK(host_waits() == 0);
    work.wait();
    CHECK(host_waits() == 0);
    return world.rank() == 0 ? b : a;
  };
  const auto results = asked(expected, both_ways, "user peers");
  CHECK(results[0][5] == input_value(2, 5, Dtype::i64));
  CHECK(results[2] == elements(0, 0, 24));
}

TEST_CASE("tensors of a list that move alike over the same ranks are one group of calls") {
  ExpectedCalls expected(4);
  const std::vector<int> rows[] = {{0, 1}, {2, 3}};
  for (const auto& members : rows) {
    const std::vector<std::string> calls{"AllGather 12 f32", "AllGather 4 bf16", "AllGather 3 i64"};
    expected.group("default", members, {calls, calls});
  }
  for (const auto& members : rows) {
    const std::vector<std::string> calls{"AllReduce 8 f32 sum", "AllReduce 6 i64 sum"};
    expected.group("default", members, {calls, calls});
  }
  taken_calls();
  CHECK(runs_over_nccl(4, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 2}, {"y", 2}});
    const auto on_y = [&](const Placement& p) { return Placements{Replicate(), p}; };
    const auto tensor = [&](const Shape& shape, Dtype dtype, const Placement& p, const Shape& whole) {
      return from_local(input(world, shape, dtype), mesh, on_y(p), {.shape = whole});
    };
    const std::vector<DTensor> list{tensor({2, 6}, Dtype::f32, Shard(0), {4, 6}), tensor({8}, Dtype::f32, Partial(), {8}),
                                    tensor({4}, Dtype::bf16, Shard(0), {8}), tensor({3}, Dtype::i64, Shard(0), {6}),
                                    tensor({6}, Dtype::i64, Partial(), {6})};
    host_waits();
    const std::vector<DTensor> moved = redistribute_all(list, on_y(Replicate()));
    for (const DTensor& t : moved) t.wait();
    CHECK(host_waits() == 0);
    const int first = world.rank() / 2 * 2;
    const auto values = doubles_of(moved[0].local().to(Device::cpu()));
    CHECK(values == joined(elements(first, 0, 12), elements(first + 1, 0, 12)));
    CHECK(doubles_of(moved[1].local().to(Device::cpu()))[7] == input_value(first, 7, Dtype::f32) + input_value(first + 1, 7, Dtype::f32));
  }));
  expected.compare(taken_calls(), "default");
}

TEST_CASE("a group of one member makes no communicator of NCCL, and of a mesh only the groups that move something") {
  taken_calls();
  CHECK(runs_over_nccl(1, [](World& world) {
    const Communicator c = all(world);
    const Tensor x = input(world, {4, 6});
    for (const Tensor& y : {c.all_reduce(x), c.all_reduce(x, ReduceOp::avg), c.all_gather(x), c.reduce_scatter(x), c.all_to_all(x, 0, 1),
                            c.broadcast(x), c.scatter(x), c.gather(x), c.permute(x, {0})})
      CHECK(doubles_of(y.to(Device::cpu())) == elements(0, 0, 24));
    c.barrier();
    const DTensor sum = from_local(x, world.mesh({{"x", 1}}), {Partial()}, {.shape = {4, 6}});
    CHECK(doubles_of(sum.redistribute({Replicate()}).redistribute({Shard(0)}).redistribute({Shard(1)}).local().to(Device::cpu())) ==
          elements(0, 0, 24));
    CHECK(taken_lives().made == 0);
  }));
  taken_lives();
  const auto errors = errors_over_nccl(4, [](World& world) {
    const DeviceMesh mesh = world.mesh({{"x", 1}, {"y", 4}});
    const DTensor x = from_local(input(world, {2, 6}), mesh, {Shard(1), Shard(0)}, {.shape = {8, 6}});
    const DTensor y = x.redistribute({Replicate(), Shard(0)});
    CHECK(doubles_of(y.local().to(Device::cpu())) == elements(world.rank(), 0, 12));
  });
  CHECK(errors == std::vector<std::string>(4));
  CHECK(taken_lives().made == 0);
  CHECK(taken_calls().empty());
}

TEST_CASE("a window asks of each rank the borders that its part reads, from the ranks that have them") {
  struct Convolution {
    int kernel, length;
  };
  for (const Convolution& conv : {Convolution{3, 12}, Convolution{3, 11}, Convolution{5, 12}, Convolution{9, 12}}) {
    CAPTURE(conv.kernel);
    CAPTURE(conv.length);
    const int half = conv.kernel / 2;
    std::vector<Numbers> counts(3, Numbers(3));
    for (std::size_t from = 0; from < 3; ++from)
      for (std::size_t to = 0; to < 3; ++to) {
        const Interval whole{0, conv.length}, there = part_of(whole, 3, static_cast<std::int64_t>(to));
        counts[from][to] = 2 * common(part_of(whole, 3, static_cast<std::int64_t>(from)), Interval{there.begin - half, there.end + half});
      }
    ExpectedCalls expected(3);
    expected.group("default", kThree, messages(counts, "f32"));
    taken_calls();
    CHECK(runs_over_nccl(3, [&](World& world) {
      const DeviceMesh mesh = world.mesh({{"x", 3}});
      const Interval mine = part_of({0, conv.length}, 3, world.rank());
      std::vector<double> values;  // two channels
      for (int channel = 0; channel < 2; ++channel)
        for (std::int64_t i = mine.begin; i < mine.end; ++i) values.push_back(static_cast<double>(100 * channel + i));
      const Tensor local = from_doubles(values, {1, 2, mine.length()}, Dtype::f32).to(world.device());
      const DTensor x = from_local(local, mesh, {Shard(2)}, {.shape = {1, 2, conv.length}});
      const Tensor ones = Tensor::zeros({1, 2, conv.kernel}, Dtype::f32, world.device());
      ones.fill_(1);
      const DTensor weight = from_local(ones, mesh, {Replicate()}, {.shape = ones.shape()});
      host_waits();
      const DTensor y = conv1d(x, weight, {}, {.padding = half});
      y.wait();
      CHECK(host_waits() == 0);
      CHECK(contains(to_string(y), "x: S(2)"));
      const std::vector<double> sums = doubles_of(y.local().to(Device::cpu()));
      REQUIRE(static_cast<std::int64_t>(sums.size()) == mine.length());
      for (std::int64_t i = mine.begin; i < mine.end; ++i) {
        double sum = 0;
        for (std::int64_t j = std::max<std::int64_t>(0, i - half); j <= std::min<std::int64_t>(conv.length - 1, i + half); ++j)
          sum += static_cast<double>(100 + 2 * j);
        CHECK(sums[static_cast<std::size_t>(i - mine.begin)] == sum);
      }
    }));
    expected.compare(taken_calls(), "default");
  }
}
