// SPDX-License-Identifier: Apache-2.0
// The one reduction of strided tensors over any dims, of which sums, extremes, moments and logarithms of sums are cases. A case is an Op:
//   State                        what is known of some terms; trivially copyable
//   Lanes<kV>                    of kV terms side by side (rows: of one output; columns: of kV outputs)
//   start(lanes, out, step, n)   output of lane j: out + j * step, j < n
//   add(lanes, values, n, term, step)  lane j < n takes its part of term `term + j * step`
//   add_columns(lanes, values, term)   every lane takes its part of one term; those without an output may take anything
//   fold(lanes, n), lane(lanes, j)     State of all lanes, of one
//   nothing()                    State of no term
//   merge(a, b)                  in an order that does not depend on when blocks run
//   exchange(block, state, mask) the state of the lane at that distance
//   finish(state, out)           writes the result
// A Source loads kV elements: load_whole(at) as they lie, of which values() makes Values, and load_some(at, stride, n), 0 beyond n.
#pragma once

#include <cstdint>
#include <type_traits>

#include "local/cuda/axes.h"
#include "local/cuda/launch.h"
#include "local/cuda/rank_device.h"
#include "local/strided.h"

namespace dtensor::local::cuda {

template <class T>
inline constexpr int kVectorOf = static_cast<int>(16 / sizeof(T));
template <class T>
struct alignas(16) Vector {
  T at[kVectorOf<T>];
};
inline bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

template <class Acc, int kN>
struct Numbers {
  Acc x[kN];
};

/// Elements of T, computed with in A.
template <class T, class A>
struct TypedSource {
  static constexpr int kV = kVectorOf<T>;
  using Values = Numbers<A, kV>;
  using Raw = Vector<T>;
  const T* base;
  bool aligned() const { return is_aligned(base); }
  DTENSOR_DEVICE Raw load_whole(std::int64_t at) const {
    as_vector(sizeof(Raw));
    return *reinterpret_cast<const Raw*>(base + at);
  }
  DTENSOR_DEVICE Values values(const Raw& raw) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = static_cast<A>(load(raw.at[j]));
    return v;
  }
  DTENSOR_DEVICE Values load_some(std::int64_t at, std::int64_t stride, int n) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = j < n ? static_cast<A>(load(base[at + j * stride])) : A(0);
    return v;
  }
};

template <class A>
DTENSOR_DEVICE A element(const void* base, Dtype dtype, std::int64_t at) {
  switch (dtype) {
    case Dtype::f64:
      return convert<A>(static_cast<const double*>(base)[at]);
    case Dtype::f32:
      return convert<A>(static_cast<const float*>(base)[at]);
    case Dtype::bf16:
      return convert<A>(static_cast<const BFloat16*>(base)[at]);
    case Dtype::f16:
      return convert<A>(static_cast<const Half*>(base)[at]);
    case Dtype::i64:
      return convert<A>(static_cast<const std::int64_t*>(base)[at]);
    case Dtype::i32:
      return convert<A>(static_cast<const std::int32_t*>(base)[at]);
    case Dtype::u8:
      return convert<A>(static_cast<const std::uint8_t*>(base)[at]);
    case Dtype::boolean:
      return convert<A>(static_cast<const bool*>(base)[at]);
  }
  return A(0);
}
template <class A>
DTENSOR_DEVICE void put_element(void* base, Dtype dtype, std::int64_t at, A value) {
  switch (dtype) {
    case Dtype::f64:
      static_cast<double*>(base)[at] = convert<double>(value);
      break;
    case Dtype::f32:
      static_cast<float*>(base)[at] = convert<float>(value);
      break;
    case Dtype::bf16:
      static_cast<BFloat16*>(base)[at] = convert<BFloat16>(value);
      break;
    case Dtype::f16:
      static_cast<Half*>(base)[at] = convert<Half>(value);
      break;
    case Dtype::i64:
      static_cast<std::int64_t*>(base)[at] = convert<std::int64_t>(value);
      break;
    case Dtype::i32:
      static_cast<std::int32_t*>(base)[at] = convert<std::int32_t>(value);
      break;
    case Dtype::u8:
      static_cast<std::uint8_t*>(base)[at] = convert<std::uint8_t>(value);
      break;
    case Dtype::boolean:
      static_cast<bool*>(base)[at] = convert<bool>(value);
      break;
  }
}

