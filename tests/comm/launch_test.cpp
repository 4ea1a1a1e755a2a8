// SPDX-License-Identifier: Apache-2.0
// Several operations in one launch, against the same operations one by one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "comm/communicator.h"
#include "comm/expected.h"
#include "dtensor/error.h"
#include "dtensor/world.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::Form;
using comm::Operation;
using redistribute::Transfer;
using redistribute::TransferRef;

namespace {

std::vector<int> ranks_of(const World& world) {
  std::vector<int> ranks;
  for (int r = 0; r < world.size(); ++r) ranks.push_back(r);
  return ranks;
}

// What one operation needs, with memory of its own.
struct Case {
  Form form;
  Tensor in, out;
  TransferRef transfer;
  comm::Reduction reduction = {};
  std::uint64_t fingerprint = 0;
  Operation operation() const { return {form, &in, &out, &transfer, reduction, fingerprint, "case"}; }
};

// Rank r gives r + extra elements to everybody; of one rank 0 there may be none.
Case gather(int rank, int ranks, Dtype dtype, std::int64_t extra, std::int64_t times) {
  const auto size = [&](int r) { return (r + extra) * times; };
  Transfer t;
  std::int64_t total = 0;
  for (int r = 0; r < ranks; ++r) {
    t.sends.push_back({.peer = r, .offset = 0, .sizes = {size(rank)}, .strides = {1}});
    t.receives.push_back({.peer = r, .offset = total, .sizes = {size(r)}, .strides = {1}});
    total += size(r);
  }
  return {Form::exchange, input_of(rank, {size(rank)}, dtype), Tensor::zeros({total}, dtype), std::make_shared<const Transfer>(std::move(t)), {}, 1};
}

// Everybody gives r + extra elements to rank r, which combines them.
Case reduce(int rank, int ranks, Dtype dtype, ReduceOp op, std::int64_t extra) {
  Transfer t;
  std::int64_t total = 0;
  for (int r = 0; r < ranks; ++r) {
    t.sends.push_back({.peer = r, .offset = total, .sizes = {r + extra}, .strides = {1}});
    t.receives.push_back({.peer = r, .offset = 0, .sizes = {rank + extra}, .strides = {1}});
    total += r + extra;
  }
  return {
      Form::reduce, input_of(rank, {total}, dtype), Tensor::zeros({rank + extra}, dtype), std::make_shared<const Transfer>(std::move(t)), {op, 1}, 2};
}

Case all_reduce(int rank, Dtype dtype, ReduceOp op, std::int64_t n) {
  return {Form::all_reduce, input_of(rank, {n}, dtype), Tensor::zeros({n}, dtype), nullptr, {op, 1}, 3};
}

// Starts both and compares bit for bit; outputs are waited for in the order `back`.
void check_together(std::span<const int> ranks, const std::vector<Case>& together, const std::vector<Case>& alone, bool back) {
  comm::Communicator& group = comm::group(ranks);
  std::vector<Operation> operations;
  for (const Case& c : together) operations.push_back(c.operation());
  group.launch("together", operations);
  for (const Case& c : alone) {
    const Operation one = c.operation();
    group.launch("alone", {&one, 1});
  }
  for (std::size_t k = 0; k < together.size(); ++k) {
    const std::size_t i = back ? together.size() - 1 - k : k;
    const Tensor &a = together[i].out, &b = alone[i].out;
    a.wait();
    b.wait();
    CHECK((a.numel() == 0 || std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.bytes())) == 0));
  }
}

std::string disagreement(const std::function<std::vector<Case>(int)>& cases) {
  return error_of([&] {
    run_ranks({.ranks = 2}, [&](World& world) {
      const auto mine = cases(world.rank());
      std::vector<Operation> operations;
      for (const Case& c : mine) operations.push_back(c.operation());
      comm::group(ranks_of(world)).launch("together", operations);
      for (const Case& c : mine) c.out.wait();
    });
  });
}

}  // namespace

