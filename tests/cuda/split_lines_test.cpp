// SPDX-License-Identifier: Apache-2.0
// Ops that scan, order and look up along dimensions of which ranks hold parts: on a device what they give on the CPU.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/rank.h"
#include "beside_cpu.h"
#include "dtensor/dtensor.h"

using namespace dtensor;

namespace {

struct Setting {
  std::vector<MeshAxis> axes;
  Placements placements;
};
const std::vector<Setting> kSettings{{{{"x", 2}}, {Shard(0)}},
                                     {{{"x", 3}}, {Shard(0)}},
                                     {{{"x", 2}, {"y", 2}}, {{"y", Shard(0)}, {"x", Shard(0)}}},
                                     {{{"x", 2}, {"y", 2}}, {{"x", Replicate()}, {"y", Shard(0)}}}};

Tensor line(std::int64_t n, Dtype dtype) {
  std::vector<double> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>((i * 7919 + 13) % 127) / 64;
    if (info(dtype).floating && i % 67 == 5) values[i] = std::numeric_limits<double>::quiet_NaN();
  }
  return Tensor::of(values, {n}).to(dtype);
}

using Program = std::function<std::vector<DTensor>(const DTensor&)>;
std::vector<std::string> run_on(Device device, const Setting& setting, const Tensor& x, const Program& program) {
  std::vector<std::string> seen;
  int ranks = 1;
  for (const MeshAxis& a : setting.axes) ranks *= static_cast<int>(a.size);
  run_ranks({.ranks = ranks}, [&](World& world) {
    base::current_rank()->device = device;
    const DTensor there = distribute(x, world.mesh(setting.axes), setting.placements);
    std::vector<std::string> mine;
    for (const DTensor& t : program(there)) {
      const Tensor whole = t.detach().full_tensor().local(), host = whole.to(Device::cpu()).to(Dtype::f64);
      std::string text = to_string(whole.dtype()) + to_string(whole.shape());
      for (double v : host.values<const double>()) text += " " + std::to_string(v);
      mine.push_back(text);
      if (!(t.local().device() == device)) mine.push_back("a result is elsewhere");
    }
    if (world.rank() == 0) seen = mine;
  });
  return seen;
}
void check(const char* what, const Tensor& x, const Program& program) {
  for (const Setting& s : kSettings) {
    INFO(std::string(what) << " " << to_string(x.dtype()) << " " << to_string(s.placements));
    const std::vector<std::string> device = run_on(Device::cuda(0), s, x, program), host = run_on(Device::cpu(), s, x, program);
    REQUIRE(device.size() == host.size());
    for (std::size_t i = 0; i < host.size(); ++i) CHECK(device[i] == host[i]);
  }
}

}  // namespace

TEST_CASE("a line that ranks hold in parts is ordered on a device as on the CPU") {
  if (test::no_device()) return;
  for (Dtype dtype : {Dtype::f32, Dtype::i64, Dtype::bf16}) {
    const Tensor x = line(301, dtype);
    check("sort", x, [](const DTensor& t) {
      const auto up = sort(t, 0), down = sort(t, 0, {.descending = true, .stable = false});
      return std::vector<DTensor>{up.values, up.indices, down.values, down.indices};
    });
    check("topk", x, [](const DTensor& t) {
      const auto some = topk(t, 5), many = topk(t, 200);
      return std::vector<DTensor>{some.values, some.indices, many.values, many.indices};
    });
    check("kthvalue", x, [](const DTensor& t) {
      const auto k = kthvalue(t, 100), m = median(t, 0);
      return std::vector<DTensor>{k.values, k.indices, m.values, m.indices, median(t)};
    });
  }
}

TEST_CASE("a line that ranks hold in parts is scanned on a device as on the CPU") {
  if (test::no_device()) return;
  for (Dtype dtype : {Dtype::f64, Dtype::i64}) {
    const Tensor x = line(60, dtype);
    check("scans", x, [](const DTensor& t) {
      const auto most = cummax(t, 0), least = cummin(t, 0);
      return std::vector<DTensor>{cumsum(t, 0), cumprod(t, 0), most.values, most.indices, least.values, least.indices};
    });
  }
  check("log sums", line(60, Dtype::f64), [](const DTensor& t) { return std::vector<DTensor>{logcumsumexp(t, 0)}; });
}

TEST_CASE("rows that ranks hold in parts are looked up and summed on a device as on the CPU") {
  if (test::no_device()) return;
  const Tensor weight = line(60, Dtype::f32).view({15, 4});
  check("embedding", weight, [](const DTensor& w) {
    const DTensor table = where(isnan(w), 0, w).detach();
    const DTensor ids = remainder(arange(0, 24, 1, w.mesh(), {}, {.dtype = Dtype::i64}), 15);
    const DTensor rows = embedding(ids, table);
    return std::vector<DTensor>{rows, index_select(table, 0, ids), gather(table, 0, reshape(ids, {6, 4})), index_add(table, 0, ids, rows),
                                scatter_add(table, 0, reshape(ids, {6, 4}), reshape(narrow(rows, 0, 0, 6), {6, 4}))};
  });
}
