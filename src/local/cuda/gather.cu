// SPDX-License-Identifier: Apache-2.0
// Reading at positions, and writing where the last one counts: copies of bytes in pieces as large as addresses and distances allow.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "local/cuda/atomics.h"
#include "local/cuda/elements.h"
#include "local/cuda/launch.h"
#include "local/cuda/pieces.h"
#include "local/cuda/rank_device.h"
#include "local/cuda/slices.h"
#include "local/cuda/table.h"
#include "local/kernels/embedding.h"
#include "local/strided.h"

namespace dtensor::local::cuda {
namespace {

std::size_t size_of(const Tensor& t) { return static_cast<std::size_t>(info(t.dtype()).bytes); }
std::byte* bytes_at(const Tensor& t) { return static_cast<std::byte*>(t.raw()); }

// An element over and over.
Piece<16> filled_piece(const void* element, std::size_t size) {
  Piece<16> piece;
  for (std::size_t i = 0; i < sizeof piece; i += size) std::memcpy(piece.of + i, element, size);
  return piece;
}
// The neutral element of a sum: -0.0 or 0.
Piece<16> neutral_piece(Dtype dtype) {
  unsigned char element[8] = {};
  const auto size = static_cast<std::size_t>(info(dtype).bytes);
  if (info(dtype).floating) element[size - 1] = 0x80;
  return filled_piece(element, size);
}
Piece<16> value_piece(const Scalar& value, Dtype dtype) {
  Piece<16> piece{};
  visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    const T element = convert<T>(value);
    piece = filled_piece(&element, sizeof(T));
  });
  return piece;
}

// Pieces of slices, numbered as the values lie: innermost, slice, the rest.
template <std::size_t bytes>
struct SlicePieces {
  Slices s;           // in pieces
  std::size_t scale;  // bytes
  std::byte* table;
  std::byte* values;
  struct Found {
    std::int64_t slice, at;
    std::byte *table, *value;
  };
  DTENSOR_DEVICE Found find(std::int64_t i) const {
    const std::int64_t before = quotient(i, s.inner), o = quotient(before, s.count), p = before - o * s.count;
    const Slices::Place place = s.place(o, i - before * s.inner);
    const std::int64_t at = s.at[p];
    // Nothing lies in an empty table, nor are there values where all are one.
    std::byte* const row =
        at == cpu::kElsewhere ? nullptr : table + at * static_cast<std::int64_t>(scale) + place.table * static_cast<std::int64_t>(bytes);
    return {p, at, row, values == nullptr ? nullptr : values + (p * s.step + place.values) * static_cast<std::int64_t>(bytes)};
  }
};

template <std::size_t bytes>
struct Take {
  SlicePieces<bytes> pieces;
  Piece<16> neutral;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const auto f = pieces.find(i);
    if (f.at == cpu::kElsewhere) copy_piece<bytes>(f.value, &neutral);
    else copy_piece<bytes>(f.value, f.table);
  }
};
template <std::size_t bytes>
struct Put {
  SlicePieces<bytes> pieces;
  bool one_value;
  Piece<16> value;
  const std::int64_t* last;  // slice that counts, by position over `granule`
  std::int64_t granule;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const auto f = pieces.find(i);
    if (f.at == cpu::kElsewhere) return;
    if (one_value) return copy_piece<bytes>(f.table, &value);
    if (last[f.at / granule] == f.slice) copy_piece<bytes>(f.table, f.value);
  }
};

// f(pieces of the largest size that fits, their number)
template <class F>
void with_pieces(const Slices& s, std::int64_t granule, const Tensor& table, const Tensor& values, const F& f) {
  const std::size_t size = size_of(table);
  const auto addresses = reinterpret_cast<std::uintptr_t>(table.raw()) | (values ? reinterpret_cast<std::uintptr_t>(values.raw()) : 0);
  with_piece(addresses | static_cast<std::size_t>(common_run(s, granule)) * size, [&](auto bytes) {
    constexpr std::size_t kBytes = decltype(bytes)::value;
    // A piece is an element at least: sizes are powers of two that divide every term.
    const auto run = static_cast<std::int64_t>(kBytes / std::min(size, kBytes));
    Slices units = in_units(s, run);
    f(SlicePieces<kBytes>{units, static_cast<std::size_t>(s.scale) * size, bytes_at(table), values ? bytes_at(values) : nullptr},
      units.count * units.size());
  });
}

