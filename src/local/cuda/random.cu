// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <deque>
#include <vector>

#include "local/cuda/exact.h"
#include "local/cuda/launch.h"
#include "local/cuda/pieces.h"
#include "local/cuda/random_state.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/runs.h"
#include "local/cuda/table.h"
#include "local/formulas/random.h"
#include "local/kernels/random.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

// Where local elements lie in the global tensor. Trailing dimensions that are held whole are folded into the one before.
struct RandomPlan {
  RandomState state;
  std::int64_t rows = 1, row = 1;  // of the local tensor, and elements of one
  RunMap columns;
  int outer_dims = 0;  // innermost first
  RunMap outer[kMaxDims];
  std::int64_t outer_sizes[kMaxDims] = {}, outer_strides[kMaxDims] = {};

  DTENSOR_DEVICE std::int64_t row_start(std::int64_t r) const {
    std::int64_t start = 0;
    for (int d = 0; d < outer_dims; ++d) {
      start += outer[d].to_global(r % outer_sizes[d]) * outer_strides[d];
      r /= outer_sizes[d];
    }
    return start;
  }
};

class PlannedRuns {
 public:
  RandomPlan plan;
  PlannedRuns(RankDevice& device, const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map) {
    plan.state = random_state(seed, call);
    const auto whole = [&map](int d) {
      const auto& runs = map.runs[static_cast<std::size_t>(d)];
      return runs.size() == 1 && runs[0].begin == 0 && runs[0].length == map.global[d];
    };
    std::int64_t inner = 1;
    int last = out.ndim() - 1;
    for (; last > 0 && whole(last); --last) inner *= map.global[last];
    std::vector<GlobalRun> columns{{0, 1}};
    if (last >= 0) {
      const auto& runs = map.runs[static_cast<std::size_t>(last)];
      columns.assign(runs.begin(), runs.end());
    }
    for (GlobalRun& r : columns) r.begin *= inner, r.length *= inner;
    plan.row = 0;
    for (const GlobalRun& r : columns) plan.row += r.length;
    plan.columns = kept_.emplace_back(device, std::span<const GlobalRun>(columns), RunOrder::of_local).map();
    std::int64_t stride = inner * (last >= 0 ? map.global[last] : 1);
    for (int d = last - 1; d >= 0; --d) {
      plan.outer[plan.outer_dims] = kept_.emplace_back(device, map.runs[static_cast<std::size_t>(d)], RunOrder::of_local).map();
      plan.outer_sizes[plan.outer_dims] = out.shape()[d];
      plan.outer_strides[plan.outer_dims++] = stride;
      plan.rows *= out.shape()[d];
      stride *= map.global[d];
    }
  }

 private:
  std::deque<RunsOnDevice> kept_;
};

// A thread makes 16 bytes of a row. Make: (words of a pair) -> its two values.
template <class T, class Make>
struct FillRandom {
  static constexpr std::int64_t kGroup = 16 / sizeof(T);
  RandomPlan plan;
  std::int64_t groups;  // of a row
  T* out;
  Make make;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t r = plan.rows == 1 ? 0 : i / groups, column = (i - r * groups) * kGroup;
    const std::int64_t left = plan.row - column, count = left < kGroup ? left : kGroup, start = plan.row_start(r);
    const std::uint64_t seed = plan.state.seed(), call = plan.state.call();
    alignas(16) T values[kGroup] = {};
    T pair[2];
    std::int64_t known = -1;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t at = start + plan.columns.to_global(column + k);
      if (at / 2 != known) {
        known = at / 2;
        make(formulas::random_words(seed, call, static_cast<std::uint64_t>(known)), pair);
      }
      values[k] = pair[at % 2];
    }
    T* to = out + r * plan.row + column;
    if (count == kGroup && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) return copy_piece<16>(to, values);
    for (std::int64_t k = 0; k < count; ++k) to[k] = values[k];
  }
};

