// SPDX-License-Identifier: Apache-2.0
// Windows: a dimension of a result is split, and an operand's dimension is read through a monotone map of it. Every rank fetches the indices that its part
// of the result reads and that it does not hold. Pure numbers, the same on every rank.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "placements/layout.h"
#include "redistribute/plan/figures.h"
#include "redistribute/plan/transfer.h"

namespace dtensor::redistribute {

/// Result index r reads the indices floor((num * r + low) / den) to floor((num * r + high) / den) of the operand, both included; those outside it do not exist, or,
/// with `wrap`, are taken modulo its size.
struct WindowMap {
  std::int64_t num = 1, den = 1, low = 0, high = 0;
  bool wrap = false;
  friend bool operator==(const WindowMap&, const WindowMap&) = default;
};
/// What the indices of `result` (at most one run) read of a dimension of `size`: at most one run, or two in the order in which they are read where they wrap.
std::vector<placements::Run> read_runs(const WindowMap& map, std::span<const placements::Run> result, std::int64_t size);

/// A dimension that is read so: by a result dimension of `size`, under `splits` (one run per rank).
struct WindowDim {
  int dim = 0;
  WindowMap map;
  placements::Splits splits;
  std::int64_t size = 0;
};
/// An operand of `shape` that lies as `layout` says, and the dimensions of it that are read through windows and split.
struct Window {
  placements::LayoutRef layout;
  Shape shape;
  std::vector<WindowDim> dims;
};

struct WindowFigures {
  Received received;        ///< elements
  std::int64_t target = 0;  ///< elements on the worst rank after it
  bool needed = false;      ///< some rank lacks something, or holds a dimension in several runs
};
WindowFigures figures_of(const Window& window);
/// Launch, latency, bytes over the slowest link of its axes, and writing what is read.
std::int64_t nanoseconds_of(const WindowFigures& figures, std::int64_t element_bytes);
/// Axes whose ranks exchange, ascending.
std::vector<int> axes_of(const Window& window);
/// What the rank at `coordinates` holds of each of the window's dimensions afterwards.
std::vector<std::vector<placements::Run>> wanted_runs(const Window& window, const Shape& coordinates);
/// Its boxes. Peers are indices in the sub-grid along axes_of(), row-major. The source is row-major.
Transfer lower(const Window& window, const Shape& coordinates);

}  // namespace dtensor::redistribute
