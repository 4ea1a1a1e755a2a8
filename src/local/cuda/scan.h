// SPDX-License-Identifier: Apache-2.0
// Scans and folds of lines in a fixed order. A line is cut into chunks: their totals, the totals' own scan, then each chunk from what comes before it. A chunk is
// the work of a thread where neighbouring lines are neighbours in memory, of a warp otherwise. An Op:
//   State                          trivially copyable
//   none()                         merge(none(), s) == s
//   merge(before, after)           associative up to rounding
//   below(block, state, distance)  of the lane that many below; from(block, state, lane)
// source(line, i) is the State of element i, sink(line, i, before, after) takes what the scan gives without and with it, initial(line) is what a line begins with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "local/cuda/launch.h"
#include "local/cuda/rank_device.h"

namespace dtensor::local::cuda {

struct Lines {
  std::int64_t count = 0, length = 0;
  std::int64_t inner = 1;  ///< lines that are neighbours in memory
};

/// How lines are cut.
struct Chunks {
  bool by_threads = false;
  std::int64_t length = 1, count = 1;  ///< of a line
  explicit Chunks(const Lines& lines) {
    by_threads = lines.inner >= 16 || lines.length <= 8;
    const std::int64_t wanted = by_threads ? 1 << 16 : 1 << 13, least = by_threads ? 64 : 1024;
    count = std::clamp<std::int64_t>(wanted / std::max<std::int64_t>(lines.count, 1), 1, std::max<std::int64_t>(lines.length / least, 1));
    length = (lines.length + count - 1) / count;
    if (count > 1) length = (length + 127) / 128 * 128;
    if (length > 0) count = std::max<std::int64_t>((lines.length + length - 1) / length, 1);
  }
};

struct FromNone {
  template <class Op>
  DTENSOR_DEVICE typename Op::State operator()(const Op& op, std::int64_t /*line*/) const {
    return op.none();
  }
};

namespace scan {

inline constexpr int kItems = 4;  ///< of a lane at once
inline constexpr int kThreads = 256;

template <class Op, class Source>
struct Work {
  using State = typename Op::State;
  Op op;
  Source source;
  std::int64_t lines, length, chunk, chunks;
  DTENSOR_DEVICE std::int64_t units() const { return lines * chunks; }
  /// Neighbouring units are neighbouring lines.
  struct Unit {
    std::int64_t line, chunk, begin, end;
  };
  DTENSOR_DEVICE Unit unit(std::int64_t u) const {
    const std::int64_t c = chunks == 1 ? 0 : u / lines, begin = c * chunk;
    return {u - c * lines, c, begin, begin + chunk < length ? begin + chunk : length};
  }
  /// f(i, before, after) for the elements of a chunk; the state after the last of them.
  template <class F>
  DTENSOR_DEVICE State by_thread(const Unit& u, State carry, const F& f) const {
    for (std::int64_t i = u.begin; i < u.end; ++i) {
      const State after = op.merge(carry, source(u.line, i));
      f(i, carry, after);
      carry = after;
    }
    return carry;
  }
  template <class F>
  DTENSOR_DEVICE State by_warp(const Block& b, const Unit& u, State carry, const F& f) const {
    const int lane = b.lane();
    for (std::int64_t tile = u.begin; tile < u.end; tile += kWarp * kItems) {
      const std::int64_t first = tile + lane * kItems;
      State own[kItems];
      DTENSOR_UNROLL
      for (int j = 0; j < kItems; ++j) own[j] = first + j < u.end ? source(u.line, first + j) : op.none();
      State sum = own[0];
      DTENSOR_UNROLL
      for (int j = 1; j < kItems; ++j) sum = op.merge(sum, own[j]);
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const State other = op.below(b, sum, distance);
        if (lane >= distance) sum = op.merge(other, sum);
      }
      State before = op.below(b, sum, 1);
      before = lane == 0 ? carry : op.merge(carry, before);
      DTENSOR_UNROLL
      for (int j = 0; j < kItems; ++j) {
        if (first + j >= u.end) break;
        const State after = op.merge(before, own[j]);
        f(first + j, before, after);
        before = after;
      }
      carry = op.merge(carry, op.from(b, sum, kWarp - 1));
    }
    return carry;
  }
  /// The same without a look at what lies between.
  DTENSOR_DEVICE State total_by_warp(const Block& b, const Unit& u) const {
    State carry = op.none();
    for (std::int64_t tile = u.begin; tile < u.end; tile += kWarp * kItems) {
      const std::int64_t first = tile + b.lane() * kItems;
      State sum = op.none();
      DTENSOR_UNROLL
      for (int j = 0; j < kItems; ++j)
        if (first + j < u.end) sum = op.merge(sum, source(u.line, first + j));
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const State other = op.below(b, sum, distance);
        if (b.lane() >= distance) sum = op.merge(other, sum);
      }
      carry = op.merge(carry, op.from(b, sum, kWarp - 1));
    }
    return carry;
  }
};

