// SPDX-License-Identifier: Apache-2.0
// Kernels that take elements at listed positions, turn them, or add them up by windows, on a device against the CPU's.
#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <vector>

#include "beside_cpu.h"
#include "dtensor/error.h"
#include "local/cuda/numbers.h"
#include "local/kernels/arrange.h"
#include "local/kernels/pooling.h"
#include "local/kernels/rotary.h"
#include "local/kernels/transformer.h"

using namespace dtensor;
using namespace dtensor::test;
namespace kernels = local::kernels;
namespace cpu = local::cpu;
using Numbers = std::vector<std::int64_t>;

namespace {

// The result of `run` on both devices for inputs that lie as said; the tolerance is that of the result's dtype.
void compare(const std::vector<Tensor>& inputs, const Shape& shape, Dtype dtype, Lie lie, Lie out_lie,
             const std::function<void(const std::vector<Tensor>&, const Tensor&)>& run) {
  if (no_device()) return;
  std::vector<Tensor> results;
  for (const Device device : {Device::cpu(), kGpu}) {
    std::vector<Tensor> there;
    for (const Tensor& t : inputs) there.push_back(laid(t, device, lie));
    results.push_back(lying(shape, dtype, device, out_lie));
    run(there, results.back());
  }
  INFO(to_string(shape), " ", to_string(dtype), " lying ", static_cast<int>(lie));
  CHECK(worst(results[0], results[1]) <= tolerance(dtype));
}
std::vector<Dtype> all_dtypes() {
  std::vector<Dtype> all;
  for (int d = 0; d < kDtypeCount; ++d) all.push_back(static_cast<Dtype>(d));
  return all;
}
Numbers counted(std::int64_t first, std::int64_t n, std::int64_t step = 1) {
  Numbers list;
  for (std::int64_t i = 0; i < n; ++i) list.push_back(first + i * step);
  return list;
}
Numbers joined(Numbers a, const Numbers& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("a list of few runs is told by them, any other by its elements") {
  const auto told = [](const Numbers& list) {
    local::cuda::Numbers n = local::cuda::runs_of(list);
    if (n.runs == 0) n.list = list.data();
    for (std::size_t i = 0; i < list.size(); ++i)
      if (n[static_cast<std::int64_t>(i)] != list[i]) return -1;
    return n.runs;
  };
  CHECK(told({}) == 1);
  CHECK(told({7}) == 1);
  CHECK(told(counted(5, 100)) == 1);
  CHECK(told(counted(99, 100, -1)) == 1);
  CHECK(told(joined(counted(90, 10), counted(0, 90))) == 2);
  CHECK(told(joined(Numbers(3, -1), joined(counted(0, 9), Numbers(4, -1)))) == 3);
  CHECK(told(joined(counted(0, 5), joined(counted(20, 5), joined(counted(40, 5), counted(80, 5))))) == 4);
  CHECK(told({1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}) == 0);
}

TEST_CASE("take_grid on a device moves every type as the CPU does") {
  const Shape in{5, 33, 40};
  const std::vector<Numbers> flip{counted(4, 5, -1), counted(0, 33), counted(39, 40, -1)};
  const std::vector<Numbers> pad{joined({-1, -1}, counted(0, 5)), joined(counted(3, 30), {-1}), joined({-1}, joined(counted(0, 40), {-1, -1}))};
  const std::vector<Numbers> passing{counted(0, 5), counted(0, 33), joined(counted(7, 33), counted(0, 7))};
  const std::vector<Numbers> wild{{3, 1, 4, 1, 0, 2, -1, 3, 1, 0, 4}, {32}, {0, 5, 3, 1, 2, 39, 38, -1, 2, 4, 8, 16}};
  for (const Dtype dtype : all_dtypes())
    for (const Lie lie : kLies)
      for (const auto& from : {flip, pad, passing, wild}) {
        Shape out;
        for (const Numbers& n : from) out.push_back(static_cast<std::int64_t>(n.size()));
        compare({random_tensor(in, dtype, 1)}, out, dtype, lie, lie,
                [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::take_grid(t[0], from, 3, result); });
      }
  // Rows of bytes, of which several are moved at once where they lie so.
  const std::vector<Numbers> rows{{2, -1, 0, 1, 1}, counted(2, 3, -1), counted(0, 4), counted(0, 48)};
  for (const Dtype dtype : all_dtypes())
    for (const Lie lie : kLies)
      compare({random_tensor({3, 3, 4, 48}, dtype, 1)}, {5, 3, 4, 48}, dtype, lie, lie,
              [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::take_grid(t[0], rows, 1, result); });
  compare({random_tensor({}, Dtype::f32, 1)}, {}, Dtype::f32, Lie::row_major, Lie::row_major,
          [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::take_grid(t[0], {}, 3, result); });
  compare({random_tensor({0, 3}, Dtype::f32, 1)}, {4, 3}, Dtype::f32, Lie::row_major, Lie::row_major,
          [&](const std::vector<Tensor>& t, const Tensor& result) {
            kernels::take_grid(t[0], std::vector<Numbers>{Numbers(4, -1), counted(0, 3)}, 1, result);
          });
}

TEST_CASE("add_windows on a device adds the windows over each position in order") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8})
    for (const Lie lie : kLies)
      for (const auto& [step, size, first] : {std::array<std::int64_t, 3>{1, 3, 0}, {2, 3, -1}, {4, 2, 0}, {3, 7, 2}})
        compare({random_tensor({3, 9, 5, size}, dtype, 2)}, {3, 30, 5}, dtype, lie, Lie::row_major,
                [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::add_windows(t[0], 1, step, first, result); });
  compare({random_tensor({3, 0, 2}, Dtype::f32, 2)}, {3, 4}, Dtype::f32, Lie::row_major, Lie::row_major,
          [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::add_windows(t[0], 1, 1, 0, result); });
}

