// SPDX-License-Identifier: Apache-2.0
// map: a function of elements over strided, broadcast tensors of any dtypes. There is one kernel per function and type that it computes in: dtypes of
// memory are branches that all threads take alike, once for `width` elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "dtensor/tensor.h"
#include "dtensor/values.h"
#include "local/cpu/binary.h"
#include "local/cuda/cast.h"
#include "local/cuda/launch.h"
#include "local/cuda/map_plan.h"
#include "local/cuda/rank_device.h"

namespace dtensor::local::cuda {

/// What a function with several results gives.
template <class T, int M>
struct Several {
  T at[M];
};

/// An input (a tensor, right-aligned and broadcast to the results' shape, or a number) or a result.
struct MapArgument {
  MapArgument(const Tensor& t) noexcept : tensor(&t) {}                              // NOLINT(google-explicit-constructor)
  MapArgument(const Scalar& s) noexcept : number(s) {}                               // NOLINT(google-explicit-constructor)
  MapArgument(const cpu::Value& v) noexcept : tensor(v.tensor), number(v.number) {}  // NOLINT(google-explicit-constructor)
  const Tensor* tensor = nullptr;
  Scalar number{};
};
/// Of tensors; the first result's shape is that of all.
void for_walks(std::span<const MapArgument> results, std::span<const MapArgument> inputs, Taken taken, const WalkLaunch& launch);

/// A number as elements of T see it.
template <class T>
T number_as(const Scalar& s) noexcept {
  if constexpr (std::is_same_v<T, bool>) return s.as_bool();
  else if constexpr (std::is_integral_v<T>) return static_cast<T>(s.as_int());
  else return static_cast<T>(s.as_double());
}

namespace detail {

template <class T, int width>
struct alignas(sizeof(T) * width < 16 ? sizeof(T) * width : 16) Pack {
  T at[width];
};

// Elements of one operand. at: their offsets; `whole`: they are vectors of `pack` neighbours, and aligned.
template <int pack, class M, class T, int width>
DTENSOR_DEVICE_INLINE void load_as(const std::byte* data, bool whole, const std::uint32_t (&at)[width], T (&to)[width]) {
  const M* memory = reinterpret_cast<const M*>(data);
  M raw[width];
  if (whole) {
    DTENSOR_UNROLL
    for (int n = 0; n < width; n += pack) {
      as_vector(sizeof(Pack<M, pack>));
      const auto vector = *reinterpret_cast<const Pack<M, pack>*>(memory + static_cast<std::int32_t>(at[n]));
      DTENSOR_UNROLL
      for (int i = 0; i < pack; ++i) raw[n + i] = vector.at[i];
    }
  } else {
    DTENSOR_UNROLL
    for (int n = 0; n < width; ++n) raw[n] = memory[static_cast<std::int32_t>(at[n])];
  }
  DTENSOR_UNROLL
  for (int n = 0; n < width; ++n) to[n] = cast<T>(raw[n]);
}
// Those of the mask `there`.
template <int pack, class M, class T, int width>
DTENSOR_DEVICE_INLINE void store_as(std::byte* data, bool whole, const std::uint32_t (&at)[width], std::uint32_t there, const T (&from)[width]) {
  M* memory = reinterpret_cast<M*>(data);
  if (whole) {
    DTENSOR_UNROLL
    for (int n = 0; n < width; n += pack) {
      Pack<M, pack> vector;
      DTENSOR_UNROLL
      for (int i = 0; i < pack; ++i) vector.at[i] = cast<M>(from[n + i]);
      as_vector(sizeof vector);
      *reinterpret_cast<Pack<M, pack>*>(memory + static_cast<std::int32_t>(at[n])) = vector;
    }
  } else {
    DTENSOR_UNROLL
    for (int n = 0; n < width; ++n)
      if ((there >> n & 1) != 0) memory[static_cast<std::int32_t>(at[n])] = cast<M>(from[n]);
  }
}
template <int pack, class T, int width>
DTENSOR_DEVICE_INLINE void load(Dtype dtype, const std::byte* data, bool whole, const std::uint32_t (&at)[width], T (&to)[width]) {
  switch (dtype) {
    case Dtype::f64:
      return load_as<pack, double>(data, whole, at, to);
    case Dtype::f32:
      return load_as<pack, float>(data, whole, at, to);
    case Dtype::bf16:
      return load_as<pack, BFloat16>(data, whole, at, to);
    case Dtype::f16:
      return load_as<pack, Half>(data, whole, at, to);
    case Dtype::i64:
      return load_as<pack, std::int64_t>(data, whole, at, to);
    case Dtype::i32:
      return load_as<pack, std::int32_t>(data, whole, at, to);
    case Dtype::u8:
      return load_as<pack, std::uint8_t>(data, whole, at, to);
    default:
      return load_as<pack, bool>(data, whole, at, to);
  }
}
template <int pack, class T, int width>
DTENSOR_DEVICE_INLINE void store(Dtype dtype, std::byte* data, bool whole, const std::uint32_t (&at)[width], std::uint32_t there,
                                 const T (&from)[width]) {
  switch (dtype) {
    case Dtype::f64:
      return store_as<pack, double>(data, whole, at, there, from);
    case Dtype::f32:
      return store_as<pack, float>(data, whole, at, there, from);
    case Dtype::bf16:
      return store_as<pack, BFloat16>(data, whole, at, there, from);
    case Dtype::f16:
      return store_as<pack, Half>(data, whole, at, there, from);
    case Dtype::i64:
      return store_as<pack, std::int64_t>(data, whole, at, there, from);
    case Dtype::i32:
      return store_as<pack, std::int32_t>(data, whole, at, there, from);
    case Dtype::u8:
      return store_as<pack, std::uint8_t>(data, whole, at, there, from);
    default:
      return store_as<pack, bool>(data, whole, at, there, from);
  }
}

// Offsets of a thread's elements in all operands, added to zeros. @return a mask of the elements that are there; the others stand for some that are, so that
// reading needs no test.
template <int width, int pack, int kAll>
DTENSOR_DEVICE_INLINE std::uint32_t vector_offsets(const MapWalk<kAll>& walk, std::uint32_t thread, std::uint32_t (&at)[kAll][width]) {
  constexpr int kVectors = width / pack;
  std::uint32_t there = 0, row[kVectors], start[kVectors], near[kVectors];
  DTENSOR_UNROLL
  for (int g = 0; g < kVectors; ++g) {
    std::uint32_t vector = thread + static_cast<std::uint32_t>(g) * walk.threads;
    const bool is_there = vector < walk.vectors;
    if (!is_there) vector = thread;
    row[g] = walk.chunks.quotient(vector);
    start[g] = (vector - row[g] * walk.chunks.divisor) * pack;
    near[g] = walk.count - start[g] < pack ? walk.count - start[g] : pack;
    if (is_there) there |= ((1u << near[g]) - 1) << (g * pack);
  }
  for (int d = walk.dims - 1; d >= 0; --d) {
    DTENSOR_UNROLL
    for (int g = 0; g < kVectors; ++g) {
      const std::uint32_t rest = walk.sizes[d].quotient(row[g]), i = row[g] - rest * walk.sizes[d].divisor;
      DTENSOR_UNROLL
      for (int k = 0; k < kAll; ++k) at[k][g * pack] += i * static_cast<std::uint32_t>(walk.strides[k][d]);
      row[g] = rest;
    }
  }
  DTENSOR_UNROLL
  for (int k = 0; k < kAll; ++k) {
    const bool moves = walk.access[k] == Access::vector;
    DTENSOR_UNROLL
    for (int g = 0; g < kVectors; ++g) {
      if (moves) at[k][g * pack] += start[g];
      DTENSOR_UNROLL
      for (std::uint32_t n = 1; n < pack; ++n) at[k][g * pack + n] = at[k][g * pack] + (moves && n < near[g] ? n : 0);
    }
  }
  return there;
}
template <int width, int kAll>
DTENSOR_DEVICE_INLINE std::uint32_t single_offsets(const MapWalk<kAll>& walk, std::uint32_t thread, std::uint32_t (&at)[kAll][width]) {
  std::uint32_t there = 0, index[width];
  DTENSOR_UNROLL
  for (int n = 0; n < width; ++n) {
    index[n] = thread + static_cast<std::uint32_t>(n) * walk.threads;
    if (index[n] < walk.count) there |= 1u << n;
    else index[n] = thread;
  }
  for (int d = walk.dims - 1; d > 0; --d) {
    DTENSOR_UNROLL
    for (int n = 0; n < width; ++n) {
      const std::uint32_t rest = walk.sizes[d].quotient(index[n]), i = index[n] - rest * walk.sizes[d].divisor;
      DTENSOR_UNROLL
      for (int k = 0; k < kAll; ++k) at[k][n] += i * static_cast<std::uint32_t>(walk.strides[k][d]);
      index[n] = rest;
    }
  }
  DTENSOR_UNROLL
  for (int k = 0; k < kAll; ++k) {
    DTENSOR_UNROLL
    for (int n = 0; n < width; ++n) at[k][n] += index[n] * static_cast<std::uint32_t>(walk.strides[k][0]);
  }
  return there;
}

// One element or several of each input: a tuple that device code takes.
template <std::size_t I, class T, int width>
struct Slot {
  T at[width]{};
};
template <class Index, int width, class... A>
struct SlotsOf;
template <std::size_t... I, int width, class... A>
struct SlotsOf<std::index_sequence<I...>, width, A...> : Slot<I, A, width>... {};

/// f(A...) -> R, or Several<R, M>.
template <int width, int pack, class F, int M, class R, class... A>
struct MapKernel {
  static constexpr int kInputs = static_cast<int>(sizeof...(A)), kAll = M + kInputs;
  using Index = std::index_sequence_for<A...>;
  F f;
  MapWalk<kAll> walk;
  SlotsOf<Index, 1, A...> numbers;  ///< of inputs that are numbers