struct Nothing {
  template <class State>
  DTENSOR_DEVICE void operator()(std::int64_t, const State&, const State&) const {}
};

// put(line, chunk, total) of every chunk.
template <class Op, class Source, class Put>
struct TotalsByThread {
  Work<Op, Source> work;
  Put put;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const auto u = work.unit(i);
    put(work.op, u.line, u.chunk, work.by_thread(u, work.op.none(), Nothing{}));
  }
};
template <class Op, class Source, class Put>
struct TotalsByWarp {
  Work<Op, Source> work;
  Put put;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const std::int64_t i = b.index * b.warps() + b.warp();
    if (i >= work.units()) return;
    const auto u = work.unit(i);
    const auto total = work.total_by_warp(b, u);
    if (b.lane() == 0) put(work.op, u.line, u.chunk, total);
  }
};

template <class State>
struct KeepTotal {
  State* totals;  // [line, chunk]
  std::int64_t chunks;
  template <class Op>
  DTENSOR_DEVICE void operator()(const Op&, std::int64_t line, std::int64_t chunk, const State& total) const {
    totals[line * chunks + chunk] = total;
  }
};
template <class State>
struct KeptTotals {
  const State* totals;
  std::int64_t chunks;
  DTENSOR_DEVICE State operator()(std::int64_t line, std::int64_t chunk) const { return totals[line * chunks + chunk]; }
};

template <class Op, class Source, class Sink, class Begin>
struct ScanByThread {
  Work<Op, Source> work;
  Sink sink;
  Begin begin;
  DTENSOR_DEVICE void operator()(std::int64_t i) const {
    const auto u = work.unit(i);
    work.by_thread(u, begin(work.op, u.line, u.chunk),
                   [&](std::int64_t k, const auto& before, const auto& after) { sink(u.line, k, before, after); });
  }
};
template <class Op, class Source, class Sink, class Begin>
struct ScanByWarp {
  Work<Op, Source> work;
  Sink sink;
  Begin begin;
  DTENSOR_DEVICE void operator()(const Block& b) const {
    const std::int64_t i = b.index * b.warps() + b.warp();
    if (i >= work.units()) return;
    const auto u = work.unit(i);
    work.by_warp(b, u, begin(work.op, u.line, u.chunk),
                 [&](std::int64_t k, const auto& before, const auto& after) { sink(u.line, k, before, after); });
  }
};

// What a chunk begins with: the line's beginning, or what was kept for it.
template <class State, class Initial>
struct BeginLine {
  Initial initial;
  template <class Op>
  DTENSOR_DEVICE State operator()(const Op& op, std::int64_t line, std::int64_t) const {
    return initial(op, line);
  }
};
template <class State>
struct BeginChunk {
  const State* begins;
  std::int64_t chunks;
  template <class Op>
  DTENSOR_DEVICE State operator()(const Op&, std::int64_t line, std::int64_t chunk) const {
    return begins[line * chunks + chunk];
  }
};
// Totals become beginnings.
template <class State>
struct KeepBefore {
  State* begins;
  std::int64_t chunks;
  DTENSOR_DEVICE void operator()(std::int64_t line, std::int64_t chunk, const State& before, const State&) const {
    begins[line * chunks + chunk] = before;
  }
};

