// SPDX-License-Identifier: Apache-2.0
// What a redistribution costs, call to data, beside its bound: all ranks at once memcpy the larger of what they receive and their new result (0 where nothing
// is received and the result is a view). Minimum of rounds, microseconds on the slowest rank; f32.
//   redistribute              all rows for 2 and 4 ranks
//   redistribute --ranks N    those of N
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <dtensor/dtensor.h>

namespace {

using namespace dtensor;
using Clock = std::chrono::steady_clock;

struct Row {
  std::string name, mesh, from, to;
  std::vector<Shape> shapes;
};

std::vector<Row> rows(int ranks) {
  const std::vector<Shape> even{{16, 16}, {512, 512}, {4096, 4096}};
  const std::string one = std::to_string(ranks);
  std::vector<Row> list{
      {"S0->R", one, "{0: S(0)}", "{}", even},
      {"R->S0", one, "{}", "{0: S(0)}", even},
      {"S0->S1", one, "{0: S(0)}", "{0: S(1)}", {{16, 16}, {512, 512}, {4096, 4096}, {4097, 4095}}},
      {"P->R", one, "{0: P(sum)}", "{}", even},
      {"P->S0", one, "{0: P(sum)}", "{0: S(0)}", even},
      {"SS0->S0", one, "{0: SS(0, 2)}", "{0: S(0)}", even},
  };
  if (ranks == 4) list.push_back({"S0,S1->S1,S0", "2x2", "{0: S(0), 1: S(1)}", "{0: S(1), 1: S(0)}", even});
  return list;
}

DeviceMesh mesh_of(World& world, const std::string& text) {
  return text == "2x2" ? world.mesh({{"0", 2}, {"1", 2}}) : world.mesh({{"0", world.size()}});
}

// Microseconds per call on the slowest rank, the least of several rounds.
template <class F>
double time_on_ranks(const std::string& mesh, int ranks, int calls, const F& make) {
  const auto times = collect({.ranks = ranks, .threads_per_rank = 1}, [&](World& world) {
    const auto call = make(mesh_of(world, mesh));
    for (int i = 0; i < std::max(2, calls / 10); ++i) call();
    double best = 1e300;
    for (int round = 0; round < 7; ++round) {
      world.barrier();
      const auto begin = Clock::now();
      for (int i = 0; i < calls; ++i) call();
      world.barrier();  // with more ranks than cores they would otherwise not all run at once
      best = std::min(best, std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / calls);
    }
    return best;
  });
  return *std::max_element(times.begin(), times.end());
}

// Bytes that the bound copies on the worst rank.
std::int64_t bound_bytes(const DTensor& result, const Plan& plan) {
  const std::int64_t received = plan.bytes_received().max;
  return received == 0 ? 0 : std::max(received, result.local().numel() * std::int64_t{4});
}

void measure(const Row& row, int ranks, const Shape& shape) {
  const int calls = shape[0] <= 16 ? 3000 : shape[0] <= 512 ? 100 : 4;
  const Placements from = Placements::parse(row.from), to = Placements::parse(row.to);
  std::int64_t bytes = 0;
  run_ranks({.ranks = ranks}, [&](World& world) {
    const DeviceMesh mesh = mesh_of(world, row.mesh);
    const DTensor x = zeros(shape, mesh, from), y = x.redistribute(to);
    if (world.rank() == 0) bytes = bound_bytes(y, explain(x, to));
  });
  const double ours = time_on_ranks(row.mesh, ranks, calls,
                                    [&](const DeviceMesh& mesh) { return [x = zeros(shape, mesh, from), &to] { x.redistribute(to).wait(); }; });
  const double bound = bytes == 0 ? 0 : time_on_ranks(row.mesh, ranks, calls, [&](const DeviceMesh&) {
    const Tensor in = Tensor::zeros({bytes}, Dtype::u8), out = Tensor::zeros({bytes}, Dtype::u8);
    return [in, out, bytes] { std::memcpy(out.data(), in.read(), static_cast<std::size_t>(bytes)); };
  });
  std::printf("%d ranks  %-14s %-12s %12.2f us", ranks, row.name.c_str(), (std::to_string(shape[0]) + "x" + std::to_string(shape[1])).c_str(), ours);
  if (bound > 0) std::printf("   bound %10.2f us   %5.2fx", bound, ours / bound);
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> worlds{2, 4};
  if (argc == 3 && std::strcmp(argv[1], "--ranks") == 0) worlds = {std::atoi(argv[2])};
  for (const int ranks : worlds)
    for (const Row& row : rows(ranks))
      for (const Shape& shape : row.shapes) measure(row, ranks, shape);
  return 0;
}