  DTENSOR_DEVICE void operator()(std::int64_t thread) const { run(static_cast<std::uint32_t>(thread), Index{}); }

 private:
  template <std::size_t I, class T>
  DTENSOR_DEVICE_INLINE void fetch(const std::uint32_t (&at)[width], bool whole, Slot<I, T, width>& to) const {
    constexpr int k = M + static_cast<int>(I);
    const Access access = walk.access[k];
    if (access == Access::number || access == Access::repeated) {
      T one[width / pack];  // one per vector, which are of different rows
      std::uint32_t first[width / pack];
      DTENSOR_UNROLL
      for (int g = 0; g < width / pack; ++g) {
        one[g] = static_cast<const Slot<I, T, 1>&>(numbers).at[0];
        first[g] = at[g * pack];
      }
      if (access == Access::repeated) load<1>(walk.dtype[k], walk.data[k], false, first, one);
      DTENSOR_UNROLL
      for (int n = 0; n < width; ++n) to.at[n] = one[n / pack];
    } else {
      load<pack>(walk.dtype[k], walk.data[k], whole, at, to.at);
    }
  }
  template <std::size_t... I>
  DTENSOR_DEVICE_INLINE void run(std::uint32_t thread, std::index_sequence<I...> /*inputs*/) const {
    std::uint32_t at[kAll][width] = {};
    const std::uint32_t there = walk.by_vectors ? vector_offsets<width, pack>(walk, thread, at) : single_offsets<width>(walk, thread, at);
    const bool whole = walk.by_vectors && there == (1u << width) - 1;
    SlotsOf<Index, width, A...> in;
    (fetch<I, A>(at[M + static_cast<int>(I)], whole, in), ...);
    R out[M][width];
    DTENSOR_UNROLL for (int n = 0; n < width; ++n) {
      if constexpr (M == 1) {
        out[0][n] = f(static_cast<const Slot<I, A, width>&>(in).at[n]...);
      } else {
        const Several<R, M> results = f(static_cast<const Slot<I, A, width>&>(in).at[n]...);
        DTENSOR_UNROLL for (int m = 0; m < M; ++m) out[m][n] = results.at[m];
      }
    }
    DTENSOR_UNROLL for (int m = 0; m < M; ++m) store<pack>(walk.dtype[m], walk.data[m], whole, at[m], there, out[m]);
  }
};

}  // namespace detail

/// Elements per thread: two vectors of 16 bytes of the wider type that is usual for A, one where many operands would not fit into registers.
template <class... A>
inline constexpr Taken kMapTaken = (std::is_same_v<A, double> || ...) ? Taken{4, 2}
                                   : sizeof...(A) > 3                 ? Taken{4, 4}
                                                                      : Taken{8, 4};

/// results[m] = f(inputs...) for all elements, m < M. f is copied into the launch: A are the types in which it sees its inputs, R that of its results.
/// A result may be the very memory of an input (same strides); other overlaps are not allowed.
template <int M, class R, class... A, class F>
void map(const char* name, const F& f, const MapArgument* results, const MapArgument* inputs) {
  constexpr Taken kTaken = kMapTaken<A...>;
  constexpr int kInputs = static_cast<int>(sizeof...(A));
  static_assert(M + kInputs <= kMostOperands);
  RankDevice& device = rank_device(*results[0].tensor);
  detail::MapKernel<kTaken.width, kTaken.pack, F, M, R, A...> kernel{f, {}, {}};
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((static_cast<detail::Slot<I, A, 1>&>(kernel.numbers).at[0] = number_as<A>(inputs[I].number)), ...);
  }
  (std::index_sequence_for<A...>{});
  for_walks({results, M}, {inputs, kInputs}, kTaken, [&](const MapWalk<kMostOperands>& walk) {
    kernel.walk = walk.template first<M + kInputs>();
    launch_elements(name, walk.threads, device.current, kernel);
  });
}

