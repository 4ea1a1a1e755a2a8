// SPDX-License-Identifier: Apache-2.0
#include "local/cpu/map.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "dtensor/half.h"
#include "local/parallel.h"
#include "local/strided.h"

namespace dtensor::local::cpu {
namespace {

constexpr std::int64_t kChunk = 256;
constexpr std::int64_t kShortRow = 32;

template <class To, class From>
To converted(From x) noexcept {
  if constexpr (std::is_same_v<To, From>) return x;
  else if constexpr (std::is_same_v<From, BFloat16> || std::is_same_v<From, Half>) return converted<To>(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, BFloat16> || std::is_same_v<To, Half>) return To(static_cast<float>(x));
  else if constexpr (std::is_same_v<To, bool>) return x != From(0);
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) return local::convert<To>(x);
  else return static_cast<To>(x);
}

// Memory <-> rows. Strides in elements of the memory.
using Load = void (*)(const void* memory, std::int64_t stride, std::int64_t n, void* row);
using Store = void (*)(const void* row, std::int64_t n, void* memory, std::int64_t stride);

template <class M, class T>
void load(const void* memory, std::int64_t stride, std::int64_t n, void* row) {
  const M* m = static_cast<const M*>(memory);
  T* r = static_cast<T*>(row);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) r[i] = converted<T>(m[i]);
  } else if (stride == 0) {
    const T value = converted<T>(m[0]);
    for (std::int64_t i = 0; i < n; ++i) r[i] = value;
  } else {
    for (std::int64_t i = 0; i < n; ++i) r[i] = converted<T>(m[i * stride]);
  }
}
template <class M, class T>
void store(const void* row, std::int64_t n, void* memory, std::int64_t stride) {
  const T* r = static_cast<const T*>(row);
  M* m = static_cast<M*>(memory);
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) m[i] = converted<M>(r[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) m[i * stride] = converted<M>(r[i]);
  }
}
struct Mover {
  Load load;
  Store store;
};
template <class T>
Mover mover_of(Dtype memory) {
  switch (memory) {
    case Dtype::f64:
      return {load<double, T>, store<double, T>};
    case Dtype::f32:
      return {load<float, T>, store<float, T>};
    case Dtype::bf16:
      return {load<BFloat16, T>, store<BFloat16, T>};
    case Dtype::f16:
      return {load<Half, T>, store<Half, T>};
    case Dtype::i64:
      return {load<std::int64_t, T>, store<std::int64_t, T>};
    case Dtype::i32:
      return {load<std::int32_t, T>, store<std::int32_t, T>};
    case Dtype::u8:
      return {load<std::uint8_t, T>, store<std::uint8_t, T>};
    case Dtype::boolean:
      break;
  }
  return {load<bool, T>, store<bool, T>};
}
Mover mover(Dtype memory, Dtype row) {
  switch (row) {
    case Dtype::f64:
      return mover_of<double>(memory);
    case Dtype::f32:
      return mover_of<float>(memory);
    case Dtype::i64:
      return mover_of<std::int64_t>(memory);
    default:
      return mover_of<bool>(memory);
  }
}

struct Side {
  std::byte* base;
  std::byte* buffer;
  Load load;
  Store store;
  std::int64_t strides[kMaxDims];
  std::int64_t bytes, width;  // of one element in memory and in a row
  std::int64_t filled;        // elements of the buffer that hold the constant
  bool same;                  // memory and row have one type
  bool constant;
};

struct Walk {
  Side sides[kMaxOperands];
  std::int64_t sizes[kMaxDims];
  int inputs = 0, count = 0, dims = 0;
};

constexpr std::int64_t width_of(Dtype row) noexcept { return row == Dtype::f32 ? 4 : row == Dtype::boolean ? 1 : 8; }