/// Elements of a type that is known when it runs, for pairs of types that are rare.
template <class A>
struct AnySource {
  static constexpr int kV = 4;
  using Values = Numbers<A, kV>;
  using Raw = Values;
  const void* base;
  Dtype dtype;
  bool aligned() const { return false; }
  DTENSOR_DEVICE Raw load_whole(std::int64_t at) const { return load_some(at, 1, kV); }
  DTENSOR_DEVICE Values values(const Raw& raw) const { return raw; }
  DTENSOR_DEVICE Values load_some(std::int64_t at, std::int64_t stride, int n) const {
    Values v;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) v.x[j] = j < n ? element<A>(base, dtype, at + j * stride) : A(0);
    return v;
  }
};

/// One State in each of the block's places [y][x][kV]; the first row becomes the total of each column of places.
template <class Op, int kN>
DTENSOR_DEVICE void merge_rows(const Block& b, const Op& op, int x, int y, int width, int height, typename Op::State (&states)[kN]) {
  using State = typename Op::State;
  State* shared = b.shared<State>();
  for (int half = height / 2; half > 0; half /= 2) {
    b.sync();
    if (y >= half && y < 2 * half) DTENSOR_UNROLL
    for (int j = 0; j < kN; ++j) shared[((y - half) * width + x) * kN + j] = states[j];
    b.sync();
    if (y < half) DTENSOR_UNROLL
    for (int j = 0; j < kN; ++j) states[j] = op.merge(states[j], shared[(y * width + x) * kN + j]);
  }
}

/// What one place across a block makes: output k from a part of the terms.
struct ReductionShare {
  std::int64_t split, k;
  bool here;  ///< there is such an output
  DTENSOR_DEVICE ReductionShare(const ReductionPlan& plan, const Block& b, int x)
      : split(quotient(b.index, plan.across)), k((b.index - split * plan.across) * plan.x + x), here(k < plan.outputs) {}
};

template <class Source, class Op>
struct ReduceRows {
  static constexpr int kV = Source::kV, kBatch = 4;
  using State = typename Op::State;
  Source source;
  Op op;
  ReductionPlan plan;
  State* parts;

  DTENSOR_DEVICE void operator()(const Block& b) const {
    const int lane = b.thread % plan.lanes, group = b.thread / plan.lanes, x = group % plan.x, y = group / plan.x;
    const auto [split, k, here] = ReductionShare(plan, b, x);
    const Offsets2 at = here ? plan.kept.offsets(k) : Offsets2{};
    typename Op::template Lanes<kV> lanes;
    op.start(lanes, at.out, 0, here ? kV : 0);
    if (here) add_terms(lanes, at.in, split * plan.each, y * plan.lanes + lane);
    State states[1] = {op.fold(lanes)};
    for (int mask = plan.lanes / 2; mask > 0; mask /= 2) states[0] = op.merge(states[0], op.exchange(b, states[0], mask));
    merge_rows(b, op, group % plan.x * plan.lanes + lane, y, plan.x * plan.lanes, plan.y, states);
    if (!here || lane != 0 || y != 0) return;
    if (plan.splits == 1) op.finish(states[0], at.out);
    else parts[k * plan.splits + split] = states[0];
  }

 private:
  struct Place {
    std::int64_t at, term;
    int n;
  };
  DTENSOR_DEVICE Place place(std::int64_t base, std::int64_t v) const {
    const std::int64_t run = plan.terms == plan.vectors ? 0 : quotient(v, plan.vectors), c = (v - run * plan.vectors) * kV;
    const Offsets2 outer = plan.reduced.offsets(run, plan.reduced.count - 1);
    const std::int64_t left = plan.inner - c;
    return {base + outer.in + c * plan.stride, outer.out + c * term_step(), left < kV ? static_cast<int>(left) : kV};
  }
  DTENSOR_DEVICE std::int64_t term_step() const {
    return plan.reduced.count == 0 ? 0 : plan.reduced.out[static_cast<std::size_t>(plan.reduced.count - 1)];
  }