/// A formula of local/formulas with its numbers, for elements of T.
template <class F, class T>
struct Formula {
  explicit Formula(const Scalar* /*numbers*/) noexcept {}
  template <class... A>
  DTENSOR_DEVICE auto operator()(A... a) const {
    return F::of(a...);
  }
};
template <class F>
concept TakesNumbers = requires {
  F::numbers;
};
template <TakesNumbers F, class T>
struct Formula<F, T> {
  T k[F::numbers > 0 ? F::numbers : 1] = {};
  explicit Formula(const Scalar* numbers) noexcept {
    for (int i = 0; i < F::numbers; ++i) k[i] = number_as<T>(numbers[i]);
  }
  template <class... A>
  DTENSOR_DEVICE auto operator()(A... a) const {
    return F::of(a..., k);
  }
};

/// A formula's launch by the type that it computes in. Tables of ops are made of these.
using Runner = void (*)(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers);

namespace detail {
template <class T, std::size_t>
using Always = T;
template <class F, class R, class T, std::size_t... I>
void map_formula(const char* name, const Tensor& out, const MapArgument* inputs, const Scalar* numbers, std::index_sequence<I...> /*inputs*/) {
  const MapArgument result(out);
  map<1, R, Always<T, I>...>(name, Formula<F, T>(numbers), &result, inputs);
}
}  // namespace detail

