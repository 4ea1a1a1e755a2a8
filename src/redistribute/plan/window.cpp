// SPDX-License-Identifier: Apache-2.0
#include "redistribute/plan/window.h"

#include <algorithm>
#include <cmath>

#include "redistribute/plan/overlap.h"
#include "redistribute/plan/route.h"

namespace dtensor::redistribute {
namespace {

using placements::owned_runs;
using placements::Run;

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - static_cast<std::int64_t>(a % b != 0 && a < 0); }

std::int64_t length_of(std::span<const Run> runs) {
  std::int64_t n = 0;
  for (const Run& r : runs) n += r.length;
  return n;
}

// Intervals that two owners share. Wanted runs need not ascend, so every pair is looked at.
std::vector<Overlap> shared(std::span<const Run> have, std::span<const Run> want) {
  std::vector<Overlap> result;
  std::int64_t from = 0;
  for (const Run& h : have) {
    std::int64_t to = 0;
    for (const Run& w : want) {
      const std::int64_t begin = std::max(h.begin, w.begin), end = std::min(h.begin + h.length, w.begin + w.length);
      if (begin < end) result.push_back({from + begin - h.begin, to + begin - w.begin, end - begin});
      to += w.length;
    }
    from += h.length;
  }
  return result;
}

std::int64_t shared_size(std::span<const Run> have, std::span<const Run> want) {
  std::int64_t n = 0;
  for (const Overlap& o : shared(have, want)) n += o.length;
  return n;
}

placements::Layout layout_of(const Window& window, const WindowDim& dim) {
  placements::Layout layout;
  layout.mesh_sizes = window.layout->mesh_sizes;
  layout.dims = {dim.splits};
  layout.partial.resize(layout.mesh_sizes.size());
  return layout;
}

std::vector<Run> wanted(const Window& window, const WindowDim& dim, const Shape& coordinates) {
  return read_runs(dim.map, owned_runs(layout_of(window, dim), 0, dim.size, coordinates), window.shape[dim.dim]);
}
std::vector<Run> held(const Window& window, int dim, const Shape& coordinates) {
  return owned_runs(*window.layout, dim, window.shape[dim], coordinates);
}

template <class Visit>
void each_coordinate(const std::vector<int>& mesh_sizes, std::span<const int> axes, Shape coordinates, Visit&& visit) {
  if (axes.empty()) {
    visit(coordinates);
    return;
  }
  for (int i = 0; i < mesh_sizes[static_cast<std::size_t>(axes[0])]; ++i) {
    coordinates[axes[0]] = i;
    each_coordinate(mesh_sizes, axes.subspan(1), coordinates, visit);
  }
}

void add_axes(std::vector<int>& axes, const placements::Splits& splits) {
  for (const placements::Split& s : splits) axes.insert(axes.end(), s.axes.begin(), s.axes.end());
}
void sort_axes(std::vector<int>& axes) {
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
}

// Intervals per dimension, in the order of both sides, to boxes in the strides of one.
void emit(std::span<const std::vector<Overlap>> parts, const Shape& strides, bool sending, Piece box, std::vector<Piece>& out) {
  const auto dim = static_cast<std::size_t>(box.sizes.ndim());
  if (dim == parts.size()) {
    out.push_back(box);
    return;
  }
  for (const Overlap& o : parts[dim]) {
    Piece next = box;
    next.offset += (sending ? o.from : o.to) * strides[static_cast<int>(dim)];
    next.sizes.push_back(o.length);
    next.strides.push_back(strides[static_cast<int>(dim)]);
    emit(parts, strides, sending, next, out);
  }
}

}  // namespace

std::vector<Run> read_runs(const WindowMap& map, std::span<const Run> result, std::int64_t size) {
  if (result.empty() || size == 0) return {};
  const std::int64_t a = result.front().begin, b = result.back().begin + result.back().length - 1;
  std::int64_t begin = floor_div(map.num * (map.num < 0 ? b : a) + map.low, map.den);
  std::int64_t end = floor_div(map.num * (map.num < 0 ? a : b) + map.high, map.den) + 1;
  if (end <= begin) return {};
  if (!map.wrap) {
    begin = std::max<std::int64_t>(begin, 0);
    end = std::min(end, size);
    return begin < end ? std::vector<Run>{{begin, end - begin}} : std::vector<Run>{};
  }
  if (end - begin >= size) return {{0, size}};
  const std::int64_t turns = floor_div(begin, size) * size;
  begin -= turns;
  end -= turns;
  if (end <= size) return {{begin, end - begin}};
  return {{begin, size - begin}, {0, end - size}};
}

