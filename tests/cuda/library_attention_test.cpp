// SPDX-License-Identifier: Apache-2.0
// Which attention goes to cuDNN and how it is said there. That results are those of the CPU is what attention_test shows, run with DTENSOR_CUDNN_ATTENTION=1.
#include "local/cuda/library_attention.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "emulated_cudnn.h"
#include "emulator.h"
#include "local/kernels/attention.h"
#include "local/runs_of.h"

using namespace dtensor;
using local::cpu::AttentionCall;

namespace {

const bool kAsked = setenv("DTENSOR_CUDNN_ATTENTION", "1", 1) == 0;
const Device kDevice = Device::cuda(0);

struct Call {
  std::int64_t b = 2, h = 4, groups = 2, t = 5, s = 7, d = 16, e = 8;
  Dtype dtype = Dtype::bf16;
  std::vector<std::int64_t> rows = {}, heads = {}, columns = {};  // empty: 0 .., groups side by side
  bool causal = false, mask = false, earlier = false, sums = false;
  std::int64_t offset = 0, behind = 0;  // elements before the operands' first

  Tensor operand(const Shape& shape) const {
    return Tensor::zeros({shape.numel() + behind}, dtype, kDevice).narrow(0, behind, shape.numel()).reshape(shape);
  }
  // Whether it was cuDNN that was asked.
  bool goes() {
    if (rows.empty()) rows.resize(static_cast<std::size_t>(t)), std::iota(rows.begin(), rows.end(), std::int64_t{0});
    if (heads.empty())
      for (std::int64_t i = 0; i < h; ++i) heads.push_back(i * groups / h);
    const auto row_runs = testing::runs_of(rows), column_runs = testing::runs_of(columns);
    AttentionCall call{.query = operand({b, h, t, d}),
                       .key = operand({b, groups, s, d}),
                       .value = operand({b, groups, s, e}),
                       .mask = {},
                       .scale = 0.25,
                       .causal = causal,
                       .offset = offset,
                       .rows = row_runs,
                       .kv_heads = heads,
                       .columns = column_runs};
    if (mask) call.mask = Tensor::zeros({t, s}, Dtype::boolean, kDevice);
    if (earlier) {
      call.out = Tensor::zeros({b, h, t, e}, Dtype::f32, kDevice);
      call.logsumexp = Tensor::zeros({b, h, t}, Dtype::f32, kDevice);
    }
    const Tensor out = Tensor::empty({b, h, t, e}, sums ? Dtype::f32 : dtype, kDevice),
                 logsumexp = Tensor::empty({b, h, t}, dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32, kDevice);
    local::cuda::emulated::taken_entries();
    local::kernels::attention(call, out, logsumexp);
    bool found = false;
    for (const auto& entry : local::cuda::emulated::taken_entries()) {
      CHECK(entry.what != "host waits");
      found = found || entry.what == "launch cuDNN attention";
    }
    return found;
  }
};

}  // namespace

TEST_CASE("attention of 16-bit operands goes to cuDNN where that was asked for, all else does not") {
  REQUIRE(kAsked);
  CHECK(Call{}.goes());
  CHECK(Call{.dtype = Dtype::f16}.goes());
  CHECK(Call{.t = 7, .causal = true}.goes());
  CHECK(Call{.causal = true}.goes());
  CHECK(Call{.groups = 4}.goes());
  CHECK(Call{.groups = 1}.goes());
  CHECK_FALSE(Call{.dtype = Dtype::f32}.goes());
  CHECK_FALSE(Call{.mask = true}.goes());
  CHECK_FALSE(Call{.earlier = true}.goes());
  CHECK_FALSE(Call{.sums = true}.goes());
  CHECK_FALSE(Call{.d = 12}.goes());
  CHECK_FALSE(Call{.e = 12}.goes());
  CHECK_FALSE(Call{.d = 264}.goes());
  CHECK_FALSE(Call{.behind = 1}.goes());
  CHECK_FALSE(Call{.heads = {0, 1, 0, 1}}.goes());
}

TEST_CASE("causal attention goes to cuDNN when the rows see keys from the first on") {
  CHECK(Call{.t = 3, .rows = {4, 5, 6}, .causal = true, .offset = -4}.goes());
  CHECK(Call{.t = 3, .s = 3, .rows = {4, 5, 6}, .columns = {4, 5, 6}, .causal = true}.goes());
  CHECK(Call{.t = 3, .rows = {6, 1, 3}}.goes());  // their order matters to masks alone
  CHECK_FALSE(Call{.causal = true, .offset = 2}.goes());
  CHECK_FALSE(Call{.t = 3, .rows = {0, 2, 3}, .causal = true}.goes());
  CHECK_FALSE(Call{.t = 3, .s = 3, .columns = {0, 1, 3}, .causal = true}.goes());
  CHECK_FALSE(Call{.t = 3, .rows = {4, 5, 6}, .causal = true}.goes());
}

TEST_CASE("what cuDNN refuses leaves attention to the library's kernels") {
  using local::cuda::emulated::CudnnRefusal;
  local::cuda::emulated::refuse_cudnn(CudnnRefusal::plans);
  CHECK_FALSE(Call{.t = 11, .s = 13}.goes());
  local::cuda::emulated::refuse_cudnn(CudnnRefusal::runs);
  CHECK_FALSE(Call{.t = 11, .s = 14}.goes());
  local::cuda::emulated::refuse_cudnn(CudnnRefusal::nothing);
  local::cuda::emulated::set_cudnn(false);
  CHECK_FALSE(Call{.t = 12, .s = 13}.goes());
  local::cuda::emulated::set_cudnn(true);
}

TEST_CASE("cuDNN is told the strides of what lies side by side in heads") {
  const Tensor all = Tensor::zeros({2, 6, 3, 4, 16}, Dtype::bf16, kDevice);  // [b, t, q k v, h, d]
  const auto part = [&](std::int64_t i) { return all.as_strided({2, 4, 6, 16}, {6 * 3 * 64, 16, 3 * 64, 1}, i * 64); };
  const std::vector<local::GlobalRun> rows{{0, 6}};
  const std::vector<std::int64_t> heads{0, 1, 2, 3};
  AttentionCall call{.query = part(0), .key = part(1), .value = part(2), .mask = {}, .causal = true, .rows = rows, .kv_heads = heads};
  const Tensor out = Tensor::empty({2, 4, 6, 16}, Dtype::bf16, kDevice), logsumexp = Tensor::empty({2, 4, 6}, Dtype::f32, kDevice);
  const auto shape = local::cuda::attention_shape(call, out, logsumexp);
  REQUIRE(shape);
  CHECK(shape->causal);
  CHECK(shape->groups == 4);
  for (const auto& strides : {shape->query, shape->key, shape->value}) CHECK(strides == std::array<std::int64_t, 3>{6 * 3 * 64, 16, 3 * 64});
}