  template <class Lanes>
  DTENSOR_DEVICE void add_terms(Lanes& lanes, std::int64_t base, std::int64_t begin, int first) const {
    const std::int64_t step = static_cast<std::int64_t>(plan.lanes) * plan.y, stop = begin + plan.each;
    const std::int64_t end = stop < plan.terms ? stop : plan.terms;
    std::int64_t v = begin + first;
    for (; v + (kBatch - 1) * step < end; v += kBatch * step) {
      Place places[kBatch];
      bool all_whole = plan.aligned;
      DTENSOR_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        places[i] = place(base, v + i * step);
        all_whole = all_whole && places[i].n == kV;
      }
      if (all_whole) {
        typename Source::Raw raw[kBatch];
        DTENSOR_UNROLL
        for (int i = 0; i < kBatch; ++i) raw[i] = source.load_whole(places[i].at);
        DTENSOR_UNROLL
        for (int i = 0; i < kBatch; ++i) op.add(lanes, source.values(raw[i]), kV, places[i].term, term_step());
      } else {
        DTENSOR_UNROLL
        for (int i = 0; i < kBatch; ++i) add_some(lanes, places[i]);
      }
    }
    for (; v < end; v += step) {
      const Place p = place(base, v);
      if (plan.aligned && p.n == kV) op.add(lanes, source.values(source.load_whole(p.at)), kV, p.term, term_step());
      else add_some(lanes, p);
    }
  }
  template <class Lanes>
  DTENSOR_DEVICE void add_some(Lanes& lanes, const Place& p) const {
    op.add(lanes, source.load_some(p.at, plan.stride, p.n), p.n, p.term, term_step());
  }
};

template <class Source, class Op>
struct ReduceColumns {
  static constexpr int kV = Source::kV, kBatch = 4;
  using State = typename Op::State;
  Source source;
  Op op;
  ReductionPlan plan;
  State* parts;

  DTENSOR_DEVICE void operator()(const Block& b) const {
    const int x = b.thread % plan.x, y = b.thread / plan.x;
    const auto [split, k, here] = ReductionShare(plan, b, x);
    const int last = plan.kept.count - 1;
    const std::int64_t outer = here ? quotient(k, plan.vectors) : 0, c = here ? (k - outer * plan.vectors) * kV : 0;
    const std::int64_t out_step = plan.kept.out[static_cast<std::size_t>(last)];
    Offsets2 at = plan.kept.offsets(outer, last);
    at.in += c * plan.stride, at.out += c * out_step;
    const int n = !here ? 0 : plan.inner - c < kV ? static_cast<int>(plan.inner - c) : kV;
    typename Op::template Lanes<kV> lanes;
    op.start(lanes, at.out, out_step, n);
    if (here) add_terms(lanes, at.in, n, split * plan.each, y);
    State states[kV];
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) states[j] = op.lane(lanes, j);
    merge_rows(b, op, x, y, plan.x, plan.y, states);
    if (y != 0) return;
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) {
      if (j >= n) break;
      if (plan.splits == 1) op.finish(states[j], at.out + j * out_step);
      else parts[(outer * plan.inner + c + j) * plan.splits + split] = states[j];
    }
  }

 private:
  template <class Lanes>
  DTENSOR_DEVICE void add_terms(Lanes& lanes, std::int64_t base, int n, std::int64_t begin, int first) const {
    const std::int64_t stop = begin + plan.each, end = stop < plan.terms ? stop : plan.terms;
    const int step = plan.y;
    std::int64_t t = begin + first;
    const bool whole = plan.aligned && n == kV;
    if (whole) {
      for (; t + (kBatch - 1) * step < end; t += kBatch * step) {
        typename Source::Raw raw[kBatch];
        Offsets2 places[kBatch];
        DTENSOR_UNROLL
        for (int i = 0; i < kBatch; ++i) {
          places[i] = plan.reduced.offsets(t + i * step);
          raw[i] = source.load_whole(base + places[i].in);
        }
        DTENSOR_UNROLL
        for (int i = 0; i < kBatch; ++i) op.add_columns(lanes, source.values(raw[i]), places[i].out);
      }
    }
    for (; t < end; t += step) {
      const Offsets2 p = plan.reduced.offsets(t);
      if (whole) op.add_columns(lanes, source.values(source.load_whole(base + p.in)), p.out);
      else op.add_columns(lanes, source.load_some(base + p.in, plan.stride, n), p.out);
    }
  }
};

/// The second pass of a split reduction: a warp for each output.
template <class Op>
struct MergeParts {
  using State = typename Op::State;
  Op op;
  AxisList kept;
  std::int64_t splits;
  const State* parts;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const std::int64_t k = b.index * b.warps() + b.warp();
    const bool here = k < kept.numel;
    State state = op.nothing();
    if (here)
      for (std::int64_t s = b.lane(); s < splits; s += kWarp) state = op.merge(state, parts[k * splits + s]);
    for (int mask = kWarp / 2; mask > 0; mask /= 2) state = op.merge(state, op.exchange(b, state, mask));
    if (here && b.lane() == 0) op.finish(state, kept.offsets(k).out);
  }
};