template <class T>
void put(std::byte* to, T value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

void put_number(std::byte* to, const Operand& o) noexcept {
  switch (o.type) {
    case Dtype::f64:
      return put(to, o.number.as_double());
    case Dtype::f32:
      return put(to, static_cast<float>(o.number.as_double()));
    case Dtype::i64:
      return put(to, o.number.as_int());
    default:
      return put(to, o.number.as_bool());
  }
}

// `number`: memory for the value of an operand that is one.
void set_side(Side& side, const Operand& o, const Shape& shape, std::byte* number) {
  side.width = width_of(o.type);
  side.filled = 0;
  for (int d = 0; d < shape.ndim(); ++d) side.strides[d] = 0;
  if (o.tensor == nullptr) {
    side.base = number;
    put_number(number, o);
    side.same = true;
    side.bytes = side.width;
    side.load = mover(o.type, o.type).load;
    return;
  }
  const Tensor& t = *o.tensor;
  const Mover m = mover(t.dtype(), o.type);
  side.base = static_cast<std::byte*>(t.raw());
  side.load = m.load;
  side.store = m.store;
  side.bytes = info(t.dtype()).bytes;
  side.same = t.dtype() == o.type;
  const int missing = shape.ndim() - t.ndim();
  for (int d = missing; d < shape.ndim(); ++d) side.strides[d] = t.shape()[d - missing] == 1 && shape[d] != 1 ? 0 : t.strides()[d - missing];
}

// Drops dimensions of size one and joins neighbours that every side walks as one.
void collapse(Walk& w, const Shape& shape) {
  int n = 0;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (shape[d] == 1) continue;
    bool joins = n > 0;
    for (int s = 0; joins && s < w.count; ++s) joins = w.sides[s].strides[n - 1] == w.sides[s].strides[d] * shape[d];
    if (joins) w.sizes[n - 1] *= shape[d];
    else w.sizes[n++] = shape[d];
    for (int s = 0; s < w.count; ++s) w.sides[s].strides[n - 1] = w.sides[s].strides[d];
  }
  if (n == 0) {
    w.sizes[n++] = 1;
    for (int s = 0; s < w.count; ++s) w.sides[s].strides[0] = 1;
  }
  w.dims = n;
  for (int s = 0; s < w.count; ++s) {
    Side& side = w.sides[s];
    side.constant = s < w.inputs;
    for (int d = 0; d < n; ++d) side.constant = side.constant && side.strides[d] == 0;
  }
}

const void* fill_constant(Side& side, std::int64_t n) {
  if (side.filled < n) {
    side.load(side.base, 0, n, side.buffer);
    side.filled = n;
  }
  return side.buffer;
}

// Elements [start, start + n) of the row-major walk as runs: move(memory, stride, position, length).
template <class Move>
void walk_range(const Walk& w, const Side& side, std::int64_t start, std::int64_t n, Move move) {
  std::int64_t index[kMaxDims], at = 0, rest = start;
  for (int d = w.dims - 1; d >= 0; --d) {
    index[d] = rest % w.sizes[d];
    rest /= w.sizes[d];
    at += index[d] * side.strides[d];
  }
  const int inner = w.dims - 1;
  for (std::int64_t done = 0; done < n;) {
    const std::int64_t run = std::min(n - done, w.sizes[inner] - index[inner]);
    move(side.base + at * side.bytes, side.strides[inner], done, run);
    done += run;
    at += run * side.strides[inner];
    index[inner] += run;
    for (int d = inner; d > 0 && index[d] == w.sizes[d]; --d) {
      at += side.strides[d - 1] - w.sizes[d] * side.strides[d];
      index[d] = 0;
      ++index[d - 1];
    }
  }
}

struct Call {
  Row row;
  const Scalar* numbers;
  const void* in[kMaxOperands];
  void* out[kMaxOperands];
  void operator()(const Walk& w, std::int64_t n) const {
    if (row != nullptr) row(in, out, n, numbers);
    else if (in[0] != out[0]) std::memcpy(out[0], in[0], static_cast<std::size_t>(n * w.sides[0].width));
  }
};

