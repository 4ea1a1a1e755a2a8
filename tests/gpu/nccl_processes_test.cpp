// SPDX-License-Identifier: Apache-2.0
// Two ranks over NCCL on one GPU, a process each. The cases of a rank are skipped in the program that starts the ranks, which runs them in processes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "comm/expected.h"
#include "dtensor/dtensor.h"
#include "dtensor/nccl.h"
#include "golden/check_model.h"
#include "gpu/one_gpu.h"

using namespace dtensor;
using namespace dtensor::testing;

namespace {

constexpr int kRanks = 2;
constexpr double kTimeLimit = 300;

using Values = std::vector<double>;

Values expected(const Shape& shape, Dtype dtype, const std::function<double(std::int64_t)>& value) {
  Values all;
  for (std::int64_t i = 0; i < shape.numel(); ++i) all.push_back(value(i));
  return doubles_of(from_doubles(all, shape, dtype));
}

void check_verbs(World& world) {
  const DeviceMesh mesh = world.mesh({{"x", world.size()}});
  const Communicator all = world.communicator(mesh, "x");
  const int me = world.rank(), size = world.size();
  const auto host = [](const Tensor& t) { return doubles_of(t.to(Device::cpu())); };
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i64})
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{5}, std::int64_t{1} << 18}) {
      INFO("rank ", me, ", ", n, " of ", info(dtype).name);
      const auto value = [&](int rank, std::int64_t i) { return input_value(rank, i, dtype); };
      const auto over_ranks = [&](ReduceOp op, std::int64_t i) {
        Values contributions;
        for (int r = 0; r < size; ++r) contributions.push_back(value(r, i));
        return reduced(op, contributions);
      };
      const Tensor x = input_of(me, {n}, dtype).to(world.device());
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max})
        CHECK((host(all.all_reduce(x, op)) == expected({n}, dtype, [&](std::int64_t i) { return over_ranks(op, i); })));
      CHECK((host(all.all_gather(x)) == expected({n * size}, dtype, [&](std::int64_t i) { return value(static_cast<int>(i / n), i % n); })));
      CHECK((host(all.broadcast(x, size - 1)) == expected({n}, dtype, [&](std::int64_t i) { return value(size - 1, i); })));
      const std::int64_t part = (n + size - 1) / size, begin = std::min(n, part * me), count = std::min(n, part * (me + 1)) - begin;
      CHECK((host(all.reduce_scatter(x)) == expected({count}, dtype, [&](std::int64_t i) { return over_ranks(ReduceOp::sum, begin + i); })));
      const Tensor wide = input_of(me, {size, n}, dtype).to(world.device());
      CHECK(
          (host(all.all_to_all(wide)) == expected({size, n}, dtype, [&](std::int64_t i) { return value(static_cast<int>(i / n), me * n + i % n); })));
      std::vector<int> next;
      for (int r = 0; r < size; ++r) next.push_back((r + 1) % size);
      CHECK((host(all.permute(x, next)) == expected({n}, dtype, [&](std::int64_t i) { return value((me + size - 1) % size, i); })));
      all.barrier();
    }
}

void check_moves(World& world) {
  const DeviceMesh mesh = world.mesh({{"x", world.size()}});
  const Shape shape{5, 7};
  const Values whole = expected(shape, Dtype::f32, [](std::int64_t i) { return input_value(0, i, Dtype::f32); });
  const DTensor rows = distribute(input_of(0, shape, Dtype::f32).to(world.device()), mesh, {Shard(0)});
  const DTensor columns = rows.redistribute({Shard(1)});
  for (const DTensor& t : {rows, columns, rows.redistribute({Replicate()}), columns.redistribute({Shard(0)})})
    CHECK((doubles_of(t.full_tensor().local().to(Device::cpu())) == whole));
  const DTensor sums = sum(square(columns), 1);
  CHECK(to_string(sums.placements()).find("P(sum)") != std::string::npos);
  Values squares(5);
  for (std::size_t i = 0; i < whole.size(); ++i) squares[i / 7] += whole[i] * whole[i];
  CHECK((doubles_of(sums.redistribute({Shard(0)}).full_tensor().local().to(Device::cpu())) == squares));
}

void check_model(World& world) {
  const char* other = std::getenv("DTENSOR_GOLDEN");
  const std::filesystem::path folder = std::filesystem::path(other != nullptr ? other : DTENSOR_GOLDEN_DIR) / "models" / "llama_tiny";
  for (const char* axis : {"tp", "dp"})
    for (const std::string& text : golden::check_model({.folder = folder.string(), .steps = 2}, world.mesh({{axis, world.size()}}))) {
      INFO(axis);
      FAIL_CHECK(text);
    }
}

void as_rank(RankBody body) {
  char name[] = "rank";
  char* arguments[] = {name, nullptr};
  CHECK(run(1, arguments, body) == 0);
}

// A case of a rank, in processes.
void run_case(const std::string& name) {
  if (const NcclInfo nccl = nccl_info(); !nccl.built || !nccl.why_none.empty()) {
    std::printf("%s: %s\n", nccl.built ? "SKIPPED" : "left out", nccl.why_none.c_str());
    return;
  }
  const Processes ended = run_processes(kRanks, name, kTimeLimit);
  if (const std::string refusal = ended.refusal(); !refusal.empty()) {
    std::printf("SKIPPED: NCCL refuses ranks that share a GPU: %s\n", refusal.c_str());
    return;
  }
  REQUIRE(ended.codes.size() == kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    INFO("rank ", rank, " wrote:\n", ended.texts[static_cast<std::size_t>(rank)]);
    CHECK(ended.codes[static_cast<std::size_t>(rank)] == 0);
    CHECK(contains(ended.texts[static_cast<std::size_t>(rank)], "1 passed"));
  }
}

}  // namespace

TEST_CASE("a rank checks verbs" * doctest::skip()) { as_rank(check_verbs); }
TEST_CASE("a rank checks moves" * doctest::skip()) { as_rank(check_moves); }
TEST_CASE("a rank checks a golden model" * doctest::skip()) { as_rank(check_model); }

TEST_CASE("two threads on one device make the verbs and moves right that processes are asked for") {
  run_ranks({.ranks = kRanks, .device = Device::cuda(0), .threads_per_rank = 1}, check_verbs);
  run_ranks({.ranks = kRanks, .device = Device::cuda(0), .threads_per_rank = 1}, check_moves);
}
TEST_CASE("two processes on one GPU make verbs over NCCL right") { run_case("a rank checks verbs"); }
TEST_CASE("two processes on one GPU make moves over NCCL right") { run_case("a rank checks moves"); }
TEST_CASE("two processes on one GPU train a golden model over NCCL") { run_case("a rank checks a golden model"); }