/// All outputs of `axes` from `source`.
template <class Source, class Op>
void run_reduction(const char* name, RankDevice& d, const ReductionAxes& axes, const Source& source, const Op& op) {
  using State = typename Op::State;
  const ReductionPlan plan(axes, Source::kV, source.aligned());
  if (plan.outputs == 0) return;
  const Scratch parts(d, plan.splits == 1 ? 0 : static_cast<std::size_t>(plan.kept.numel * plan.splits) * sizeof(State));
  const std::size_t bytes = static_cast<std::size_t>(plan.threads() / 2) * sizeof(State) * (plan.columns ? Source::kV : 1);
  const auto run = [&](const auto& kernel) { launch_blocks(name, plan.blocks(), plan.threads(), plan.y == 1 ? 0 : bytes, d.current, kernel); };
  if (plan.columns) run(ReduceColumns<Source, Op>{source, op, plan, parts.as<State>()});
  else run(ReduceRows<Source, Op>{source, op, plan, parts.as<State>()});
  if (plan.splits == 1) return;
  constexpr int kWarps = 4;
  launch_blocks(name, (plan.kept.numel + kWarps - 1) / kWarps, kWarps * kWarp, 0, d.current,
                MergeParts<Op>{op, plan.kept, plan.splits, parts.as<const State>()});
}

/// What Ops share whose state is a sum of A, in member `sum` of their Lanes.
template <class A>
struct SumStates {
  using State = A;
  template <class Lanes>
  DTENSOR_DEVICE A fold(const Lanes& lanes) const {
    A total = lanes.sum[0];
    DTENSOR_UNROLL
    for (int j = 1; j < static_cast<int>(sizeof lanes.sum / sizeof(A)); ++j) total += lanes.sum[j];
    return total;
  }
  template <class Lanes>
  DTENSOR_DEVICE A lane(const Lanes& lanes, int j) const {
    return lanes.sum[j];
  }
  DTENSOR_DEVICE A nothing() const { return 0; }
  DTENSOR_DEVICE A merge(A a, A b) const { return a + b; }
  DTENSOR_DEVICE A exchange(const Block& b, A state, int mask) const { return b.from_lane_xor(state, mask); }
};

/// The Op of a sum; Finish: operator()(A, out).
template <class A, class Finish>
struct SumOp : SumStates<A> {
  template <int kV>
  struct Lanes {
    A sum[kV];
  };
  Finish result;
  DTENSOR_DEVICE explicit SumOp(const Finish& finish) : result(finish) {}
  template <int kV>
  DTENSOR_DEVICE void start(Lanes<kV>& lanes, std::int64_t /*out*/, std::int64_t /*step*/, int /*n*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j) lanes.sum[j] = 0;
  }
  template <int kV>
  DTENSOR_DEVICE void add(Lanes<kV>& lanes, const Numbers<A, kV>& v, int n, std::int64_t /*term*/, std::int64_t /*step*/) const {
    DTENSOR_UNROLL
    for (int j = 0; j < kV; ++j)
      if (j < n) lanes.sum[j] += v.x[j];
  }
  template <int kV>
  DTENSOR_DEVICE void add_columns(Lanes<kV>& lanes, const Numbers<A, kV>& v, std::int64_t term) const {
    add(lanes, v, kV, term, 0);
  }
  DTENSOR_DEVICE void finish(A value, std::int64_t out) const { result(value, out); }
};

/// f(A{}) for the type that sums of the dtype are computed in.
template <class F>
void in_accumulation_type(Dtype dtype, const F& f) {
  if (dtype == Dtype::f64) f(double{});
  else if (info(dtype).floating) f(float{});
  else f(std::int64_t{});
}
/// f(source) for the elements of `input` as numbers of A.
template <class A, class F>
void with_source(const Tensor& input, const F& f) {
  visit_dtype(input.dtype(), [&]<class T>(std::type_identity<T>) {
    constexpr bool kUsual = kIsFloating<T> ? std::is_same_v<A, Accumulate<T>> : std::is_same_v<A, std::int64_t>;
    if constexpr (kUsual) f(TypedSource<T, A>{input.raw_as<const T>()});
  });
  const bool usual = input.dtype() == Dtype::f64    ? std::is_same_v<A, double>
                     : info(input.dtype()).floating ? std::is_same_v<A, float>
                                                    : std::is_same_v<A, std::int64_t>;
  if (!usual) f(AnySource<A>{input.raw(), input.dtype()});
}

}  // namespace dtensor::local::cuda
