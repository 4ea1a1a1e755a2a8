// SPDX-License-Identifier: Apache-2.0
// Every verb over NCCL against ranks that are threads, and what each asks of NCCL.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::taken_calls;
using Results = std::vector<Tensor>;
using Scenario = std::function<Results(World&, Device)>;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.numel() == 0 || std::memcmp(a.read(), b.read(), static_cast<std::size_t>(a.bytes())) == 0);
}

Results on_host(const Results& results) {
  Results host;
  for (const Tensor& t : results) host.push_back(t.to(Device::cpu()).contiguous());
  return host;
}

// The same bits on every rank as with threads and CPU tensors.
void check(int ranks, const Scenario& scenario, const NcclOptions& options = {}) {
  const std::vector<Results> expected = collect({.ranks = ranks}, [&](World& world) { return on_host(scenario(world, Device::cpu())); });
  CHECK(runs_over_nccl(
      ranks,
      [&](World& world) {
        const auto at = static_cast<std::size_t>(world.rank());
        const Results results = scenario(world, world.device());
        const Results here = on_host(results);
        REQUIRE(here.size() == expected[at].size());
        for (std::size_t i = 0; i < here.size(); ++i) {
          CAPTURE(i);
          CHECK(results[i].device() == world.device());
          CHECK(same_bits(here[i], expected[at][i]));
        }
      },
      options));
}

std::vector<std::vector<std::string>> asked(int ranks, const std::function<void(World&)>& body, const NcclOptions& options = {}) {
  taken_calls();
  CHECK(runs_over_nccl(ranks, body, options));
  return texts_by_member(taken_calls(), ranks);
}

}  // namespace

TEST_CASE("every reduction of every dtype over NCCL has the bits of ranks that are threads") {
  for (int ranks : {1, 3, 8})
    for (bool in_rank_order : {false, true})
      check(ranks,
            [&](World& world, Device device) {
              Results results;
              for (Dtype dtype : kDtypes)
                for (ReduceOp op : kReduceOps)
                  for (const Shape& shape : {Shape{}, Shape{0}, Shape{8, 9}, Shape{3, 5000}}) {
                    if (!Communicator::is_reducible(op, dtype) || (in_rank_order && !info(dtype).floating)) continue;
                    if ((shape.numel() > 1000 || ranks != 3) && dtype != Dtype::f32 && dtype != Dtype::boolean) continue;
                    const Tensor in = input_of(world.rank(), shape, dtype).to(device);
                    results.push_back(all(world).all_reduce(in, op));
                    if (shape.ndim() > 0) results.push_back(all(world).reduce_scatter(in, op, -1));
                    all(world).all_reduce_(in, op).wait();
                    results.push_back(in);
                  }
              return results;
            },
            {.in_rank_order = in_rank_order});
}

TEST_CASE("verbs that copy bring every element over NCCL, uneven and strided ones too") {
  for (int ranks : {1, 3, 4})
    for (bool newest : {true, false})
      check(ranks,
            [](World& world, Device device) {
              Results results;
              const Communicator c = all(world);
              for (Dtype dtype : {Dtype::bf16, Dtype::i64})
                for (const Shape& shape : {Shape{1}, Shape{24, 3, 8}})
                  for (int dim = 0; dim < shape.ndim(); ++dim) {
                    Shape own = shape;
                    own[dim] += world.rank() % 3;
                    const Tensor even = input_of(world.rank(), shape, dtype).to(device), uneven = input_of(world.rank(), own, dtype).to(device);
                    results.push_back(c.all_gather(even, dim));
                    results.push_back(c.all_gather(uneven, dim, {.exchange_sizes = true}));
                    results.push_back(c.broadcast(even, world.size() - 1));
                    c.broadcast_(uneven.narrow(dim, 0, 1).clone(), 0).wait();
                    results.push_back(c.scatter(even, 0, dim));
                    results.push_back(c.all_to_all(even, dim, 0));
                    results.push_back(c.all_to_all(even, 0, dim));
                    std::vector<int> next(static_cast<std::size_t>(world.size()));
                    for (int i = 0; i < world.size(); ++i) next[static_cast<std::size_t>(i)] = (i + 1) % world.size();
                    results.push_back(c.permute(even, next));
                    const Tensor root = c.gather(even, 0, dim);
                    if (world.rank() == 0) results.push_back(root);
                  }
              return results;
            },
            {.all_to_all = newest});
}

