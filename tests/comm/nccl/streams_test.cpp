// SPDX-License-Identifier: Apache-2.0
// Order of streams and events, memory, and what does not block.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "comm/communicator.h"
#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
using comm::nccl::recorded::taken_calls;
using local::cuda::emulated::taken_entries;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

}  // namespace

TEST_CASE("a collective is queued between two events and no host waits, before its result is asked for or after") {
  CHECK(runs_over_nccl(2, [](World& world) {
    const Communicator c = all(world);
    const Tensor x = input_of(world.rank(), {12}, Dtype::f32).to(world.device());
    c.all_gather(x).wait();
    world.barrier();
    taken_entries();
    const Tensor y = c.all_gather(x);
    std::vector<local::cuda::emulated::Entry> entries = taken_entries();
    std::vector<std::string> texts;
    for (const auto& e : entries) texts.push_back(e.what.substr(0, e.what.find_last_of(' ')));
    REQUIRE(texts == std::vector<std::string>{"record", "order after", "record", "record"});
    // The rank's stream; then the group's: inputs are ready, started, finished.
    CHECK(entries[0].stream != entries[1].stream);
    CHECK(entries[1].what == "order after " + entries[0].what.substr(7));
    CHECK(entries[2].stream == entries[1].stream);
    CHECK(entries[3].stream == entries[1].stream);
    y.wait();
    const auto after = taken_entries();
    REQUIRE(after.size() == 1);
    CHECK(after[0].what == "order after " + entries[3].what.substr(7));
    CHECK(after[0].stream == entries[0].stream);
  }));
}

TEST_CASE("what is queued before a collective comes before it, and what is queued after its wait comes after") {
  CHECK(runs_over_nccl(3, [](World& world) {
    const Communicator c = all(world);
    const Tensor x = Tensor::zeros({1000}, Dtype::i64, world.device());
    for (int step = 1; step < 30; ++step) {
      x.fill_(step * (world.rank() + 1));
      const Tensor y = c.all_reduce(x);
      x.fill_(-1);  // waits, on the stream, until nobody reads it
      y.copy_(c.all_gather(y).narrow(0, 1000, 1000));
      CHECK(y.to(Device::cpu()).values<const std::int64_t>()[999] == step * 6);
    }
  }));
}

