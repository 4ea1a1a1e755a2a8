// SPDX-License-Identifier: Apache-2.0
// Collectives among threads beside memcpy by all ranks at once of what each receives or its result, whichever is larger.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "dtensor/comm.h"
#include "dtensor/tensor.h"
#include "dtensor/world.h"

namespace {

using namespace dtensor;
using Seconds = std::chrono::duration<double>;

// Seconds per call of f on the slowest rank, the median of several rounds.
template <class F>
double time_on_ranks(int ranks, int calls, const F& make) {
  const auto times = collect({.ranks = ranks}, [&](World& world) {
    auto call = make(world);
    call();
    std::vector<double> rounds;
    for (int round = 0; round < 7; ++round) {
      world.barrier();
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < calls; ++i) call();
      world.barrier();
      rounds.push_back(Seconds(std::chrono::steady_clock::now() - begin).count() / calls);
    }
    std::sort(rounds.begin(), rounds.end());
    return rounds[rounds.size() / 2];
  });
  return *std::max_element(times.begin(), times.end());
}

Tensor filled(std::int64_t bytes) {
  Tensor t = Tensor::empty({bytes / 4}, Dtype::f32);
  t.fill_(1);
  return t;
}
Communicator everyone(World& world) { return world.communicator(world.mesh({{"x", world.size()}}), "x"); }

void report(benchmark::State& state, double seconds) {
  for ([[maybe_unused]] auto _ : state) state.SetIterationTime(seconds);
  state.counters["us"] = seconds * 1e6;
}

int calls_of(std::int64_t bytes) { return bytes <= 4096 ? 20000 : bytes <= 1 << 20 ? 200 : 3; }

void copy(benchmark::State& state) {
  const std::int64_t bytes = state.range(1);
  report(state, time_on_ranks(static_cast<int>(state.range(0)), calls_of(bytes), [&](World&) {
           return [from = filled(bytes), to = filled(bytes), bytes] { std::memcpy(to.data(), from.data(), static_cast<std::size_t>(bytes)); };
         }));
}
void all_reduce(benchmark::State& state) {
  const std::int64_t bytes = state.range(1);
  report(state, time_on_ranks(static_cast<int>(state.range(0)), calls_of(bytes),
                              [&](World& world) { return [c = everyone(world), in = filled(bytes)] { c.all_reduce(in).wait(); }; }));
}
void all_reduce_in_place(benchmark::State& state) {
  const std::int64_t bytes = state.range(1);
  report(state, time_on_ranks(static_cast<int>(state.range(0)), calls_of(bytes),
                              [&](World& world) { return [c = everyone(world), in = filled(bytes)] { c.all_reduce_(in, ReduceOp::max).wait(); }; }));
}
// `bytes` is the size of the result.
void all_gather(benchmark::State& state) {
  const std::int64_t bytes = state.range(1), ranks = state.range(0);
  report(state, time_on_ranks(static_cast<int>(ranks), calls_of(bytes),
                              [&](World& world) { return [c = everyone(world), in = filled(bytes / ranks)] { c.all_gather(in).wait(); }; }));
}
void barrier(benchmark::State& state) {
  report(state, time_on_ranks(static_cast<int>(state.range(0)), 20000, [&](World& world) { return [&world] { world.barrier(); }; }));
}

void sizes(benchmark::internal::Benchmark* b) {
  for (int ranks : {2, 4})
    for (std::int64_t bytes : {std::int64_t{1} << 10, std::int64_t{64} << 10, std::int64_t{1} << 20, std::int64_t{64} << 20}) b->Args({ranks, bytes});
  b->ArgNames({"ranks", "bytes"})->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);
}
BENCHMARK(copy)->Apply(sizes);
BENCHMARK(all_reduce)->Apply(sizes);
BENCHMARK(all_reduce_in_place)->Apply(sizes);
BENCHMARK(all_gather)->Apply(sizes);
BENCHMARK(barrier)->ArgName("ranks")->Arg(2)->Arg(4)->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