template <class ByThread, class ByWarp, class... A>
void launch(const char* name, bool by_threads, std::int64_t units, Stream stream, const A&... parts) {
  if (by_threads) return launch_elements(name, units, stream, ByThread{parts...});
  constexpr std::int64_t kWarps = kThreads / kWarp;
  launch_blocks(name, (units + kWarps - 1) / kWarps, kThreads, 0, stream, ByWarp{parts...});
}
template <class Op, class Source, class Put>
void launch_totals(const char* name, bool by_threads, const Work<Op, Source>& work, Stream stream, const Put& put) {
  launch<TotalsByThread<Op, Source, Put>, TotalsByWarp<Op, Source, Put>>(name, by_threads, work.units(), stream, work, put);
}
template <class Op, class Source, class Sink, class Begin>
void launch_scan(const char* name, bool by_threads, const Work<Op, Source>& work, Stream stream, const Sink& sink, const Begin& begin) {
  launch<ScanByThread<Op, Source, Sink, Begin>, ScanByWarp<Op, Source, Sink, Begin>>(name, by_threads, work.units(), stream, work, sink, begin);
}

}  // namespace scan

/// Every line scanned.
template <class Op, class Source, class Sink, class Initial = FromNone>
void scan_lines(const char* name, RankDevice& device, const Lines& lines, const Op& op, const Source& source, const Sink& sink,
                const Initial& initial = {}) {
  using State = typename Op::State;
  if (lines.count * lines.length == 0) return;
  const Chunks chunks(lines);
  const scan::Work<Op, Source> work{op, source, lines.count, lines.length, chunks.length, chunks.count};
  if (chunks.count == 1) return scan::launch_scan(name, chunks.by_threads, work, device.current, sink, scan::BeginLine<State, Initial>{initial});
  const Scratch memory(device, static_cast<std::size_t>(work.units()) * sizeof(State));
  State* const totals = memory.as<State>();
  scan::launch_totals(name, chunks.by_threads, work, device.current, scan::KeepTotal<State>{totals, chunks.count});
  const scan::KeptTotals<State> kept{totals, chunks.count};
  const scan::Work<Op, scan::KeptTotals<State>> of_totals{op, kept, lines.count, chunks.count, chunks.count, 1};
  scan::launch_scan(name, lines.count >= (1 << 14), of_totals, device.current, scan::KeepBefore<State>{totals, chunks.count},
                    scan::BeginLine<State, Initial>{initial});
  scan::launch_scan(name, chunks.by_threads, work, device.current, sink, scan::BeginChunk<State>{totals, chunks.count});
}

/// put(op, line, 0, what all elements of the line come to).
template <class Op, class Source, class Put>
void fold_lines(const char* name, RankDevice& device, const Lines& lines, const Op& op, const Source& source, const Put& put) {
  using State = typename Op::State;
  if (lines.count == 0) return;
  const Chunks chunks(lines);
  const scan::Work<Op, Source> work{op, source, lines.count, lines.length, chunks.length, chunks.count};
  if (chunks.count == 1) return scan::launch_totals(name, chunks.by_threads, work, device.current, put);
  const Scratch memory(device, static_cast<std::size_t>(work.units()) * sizeof(State));
  scan::launch_totals(name, chunks.by_threads, work, device.current, scan::KeepTotal<State>{memory.as<State>(), chunks.count});
  const scan::KeptTotals<State> kept{memory.as<State>(), chunks.count};
  scan::launch_totals(name, lines.count >= (1 << 14), scan::Work<Op, scan::KeptTotals<State>>{op, kept, lines.count, chunks.count, chunks.count, 1},
                      device.current, put);
}

}  // namespace dtensor::local::cuda
