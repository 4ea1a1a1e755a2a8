// SPDX-License-Identifier: Apache-2.0
// Collectives of little data go through memory that is registered on all members alike, and nothing else changes.
#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
namespace recorded = comm::nccl::recorded;

namespace {

constexpr std::int64_t kBytes = 8 << 20;

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }
Tensor input(World& world, const Shape& shape, Dtype dtype = Dtype::f32) { return input_of(world.rank(), shape, dtype).to(world.device()); }

// What every member of a group asked alike, without barriers, with a star where both operands lie in windows.
std::vector<std::string> starred() {
  std::map<int, std::vector<std::string>> texts;
  for (const recorded::Call& c : recorded::taken_calls())
    if (c.text() != "AllReduce 1 i32 sum") texts[c.member].push_back(c.text() + (c.in_windows ? " *" : ""));
  for (const auto& [member, list] : texts) CHECK(list == texts[0]);
  return texts[0];
}

// Bytes of results, of all calls that might go through a window.
std::vector<std::byte> results(World& world) {
  const Communicator c = all(world);
  std::vector<Tensor> all_results;
  for (const std::int64_t n : {1, 5, 1000, 20'000}) {
    all_results.push_back(c.all_reduce(input(world, {n})));
    all_results.push_back(c.all_reduce(input(world, {n}, Dtype::bf16)));
    all_results.push_back(c.all_reduce(input(world, {n}), ReduceOp::max));
    all_results.push_back(c.all_gather(input(world, {n})));
    all_results.push_back(c.all_gather(input(world, {3, n}, Dtype::i32), 1));
    all_results.push_back(c.reduce_scatter(input(world, {6, n}), ReduceOp::sum, 0));
    all_results.push_back(c.reduce_scatter(input(world, {n, 6}), ReduceOp::sum, 1));
    all_results.push_back(c.all_to_all(input(world, {6, n}), 0, 0));
    const Tensor in_place = input(world, {n});
    c.all_reduce_(in_place).wait();
    all_results.push_back(in_place);
  }
  all_results.push_back(c.all_reduce(input(world, {200'000})));
  std::vector<std::byte> bytes;
  for (const Tensor& t : all_results) {
    const Tensor here = t.to(Device::cpu()).contiguous();
    const auto* at = static_cast<const std::byte*>(here.read());
    bytes.insert(bytes.end(), at, at + here.bytes());
  }
  return bytes;
}

}  // namespace

TEST_CASE("what is small and of a kind that symmetric kernels carry goes through the window, at equal places on all members") {
  CHECK(runs_over_nccl(3,
                       [](World& world) {
                         const Communicator c = all(world);
                         c.all_reduce(input(world, {4})).wait();
                         world.barrier();
                         if (world.rank() == 0) recorded::taken_calls();
                         world.barrier();
                         c.all_reduce(input(world, {4}));
                         c.all_reduce(input(world, {4}, Dtype::bf16));
                         c.all_reduce(input(world, {4}, Dtype::f64));
                         c.all_reduce(input(world, {4}, Dtype::i64));
                         c.all_reduce(input(world, {4}), ReduceOp::avg);
                         c.all_reduce(input(world, {4}), ReduceOp::product);
                         c.all_reduce(input(world, {131'072}));
                         c.all_reduce(input(world, {131'073}));
                         c.all_gather(input(world, {5}, Dtype::i64));
                         c.reduce_scatter(input(world, {6}), ReduceOp::sum);
                         c.all_to_all(input(world, {6}), 0, 0);
                         c.broadcast(input(world, {6}), 0).wait();
                         world.barrier();
                       },
                       {.window_bytes = kBytes}));
  CHECK(starred() == std::vector<std::string>{"AllReduce 4 f32 sum *", "AllReduce 4 bf16 sum *", "AllReduce 4 f64 sum", "AllReduce 4 i64 sum",
                                              "AllReduce 4 f32 avg", "AllReduce 4 f32 product", "AllReduce 131072 f32 sum *",
                                              "AllReduce 131073 f32 sum", "AllGather 5 i64 *", "ReduceScatter 2 f32 sum *", "AlltoAll 2 f32",
                                              "Broadcast 6 f32 from 0"});
}

TEST_CASE("results are those without a window, bit for bit") {
  for (int ranks : {2, 3}) {
    std::vector<std::vector<std::byte>> with(static_cast<std::size_t>(ranks)), without = with;
    // A window that holds one of the larger ones at a time, too.
    for (const std::int64_t bytes : {kBytes, std::int64_t{1} << 19}) {
      CHECK(runs_over_nccl(ranks, [&](World& world) { without[static_cast<std::size_t>(world.rank())] = results(world); }));
      CHECK(runs_over_nccl(ranks, [&](World& world) { with[static_cast<std::size_t>(world.rank())] = results(world); }, {.window_bytes = bytes}));
      CHECK(with == without);
    }
  }
}

TEST_CASE("the operations of a launch have places of their own, and those that find none lie where they lie") {
  for (const std::int64_t bytes : {kBytes, std::int64_t{4096}}) {
    recorded::taken_calls();
    CHECK(runs_over_nccl(2,
                         [](World& world) {
                           const std::vector<int> ranks{0, 1};
                           std::vector<Tensor> in, out;
                           for (int i = 0; i < 10; ++i) {
                             in.push_back(input(world, {100 + i}));
                             out.push_back(Tensor::zeros({100 + i}, Dtype::f32, world.device()));
                           }
                           std::vector<comm::Operation> operations;
                           for (std::size_t i = 0; i < in.size(); ++i)
                             operations.push_back({.form = comm::Form::all_reduce, .in = &in[i], .out = &out[i], .reduction = {ReduceOp::sum, 1}});
                           comm::group(ranks).launch("together", operations);
                           for (const Tensor& t : out)
                             CHECK(doubles_of(t.to(Device::cpu()))[99] == input_value(0, 99, Dtype::f32) + input_value(1, 99, Dtype::f32));
                         },
                         {.window_bytes = bytes}));
    int through = 0;
    for (const recorded::Call& c : recorded::taken_calls()) through += c.in_windows && c.member == 0 ? 1 : 0;
    CHECK(through == (bytes == kBytes ? 10 : 4));  // 2 * 512 bytes each
  }
}

TEST_CASE("what is packed anyway is packed into the window, without a copy more") {
  CHECK(runs_over_nccl(2,
                       [](World& world) {
                         const Communicator c = all(world);
                         const Tensor x = input(world, {6, 4});
                         const auto launches = [&](const auto& f) {
                           f();
                           world.barrier();
                           local::cuda::emulated::taken_entries();
                           f();
                           int count = 0;
                           for (const auto& e : local::cuda::emulated::taken_entries()) count += e.what.starts_with("launch") ? 1 : 0;
                           world.barrier();
                           return count;
                         };
                         CHECK(launches([&] { c.reduce_scatter(x, ReduceOp::sum, 1).wait(); }) == 2);  // packed; out of the window
                         CHECK(launches([&] { c.all_gather(x, 1).wait(); }) == 2);                     // into it; unpacked
                         CHECK(launches([&] { c.all_reduce(x).wait(); }) == 2);
                       },
                       {.window_bytes = kBytes}));
}

TEST_CASE("a window is opened by the first that needs it, and closed and freed before the end") {
  const std::int64_t before = local::cuda::emulated::bytes_in_use(0);
  const auto run = [](bool small) {
    recorded::taken_lives();
    const auto errors = errors_over_nccl(3,
                                         [&](World& world) {
                                           all(world).all_reduce(input(world, {small ? 4 : 1'000'000})).wait();
                                           world.barrier();
                                         },
                                         {.window_bytes = kBytes});
    CHECK(errors == std::vector<std::string>(3));
    CHECK(recorded::taken_mismatches().empty());
    return recorded::taken_lives();
  };
  const recorded::Lives none = run(false), some = run(true);
  CHECK(none.opened == 0);
  CHECK(some.opened == 3);
  CHECK(some.closed == 3);
  CHECK(local::cuda::emulated::bytes_in_use(0) == before);
}

TEST_CASE("where one member cannot, where NCCL cannot and where NCCL will not, nothing goes through a window") {
  int opened = 0;
  const auto through = [&](const NcclOptions& options) {
    recorded::taken_calls();
    recorded::taken_lives();
    const auto errors = errors_over_nccl(
        3,
        [](World& world) {
          for (int i = 0; i < 3; ++i) all(world).all_reduce(input(world, {4})).wait();
          world.barrier();
        },
        options);
    CHECK(errors == std::vector<std::string>(3));
    CHECK(recorded::taken_mismatches().empty());
    opened = recorded::taken_lives().opened;
    int count = 0;
    for (const recorded::Call& c : recorded::taken_calls()) count += c.in_windows ? 1 : 0;
    return count;
  };
  CHECK(through({.window_bytes = kBytes}) == 9);
  CHECK(through({.window_bytes = kBytes, .without_window = 1}) == 0);
  CHECK(opened == 0);
  CHECK(through({.window_bytes = 0}) == 0);
  recorded::set({.windows = false});
  CHECK(through({.window_bytes = kBytes}) == 0);
  recorded::set({.version = 22602});
  CHECK(through({.window_bytes = kBytes}) == 0);
  CHECK(opened == 0);
  recorded::set({.takes_windows = false});
  CHECK(through({.window_bytes = kBytes}) == 0);
  CHECK(opened == 3);  // once; NCCL has said that it has no use for it
  std::int64_t held = 0;
  CHECK(runs_over_nccl(2,
                       [&](World& world) {
                         const std::int64_t before = local::cuda::emulated::bytes_in_use(0);
                         all(world).all_reduce(input(world, {4})).wait();
                         world.barrier();
                         if (world.rank() == 0) held = local::cuda::emulated::bytes_in_use(0) - before;
                         world.barrier();
                       },
                       {.window_bytes = kBytes}));
  CHECK(held < kBytes);
  recorded::set({});
}

TEST_CASE("an error aborts communicators that have windows, and their memory is freed after that") {
  recorded::taken_mismatches();
  recorded::taken_lives();
  const std::int64_t before = local::cuda::emulated::bytes_in_use(0);
  const auto errors = errors_over_nccl(2,
                                       [](World& world) {
                                         all(world).all_reduce(input(world, {4})).to(Device::cpu());
                                         if (world.rank() == 1) throw std::runtime_error("no bread");
                                         for (;;) all(world).all_reduce(input(world, {4})).to(Device::cpu());
                                       },
                                       {.window_bytes = kBytes});
  CHECK(contains(errors[0], "rank 1 ended with an error (no bread); the world is over"));
  const recorded::Lives lives = recorded::taken_lives();
  CHECK(lives.opened == 2);
  CHECK(lives.closed == 0);
  CHECK(lives.aborted == 2);
  CHECK(recorded::taken_mismatches().empty());
  CHECK(local::cuda::emulated::bytes_in_use(0) == before);
}

TEST_CASE("without memory for a window the error says how to do without") {
  const auto errors =
      errors_over_nccl(2, [](World& world) { all(world).all_reduce(input(world, {4})).to(Device::cpu()); }, {.window_bytes = std::int64_t{2} << 30});
  for (const std::string& e : errors) CHECK(contains(e, "ncclCommWindowRegister: unhandled cuda error (rank "));
  for (const std::string& e : errors) CHECK(contains(e, "2147483648 bytes); do without it by DTENSOR_NCCL_WINDOW=0"));
}

TEST_CASE("under the policy that takes no multiprocessors equal messages go through the window too") {
  recorded::taken_calls();
  CHECK(runs_over_nccl(3,
                       [](World& world) {
                         const Tensor x = input(world, {6});
                         CHECK(doubles_of(all(world).all_to_all(x, 0, 0).to(Device::cpu()))[5] == input_value(2, 2 * world.rank() + 1, Dtype::f32));
                       },
                       {.window_bytes = kBytes, .cta_policy = comm::CtaPolicy::zero}));
  CHECK(starred() == std::vector<std::string>{"AlltoAll 2 f32 *"});
  CHECK(recorded::policy_of("group/user/0.1.2") != comm::CtaPolicy::efficiency);
}