void take_slices(const Slices& s, std::int64_t granule, const Tensor& source, const Tensor& values) {
  if (values.numel() == 0) return;
  with_pieces(s, granule, source, values, [&]<std::size_t bytes>(const SlicePieces<bytes>& pieces, std::int64_t count) {
    launch_elements("take", count, rank_device(values).current, Take<bytes>{pieces, neutral_piece(source.dtype())});
  });
}

struct MarkLast {
  const std::int64_t* at;
  std::int64_t* last;
  std::int64_t granule;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    if (at[i] != cpu::kElsewhere) atomic_max(last + at[i] / granule, i);
  }
};
// Positions lie below `end`.
void put_slices(const Slices& s, std::int64_t granule, std::int64_t end, const Tensor& source, const Scalar& value, const Tensor& target) {
  if (s.count * s.size() == 0 || target.numel() == 0) return;
  RankDevice& device = rank_device(target);
  std::optional<Scratch> last;
  if (source) {
    const auto bytes = static_cast<std::size_t>((end + granule - 1) / granule) * sizeof(std::int64_t);
    last.emplace(device, bytes);
    set_bytes(last->as<void>(), 0xff, bytes, device.current);
    launch_elements("mark last", s.count, device.current, MarkLast{s.at, last->as<std::int64_t>(), granule});
  }
  const std::int64_t* winners = last ? last->as<std::int64_t>() : nullptr;
  with_pieces(s, granule, target, source, [&]<std::size_t bytes>(const SlicePieces<bytes>& pieces, std::int64_t count) {
    launch_elements("put", count, device.current, Put<bytes>{pieces, !source, value_piece(value, target.dtype()), winners, granule});
  });
}

void take_rows(const cpu::RowsCall& c, const Tensor& source, const Tensor& out) { take_slices(slices_of(c), 1, source, out); }
void put_rows(const cpu::RowsCall& c, const Tensor& source, const Scalar& value, const Tensor& target) {
  put_slices(slices_of(c), 1, c.length, source, value, target);
}
void take_points(const cpu::PointsCall& c, const Tensor& source, const Tensor& values) { take_slices(slices_of(c), c.granule, source, values); }
void put_points(const cpu::PointsCall& c, const Tensor& values, const Tensor& target) {
  put_slices(slices_of(c), c.granule, target.numel(), values, Scalar(0), target);
}

template <std::size_t bytes>
struct TakeElements {
  Elements e;
  const std::byte* source;
  std::byte* out;
  Piece<16> neutral;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t at = e.position(i), size = static_cast<std::int64_t>(bytes);
    const void* from = &neutral;
    if (at != cpu::kElsewhere) from = source + at * size;
    copy_piece<bytes>(out + i * size, from);
  }
};
void take_elements(const cpu::ElementsCall& c, const Tensor& source, const Tensor& out) {
  if (out.numel() == 0) return;
  RankDevice& device = rank_device(out);
  const ElementsOnDevice elements(device, c, source.shape());
  with_piece(size_of(source), [&](auto bytes) {
    launch_elements("take elements", elements.elements().count, device.current,
                    TakeElements<decltype(bytes)::value>{elements.elements(), bytes_at(source), bytes_at(out), neutral_piece(source.dtype())});
  });
}

struct FindElements {
  Elements e;
  std::int64_t* positions;
  DTENSOR_DEVICE void operator()(std::int64_t i) const { positions[i] = e.position(i); }
};
void put_elements(const cpu::ElementsCall& c, const Tensor& source, const Scalar& value, const Tensor& target) {
  if (c.shape.numel() == 0 || target.numel() == 0) return;
  RankDevice& device = rank_device(target);
  const ElementsOnDevice elements(device, c, target.shape());
  const std::int64_t count = elements.elements().count;
  const Scratch positions(device, static_cast<std::size_t>(count) * sizeof(std::int64_t));
  launch_elements("find elements", count, device.current, FindElements{elements.elements(), positions.as<std::int64_t>()});
  put_slices(slices_of(positions.as<std::int64_t>(), count), 1, target.numel(), source, value, target);
}

}  // namespace

void install_gather() {
  kernels::take_rows.cuda = take_rows;
  kernels::put_rows.cuda = put_rows;
  kernels::take_elements.cuda = take_elements;
  kernels::put_elements.cuda = put_elements;
  kernels::take_points.cuda = take_points;
  kernels::put_points.cuda = put_points;
}

}  // namespace dtensor::local::cuda
