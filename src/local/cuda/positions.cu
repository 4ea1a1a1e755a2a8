// SPDX-License-Identifier: Apache-2.0
// Index values as positions, and what is made of positions alone.
#include <cstdint>
#include <span>
#include <string>

#include "local/cuda/atomics.h"
#include "local/cuda/launch.h"
#include "local/cuda/pieces.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/runs.h"
#include "local/cuda/slices.h"
#include "local/cuda/table.h"
#include "local/kernels/embedding.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

template <class Index>
struct Resolve {
  const Index* index;
  std::int64_t* at;
  std::int64_t size;
  RunMap runs;
  bool from_end;
  Fault* fault;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t given = index[i], value = from_end && given < 0 ? given + size : given;
    const bool inside = value >= 0 && value < size;
    if (!inside) raise(fault, given);
    at[i] = inside ? runs.to_local(value) : cpu::kElsewhere;
  }
};

// What outlives the call, for the text of its fault.
struct OutOfRange {
  std::string op;
  const char* what;
  std::int64_t size;
  bool from_end;
  std::string operator()(std::int64_t value) const { return cpu::PositionsCall{op, what, size, {}, from_end}.out_of_range(value); }
};

Tensor resolve_positions(const Tensor& index, const cpu::PositionsCall& c) {
  const Tensor values = index.contiguous(), at = Tensor::empty(index.shape(), Dtype::i64, index.device());
  if (at.numel() == 0) return at;
  RankDevice& device = rank_device(index);
  const RunsOnDevice runs(device, c.runs, RunOrder::of_begin);
  Fault* fault = device.faults.expect(device.current, OutOfRange{std::string(c.op), c.what, c.size, c.from_end});
  visit_integral(values.dtype(), [&]<class T>(std::type_identity<T>) {
    launch_elements("positions", at.numel(), device.current,
                    Resolve<T>{values.raw_as<const T>(), at.raw_as<std::int64_t>(), c.size, runs.map(), c.from_end, fault});
  });
  return at;
}

struct AddPositions {
  StridedLoop<2> loop;
  std::int64_t* base;
  const std::int64_t* at;
  std::int64_t stride;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    std::int64_t to = 0, from = 0;
    for (int d = loop.ndim - 1; d >= 0; --d) {
      const std::int64_t rest = d == 0 ? 0 : quotient(i, loop.sizes[d]), k = i - rest * loop.sizes[d];
      to += k * loop.strides[0][d];
      from += k * loop.strides[1][d];
      i = rest;
    }
    base[to] = base[to] == cpu::kElsewhere || at[from] == cpu::kElsewhere ? cpu::kElsewhere : base[to] + at[from] * stride;
  }
};
void add_positions_to(const Tensor& at, std::int64_t stride, const Tensor& base) {
  const auto loop = strided_loop<2>(base.shape(), {base.strides(), at.strides()});
  launch_elements("add positions", loop.numel, rank_device(base).current,
                  AddPositions{loop, base.raw_as<std::int64_t>(), at.raw_as<const std::int64_t>(), stride});
}

struct CountPositions {
  const std::int64_t* at;
  std::int64_t* counts;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    if (at[i] != cpu::kElsewhere) atomic_add(counts + at[i], std::int64_t{1});
  }
};
void count_positions(const Tensor& at, const Tensor& counts) {
  if (counts.numel() == 0) return;
  RankDevice& device = rank_device(counts);
  set_bytes(counts.raw(), 0, static_cast<std::size_t>(counts.bytes()), device.current);
  launch_elements("count positions", at.numel(), device.current, CountPositions{at.raw_as<const std::int64_t>(), counts.raw_as<std::int64_t>()});
}

struct MarkPositions {
  const std::int64_t* at;
  std::int64_t* out;
  std::int64_t width;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t row = quotient(i, width);
    out[i] = at[row] == i - row * width ? 1 : 0;
  }
};
void mark_positions(const Tensor& at, const Tensor& out) {
  if (out.numel() == 0) return;
  launch_elements("mark positions", out.numel(), rank_device(out).current,
                  MarkPositions{at.raw_as<const std::int64_t>(), out.raw_as<std::int64_t>(), out.numel() / at.numel()});
}

}  // namespace

void install_positions() {
  kernels::resolve_positions.cuda = resolve_positions;
  kernels::add_positions_to.cuda = add_positions_to;
  kernels::count_positions.cuda = count_positions;
  kernels::mark_positions.cuda = mark_positions;
}

}  // namespace dtensor::local::cuda
