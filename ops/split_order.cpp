// SPDX-License-Identifier: Apache-2.0
#include "ops/split_order.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "base/hash.h"
#include "dtensor/ops/cast.h"
#include "dtensor/ops/views.h"
#include "local/cpu/order_keys.h"
#include "local/kernels/embedding.h"
#include "local/kernels/sorting.h"
#include "mesh/mesh_data.h"
#include "ops/permute_parts.h"
#include "ops/reduction_rules.h"
#include "redistribute/plan/figures.h"
#include "tensor/impl.h"
#include "tensor/move_ops.h"
#include "tensor/plan.h"
#include "tensor/state.h"

namespace dtensor {
namespace {

using local::cpu::Placed;
using placements::Layout;
using placements::LayoutRef;
using redistribute::PreparedMove;
using tensor::Spec;
using tensor::SpecRef;
using Integers = std::vector<std::int64_t>;

constexpr Placed kEnd{std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max()};

// ---- exchange_runs: part r of two tensors of one dim goes in runs to all parts; attribute 0: lengths, row r those of part r
LayoutRef parts_layout(const Layout& like, std::span<const int> axes, Integers sizes) {
  Layout layout{.mesh_sizes = like.mesh_sizes, .dims = {{}}, .partial = std::vector<std::optional<ReduceOp>>(like.mesh_sizes.size())};
  if (sizes.empty())
    for (const int a : axes) layout.dims[0].push_back({{a}, 1, {}});
  else layout.dims[0].push_back({{axes.begin(), axes.end()}, 1, std::move(sizes)});
  return placements::intern(std::move(layout));
}
struct Runs {
  std::span<const std::int64_t> lengths;
  std::size_t parts;
  std::int64_t from(std::size_t r, std::size_t q) const { return lengths[r * parts + q]; }
  Integers received() const {
    Integers sizes(parts);
    for (std::size_t r = 0; r < parts; ++r)
      for (std::size_t q = 0; q < parts; ++q) sizes[q] += from(r, q);
    return sizes;
  }
};
redistribute::Transfer transfer_of(const Runs& runs, std::size_t self) {
  redistribute::Transfer t;
  std::int64_t sent = 0, received = 0;
  for (std::size_t p = 0; p < runs.parts; ++p) {
    if (const std::int64_t n = runs.from(self, p); n > 0) t.sends.push_back({static_cast<int>(p), sent, {n}, {1}}), sent += n;
    if (const std::int64_t n = runs.from(p, self); n > 0) t.receives.push_back({static_cast<int>(p), received, {n}, {1}}), received += n;
  }
  return t;
}
PreparedMove prepare(const Spec& from, const Spec& to, const std::vector<int>& axes, const Runs& runs) {
  const int self = ops::part_at(*from.layout, axes, from.coordinates);
  const std::int64_t bytes = info(from.dtype).bytes;
  PreparedMove m;
  m.move = {redistribute::MoveKind::permute, axes, from.layout, to.layout};
  m.move.launches = 1;
  m.dtype = from.dtype;
  m.coordinates = from.coordinates;
  m.in_shape = from.local_shape;
  m.out_shape = to.local_shape;
  m.in_strides = contiguous_strides(m.in_shape);
  m.out_strides = contiguous_strides(m.out_shape);
  m.group = mesh::ranks_along(from.mesh.data(), from.coordinates, axes);
  m.transfer = std::make_shared<const redistribute::Transfer>(transfer_of(runs, static_cast<std::size_t>(self)));
  m.bytes_received = redistribute::received_from_others(*m.transfer, self) * bytes;
  for (std::size_t q = 0; q < runs.parts; ++q) {
    std::int64_t received = 0;
    for (std::size_t r = 0; r < runs.parts; ++r)
      if (r != q) received += runs.from(r, q) * bytes;
    m.move.bytes_received_max = std::max(m.move.bytes_received_max, received);
    m.move.bytes_received_total += received;
  }
  m.fingerprint = base::mix(base::mix(from.mesh.data().hash, from.layout->hash), to.layout->hash);
  for (const std::int64_t n : runs.lengths) m.fingerprint = base::mix(m.fingerprint, static_cast<std::uint64_t>(n));
  m.detail = tensor::to_string(from) + " -> runs on other ranks";
  return m;
}
void plan_exchange(PlanBuilder& b) {
  const std::vector<int> axes = ops::part_axes(*b.inputs[0]->layout, 0);
  const Runs runs{b.attributes[0].as_list(), static_cast<std::size_t>(ops::part_count(*b.inputs[0]->layout, axes))};
  std::vector<SpecRef> results;
  std::vector<PreparedMove> moves;
  for (const SpecRef& from : b.inputs) {
    results.push_back(tensor::intern_spec(from->mesh, parts_layout(*from->layout, axes, runs.received()), from->shape, from->dtype, from->device));
    if (from->inside) moves.push_back(prepare(*from, *results.back(), axes, runs));
  }
  ops::move_together(b, results, std::move(moves));
}
constexpr OpDef kExchangeRuns{
    .name = "exchange_runs",
    .signature = "first, second, *, lengths: int[] -> first_runs, second_runs",
    .plan = plan_exchange,
};

// ---- numbers are compared on the host: of tensors of another device it has copies
Tensor on_host(const Tensor& t) { return t.to(Device::cpu()); }
// For kernels that are called here, not by the executor: behind the works that write it.
Tensor ready(const DTensor& t) {
  const Tensor local = t.local();
  local.wait();
  return local.contiguous();
}
Tensor tensor_of(const Integers& values, Device device) { return Tensor::of(values, {static_cast<std::int64_t>(values.size())}).to(device); }

// ---- ranks that hold parts
// Axes ascending; ranks along them are parts in row-major order.
struct Group {
  const Spec* spec;
  std::vector<int> axes;
  std::size_t parts = 1, self = 0;
  Group(const Spec& s, std::vector<int> along) : spec(&s), axes(std::move(along)) {
    parts = static_cast<std::size_t>(ops::part_count(*s.layout, axes));
    if (s.inside) self = static_cast<std::size_t>(ops::part_at(*s.layout, axes, s.coordinates));
  }
  DTensor part(const Integers& mine) const {
    const Shape shape{static_cast<std::int64_t>(mine.size() * parts)};
    const SpecRef split = tensor::intern_spec(spec->mesh, parts_layout(*spec->layout, axes, {}), shape, Dtype::i64, spec->device);
    return tensor::make_dtensor(split, tensor_of(mine, spec->device));
  }
  // What all parts say, one after the other; each says as much.
  Integers gathered(const Integers& mine) const {
    if (mine.empty()) return {};
    const Tensor all = on_host(tensor::redistribute_to(part(mine), placements::replicated(spec->layout->mesh_sizes, 1)).local());
    const auto v = all.values<const std::int64_t>();
    return {v.begin(), v.end()};
  }
};
bool in_memory(const DTensor& x) { return x.impl()->spec->device.kind != DeviceKind::meta; }
// A result on ranks outside the mesh, which hold nothing of it.
DTensor nothing(const SpecRef& spec) { return tensor::make_dtensor(spec, Tensor::empty(spec->local_shape, spec->dtype, spec->device)); }

// ---- sorting one line
constexpr std::int64_t kLeastSorted = 256;  // fewer elements are gathered as fast as their samples
struct Sorted {
  Tensor values, places;  // of this rank's part
  std::vector<Placed> elements;
  std::int64_t limit = 0;  // of all places
};
// Elements of `line` in the order `at`.
Tensor taken(const Tensor& line, const Integers& at) {
  const Tensor result = Tensor::empty({line.numel()}, line.dtype(), line.device());
  local::kernels::take_rows({1, line.numel(), 1, tensor_of(at, line.device())}, line, result);
  return result;
}
// Places are counted from `begin`.
Sorted sorted_part(const Tensor& flat, std::int64_t begin, bool descending) {
  const Tensor indices = Tensor::empty({flat.numel()}, Dtype::i64, flat.device());
  Sorted s{Tensor::empty({flat.numel()}, flat.dtype(), flat.device()), {}, {}, 0};
  local::kernels::order_lines({.dim = 0, .first = 0, .count = flat.numel(), .descending = descending, .nan_first = false}, flat, s.values, indices);
  const Tensor known = on_host(indices);
  const auto* index = known.raw_as<const std::int64_t>();
  Integers places;
  for (const std::int64_t key : local::cpu::order_keys(on_host(s.values), descending)) {
    places.push_back(begin + *index++);
    s.elements.push_back({key, places.back()});
  }
  s.places = tensor_of(places, flat.device());
  return s;
}
// Where the elements of sorted runs of these lengths stand in one order of all; equal ones in the order of the runs.
Integers merged_order(const Integers& keys, const Integers& lengths) {
  Integers at(keys.size()), ends{0};
  std::iota(at.begin(), at.end(), std::int64_t{0});
  for (const std::int64_t n : lengths) ends.push_back(ends.back() + n);
  const auto by_key = [&keys](std::int64_t a, std::int64_t b) { return keys[static_cast<std::size_t>(a)] < keys[static_cast<std::size_t>(b)]; };
  const auto run = [&](std::size_t r) { return at.begin() + ends[std::min(r, ends.size() - 1)]; };
  for (std::size_t step = 1; step + 1 < ends.size(); step *= 2)
    for (std::size_t r = 0; r + step + 1 < ends.size(); r += 2 * step) std::inplace_merge(run(r), run(r + step), run(r + 2 * step), by_key);
  return at;
}
// Where part q of the sorted line begins, for q > 0: samples at equal distances stand for what lies between them.
std::vector<Placed> splitters_of(const Group& group, const std::vector<Placed>& mine, const Integers& sizes, const Integers& targets) {
  const std::int64_t largest = *std::max_element(sizes.begin(), sizes.end());
  const auto count = static_cast<std::int64_t>(std::clamp(std::sqrt(static_cast<double>(largest)), 1.0, 1024.0));
  Integers said;
  for (std::int64_t j = 0; j < count; ++j) {
    const auto n = static_cast<std::int64_t>(mine.size());
    const Placed p = n == 0 ? Placed{0, -1} : mine[static_cast<std::size_t>(j * n / count)];
    said.push_back(p.key);
    said.push_back(p.place);
  }
  const Integers all = group.gathered(said);
  std::vector<std::pair<Placed, std::int64_t>> samples;  // with the size of their part
  for (std::size_t i = 0; i + 1 < all.size(); i += 2)
    if (all[i + 1] >= 0) samples.push_back({{all[i], all[i + 1]}, sizes[i / 2 / static_cast<std::size_t>(count)]});
  std::sort(samples.begin(), samples.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Placed> splitters;
  std::int64_t wanted = 0, before = 0;
  std::size_t at = 0;
  for (std::size_t q = 1; q < group.parts; ++q) {
    wanted += targets[q - 1] * count;
    for (; at < samples.size() && before < wanted; ++at) before += samples[at].second;
    splitters.push_back(at < samples.size() ? samples[at].first : kEnd);
  }
  return splitters;
}
// Row r: how many elements of part r lie before the first splitter, between two, behind the last.
Integers lengths_of(const Group& group, const std::vector<Placed>& mine, const Integers& sizes, const Integers& targets) {
  Integers said;
  auto from = mine.begin();
  for (const Placed& s : splitters_of(group, mine, sizes, targets)) {
    const auto to = std::lower_bound(from, mine.end(), s);
    said.push_back(to - from);
    from = to;
  }
  said.push_back(mine.end() - from);
  Integers all = group.gathered(said);
  for (std::size_t r = 0; r < group.parts; ++r) {
    const auto row = all.begin() + static_cast<std::ptrdiff_t>(r * group.parts), end = row + static_cast<std::ptrdiff_t>(group.parts);
    // A communicator that only counts gives numbers of another rank.
    if (std::accumulate(row, end, std::int64_t{0}) == sizes[r]) continue;
    std::fill(row, end, 0);
    row[static_cast<std::ptrdiff_t>(r)] = sizes[r];
  }
  return all;
}
Shape line_of(const Shape& shape) { return {shape.numel()}; }
// Ceil chunks over the axes in ascending order, which is how results lie.
LayoutRef plain_layout(const Spec& spec) { return parts_layout(*spec.layout, ops::part_axes(*spec.layout, 0), {}); }

std::pair<DTensor, DTensor> merged(const Group& group, const Sorted& part, const SpecRef& parts, const Integers& lengths, const SpecRef& plain,
                                   bool descending) {
  // Places take half the bytes where they fit.
  const bool fits = part.limit <= std::numeric_limits<std::int32_t>::max();
  const Dtype short_place = fits ? Dtype::i32 : Dtype::i64;
  const SpecRef places = tensor::intern_spec(parts->mesh, parts->layout, parts->shape, short_place, parts->device);
  const std::array<DTensor, 2> runs{tensor::make_dtensor(parts, part.values), tensor::make_dtensor(places, part.places.to(short_place))};
  const std::array<Input, 2> inputs{runs[0], runs[1]};
  const std::array<Attribute, 1> attributes{std::span<const std::int64_t>(lengths)};
  const Results mine = call_all(kExchangeRuns, inputs, attributes);
  const Tensor values = ready(mine[0]);
  Integers received;
  for (std::size_t r = 0; r < group.parts; ++r) received.push_back(lengths[r * group.parts + group.self]);
  const Integers order = merged_order(local::cpu::order_keys(on_host(values), descending), received);
  const std::vector<DTensor> uneven{tensor::make_dtensor(mine[0].impl()->spec, taken(values, order)),
                                    tensor::make_dtensor(mine[1].impl()->spec, taken(ready(mine[1]), order))};
  const std::vector<Placements> even(2, plain->placements());
  const std::vector<DTensor> results = redistribute_all(uneven, even);
  return {results[0], to(results[1], Dtype::i64)};
}

// ---- one element by counting
// One line: what of this rank's elements may still be the wanted one, in no order, and how many lay before.
struct Window {
  std::vector<Placed> elements;
  std::int64_t dropped = 0;
  Placed found{0, -1};
  bool open = true;
};
constexpr int kMaxRounds = 80;  // each halves every window

std::int64_t before(const Window& w, const Placed& p) {
  return w.dropped + std::count_if(w.elements.begin(), w.elements.end(), [&p](const Placed& e) { return e < p; });
}
Placed middle(Window& w) {
  if (w.elements.empty()) return {0, -1};
  const auto at = w.elements.begin() + static_cast<std::ptrdiff_t>(w.elements.size() / 2);
  std::nth_element(w.elements.begin(), at, w.elements.end());
  return *at;
}
// `pivots` of all parts, and how many elements of part r lie before pivot p: counts[r * parts + p].
void narrow_window(Window& w, std::span<const Placed> pivots, std::span<const std::int64_t> counts, std::int64_t k) {
  const std::size_t parts = pivots.size();
  Placed above{std::numeric_limits<std::int64_t>::min(), -1}, below = kEnd;
  for (std::size_t p = 0; p < parts; ++p) {
    if (pivots[p].place < 0) continue;
    std::int64_t rank = 0;
    for (std::size_t r = 0; r < parts; ++r) rank += counts[r * parts + p];
    if (rank == k) w.found = pivots[p], w.open = false;
    else if (rank < k) above = std::max(above, pivots[p]);
    else below = std::min(below, pivots[p]);
  }
  std::erase_if(w.elements, [&](const Placed& e) {
    const bool too_low = !(above < e);
    w.dropped += too_low ? 1 : 0;
    return too_low || !(e < below);
  });
}
void count_round(const Group& group, std::vector<Window*>& open, std::int64_t k) {
  const std::size_t parts = group.parts, n = open.size();
  Integers said;
  for (Window* w : open) {
    const Placed p = middle(*w);
    said.push_back(p.key);
    said.push_back(p.place);
  }
  const Integers all = group.gathered(said);
  const auto pivot = [&](std::size_t part, std::size_t line) { return Placed{all[(part * n + line) * 2], all[(part * n + line) * 2 + 1]}; };
  Integers counted;
  for (std::size_t l = 0; l < n; ++l)
    for (std::size_t p = 0; p < parts; ++p) counted.push_back(pivot(p, l).place < 0 ? 0 : before(*open[l], pivot(p, l)));
  const Integers counts = group.gathered(counted);
  std::vector<Placed> pivots(parts);
  Integers of_line(parts * parts);
  for (std::size_t l = 0; l < n; ++l) {
    for (std::size_t p = 0; p < parts; ++p) pivots[p] = pivot(p, l);
    for (std::size_t r = 0; r < parts; ++r)
      std::copy_n(counts.begin() + static_cast<std::ptrdiff_t>((r * n + l) * parts), parts, of_line.begin() + static_cast<std::ptrdiff_t>(r * parts));
    narrow_window(*open[l], pivots, of_line, k);
  }
  std::erase_if(open, [](const Window* w) { return !w->open; });
}
// Lines with NaN are found at the first one.
void find_nan(const Group& group, std::vector<Window>& lines) {
  Integers said;
  for (const Window& w : lines) {
    std::int64_t first = kEnd.place;
    for (const Placed& e : w.elements)
      if (e.key == local::cpu::kNanKey) first = std::min(first, e.place);
    said.push_back(first);
  }
  const Integers all = group.gathered(said);
  for (std::size_t l = 0; l < lines.size(); ++l) {
    std::int64_t first = kEnd.place;
    for (std::size_t r = 0; r < group.parts; ++r) first = std::min(first, all[r * lines.size() + l]);
    if (first != kEnd.place) lines[l].found = {local::cpu::kNanKey, first}, lines[l].open = false;
  }
}
void find_in(const Group& group, std::vector<Window>& lines, std::int64_t k, bool nan_first) {
  if (nan_first) find_nan(group, lines);
  std::vector<Window*> open;
  for (Window& w : lines)
    if (w.open) open.push_back(&w);
  for (int round = 0; round < kMaxRounds && !open.empty(); ++round) count_round(group, open, k);
}
Integers sizes_of(const Group& group, const Spec& spec) {
  Integers sizes;
  for (std::size_t r = 0; r < group.parts; ++r)
    sizes.push_back(placements::local_size(*spec.layout, 0, spec.shape[0],
                                           ops::coordinates_of_part(*spec.layout, group.axes, static_cast<int>(r), spec.coordinates)));
  return sizes;
}
// Leaves the `first` first elements of all parts; `sizes` become those of the parts.
void cut_behind(const Group& group, Sorted& part, std::int64_t first, Integers& sizes) {
  std::vector<Window> line(1);
  line[0].elements = part.elements;
  find_in(group, line, first - 1, false);
  const auto end = std::upper_bound(part.elements.begin(), part.elements.end(), line[0].found);
  part.elements.erase(end, part.elements.end());
  const auto kept = static_cast<std::int64_t>(part.elements.size());
  part.values = part.values.narrow(0, 0, kept);
  part.places = part.places.narrow(0, 0, kept);
  const Integers all = group.gathered({kept});
  if (std::accumulate(all.begin(), all.end(), std::int64_t{0}) == first) {
    sizes = all;
    return;
  }
  // A communicator that only counts gives numbers of another rank.
  std::fill(sizes.begin(), sizes.end(), 0);
  sizes[group.self] = kept;
  sizes[(group.self + 1) % group.parts] += first - kept;
}
std::vector<int> all_part_axes(const Layout& layout) {
  std::vector<int> axes;
  for (int a = 0; a < layout.mesh_ndim(); ++a)
    if (layout.dim_of(a) >= 0) axes.push_back(a);
  return axes;
}

}  // namespace

namespace ops {

bool is_split_line(const DTensor& x, int dim) {
  const Spec& spec = *x.impl()->spec;
  if (!in_memory(x) || x.numel() < kLeastSorted || x.numel() != x.shape()[dim]) return false;
  for (int d = 0; d < x.ndim(); ++d)
    if (d != dim && !spec.layout->dims[static_cast<std::size_t>(d)].empty()) return false;
  return !spec.layout->dims[static_cast<std::size_t>(dim)].empty();
}

std::pair<DTensor, DTensor> sorted_split_line(const OpDef& op, const DTensor& x, bool descending, std::int64_t first) {
  const tensor::Inserted inserted(op.name);
  const DTensor flat = reshape(without_partial(x), line_of(x.shape()));
  const DTensor line = tensor::redistribute_to(flat, plain_layout(*flat.impl()->spec));
  const SpecRef all = line.impl()->spec, plain = tensor::intern_spec(all->mesh, all->layout, {first}, all->dtype, all->device);
  const Group group(*all, part_axes(*all->layout, 0));
  Shape shape = x.shape();
  for (std::int64_t& n : shape)
    if (n != 1) n = first;
  const auto shaped = [&](const DTensor& t) { return reshape(t, shape); };
  if (!all->inside)
    return {shaped(nothing(plain)), shaped(nothing(tensor::intern_spec(plain->mesh, plain->layout, plain->shape, Dtype::i64, plain->device)))};
  Sorted part = sorted_part(ready(line), tensor::place_of(*all).begin(0), descending);
  part.limit = all->shape[0];
  Integers sizes = sizes_of(group, *all);
  SpecRef parts = all;
  if (first < all->shape[0]) {
    cut_behind(group, part, first, sizes);
    parts = tensor::intern_spec(all->mesh, parts_layout(*all->layout, group.axes, sizes), {first}, all->dtype, all->device);
  }
  const auto [values, indices] = merged(group, part, parts, lengths_of(group, part.elements, sizes, sizes_of(group, *plain)), plain, descending);
  return {shaped(values), shaped(indices)};
}

DTensor without_split(const OpDef& op, const DTensor& x) {
  const tensor::Inserted inserted(op.name);
  return tensor::redistribute_to(x, placements::replicated(x.impl()->spec->layout->mesh_sizes, x.ndim()));
}

bool can_count(const DTensor& x, int dim) { return in_memory(x) && !x.impl()->spec->layout->dims[static_cast<std::size_t>(dim)].empty(); }

std::pair<DTensor, DTensor> counted_along(const OpDef& op, const DTensor& x, int dim, std::int64_t k, bool nan_first) {
  const tensor::Inserted inserted(op.name);
  const DTensor whole = without_partial(x);
  const Spec& spec = *whole.impl()->spec;
  const Group group(spec, part_axes(*spec.layout, dim));
  Layout kept = *spec.layout;
  kept.dims[static_cast<std::size_t>(dim)].clear();
  const LayoutRef layout = placements::intern(kept);
  Shape shape = spec.shape;
  shape[dim] = 1;
  const SpecRef of_values = tensor::intern_spec(spec.mesh, layout, shape, spec.dtype, spec.device);
  const SpecRef of_places = tensor::intern_spec(spec.mesh, layout, shape, Dtype::i64, spec.device);
  if (!spec.inside) return {nothing(of_values), nothing(of_places)};
  const Tensor local = on_host(whole.local()).contiguous();
  const Place place = tensor::place_of(spec);
  const Integers keys = local::cpu::order_keys(local, false);
  std::int64_t inner = 1;
  for (int d = dim + 1; d < local.ndim(); ++d) inner *= local.shape()[d];
  const Tensor values = Tensor::empty(of_values->local_shape, spec.dtype), places = Tensor::empty(of_places->local_shape, Dtype::i64);
  std::vector<Window> lines(static_cast<std::size_t>(values.numel()));
  const std::int64_t n = local.shape()[dim];
  for (std::size_t l = 0; l < lines.size(); ++l)
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t outer = static_cast<std::int64_t>(l) / inner, column = static_cast<std::int64_t>(l) % inner;
      lines[l].elements.push_back({keys[static_cast<std::size_t>((outer * n + i) * inner + column)], place.to_global(dim, i)});
    }
  find_in(group, lines, k, nan_first && info(spec.dtype).floating);
  for (std::size_t l = 0; l < lines.size(); ++l) {
    const Shape one = Shape::filled(0, 0);
    local::cpu::value_of_key(lines[l].found.key, values.as_strided(one, one, values.offset() + static_cast<std::int64_t>(l)));
    places.raw_as<std::int64_t>()[l] = lines[l].found.place;
  }
  return {tensor::make_dtensor(of_values, values.to(spec.device)), tensor::make_dtensor(of_places, places.to(spec.device))};
}

DTensor counted_median(const OpDef& op, const DTensor& x) {
  const tensor::Inserted inserted(op.name);
  const DTensor whole = without_partial(x);
  const Spec& spec = *whole.impl()->spec;
  const Group group(spec, all_part_axes(*spec.layout));
  const SpecRef result = tensor::intern_spec(spec.mesh, placements::replicated(spec.layout->mesh_sizes, 0), {}, spec.dtype, spec.device);
  if (!spec.inside) return nothing(result);
  const Tensor value = Tensor::empty({}, spec.dtype);
  std::vector<Window> line(1);
  const auto first = static_cast<std::int64_t>(group.self) * spec.shape.numel();  // places need be different, no more
  for (const std::int64_t key : local::cpu::order_keys(on_host(whole.local()), false))
    line[0].elements.push_back({key, first + static_cast<std::int64_t>(line[0].elements.size())});
  find_in(group, line, (spec.shape.numel() - 1) / 2, info(spec.dtype).floating);
  local::cpu::value_of_key(line[0].found.key, value);
  return tensor::make_dtensor(result, value.to(spec.device));
}

}  // namespace ops
}  // namespace dtensor
