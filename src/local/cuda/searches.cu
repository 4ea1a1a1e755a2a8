// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "local/cuda/reduction.h"
#include "local/cuda/table.h"
#include "local/kernels/reduce.h"

namespace dtensor::local::cuda {
namespace {

enum class Wanted : signed char { largest, smallest, equal };

// Row-major numbers of terms as global indices; in memory of the device.
struct GlobalTerms {
  int dims = 0;
  std::array<std::int64_t, kMaxDims> size{}, weight{}, first_run{};
  std::array<std::int64_t, kMaxDims> run_count{};
  const cpu::GlobalRun* runs = nullptr;
  [[gnu::noinline]] DTENSOR_DEVICE static std::int64_t of(const GlobalTerms& t, std::int64_t term) {
    std::int64_t global = 0;
    for (int k = t.dims - 1; k >= 0; --k) {
      const auto d = static_cast<std::size_t>(k);
      const std::int64_t rest = quotient(term, t.size[d]);
      std::int64_t i = term - rest * t.size[d];
      term = rest;
      for (std::int64_t r = t.first_run[d]; r < t.first_run[d] + t.run_count[d]; ++r) {
        if (i < t.runs[r].length) {
          global += (t.runs[r].global + i) * t.weight[d];
          break;
        }
        i -= t.runs[r].length;
      }
    }
    return global;
  }
};

// The first of the largest, smallest or equal elements. Of elements that are not numbers the first comes before all others.
template <class A>
struct Search {
  struct State {
    A value;
    std::int64_t index;  // -1: none
  };
  template <int kV>
  struct Lanes {
    State best[kV];
    A sought[kV];
  };
  Wanted wanted;
  const void* sought;  // of Wanted::equal
  Dtype sought_dtype;
  const GlobalTerms* terms;
  std::int64_t* output;

  DTENSOR_DEVICE static bool same(A a, A b) { return a == b || (a != a && b != b); }
  DTENSOR_DEVICE bool replaces(const State& by, const State& best) const {
    if (by.index < 0) return false;
    if (best.index < 0) return true;
    if (same(by.value, best.value)) return by.index < best.index;
    if (by.value != by.value || best.value != best.value) return by.value != by.value;
    return wanted == Wanted::largest ? by.value > best.value : by.value < best.value;
  }

  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t out, std::int64_t step, int n) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      lanes.best[j] = nothing();
      lanes.sought[j] = wanted == Wanted::equal && j < n ? element<A>(sought, sought_dtype, out + j * step) : A(0);
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const Numbers<A, kV>& v, int n, std::int64_t term, std::int64_t step) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      if (j >= n) break;
      State next{v.x[j], term + j * step};
      if (wanted == Wanted::equal) {
        if (!same(next.value, lanes.sought[j])) continue;
        next.index = GlobalTerms::of(*terms, next.index);
      }
      if (replaces(next, lanes.best[j])) lanes.best[j] = next;
    }
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const Numbers<A, kV>& v, std::int64_t term) const {
    add(lanes, v, kV, term, 0);
  }
  template <int kV>
  DTENSOR_DEVICE State fold(const Lanes<kV>& lanes) const {
    State s = lanes.best[0];
    DTENSOR_UNROLL
    for (int j = 1; j < kV; ++j) s = merge(s, lanes.best[j]);
    return s;
  }
  template <int kV>
  DTENSOR_DEVICE State lane(const Lanes<kV>& lanes, int j) const {
    return lanes.best[j];
  }
  DTENSOR_DEVICE State nothing() const { return {A(0), -1}; }
  DTENSOR_DEVICE State merge(const State& a, const State& b) const { return replaces(b, a) ? b : a; }
  DTENSOR_DEVICE State exchange(const Block& b, const State& s, int mask) const {
    return {b.from_lane_xor(s.value, mask), b.from_lane_xor(s.index, mask)};
  }
  DTENSOR_DEVICE void finish(const State& s, std::int64_t out) const {
    output[out] = s.index >= 0 ? s.index : wanted == Wanted::equal ? std::numeric_limits<std::int64_t>::max() : 0;
  }
};

void search(const char* name, const Tensor& input, const Shape& dims, Wanted wanted, const Tensor& value, const GlobalTerms* terms,
            const Tensor& output) {
  RankDevice& d = rank_device(input);
  const ReductionAxes axes(input.shape(), input.strides(), dims, true);
  visit_dtype(input.dtype(), [&]<class T>(std::type_identity<T>) {
    using A = std::conditional_t<kIsFloating<T>, Accumulate<T>, std::int64_t>;
    const Search<A> op{wanted, value ? value.raw() : nullptr, value ? value.dtype() : Dtype::f32, terms, output.raw_as<std::int64_t>()};
    // Elements of 16 to a vector would take many registers.
    if constexpr (sizeof(T) == 1) run_reduction(name, d, axes, AnySource<A>{input.raw(), input.dtype()}, op);
    else run_reduction(name, d, axes, TypedSource<T, A>{input.raw_as<const T>()}, op);
  });
}

void arg_extreme(const Tensor& input, const Shape& dims, bool largest, const Tensor& output) {
  search("arg_extreme", input, dims, largest ? Wanted::largest : Wanted::smallest, Tensor(), nullptr, output);
}

void first_equal(const Tensor& input, const Tensor& value, const Shape& dims, std::span<const cpu::GlobalIndices> indices, const Tensor& output) {
  std::vector<cpu::GlobalRun> runs;
  GlobalTerms terms;
  for (const cpu::GlobalIndices& of_dim : indices) {
    const auto k = static_cast<std::size_t>(terms.dims++);
    terms.size[k] = input.shape()[static_cast<int>(dims[static_cast<int>(k)])];
    terms.weight[k] = of_dim.weight;
    terms.first_run[k] = static_cast<std::int64_t>(runs.size());
    terms.run_count[k] = static_cast<std::int64_t>(of_dim.runs.size());
    runs.insert(runs.end(), of_dim.runs.begin(), of_dim.runs.end());
  }
  RankDevice& d = rank_device(input);
  Uploaded<cpu::GlobalRun> there(d, std::span<const cpu::GlobalRun>(runs));
  terms.runs = there.data();
  Uploaded<GlobalTerms> table(d, std::span<const GlobalTerms>(&terms, 1));
  search("first_equal", input, dims, Wanted::equal, value.contiguous(), table.data(), output);
}

}  // namespace

void install_searches() {
  kernels::arg_extreme.cuda = arg_extreme;
  kernels::first_equal.cuda = first_equal;
}

}  // namespace dtensor::local::cuda