TEST_CASE("the means of a floating dtype divide inside NCCL where that loses nothing") {
  const auto mean = [](int ranks, Dtype dtype) {
    return asked(ranks,
                 [dtype](World& world) { all(world).all_reduce(input_of(world.rank(), {6}, dtype).to(world.device()), ReduceOp::avg).wait(); });
  };
  CHECK(mean(2, Dtype::f32)[1] == std::vector<std::string>{"AllReduce 6 f32 avg"});
  CHECK(mean(3, Dtype::f32)[1] == std::vector<std::string>{"AllReduce 6 f32 avg"});
  CHECK(mean(4, Dtype::bf16)[1] == std::vector<std::string>{"AllReduce 6 bf16 avg"});
  CHECK(mean(3, Dtype::bf16)[1] == std::vector<std::string>{"AllReduce 6 bf16 sum"});
}

TEST_CASE("a maximum of floating numbers keeps a NaN, which NCCL's would drop") {
  CHECK(runs_over_nccl(3, [](World& world) {
    for (const std::int64_t n : {4, 20'000}) {
      const Tensor x = Tensor::zeros({n}, Dtype::f32);
      if (world.rank() == 1) x.values<float>()[3] = std::numeric_limits<float>::quiet_NaN();
      const Tensor y = all(world).all_reduce(x.to(world.device()), ReduceOp::max).to(Device::cpu());
      CHECK(std::isnan(y.values<const float>()[3]));
      CHECK(y.values<const float>()[2] == 0);
    }
  }));
}

TEST_CASE("verbs ask NCCL for what the table of docs/nccl.md says") {
  using Texts = std::vector<std::string>;
  const auto verb = [](int ranks, const std::function<void(const Communicator&, const Tensor&)>& f, Dtype dtype = Dtype::f32,
                       const Shape& shape = {4, 6}, const NcclOptions& options = {}) {
    return asked(
        ranks, [&](World& world) { f(all(world), input_of(world.rank(), shape, dtype).to(world.device())); }, options);
  };
  const auto all_gather = [](const Communicator& c, const Tensor& x) { c.all_gather(x, 0).wait(); };
  CHECK(verb(2, all_gather) == std::vector<Texts>(2, {"AllGather 24 f32"}));
  CHECK(verb(2, all_gather, Dtype::boolean) == std::vector<Texts>(2, {"AllGather 24 u8"}));
  const auto scattered = [](const Communicator& c, const Tensor& x) { c.reduce_scatter(x, ReduceOp::sum, 0).wait(); };
  CHECK(verb(2, scattered) == std::vector<Texts>(2, {"ReduceScatter 12 f32 sum"}));
  CHECK(verb(3, scattered, Dtype::f32, {8, 2})[0] == Texts{"ReduceScatter 6 f32 sum"});  // 3 3 2 rows, padded
  CHECK(verb(2, scattered, Dtype::f32, {3, 1})[1] == Texts{"Send 2 f32 to 0", "Recv 1 f32 from 0"});
  CHECK(verb(2, scattered, Dtype::f32, {4, 6}, {.in_rank_order = true})[1] == Texts{"Send 12 f32 to 0", "Recv 12 f32 from 0"});
  const auto across = [](const Communicator& c, const Tensor& x) { c.all_to_all(x, 1, 0).wait(); };
  CHECK(verb(2, across) == std::vector<Texts>(2, {"AlltoAll 12 f32"}));
  CHECK(verb(2, across, Dtype::f32, {4, 6}, {.all_to_all = false})[1] == Texts{"Send 12 f32 to 0", "Recv 12 f32 from 0"});
  CHECK(verb(2, across, Dtype::f32, {4, 3})[0] == Texts{"Send 4 f32 to 1", "Recv 8 f32 from 1"});
  CHECK(verb(3, [](const Communicator& c, const Tensor& x) { c.broadcast(x, 2).wait(); }) == std::vector<Texts>(3, {"Broadcast 24 f32 from 2"}));
  const auto reduced = [](ReduceOp op) { return [op](const Communicator& c, const Tensor& x) { c.all_reduce(x, op).wait(); }; };
  CHECK(verb(2, reduced(ReduceOp::product), Dtype::i32) == std::vector<Texts>(2, {"AllReduce 24 i32 product"}));
  CHECK(verb(2, reduced(ReduceOp::band), Dtype::boolean) == std::vector<Texts>(2, {"AllReduce 24 u8 min"}));
  CHECK(verb(2, reduced(ReduceOp::bor), Dtype::boolean) == std::vector<Texts>(2, {"AllReduce 24 u8 max"}));
  CHECK(verb(2, reduced(ReduceOp::bxor), Dtype::i64) == std::vector<Texts>(2, {"AllGather 24 i64"}));
  CHECK(verb(2, reduced(ReduceOp::max), Dtype::f32, {64, 256})[0] == Texts{"Send 8192 f32 to 1", "Recv 8192 f32 from 1", "AllGather 8192 f32"});
  CHECK(verb(2, reduced(ReduceOp::max), Dtype::f32, {1, 16'001})[1] ==
        Texts{"Send 8016 f32 to 0", "Recv 7985 f32 from 0", "Send 7985 f32 to 0", "Recv 8016 f32 from 0"});
}