// One chunk of a long row. at: where each side's row starts.
void map_chunk(Call& call, Walk& w, const std::int64_t* at, std::int64_t start, std::int64_t n) {
  const int inner = w.dims - 1;
  const auto address = [&](int s) { return w.sides[s].base + (at[s] + start * w.sides[s].strides[inner]) * w.sides[s].bytes; };
  for (int s = 0; s < w.count; ++s) {
    Side& side = w.sides[s];
    const bool direct = side.same && side.strides[inner] == 1;
    if (s >= w.inputs) {
      call.out[s - w.inputs] = direct ? address(s) : side.buffer;
    } else if (side.constant) {
      call.in[s] = fill_constant(side, n);
    } else if (direct) {
      call.in[s] = address(s);
    } else {
      side.load(address(s), side.strides[inner], n, side.buffer);
      call.in[s] = side.buffer;
    }
  }
  call(w, n);
  for (int s = w.inputs; s < w.count; ++s) {
    const Side& side = w.sides[s];
    if (call.out[s - w.inputs] == side.buffer) side.store(side.buffer, n, address(s), side.strides[inner]);
  }
}

// Long rows: pointers into memory where types agree and the stride is one, buffers elsewhere.
void map_rows(Call& call, Walk& w) {
  const int inner = w.dims - 1;
  bool buffered = false;
  for (int s = 0; s < w.count; ++s) buffered = buffered || !w.sides[s].same || w.sides[s].strides[inner] != 1;
  const std::int64_t chunk = buffered ? kChunk : w.sizes[inner];
  std::int64_t index[kMaxDims] = {}, at[kMaxOperands] = {};
  for (;;) {
    for (std::int64_t start = 0; start < w.sizes[inner]; start += chunk) map_chunk(call, w, at, start, std::min(chunk, w.sizes[inner] - start));
    int d = inner - 1;
    for (; d >= 0; --d) {
      for (int s = 0; s < w.count; ++s) at[s] += w.sides[s].strides[d];
      if (++index[d] < w.sizes[d]) break;
      for (int s = 0; s < w.count; ++s) at[s] -= w.sides[s].strides[d] * w.sizes[d];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

// Short rows: chunks of the flat index space, gathered across rows.
void map_flat(Call& call, Walk& w, std::int64_t begin, std::int64_t end) {
  for (std::int64_t start = begin; start < end; start += kChunk) {
    const std::int64_t n = std::min(kChunk, end - start);
    for (int s = 0; s < w.inputs; ++s) {
      Side& side = w.sides[s];
      call.in[s] = side.buffer;
      if (side.constant) {
        fill_constant(side, n);
        continue;
      }
      walk_range(w, side, start, n, [&](const std::byte* memory, std::int64_t stride, std::int64_t position, std::int64_t length) {
        side.load(memory, stride, length, side.buffer + position * side.width);
      });
    }
    for (int s = w.inputs; s < w.count; ++s) call.out[s - w.inputs] = w.sides[s].buffer;
    call(w, n);
    for (int s = w.inputs; s < w.count; ++s) {
      const Side& side = w.sides[s];
      walk_range(w, side, start, n, [&](std::byte* memory, std::int64_t stride, std::int64_t position, std::int64_t length) {
        side.store(side.buffer + position * side.width, length, memory, stride);
      });
    }
  }
}

// A thread's part of the walk: some of the outermost dimension, or of the flat index space.
void map_piece(Walk& w, Row row, const Scalar* numbers, bool flat, std::int64_t begin, std::int64_t end) {
  Call call;
  call.row = row;
  call.numbers = numbers;
  alignas(64) std::byte buffers[kMaxOperands][static_cast<std::size_t>(kChunk) * 8];
  for (int s = 0; s < w.count; ++s) w.sides[s].buffer = buffers[s];
  if (flat) return map_flat(call, w, begin, end);
  for (int s = 0; s < w.count; ++s) w.sides[s].base += begin * w.sides[s].strides[0] * w.sides[s].bytes;
  w.sizes[0] = end - begin;
  map_rows(call, w);
}
void map_pieces(Walk& w, Row row, const Scalar* numbers, std::int64_t total) {
  const bool flat = w.dims > 1 && w.sizes[w.dims - 1] < kShortRow;
  const std::int64_t count = flat ? total : w.sizes[0];
  parallel_for(count, std::max<std::int64_t>(1, kPointwiseGrain / (total / count)), [&](std::int64_t begin, std::int64_t end) {
    if (end - begin == count) return map_piece(w, row, numbers, flat, begin, end);
    Walk part = w;
    map_piece(part, row, numbers, flat, begin, end);
  });
}

// True when every tensor is row-major, of one shape and of the rows' types.
bool plain(std::initializer_list<Operand> operands, const Shape& shape) {
  for (const Operand& o : operands)
    if (o.tensor != nullptr && (o.tensor->dtype() != o.type || !(o.tensor->shape() == shape) || !o.tensor->is_contiguous())) return false;
  return true;
}

// Elements [begin, end) of plain tensors; numbers are spread over a chunk once.
void map_plain(Row row, std::initializer_list<Operand> inputs, std::initializer_list<Operand> results, const Scalar* numbers, std::int64_t begin,
               std::int64_t end) {
  alignas(64) std::byte buffers[kMaxOperands][static_cast<std::size_t>(kChunk) * 8];
  const void* in[kMaxOperands];
  void* out[kMaxOperands];
  std::int64_t in_step[kMaxOperands], out_step[kMaxOperands], chunk = end - begin;
  int i = 0;
  for (const Operand& o : inputs) {
    in_step[i] = o.tensor != nullptr ? width_of(o.type) : 0;
    if (o.tensor != nullptr) {
      in[i] = static_cast<const std::byte*>(o.tensor->raw()) + begin * in_step[i];
    } else {
      chunk = std::min(chunk, kChunk);
      put_number(buffers[i], o);
      mover(o.type, o.type).load(buffers[i], 0, chunk, buffers[i]);
      in[i] = buffers[i];
    }
    ++i;
  }
  const int in_count = i;
  i = 0;
  for (const Operand& o : results) {
    out_step[i] = width_of(o.type);
    out[i] = static_cast<std::byte*>(o.tensor->raw()) + begin * out_step[i];
    ++i;
  }
  const int out_count = i;
  for (std::int64_t n = std::min(chunk, end - begin); n > 0; n = std::min(chunk, end - begin)) {
    row(in, out, n, numbers);
    for (i = 0; i < in_count; ++i) in[i] = static_cast<const std::byte*>(in[i]) + n * in_step[i];
    for (i = 0; i < out_count; ++i) out[i] = static_cast<std::byte*>(out[i]) + n * out_step[i];
    begin += n;
  }
}

}  // namespace

void map(Row row, std::initializer_list<Operand> inputs, std::initializer_list<Operand> results, const Scalar* numbers) {
  const Shape& shape = results.begin()->tensor->shape();
  const std::int64_t total = shape.numel();
  if (total == 0) return;
  if (row != nullptr && plain(inputs, shape) && plain(results, shape)) {
    parallel_for(total, kPointwiseGrain, [&](std::int64_t begin, std::int64_t end) { map_plain(row, inputs, results, numbers, begin, end); });
    return;
  }
  alignas(8) std::byte constants[kMaxOperands][8];
  Walk w;
  for (const Operand& o : inputs) set_side(w.sides[w.count], o, shape, constants[w.count]), ++w.count;
  w.inputs = w.count;
  for (const Operand& o : results) set_side(w.sides[w.count], o, shape, constants[w.count]), ++w.count;
  collapse(w, shape);
  map_pieces(w, row, numbers, total);
}

void convert(const Tensor& source, const Tensor& out) {
  const Dtype from = source.dtype(), to = out.dtype();
  const bool wide = from == Dtype::f64 || to == Dtype::f64;
  const bool floating = info(from).floating || info(to).floating;
  const Dtype row = wide ? Dtype::f64 : floating ? Dtype::f32 : Dtype::i64;
  map(nullptr, {{source, row}}, {{out, row}});
}

void fill(const Tensor& out, const Scalar& value) {
  const Dtype row = out.dtype() == Dtype::boolean ? Dtype::boolean : compute_type(out.dtype());
  map(nullptr, {{value, row}}, {{out, row}});
}

}  // namespace dtensor::local::cpu
