// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/mma.h"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "local/cuda/launch.h"

using namespace dtensor;
using namespace dtensor::local::cuda;

namespace {

float number(int row, int column) { return static_cast<float>((row * 5 + column * 3) % 17 - 8); }

// c = a x b for a [16, 16] and b [16, 8], the fragments filled by what they are said to hold, or from shared memory that holds b as rows or as columns.
template <class T>
struct Product {
  enum From { words, columns, rows } from;
  float* out;
  DTENSOR_DEVICE void operator()(const Block& block) const {
    const int g = block.lane() / 4, t = block.lane() % 4;
    const auto a_at = [](int r, int k) { return number(r, k); };
    const auto b_at = [](int k, int n) { return number(k + 7, n + 2); };
    const RowsFragment a{{pack<T>(a_at(g, 2 * t), a_at(g, 2 * t + 1)), pack<T>(a_at(g + 8, 2 * t), a_at(g + 8, 2 * t + 1)),
                          pack<T>(a_at(g, 2 * t + 8), a_at(g, 2 * t + 9)), pack<T>(a_at(g + 8, 2 * t + 8), a_at(g + 8, 2 * t + 9))}};
    ColumnsFragment b{{pack<T>(b_at(2 * t, g), b_at(2 * t + 1, g)), pack<T>(b_at(2 * t + 8, g), b_at(2 * t + 9, g))}};
    if (from != words) {
      // Matrices 0 and 1 are the halves of b; 2 and 3 are not used.
      T* memory = block.shared<T>();
      if (from == rows) {
        for (int i = block.lane(); i < 128; i += kWarp) memory[i] = T(b_at(i / 8, i % 8));
      } else {
        for (int i = block.lane(); i < 128; i += kWarp) memory[i] = T(b_at(i / 64 * 8 + i % 8, i / 8 % 8));
      }
      block.sync();
      std::uint32_t loaded[4];
      const T* row = memory + block.lane() % 16 * 8;
      if (from == rows) load_matrices<true>(block, row, loaded);
      else load_matrices<false>(block, row, loaded);
      b = {{loaded[0], loaded[1]}};
    }
    SumsFragment c{{1, 1, 1, 1}};
    multiply_add<T>(block, a, b, c);
    for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c.at[i];
  }
};

struct CopyThenRead {
  const std::uint32_t* in;
  std::uint32_t* out;
  bool waits;
  DTENSOR_DEVICE void operator()(const Block& block) const {
    auto* memory = block.shared<std::uint32_t>();
    AsyncCopies copies;
    copies.begin<16>(memory + block.thread * 4, in + block.thread * 4, block.thread % 5 * 4);
    if (waits) copies.wait();
    block.sync();
    for (int i = block.thread; i < block.threads * 4; i += block.threads) out[i] = memory[i];
    block.sync();
  }
};

}  // namespace

TEST_CASE_TEMPLATE("a warp multiplies matrices whose fragments lie as the header says", T, BFloat16, Half) {
  for (const auto from : {Product<T>::words, Product<T>::columns, Product<T>::rows}) {
    std::vector<float> out(128, -1);
    launch_blocks("product", 1, kWarp, 256, nullptr, Product<T>{from, out.data()});
    for (int r = 0; r < 16; ++r)
      for (int c = 0; c < 8; ++c) {
        float expected = 1;  // small integers: exact in any order
        for (int k = 0; k < 16; ++k) expected += number(r, k) * number(k + 7, c + 2);
        REQUIRE(out[static_cast<std::size_t>(r * 8 + c)] == expected);
      }
  }
}

TEST_CASE("copies are there after a wait, with zeros behind them, and not before") {
  std::vector<std::uint32_t> in(256), out(256);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint32_t>(i + 1);
  launch_blocks("copy", 1, 64, 1024, nullptr, CopyThenRead{in.data(), out.data(), true});
  for (std::size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == (i % 4 < i / 4 % 5 ? i + 1 : 0));
  launch_blocks("copy", 1, 64, 1024, nullptr, CopyThenRead{in.data(), out.data(), false});
  std::size_t there = 0;
  for (std::size_t i = 0; i < out.size(); ++i) there += out[i] == i + 1;
  CHECK(there == 0);
}

TEST_CASE("two numbers are packed the first below, rounded to nearest even") {
  CHECK(pack<BFloat16>(1.0f, -2.0f) == 0xc0003f80u);
  CHECK(pack<BFloat16>(1.00390625f, 1.01171875f) == 0x3f823f80u);
  CHECK(pack<Half>(1.0f, 65536.0f) == 0x7c003c00u);
}