TEST_CASE("a launch of operations of one form or of all, of mixed dtypes, uneven and empty, gives the bits of the same one by one") {
  for (int ranks : kWorldSizes)
    for (const std::int64_t extra : {0, 5, 3000})
      for (int forms = 1; forms < 8; ++forms)
        run_ranks({.ranks = ranks}, [&](World& world) {
          const int r = world.rank();
          const auto cases = [&] {
            std::vector<Case> list;
            for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64, Dtype::u8}) {
              if ((forms & 1) != 0) list.push_back(gather(r, ranks, dtype, extra, 1));
              if ((forms & 2) != 0) list.push_back(reduce(r, ranks, dtype, ReduceOp::max, extra));
              if ((forms & 4) != 0) list.push_back(all_reduce(r, dtype, ReduceOp::sum, 3 * extra));
            }
            return list;
          };
          check_together(ranks_of(world), cases(), cases(), extra == 5);
        });
}

TEST_CASE("a launch gives every output what its own operation says") {
  run_ranks({.ranks = 3}, [](World& world) {
    const int r = world.rank();
    const std::vector<Case> cases{gather(r, 3, Dtype::i64, 0, 1), all_reduce(r, Dtype::f64, ReduceOp::sum, 4),
                                  reduce(r, 3, Dtype::f32, ReduceOp::min, 2)};
    std::vector<Operation> operations;
    for (const Case& c : cases) operations.push_back(c.operation());
    comm::group(ranks_of(world)).launch("together", operations);
    CHECK(doubles_of(cases[0].out) ==
          std::vector<double>{input_value(1, 0, Dtype::i64), input_value(2, 0, Dtype::i64), input_value(2, 1, Dtype::i64)});
    for (std::int64_t i = 0; i < 4; ++i) {
      double sum = 0;
      for (int k = 0; k < 3; ++k) sum += input_value(k, i, Dtype::f64);
      CHECK(doubles_of(cases[1].out)[static_cast<std::size_t>(i)] == sum);
    }
    const std::int64_t begin = r == 0 ? 0 : r == 1 ? 2 : 5;
    for (std::int64_t i = 0; i < r + 2; ++i)
      CHECK(doubles_of(cases[2].out)[static_cast<std::size_t>(i)] ==
            std::min({input_value(0, begin + i, Dtype::f32), input_value(1, begin + i, Dtype::f32), input_value(2, begin + i, Dtype::f32)}));
  });
}

