// SPDX-License-Identifier: Apache-2.0
#include "local/cuda/library_attention.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/environment.h"
#include "base/hash.h"
#include "local/cuda/cudnn_state.h"
#include "local/cuda/launched.h"

namespace dtensor::local::cuda {
namespace {

struct Hash {
  std::size_t operator()(const AttentionShape& s) const noexcept {
    std::uint64_t h = static_cast<std::uint64_t>(s.dtype) * 2 + s.causal;
    const auto add = [&h](std::int64_t x) { h = base::mix(h, static_cast<std::uint64_t>(x)); };
    for (std::int64_t x : {s.b, s.h, s.groups, s.t, s.s, s.d, s.e}) add(x);
    for (const auto* list : {&s.query, &s.key, &s.value})
      for (std::int64_t x : *list) add(x);
    return h;
  }
};
constexpr std::int64_t kMostWidth = 256;  // what is wider goes to engines that are made for nothing in particular
using Plans = PlanCache<AttentionShape, CudnnPlan, Hash>;

bool wanted() {
  static const bool asked = base::env_bool("DTENSOR_CUDNN_ATTENTION").value_or(false);
  return asked && uses_cudnn();
}

bool one_run(GlobalRuns runs) {
  const auto apart = [](const GlobalRun& a, const GlobalRun& b) { return b.begin != a.begin + a.length; };
  return std::adjacent_find(runs.begin(), runs.end(), apart) == runs.end();
}
// Row i sees the keys 0 .. i of those that are here.
bool sees_from_begin(const cpu::AttentionCall& c) {
  const std::int64_t first_key = c.columns.empty() ? 0 : c.columns.front().begin;
  return one_run(c.rows) && one_run(c.columns) && !c.rows.empty() && c.rows.front().begin + c.offset == first_key;
}
bool groups_side_by_side(const cpu::AttentionCall& c, std::int64_t groups) {
  const auto heads = static_cast<std::int64_t>(c.kv_heads.size());
  if (groups == 0 || heads % groups != 0) return false;
  for (std::int64_t h = 0; h < heads; ++h)
    if (c.kv_heads[static_cast<std::size_t>(h)] != h / (heads / groups)) return false;
  return true;
}
// Strides of the first three dims in elements; empty: not as cuDNN reads it.
std::optional<std::array<std::int64_t, 3>> strides_of(const Tensor& t) {
  constexpr std::int64_t kPack = 8;
  if (t.strides()[3] != 1 || t.shape()[3] % kPack != 0 || reinterpret_cast<std::uintptr_t>(t.raw()) % 16 != 0) return {};
  std::array<std::int64_t, 3> result{};
  for (int d = 0; d < 3; ++d) {
    // The stride of a dim of size 1 means nothing; cuDNN wants one that could be.
    const std::int64_t stride = t.shape()[d] == 1 ? t.shape()[3] : t.strides()[d];
    if (stride <= 0 || stride % kPack != 0) return {};
    result[static_cast<std::size_t>(d)] = stride;
  }
  return result;
}

}  // namespace

std::optional<AttentionShape> attention_shape(const cpu::AttentionCall& c, const Tensor& out, const Tensor& logsumexp) {
  const Tensor &q = c.query, &k = c.key, &v = c.value;
  if (info(q.dtype()).bytes != 2 || c.mask || c.logsumexp || out.dtype() != q.dtype() || q.numel() == 0 || k.numel() == 0 || v.numel() == 0)
    return {};
  if ((c.causal && !sees_from_begin(c)) || !groups_side_by_side(c, k.shape()[1])) return {};
  if (std::max(q.shape()[3], v.shape()[3]) > kMostWidth) return {};
  if (reinterpret_cast<std::uintptr_t>(out.raw()) % 16 != 0 || reinterpret_cast<std::uintptr_t>(logsumexp.raw()) % 16 != 0) return {};
  const auto query = strides_of(q), key = strides_of(k), value = strides_of(v);
  if (!query || !key || !value) return {};
  AttentionShape s{.dtype = q.dtype(), .causal = c.causal, .b = q.shape()[0], .h = q.shape()[1], .groups = k.shape()[1], .t = q.shape()[2]};
  s.s = k.shape()[2];
  s.d = q.shape()[3];
  s.e = v.shape()[3];
  s.query = *query;
  s.key = *key;
  s.value = *value;
  return s;
}

bool library_attention(const cpu::AttentionCall& call, RankDevice& d, const Tensor& out, const Tensor& logsumexp) {
  if (!wanted()) return false;
  const auto shape = attention_shape(call, out, logsumexp);
  CudnnLibrary* const library = shape ? cudnn_of(d.device) : nullptr;
  if (library == nullptr) return false;
  const auto plan = device_state<Plans>(d.device).find(*shape, [&] { return plan_attention(*library, *shape); });
  if (plan == nullptr) return false;
  AttentionPointers p{.query = call.query.raw(), .key = call.key.raw(), .value = call.value.raw(), .out = out.raw(), .logsumexp = logsumexp.raw()};
  std::optional<Scratch> workspace;
  if (const std::size_t bytes = workspace_of(*plan); bytes != 0) p.workspace = workspace.emplace(d, bytes).as<void>();
  if (!run_attention(*library, *plan, *shape, p, call.scale, d.current)) return false;
  check_launch("attention by cuDNN");
  return true;
}

}  // namespace dtensor::local::cuda