/// `arity` inputs and the result in f64 or f32.
template <class F, int arity>
void floating(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  constexpr std::make_index_sequence<arity> kInputs;
  if (type == Dtype::f64) detail::map_formula<F, double, double>(name, out, inputs, numbers, kInputs);
  else detail::map_formula<F, float, float>(name, out, inputs, numbers, kInputs);
}
template <class F, int arity>
void integer(const char* name, Dtype /*type*/, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  detail::map_formula<F, std::int64_t, std::int64_t>(name, out, inputs, numbers, std::make_index_sequence<arity>());
}
/// One formula for floating numbers, one for integers.
template <class Real, class Integer, int arity>
void mixed(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  if (type == Dtype::i64) integer<Integer, arity>(name, type, out, inputs, numbers);
  else floating<Real, arity>(name, type, out, inputs, numbers);
}
template <class F, int arity>
void number(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  mixed<F, F, arity>(name, type, out, inputs, numbers);
}
/// The result is bool.
template <class F, int arity>
void predicate(const char* name, Dtype type, const Tensor& out, const MapArgument* inputs, const Scalar* numbers) {
  constexpr std::make_index_sequence<arity> kInputs;
  if (type == Dtype::f64) detail::map_formula<F, bool, double>(name, out, inputs, numbers, kInputs);
  else if (type == Dtype::f32) detail::map_formula<F, bool, float>(name, out, inputs, numbers, kInputs);
  else detail::map_formula<F, bool, std::int64_t>(name, out, inputs, numbers, kInputs);
}

}  // namespace dtensor::local::cuda
