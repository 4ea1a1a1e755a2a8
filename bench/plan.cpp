// SPDX-License-Identifier: Apache-2.0
// Planning time, cold (no table of routes) and warm, against mesh axes, tensor dimensions and ranks: of the processor, so that what else runs on the
// machine counts little. The pairs of layouts are listed by --list.
//   plan [--list] [--only MESH NDIM]     e.g. --only 32,64,8 3
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "redistribute/plan/route.h"

namespace {

using namespace dtensor;
using namespace dtensor::redistribute;

double now_us() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

// One letter per mesh axis: a dimension, R or P (sum).
LayoutRef layout_of(const std::vector<int>& mesh, int ndim, const std::string& letters) {
  placements::Layout l;
  l.mesh_sizes = mesh;
  l.dims.resize(static_cast<std::size_t>(ndim));
  l.partial.resize(mesh.size());
  for (std::size_t a = 0; a < mesh.size(); ++a) {
    if (letters[a] == 'P') l.partial[a] = ReduceOp::sum;
    else if (letters[a] != 'R') l.dims[static_cast<std::size_t>(letters[a] - '0')].push_back({{static_cast<int>(a)}, 1, {}});
  }
  return placements::intern(std::move(l));
}

using Pair = std::pair<std::string, std::string>;

// The usual pairs of one letter for all axes, then pairs drawn letter by letter: a generator of fixed seed, the same on every machine.
std::vector<Pair> pairs_for(int axes, int ndim) {
  const auto n = static_cast<std::size_t>(axes);
  std::vector<Pair> pairs{{std::string(n, '0'), std::string(n, 'R')},
                          {std::string(n, 'R'), std::string(n, '0')},
                          {std::string(n, 'P'), std::string(n, 'R')},
                          {std::string(n, 'P'), std::string(n, '0')}};
  if (ndim > 1) pairs.emplace_back(std::string(n, '0'), std::string(n, '1'));
  std::string up, down;
  for (int a = 0; a < axes; ++a) up += static_cast<char>('0' + a % ndim), down += static_cast<char>('0' + (axes - 1 - a) % ndim);
  pairs.emplace_back(up, down);
  pairs.emplace_back(std::string(n, 'P'), up);
  std::uint32_t state = 12345;
  const auto draw = [&](int k) {
    state = state * 1664525u + 1013904223u;
    return static_cast<int>((state >> 16) % static_cast<std::uint32_t>(k));
  };
  while (pairs.size() < 48) {
    Pair p;
    for (int a = 0; a < axes; ++a) {
      const int from = draw(ndim + 2), to = draw(ndim + 2);
      p.first += from < ndim ? static_cast<char>('0' + from) : from == ndim ? 'R' : 'P';
      p.second += to < ndim ? static_cast<char>('0' + to) : to == ndim || p.first.back() == 'R' ? 'R' : 'P';
    }
    pairs.push_back(p);
  }
  return pairs;
}

Shape shape_of(const std::string& kind, int ndim) {
  constexpr std::int64_t small[] = {16, 8, 32, 64, 16, 8}, large[] = {4096, 8192, 64, 128, 16, 4}, uneven[] = {4097, 1021, 67, 129, 17, 5};
  Shape s = Shape::filled(ndim, 1);
  for (int d = 0; d < ndim; ++d) s[d] = (kind == "small" ? small : kind == "large" ? large : uneven)[d];
  return s;
}

std::string text(const std::vector<int>& mesh) {
  std::string s;
  for (int n : mesh) s += (s.empty() ? "" : "x") + std::to_string(n);
  return s;
}

struct Timed {
  double us = 0;
  double gap = 0;  // of the time predicted
  std::string what;
};

void measure(const std::vector<int>& mesh, int ndim, bool list) {
  std::vector<Timed> cold;
  std::vector<double> warm;
  for (const char* kind : {"small", "large", "uneven"})
    for (const auto& [a, b] : pairs_for(static_cast<int>(mesh.size()), ndim)) {
      const LayoutRef from = layout_of(mesh, ndim, a), to = layout_of(mesh, ndim, b);
      const Shape shape = shape_of(kind, ndim);
      double best = 1e12;
      RouteRef route;
      for (int i = 0; i == 0 || (i < 3 && best < 10000); ++i) {
        const double start = now_us();
        route = plan_route(from, to, shape, Dtype::f32);
        best = std::min(best, now_us() - start);
      }
      cold.push_back(
          {best, static_cast<double>(route->gap_nanoseconds) / static_cast<double>(std::max<std::int64_t>(1, route->nanoseconds)),
           std::string(a).append(" -> ").append(b).append(" ").append(kind).append(" ").append(std::to_string(route->launches)).append(" launches")});
      find_route(from, to, shape, Dtype::f32);
      const double start = now_us();
      for (int i = 0; i < 100; ++i) find_route(from, to, shape, Dtype::f32);
      warm.push_back((now_us() - start) / 100);
    }
  std::sort(cold.begin(), cold.end(), [](const Timed& x, const Timed& y) { return x.us < y.us; });
  std::sort(warm.begin(), warm.end());
  const auto stopped = std::count_if(cold.begin(), cold.end(), [](const Timed& t) { return t.gap > 0; });
  double gap = 0;
  for (const Timed& t : cold) gap = std::max(gap, t.gap);
  int ranks = 1;
  for (int n : mesh) ranks *= n;
  std::printf("%4zu %4d %6d  %-14s %10.1f %10.1f %10.1f %8.3f %8d %4.0f %%   %s\n", mesh.size(), ndim, ranks, text(mesh).c_str(),
              cold[cold.size() / 2].us, cold[cold.size() * 9 / 10].us, cold.back().us, warm[warm.size() / 2], static_cast<int>(stopped), gap * 100,
              cold.back().what.c_str());
  std::fflush(stdout);
  if (list)
    for (const Timed& t : cold) std::printf("  %10.1f us  %4.0f %%  %s\n", t.us, t.gap * 100, t.what.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  bool list = false;
  std::vector<int> only;
  int only_ndim = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--list") == 0) list = true;
    if (std::strcmp(argv[i], "--only") != 0 || i + 2 >= argc) continue;
    for (char* s = argv[i + 1]; *s != 0; s += *s == ',' ? 1 : 0) only.push_back(static_cast<int>(std::strtol(s, &s, 10)));
    only_ndim = std::atoi(argv[i + 2]);
  }
  std::printf("axes dims  ranks  mesh             median us    90 %% us   worst us  warm us  stopped    gap   worst pair\n");
  if (!only.empty()) {
    measure(only, only_ndim, list);
    return 0;
  }
  using Mesh = std::vector<int>;
  for (const Mesh& mesh : std::vector<Mesh>{{8}, {4, 2}, {2, 2, 2}, {2, 2, 2, 2}, {2, 2, 2, 2, 2}})
    for (int ndim = 1; ndim <= 6; ++ndim) measure(mesh, ndim, list);
  for (const Mesh& mesh : std::vector<Mesh>{{128, 128}, {4, 4, 4}, {8, 8, 8}, {16, 32, 8}, {32, 64, 8}, {4, 4, 4, 4}, {8, 8, 8, 8}, {16, 16, 8, 8}})
    measure(mesh, 3, list);
  measure({16384}, 3, list);
  measure({8, 8, 8, 8}, 4, list);
  measure({16, 8, 8, 4, 4}, 3, list);
  return 0;
}
