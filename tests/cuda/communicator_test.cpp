// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads and share a device, against the same calls on the CPU: equal bits, no wait of the host for a device, memory that is not reused
// early.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/expected.h"
#include "dtensor/comm.h"
#include "dtensor/device.h"
#include "dtensor/error.h"
#include "dtensor/world.h"
#include "under_test.h"

using namespace dtensor;
using namespace dtensor::testing;
using test::kGpu;
using test::queued;

namespace {

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

// Values whose sums round, another per rank.
Tensor uneven_values(int rank, const Shape& shape, Dtype dtype) {
  const Tensor t = Tensor::empty(shape, Dtype::f64);
  std::int64_t i = 0;
  for (double& v : t.values<double>())
    v = dtype == Dtype::boolean ? double((i++ + rank) % 2) : 1000.0 / double(1 + (i++ * 31 + rank * 1237) % 997) - 3;
  return t.to(dtype);
}

bool same_bits(const Tensor& device, const Tensor& cpu) {
  const Tensor a = device.to(Device::cpu()).contiguous(), b = cpu.contiguous();
  return device.device().kind == DeviceKind::cuda && a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.numel() == 0 || std::memcmp(a.read(), b.read(), static_cast<std::size_t>(a.bytes())) == 0);
}

int host_waits() {
  int count = 0;
  for (const auto& e : queued()) count += e.what.starts_with("host waits") || e.what.starts_with("copy to host") ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("every reduction of every dtype among ranks of one device has the CPU's bits") {
  for (int ranks : {1, 2, 3, 9})
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (Dtype dtype : kDtypes)
        for (ReduceOp op : kReduceOps)
          for (const Shape& shape : {Shape{}, Shape{0}, Shape{5}, Shape{7, 33}, Shape{2, 1, 512}}) {
            if (!Communicator::is_reducible(op, dtype)) continue;
            const Tensor in = uneven_values(world.rank(), shape, dtype), there = in.to(kGpu);
            const Tensor expected = c.all_reduce(in, op);
            queued();
            const Tensor result = c.all_reduce(there, op);
            c.all_reduce_(there, op).wait();
            CHECK(host_waits() == 0);
            CHECK(same_bits(result, expected));
            CHECK(same_bits(there, expected));
            if (shape.ndim() == 0) continue;
            CHECK(same_bits(c.reduce_scatter(in.to(kGpu), op, -1), c.reduce_scatter(in, op, -1)));
          }
    });
}

TEST_CASE("what is only copied arrives with every bit, uneven and of any dtype") {
  for (int ranks : {2, 3, 5})
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      for (Dtype dtype : kDtypes)
        for (const Shape& shape : {Shape{1}, Shape{3, 4}, Shape{5, 7, 3}, Shape{64, 32}})
          for (int dim = 0; dim < shape.ndim(); ++dim) {
            Shape own = shape;
            own[dim] += world.rank();
            const Tensor in = uneven_values(world.rank(), own, dtype), equal = uneven_values(world.rank(), shape, dtype);
            CHECK(same_bits(c.all_gather(in.to(kGpu), dim, {.exchange_sizes = true}), c.all_gather(in, dim, {.exchange_sizes = true})));
            CHECK(same_bits(c.all_to_all(equal.to(kGpu), dim, 0), c.all_to_all(equal, dim, 0)));
            CHECK(same_bits(c.broadcast(equal.to(kGpu), 1), c.broadcast(equal, 1)));
            CHECK(same_bits(c.scatter(equal.to(kGpu), 1, dim), c.scatter(equal, 1, dim)));
          }
    });
}

TEST_CASE("a result is used, an input is overwritten and memory is let go without a wait of the host, and no value is lost") {
  for (int ranks : {2, 4})
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      const auto value = [](int rank, int step) { return static_cast<double>(rank + 10 * step); };
      std::vector<Tensor> sums, gathered;
      queued();
      for (int step = 0; step < 20; ++step) {
        const Tensor in = Tensor::empty({3000}, Dtype::f32, kGpu);
        in.fill_(value(world.rank(), step));
        sums.push_back(c.all_reduce(in));
        gathered.push_back(c.all_gather(in));
        in.fill_(-1);                                          // comes after all have read it
        c.all_gather(Tensor::zeros({500}, Dtype::f32, kGpu));  // nobody looks at the result
      }
      c.barrier();  // the memory of a rank that has ended is waited for
      std::string waits;
      for (const auto& e : queued())
        if (e.what.starts_with("host waits")) waits += e.what + "; ";
      CHECK(waits == "");
      for (int step = 0; step < 20; ++step) {
        const auto s = doubles_of(sums[static_cast<std::size_t>(step)].to(Device::cpu())),
                   g = doubles_of(gathered[static_cast<std::size_t>(step)].to(Device::cpu()));
        double sum = 0;
        for (int r = 0; r < ranks; ++r) {
          sum += value(r, step);
          CHECK(g[static_cast<std::size_t>(r) * 3000 + 2999] == value(r, step));
        }
        CHECK(s[0] == sum);
        CHECK(s[2999] == sum);
      }
    });
}