std::vector<int> axes_of(const Window& window) {
  std::vector<int> axes;
  for (const WindowDim& d : window.dims) add_axes(axes, window.layout->dims[static_cast<std::size_t>(d.dim)]);
  sort_axes(axes);
  return axes;
}

WindowFigures figures_of(const Window& window) {
  WindowFigures figures;
  std::vector<int> axes = axes_of(window);
  for (const WindowDim& d : window.dims) add_axes(axes, d.splits);
  sort_axes(axes);
  const Shape worst = placements::worst_local_shape(*window.layout, window.shape);
  std::int64_t others = 1;
  for (int d = 0; d < window.shape.ndim(); ++d)
    if (std::none_of(window.dims.begin(), window.dims.end(), [d](const WindowDim& w) { return w.dim == d; })) others *= worst[d];
  const Shape start = Shape::filled(window.layout->mesh_ndim(), 0);
  each_coordinate(window.layout->mesh_sizes, axes, start, [&](const Shape& c) {
    std::int64_t target = others, common = others;
    for (const WindowDim& d : window.dims) {
      const std::vector<Run> have = held(window, d.dim, c), want = wanted(window, d, c);
      target *= length_of(want);
      common *= shared_size(have, want);
      if (have.size() > 1) figures.needed = true;
    }
    figures.target = std::max(figures.target, target);
    figures.received.max = std::max(figures.received.max, target - common);
    figures.received.total += target - common;
  });
  figures.needed = (figures.needed && figures.target > 0) || figures.received.total > 0;
  return figures;
}

std::int64_t nanoseconds_of(const WindowFigures& figures, std::int64_t element_bytes) {
  const Topology& t = reference_topology();
  const auto rounded = [](double x) { return static_cast<std::int64_t>(std::ceil(x)); };
  return rounded(t.launch_ns) + rounded(t.fallback.latency_ns) +
         rounded(static_cast<double>(figures.received.max * element_bytes) / t.fallback.bytes_per_ns) +
         rounded(static_cast<double>(figures.target * element_bytes) / t.copy_bytes_per_ns);
}

std::vector<std::vector<Run>> wanted_runs(const Window& window, const Shape& coordinates) {
  std::vector<std::vector<Run>> runs;
  for (const WindowDim& d : window.dims) runs.push_back(wanted(window, d, coordinates));
  return runs;
}

Transfer lower(const Window& window, const Shape& coordinates) {
  const auto mine = wanted_runs(window, coordinates);
  const Shape local = placements::local_shape(*window.layout, window.shape, coordinates);
  Shape out = local;
  std::vector<std::vector<Overlap>> sends, receives;
  for (int d = 0; d < local.ndim(); ++d) {
    sends.push_back({{0, 0, local[d]}});
    receives.push_back({{0, 0, local[d]}});
  }
  for (std::size_t k = 0; k < window.dims.size(); ++k) out[window.dims[k].dim] = length_of(mine[k]);
  const Shape from_strides = contiguous_strides(local), to_strides = contiguous_strides(out);
  Transfer transfer;
  int peer = 0;
  each_coordinate(window.layout->mesh_sizes, axes_of(window), coordinates, [&](const Shape& c) {
    for (std::size_t k = 0; k < window.dims.size(); ++k) {
      const int d = window.dims[k].dim;
      sends[static_cast<std::size_t>(d)] = shared(held(window, d, coordinates), wanted(window, window.dims[k], c));
      receives[static_cast<std::size_t>(d)] = shared(held(window, d, c), mine[k]);
    }
    Piece box;
    box.peer = peer++;
    if (local.numel() > 0) emit(sends, from_strides, true, box, transfer.sends);
    if (out.numel() > 0) emit(receives, to_strides, false, box, transfer.receives);
  });
  return transfer;
}

}  // namespace dtensor::redistribute