template <class T>
struct Uniform {
  double low, range;
  DTENSOR_DEVICE void operator()(const formulas::WordPair& words, T* values) const {
    for (int k = 0; k < 2; ++k) values[k] = convert<T>(static_cast<double>(Exact(low) + Exact(formulas::unit_of<T>(words.of[k])) * Exact(range)));
  }
};
struct Root {
  DTENSOR_DEVICE Exact operator()(Exact x) const { return Exact::root(x); }
};
template <class T>
struct Normal {
  double mean, std;
  DTENSOR_DEVICE void operator()(const formulas::WordPair& words, T* values) const {
    double pair[2];
    formulas::normal_pair<Exact>(words.of[0], words.of[1], mean, std, Root{}, pair);
    for (int k = 0; k < 2; ++k) values[k] = convert<T>(pair[k]);
  }
};
// One kernel per size of an element.
template <class Bits>
struct Keep {
  double probability;
  Bits kept;
  DTENSOR_DEVICE void operator()(const formulas::WordPair& words, Bits* values) const {
    for (int k = 0; k < 2; ++k) values[k] = formulas::unit(words.of[k]) < probability ? kept : Bits{};
  }
};
template <class T>
struct Integers {
  std::uint64_t low, range;  // range 0: the words themselves
  DTENSOR_DEVICE void operator()(const formulas::WordPair& words, T* values) const {
    for (int k = 0; k < 2; ++k)
      values[k] = convert<T>(static_cast<std::int64_t>(range == 0 ? words.of[k] : low + formulas::high_product(words.of[k], range)));
  }
};

// Fills a row-major tensor by f(row-major tensor).
template <class F>
void into(const Tensor& out, const F& f) {
  out.bump_version();
  if (out.numel() == 0) return;
  if (out.is_contiguous()) return f(out);
  const Tensor rows = Tensor::empty(out.shape(), out.dtype(), out.device());
  f(rows);
  out.copy_(rows);
}
template <class T, class Make>
void generate(const char* name, const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, const Make& make) {
  RankDevice& device = rank_device(out);
  const PlannedRuns runs(device, out, seed, call, map);
  using Fill = FillRandom<T, Make>;
  const std::int64_t groups = (runs.plan.row + Fill::kGroup - 1) / Fill::kGroup;
  launch_elements(name, runs.plan.rows * groups, device.current, Fill{runs.plan, groups, out.raw_as<T>(), make});
}

void fill_uniform(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double low, double high) {
  check_random(out, map, "uniform", true);
  into(out, [&](const Tensor& rows) {
    visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) { generate<T>("uniform", rows, seed, call, map, Uniform<T>{low, high - low}); });
  });
}

void fill_normal(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double mean, double std) {
  check_random(out, map, "normal", true);
  into(out, [&](const Tensor& rows) {
    visit_floating(out.dtype(), [&]<class T>(std::type_identity<T>) { generate<T>("normal", rows, seed, call, map, Normal<T>{mean, std}); });
  });
}

template <class T>
std::uint64_t bits_of(const Scalar& value) {
  const T converted = convert<T>(value);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &converted, sizeof(T));
  return bits;
}
void fill_keep_mask(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, double probability, const Scalar& kept) {
  check_random(out, map, "keep_mask", false);
  std::uint64_t bits = 0;
  visit_dtype(out.dtype(), [&]<class T>(std::type_identity<T>) { bits = bits_of<T>(kept); });
  into(out, [&](const Tensor& rows) {
    const auto run = [&]<class Bits>(Bits value) { generate<Bits>("keep mask", rows, seed, call, map, Keep<Bits>{probability, value}); };
    switch (info(out.dtype()).bytes) {
      case 1:
        return run(static_cast<std::uint8_t>(bits));
      case 2:
        return run(static_cast<std::uint16_t>(bits));
      case 4:
        return run(static_cast<std::uint32_t>(bits));
      default:
        return run(bits);
    }
  });
}

void fill_integers(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map, std::int64_t low, std::int64_t high) {
  check_range(low, high);
  check_random(out, map, "integers", false);
  const std::uint64_t first = static_cast<std::uint64_t>(low), range = static_cast<std::uint64_t>(high) - first;
  into(out, [&](const Tensor& rows) {
    visit_dtype(out.dtype(), [&]<class T>(std::type_identity<T>) { generate<T>("integers", rows, seed, call, map, Integers<T>{first, range}); });
  });
}

void fill_words(const Tensor& out, std::uint64_t seed, std::uint64_t call, const GlobalMap& map) {
  check_words(out);
  check_random(out, map, "words", false);
  into(out, [&](const Tensor& rows) { generate<std::int64_t>("words", rows, seed, call, map, Integers<std::int64_t>{0, 0}); });
}

}  // namespace

void install_random() {
  kernels::fill_uniform.cuda = fill_uniform;
  kernels::fill_normal.cuda = fill_normal;
  kernels::fill_keep_mask.cuda = fill_keep_mask;
  kernels::fill_integers.cuda = fill_integers;
  kernels::fill_words.cuda = fill_words;
}

}  // namespace dtensor::local::cuda