TEST_CASE("memory of a collective in flight is not given to others") {
  CHECK(runs_over_nccl(2, [](World& world) {
    const Communicator c = all(world);
    Tensor kept;
    for (int step = 0; step < 50; ++step) {
      const Tensor x = Tensor::zeros({5000}, Dtype::i32, world.device());
      x.fill_(step);
      kept = c.all_gather(x);
      Tensor::zeros({5000}, Dtype::i32, world.device()).fill_(-7);
      Tensor::zeros({10'000}, Dtype::i32, world.device()).fill_(-7);
    }
    const Tensor y = kept.to(Device::cpu());
    CHECK(std::all_of(y.values<const std::int32_t>().begin(), y.values<const std::int32_t>().end(), [](int v) { return v == 49; }));
  }));
}

TEST_CASE("the operations of a launch make one group, with a second one where a combination stands between") {
  taken_calls();
  CHECK(runs_over_nccl(2, [](World& world) {
    const std::vector<int> ranks{0, 1};
    std::vector<Tensor> in, out;
    for (Dtype dtype : {Dtype::f32, Dtype::i64, Dtype::boolean}) {
      in.push_back(input_of(world.rank(), {20'000}, dtype).to(world.device()));
      out.push_back(Tensor::zeros({20'000}, dtype, world.device()));
    }
    std::vector<comm::Operation> operations;
    for (std::size_t i = 0; i < in.size(); ++i)
      operations.push_back({.form = comm::Form::all_reduce, .in = &in[i], .out = &out[i], .reduction = {ReduceOp::max, 1}});
    comm::group(ranks).launch("together", operations);
    for (std::size_t i = 0; i < in.size(); ++i)
      CHECK(doubles_of(out[i].to(Device::cpu()))[17] == std::max(input_value(0, 17, in[i].dtype()), input_value(1, 17, in[i].dtype())));
  }));
  std::vector<int> groups;
  for (const auto& c : taken_calls())
    if (c.member == 0) groups.push_back(c.group);
  CHECK(groups == std::vector<int>{0, 0, 0, 0, 1});  // send, receive, two all_reduces; the chunks of f32
}

TEST_CASE("first messages around a ring wait for nobody, whatever their order") {
  CHECK(runs_over_nccl(3, [](World& world) {
    const Communicator c = all(world);
    const int next = (world.rank() + 1) % 3, before = (world.rank() + 2) % 3;
    const Tensor mine = input_of(world.rank(), {5}, Dtype::f32).to(world.device()), theirs = Tensor::zeros({5}, Dtype::f32, world.device());
    Work sent = c.send(mine, next);
    Work received = c.recv(theirs, before);
    received.wait();
    sent.wait();
    CHECK(doubles_of(theirs.to(Device::cpu())) == doubles_of(input_of(before, {5}, Dtype::f32)));
  }));
}

TEST_CASE("tensors of the host go through the device") {
  CHECK(runs_over_nccl(3, [](World& world) {
    const Communicator c = all(world);
    const Tensor x = input_of(world.rank(), {4, 3}, Dtype::f32);
    const Tensor sum = c.all_reduce(x), joined = c.all_gather(x.transpose(0, 1), 1);
    CHECK(sum.device() == Device::cpu());
    CHECK(doubles_of(sum)[1] == input_value(0, 1, Dtype::f32) + input_value(1, 1, Dtype::f32) + input_value(2, 1, Dtype::f32));
    CHECK(doubles_of(joined)[4] == input_value(1, 0, Dtype::f32));
    CHECK(world.any(world.rank() == 2));
    CHECK(!world.any(false));
    Work work = c.all_reduce_(x);
    while (!work.done()) std::this_thread::yield();
    CHECK(doubles_of(x) == doubles_of(sum));
  }));
}

TEST_CASE("what NCCL has not queued at once is waited for") {
  comm::nccl::recorded::set({.lingers = 5});
  CHECK(runs_over_nccl(2, [](World& world) {
    const Tensor x = input_of(world.rank(), {6}, Dtype::i64).to(world.device());
    CHECK(doubles_of(all(world).all_reduce(x).to(Device::cpu()))[0] == input_value(0, 0, Dtype::i64) + input_value(1, 0, Dtype::i64));
  }));
  comm::nccl::recorded::set({});
}

TEST_CASE("no host waits until a peer has come to what NCCL queues, and nothing of the stream overtakes it") {
  comm::nccl::recorded::set({.connects = true});
  CHECK(runs_over_nccl(3,
                       [](World& world) {
                         const Communicator c = all(world);
                         const int next = (world.rank() + 1) % 3, before = (world.rank() + 2) % 3;
                         const Tensor mine = input_of(world.rank(), {5}, Dtype::f32).to(world.device());
                         const Tensor theirs = Tensor::zeros({5}, Dtype::f32, world.device());
                         for (int turn = 0; turn < 3; ++turn) {
                           Work sent = c.send(mine, next);
                           Work received = c.recv(theirs, before);
                           received.wait();
                           sent.wait();
                           CHECK(doubles_of(theirs.to(Device::cpu())) == doubles_of(input_of(before, {5}, Dtype::f32)));
                         }
                         // Two groups with a combination between, and launches behind it.
                         const Tensor x = input_of(world.rank(), {20'000}, Dtype::f32).to(world.device());
                         const Tensor largest = c.all_reduce(x, ReduceOp::max), sum = c.all_reduce(largest);
                         double expected = input_value(0, 17, Dtype::f32);
                         for (int r = 1; r < 3; ++r) expected = std::max(expected, input_value(r, 17, Dtype::f32));
                         CHECK(doubles_of(largest.to(Device::cpu()))[17] == expected);
                         CHECK(doubles_of(sum.to(Device::cpu()))[17] == 3 * expected);
                       },
                       {.time_limit_s = 5}));
  comm::nccl::recorded::set({});
}