TEST_CASE("rotary on a device turns as the CPU does, for tables of both widths and any strides") {
  for (const Dtype dtype : kFloating)
    for (const Lie lie : kLies)
      for (const std::int64_t d : {2, 6, 32, 64, 130})
        for (const std::int64_t columns : {d, d / 2})
          for (const bool inverse : {false, true})
            compare({random_tensor({2, 3, 9, d}, dtype, 3), random_tensor({9, columns}, dtype, 4), random_tensor({9, columns}, dtype, 5)},
                    {2, 3, 9, d}, dtype, lie, lie == Lie::shifted ? lie : Lie::row_major,
                    [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::rotary(t[0], t[1], t[2], inverse, result); });
}

TEST_CASE("rotary_table on a device has the CPU's angles") {
  const std::vector<local::GlobalRun> rows{{0, 70}, {5000, 30}}, columns{{3, 29}},
      scattered{{5, 1}, {1, 1}, {4, 1}, {1, 1}, {5, 1}, {9, 1}, {2, 0}, {2, 1}, {6, 1}};
  for (const Dtype dtype : kFloating)
    for (const bool sine : {false, true}) {
      compare({}, {100, 29}, dtype, Lie::row_major, Lie::row_major, [&](const auto&, const Tensor& result) {
        kernels::rotary_table({.head_dim = 64, .theta = 10000, .sine = sine, .rows = rows, .columns = columns}, result);
      });
      compare({}, {8, 8}, dtype, Lie::row_major, Lie::row_major, [&](const auto&, const Tensor& result) {
        kernels::rotary_table({.head_dim = 20, .theta = 500, .sine = sine, .rows = scattered, .columns = scattered}, result);
      });
    }
}

TEST_CASE("averages of windows and their gradients on a device are the CPU's") {
  // Windows that overlap, leave gaps, are empty, and differ in size.
  const cpu::Windows y{{0, 0, 2, 3, 5, 6}, {2, 3, 5, 5, 5, 9}, {2, 4, 3, 2, 1, 3}}, x{{0, 4, 4, 8}, {5, 5, 12, 13}, {5, 1, 8, 6}};
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8})
    for (const double divisor : {0.0, 3.0})
      compare({random_tensor({2, 3, 9, 13}, dtype, 6)}, {2, 3, 6, 4}, dtype, Lie::shifted, Lie::row_major,
              [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::average_windows(t[0], y, x, divisor, result); });
  for (const Dtype dtype : kFloating)
    for (const double divisor : {0.0, -3.0})
      compare({random_tensor({2, 3, 6, 4}, dtype, 6)}, {2, 3, 9, 13}, dtype, Lie::shifted, Lie::row_major,
              [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::average_windows_backward(t[0], y, x, divisor, result); });
  compare({random_tensor({0, 9, 13}, Dtype::f32, 6)}, {0, 6, 4}, Dtype::f32, Lie::row_major, Lie::row_major,
          [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::average_windows(t[0], y, x, 0, result); });
}