TEST_CASE("a large launch, done in many parts by whoever waits, equals the operations one by one") {
  run_ranks({.ranks = 3}, [](World& world) {
    const int r = world.rank();
    const auto cases = [&] {
      return std::vector<Case>{gather(r, 3, Dtype::f32, 1, 100'000), all_reduce(r, Dtype::f64, ReduceOp::sum, 1'000'003),
                               all_reduce(r, Dtype::u8, ReduceOp::max, 77), reduce(r, 3, Dtype::f32, ReduceOp::sum, 200'001)};
    };
    check_together(ranks_of(world), cases(), cases(), true);
  });
}

TEST_CASE("a launch is one number in the group's sequence, and one of many operations leaves nothing behind for the next") {
  const std::string text = error_of([] {
    run_ranks({.ranks = 2}, [](World& world) {
      const int r = world.rank();
      comm::Communicator& group = comm::group(ranks_of(world));
      for (int repeat = 0; repeat < 100; ++repeat) {
        std::vector<Case> cases;
        for (int k = 0; k <= repeat % 7; ++k) cases.push_back(gather(r, 2, Dtype::i64, k, 1));
        std::vector<Operation> operations;
        for (const Case& c : cases) operations.push_back(c.operation());
        group.launch("together", operations);
        for (int k = 0; k <= repeat % 7; ++k) {
          const auto out = doubles_of(cases[static_cast<std::size_t>(k)].out);
          for (std::int64_t i = 0; i <= k; ++i) CHECK(out[static_cast<std::size_t>(k + i)] == input_value(1, i, Dtype::i64));
        }
      }
      group.barrier({r == 0 ? "barrier" : "another"});
    });
  });
  CHECK(contains(text, "ranks disagree (rank 0: barrier, rank 1: another; collective 100 of group {0, 1})"));
}

TEST_CASE("the inputs of a launch may be written and its outputs read as soon as each is free") {
  run_ranks({.ranks = 4}, [](World& world) {
    const int r = world.rank();
    comm::Communicator& group = comm::group(ranks_of(world));
    std::vector<Case> cases;
    for (int k = 0; k < 5; ++k) cases.push_back(gather(r, 4, Dtype::f64, k, 700));
    std::vector<Operation> operations;
    for (const Case& c : cases) operations.push_back(c.operation());
    group.launch("together", operations);
    for (const Case& c : cases) c.in.fill_(-1);
    for (int k = 0; k < 5; ++k) {
      const auto out = doubles_of(cases[static_cast<std::size_t>(k)].out);
      CHECK(std::find(out.begin(), out.end(), -1.0) == out.end());
      CHECK(out.back() == input_value(3, (3 + k) * 700 - 1, Dtype::f64));
    }
  });
}

TEST_CASE("ranks that give different lists to a launch are named, with the first operation that differs") {
  const std::string end = "; collective 0 of group {0, 1}); every rank must make the same calls in the same order";
  CHECK(disagreement([](int r) {
          std::vector<Case> list{all_reduce(r, Dtype::f32, ReduceOp::sum, 3)};
          if (r == 1) list.push_back(list[0]);
          return list;
        }) == "together: ranks disagree (rank 0: together of 1 tensor, rank 1: together of 2 tensors" + end);
  const auto second = [](int r, const Case& zero, const Case& one) {
    return std::vector<Case>{all_reduce(r, Dtype::f32, ReduceOp::sum, 3), r == 0 ? zero : one, all_reduce(r, Dtype::i64, ReduceOp::sum, 2)};
  };
  CHECK(contains(
      disagreement([&](int r) { return second(r, all_reduce(r, Dtype::f32, ReduceOp::sum, 5), all_reduce(r, Dtype::f32, ReduceOp::sum, 6)); }),
      "together: ranks disagree (rank 0: together case, number 2 of 3, f32 of 5 to 5 elements on cpu, sum / 1, fingerprint 0000000000000003, rank 1: "
      "together case, number 2 of 3, f32 of 6 to 6 elements on cpu, sum / 1, fingerprint"));
  CHECK(contains(
      disagreement([&](int r) { return second(r, all_reduce(r, Dtype::f32, ReduceOp::sum, 5), reduce(r, 2, Dtype::f32, ReduceOp::sum, 5)); }),
      "number 2 of 3"));
  CHECK(contains(disagreement([&](int r) {
                   Case c = gather(r, 2, Dtype::f32, 1, 1);
                   c.fingerprint += static_cast<std::uint64_t>(r);
                   return second(r, c, c);
                 }),
                 "fingerprint 0000000000000002"));
}

TEST_CASE("on a fake world a launch is its operations in turn") {
  World world = World::fake(0, 3);
  const std::vector<Case> cases{gather(0, 3, Dtype::f32, 2, 1), all_reduce(0, Dtype::i64, ReduceOp::sum, 3)};
  const Operation operations[] = {cases[0].operation(), cases[1].operation()};
  comm::group(ranks_of(world)).launch("together", operations);
  const auto gathered = doubles_of(cases[0].out);
  REQUIRE(gathered.size() == 9);
  CHECK(gathered[1] == input_value(0, 1, Dtype::f32));
  CHECK(doubles_of(cases[1].out) == doubles_of(input_of(0, {3}, Dtype::i64)));
}