TEST_CASE("a launch waits on the device for every member and for nothing that is queued later") {
  run_ranks({.ranks = 2}, [](World& world) {
    const Communicator c = all(world);
    const Tensor in = uneven_values(world.rank(), {100}, Dtype::f32).to(kGpu);
    world.barrier();
    queued();
    const Tensor out = c.all_reduce(in);
    c.barrier();
    const auto entries = queued();
    // One member queues the launch of both; each records where it stood.
    if (!test::tells()) return;
    int launches = 0, waits = 0;
    for (const auto& e : entries) {
      launches += e.what.starts_with("launch") ? 1 : 0;
      waits += e.what.starts_with("order after") ? 1 : 0;
      if (e.what.starts_with("launch")) CHECK(waits == 2);
    }
    CHECK(entries[0].what.starts_with("record"));
    out.wait();
    const auto after = queued();
    CHECK(doubles_of(all(world).all_reduce(Tensor::of<std::int64_t>(std::vector<std::int64_t>{launches}, {1}))) == std::vector<double>{1});
    CHECK(after.size() == 1);
    CHECK(after[0].what.starts_with("order after"));
  });
}

TEST_CASE("ranks of several devices reach each other's memory") {
  if (!test::has_devices(2)) return;
  for (int ranks : {2, 4})
    run_ranks({.ranks = ranks}, [&](World& world) {
      const Communicator c = all(world);
      const Device mine = Device::cuda(world.rank() % 2);
      for (int step = 0; step < 3; ++step) {
        const Tensor in = uneven_values(world.rank() + step, {301}, Dtype::bf16);
        const Tensor sum = c.all_reduce(in.to(mine)), part = c.reduce_scatter(in.to(mine)), whole = c.all_gather(in.to(mine));
        CHECK(sum.device() == mine);
        CHECK(same_bits(sum, c.all_reduce(in)));
        CHECK(same_bits(part, c.reduce_scatter(in)));
        CHECK(same_bits(whole, c.all_gather(in)));
      }
    });
}

TEST_CASE("tensors on the CPU of one rank and on a device of another are one error on every rank") {
  std::vector<std::string> errors(2);
  CHECK_THROWS_AS(run_ranks({.ranks = 2},
                            [&](World& world) {
                              const Tensor in = uneven_values(world.rank(), {8}, Dtype::f32);
                              const Communicator c = all(world);
                              try {
                                doubles_of(c.all_reduce(world.rank() == 1 ? in.to(kGpu) : in).to(Device::cpu()));
                              } catch (const std::exception& e) {
                                errors[static_cast<std::size_t>(world.rank())] = e.what();
                                throw;
                              }
                            }),
                  CommError);
  CHECK(errors[0] == errors[1]);
  CHECK(contains(errors[0], "all_reduce: ranks disagree (rank 0: all_reduce f32[8], f32 of 8 to 8 elements on cpu"));
  CHECK(contains(errors[0], "on cuda:0"));
}

TEST_CASE("a launch of tensors of two devices is refused before anybody is met") {
  run_ranks({.ranks = 2}, [](World& world) {
    const std::vector<int> ranks{0, 1};
    const Tensor a = Tensor::zeros({4}, Dtype::f32), b = Tensor::zeros({4}, Dtype::f32, kGpu);
    CHECK(error_of([&] { comm::group(ranks).all_reduce({.kind = "sum"}, a, b, {}); }) ==
          "collective: its tensors are on several devices (cpu and cuda:0); move them to one with to() first");
    world.barrier();
  });
}

TEST_CASE("ranks that send and receive different sizes of a device's memory are named, and nobody is left waiting") {
  using redistribute::Transfer;
  std::vector<std::string> errors(2);
  CHECK_THROWS_AS(run_ranks({.ranks = 2},
                            [&](World& world) {
                              const std::vector<int> ranks{0, 1};
                              const Tensor in = Tensor::zeros({8}, Dtype::f32, kGpu), out = Tensor::zeros({8}, Dtype::f32, kGpu);
                              Transfer t;
                              const int peer = 1 - world.rank();
                              t.sends.push_back({.peer = peer, .offset = 0, .sizes = {world.rank() == 0 ? 3 : 4}, .strides = {1}});
                              t.receives.push_back({.peer = peer, .offset = 0, .sizes = {4}, .strides = {1}});
                              try {
                                comm::group(ranks).exchange({.kind = "swap"}, in, out, std::make_shared<const Transfer>(std::move(t)));
                                out.wait();
                              } catch (const std::exception& e) {
                                errors[static_cast<std::size_t>(world.rank())] = e.what();
                                throw;
                              }
                            }),
                  CommError);
  CHECK(errors[0] == errors[1]);
  CHECK(contains(errors[0], "swap: ranks disagree (rank 0 sends [3] to rank 1, rank 1 receives [4] from rank 0"));
}

TEST_CASE("what only the device can refuse ends the world with the refusing rank's error") {
  const std::string error = error_of([] {
    run_ranks({.ranks = 65, .threads_per_rank = 1}, [](World& world) { all(world).all_reduce(Tensor::zeros({4}, Dtype::f32, kGpu)).wait(); });
  });
  CHECK(contains(error, "reduce: more than 64 ranks of one process combine memory of devices (65); use one process per rank with NCCL"));
}

TEST_CASE("moves come after what a scope's stream has queued, and their results may be used on any of the rank's streams") {
  run_ranks({.ranks = 2}, [](World& world) {
    const Communicator c = all(world);
    const Stream other = Stream::create(kGpu);
    const Tensor x = Tensor::zeros({100}, Dtype::f32, kGpu);
    Tensor sum;
    {
      const StreamScope scope(other);
      x.fill_(world.rank() + 1);
      sum = c.all_reduce(x);
      x.fill_(50);
    }
    const Tensor twice = c.all_reduce(sum), last = c.all_reduce(x);
    CHECK(doubles_of(twice.to(Device::cpu()))[99] == 6);
    CHECK(doubles_of(last.to(Device::cpu()))[0] == 100);
    CHECK(doubles_of(sum.to(Device::cpu()))[0] == 3);
  });
}