TEST_CASE("maxima of windows, their indices and the gradient on a device are the CPU's") {
  if (no_device()) return;
  struct Case {
    cpu::MaxWindow y, x;
    std::int64_t rows, columns;
  };
  const cpu::PlanePart part{.top = 2, .left = 1, .width = 20};
  for (const Case& c : {Case{{2, 2, 0, 1}, {2, 2, 0, 1}, 4, 6}, Case{{3, 1, 1, 1}, {3, 2, 1, 1}, 9, 7}, Case{{3, 2, 1, 2}, {2, 1, 1, 3}, 3, 12}})
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::i64, Dtype::i32, Dtype::u8}) {
      Tensor image = random_tensor({2, 3, 9, 13}, dtype, 7);
      if (dtype == Dtype::f32) image.values<float>()[20] = image.values<float>()[150] = std::nanf("");
      const Shape result{2, 3, c.rows, c.columns};
      const Tensor out = Tensor::empty(result, dtype), indices = Tensor::empty(result, Dtype::i64);
      const Tensor gpu_out = Tensor::empty(result, dtype, kGpu), gpu_indices = Tensor::empty(result, Dtype::i64, kGpu);
      kernels::max_windows(image, c.y, c.x, part, out, indices);
      kernels::max_windows(image.to(kGpu), c.y, c.x, part, gpu_out, gpu_indices);
      INFO(to_string(dtype), ", ", c.rows, " rows");
      CHECK(worst(out, gpu_out) == 0);
      CHECK(worst(indices, gpu_indices) == 0);
      if (!info(dtype).floating) continue;
      compare({random_tensor(result, dtype, 8), indices}, image.shape(), dtype, Lie::row_major, Lie::row_major,
              [&](const std::vector<Tensor>& t, const Tensor& sums) { kernels::add_at_indices(t[0], t[1], c.y, c.x, part, sums); });
    }
}

TEST_CASE("positions of planes are taken and added to on a device as on the CPU") {
  const cpu::Grid three{Numbers{0, 0, 1, 2, 2, 2}, Numbers{3, 1, 0}, Numbers{0, 1, 1, 2, 3, 3, 4, 5, 5, 6}};
  const cpu::Grid one{Numbers{}, Numbers{}, three[2]}, outside{Numbers{}, Numbers{-1, 0, 9, 2, 2}, Numbers{5, 5, -2, 1, 7}};
  for (const Dtype dtype : all_dtypes()) {
    compare({random_tensor({2, 2, 3, 4, 7}, dtype, 9)}, {2, 2, 6, 3, 10}, dtype, Lie::shifted, Lie::row_major,
            [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::take_positions(t[0], 3, three, result); });
    compare({random_tensor({3, 7}, dtype, 9)}, {3, 10}, dtype, Lie::shifted, Lie::row_major,
            [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::take_positions(t[0], 1, one, result); });
  }
  for (const Dtype dtype : kFloating) {
    compare({random_tensor({2, 2, 6, 3, 10}, dtype, 9)}, {2, 2, 3, 4, 7}, dtype, Lie::row_major, Lie::shifted,
            [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::add_positions(t[0], 3, three, result); });
    compare({random_tensor({3, 5, 5}, dtype, 9)}, {3, 4, 6}, dtype, Lie::row_major, Lie::shifted,
            [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::add_positions(t[0], 2, outside, result); });
  }
}

TEST_CASE("sums of bags and their gradients on a device are the CPU's, with rows that are elsewhere, empty bags and rows that many share") {
  for (const auto& [bags, size, rows, width] :
       {std::array<std::int64_t, 4>{5, 3, 7, 4}, {300, 5, 3, 16}, {4, 1, 40, 33}, {0, 3, 5, 8}, {3, 0, 5, 8}}) {
    Tensor at = Tensor::empty({bags, size}, Dtype::i64);
    std::int64_t i = 0;
    for (std::int64_t& p : at.values<std::int64_t>()) p = i++ * 7 % (rows + 1) - 1;
    for (const Dtype dtype : kFloating)
      for (const bool shared : {false, true})
        for (const Lie lie : {Lie::row_major, Lie::shifted}) {
          const Tensor weight = random_tensor({rows, width}, dtype, 1), share = random_tensor({bags, size}, dtype, 2),
                       grad = random_tensor({bags, width}, dtype, 3);
          compare({at, weight, share}, {bags, width}, dtype, lie, lie,
                  [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::sum_bags(t[0], t[1], shared ? &t[2] : nullptr, result); });
          compare({at, grad, share}, {rows, width}, dtype, lie, lie, [&](const std::vector<Tensor>& t, const Tensor& result) {
            kernels::sum_bags_backward(t[0], t[1], shared ? &t[2] : nullptr, result);
          });
          compare({at, grad, weight}, {bags, size}, dtype, lie, lie,
                  [&](const std::vector<Tensor>& t, const Tensor& result) { kernels::bag_dots(t[0], t[1], t[2], result); });
        }
  }
}

TEST_CASE("kernels that get lists of positions never wait for the host") {
  if (no_device()) return;
  const Tensor in = random_tensor({3, 7}, Dtype::f32, 1).to(kGpu), out = Tensor::empty({3, 12}, Dtype::f32, kGpu);
  const Numbers wild{0, 5, 3, 1, 2, 6, 0, 1, 2, 4, 6, 1};
  without_waits([&] {
    kernels::take_grid(in, std::vector<Numbers>{counted(0, 3), wild}, 3, out);
    kernels::take_positions(in, 1, {Numbers{}, Numbers{}, wild}, out);
    kernels::add_positions(out, 1, {Numbers{}, Numbers{}, wild}, in);
  });
}
