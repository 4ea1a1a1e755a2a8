// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/window.h"

#include <utility>

#include "comm/nccl/group.h"

namespace dtensor::comm::nccl {
namespace {

constexpr std::size_t kAlign = 256;

std::size_t aligned(std::size_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// What NCCL's symmetric kernels carry: sums of floating types but f64, and what is only copied.
bool fits(const Prepared& o, const Exchange& e, CtaPolicy policy) {
  switch (e.verb) {
    case Verb::all_gather:
      return true;
    case Verb::all_to_all:
      return policy == CtaPolicy::zero;  // by copy engines alone
    case Verb::reduce_scatter:
    case Verb::all_reduce:
      return info(o.dtype).floating && o.dtype != Dtype::f64 && o.lowered->in_nccl.op == ReduceOp::sum && o.lowered->in_nccl.divisor == 1;
    default:
      return false;
  }
}

// Calls f(operation, exchange, bytes in, bytes out) for all that goes through a window of `bytes`.
template <class F>
void each_staged(const Launch& launch, int members, std::size_t bytes, CtaPolicy policy, const F& f) {
  std::size_t used = 0;
  const auto n = static_cast<std::size_t>(members);
  for (const auto which : {&Lowered::first, &Lowered::second})
    for (const Prepared& o : launch.operations)
      for (const Exchange& e : (*o.lowered).*which) {
        if (!fits(o, e, policy)) continue;
        const std::size_t one = static_cast<std::size_t>(e.count) * static_cast<std::size_t>(info(o.dtype).bytes);
        const std::size_t in = e.verb == Verb::reduce_scatter || e.verb == Verb::all_to_all ? one * n : one;
        const std::size_t out = e.verb == Verb::all_gather || e.verb == Verb::all_to_all ? one * n : one;
        const std::size_t need = aligned(in) + aligned(out);
        if (in + out > kStagedBytes || used + need > bytes) continue;
        f(o, e, in, out);
        used += need;
      }
}

}  // namespace

Window::Open::~Open() {
  if (memory != nullptr) static_cast<void>(free_memory(memory));
}

bool Window::carries(const Launch& launch, int members, std::size_t bytes, CtaPolicy policy) {
  bool any = false;
  each_staged(launch, members, bytes, policy, [&](const auto&...) { any = true; });
  return any;
}

Result Window::open(std::size_t bytes, Comm comm) {
  auto open = std::make_unique<Open>();
  if (const Result r = allocate_memory(open->memory, bytes); r != Result::success) {
    open->memory = nullptr;
    return r;
  }
  open->bytes = bytes;
  open_ = std::move(open);
  return open_window(open_->handle, open_->memory, bytes, comm);
}

std::vector<Slots> Window::slots(const Launch& launch, int members, CtaPolicy policy) const {
  std::vector<Slots> all;
  auto* next = static_cast<std::byte*>(open_->memory);
  each_staged(launch, members, open_->bytes, policy, [&](const Prepared& o, const Exchange& e, std::size_t in, std::size_t out) {
    all.push_back({&o, &e, next, next + aligned(in), in, out});
    next += aligned(in) + aligned(out);
  });
  return all;
}

Result Window::close(Comm comm) { return opened() ? close_window(std::exchange(open_->handle, nullptr), comm) : Result::success; }

}  // namespace dtensor::comm::nccl
