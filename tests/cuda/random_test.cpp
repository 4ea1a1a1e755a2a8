// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/error.h"
#include "local/kernels/random.h"

using namespace dtensor;
using local::GlobalMap;
using local::GlobalRun;
using test::kGpu;

namespace {

constexpr std::uint64_t kSeed = 0x123456789abcdef0, kCall = 0x8000000000000003;

bool same_bits(const Tensor& host, const Tensor& device) {
  const Tensor a = host.contiguous(), b = device.to(Device::cpu()).contiguous();
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.numel() == 0 || std::memcmp(a.read(), b.read(), static_cast<std::size_t>(a.bytes())) == 0);
}

// Runs of each dimension; the local shape follows.
struct Part {
  Shape global;
  std::vector<std::vector<GlobalRun>> runs;
  Shape local() const {
    Shape shape;
    for (const auto& dim : runs) {
      std::int64_t n = 0;
      for (const GlobalRun& r : dim) n += r.length;
      shape.push_back(n);
    }
    return shape;
  }
};

// Fills a tensor of the part on both devices; row-major, transposed, and one element behind an aligned address.
template <class Fill>
void check(const Part& part, Dtype dtype, const Fill& fill) {
  const std::vector<std::span<const GlobalRun>> spans(part.runs.begin(), part.runs.end());
  const GlobalMap map{part.global, spans};
  const Shape shape = part.local();
  const auto run = [&](Device device, int form) {
    Tensor t = Tensor::empty({shape.numel() + 1}, dtype, device);
    t.fill_(1);
    t = form == 1 ? t.narrow(0, 1, shape.numel()).view(shape) : t.narrow(0, 0, shape.numel()).view(shape);
    if (form == 2 && shape.ndim() > 1) {
      Shape turned = shape;
      std::swap(turned[0], turned[shape.ndim() - 1]);
      t = t.view(turned).transpose(0, shape.ndim() - 1);
    }
    fill(t, map);
    return t;
  };
  for (int form : {0, 1, 2}) {
    CAPTURE(to_string(shape));
    CAPTURE(to_string(dtype));
    CAPTURE(form);
    CHECK(same_bits(run(Device::cpu(), form), run(kGpu, form)));
  }
}

std::vector<Part> parts() {
  std::vector<Part> all{{{}, {}}, {{2, 0}, {{{0, 2}}, {{0, 0}}}}};
  for (std::int64_t n : {1, 2, 3, 15, 16, 17, 31, 33, 255, 257, 1000}) all.push_back({{n}, {{{0, n}}}});
  all.push_back({{5, 7}, {{{0, 5}}, {{0, 7}}}});
  all.push_back({{5, 7}, {{{2, 3}}, {{0, 7}}}});
  all.push_back({{5, 7}, {{{1, 2}}, {{3, 4}}}});
  all.push_back({{40, 70}, {{{3, 2}, {20, 5}, {9, 1}}, {{40, 17}, {1, 1}, {3, 20}}}});
  all.push_back({{3, 4, 50}, {{{1, 2}}, {{0, 1}, {3, 1}}, {{0, 50}}}});
  all.push_back({{3, 4, 5, 6}, {{{2, 1}}, {{1, 3}}, {{0, 5}}, {{0, 6}}}});
  all.push_back({{std::int64_t{1} << 40, 3}, {{{(std::int64_t{1} << 39) + 1, 5}}, {{1, 2}}}});
  return all;
}

}  // namespace

TEST_CASE("random words and whole numbers are those of the CPU, bit for bit") {
  if (test::no_device()) return;
  for (const Part& part : parts()) {
    check(part, Dtype::i64, [](const Tensor& t, const GlobalMap& map) { local::kernels::fill_words(t, kSeed, kCall, map); });
    for (int d = 0; d < kDtypeCount; ++d)
      check(part, static_cast<Dtype>(d),
            [](const Tensor& t, const GlobalMap& map) { local::kernels::fill_integers(t, kSeed, kCall, map, -3, std::int64_t{1} << 40); });
  }
}

TEST_CASE("uniform and normal numbers are those of the CPU, bit for bit") {
  if (test::no_device()) return;
  for (const Part& part : parts())
    for (Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16}) {
      check(part, dtype, [](const Tensor& t, const GlobalMap& map) { local::kernels::fill_uniform(t, kSeed, kCall, map, 0, 1); });
      check(part, dtype, [](const Tensor& t, const GlobalMap& map) { local::kernels::fill_uniform(t, kSeed, kCall, map, -0.1, 12.3); });
      check(part, dtype, [](const Tensor& t, const GlobalMap& map) { local::kernels::fill_normal(t, kSeed, kCall, map, 0.3, 1.7); });
    }
}

TEST_CASE("what a mask keeps is what the CPU keeps, in every dtype") {
  if (test::no_device()) return;
  for (const Part& part : parts())
    for (int d = 0; d < kDtypeCount; ++d)
      check(part, static_cast<Dtype>(d), [](const Tensor& t, const GlobalMap& map) { local::kernels::fill_keep_mask(t, kSeed, kCall, map, 0.7, 3); });
}

TEST_CASE("a device refuses what the CPU refuses") {
  if (test::no_device()) return;
  const Tensor t = Tensor::empty({3}, Dtype::i32, kGpu);
  const GlobalRun run{0, 3}, less{0, 2};
  const std::span<const GlobalRun> runs(&run, 1), short_runs(&less, 1);
  const GlobalMap map{{3}, {&runs, 1}}, wrong{{3}, {&short_runs, 1}};
  CHECK_THROWS_AS(local::kernels::fill_normal(t, 1, 1, map, 0, 1), InvalidArgument);
  CHECK_THROWS_AS(local::kernels::fill_words(t, 1, 1, map), InvalidArgument);
  CHECK_THROWS_AS(local::kernels::fill_integers(t, 1, 1, map, 2, 2), InvalidArgument);
  CHECK_THROWS_AS(local::kernels::fill_integers(t, 1, 1, wrong, 2, 3), InternalError);
}
