// SPDX-License-Identifier: Apache-2.0
// Check mode: before a collective starts, all members know that all have made the same call.
#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "comm/expected.h"
#include "comm/nccl/ranks.h"
#include "dtensor/comm.h"
#include "dtensor/error.h"
#include "dtensor/mesh.h"

using namespace dtensor;
using namespace dtensor::testing;
namespace recorded = comm::nccl::recorded;

namespace {

const NcclOptions kChecked{.check = true};

Communicator all(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }
Tensor input(World& world, const Shape& shape, Dtype dtype = Dtype::f32) { return input_of(world.rank(), shape, dtype).to(world.device()); }

// After one collective that all make, what rank 1 does differs from what the others do.
std::vector<std::string> differ(int ranks, const std::function<void(World&)>& others, const std::function<void(World&)>& one) {
  recorded::taken_lives();
  auto errors = errors_over_nccl(
      ranks,
      [&](World& world) {
        all(world).all_reduce(input(world, {4})).to(Device::cpu());
        (world.rank() == 1 ? one : others)(world);
        for (;;) world.barrier();
      },
      kChecked);
  CHECK(recorded::taken_mismatches().empty());  // nothing of it has reached NCCL
  return errors;
}

constexpr const char* kOrder = "; every rank must make the same calls in the same order";

}  // namespace

TEST_CASE("another call, another shape, another reduction: every rank gets an error that names both calls") {
  const auto calls = differ(
      3, [](World& w) { all(w).all_reduce(input(w, {4})); }, [](World& w) { all(w).all_gather(input(w, {4})); });
  for (const std::string& e : calls) {
    CHECK(contains(e, "ranks disagree (rank "));
    CHECK((contains(e, "rank 0: all_reduce f32[4], rank 1: all_gather f32[4]; collective 1 of group {0, 1, 2})") ||
           contains(e, "rank 1: all_gather f32[4], rank 2: all_reduce f32[4]; collective 1 of group {0, 1, 2})")));
    CHECK(contains(e, kOrder));
    CHECK(e == calls[0]);
  }
  const auto shapes = differ(
      2, [](World& w) { all(w).all_reduce(input(w, {4})); }, [](World& w) { all(w).all_reduce(input(w, {5})); });
  for (const std::string& e : shapes) CHECK(contains(e, "(rank 0: all_reduce f32[4], rank 1: all_reduce f32[5]; collective 1 of group {0, 1})"));
  const auto ops = differ(
      2, [](World& w) { all(w).all_reduce(input(w, {4})); }, [](World& w) { all(w).all_reduce(input(w, {4}), ReduceOp::max); });
  for (const std::string& e : ops) {
    CHECK(contains(e, "all_reduce: ranks disagree (rank 0: all_reduce f32[4], fingerprint "));
    CHECK(contains(e, ", rank 1: all_reduce f32[4], fingerprint "));
  }
  const auto barrier = differ(
      2, [](World& w) { all(w).all_reduce(input(w, {4})); }, [](World& w) { all(w).barrier(); });
  for (const std::string& e : barrier) CHECK(contains(e, "(rank 0: all_reduce f32[4], rank 1: barrier; collective 1 of group {0, 1})"));
}

TEST_CASE("without check mode the same mistake is not seen before the calls") {
  const auto errors = errors_over_nccl(2,
                                       [&](World& world) {
                                         if (world.rank() == 0) all(world).all_reduce(input(world, {4})).to(Device::cpu());
                                         else all(world).all_gather(input(world, {4})).to(Device::cpu());
                                       },
                                       {.time_limit_s = 0.4});
  for (const std::string& e : errors) CHECK(!contains(e, "ranks disagree"));
  CHECK(!recorded::taken_mismatches().empty());
}

TEST_CASE("programs that agree run as without it: collectives of several groups, messages in a ring, launches far ahead of a slow rank") {
  CHECK(runs_over_nccl(
      4,
      [](World& world) {
        const DeviceMesh mesh = world.mesh({{"a", 2}, {"b", 2}});
        const Communicator a = world.communicator(mesh, "a"), b = world.communicator(mesh, "b"), c = all(world);
        const int next = (world.rank() + 1) % 4, before = (world.rank() + 3) % 4;
        Tensor kept;
        for (int step = 0; step < 20; ++step) {
          if (world.rank() == step % 4) std::this_thread::sleep_for(std::chrono::milliseconds(3));
          kept = c.all_reduce(b.all_reduce(a.all_reduce(input(world, {4}))));
          const Tensor theirs = Tensor::zeros({5}, Dtype::f32, world.device());
          Work sent = c.send(input(world, {5}), next), got = c.recv(theirs, before);
          got.wait();
          sent.wait();
          CHECK(doubles_of(theirs.to(Device::cpu())) == doubles_of(input_of(before, {5}, Dtype::f32)));
        }
        double sum = 0;
        for (int r = 0; r < 4; ++r) sum += input_value(r, 1, Dtype::f32);
        CHECK(doubles_of(kept.to(Device::cpu()))[1] == 4 * sum);
        world.barrier();
      },
      kChecked));
}

TEST_CASE("a rank that does not come in check mode is found by the time limit") {
  const auto errors = errors_over_nccl(2,
                                       [](World& world) {
                                         all(world).all_reduce(input(world, {4})).to(Device::cpu());
                                         if (world.rank() == 1) return std::this_thread::sleep_for(std::chrono::seconds(2));
                                         all(world).all_reduce(input(world, {4})).to(Device::cpu());
                                       },
                                       {.time_limit_s = 0.4, .check = true});
  CHECK(contains(errors[0], "all_reduce: not all ranks have come within 0.4 s (rank 0 waits in collective 1 of group {0, 1}: f32[4])"));
}

TEST_CASE("DTENSOR_CHECK=1 asks for it") {
  local::cuda::emulated::set_devices(2, std::int64_t{1} << 30);
  const auto text = [] {
    return error_of([] {
      run_ranks({.ranks = 2, .time_limit_s = 1, .backend = Backend::nccl}, [](World& world) {
        if (world.rank() == 0) all(world).all_reduce(input(world, {4})).to(Device::cpu());
        else all(world).all_gather(input(world, {4})).to(Device::cpu());
      });
    });
  };
  setenv("DTENSOR_CHECK", "1", 1);
  CHECK(contains(text(), "ranks disagree (rank 0: all_reduce f32[4], rank 1: all_gather f32[4]; collective 0 of group {0, 1})"));
  setenv("DTENSOR_CHECK", "perhaps", 1);
  CHECK(contains(text(), "DTENSOR_CHECK"));
  unsetenv("DTENSOR_CHECK");
  setenv("DTENSOR_NCCL_CTA_POLICY", "none", 1);
  CHECK(text() == "run_ranks: DTENSOR_NCCL_CTA_POLICY is default, efficiency or zero (got 'none'); leave it out for NCCL's choice");
  unsetenv("DTENSOR_NCCL_CTA_POLICY");
  recorded::taken_mismatches();
}
