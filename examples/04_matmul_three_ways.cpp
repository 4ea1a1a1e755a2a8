// SPDX-License-Identifier: Apache-2.0
// One product, three ways to split it. The call is always matmul(a, b); placements decide what each rank computes and what is sent.
#include <dtensor/dtensor.h>

#include <cmath>
#include <string>
using namespace dtensor;

namespace {

constexpr std::int64_t kRows = 48, kInner = 64, kColumns = 80;

struct Way {
  const char* name;
  Placements a, b;
  const char* result;     // the placements that the rule derives
  std::int64_t launches;  // what the product itself communicates
};

// The reference: plain loops on whole copies, in double.
double largest_difference(const DTensor& a, const DTensor& b, const DTensor& y) {
  const auto whole = [](const DTensor& t) { return t.full_tensor().local().to(Device::cpu()); };
  const Tensor whole_a = whole(a), whole_b = whole(b), whole_y = whole(y);
  const auto va = whole_a.values<const float>(), vb = whole_b.values<const float>(), vy = whole_y.values<const float>();
  double worst = 0;
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t j = 0; j < kColumns; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < kInner; ++k) sum += static_cast<double>(va[i * kInner + k]) * vb[k * kColumns + j];
      worst = std::max(worst, std::abs(sum - vy[i * kColumns + j]));
    }
  return worst;
}

int program(World& world) {
  const DeviceMesh mesh = world.mesh({{"dp", 2}, {"tp", 2}});
  const Way ways[] = {
      {"columns of b: nothing is sent, the result is split", {}, {{"tp", Shard(1)}}, "{dp: R, tp: S(1)}", 0},
      {"the inner dimension: nothing is sent, each rank has a summand", {{"tp", Shard(1)}}, {{"tp", Shard(0)}}, "{dp: R, tp: P(sum)}", 0},
      {"rows of a and columns of b: a grid, nothing is sent", {{"dp", Shard(0)}}, {{"tp", Shard(1)}}, "{dp: S(0), tp: S(1)}", 0},
  };
  bool right = true;
  for (const Way& way : ways) {
    const DTensor a = randn({kRows, kInner}, mesh, way.a), b = randn({kInner, kColumns}, mesh, way.b);
    const CommCounter counter;
    const DTensor y = matmul(a, b);
    const std::int64_t launches = counter.launches();
    const double difference = largest_difference(a, b, y);
    world.print({way.name, "\n  ", a, " x ", b, " -> ", y, "; ", launches, " launches, largest difference ", difference});
    right = right && to_string(y.placements()) == way.result && launches == way.launches && difference < 1e-4;
  }
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, program, {.ranks = 4}); }
